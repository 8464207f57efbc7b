"""Online augmentation: the same music in another key, at another tempo, with another touch; a passage that returns."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import log
from typing import NamedTuple

import numpy as np

from musebridge import vocab
from musebridge.errors import ConfigError
from musebridge.training.data.tokens import Tokens

_MARGIN = 1.15
"""A faster window has fewer tokens: shifts vanish between notes that fall together."""
_PASSAGE = 60, 500
"""Tokens of a passage that returns, at least and at most."""
_RING_STEPS = vocab.STEPS_PER_S // 2
"""For so long, at most, does a note sound on where the music was cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """How far a window may be moved; each move is drawn evenly from its range.

    Attributes:
        transpose: up to this many semitones up or down.
        stretch: up to this share slower or faster, 0.1 for ±10 %.
        velocity_shift: up to this many velocity bins louder or softer.
        repeat: the share of the windows in which a passage returns, as :func:`recur` makes it.
    """

    transpose: int = 0
    stretch: float = 0.0
    velocity_shift: int = 0
    repeat: float = 0.0

    def __post_init__(self) -> None:
        for name, most in {"transpose": 12, "stretch": 0.5, "velocity_shift": 8, "repeat": 1}.items():
            if not 0 <= getattr(self, name) <= most:
                raise ConfigError(f"{name} must be in 0..{most}, found {getattr(self, name)}")

    def needed(self, length: int) -> int:
        """Return how many tokens to give :meth:`apply` for ``length`` of them."""
        return round(length * _MARGIN) if self.stretch else length

    def apply(self, tokens: Tokens, length: int, rng: np.random.Generator) -> Tokens:
        """Return ``length`` tokens of the moved music.

        Args:
            tokens: at least ``needed(length)`` tokens, or as many as there are.
            length: how many to return.
            rng: source of randomness.
        """
        semitones = int(rng.integers(-self.transpose, self.transpose + 1))
        bins = int(rng.integers(-self.velocity_shift, self.velocity_shift + 1))
        factor = 1 + self.stretch * float(rng.uniform(-1, 1))
        moved = stretch(tokens, factor) if self.stretch else tokens
        if self.repeat and rng.random() < self.repeat:
            moved = recur(moved, length, rng)
        if len(moved) < length:  # mostly rests, or the end of the corpus
            moved = tokens
        return shift_velocity(transpose(moved[:length], semitones), bins)


def transpose(tokens: Tokens, semitones: int) -> Tokens:
    """Return tokens moved by ``semitones``, or by the most that keeps every pitch in 0..127."""
    is_pitch = tokens < vocab.TIME_SHIFT
    if not is_pitch.any():
        return tokens
    pitches = tokens[is_pitch] % vocab.N_PITCHES
    semitones = int(np.clip(semitones, -pitches.min(), vocab.N_PITCHES - 1 - pitches.max()))
    return np.where(is_pitch, tokens + semitones, tokens)


def shift_velocity(tokens: Tokens, bins: int) -> Tokens:
    """Return tokens with every velocity moved by ``bins``, within the softest and the loudest."""
    is_velocity = (tokens >= vocab.VELOCITY) & (tokens < vocab.BEGIN)
    return np.where(is_velocity, np.clip(tokens + bins, vocab.VELOCITY, vocab.BEGIN - 1), tokens)


def stretch(tokens: Tokens, factor: float) -> Tokens:
    """Return tokens with every moment multiplied by ``factor``; time after the last event is left out.

    Absolute steps are rounded, so the grid does not drift.
    """
    is_shift = (tokens >= vocab.TIME_SHIFT) & (tokens < vocab.VELOCITY)
    step = np.cumsum(np.where(is_shift, tokens - vocab.TIME_SHIFT + 1, 0))
    events, moved = tokens[~is_shift], np.rint(step[~is_shift] * factor).astype(np.int64)
    whole, rest = np.divmod(np.diff(moved, prepend=0), vocab.MAX_SHIFT_STEPS)
    place = np.cumsum(whole + (rest > 0) + 1) - 1
    out = np.full(place[-1] + 1 if len(place) else 0, vocab.TIME_SHIFT + vocab.MAX_SHIFT_STEPS - 1, np.int64)
    out[place] = events
    out[place[rest > 0] - 1] = vocab.TIME_SHIFT + rest[rest > 0] - 1
    return out


def recur(tokens: Tokens, length: int, rng: np.random.Generator) -> Tokens:
    """Return tokens in which a random passage returns later, as it was or up to seven semitones higher or lower.

    Half of the returns are transposed, half are up to two velocity bins louder or softer, half up to 5 % slower or
    faster.

    Args:
        tokens: music, perhaps of several pieces; the passage and its return are in the longest of them.
        length: of the window; the return is within so many tokens, and they stay as they are where that is too short.
        rng: source of randomness.
    """
    bounds = [0, *(np.flatnonzero(tokens == vocab.BEGIN) + 1).tolist(), len(tokens) + 1]
    spans = [(first, behind - 1) for first, behind in pairwise(bounds)]
    first, behind = max(spans, key=lambda span: min(span[1], length) - span[0])
    room = min(behind, length) - first
    shortest, longest = _PASSAGE
    if room < 2 * shortest:
        return tokens
    n = int(np.exp(rng.uniform(log(shortest), log(min(longest, room / 2)))))
    start = int(rng.integers(0, room - 2 * n + 1))
    at = int(rng.integers(start + n, room - n + 1))
    is_moved, is_louder, is_stretched = rng.random(3) < 0.5
    semitones = int(rng.integers(1, 8) * rng.choice([-1, 1])) if is_moved else 0
    bins = int(rng.integers(-2, 3)) if is_louder else 0
    factor = float(rng.uniform(0.95, 1.05)) if is_stretched else 1.0
    piece = repeat(tokens[first:behind], start, start + n, at, semitones=semitones, bins=bins, factor=factor)
    return np.concatenate([tokens[:first], piece, tokens[behind:]])


def repeat(
    tokens: Tokens, start: int, end: int, at: int, *, semitones: int = 0, bins: int = 0, factor: float = 1.0
) -> Tokens:
    """Return music in which the passage from ``start`` to ``end`` is heard once more at ``at``, before it goes on.

    What sounds where the music is cut sounds on for as long as it did, but for half a second at most, and a pitch
    that is struck again while it sounds is ended first. Time after the last event is left out.

    Args:
        tokens: of one piece, so no BEGIN is among them.
        start, end, at: indices of tokens, in this order; each stands for the beginning of its moment.
        semitones: how much higher the passage returns, or the most that keeps its pitches in 0..127.
        bins: how many velocity bins louder, within the softest and the loudest.
        factor: how much slower.
    """
    events = _events_of(tokens)
    start, end, at = (_moment(events, int((tokens[:i] < vocab.TIME_SHIFT).sum())) for i in (start, end, at))
    steps = [event.step for event in events] + [events[-1].step if events else 0]
    begin_step, end_step, now = steps[start], steps[end], steps[at]
    lasts = round((end_step - begin_step) * factor)
    passage = _notes_struck(events, start, end)
    pitches = [event.pitch for event in passage] or [0]
    semitones = int(np.clip(semitones, -min(pitches), vocab.N_PITCHES - 1 - max(pitches)))
    again = [
        event._replace(
            step=now + round((event.step - begin_step) * factor),
            pitch=event.pitch + semitones,
            note=event.note + len(tokens),
            bin=event.bin if event.bin < 0 else int(np.clip(event.bin + bins, 0, vocab.N_VELOCITY_BINS - 1)),
        )
        for event in passage
    ]
    later = {event.note for event in events[at:] if event.bin != _OFF}
    before = [event for event in events if event.note not in later]
    after = [event._replace(step=event.step + lasts) for event in events if event.note in later]
    merged = [*_cut(before, now), *_cut(again, now + lasts), *after] if again else events
    return _tokens_of(sorted(merged, key=lambda event: event.step))


_OFF, _UNKNOWN = -2, -1
"""In place of a velocity bin: the event ends its note; no VELOCITY has been yet."""


class _Event(NamedTuple):
    step: int
    pitch: int
    note: int
    """Equal in the events that begin and end a note; negative if it began before the window."""
    bin: int


def _events_of(tokens: Tokens) -> list[_Event]:
    """Return where each note of a piece begins and ends."""
    events: list[_Event] = []
    sounding: dict[int, int] = {}
    step, velocity = 0, _UNKNOWN
    for index, token in enumerate(tokens.tolist()):
        if token < vocab.NOTE_OFF:
            sounding[token] = index
            events.append(_Event(step, token, index, velocity))
        elif token < vocab.TIME_SHIFT:
            pitch = token - vocab.NOTE_OFF
            events.append(_Event(step, pitch, sounding.pop(pitch, -1 - pitch), _OFF))
        elif token < vocab.VELOCITY:
            step += token - vocab.TIME_SHIFT + 1
        else:
            velocity = token - vocab.VELOCITY
    return events


def _moment(events: list[_Event], index: int) -> int:
    """Return the first event of the moment of this one."""
    while 0 < index < len(events) and events[index - 1].step == events[index].step:
        index -= 1
    return index


def _notes_struck(events: list[_Event], start: int, end: int) -> list[_Event]:
    """Return the events, wherever they are, of the notes that begin in ``events[start:end]``."""
    struck = {event.note for event in events[start:end] if event.bin != _OFF}
    return [event for event in events if event.note in struck]


def _cut(events: list[_Event], step: int) -> list[_Event]:
    """Return events whose notes all end soon after ``step``."""
    last_step = step + _RING_STEPS
    ended = {event.note for event in events if event.bin == _OFF}
    endless = [event for event in events if event.note not in ended]
    return [event._replace(step=min(event.step, last_step)) for event in events] + [
        event._replace(step=last_step, bin=_OFF) for event in endless
    ]


def _tokens_of(events: list[_Event]) -> Tokens:
    """Return the tokens of events in order of time, each pitch ended before it is struck again."""
    tokens: list[int] = []
    sounding = {event.pitch: event.note for event in events if event.note < 0}
    now, velocity = 0, _UNKNOWN
    for step, pitch, note, bin_ in events:
        if bin_ == _OFF and sounding.get(pitch) != note:  # it was ended when its pitch was struck again
            continue
        tokens += vocab.shift_tokens(step - now)
        now = step
        if sounding.pop(pitch, None) is not None:
            tokens.append(vocab.NOTE_OFF + pitch)
        if bin_ == _OFF:
            continue
        if bin_ not in (_UNKNOWN, velocity):
            tokens.append(vocab.VELOCITY + bin_)
            velocity = bin_
        tokens.append(vocab.NOTE_ON + pitch)
        sounding[pitch] = note
    return np.array(tokens, np.int64)
