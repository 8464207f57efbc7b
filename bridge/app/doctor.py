"""Can this machine play? Each check in one line, with what to do next."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

import numpy as np

from musebridge.bridge.app import preset as presets
from musebridge.bridge.app.osc_server import OscServer
from musebridge.bridge.app.threads import POLL_S
from musebridge.bridge.core.answer import Answer
from musebridge.bridge.core.context import Context, Engine
from musebridge.bridge.core.settings import Settings
from musebridge.bridge.ports import backends
from musebridge.bridge.ports.base import InputPort, OutputPort
from musebridge.bridge.ports.clock import Clock
from musebridge.bridge.ports.jack_watch import LONGEST_PERIOD_S
from musebridge.bridge.ports.rtmidi import WINDOWS_HINT, MidiSystem
from musebridge.errors import ConfigError, EngineError, ModelError, MuseBridgeError, PortError
from musebridge.events import NoteOff, NoteOn
from musebridge.vocab import BEGIN, StreamState

if TYPE_CHECKING:
    from musebridge.bridge.inference.engine import OnnxEngine

NEEDED_TOKENS_S = 120
"""What dense piano music takes: 30 notes a second, each with its end, its velocity and its time."""
_MEASURED_S = 1.0
_NOTES = 20
_PATIENCE_S = 3.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found; where it is not ``ok``, ``says`` ends with what to do."""

    name: str
    ok: bool
    says: str


def examine(preset: presets.Preset, backend: str, osc: tuple[str, int] | None, clock: Clock) -> Iterator[Finding]:
    """Yield what is found, a check at a time.

    Args:
        preset: whose model is to play.
        backend: the MIDI system, or ``auto``.
        osc: where OSC is to be listened to, or None.
        clock: measures.
    """
    systems = _midi(backend)
    yield from systems
    if any(finding.ok for finding in systems):
        yield _finding("loop-back", lambda: _loop_back(backend, clock))
    yield _finding("model", lambda: _model(preset.model))
    yield _finding("speed", lambda: _speed(preset.model, clock))
    yield _finding("OSC", lambda: _osc(osc, clock))
    yield _finding("presets", _presets)


def _finding(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(name, True, check())
    except MuseBridgeError as error:
        return Finding(name, False, str(error))


def _midi(backend: str) -> list[Finding]:
    """Return what the first system that answers offers; where none does, what to do about each."""
    answer = _finding("MIDI", lambda: _ports(backend))
    if answer.ok:
        return [answer]
    try:
        library, systems = backends.candidates(backend)
    except PortError:
        return [answer]
    return [_finding("MIDI", partial(_ports, f"{library.name}/{system}")) for system in systems]


def _ports(backend: str) -> str:
    system = MidiSystem(backend)
    found = system.list_ports()
    system.close()
    if system.backend == "winmm" and not (found.inputs and found.outputs):
        raise PortError(WINDOWS_HINT)
    ports = f"{len(found.inputs)} ports to listen to, {len(found.outputs)} to play to"
    return f"{system.backend} answers, through {system.library}; {ports}"


def _loop_back(backend: str, clock: Clock) -> str:
    system = MidiSystem(backend)
    if system.backend == "winmm":
        return "left out: Windows has no virtual ports of its own"
    source, target, keyboard = system.loop()
    trips_ms = _trips_ms(keyboard, source, clock, [source, target, keyboard])
    return f"{_NOTES} notes came back, median {np.median(trips_ms):.1f} ms, most {max(trips_ms):.1f} ms"


def latency(backend: str, in_name: str, out_name: str, clock: Clock) -> Finding:
    """Measure how long a note takes from an output through a cable, or a program that passes it on, to an input.

    Args:
        backend: the MIDI system, or ``auto``.
        in_name, out_name: parts of the names of two ports that are there.
        clock: measures.
    """
    return _finding("latency", lambda: _latency(backend, in_name, out_name, clock))


def _latency(backend: str, in_name: str, out_name: str, clock: Clock) -> str:
    source, target = MidiSystem(backend).pair(in_name, out_name)
    trips_ms = _trips_ms(target, source, clock, [source, target])
    median_ms = float(np.median(trips_ms))
    return (
        f"{_NOTES} notes took {median_ms:.1f} ms from {target.name} to {source.name} (median; "
        f"{min(trips_ms):.1f} to {max(trips_ms):.1f}); offset_ms = {median_ms:.0f} plays as much earlier"
    )


def _trips_ms(
    target: OutputPort, source: InputPort, clock: Clock, opened: Sequence[InputPort | OutputPort]
) -> list[float]:
    """Return how long each of some notes takes, and close what was opened."""
    try:
        threading.Event().wait(LONGEST_PERIOD_S)  # a new connection may lose what comes at once
        return [_trip_s(target, source, clock) * 1000 for _ in range(_NOTES)]
    finally:
        for port in opened:
            port.close()


def _trip_s(keyboard: OutputPort, source: InputPort, clock: Clock) -> float:
    """Return how long a note takes from one port to the other."""
    start_s = clock.now()
    keyboard.send(NoteOn(pitch=60, velocity=64))
    while not source.poll():
        if clock.now() > start_s + _PATIENCE_S:
            raise PortError(
                f"a note sent to {keyboard.name} did not come back on {source.name}; "
                "check the cable between them, or restart the MIDI system"
            )
        threading.Event().wait(POLL_S)
    trip_s = clock.now() - start_s
    keyboard.send(NoteOff(pitch=60))
    while not source.poll() and clock.now() < start_s + _PATIENCE_S:
        threading.Event().wait(POLL_S)
    return trip_s


def _engine(model: Path) -> OnnxEngine:
    try:
        from musebridge.bridge.inference.engine import OnnxEngine
    except ModuleNotFoundError as error:
        raise ModelError(f"{error.name} is not installed; install it with: pip install onnxruntime") from error
    return OnnxEngine(model)


def _model(model: Path) -> str:
    engine = _engine(model)
    return f"{model.name} loads: {engine.info.parameters:,} parameters, {engine.info.precision}, {engine.provider}"


def _speed(model: Path, clock: Clock) -> str:
    rate = tokens_per_s(_engine(model), clock, _MEASURED_S)
    found = f"{rate:.0f} tokens/s, {NEEDED_TOKENS_S} are needed"
    if rate < NEEDED_TOKENS_S:
        raise EngineError(f"{found}; end other programs, or play a smaller model with --model")
    return found


def tokens_per_s(engine: Engine, clock: Clock, for_s: float) -> float:
    """Return how fast an answer is written, sampling included."""
    context = Context(engine)
    context.append([BEGIN])
    answer, settings = Answer(context, StreamState(), np.random.default_rng(0)), Settings()
    start_s, count = clock.now(), 0
    while (passed_s := clock.now() - start_s) < for_s:
        answer.next(settings)
        count += 1
    return count / passed_s


def _osc(address: tuple[str, int] | None, clock: Clock) -> str:
    if address is None:
        return "off"
    server = OscServer(address, clock, SimpleQueue(), lambda *_: None)
    server.stop()
    return "{}:{} is free".format(*server.address)


def _presets() -> str:
    for name in presets.names():
        if not (model := presets.load(name).model).is_file():
            raise ConfigError(
                f"preset {name}: its model {model} is missing; put it there, or name another in the preset"
            )
    return f"{len(presets.names())} are valid, in {presets.FOLDER} and {presets.USER_FOLDER}"
