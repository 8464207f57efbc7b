"""Plain MIDI files of what was played."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path

import mido

from musebridge.errors import MidiFileError
from musebridge.events import Timed
from musebridge.wire import to_message

_TICKS_PER_BEAT, _TEMPO_US = 500, 500_000
"""One tick is one millisecond, so times on the 10 ms grid are written exactly."""


def write(path: str | Path, tracks: Mapping[str, Iterable[Timed]]) -> None:
    """Write named tracks of timed events (seconds from the start) as a type 1 file.

    Raises:
        MidiFileError: the file cannot be written.
    """
    file = mido.MidiFile(type=1, ticks_per_beat=_TICKS_PER_BEAT, charset="utf-8")
    for name, events in tracks.items():
        track = mido.MidiTrack([mido.MetaMessage("track_name", name=name)])
        if not file.tracks:
            track.append(mido.MetaMessage("set_tempo", tempo=_TEMPO_US))
        tick = 0
        for timed in events:
            due = max(tick, round(timed.time_s * 1000))
            track.append(to_message(timed.event).copy(time=due - tick))
            tick = due
        file.tracks.append(track)
    buffer = BytesIO()
    file.save(file=buffer)
    save(path, buffer.getvalue())


def save(path: str | Path, data: bytes) -> None:
    """Write the bytes of a MIDI file.

    Raises:
        MidiFileError: the file cannot be written.
    """
    try:
        Path(path).write_bytes(data)
    except OSError as error:
        raise MidiFileError(f"{path}: cannot be written: {error.strerror}; choose another place") from error
