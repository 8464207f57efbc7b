"""What is going to sound, and what sounds: the queue of the output and its note ledgers."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from musebridge.events import ALL_NOTES_OFF, ALL_SOUND_OFF, SOSTENUTO, SUSTAIN, Control, Message, NoteOff, NoteOn

_ENDING = (ALL_NOTES_OFF, ALL_SOUND_OFF)
_SILENCING = (SOSTENUTO, SUSTAIN, ALL_NOTES_OFF, ALL_SOUND_OFF)


def silence(channels: Iterable[int]) -> list[Message]:
    """Return pedals up, All Notes Off, All Sound Off: what silences channels for certain."""
    return [Control(controller=number, value=0, channel=channel) for channel in channels for number in _SILENCING]


class Owner(Enum):
    """Whose an event on the output is."""

    MODEL = "model"
    TAKE = "take"
    """An answer that is played again."""
    PLAYER = "player"
    """Passed on from the input, or clock: not to be taken back."""


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A message and the moment it is due, in monotonic seconds."""

    due_s: float
    event: Message
    owner: Owner = Owner.MODEL


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that went out: when it was due and when it left."""

    due_s: float
    actual_s: float
    event: Message
    owner: Owner = Owner.MODEL


class Outbox(Protocol):
    """Where a session puts what is to sound; :class:`Scheduler` is one."""

    def push(self, scheduled: Scheduled) -> None:
        """Take one message."""
        ...

    def withdraw(self) -> int:
        """Drop what the model had that was not handed out; return how many."""
        ...

    def cancel(self, now_s: float) -> int:
        """Withdraw, and release what the model has sounding; return how many were dropped."""
        ...

    def release(self, scheduled: Scheduled) -> None:
        """Take a note-off of the model that nothing may withdraw."""
        ...

    def panic(self, now_s: float) -> None:
        """Silence every channel by every means MIDI has."""
        ...


class NoteLedger:
    """The notes that were started on an output and not yet ended."""

    def __init__(self) -> None:
        self._open: dict[tuple[int, int], None] = {}

    def __contains__(self, note: NoteOn | NoteOff) -> bool:
        return (note.channel, note.pitch) in self._open

    def note(self, event: Message) -> None:
        """Take down one event that is sent."""
        match event:
            case NoteOn(channel=channel, pitch=pitch):
                self._open[channel, pitch] = None
            case NoteOff(channel=channel, pitch=pitch):
                self._open.pop((channel, pitch), None)

    def pitches(self) -> list[int]:
        """Return the pitches that sound, oldest note first."""
        return [pitch for _, pitch in self._open]

    def releases(self) -> list[NoteOff]:
        """Return the note-offs that would silence what sounds, oldest note first."""
        return [NoteOff(pitch=pitch, channel=channel) for channel, pitch in self._open]


class Scheduler:
    """Messages in order of their due time, and ledgers of the notes handed out, one for each owner.

    A key that the player holds is the player's: model and takes neither strike nor
    end it, and a note of the model that the player strikes becomes the player's.

    Pure: it never waits and never sends. Whoever sends calls :meth:`pop_due`
    and sends what it returns, in that order.
    """

    def __init__(self) -> None:
        self._queue: list[tuple[float, int, Scheduled, bool]] = []
        self._count = 0
        self._ledgers = {owner: NoteLedger() for owner in Owner}
        self._channels = {0}
        self._pedals: set[int] = set()

    def push(self, scheduled: Scheduled) -> None:
        """Add one event; events due at the same time keep the order of pushing."""
        self._put(scheduled, is_release=False)

    def next_due(self) -> float | None:
        """Return when the next event is due, or None."""
        return self._queue[0][0] if self._queue else None

    def drop_overdue(self, before_s: float) -> None:
        """Leave out what the model or a take was to strike before a moment; the ends of notes stay."""
        self._queue = [
            item
            for item in self._queue
            if item[0] >= before_s or item[2].owner is Owner.PLAYER or not isinstance(item[2].event, NoteOn)
        ]
        heapq.heapify(self._queue)

    def pop_due(self, now_s: float) -> list[Scheduled]:
        """Take out every event due by ``now_s``, earliest first."""
        return list(self._popped(now_s))

    def withdraw(self, owner: Owner = Owner.MODEL) -> int:
        """Drop an owner's events that have not been handed out; return how many were pushed ones."""
        kept = [item for item in self._queue if item[2].owner is not owner or item[3]]
        dropped = len(self._queue) - len(kept)
        self._queue = kept
        heapq.heapify(self._queue)
        return dropped

    def cancel(self, now_s: float, owner: Owner = Owner.MODEL) -> int:
        """Withdraw what the owner was going to play, and release what it has sounding at ``now_s``.

        Returns:
            How many pushed events were dropped.
        """
        dropped = self.withdraw(owner)
        queued = {item[2].event for item in self._queue if item[2].owner is owner and item[3]}
        for event in self._ledgers[owner].releases():
            if event not in queued:
                self._put(Scheduled(now_s, event, owner), is_release=True)
        return dropped

    def release(self, scheduled: Scheduled) -> None:
        """Add a note-off of the model that :meth:`withdraw` keeps."""
        self._put(scheduled, is_release=True)

    def panic(self, now_s: float, channels: Iterable[int] = range(16)) -> None:
        """Drop the queue; release all that sounds, and silence the channels by every means."""
        self._queue.clear()
        for owner, ledger in self._ledgers.items():
            for event in ledger.releases():
                self._put(Scheduled(now_s, event, owner), is_release=True)
        self._pedals.clear()
        for message in silence(channels):
            self._put(Scheduled(now_s, message, Owner.PLAYER), is_release=True)

    def finish(self, now_s: float) -> list[Scheduled]:
        """Drop the queue; return what silences the channels that were used."""
        self.panic(now_s, sorted(self._channels))
        return self.pop_due(now_s)

    def _put(self, scheduled: Scheduled, *, is_release: bool) -> None:
        heapq.heappush(self._queue, (scheduled.due_s, self._count, scheduled, is_release))
        self._count += 1

    def _popped(self, now_s: float) -> Iterator[Scheduled]:
        while self._queue and self._queue[0][0] <= now_s:
            _, _, scheduled, is_release = heapq.heappop(self._queue)
            yield from self._admitted(scheduled, is_release=is_release)

    def _admitted(self, scheduled: Scheduled, *, is_release: bool) -> Iterator[Scheduled]:
        """Yield what is really to be sent for one event, and take it down."""
        event, mine = scheduled.event, self._ledgers[scheduled.owner]
        match event:
            case NoteOff() if event not in mine:
                return
            case NoteOn() if scheduled.owner is not Owner.PLAYER and event in self._ledgers[Owner.PLAYER]:
                return
            case NoteOn(pitch=pitch, channel=channel):
                self._channels.add(channel)
                for owner, ledger in self._ledgers.items():
                    if event in ledger:
                        release = NoteOff(pitch=pitch, channel=channel)
                        ledger.note(release)
                        yield Scheduled(scheduled.due_s, release, owner)
            case Control(controller=number, channel=channel) if number in _ENDING and not is_release:
                # It is for the player's notes, and would end those of the model as well.
                for release in mine.releases():
                    if release.channel == channel:
                        mine.note(release)
                        yield Scheduled(scheduled.due_s, release, scheduled.owner)
                return
            case Control(controller=number, value=value, channel=channel) if number == SUSTAIN and value > 0:
                self._channels.add(channel)
                self._pedals.add(channel)
            case Control(controller=number, channel=channel) if number == SUSTAIN and not is_release:
                if channel not in self._pedals:
                    return
                self._pedals.discard(channel)
        mine.note(event)
        yield scheduled
