"""How late events leave while an engine generates without a pause: the sender as a thread, and as a process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue

import numpy as np

from musebridge import vocab
from musebridge.benchmarks.measure import Row, row_of
from musebridge.bridge.app.threads import Poller, Sender, Worker
from musebridge.bridge.core.answer import Answer
from musebridge.bridge.core.context import Context
from musebridge.bridge.core.echo import EchoFilter
from musebridge.bridge.core.scheduler import Scheduled, Sent
from musebridge.bridge.core.settings import Settings
from musebridge.bridge.inference.engine import OnnxEngine
from musebridge.bridge.ports.base import OutputPort
from musebridge.bridge.ports.clock import MonotonicClock
from musebridge.bridge.ports.rtmidi import VIRTUAL, MidiSystem
from musebridge.events import NoteOff, NoteOn
from musebridge.vocab import StreamState

EVENTS_PER_S = 200
_AHEAD_S = 0.25
"""How far ahead of its time an event is handed to the sender, as the bridge does."""

Late = list[float]


class Generating(Worker):
    """Samples token after token, as an answer does that is never far enough ahead."""

    def __init__(self, model: Path) -> None:
        super().__init__("engine", failed)
        context = Context(OnnxEngine(model))
        context.append([vocab.BEGIN])
        self._answer, self._settings = Answer(context, StreamState(), np.random.default_rng(0)), Settings()

    def turn(self) -> None:
        """Write one token."""
        self._answer.next(self._settings)


def rows(model: Path, events: int) -> list[Row]:
    """Measure how late so many events leave each kind of sender; needs a JACK server."""
    with _busy(model):
        return [
            row_of("jitter, sender a thread, engine busy", "ms", np.array(_thread(events))),
            row_of("jitter, sender a process, engine busy", "ms", np.array(_process(events))),
        ]


def failed(worker: str, error: Exception) -> None:
    """Say what ended a thread."""
    raise RuntimeError(f"{worker} ended") from error


@contextmanager
def _busy(model: Path) -> Iterator[None]:
    """Generate and poll an input meanwhile, as the bridge does."""
    source = MidiSystem("jack").input(VIRTUAL)
    workers = (
        Generating(model),
        Poller(
            source,
            MonotonicClock(),
            SimpleQueue(),
            EchoFilter(),
            lambda _: None,
            lambda _: False,
            lambda *_: None,
            failed,
        ),
    )
    for worker in workers:
        worker.start()
    yield
    for worker in workers:
        worker.stop()
    source.close()


def _thread(events: int) -> Late:
    late_ms: Late = []
    sender, target = _sender(late_ms)
    _feed(events, sender.push)
    sender.finish()
    target.close()
    return late_ms[:events]


def _process(events: int) -> Late:
    ours, theirs = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=_serve, args=(theirs,))
    process.start()
    ours.recv()
    _feed(events, ours.send)
    ours.send(None)
    late_ms: Late = ours.recv()
    process.join()
    return late_ms[:events]


def _serve(pipe: Connection) -> None:
    """Be the sender's process: send what comes through the pipe."""
    late_ms: Late = []
    sender, target = _sender(late_ms)
    pipe.send("ready")
    while (scheduled := pipe.recv()) is not None:
        sender.push(scheduled)
    sender.finish()
    target.close()
    pipe.send(late_ms)


def _sender(late_ms: Late) -> tuple[Sender, OutputPort]:
    def on_sent(sent: Sent) -> None:
        late_ms.append((sent.actual_s - sent.due_s) * 1e3)

    target = MidiSystem("jack").output(VIRTUAL)
    sender = Sender(target, MonotonicClock(), on_sent, failed)
    sender.start()
    return sender, target


def _feed(events: int, push: Callable[[Scheduled], None]) -> None:
    """Strike and end a note in turns, at a steady rate."""
    clock, pause = MonotonicClock(), threading.Event()
    start_s = clock.now() + 2 * _AHEAD_S
    for i in range(events):
        due_s = start_s + i / EVENTS_PER_S
        pause.wait(max(0.0, due_s - _AHEAD_S - clock.now()))
        push(Scheduled(due_s, NoteOff(pitch=60) if i % 2 else NoteOn(pitch=60, velocity=64)))
    pause.wait(2 * _AHEAD_S)
