"""One track of a MIDI file: its events as columns, and back to bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

TRACK_NAME, INSTRUMENT_NAME, PORT, END, TEMPO, SMPTE_OFFSET = 0x03, 0x04, 0x21, 0x2F, 0x51, 0x54
TIME_SIGNATURE, KEY_SIGNATURE = 0x58, 0x59
"""Kinds of meta events."""
SYSEX, ESCAPE, META = 0xF0, 0xF7, 0xFF
END_OF_TRACK = b"\xff\x2f\x00"
LONGEST_DELTA = 0x0FFFFFFF
_LONGEST_SYSEX = 1 << 16
"""Of one in packets, more is not looked at."""


@dataclass(frozen=True, slots=True)
class Others:
    """Meta events and SysEx of a track, as columns of length M.

    Attributes:
        data: the bytes that they lie in.
        place: (M,), how many channel messages come before each.
        ticks: (M,), when.
        kind: (M,), a meta event's kind, or SYSEX or ESCAPE plus 256.
        start, stop: (M,), where the contents of each lie in ``data``.
    """

    data: bytes
    place: Ints
    ticks: Ints
    kind: Ints
    start: Ints
    stop: Ints

    def metas(self, kind: int) -> Iterator[tuple[int, bytes]]:
        """Yield (tick, contents) of each meta event of one kind."""
        for i in np.flatnonzero(self.kind == kind).tolist():
            yield int(self.ticks[i]), self.data[self.start[i] : self.stop[i]]

    def sysex(self) -> Iterator[tuple[int, bytes]]:
        """Yield (tick, contents) of each SysEx without its 0xF0 and 0xF7, put together where it comes in packets."""
        whole, since = b"", 0
        for i in np.flatnonzero(self.kind >= 256).tolist():
            packet = self.data[self.start[i] : self.stop[i]]
            begins = self.kind[i] == SYSEX + 256
            whole, since = (packet, int(self.ticks[i])) if begins else (whole[:_LONGEST_SYSEX] + packet, since)
            if whole.endswith(b"\xf7"):
                yield since, whole[:-1]
                whole = b""

    def encoded(self, i: int) -> bytes:
        """Return one of them as a file has it: status, kind, length and contents."""
        kind, contents = int(self.kind[i]), self.data[self.start[i] : self.stop[i]]
        head = bytes([kind - 256]) if kind >= 256 else bytes([META, kind])
        return head + variable_length(len(contents)) + contents


@dataclass(frozen=True, slots=True)
class Track:
    """One track: its channel messages as columns of length N, and what else there is.

    Attributes:
        ticks: (N,), since the track's start.
        status, first, second: (N,), the bytes of each channel message; ``second`` is 0 where there is none.
        others: meta events and SysEx.
        end: the tick of its end.
        body: its events as bytes, with the end of the track; the file's own where each of them has a meaning.
    """

    ticks: Ints
    status: Ints
    first: Ints
    second: Ints
    others: Others
    end: int
    body: bytes

    def name(self) -> str:
        """Return what it is called, or nothing."""
        for kind in (TRACK_NAME, INSTRUMENT_NAME):
            for _, contents in self.others.metas(kind):
                if text := readable(contents):
                    return text
        return ""

    def port(self) -> int:
        """Return the number of the MIDI port that it plays on."""
        return next((contents[0] for _, contents in self.others.metas(PORT) if contents), 0)

    def messages(self) -> Iterator[tuple[int, bytes]]:
        """Yield (tick, bytes) of every event in its order, without the end of the track."""
        done = 0
        for i, (place, tick) in enumerate(zip(self.others.place.tolist(), self.others.ticks.tolist(), strict=True)):
            yield from self._channel_messages(done, place)
            yield tick, self.others.encoded(i)
            done = place
        yield from self._channel_messages(done, len(self.ticks))

    def _channel_messages(self, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
        columns = (self.ticks, self.status, self.first, self.second)
        for tick, status, first, second in zip(*(column[start:stop].tolist() for column in columns), strict=True):
            yield tick, bytes([status, first] if 0xC0 <= status < 0xE0 else [status, first, second])


def readable(contents: bytes) -> str:
    """Return a text of a file, in whatever encoding, as one line that can be printed."""
    try:
        text = contents.decode("utf-8")
    except UnicodeDecodeError:
        text = contents.decode("latin-1")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def variable_length(number: int) -> bytes:
    """Return a number as a file has it: seven bits a byte, the highest first."""
    out = [number & 0x7F]
    while number := number >> 7:
        out.append(number & 0x7F | 0x80)
    return bytes(reversed(out))


def encode(messages: Iterable[tuple[int, bytes]], end: int) -> bytes:
    """Return the body of a track of (tick, bytes), which ends at tick ``end`` or with its last event."""
    out, now = bytearray(), 0
    for tick, data in messages:
        out += _delta(max(0, tick - now)) + data
        now = max(now, tick)
    return bytes(out + _delta(max(0, end - now)) + END_OF_TRACK)


def _delta(ticks: int) -> bytes:
    """Return a delta time; one too long for the format goes by in empty texts."""
    fillers, rest = divmod(ticks, LONGEST_DELTA)
    return (variable_length(LONGEST_DELTA) + b"\xff\x01\x00") * fillers + variable_length(rest)
