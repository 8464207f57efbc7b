"""What comes back: a DAW that sends the answer to the bridge again must not be taken for a player.

An echo is not known by what it is: a player may strike what the model just
struck, and an arpeggiator repeats itself. It is known by its pattern. In a loop all
that leaves comes back, in its order and always after the same time; so notes of the
model that came back like this, one after the other, show that there is a loop, and
how long it takes. From then on what comes back after that time is left out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from musebridge.bridge.core.scheduler import Owner, Sent
from musebridge.events import Message, NoteOff, NoteOn

LOOP = (
    "your DAW sends the answer back; the bridge leaves it out, "
    "but better let the track that plays the answer send nothing to MuseBridge"
)
LONGEST_S = 8.0
"""A loop that takes longer is none that is found."""
_SPREAD_S = 0.025
"""Periods of sound systems make a loop now shorter, now longer by up to this."""
_FEWEST, _MORE_PER_S = 6, 600
"""Events that show a loop: so many where it takes exactly as long each time, more the less it does."""
_MOST_GUESSES = 64
_GONE = 8
"""So many notes in a row that did not come back: there is no loop any more."""

Kind = tuple[bool, int]
"""Whether a note begins, and its pitch."""


@dataclass(slots=True)
class _Departure:
    """An event of the model that left, and whether it came back."""

    at_s: float
    kind: Kind
    number: int
    is_back: bool = False


@dataclass(slots=True)
class _Loop:
    """A guess, until it is sure, that events come back after a time; ``next`` is the number of the one due."""

    least_s: float
    most_s: float
    next: int
    count: int = 1

    @property
    def is_sure(self) -> bool:
        return self.count >= _FEWEST + int((self.most_s - self.least_s) * _MORE_PER_S)

    def fits(self, took_s: float) -> bool:
        """Return whether a time is that of this loop, as far as it may be longer or shorter now and then."""
        return self.most_s - _SPREAD_S <= took_s <= self.least_s + _SPREAD_S

    def take(self, took_s: float, number: int) -> None:
        self.least_s, self.most_s = min(self.least_s, took_s), max(self.most_s, took_s)
        self.next, self.count = number + 1, self.count + 1


@dataclass(slots=True)
class EchoFilter:
    """Finds a loop from output to input, and leaves out what it brings.

    Appending and popping at the ends of a deque are atomic, so the sender may
    tell what it sent while the poller asks. Only notes of the model are taken down.

    Args:
        on_loop: called once with a sentence when a loop was found.
    """

    on_loop: Callable[[str], None] = lambda _: None
    _sent: deque[Sent] = field(default_factory=lambda: deque(maxlen=1024))
    _departures: deque[_Departure] = field(default_factory=deque)
    _count: int = 0
    _guesses: list[_Loop] = field(default_factory=list)
    _loop: _Loop | None = None
    _missed: int = 0
    _swallowed: set[tuple[int, int]] = field(default_factory=set)
    _is_told: bool = False

    def sent(self, sent: Sent) -> None:
        """Take down what left."""
        if sent.owner is not Owner.PLAYER:
            self._sent.append(sent)

    def is_echo(self, now_s: float, message: Message) -> bool:
        """Return whether a message that came is one of the model's that came back through a loop."""
        if not isinstance(message, NoteOn | NoteOff):
            return False
        self._catch_up(now_s)
        is_on, key = isinstance(message, NoteOn), (message.channel, message.pitch)
        kind = is_on, message.pitch
        if self._loop is None:
            self._guess(now_s, kind)
            return False
        departure = self._departure(now_s, kind, self._loop)
        is_echo = departure is not None and (is_on or key in self._swallowed)
        if departure is not None and is_echo:
            departure.is_back, self._missed = True, 0
            self._loop.take(now_s - departure.at_s, departure.number)
            (self._swallowed.add if is_on else self._swallowed.discard)(key)
        return is_echo

    def _catch_up(self, now_s: float) -> None:
        """Take over what the sender told, and forget what is too old to come back."""
        while self._sent:
            sent = self._sent.popleft()
            if isinstance(sent.event, NoteOn | NoteOff):
                kind = isinstance(sent.event, NoteOn), sent.event.pitch
                self._departures.append(_Departure(sent.actual_s, kind, self._count))
                self._count += 1
        patience_s = LONGEST_S if self._loop is None else self._loop.least_s + 2 * _SPREAD_S
        while self._departures and self._departures[0].at_s < now_s - patience_s:
            departure = self._departures.popleft()
            if self._loop and departure.kind[0] and not departure.is_back:
                self._missed += 1
        if self._missed >= _GONE:
            self._loop, self._missed = None, 0

    def _departure(self, now_s: float, kind: Kind, loop: _Loop) -> _Departure | None:
        """Return the event that comes back now, if it is one."""
        fitting = (d for d in self._departures if d.kind == kind and not d.is_back and loop.fits(now_s - d.at_s))
        return next(fitting, None)

    def _guess(self, now_s: float, kind: Kind) -> None:
        """Go on with each guess that this event bears out, give up those that it refutes, and guess anew."""
        self._guesses = [guess for guess in self._guesses if not self._is_overdue(now_s, guess)]
        is_borne_out = False
        for guess in self._guesses:
            departure = self._numbered(guess.next)
            if departure and departure.kind == kind and guess.fits(now_s - departure.at_s):
                guess.take(now_s - departure.at_s, departure.number)
                is_borne_out = True
        if not is_borne_out:
            self._guesses += [
                _Loop(now_s - d.at_s, now_s - d.at_s, d.number + 1) for d in self._departures if d.kind == kind
            ]
            self._guesses = self._guesses[-_MOST_GUESSES:]
        sure = [guess for guess in self._guesses if guess.is_sure]
        if sure:
            # Music that repeats itself fits several: in a loop the first that left is the first to come back.
            self._loop, self._guesses = max(sure, key=lambda guess: guess.least_s), []
            self._swallowed.clear()
            self._missed = 0
            for departure in self._departures:
                departure.is_back |= departure.number < self._loop.next
            if not self._is_told:
                self._is_told = True
                self.on_loop(LOOP)

    def _is_overdue(self, now_s: float, guess: _Loop) -> bool:
        """Whether an event should have come back, and did not: in a loop all do."""
        departure = self._numbered(guess.next)
        return departure is not None and now_s - departure.at_s > guess.least_s + _SPREAD_S

    def _numbered(self, number: int) -> _Departure | None:
        index = number - self._departures[0].number if self._departures else -1
        return self._departures[index] if 0 <= index < len(self._departures) else None
