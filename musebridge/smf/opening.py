"""The first seconds of a file, and the notes that sound when they are over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from musebridge.events import NoteOff, NoteOn, Timed
from musebridge.smf.append import Span, file_of
from musebridge.smf.columns import NOTE_OFF, NOTE_ON
from musebridge.smf.notes import Notes
from musebridge.smf.piece import Piece, parse_piece
from musebridge.smf.track import Ints, encode
from musebridge.vocab import Encoder

_SAME_S = 1e-6
"""Moments so close together are one, rounded otherwise."""


@dataclass(frozen=True, slots=True)
class Opening:
    """The first seconds of a piece, every note ended by then.

    Attributes:
        piece: those seconds.
        held: notes of the parts read that key or pedal let sound until then, the oldest first; they may go on.
        track: which was asked for.
    """

    piece: Piece
    held: Notes
    track: str | None

    def heard(self) -> list[Timed]:
        """Return the events of the piece without the ends of what is held."""
        pitches, cut_s = set(self.held.pitch.tolist()), self._cut_s() - _SAME_S
        return [
            timed
            for timed in self.piece.events
            if not (isinstance(timed.event, NoteOff) and timed.event.pitch in pitches and timed.time_s > cut_s)
        ]

    def strikes(self) -> list[Timed]:
        """Return the strikes of what is held, the oldest first, in seconds from the first note."""
        times_s = self.piece.tempos.seconds(self.held.on) - self.piece.start_s
        rows = zip(times_s.tolist(), self.held.pitch.tolist(), self.held.velocity.tolist(), strict=True)
        return [Timed(time_s, NoteOn(pitch=pitch, velocity=velocity)) for time_s, pitch, velocity in rows]

    def let_ring(self, events: Sequence[Timed], span: Span) -> tuple[Piece, list[Timed]]:
        """Let what is held sound until its continuation ends it, at the latest until that is over.

        Returns:
            The piece with those ends, and the events of the continuation without them.
        """
        if not len(self.held):
            return self.piece, [*events]
        pitches, struck = set(self.held.pitch.tolist()), set[tuple[int, int]]()
        ends, own = dict[int, int](), list[Timed]()
        for timed in events:
            match timed.event:
                case NoteOff(pitch=pitch, channel=channel) if (channel, pitch) not in struck and pitch in pitches:
                    ends[pitch] = min(self.piece.tempos.tick(self.piece.start_s + timed.time_s), span.end)
                    continue
                case NoteOn(pitch=pitch, channel=channel):
                    struck.add((channel, pitch))
            own.append(timed)
        off = np.array([ends.get(pitch, span.end) for pitch in self.held.pitch.tolist()], np.int64)
        return _ended(self.piece, self.held, np.maximum(off, self.held.off), self.track), own

    def _cut_s(self) -> float:
        return self.piece.tempos.second(int(self.held.off.max(initial=0))) - self.piece.start_s


def opening(piece: Piece, seconds: float | None, track: str | None) -> Opening:
    """Return the first seconds of a piece from its first note on; with None the piece as it is, with nothing held."""
    if seconds is None:
        return Opening(piece, piece.notes[np.empty(0, np.int64)], track)
    cut = piece.tempos.tick(piece.start_s + seconds)
    notes = piece.notes
    rings = _ringing(piece, cut)
    down = (notes.on < cut) & (notes.off >= cut)
    down[rings] = True
    held, cuts = notes[np.flatnonzero(down)], np.full(int(down.sum()), cut)
    rung = notes[rings]
    return Opening(_ended(piece, held, cuts, track, cut), replace(rung, off=np.full(len(rung), cut)), track)


def _ringing(piece: Piece, cut: int) -> Ints:
    """Return the rows of the notes read that sound beyond a tick, the oldest first: the last of each pitch."""
    encoder, notes = Encoder(), piece.notes
    cut_s = piece.tempos.second(cut) - piece.start_s
    for timed in piece.events:
        is_strike = isinstance(timed.event, NoteOn)
        if timed.time_s < (cut_s - _SAME_S if is_strike else cut_s + _SAME_S):
            encoder.feed(timed.time_s, timed.event)
    is_read = np.zeros(len(notes), bool)
    for part in piece.chosen:
        is_read |= (notes.track == part.track) & np.isin(notes.channel, part.channels)
    is_read &= (notes.on < cut) & np.isin(notes.pitch, [*encoder.state.sounding])
    rows = np.flatnonzero(is_read)
    rows = rows[np.argsort(notes.on[rows], kind="stable")]
    last = len(rows) - 1 - np.unique(notes.pitch[rows][::-1], return_index=True)[1]
    return rows[np.sort(last)]


def _ended(piece: Piece, notes: Notes, ends: Ints, track: str | None, cut: int | None = None) -> Piece:
    """Return a piece in which notes end at other ticks, and nothing else comes from tick ``cut`` on."""
    bodies = []
    for i, own in enumerate(piece.smf.tracks):
        rows = np.flatnonzero(notes.track == i)
        keys = [*zip(notes.channel[rows].tolist(), notes.pitch[rows].tolist(), strict=True)]
        gone = Counter[tuple[int, tuple[int, int] | None]](zip(notes.off[rows].tolist(), keys, strict=True))
        kept = []
        for tick, data in own.messages():
            if cut is not None and tick >= cut:
                continue
            if gone[end := (tick, _released(data))] > 0:
                gone[end] -= 1
            else:
                kept.append((tick, data))
        for end, (channel, pitch) in zip(ends[rows].tolist(), keys, strict=True):
            kept.append((end, bytes([NOTE_OFF | channel, pitch, 64])))
        last = own.end if cut is None else min(own.end, cut)
        bodies.append(encode(sorted(kept, key=lambda message: message[0]), last))
    return replace(parse_piece(file_of(piece.smf, bodies), track), repairs=piece.repairs)


def _released(data: bytes) -> tuple[int, int] | None:
    """Return the channel and pitch of the key that a message lets go of, if any."""
    kind = data[0] & 0xF0
    is_release = kind == NOTE_OFF or (kind == NOTE_ON and data[2] == 0)
    return (data[0] & 15, data[1]) if is_release else None
