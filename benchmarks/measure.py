"""Time several subjects in turns, and give the percentiles of each.

A busy moment of the machine falls on all subjects that are measured in turns,
so their ratios can be trusted where their times cannot.
"""

from __future__ import annotations

import json
import multiprocessing
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

_TURN = 10
_NARROWEST = 120
"""Columns of a table in a pipe, which has no width of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Percentiles of one measured thing."""

    name: str
    unit: str
    n: int
    p50: float
    p95: float
    p99: float
    max: float


Subjects = dict[str, Callable[[], object]]
Task = Callable[..., AbstractContextManager[Callable[[], object]]]
"""Prepares what is measured, and cleans up after it."""


def in_turns(subjects: Subjects, count: int, turn: int = _TURN) -> list[Row]:
    """Call every subject ``count`` times, ``turn`` times each turn, behind as many that do not count.

    Returns:
        Their times in milliseconds.
    """
    turn = min(turn, count)
    samples_s: dict[str, list[float]] = {name: [] for name in subjects}
    while len(next(iter(samples_s.values()))) < count:
        for name, call in subjects.items():
            for _ in range(turn):  # the caches that others emptied take some eight steps of the engine to fill again
                call()
            samples_s[name] += [seconds(call) for _ in range(turn)]
    return [row_of(name, "ms", np.array(times_s) * 1e3) for name, times_s in samples_s.items()]


@contextmanager
def elsewhere(task: Task, *args: object) -> Iterator[Callable[[], object]]:
    """Give what has a process of its own call what ``task(*args)`` gives, and waits for it.

    What subjects leave behind in a process they share, such as a heap in small pieces, slows all of them. The
    first call waits for the process to be ready as well.
    """
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    child = spawn.Process(target=_answer, args=(there, task, args), daemon=True)
    child.start()
    there.close()  # so that the end of the child is seen here

    def call() -> None:
        here.send(True)
        here.recv()

    try:
        yield call
    finally:
        here.close()
        child.join()


def _answer(asked: Connection, task: Task, args: tuple[object, ...]) -> None:
    """Call it each time that one asks, until nobody can ask any more."""
    with task(*args) as call, suppress(EOFError):
        while asked.recv():
            call()
            asked.send(True)


def seconds(call: Callable[[], object]) -> float:
    """Return how long a call takes."""
    start_s = time.perf_counter()
    call()
    return time.perf_counter() - start_s


def resident_mb(pid: int | str = "self") -> float:
    """Return how much memory a process has now; Linux only.

    What it shares is not counted: a JACK server locks 210 MB of its own in the memory of each client.
    """
    status = Path(f"/proc/{pid}/status").read_text("utf-8")
    return sum(int(kb) for kb in re.findall(r"Rss(?:Anon|File):\s+(\d+) kB", status)) / 1e3


def row_of(name: str, unit: str, samples: npt.NDArray[np.float64]) -> Row:
    """Return the row of a measured thing."""
    p50, p95, p99, most = (float(x) for x in np.percentile(samples, [50, 95, 99, 100]))
    return Row(name=name, unit=unit, n=len(samples), p50=p50, p95=p95, p99=p99, max=most)


def show(rows: list[Row], console: Console) -> None:
    """Print the rows as a table."""
    table = Table("", "unit", "n", "p50", "p95", "p99", "max")
    table.columns[0].no_wrap = True
    for row in rows:
        table.add_row(row.name, row.unit, str(row.n), *(f"{x:.3f}" for x in (row.p50, row.p95, row.p99, row.max)))
    if not console.is_terminal:
        console.width = max(console.width, _NARROWEST)
    console.print(table)


def write(rows: list[Row], path: Path) -> None:
    """Write the rows as JSON."""
    path.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
