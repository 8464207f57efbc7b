"""A file's bytes to its header and tracks, as much of them as is there."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from musebridge.errors import MidiFileError
from musebridge.smf.parse import parse_track
from musebridge.smf.repairs import Repairs
from musebridge.smf.track import Track

_HEADER_BYTES, _CHUNK_BYTES = 14, 8
_FARTHEST_HEADER = 1 << 16
"""How far into a file one looks for its header."""
_MOST_BYTES = 8 << 20
"""Forty times as much as the longest recital; what a hostile file of this size costs can be borne."""
MOST_TRACKS = 65534
"""A header cannot count more, with one that is added."""


@dataclass(frozen=True, slots=True)
class Smf:
    """A MIDI file, read.

    Attributes:
        kind: 0 for one track, 1 for several that sound together.
        division: the header's: ticks a beat, or frames a second and ticks a frame.
        tracks: in the file's order.
        aliens: other chunks as they are, each with how many tracks come before it.
        repairs: what was mended.
    """

    kind: int
    division: int
    tracks: tuple[Track, ...]
    aliens: tuple[tuple[int, bytes], ...]
    repairs: Repairs

    @property
    def end(self) -> int:
        """The tick at which the last track ends."""
        return max((track.end for track in self.tracks), default=0)


def load(data: bytes) -> Smf:
    """Read a MIDI file, also one in a RIFF container.

    Raises:
        MidiFileError: it is none, or does not say what its times mean. The message lacks the path.
    """
    repairs: Repairs = Repairs()
    if not data:
        raise MidiFileError("is empty (0 bytes); choose another file")
    begins_with = data[:4]
    data = _unwrapped(data, repairs)
    at = data.find(b"MThd", 0, _FARTHEST_HEADER + 4)
    if at < 0:
        raise MidiFileError(f"is not a MIDI file (it begins with {begins_with!r}); choose another file")
    if len(data) > _MOST_BYTES:
        raise MidiFileError(f"is {len(data) >> 20} MiB long; choose a file of at most {_MOST_BYTES >> 20} MiB")
    repairs["before"] += at
    data = data[at:]
    if len(data) < _HEADER_BYTES:
        raise MidiFileError(f"is cut off after {len(data)} bytes; export it again")
    length, kind, count, division = struct.unpack_from(">IHHH", data, 4)
    _check_division(division)
    fits = length == 6 or (
        6 < length <= len(data) - _CHUNK_BYTES and data[_HEADER_BYTES : _HEADER_BYTES + 4] != b"MTrk"
    )
    repairs["header"] += length != 6 or kind > 2
    repairs["type 2"] += kind == 2
    tracks, aliens = _Chunks(data, repairs).read(_CHUNK_BYTES + length if fits else _HEADER_BYTES)
    repairs["count"] += count != len(tracks) + repairs["tracks"]
    return Smf(0 if kind == 0 and len(tracks) < 2 else 1, division, tuple(tracks), tuple(aliens), +repairs)


def _unwrapped(data: bytes, repairs: Repairs) -> bytes:
    """Return the MIDI file within a RIFF container, or the bytes as they are."""
    if data[:4] != b"RIFF" or data[8:12] != b"RMID":
        return data
    repairs["wrapped"] += 1
    at = 12
    while at + _CHUNK_BYTES <= len(data):
        name, length = struct.unpack_from("<4sI", data, at)
        inner = data[at + _CHUNK_BYTES : at + _CHUNK_BYTES + length]
        if name == b"data" and inner[:4] == b"MThd":
            return inner
        at += _CHUNK_BYTES + length + length % 2
    return data[max(0, data.find(b"MThd")) :]


def _check_division(division: int) -> None:
    if division == 0:
        raise MidiFileError("counts time in 0 ticks per beat; export it with 1 or more ticks per beat")
    if division & 0x8000 and not division & 0xFF:
        raise MidiFileError("counts time in SMPTE frames of 0 ticks; export it with 1 or more ticks per frame")


class _Chunks:
    def __init__(self, data: bytes, repairs: Repairs) -> None:
        self._data, self._repairs = data, repairs
        self._spare = 4 * len(data)  # bytes that may be read twice, lest a hostile file take long
        self._tracks: list[Track] = []
        self._aliens: list[tuple[int, bytes]] = []

    def read(self, at: int) -> tuple[list[Track], list[tuple[int, bytes]]]:
        """Take every chunk from a place on."""
        alien_from = None
        while at < len(self._data):
            is_track = self._data[at : at + 4] == b"MTrk"
            if is_track and len(self._tracks) == MOST_TRACKS:
                self._repairs["tracks"] += self._data.count(b"MTrk", at)
                break
            if alien_from is not None and (is_track or not self._is_chunk(at)):
                self._aliens.append((len(self._tracks), self._data[alien_from:at]))
                alien_from = None
            if is_track:
                at = self._track(at)
            elif self._is_chunk(at):
                alien_from = at if alien_from is None else alien_from
                at += _CHUNK_BYTES + self._length(at)
            else:  # padding, or bytes of nothing
                following = self._next_track(at)
                self._repairs["behind"] += following - at
                at = following
        if alien_from is not None:
            self._aliens.append((len(self._tracks), self._data[alien_from:]))
        return self._tracks, self._aliens

    def _length(self, at: int) -> int:
        """Return the length that the chunk at a place claims; 0 where the file ends before."""
        return int.from_bytes(self._data[at + 4 : at + _CHUNK_BYTES], "big")

    def _is_chunk(self, at: int) -> bool:
        """Return whether a whole chunk of any kind lies at a place."""
        name = self._data[at : at + 4]
        is_name = len(name) == 4 and all(0x20 <= byte < 0x7F for byte in name)
        return is_name and at + _CHUNK_BYTES <= len(self._data) and self._end(at) <= len(self._data)

    def _end(self, at: int) -> int:
        return at + _CHUNK_BYTES + self._length(at)

    def _next_track(self, at: int) -> int:
        found = self._data.find(b"MTrk", at)
        return len(self._data) if found < 0 else found

    def _track(self, at: int) -> int:
        """Take the track at a place; return where to go on."""
        begin, end = at + _CHUNK_BYTES, self._end(at)
        is_right = end == len(self._data) or (end < len(self._data) and self._starts_chunk(end))
        limit = min(self._next_track(begin), end) if is_right else self._next_track(begin)
        track, taken, repairs = parse_track(self._data[begin:limit])
        if taken is None and is_right and limit < end <= begin + self._spare:  # a text that holds "MTrk"
            self._spare -= end - begin
            limit = end
            track, taken, repairs = parse_track(self._data[begin:limit])
        stop = limit if taken is None else begin + taken
        if taken is None and not repairs["cut"]:
            repairs["no end"] += 1
        # What lies behind a length that is right is no fault of the length.
        is_right = (
            limit == end if is_right else stop == end or (stop < end <= limit and not any(self._data[stop:limit]))
        )
        repairs["length"] += not is_right and not repairs["cut"]
        self._repairs["behind"] += limit - stop
        self._tracks.append(track)
        self._repairs += repairs
        return limit

    def _starts_chunk(self, at: int) -> bool:
        return self._data[at : at + 4] == b"MTrk" or self._is_chunk(at)
