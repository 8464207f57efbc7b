"""A host of one LV2 plug-in with MIDI, block by block, as fast or as slowly as a test wants."""

from __future__ import annotations

import ctypes as c
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

_BUFFER = 65536
_ATOM, _MIDI = "http://lv2plug.in/ns/ext/atom#", "http://lv2plug.in/ns/ext/midi#MidiEvent"
_TIME, _MAP = "http://lv2plug.in/ns/ext/time#", "http://lv2plug.in/ns/ext/urid#map"
Midi = tuple[int, bytes]
"""A frame, from the beginning, and a message."""


class _Feature(c.Structure):
    _fields_ = (("uri", c.c_char_p), ("data", c.c_void_p))


_MapCall = c.CFUNCTYPE(c.c_uint32, c.c_void_p, c.c_char_p)


class _Map(c.Structure):
    _fields_ = (("handle", c.c_void_p), ("map", _MapCall))


class _Descriptor(c.Structure):
    _fields_ = (
        ("uri", c.c_char_p),
        ("instantiate", c.CFUNCTYPE(c.c_void_p, c.c_void_p, c.c_double, c.c_char_p, c.POINTER(c.c_void_p))),
        ("connect_port", c.CFUNCTYPE(None, c.c_void_p, c.c_uint32, c.c_void_p)),
        ("activate", c.CFUNCTYPE(None, c.c_void_p)),
        ("run", c.CFUNCTYPE(None, c.c_void_p, c.c_uint32)),
        ("deactivate", c.c_void_p),
        ("cleanup", c.CFUNCTYPE(None, c.c_void_p)),
        ("extension_data", c.c_void_p),
    )


class Host:
    """Loads a plug-in whose ports are: events in, events out, then controls; call :meth:`close` at the end."""

    def __init__(self, binary: Path, controls: Sequence[float], rate: float = 48000.0) -> None:
        self.frame = 0
        self._urids: dict[str, int] = {}
        self._map_call = _MapCall(lambda _, uri: self._urid(uri.decode()))
        self._map = _Map(None, self._map_call)
        self._feature = _Feature(_MAP.encode(), c.cast(c.pointer(self._map), c.c_void_p))
        features = (c.c_void_p * 2)(c.addressof(self._feature), None)
        self._library = c.CDLL(str(binary))
        self._library.lv2_descriptor.restype = c.POINTER(_Descriptor)
        self._plugin = self._library.lv2_descriptor(0).contents
        self._instance = self._plugin.instantiate(None, rate, b"", features)
        assert self._instance
        self._in, self._out = (c.create_string_buffer(_BUFFER) for _ in range(2))
        self.controls = (c.c_float * len(controls))(*controls)
        for port, buffer in enumerate((self._in, self._out)):
            self._plugin.connect_port(self._instance, port, c.addressof(buffer))
        for i in range(len(controls)):
            self._plugin.connect_port(self._instance, 2 + i, c.addressof(self.controls) + 4 * i)
        self._plugin.activate(self._instance)

    def run(self, frames: int, *events: tuple[int, bytes | dict[str, float]]) -> list[Midi]:
        """Run one block; events are (offset in it, MIDI or a position's properties). Return what comes out."""
        body = b"".join(self._event(offset, event) for offset, event in events)
        sequence = struct.pack("=IIII", 8 + len(body), self._urid(_ATOM + "Sequence"), 0, 0) + body
        c.memmove(self._in, sequence, len(sequence))
        c.memmove(self._out, struct.pack("=II", _BUFFER - 8, 0), 8)
        self._plugin.run(self._instance, frames)
        came = [(self.frame + offset, data) for offset, data in self._came()]
        self.frame += frames
        return came

    def run_until(self, wanted: Callable[[list[Midi]], bool], pause: Callable[[], object], frames: int) -> list[Midi]:
        """Run blocks until what came out since is what was wanted; return it."""
        came: list[Midi] = []
        for _ in range(20_000):
            came += self.run(frames)
            if wanted(came):
                return came
            pause()
        raise AssertionError(f"never came what was wanted, but {came}")

    def close(self) -> None:
        """End the plug-in."""
        self._plugin.cleanup(self._instance)

    def _urid(self, uri: str) -> int:
        return self._urids.setdefault(uri, len(self._urids) + 1)

    def _event(self, offset: int, event: bytes | dict[str, float]) -> bytes:
        kind, body = self._urid(_MIDI), event
        if isinstance(event, dict):
            kind, body = self._urid(_ATOM + "Object"), struct.pack("=II", 0, self._urid(_TIME + "Position"))
            for name, value in event.items():
                number = struct.pack("=IId", 8, self._urid(_ATOM + "Double"), value)
                body += struct.pack("=II", self._urid(_TIME + name), 0) + number
        assert isinstance(body, bytes)
        return struct.pack("=qII", offset, len(body), kind) + body + bytes(-len(body) % 8)

    def _came(self) -> list[Midi]:
        (size, *_), came, at = struct.unpack_from("=IIII", self._out), list[Midi](), 16
        while at < 8 + size:
            offset, length, kind = struct.unpack_from("=qII", self._out, at)
            assert kind == self._urid(_MIDI)
            came.append((offset, self._out.raw[at + 16 : at + 16 + length]))
            at += 16 + length + -length % 8
        return came
