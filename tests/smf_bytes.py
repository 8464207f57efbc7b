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


def smf(*chunks: bytes, tracks: int | None = None, division: int = 480) -> bytes:
    count = len(chunks) if tracks is None else tracks
    return chunk(b"MThd", struct.pack(">HHH", 1, count, division)) + b"".join(chunks)


def on(pitch: int, velocity: int = 64, channel: int = 0) -> bytes:
    return bytes([0x90 | channel, pitch, velocity])


def off(pitch: int, channel: int = 0) -> bytes:
    return bytes([0x80 | channel, pitch, 0])


def pedal(value: int, controller: int = SUSTAIN) -> bytes:
    return bytes([0xB0, controller, value])


def tempo(us_per_beat: int) -> bytes:
    return b"\xff\x51\x03" + us_per_beat.to_bytes(3, "big")


ONE_NOTE = track((0, on(60)), (480, off(60)))
