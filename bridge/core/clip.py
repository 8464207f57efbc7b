"""The answer as a clip: its notes in beats from a bar line, as a DAW keeps them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from musebridge.bridge.core.quantise import Lines
from musebridge.bridge.core.scheduler import Owner, Sent
from musebridge.events import NoteOff, NoteOn, Timed

_ROUNDING_S, _ROUNDING_BEATS = 0.0005, 1e-6
_SHORTEST_BEATS = 1 / 64


@dataclass(frozen=True, slots=True)
class Place:
    """Where an answer begins.

    Attributes:
        begin_s: when, in monotonic seconds.
        line_s: when the bar line is that it begins on, or the one before.
        bpm: of the beats that it keeps to; 0 if to none.
        bar_beats: quarter notes in a bar.
    """

    begin_s: float
    line_s: float
    bpm: float
    bar_beats: float


@dataclass(slots=True)
class _Sounded:
    """A note that was struck; ``end_s`` is None while it sounds."""

    strike: NoteOn
    begin_s: float
    end_s: float | None = None


@dataclass(frozen=True, slots=True)
class ClipNote:
    """A note of a clip; times are beats (quarter notes) from the clip's beginning."""

    pitch: int
    start: float
    length: float
    velocity: int


@dataclass(frozen=True, slots=True)
class Clip:
    """Notes in beats from a bar line, at a tempo; the length is whole bars."""

    notes: tuple[ClipNote, ...]
    length: float
    bpm: float
    bar_beats: float

    def quantised(self, lines: Lines | None) -> Clip:
        """Return the clip with its notes on lines, each as long as before, but no longer than to its own next one.

        Of two of one pitch that would fall on one line, the one that is further from it stays where it is.
        """
        if lines is None:
            return self
        moved: list[ClipNote] = []
        latest: dict[int, int] = {}  # by pitch, which of the notes it is
        for i, note in enumerate(self.notes):
            start, before = max(0.0, lines.moved(note.start)), latest.get(note.pitch)
            if before is not None and start <= moved[before].start + _ROUNDING_BEATS:
                if note.start > moved[before].start + _ROUNDING_BEATS:
                    start = note.start
                else:
                    moved[before] = self.notes[before]
            moved.append(replace(note, start=start))
            latest[note.pitch] = i
        return replace(self, notes=_apart(moved), length=_whole_bars(moved, self.bar_beats))

    def as_table(self) -> dict[str, Any]:
        """Return the clip as plain values, for a file."""
        return asdict(self)

    def timed(self) -> list[Timed]:
        """Return its events, with beats for times; at one moment notes end before others begin."""
        events = [Timed(note.start + note.length, NoteOff(pitch=note.pitch)) for note in self.notes]
        events += [Timed(note.start, NoteOn(pitch=note.pitch, velocity=note.velocity)) for note in self.notes]
        return sorted(events, key=lambda timed: (round(timed.time_s, 6), isinstance(timed.event, NoteOn)))


@dataclass(slots=True)
class Answered:
    """An answer as it sounded."""

    place: Place
    notes: list[_Sounded] = field(default_factory=list)

    @property
    def is_silent(self) -> bool:
        """Whether each of its notes has ended."""
        return all(note.end_s is not None for note in self.notes)

    def timed(self) -> list[Timed]:
        """Return its events in seconds from its first note on, in milliseconds; notes end before others begin."""
        first_s = min((note.begin_s for note in self.notes), default=0.0)
        events: list[Timed] = []
        for note in self.notes:
            strike, begin_s = note.strike, round(note.begin_s - first_s, 3)
            end_s = max(begin_s + 0.001, round((note.end_s or note.begin_s) - first_s, 3))
            events += [
                Timed(begin_s, strike),
                Timed(round(end_s, 3), NoteOff(pitch=strike.pitch, channel=strike.channel)),
            ]
        return sorted(events, key=lambda timed: (timed.time_s, isinstance(timed.event, NoteOn)))

    def clip(self, bpm: float = 0.0, bar_beats: float = 0.0) -> Clip:
        """Return the answer as a clip.

        An answer that kept to beats has them still, from its bar line on. Of another
        one, the first note is on the bar line, and its seconds are what they were.

        Args:
            bpm: of the set that it goes into; 0 takes the answer's own, or 120.
            bar_beats: of the set; 0 takes the answer's own.
        """
        place = self.place
        rate = place.bpm or bpm or 120.0
        zero_s = place.line_s if place.bpm else min((note.begin_s for note in self.notes), default=0.0)
        notes = [
            ClipNote(
                note.strike.pitch,
                max(0.0, (note.begin_s - zero_s) * rate / 60),
                max(_SHORTEST_BEATS, ((note.end_s or note.begin_s) - note.begin_s) * rate / 60),
                note.strike.velocity,
            )
            for note in self.notes
        ]
        bar_beats = bar_beats or place.bar_beats
        return Clip(_apart(notes), _whole_bars(notes, bar_beats), bpm or rate, bar_beats)


class AnswerRecorder:
    """Tells one answer's notes from another's, among all that is sent."""

    def __init__(self) -> None:
        self._answers: list[Answered] = []

    def begin(self, place: Place) -> None:
        """Take down that an answer begins; one that never sounded is forgotten."""
        self._answers = [answer for answer in self._answers if answer.notes]
        self._answers.append(Answered(place))

    def sent(self, sent: Sent) -> None:
        """Take down what left, in the order in which it did."""
        if sent.owner is not Owner.MODEL:
            return
        match sent.event:
            case NoteOn() as strike:
                begun = [a for a in self._answers if a.place.begin_s < sent.due_s + _ROUNDING_S]
                for answer in begun[-1:]:
                    answer.notes.append(_Sounded(strike, sent.due_s))
            case NoteOff(pitch=pitch, channel=channel):
                for note in (note for answer in self._answers for note in answer.notes):
                    if note.end_s is None and (note.strike.pitch, note.strike.channel) == (pitch, channel):
                        note.end_s = sent.due_s

    @property
    def is_silent(self) -> bool:
        """Whether nothing of any answer sounds."""
        return all(answer.is_silent for answer in self._answers)

    def take(self) -> list[Answered]:
        """Return the answers that sounded, oldest first, and forget them."""
        taken = [answer for answer in self._answers if answer.notes]
        self._answers = []
        return taken

    def take_older(self) -> list[Answered]:
        """Return the answers that have ended and that another one follows, and forget them."""
        older = [answer for answer in self._answers[:-1] if answer.notes and answer.is_silent]
        self._answers = [answer for answer in self._answers if answer not in older]
        return older


def _apart(notes: Iterable[ClipNote]) -> tuple[ClipNote, ...]:
    """Return notes in order, none of which lasts until its own pitch is struck again; of doubles the longest stays."""
    kept: list[ClipNote] = []
    next_start: dict[int, float] = {}
    for note in sorted(notes, key=lambda note: (note.start, note.length), reverse=True):
        until = next_start.get(note.pitch, math.inf)
        if until - note.start > _ROUNDING_BEATS:
            kept.append(replace(note, length=min(note.length, until - note.start)))
            next_start[note.pitch] = note.start
    return tuple(sorted(kept, key=lambda note: (note.start, note.pitch)))


def _whole_bars(notes: Iterable[ClipNote], bar_beats: float) -> float:
    end = max((note.start + note.length for note in notes), default=0.0)
    return max(1, math.ceil(end / bar_beats - _SHORTEST_BEATS)) * bar_beats
