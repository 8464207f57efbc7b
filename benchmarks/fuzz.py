"""Bytes that nobody should send: malformed OSC to a bridge that plays, and noise through the MIDI input."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import asdict
from itertools import count as count_up

import numpy as np
from pythonosc.osc_message_builder import OscMessageBuilder

from musebridge.benchmarks.measure import Row, resident_mb, row_of, seconds
from musebridge.bridge.app.bridge import Bridge
from musebridge.bridge.app.testing import ScriptedEngine, Witness, babble, simulate
from musebridge.bridge.core import osc_namespace, osc_news
from musebridge.bridge.core.scheduler import Scheduler
from musebridge.bridge.core.session import Session
from musebridge.bridge.core.settings import MODES, Settings
from musebridge.bridge.ports import backends, osc_port, osc_wire
from musebridge.bridge.ports.base import MemoryPort
from musebridge.events import Message

_BUNDLE, _NOW = b"#bundle\0", bytes(7) + b"\1"
_FENCE = 2
"""Datagrams between two questions that must be answered; a socket holds so many of the longest."""
_BURST = 1000
_DEADLINE_S = 20.0
_AGAIN_S = 0.25


def order(chance: random.Random) -> bytes:
    """Return a datagram as a controller sends it: any address of the table, with a value that may be out of range."""
    name, spec = chance.choice(list(osc_namespace.SPECS.items()))
    if "low" not in spec:
        value: str | float = chance.choice(["off", "detect", "A minor", "H major"])
    elif spec["whole"] and chance.random() < 0.9:
        value = chance.randint(spec["low"], min(spec["high"], 100))
    else:
        value = chance.uniform(spec["low"], spec["high"] * 1.1)
    choices: list[tuple[str | float, ...]] = [
        (f"{osc_news.ROOT}/param/{name}", value),
        (f"{osc_news.ROOT}/norm/{name}", chance.random()),
        (f"{osc_news.ROOT}/mode", chance.choice(MODES)),
        (
            f"{osc_news.ROOT}/{chance.choice(['handover', 'stop', 'retry', 'panic', 'reset'])}",
            chance.randint(0, 1),
        ),
        (f"/vkb_midi/{chance.randint(0, 15)}/note/{chance.randint(40, 90)}", chance.choice([0, 80])),
        (f"{osc_news.ROOT}/get/{name}",),
    ]
    address, *arguments = chance.choice(choices)
    return message(str(address), *arguments)


def message(address: str, *arguments: str | float) -> bytes:
    """Return an OSC message's datagram."""
    builder = OscMessageBuilder(address)
    for argument in arguments:
        builder.add_arg(argument)
    datagram: bytes = builder.build().dgram
    return datagram


def bundle(*parts: bytes, tag: bytes = _NOW) -> bytes:
    """Return a bundle's datagram; its time tag has eight bytes."""
    return _BUNDLE + tag + b"".join(struct.pack(">i", len(part)) + part for part in parts)


def malformed(chance: random.Random) -> bytes:
    """Return a datagram that is damaged in one of many ways."""
    kind = chance.choice([_random, _truncated, _flipped, _tags, _huge, _nested, _sizes, _future, _pattern])
    return kind(chance)[:65_000]


def _random(chance: random.Random) -> bytes:
    return chance.choice([b"", b"/", _BUNDLE, _BUNDLE + _NOW, b"/a\0\0,"]) + chance.randbytes(chance.randrange(120))


def _truncated(chance: random.Random) -> bytes:
    datagram = order(chance)
    return datagram[: chance.randrange(len(datagram))]


def _flipped(chance: random.Random) -> bytes:
    datagram = bytearray(order(chance))
    for _ in range(chance.randint(1, 4)):
        datagram[chance.randrange(len(datagram))] = chance.randrange(256)
    return bytes(datagram)


def _tags(chance: random.Random) -> bytes:
    """A known address with a wild type tag string and arguments that may not be there."""
    tags = "".join(chance.choices("ifsbdhtmrTFNI[]?\u20ac", k=chance.choice([1, 3, 10, 900])))
    nested = "[" * chance.choice([0, 0, 900]) + tags
    text = ("," + chance.choice([tags, nested, nested + "]" * 900])).encode()
    return b"/musebridge/stop\0\0\0\0" + text + bytes(4 - len(text) % 4) + chance.randbytes(chance.randrange(60))


def _huge(chance: random.Random) -> bytes:
    filler = chance.choice([b"/", b"\0", b"[", b"i", b"a", chance.randbytes(4)])
    head = chance.choice([b"/musebridge/stop\0\0\0\0,", b"/", _BUNDLE + _NOW, b""])
    return head + filler * (chance.choice([1_000, 4_000, 65_000]) // len(filler))


def _nested(chance: random.Random) -> bytes:
    datagram = order(chance)
    for _ in range(chance.choice([2, 7, 8, 9, 100, 1_000, 3_000])):
        datagram = bundle(datagram)
    return datagram


def _sizes(chance: random.Random) -> bytes:
    """A bundle whose parts claim to be longer or shorter than they are, or less than nothing."""
    parts = [order(chance) for _ in range(chance.randint(1, 3))]
    claims = [chance.choice([len(part), 0, -4, -20, 2**31 - 1, -(2**31), len(part) + 1]) for part in parts]
    body = b"".join(struct.pack(">i", claim) + part for claim, part in zip(claims, parts, strict=True))
    return _BUNDLE + _NOW + body


def _future(chance: random.Random) -> bytes:
    return bundle(order(chance), tag=chance.randbytes(8))


def _pattern(chance: random.Random) -> bytes:
    """A pattern that may mean much, or take long."""
    wild = "".join(
        chance.choices(["*", "?", "[a-z]", "[!_]", "{a,l,}", "a", "_", "["], k=chance.choice([1, 3, 16, 60]))
    )
    address = chance.choice(
        [f"/{wild}", f"{osc_news.ROOT}/{wild}", f"{osc_news.ROOT}/get/{wild}", f"/vkb_midi/{wild}/note/*"]
    )
    return message(address, chance.randint(0, 1))


def datagrams(count: int, seed: int = 0) -> Row:
    """Send malformed datagrams to a bridge; every so often it must answer a question, and at the end play.

    Returns:
        A row of the milliseconds from such a question to its answer, those sent before it included.

    Raises:
        RuntimeError: the bridge ended, or plays no more.
        TimeoutError: it answers no more.
    """
    chance, target = random.Random(seed), MemoryPort()
    address = "127.0.0.1", 0
    engine = ScriptedEngine(babble)
    with (
        Bridge(engine, MemoryPort(), target, settings=Settings(), mode="manual", seed=seed, osc=address) as bridge,
        closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as controller,
    ):
        assert bridge.osc
        controller.settimeout(_DEADLINE_S)
        controller.connect(bridge.osc.address)

        def ask() -> None:
            controller.send(message(f"{osc_news.ROOT}/capabilities"))
            while not controller.recv(65_535).startswith(f"{osc_news.ROOT}/capabilities".encode()):
                pass

        def burst() -> None:
            for _ in range(_FENCE):
                controller.send(malformed(chance))
            ask()
            target.poll()  # lest it fill the memory

        times_ms = [1e3 * seconds(burst) for _ in range(0, count, _FENCE)]
        for name, value in asdict(Settings()).items():
            controller.send(message(f"{osc_news.ROOT}/param/{name}", value))
        controller.send(message(f"{osc_news.ROOT}/pause", 0))  # which a pattern may have meant
        ask()
        controller.send(message(f"{osc_news.ROOT}/handover"))
        plays = any(bridge.ended.wait(0.01) or target.poll() for _ in range(round(_DEADLINE_S / 0.01)))
    if bridge.failure or not plays:
        raise RuntimeError("the bridge plays no more") from bridge.failure
    return row_of(f"{_FENCE} malformed datagrams of {count:,}, answered", "ms", np.array(times_ms))


def wire_noise(chance: random.Random) -> bytes:
    """Return a datagram to a port of notes that means nothing: any bytes, a message cut short, impossible numbers."""
    name = chance.choice(["hello", "bye", "note", "control", "bend", "midi", "held", "transport", "no"])
    wild = [float("nan"), float("inf"), -2.0, 1e30, 0.5, 4096.5, *(chance.uniform(-1e4, -2) for _ in range(3))]
    whole = osc_wire.write(name + "!" * (name == "bye"), -2, *(chance.choice(wild) for _ in range(chance.randrange(8))))
    cut = whole[: chance.randrange(len(whole) - 4)]
    return chance.choice([whole, cut, chance.randbytes(chance.randrange(64))])


def notes_by_osc(count: int, seed: int = 0) -> Row:
    """Send so many malformed datagrams to a port of notes, and play a note now and then, which must come back.

    Returns:
        A row of the milliseconds from such a note to its return, the datagrams before it included.

    Raises:
        RuntimeError: the bridge ended, or something stays sounding.
        TimeoutError: it plays no more.
    """
    chance, engine, settings = random.Random(seed), ScriptedEngine(babble), Settings(thru=1)
    line, seq = osc_port.OscLine(("127.0.0.1", 0)), count_up()
    ports, times_ms = (osc_port.OscInput(line), osc_port.OscOutput(line)), list[float]()
    with (
        Bridge(engine, *ports, settings=settings, mode="manual", seed=seed, clock=line.clock) as bridge,
        closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as peer,
    ):
        peer.settimeout(_AGAIN_S)
        peer.connect(line.address)

        def play(velocity: int) -> None:
            """Say hello and play, again and again where the bridge was too busy, until it comes back."""
            for _ in range(round(_DEADLINE_S / _AGAIN_S)):
                peer.send(osc_wire.write("hello", 1, 1, -1, 0))
                peer.send(osc_wire.write("note", next(seq), -1, 1, 60, velocity))
                with suppress(TimeoutError):
                    while not peer.recv(65_535).startswith(f"{osc_wire.ROOT}midi".encode()):
                        pass
                    return
            raise TimeoutError("the bridge plays no more")

        def burst() -> None:
            for _ in range(_FENCE):
                peer.send(wire_noise(chance))
            play(100)
            play(0)

        for _ in range(0, count, _FENCE):
            times_ms.append(1e3 * seconds(burst))
    if bridge.failure or bridge.stats.heard > 2 * len(times_ms):
        raise RuntimeError("the bridge ended, or heard what was not played") from bridge.failure
    return row_of(f"{_FENCE} malformed datagrams of {count:,} to a port of notes", "ms", np.array(times_ms))


def noise(count: int, seed: int = 0) -> Row:
    """Play so many bytes of noise to a session, all of it passed on; nothing may stay sounding.

    rtmidi cuts what comes into messages: these are noise, of any length, most with a status byte first.

    Returns:
        A row of the microseconds that a message takes to be understood.
    """
    chance, witness, scheduler, times_us = random.Random(seed), Witness(), Scheduler(), list[float]()
    settings = Settings(thru=1, silence_s=0.05, answer_s=5)
    session = Session(ScriptedEngine(babble), scheduler, settings, rng=np.random.default_rng(seed))
    now_s = 0.0
    while count > 0:
        burst = [_noise(chance) for _ in range(chance.randint(1, 200))]
        count -= sum(map(len, burst))
        messages: list[Message | None] = []
        spent_s = seconds(lambda: messages.extend(map(backends.decode, burst)))  # noqa: B023  # called at once
        times_us.append(1e6 * spent_s / len(burst))
        script = [(now_s + 0.001 * i, message) for i, message in enumerate(messages) if message]
        began_s, now_s = now_s, now_s + 0.001 * len(messages) + 0.1
        witness.take(simulate(session, scheduler, script, until_s=now_s, now_s=began_s))
    witness.take(scheduler.finish(now_s))
    if witness.wrongs or witness.sounding:
        raise RuntimeError(f"{witness.wrongs[:1]}, left sounding: {witness.sounding}")
    return row_of("a message of MIDI noise", "µs", np.array(times_us))


def _noise(chance: random.Random) -> list[int]:
    length = chance.choice([0, 1, 2, 3, 3, 3, 3, 4, 40])
    first = chance.randrange(128, 256) if chance.random() < 0.9 else chance.randrange(256)
    high = 128 if chance.random() < 0.8 else 256
    return [first, *(chance.randrange(high) for _ in range(length - 1))][:length]


def rows(osc_count: int, midi_count: int) -> Iterator[Row]:
    """Yield what the fuzzing took, and how the memory grew."""
    datagrams(_BURST)
    before_mb = resident_mb()
    yield datagrams(osc_count)
    yield notes_by_osc(osc_count)
    yield row_of("growth of memory by OSC", "MB", np.array([resident_mb() - before_mb]))
    noise(_BURST)
    before_mb = resident_mb()
    yield noise(midi_count)
    yield row_of("growth of memory by MIDI", "MB", np.array([resident_mb() - before_mb]))
