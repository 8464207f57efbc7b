"""Independent tasks side by side, one for each core.

Small matrices gain little from several threads at once, and much less while
something else wants the machine: then the threads of each product wait for one
another. So each task keeps to one thread, and as many tasks run as there are cores.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits

Result = TypeVar("Result")


def parallel_map(tasks: Sequence[Callable[[], Result]], *, workers: int | None = None) -> list[Result]:
    """Return what each task returns, in order.

    Args:
        tasks: they must not use torch's global randomness.
        workers: how many run at once; default one a core.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        # OpenMP counts the threads of each thread that calls it, so each worker is limited as well.
        limited = partial(threadpool_limits, 1)
        with limited(), ThreadPoolExecutor(workers or os.cpu_count(), initializer=limited) as pool:
            return [done.result() for done in [pool.submit(task) for task in tasks]]
    finally:
        torch.set_num_threads(threads)
