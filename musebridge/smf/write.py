"""Plain MIDI files of what was played."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import mido

from musebridge.errors import MidiFileError
from musebridge.events import Timed
from musebridge.wire import to_message

_TICKS_PER_BEAT, _TEMPO_US = 500, 500_000
"""One tick is one millisecond, so times on the 10 ms grid are written exactly."""
_TICKS_PER_MUSICAL_BEAT = 960
"""So many can be divided by all that divides a beat."""


def write(
    path: str | Path, tracks: Mapping[str, Iterable[Timed]], *, bpm: float | None = None, bar_beats: float = 4
) -> None:
    """Write named tracks of timed events as a type 1 file.

    Args:
        path: of the file.
        tracks, bpm, bar_beats: as for :func:`encoded`.

    Raises:
        MidiFileError: the file cannot be written.
    """
    save(path, encoded(tracks, bpm=bpm, bar_beats=bar_beats))


def encoded(tracks: Mapping[str, Iterable[Timed]], *, bpm: float | None = None, bar_beats: float = 4) -> bytes:
    """Return the bytes of a type 1 file with named tracks of timed events.

    Args:
        tracks: times are seconds from the start, or beats from a bar line where a tempo is given.
        bpm: quarter notes a minute.
        bar_beats: quarter notes in a bar, where a tempo is given.
    """
    per_beat, per_unit, begin = _TICKS_PER_BEAT, 1000, [mido.MetaMessage("set_tempo", tempo=_TEMPO_US)]
    if bpm is not None:
        per_beat = per_unit = _TICKS_PER_MUSICAL_BEAT
        metre = Fraction(bar_beats / 4).limit_denominator(16)
        count, unit = (metre.numerator * (4 // metre.denominator or 1), max(4, metre.denominator))
        begin = [
            mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(bpm)),
            mido.MetaMessage("time_signature", numerator=count, denominator=unit),
        ]
    file = mido.MidiFile(type=1, ticks_per_beat=per_beat, charset="utf-8")
    for name, events in tracks.items():
        track = mido.MidiTrack([mido.MetaMessage("track_name", name=name)])
        if not file.tracks:
            track += begin
        tick = 0
        for timed in events:
            due = max(tick, round(timed.time_s * per_unit))
            track.append(to_message(timed.event).copy(time=due - tick))
            tick = due
        file.tracks.append(track)
    buffer = BytesIO()
    file.save(file=buffer)
    return buffer.getvalue()


def save(path: str | Path, data: bytes) -> None:
    """Write the bytes of a MIDI file.

    Raises:
        MidiFileError: the file cannot be written.
    """
    try:
        Path(path).write_bytes(data)
    except OSError as error:
        raise MidiFileError(f"{path}: cannot be written: {error.strerror}; choose another place") from error
