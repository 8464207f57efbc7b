"""The wire of notes by OSC: datagrams to what a peer says, and what the bridge says to datagrams.

One datagram is one message of whole numbers and 32-bit floats, so Pure Data's
plain objects can speak it. ``docs/osc.md`` has the table. Numbers that run for
ever go round: sequence numbers modulo 2^24, which such a float holds exactly, and
the peer's clock modulo 16,384 ms, which it holds to a microsecond.

Datagrams are untrusted: what is no message of the wire reads as None.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pythonosc.osc_message import OscMessage
from pythonosc.osc_message_builder import OscMessageBuilder

from musebridge.bridge.ports import backends
from musebridge.events import Control, Message, NoteOff, NoteOn, Other

VERSION = 1
ROOT = "/musebridge/wire/"
ROUND_SEQ, ROUND_S = 2**24, 16.384
MOST_AHEAD_S = 0.25
MOST_KEYS = 2048
_MAX_DATAGRAM = 12_288  # all keys held, five bytes each, and room
_MAX_BAR, _MAX_BPM, _MAX_BAR_BEATS = 2**20, 1000.0, 64.0


@dataclass(frozen=True, slots=True)
class Hello:
    """A peer is there: which run of it, its clock in seconds or None, how far ahead it wants events."""

    run: int
    clock_s: float | None
    ahead_s: float


@dataclass(frozen=True, slots=True)
class Bye:
    """A peer leaves."""


@dataclass(frozen=True, slots=True)
class Played:
    """A MIDI message, its number, and its moment by the peer's clock, or None for now."""

    seq: int
    clock_s: float | None
    message: Message


@dataclass(frozen=True, slots=True)
class Held:
    """All keys that are down behind message ``seq``, as (channel, pitch)."""

    seq: int
    keys: frozenset[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Song:
    """Where a transport is: ``beat`` quarter notes into a bar of ``bar_beats``, at ``bpm``; whether it plays."""

    seq: int
    clock_s: float | None
    playing: bool
    bar: int
    beat: float
    bpm: float
    bar_beats: float


Said = Hello | Bye | Played | Held | Song


def read(datagram: bytes) -> Said | None:
    """Return what a peer says, or None where it is nothing of the wire."""
    if len(datagram) > _MAX_DATAGRAM or not datagram.startswith(ROOT.encode()):
        return None
    try:
        message = OscMessage(datagram)
        numbers = [float(number) for number in message.params]
        if not all(map(math.isfinite, numbers)):
            return None
        return _READERS[message.address.removeprefix(ROOT)](numbers)
    except Exception:  # noqa: BLE001  # python-osc raises many kinds on damaged input, and so do wrong numbers
        return None


def write(name: str, *numbers: float) -> bytes:
    """Return a datagram of the wire: whole numbers as ``i``, others as ``f``."""
    builder = OscMessageBuilder(ROOT + name)
    for number in numbers:
        builder.add_arg(number, "i" if isinstance(number, int) else "f")
    return builder.build().dgram


def is_newer(seq: int, than: int) -> bool:
    """Return whether a sequence number comes after another, on the shorter way round."""
    return 0 < (seq - than) % ROUND_SEQ < ROUND_SEQ // 2


def nearest_s(clock_s: float, near_s: float) -> float:
    """Return the moment that a clock going round means, nearest to another."""
    apart_s = (clock_s - near_s + ROUND_S / 2) % ROUND_S - ROUND_S / 2
    return near_s + apart_s


def slot(message: Message) -> tuple[int, ...]:
    """Return what a message is about: of two on the same key or controller, the newer one holds."""
    match message:
        case NoteOn(pitch=pitch, channel=channel) | NoteOff(pitch=pitch, channel=channel):
            return 0x90, channel, pitch
        case Control(controller=controller, channel=channel):
            return 0xB0, channel, controller
        case Other(data):
            return (data[0], *data[1:2]) if data[0] >> 4 == 0xA else (data[0],)
        case _:
            return (backends.encode(message)[0],)


def key_number(key: tuple[int, int]) -> int:
    """Return a key, (channel, pitch) from 0, as one number."""
    return key[0] * 128 + key[1]


def _whole(number: float, low: int, high: int) -> int:
    if not low <= number <= high or number != int(number):
        raise ValueError(number)
    return int(number)


def _within(number: float, low: float, high: float) -> float:
    if not low <= number <= high:
        raise ValueError(number)
    return number


def _seq(number: float) -> int:
    return _whole(number, 0, ROUND_SEQ - 1)


def _clock(number: float) -> float | None:
    return None if number < 0 else _within(number / 1000, 0, ROUND_S)


def _hello(numbers: Sequence[float]) -> Hello:
    version, run, clock_ms, ahead_ms = numbers
    _whole(version, VERSION, VERSION)
    return Hello(_whole(run, 0, 2**31), _clock(clock_ms), _within(ahead_ms / 1000, 0, MOST_AHEAD_S))


def _bye(numbers: Sequence[float]) -> Bye:
    return Bye()


def _midi(numbers: Sequence[float]) -> Played:
    seq, clock_ms, *data = numbers
    message = backends.decode([_whole(byte, 0, 255) for byte in data])
    if message is None:
        raise ValueError(data)
    return Played(_seq(seq), _clock(clock_ms), message)


def _note(numbers: Sequence[float]) -> Played:
    seq, clock_ms, channel, pitch, velocity = numbers
    return _midi((seq, clock_ms, 0x90 + _channel(channel), pitch, velocity))


def _control(numbers: Sequence[float]) -> Played:
    seq, clock_ms, channel, controller, value = numbers
    return _midi((seq, clock_ms, 0xB0 + _channel(channel), controller, value))


def _bend(numbers: Sequence[float]) -> Played:
    seq, clock_ms, channel, value = numbers
    high, low = divmod(_whole(value, -8192, 8191) + 8192, 128)
    return _midi((seq, clock_ms, 0xE0 + _channel(channel), low, high))


def _channel(number: float) -> int:
    return _whole(number, 1, 16) - 1


def _held(numbers: Sequence[float]) -> Held:
    seq, *keys = numbers
    return Held(_seq(seq), frozenset(divmod(_whole(key, 0, MOST_KEYS - 1), 128) for key in keys))


def _song(numbers: Sequence[float]) -> Song:
    seq, clock_ms, playing, bar, beat, bpm, bar_beats = numbers
    return Song(
        _seq(seq),
        _clock(clock_ms),
        playing >= 0.5,
        _whole(bar, -_MAX_BAR, _MAX_BAR),
        _within(beat, -_MAX_BAR_BEATS, _MAX_BAR_BEATS),
        _within(bpm, 1, _MAX_BPM),
        _within(bar_beats, 1 / 16, _MAX_BAR_BEATS),
    )


_READERS: dict[str, Callable[[Sequence[float]], Said]] = {
    "hello": _hello,
    "bye": _bye,
    "midi": _midi,
    "note": _note,
    "control": _control,
    "bend": _bend,
    "held": _held,
    "transport": _song,
}
