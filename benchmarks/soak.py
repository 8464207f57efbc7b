"""Hours of playing: simulated ones on virtual time, and minutes of the real bridge under JACK.

Phrases, modes, parameters and commands are random; commands are real datagrams
through the real parser. No note may be left sounding, and none may end late.
"""

from __future__ import annotations

import json
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np

from musebridge.benchmarks.fuzz import message as osc_message
from musebridge.benchmarks.fuzz import order
from musebridge.benchmarks.jack import Peer
from musebridge.benchmarks.measure import Row, resident_mb, row_of
from musebridge.bridge.app.osc_parser import parse
from musebridge.bridge.app.testing import ScriptedEngine, Witness, babble, simulate
from musebridge.bridge.core import osc_namespace, osc_news
from musebridge.bridge.core.commands import Command, HandOver, SetMode, SetParameter, Stop
from musebridge.bridge.core.scheduler import Owner, Scheduler, Sent
from musebridge.bridge.core.session import Session
from musebridge.bridge.core.settings import MODES, Settings
from musebridge.bridge.ports.clock import MonotonicClock
from musebridge.errors import ConfigError
from musebridge.events import SUSTAIN, Control, Message, NoteOff, NoteOn, SongPosition, Transport

PHRASE_S = 6.0
"""How long a phrase and its answer have."""
_WARM_S = 60.0
"""The memory of the real bridge is first looked at when it has played for so long."""

_DEFAULTS = asdict(Settings())

Script = list[tuple[float, Message | Command]]


def phrase(chance: random.Random) -> list[tuple[float, Message]]:
    """Return what a player does in some seconds: notes, often with pedal, now and then in a song with its clock."""
    played: list[tuple[float, Message]] = []
    for _ in range(chance.randint(1, 12)):
        at_s, pitch = chance.uniform(0, 3), chance.randint(48, 84)
        played.append((at_s, NoteOn(pitch=pitch, velocity=chance.randint(1, 127))))
        played.append((at_s + chance.uniform(0.02, 1), NoteOff(pitch=pitch)))
    for value in (127, 0) * chance.randint(0, 2):
        played.append((chance.uniform(0, 4), Control(controller=SUSTAIN, value=value)))
    played.append((4.0, Control(controller=SUSTAIN, value=0)))
    if chance.random() < 0.2:
        tick_s = 60 / chance.uniform(60, 200) / 24
        heads: list[list[Message]] = [
            [Transport("start")],
            [SongPosition(chance.randrange(99)), Transport("continue")],
        ]
        played += [(0.0, message) for message in chance.choice(heads)]
        played += [(i * tick_s, Transport("clock")) for i in range(int(5 / tick_s))]
        played.append((5.0, Transport("stop")))
    return sorted(played, key=lambda item: item[0])


def simulated(hours: float, seed: int = 0) -> list[Row]:
    """Play for so many hours of virtual time, with an engine that says anything and sometimes fails."""
    chance, witness, scheduler, engine = random.Random(seed), Witness(), Scheduler(), ScriptedEngine(babble)
    session = Session(engine, scheduler, Settings(), rng=np.random.default_rng(seed))
    late_ms: list[float] = []
    stuck: list[float] = []
    for start_s in np.arange(0, 3600 * hours, PHRASE_S).tolist():
        end_s = start_s + PHRASE_S
        faults = sorted([end_s, *(chance.uniform(start_s, end_s) for _ in range(2 * (chance.random() < 0.1)))])
        script = _script(chance, start_s)
        for until_s in faults:
            part = [item for item in script if start_s <= item[0] < until_s]
            sent = simulate(session, scheduler, part, until_s=until_s, now_s=start_s)
            engine.failing, start_s = until_s < end_s and not engine.failing, until_s
            witness.take(sent)
            late_ms += [1e3 * late_s for late_s in _late_offs_s(sent)]
        stuck.append(sum(owner is Owner.MODEL for owner in witness.sounding.values()))
    witness.take(scheduler.finish(3600 * hours))
    stuck[-1] = len(witness.sounding)
    name = f"{len(stuck):,} phrases in {hours:g} h"
    return [
        row_of(f"{name}: note-off late", "ms", np.array(late_ms)),
        row_of(f"{name}: stuck", "notes", np.array(stuck)),
        row_of(f"{name}: wrong", "messages", np.array([float(len(witness.wrongs))])),
    ]


def _script(chance: random.Random, start_s: float) -> Script:
    """Return a phrase with its commands; at the end everything is stopped."""
    script: Script = [(start_s + at_s, message) for at_s, message in phrase(chance)]
    if chance.random() < 0.5:  # from strange settings back to such that make music
        script += [(start_s, SetParameter(name, value)) for name, value in _DEFAULTS.items()]
    script.append((start_s, SetMode(chance.choice(MODES))))
    script += [(start_s + chance.uniform(3, 5), HandOver())] * (chance.random() < 0.5)
    for _ in range(chance.randrange(6)):
        at_s = start_s + chance.uniform(0, 5)
        with suppress(ConfigError):
            asked = parse(order(chance))
            script += [(at_s, request) for request in asked if not isinstance(request, osc_namespace.Query)]
    return [*script, (start_s + PHRASE_S - 0.01, Stop())]


def _late_offs_s(sent: list[Sent]) -> Iterator[float]:
    for item in sent:
        if isinstance(item.event, NoteOff) and item.owner is Owner.MODEL:
            yield item.actual_s - item.due_s


def real(minutes: float, seed: int = 0) -> list[Row]:
    """Play to ``musebridge serve`` for so long; needs a JACK server.

    Returns:
        Rows of how late its note-offs left, what was left sounding, and how its memory grew.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "musebridge", "serve", "--port", "virtual", "--backend", "jack"]
        options = ["--osc", "127.0.0.1:0", "--seed", str(seed), "--record", folder]
        with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as bridge:
            assert bridge.stdout
            greeting = next(line for line in bridge.stdout if line.startswith("listening"))
            *ports, osc_port = re.findall(r"(?:on |OSC 127\.0\.0\.1:)([^,;]+)", greeting)
            client = Peer(*ports)
            early_late_mb = _play(client, int(osc_port), minutes, random.Random(seed), lambda: resident_mb(bridge.pid))
            bridge.send_signal(signal.SIGINT)
            client.listen(1.0)
            bridge.stdout.read()
            client.close()
        (log,) = Path(folder).glob("*.jsonl")
        rows = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    offs = [row for row in rows if row["kind"] == "sent" and row["owner"] == "model" and row["bytes"][0] & 0xF0 == 0x80]
    late_ms = np.array([1e3 * (row["at_s"] - row["due_s"]) for row in offs])
    name = f"{minutes:g} min"
    return [
        row_of(f"{name}: note-off late", "ms", late_ms),
        row_of(f"{name}: late by 20 ms", "notes", np.array([float((late_ms > 20).sum())])),
        row_of(f"{name}: stuck", "notes", np.array([float(len(client.sounding()))])),
        row_of(f"{name}: memory at the end", "MB", np.array([early_late_mb[1]])),
        row_of(f"{name}: growth of memory", "%", np.array([100 * (early_late_mb[1] / early_late_mb[0] - 1)])),
    ]


def _play(
    client: Peer, port: int, minutes: float, chance: random.Random, memory_mb: Callable[[], float]
) -> tuple[float, float]:
    """Play phrases and send commands; return the memory soon after the start, and at the end."""
    clock = MonotonicClock()
    start_s = now_s = clock.now()
    early_mb = 0.0
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as controller:
        while now_s < start_s + 60 * minutes:
            played: list[tuple[float, Message | bytes]] = [*phrase(chance)]
            played += [(chance.uniform(0, 5), order(chance)) for _ in range(chance.randrange(6))]
            if chance.random() < 0.5:
                played += [
                    (0.0, osc_message(f"{osc_news.ROOT}/param/{name}", value)) for name, value in _DEFAULTS.items()
                ]
            for at_s, message in sorted(played, key=lambda item: item[0]):
                client.listen(now_s + at_s - clock.now())
                if isinstance(message, bytes):
                    controller.sendto(message, ("127.0.0.1", port))
                else:
                    client.send(message)
            client.listen(now_s + PHRASE_S - clock.now())
            now_s = clock.now()
            if not early_mb and now_s - start_s > min(_WARM_S, 30 * minutes):
                early_mb = memory_mb()
    return early_mb, memory_mb()
