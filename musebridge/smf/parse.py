"""The bytes of one track to its events, whatever is wrong with them.

The standard is RP-001, "Standard MIDI Files 1.0" (1988). Where a file departs
from it, what players do is done, and counted.
"""

from __future__ import annotations

from array import array

import numpy as np

from musebridge.smf.repairs import Repairs
from musebridge.smf.track import END, END_OF_TRACK, ESCAPE, LONGEST_DELTA, META, SYSEX, Others, Track, encode

_SYSTEM_DATA = {0xF1: 1, 0xF2: 2, 0xF3: 1}
"""How many data bytes system messages have on a wire; in a file they have no meaning."""
_LOOK_AHEAD = 4
_MAKERS = frozenset({0x40, 0x41, 0x42, 0x43, 0x44, 0x7E, 0x7F})
"""First bytes of the SysEx that files hold most."""
_STRANGE = ("cut", "delta", "clipped", "dropped", "running", "status", "bytes", "sysex")
"""Repairs after which a track's own bytes are not written again: a strict reader would stumble over them."""


def parse_track(data: bytes) -> tuple[Track, int | None, Repairs]:
    """Read a track's events from the first byte on.

    Returns:
        The track; how many bytes it took up to its end, None where it has no end; what was mended.
    """
    reader = _Reader(data)
    reader.run()
    return reader.track(), reader.at if reader.is_ended else None, reader.repairs


class _Reader:
    """Walks over a track's bytes; ``at`` is always behind the last event that was taken."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0
        self.is_ended = False
        self.repairs: Repairs = Repairs()
        self._tick = 0
        self._running = 0  # the status that the next message may leave out; 0 before the first
        self._is_behind_sysex = False
        self._is_open = False  # a SysEx whose last packet is still to come
        self._ticks, self._codes = array("q"), array("I")
        self._others = [array("q") for _ in range(5)]

    def run(self) -> None:
        """Take all events there are."""
        try:
            while not self.is_ended and self.at < len(self._data):
                self._take_channel_messages()
                if self.at < len(self._data):
                    self._take_other()
        except IndexError:  # the bytes end within an event
            self.repairs["cut"] += 1
            self._tick += self._delta_before_the_cut()

    def track(self) -> Track:
        """Return what was read."""
        codes = np.array(self._codes, np.int64)
        columns = (np.array(self._ticks, np.int64), codes >> 16, codes >> 8 & 0xFF, codes & 0xFF)
        place, ticks, kind, start, stop = (np.array(column, np.int64) for column in self._others)
        others = Others(self._data, place, ticks, kind, start, stop)
        if any(self.repairs[kind] for kind in _STRANGE):
            body = encode(Track(*columns, others, self._tick, b"").messages(), self._tick)
        else:
            body = self._data[: self.at] + (b"" if self.is_ended else b"\x00" + END_OF_TRACK)
        return Track(*columns, others, self._tick, body)

    def _take_channel_messages(self) -> None:
        """Take channel messages up to the next event that is none.

        Nearly all of a file is read by this loop, so it works on local names.
        """
        data, at, tick, running = self._data, self.at, self._tick, self._running
        is_plain = running > 0 and not self._is_behind_sysex
        add_tick, add_code = self._ticks.append, self._codes.append
        end = len(data)
        try:
            while at < end:
                delta, place = data[at], at + 1
                if delta > 127:
                    byte = data[place]
                    if byte < 128:
                        delta, place = (delta & 127) << 7 | byte, place + 1
                    else:
                        delta, place = self._delta(at)
                        self.repairs["delta"] += place - at > 4 and data[place] < 0xF0
                status = data[place]
                if status > 127:
                    if status >= 0xF0:
                        break
                    place += 1
                elif is_plain:
                    status = running
                else:
                    break
                first, second = data[place], 0
                if status < 0xC0 or status >= 0xE0:
                    place += 1
                    second = data[place]
                if first > 127 or second > 127:
                    first, second = self._clipped(status, first, second)
                at, tick, running, is_plain = place + 1, tick + delta, status, True
                if first >= 0:
                    add_tick(tick)
                    add_code(status << 16 | first << 8 | second)
        finally:
            self.at, self._tick, self._running = at, tick, running
            self._is_behind_sysex = not is_plain and running > 0

    def _delta(self, at: int) -> tuple[int, int]:
        """Return the number of variable length that begins at a place, and the place behind it."""
        number = 0
        for place in range(at, len(self._data)):
            byte = self._data[place]
            number = (number << 7 | byte & 127) & LONGEST_DELTA
            if byte < 128:
                return number, place + 1
        raise IndexError

    def _clipped(self, status: int, first: int, second: int) -> tuple[int, int]:
        """Return a message's data bytes within their range; -1 for a message that would become another there."""
        if first > 127 and not 0xD0 <= status < 0xF0:
            self.repairs["dropped"] += 1
            return -1, 0
        self.repairs["clipped"] += (first > 127) + (second > 127)
        return min(first, 127), min(second, 127)

    def _take_other(self) -> None:
        """Take one event that is no channel message, or make out how the next one is to be read."""
        data = self._data
        delta, place = self._delta(self.at)
        status = data[place]
        if status < 0x80:
            self._take_data_without_status(place)
            return
        self.repairs["delta"] += place - self.at > 4
        if status == META:
            self._take_meta(place, delta)
        elif status == SYSEX:
            self._take_sysex(place, delta)
        elif status == ESCAPE:
            self._take_escape(place, delta)
        else:
            self.repairs["status"] += 1
            most = place + 1 + _SYSTEM_DATA.get(status, 0)
            self._go(max((most, place + 1), key=self._events_that_follow), delta)

    def _take_data_without_status(self, place: int) -> None:
        if self._running:
            self.repairs["running"] += 1
            self._is_behind_sysex = False
            return
        status_at = next((i for i in range(place, len(self._data)) if self._data[i] > 127), len(self._data))
        self.repairs["bytes"] += status_at - 1 - self.at
        self.at = status_at - 1  # the last byte before a status is read as its time
        if status_at == len(self._data):
            self.at = status_at

    def _take_meta(self, place: int, delta: int) -> None:
        kind = self._data[place + 1]
        if kind == END and place + 2 == len(self._data):
            self.repairs["cut"] += 1
            self._end(place + 2, delta)
            return
        length, start = self._delta(place + 2)
        if kind == END:
            self._end(min(start + length, len(self._data)), delta)
            return
        self._check(start + length)
        self._add(kind, start, start + length, delta)

    def _end(self, at: int, delta: int) -> None:
        self._go(at, delta)
        self.is_ended = True

    def _take_sysex(self, place: int, delta: int) -> None:
        length, start = self._delta(place + 1)
        stop = start + length
        end = self._end_of_sysex(start)
        if end is not None and end != stop and (stop > len(self._data) or end < stop or end == stop + 1):
            # The length is wrong, or there is none and what follows the status is the maker's number.
            has_length = self._data[place + 1] not in _MAKERS or self._data[start] in _MAKERS
            start, stop = (start if has_length else place + 1), end
            self.repairs["sysex"] += 1
        self._check(stop)
        self._is_open = self._data[stop - 1] != ESCAPE
        self._add(SYSEX + 256, start, stop, delta)
        self._is_behind_sysex = True

    def _end_of_sysex(self, start: int) -> int | None:
        """Return the place behind the 0xF7 that ends the data bytes from a place on, None where another byte does."""
        for place in range(start, len(self._data)):
            if self._data[place] > 127:
                return place + 1 if self._data[place] == ESCAPE else None
        return None

    def _take_escape(self, place: int, delta: int) -> None:
        length, start = self._delta(place + 1)
        stop = start + length
        self._check(stop)
        self._is_behind_sysex = True
        if not self._is_open and length and SYSEX > self._data[start] > 127 and self._take_wire(start, stop, delta):
            return
        self._is_open = self._is_open and self._data[stop - 1] != ESCAPE
        self._add(ESCAPE + 256, start, stop, delta)

    def _take_wire(self, start: int, stop: int, delta: int) -> bool:
        """Take channel messages as they are sent, without times; return False where the bytes are something else."""
        codes, status, at = [], 0, start
        while at < stop:
            if self._data[at] > 127:
                status, at = self._data[at], at + 1
            needed = 1 if 0xC0 <= status < 0xE0 else 2
            message = self._data[at : min(at + needed, stop)]
            if status >= SYSEX or len(message) < needed or max(message) > 127:
                return False
            codes.append(status << 16 | message[0] << 8 | (message[1] if needed == 2 else 0))
            at += needed
        self._go(stop, delta)
        self._ticks.extend([self._tick] * len(codes))
        self._codes.extend(codes)
        self.repairs["escaped"] += len(codes)
        return True

    def _events_that_follow(self, at: int) -> int:
        """Return how many sound events come from a place on, as far as one looks ahead."""
        data, running = self._data, self._running
        for seen in range(_LOOK_AHEAD):
            try:
                _, place = self._delta(at)
                status = data[place]
                if status in (META, SYSEX, ESCAPE):
                    return _LOOK_AHEAD
                if status >= 0xF0:
                    at = place + 1 + _SYSTEM_DATA.get(status, 0)
                    continue
                if status > 127:
                    running, place = status, place + 1
                needed = 1 if 0xC0 <= running < 0xE0 else 2
                if max(data[place], data[place + needed - 1]) > 127:
                    return seen
                at = place + needed
            except IndexError:
                return seen
        return _LOOK_AHEAD

    def _delta_before_the_cut(self) -> int:
        try:
            return self._delta(self.at)[0]
        except IndexError:
            return 0

    def _check(self, stop: int) -> None:
        if stop > len(self._data):
            raise IndexError

    def _go(self, at: int, delta: int) -> None:
        self.at, self._tick = at, self._tick + delta

    def _add(self, kind: int, start: int, stop: int, delta: int) -> None:
        self._go(stop, delta)
        for column, number in zip(self._others, (len(self._codes), self._tick, kind, start, stop), strict=True):
            column.append(number)
