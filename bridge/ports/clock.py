"""The only module that knows what time it is.

All times in the bridge are seconds of a monotonic clock.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """A source of the present moment; the virtual one is in ``bridge.testing``."""

    def now(self) -> float:
        """Return the present in monotonic seconds."""
        ...


def date_and_time() -> str:
    """Return the local date and time for file names: ``20260131-174502``."""
    return time.strftime("%Y%m%d-%H%M%S")


def unix_s() -> float:
    """Return the seconds since 1970, which other programs count too."""
    return time.time()


class MonotonicClock:
    """Real time."""

    def now(self) -> float:
        """Return the present in monotonic seconds."""
        return time.monotonic()
