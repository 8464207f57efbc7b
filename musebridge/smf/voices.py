"""Notes and pedals of several voices to one stream of events, as it sounds on one keyboard."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from musebridge.events import RESET_CONTROLLERS, SOSTENUTO, SUSTAIN, Control, Event, NoteOff, NoteOn, Timed
from musebridge.smf.columns import Columns
from musebridge.smf.notes import Notes
from musebridge.smf.timing import Floats, TempoMap
from musebridge.smf.track import Ints
from musebridge.vocab import STEPS_PER_S

MAX_DURATION_S = 24 * 3600.0
_MIN_LENGTH_S = 1e-4
"""A note of no ticks would otherwise be released before it is struck."""
_NEVER = 1 << 62

_Number = TypeVar("_Number", np.int64, np.float64)


@dataclass(frozen=True, slots=True)
class _Pedal:
    """The moves of one pedal of one voice: when it goes down, and up again, in ticks."""

    down: Ints
    up: Ints

    def moves(self) -> tuple[Ints, Ints]:
        """Return the ticks of all moves, and to which value each goes."""
        ticks = np.stack([self.down, self.up], axis=1).flatten()
        ticks = ticks[ticks < _NEVER]
        return ticks, np.tile([127, 0], len(self.down))[: len(ticks)]

    def before(self, ticks: Ints) -> tuple[Ints, Ints]:
        """Return for each tick when the pedal last went down before it, and up again; -1 where it never did."""
        i = np.searchsorted(self.down, ticks) - 1
        found = i >= 0
        down, up = np.append(self.down, -1), np.append(self.up, -1)
        return np.where(found, down[i], -1), np.where(found, up[i], -1)


def events(
    notes: Notes, messages: Columns, instrument: Ints, tempos: TempoMap, *, playing: Ints
) -> tuple[list[Timed], float]:
    """Return what sounds, and when its first note is struck, in seconds from the file's start.

    A voice is an instrument on a track, and has pedals of its own. One voice alone
    is given as it is played, keys and pedals. Of several voices, or where a key is
    struck while it is down, each note sounds until key and pedal of its voice let
    go of it, and a pitch that several hold until the last does.

    Args:
        notes: those that are to be read; at least one.
        messages: all of the file's.
        instrument: (tracks, 16), what each track's channel belongs to.
        tempos: of the file.
        playing: (V,), the voices (16 tracks + instrument) that have notes, also some that are not read.

    Returns:
        Events in seconds from the first note. Where times are equal, releases come
        before pedal moves and these before strikes.
    """
    voice = notes.track << 4 | instrument[notes.track, notes.channel]
    voices = np.unique(voice).tolist()
    pedals = _pedals(voices, messages, instrument, playing)
    on_s = tempos.seconds(notes.on)
    start_s = float(on_s.min())
    if (len(voices) == 1 or not pedals) and not _overlap(notes):
        off_s = np.maximum(tempos.seconds(notes.off), on_s + _MIN_LENGTH_S)
        return _as_played(notes, on_s - start_s, off_s - start_s, pedals.get(voices[0], {}), tempos, start_s), start_s
    end = _sounding_ends(notes, voice, pedals)
    end_s = np.maximum(tempos.seconds(end), on_s + _MIN_LENGTH_S)
    return _as_heard(notes, on_s - start_s, end_s - start_s), start_s


def _pedals(voices: list[int], messages: Columns, instrument: Ints, playing: Ints) -> dict[int, dict[int, _Pedal]]:
    """Return the pedals of the voices that use any.

    A track that has only pedals on a channel moves those of all who play there.
    """
    feet = messages.controls(SUSTAIN, SOSTENUTO, RESET_CONTROLLERS).in_time()
    whose = feet.track << 4 | instrument[feet.track, feet.channel]
    is_everyones = ~np.isin(whose, playing)
    own = {one: np.flatnonzero(whose == one) for one in np.unique(whose[~is_everyones]).tolist()}
    shared = {channel: np.flatnonzero(is_everyones & (whose & 15 == channel)) for channel in range(16)}
    pedals: dict[int, dict[int, _Pedal]] = {}
    for voice in voices:
        rows = np.union1d(own.get(voice, np.empty(0, np.int64)), shared[voice & 15]).astype(np.int64)
        pair = {pedal: _pedal(feet[rows], pedal) for pedal in (SUSTAIN, SOSTENUTO)} if len(rows) else {}
        if any(len(pedal.down) for pedal in pair.values()):
            pedals[voice] = pair
    return pedals


def _pedal(feet: Columns, pedal: int) -> _Pedal:
    rows = np.flatnonzero((feet.first == pedal) | (feet.first == RESET_CONTROLLERS))
    is_down = (feet.first[rows] == pedal) & (feet.second[rows] >= 64)
    changes = np.flatnonzero(np.diff(is_down, prepend=False))
    ticks = feet.ticks[rows][changes]
    down, up = ticks[::2], ticks[1::2]
    return _Pedal(down, np.append(up, _NEVER) if len(up) < len(down) else up)


def _overlap(notes: Notes) -> bool:
    """Return whether any pitch is struck while one of its keys is down."""
    order = np.lexsort((notes.on, notes.pitch))
    pitch, on = notes.pitch[order], notes.on[order]
    until = _latest_so_far(pitch, notes.off[order])
    return bool(np.any((pitch[1:] == pitch[:-1]) & (on[1:] < until[:-1])))


def _latest_so_far(pitch: Ints, end: npt.NDArray[_Number]) -> npt.NDArray[_Number]:
    """Return the latest of the ends up to each row, of notes that are sorted by pitch."""
    values, rank = np.unique(end, return_inverse=True)
    base = pitch * len(values)
    return values[np.maximum.accumulate(rank + base) - base]


def _sounding_ends(notes: Notes, voice: Ints, pedals: dict[int, dict[int, _Pedal]]) -> Ints:
    """Return the tick at which each note ends that its voice's pedals may hold."""
    end = notes.off.copy()
    for one, pair in pedals.items():
        rows = np.flatnonzero(voice == one)
        on, off = notes.on[rows], notes.off[rows]
        down, up = pair[SUSTAIN].before(off)
        held = np.where(up >= off, up, off)
        down, up = pair[SOSTENUTO].before(off)
        held = np.maximum(held, np.where((down > on) & (up >= off), up, off))
        end[rows] = held
    return np.where(end == _NEVER, max(int(notes.off.max()), int(end[end < _NEVER].max(initial=0))), end)


def _as_played(
    notes: Notes, on_s: Floats, off_s: Floats, pedals: dict[int, _Pedal], tempos: TempoMap, start_s: float
) -> list[Timed]:
    pedal_s, moves = [], []
    for number, pedal in pedals.items():
        ticks, values = pedal.moves()
        times_s = tempos.seconds(ticks) - start_s
        times_s = times_s[times_s <= MAX_DURATION_S]
        pedal_s.append(times_s)
        moves += [_move(number, value) for value in values[: len(times_s)].tolist()]
    strikes = map(_note_on, notes.pitch.tolist(), notes.velocity.tolist())
    return _merge(
        on_s, off_s, np.concatenate([np.empty(0), *pedal_s]), [*strikes, *map(_note_off, notes.pitch.tolist()), *moves]
    )


def _as_heard(notes: Notes, on_s: Floats, end_s: Floats) -> list[Timed]:
    order = np.lexsort((on_s, notes.pitch))
    pitch, velocity, on_s, end_s = notes.pitch[order], notes.velocity[order], on_s[order], end_s[order]
    until_s = _latest_so_far(pitch, end_s)
    same_pitch = np.append(False, pitch[1:] == pitch[:-1])
    goes_on = same_pitch & np.append(False, on_s[1:] < until_s[:-1])
    # Voices that strike a pitch within one step of the grid strike it once, as hard as the hardest.
    step = np.rint(on_s * STEPS_PER_S)
    is_unison = goes_on & np.append(False, step[1:] == step[:-1])
    begins = np.flatnonzero(~is_unison)
    loudest = np.maximum.reduceat(velocity, begins)
    as_in_file = np.argsort(order[begins])
    begins, loudest = begins[as_in_file], loudest[as_in_file]
    last = np.flatnonzero(np.append(~goes_on[1:], True))
    off_s = until_s[last]
    strikes = map(_note_on, pitch[begins].tolist(), loudest.tolist())
    return _merge(on_s[begins], off_s, np.empty(0), [*strikes, *map(_note_off, pitch[last].tolist())])


def _merge(on_s: Floats, off_s: Floats, pedal_s: Floats, what: Iterable[Event]) -> list[Timed]:
    """Return strikes, releases and pedal moves, listed in this order, as one stream."""
    listed = list(what)
    time_s = np.maximum(0.0, np.concatenate([on_s, off_s, pedal_s]))
    rank = np.repeat([2, 0, 1], [len(on_s), len(off_s), len(pedal_s)])
    order = np.lexsort((rank, time_s))
    return [Timed(at_s, listed[i]) for at_s, i in zip(time_s[order].tolist(), order.tolist(), strict=True)]


# Events never change, so the many equal ones of a file can be one object: reading takes half the time.
@cache
def _note_on(pitch: int, velocity: int) -> NoteOn:
    return NoteOn(pitch=pitch, velocity=velocity)


@cache
def _note_off(pitch: int) -> NoteOff:
    return NoteOff(pitch=pitch)


@cache
def _move(controller: int, value: int) -> Control:
    return Control(controller=controller, value=value)
