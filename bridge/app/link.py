"""Ableton Link: the tempo and the bars that programs on one network share.

Link says at any moment which beat it is, and how fast beats go. Where that
differs from what the session was told, it is told anew, as by any command: the
session stays pure, and a log of it can be replayed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from musebridge.bridge.app.threads import Inbox, Worker
from musebridge.bridge.core.commands import FollowSharedBeats
from musebridge.bridge.core.settings import Settings
from musebridge.bridge.ports.clock import Clock

_EVERY_S = 0.02
_SAME_S, _SAME_BPM = 0.0005, 0.01
"""Smaller differences are none; Link's clock and ours drift apart by some microseconds a second."""
_AT_ONCE_S = 0.0002
"""A reading that took longer was interrupted, and is of no certain moment."""


class LinkFollower(Worker):
    """Tells the session where the beats of Link are, as long as others are there to share them.

    Args:
        clock: the session's.
        inbox: of the session.
        settings: returns the session's: Link aligns bars of ``beats``, and begins at ``bpm`` if nobody has begun.
        on_failure: called if the thread cannot go on.

    Raises:
        ModuleNotFoundError: aalink is not installed, the extra ``link``.
    """

    def __init__(
        self,
        clock: Clock,
        inbox: Inbox,
        settings: Callable[[], Settings],
        on_failure: Callable[[str, Exception], None],
    ) -> None:
        super().__init__("link", on_failure)
        self._clock, self._inbox, self._settings = clock, inbox, settings
        self._quantum = settings().bar_beats
        self._link = asyncio.run(_join(settings().bpm, self._quantum))
        self._told = FollowSharedBeats()

    def turn(self) -> None:
        """Tell what has changed, then wait a moment."""
        if self._quantum != self._settings().bar_beats:
            self._quantum = self._link.quantum = self._settings().bar_beats
        share = self._read()
        if share is not None and _differ(share, self._told, self._clock.now()):
            self._told = share
            self._inbox.put((self._clock.now(), share))
        self._stopping.wait(_EVERY_S)

    def stop(self) -> None:
        """End the thread and leave the others."""
        super().stop()
        self._link.enabled = False

    def _read(self) -> FollowSharedBeats | None:
        if not self._link.num_peers:
            return FollowSharedBeats()
        before_s, beat, after_s = self._clock.now(), self._link.beat, self._clock.now()
        if after_s - before_s > _AT_ONCE_S:
            return None
        bpm = self._link.tempo
        return FollowSharedBeats(bpm, (before_s + after_s) / 2 - beat * 60 / bpm)


async def _join(bpm: float, quantum: float) -> Any:
    import aalink  # an extra: who does not ask for Link need not have it

    link = aalink.Link(bpm)  # it wants a running loop, but only for callbacks
    link.quantum = quantum
    link.enabled = True
    return link


def _differ(a: FollowSharedBeats, b: FollowSharedBeats, now_s: float) -> bool:
    if a.bpm is None or b.bpm is None:
        return a.bpm is not b.bpm
    apart_s = (now_s - a.beat_zero_s) - (now_s - b.beat_zero_s) * b.bpm / a.bpm
    return abs(apart_s) > _SAME_S or abs(a.bpm - b.bpm) > _SAME_BPM
