"""MIDI files built from bytes, so that what is tested is the format and not a library."""

from __future__ import annotations

import struct

from musebridge.events import SUSTAIN


def variable_length(number: int) -> bytes:
    out = [number & 0x7F]
    while number := number >> 7:
        out.append(number & 0x7F | 0x80)
    return bytes(reversed(out))


def chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack(">I", len(body)) + body


def track(*messages: tuple[int, bytes]) -> bytes:
    """Return a track of (ticks since the last message, bytes)."""
    body = b"".join(variable_length(delta) + message for delta, message in messages)
    return chunk(b"MTrk", body + b"\x00\xff\x2f\x00")


def smf(*chunks: bytes, tracks: int | None = None, division: int = 480, kind: int = 1) -> bytes:
    count = len(chunks) if tracks is None else tracks
    return chunk(b"MThd", struct.pack(">HHH", kind, count, division)) + b"".join(chunks)


def on(pitch: int, velocity: int = 64, channel: int = 0) -> bytes:
    return bytes([0x90 | channel, pitch, velocity])


def off(pitch: int, channel: int = 0) -> bytes:
    return bytes([0x80 | channel, pitch, 0])


def control(controller: int, value: int, channel: int = 0) -> bytes:
    return bytes([0xB0 | channel, controller, value])


def pedal(value: int, controller: int = SUSTAIN, channel: int = 0) -> bytes:
    return control(controller, value, channel)


def program(number: int, channel: int = 0) -> bytes:
    return bytes([0xC0 | channel, number])


def bend(value: int, channel: int = 0) -> bytes:
    return bytes([0xE0 | channel, value & 0x7F, value >> 7])


def meta(kind: int, contents: bytes) -> bytes:
    return bytes([0xFF, kind]) + variable_length(len(contents)) + contents


def name(text: str) -> bytes:
    return meta(0x03, text.encode())


def tempo(us_per_beat: int) -> bytes:
    return meta(0x51, us_per_beat.to_bytes(3, "big"))


def metre(beats: int, power: int) -> bytes:
    return meta(0x58, bytes([beats, power, 24, 8]))


def sysex(contents: bytes) -> bytes:
    """Return a whole SysEx of the bytes between its 0xF0 and 0xF7."""
    return b"\xf0" + variable_length(len(contents) + 1) + contents + b"\xf7"


def chords(count: int = 16, channel: int = 0, gap: int = 240) -> list[tuple[int, bytes]]:
    """Return broken chords: ``count`` notes one after the other, each ``gap`` ticks long."""
    pitches = [(48, 55, 60, 64)[i % 4] + 5 * (i // 8 % 2) for i in range(count)]
    return [move for pitch in pitches for move in ((0, on(pitch, 80, channel)), (gap, off(pitch, channel)))]


ONE_NOTE = track((0, on(60)), (480, off(60)))
