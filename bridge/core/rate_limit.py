"""How much one address may be sent: so much at once, and so much a second."""

from __future__ import annotations

from collections.abc import Hashable

_MOST = 256
"""Addresses that are remembered; a sender can claim any."""


class RateLimit:
    """A token bucket for each address.

    Args:
        burst: most at once.
        per_s: most in the long run.
    """

    def __init__(self, burst: float, per_s: float) -> None:
        self._burst, self._per_s = burst, per_s
        self._buckets: dict[Hashable, tuple[float, float]] = {}

    def allows(self, who: Hashable, now_s: float) -> bool:
        """Return whether one more may be sent to ``who``, and count it if so."""
        left = self._left(who, now_s)
        if left < 1:
            return False
        if who not in self._buckets and len(self._buckets) >= _MOST:
            self._buckets = {one: bucket for one, bucket in self._buckets.items() if not self._is_full(one, now_s)}
            if len(self._buckets) >= _MOST:
                return False
        self._buckets[who] = left - 1, now_s
        return True

    def _left(self, who: Hashable, now_s: float) -> float:
        left, at_s = self._buckets.get(who, (self._burst, now_s))
        return min(self._burst, left + (now_s - at_s) * self._per_s)

    def _is_full(self, who: Hashable, now_s: float) -> bool:
        return self._left(who, now_s) >= self._burst
