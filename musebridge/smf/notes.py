"""Strikes and releases to notes, also where releases are missing."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt

from musebridge.events import ALL_NOTES_OFF, ALL_SOUND_OFF
from musebridge.smf.columns import NOTE_OFF, NOTE_ON, Columns
from musebridge.smf.container import Smf
from musebridge.smf.repairs import Repairs
from musebridge.smf.track import Ints

Bools = npt.NDArray[np.bool_]
_ON, _OFF, _SILENCE = "on", "off", "silence"
_Move = tuple[int, str, int]
"""Tick, what happens to a key, and the row of a strike."""
_SILENCING = (ALL_SOUND_OFF, *range(ALL_NOTES_OFF, 128))


@dataclass(frozen=True, slots=True)
class Notes:
    """Notes, as columns of length N, by their strikes in each track's order.

    Attributes:
        track, channel, pitch, velocity: (N,).
        on, off: (N,), the ticks at which the key goes down and up.
    """

    track: Ints
    channel: Ints
    pitch: Ints
    velocity: Ints
    on: Ints
    off: Ints

    def __len__(self) -> int:
        return len(self.on)

    def __getitem__(self, rows: Ints) -> Notes:
        """Return some of the notes."""
        return Notes(*(getattr(self, name)[rows] for name in self.__slots__))


def pair(smf: Smf, messages: Columns, repairs: Repairs) -> Notes:
    """Return the notes of a file.

    A key is a pitch on one channel of one track. A note-off ends the key's oldest
    note. A strike whose note-off is missing lasts until the next strike of its
    key, or else to the end of its track.
    """
    moves = messages[np.flatnonzero((messages.kind == NOTE_ON) | (messages.kind == NOTE_OFF))]
    key = (moves.track << 4 | moves.channel) << 7 | moves.first
    order = np.argsort(key, kind="stable")
    key, is_on, ticks = key[order], moves.kind[order] == NOTE_ON, moves.ticks[order]
    off = np.full(len(key), -1, np.int64)
    if len(key):
        begin = np.concatenate([[0], np.flatnonzero(np.diff(key)) + 1])
        end = np.append(begin[1:], len(key))
        silences = _silences(messages, moves)
        is_regular = _by_turns(begin, end, is_on) & ~_is_silenced(key[begin], ticks[begin], ticks[end - 1], silences)
        ons = np.flatnonzero(np.repeat(is_regular, end - begin) & is_on)
        off[ons] = ticks[ons + 1]
        for k in np.flatnonzero(~is_regular).tolist():
            track, channel = int(key[begin[k]]) >> 11, int(key[begin[k]]) >> 7 & 15
            own = [(int(ticks[row]), _ON if is_on[row] else _OFF, row) for row in range(begin[k], end[k])]
            own += [(tick, _SILENCE, -1) for tick in silences.get((track, channel), ())]
            for row, tick in _pair_key(sorted(own, key=lambda move: move[0]), repairs).items():
                off[row] = _last_tick(smf, track, int(ticks[row])) if tick is None else tick
    off_in_order = np.empty_like(off)
    off_in_order[order] = off
    struck = np.flatnonzero(moves.kind == NOTE_ON)
    strikes = moves[struck]
    return Notes(strikes.track, strikes.channel, strikes.first, strikes.second, strikes.ticks, off_in_order[struck])


def _by_turns(begin: Ints, end: Ints, is_on: Bools) -> Bools:
    """Return which keys go down and up by turns, (K,)."""
    place = np.arange(len(is_on)) - np.repeat(begin, end - begin)
    is_wrong = is_on != (place % 2 == 0)
    return np.asarray(~np.logical_or.reduceat(is_wrong, begin) & ((end - begin) % 2 == 0))


def _silences(messages: Columns, moves: Columns) -> dict[tuple[int, int], list[int]]:
    """Return the ticks at which the keys of a track and channel are all lifted.

    A track that strikes no keys on a channel speaks for all that do.
    """
    own: dict[tuple[int, int], list[int]] = defaultdict(list)
    commands = messages.controls(*_SILENCING)
    if not len(commands.ticks):
        return own
    playing = set(zip(moves.track.tolist(), moves.channel.tolist(), strict=True))
    for track, channel, tick in zip(
        *(c.tolist() for c in (commands.track, commands.channel, commands.ticks)), strict=True
    ):
        meant = {(track, channel)} & playing or {pair for pair in playing if pair[1] == channel}
        for pair in meant:
            own[pair].append(tick)
    return {pair: sorted(ticks) for pair, ticks in own.items()}


def _is_silenced(key: Ints, first: Ints, last: Ints, silences: dict[tuple[int, int], list[int]]) -> Bools:
    """Return which keys are lifted by a command between their first and last move, (K,)."""
    found = np.zeros(len(key), bool)
    for (track, channel), ticks in silences.items():
        between = np.searchsorted(ticks, first, side="right") < np.searchsorted(ticks, last, side="left")
        found |= (key >> 7 == (track << 4 | channel)) & between
    return found


def _pair_key(moves: list[_Move], repairs: Repairs) -> dict[int, int | None]:
    """Return when the strikes of one key end, by their rows; None for those that go on to the end."""
    moves = list(_in_order(moves))
    stack: list[int] = []
    complete: set[int] = set()
    for _, what, row in moves:  # the youngest note first: what is left over then has no note-off
        if what == _ON:
            stack.append(row)
        elif what == _OFF and stack:
            complete.add(stack.pop())
        elif what == _SILENCE:
            stack.clear()
    ends: dict[int, int | None] = {}
    queue: deque[int] = deque()
    for tick, what, row in moves:
        if what == _ON and row in complete:
            queue.append(row)
        elif what == _OFF and queue:
            ends[queue.popleft()] = tick
    later: _Move | None = None  # the first move at a later tick
    now: _Move | None = None  # the first seen of this tick's
    for move in reversed(moves):
        if now is None or move[0] != now[0]:
            later = now
        now = move
        if move[1] == _ON and move[2] not in complete:
            ends[move[2]] = later[0] if later else None
            repairs["silenced" if later and later[1] == _SILENCE else "lost"] += 1
    return ends


def _in_order(moves: list[_Move]) -> Iterator[_Move]:
    """Yield moves so that, at one tick, notes end before others begin."""
    sounding = 0
    for _, group in groupby(moves, key=lambda move: move[0]):
        at_once = list(group)
        ons, offs, silences = ([move for move in at_once if move[1] == what] for what in (_ON, _OFF, _SILENCE))
        ending = min(sounding, len(offs))
        yield from [*offs[:ending], *silences, *ons, *offs[ending:]]
        sounding = max(0, (0 if silences else sounding - ending) + len(ons) - len(offs[ending:]))


def _last_tick(smf: Smf, track: int, struck: int) -> int:
    """Return when a note ends that nothing ends: with its track, or with the piece if the track ends at once."""
    end = smf.tracks[track].end
    return end if end > struck else max(smf.end, struck)
