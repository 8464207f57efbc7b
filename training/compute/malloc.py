"""Memory for training: freed blocks stay with the process."""

from __future__ import annotations

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of mallopt(3)
_NEVER = 2**31 - 1


def keep_freed() -> None:
    """Have the C library keep freed memory for the next step, until the process ends; glibc only.

    By itself it gives large blocks back to the kernel, which hands them out
    again page by page: some 130,000 page faults in a training step on a CPU.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_TRIM_THRESHOLD, _NEVER)
        libc.mallopt(_M_MMAP_MAX, 0)
