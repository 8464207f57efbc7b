"""A canvas to a MIDI file: a track for each voice."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from musebridge.band.canvas import Canvas, Header, Voice
from musebridge.smf.columns import NOTE_OFF, NOTE_ON, PROGRAM
from musebridge.smf.track import META, PORT, TEMPO, TIME_SIGNATURE, TRACK_NAME, encode, variable_length
from musebridge.smf.write import save
from musebridge.vocab import bin_velocity

_CLOCKS_PER_CLICK, _THIRTY_SECONDS_PER_BEAT = 24, 8

Message = tuple[int, bytes]
"""A tick, and the bytes of an event."""


def write(path: str | Path, canvas: Canvas) -> None:
    """Write a canvas as a type 1 file; reading it gives the same canvas.

    Raises:
        MidiFileError: the file cannot be written.
    """
    save(path, to_bytes(canvas))


def to_bytes(canvas: Canvas) -> bytes:
    """Return the MIDI file that :func:`write` writes."""
    header = canvas.header
    bodies = [encode(_conducting(header), 0), *(encode(messages, 0) for messages in tracks(canvas))]
    chunks = [b"MThd" + struct.pack(">IHHH", 6, 1, len(bodies), header.resolution)]
    return b"".join([*chunks, *(b"MTrk" + struct.pack(">I", len(body)) + body for body in bodies)])


def _conducting(header: Header) -> list[Message]:
    tempos = [(t.tick, _meta(TEMPO, t.us_per_beat.to_bytes(3, "big"))) for t in header.tempos]
    metres = [
        (
            metre.tick,
            _meta(
                TIME_SIGNATURE,
                bytes([metre.count, metre.unit.bit_length() - 1, _CLOCKS_PER_CLICK, _THIRTY_SECONDS_PER_BEAT]),
            ),
        )
        for metre in header.metres
    ]
    return sorted(tempos + metres, key=lambda message: message[0])


def tracks(canvas: Canvas) -> list[list[Message]]:
    """Return the events of each voice's track, in order of time.

    Voices that share a channel each choose its program again before a note of theirs.
    """
    header, notes = canvas.header, canvas.notes
    found = [_head(voice) for voice in header.voices]
    on, off = header.tick(notes.step), header.tick(notes.end)
    rows = np.lexsort((notes.voice, on))
    # Releases of a tick come before its strikes.
    events: list[list[tuple[int, int, bytes]]] = [[] for _ in header.voices]
    playing: dict[tuple[int, int], int] = {(v.port, v.channel): v.program for v in header.voices}
    for row in rows.tolist():
        voice = header.voices[notes.voice[row]]
        mine, line = events[notes.voice[row]], (voice.port, voice.channel)
        if playing[line] != voice.program:
            mine.append((int(on[row]), 1, _program(voice)))
            playing[line] = voice.program
        pitch = int(notes.pitch[row])
        velocity = bin_velocity(int(notes.velocity[row]))
        mine.append((int(on[row]), 2, bytes([NOTE_ON | voice.channel, pitch, velocity])))
        mine.append((int(off[row]), 0, bytes([NOTE_OFF | voice.channel, pitch, 64])))
    for head, own in zip(found, events, strict=True):
        head += [(tick, data) for tick, _, data in sorted(own, key=lambda event: event[:2])]
    return found


def _head(voice: Voice) -> list[Message]:
    head = [(0, _meta(TRACK_NAME, voice.name.encode()))] if voice.name else []
    head += [(0, _meta(PORT, bytes([voice.port])))] if voice.port else []
    return [*head, (0, _program(voice))]


def _program(voice: Voice) -> bytes:
    return bytes([PROGRAM | voice.channel, voice.program])


def _meta(kind: int, contents: bytes) -> bytes:
    return bytes([META, kind]) + variable_length(len(contents)) + contents
