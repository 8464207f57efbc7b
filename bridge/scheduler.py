"""What is going to sound, and what sounds: the model's queue and its note ledger."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

from musebridge.events import ALL_NOTES_OFF, ALL_SOUND_OFF, PEDAL_UP, Control, Event, NoteOff, NoteOn

SILENCE = (PEDAL_UP, *(Control(controller=number, value=0) for number in (ALL_NOTES_OFF, ALL_SOUND_OFF)))
"""Pedal up, All Notes Off, All Sound Off: what makes an output silent for certain."""


@dataclass(frozen=True, slots=True)
class Scheduled:
    """An event of the model and the moment it is due, in monotonic seconds."""

    due_s: float
    event: Event


@dataclass(frozen=True, slots=True)
class Sent:
    """An event that went out: when it was due and when it left."""

    due_s: float
    actual_s: float
    event: Event


class NoteLedger:
    """The notes that were started on an output and not yet ended."""

    def __init__(self) -> None:
        self._open: dict[tuple[int, int], None] = {}

    def note(self, event: Event) -> None:
        """Take down one event that is sent."""
        match event:
            case NoteOn(channel=channel, pitch=pitch):
                self._open[channel, pitch] = None
            case NoteOff(channel=channel, pitch=pitch):
                self._open.pop((channel, pitch), None)

    def pitches(self) -> list[int]:
        """Return the pitches that sound, oldest note first."""
        return [pitch for _, pitch in self._open]

    def releases(self) -> list[Event]:
        """Return the note-offs that would silence what sounds, oldest note first."""
        return [NoteOff(pitch=pitch, channel=channel) for channel, pitch in self._open]


class Scheduler:
    """The model's events in order of their due time, and a ledger of those handed out.

    Pure: it never waits and never sends. Whoever sends calls :meth:`pop_due`
    and sends what it returns, in that order.
    """

    def __init__(self) -> None:
        self._queue: list[tuple[float, int, Scheduled, bool]] = []
        self._count = 0
        self._ledger = NoteLedger()

    def push(self, scheduled: Scheduled) -> None:
        """Add one event; events due at the same time keep the order of pushing."""
        self._put(scheduled, is_release=False)

    def next_due(self) -> float | None:
        """Return when the next event is due, or None."""
        return self._queue[0][0] if self._queue else None

    def pop_due(self, now_s: float) -> list[Scheduled]:
        """Take out every event due by ``now_s``, earliest first."""
        return list(self._popped(now_s))

    def cancel(self, now_s: float) -> int:
        """Drop what has not been handed out, and release what sounds at ``now_s``.

        Returns:
            How many pushed events were dropped.
        """
        dropped = sum(not is_release for *_, is_release in self._queue)
        self._queue.clear()
        for event in self._ledger.releases():
            self._put(Scheduled(now_s, event), is_release=True)
        return dropped

    def finish(self, now_s: float) -> list[Scheduled]:
        """Drop the queue; return the releases of what sounds, then :data:`SILENCE`."""
        self.cancel(now_s)
        return self.pop_due(now_s) + [Scheduled(now_s, event) for event in SILENCE]

    def _put(self, scheduled: Scheduled, *, is_release: bool) -> None:
        heapq.heappush(self._queue, (scheduled.due_s, self._count, scheduled, is_release))
        self._count += 1

    def _popped(self, now_s: float) -> Iterator[Scheduled]:
        while self._queue and self._queue[0][0] <= now_s:
            scheduled = heapq.heappop(self._queue)[2]
            self._ledger.note(scheduled.event)
            yield scheduled
