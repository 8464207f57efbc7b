"""The bridge: one session between two ports, with its threads and its end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

import numpy as np

from musebridge.bridge.clock import Clock, MonotonicClock
from musebridge.bridge.context import Engine
from musebridge.bridge.loop import Inbox, Player, Poller, Sender
from musebridge.bridge.osc import OscServer
from musebridge.bridge.ports import InputPort, OutputPort
from musebridge.bridge.session import Session
from musebridge.bridge.settings import Settings
from musebridge.bridge.stats import Recording
from musebridge.errors import MuseBridgeError


class Bridge:
    """Runs from :meth:`start` to :meth:`stop`; use it as a context manager.

    However it ends, what it sent is balanced: every note-on that left has its
    note-off, followed by pedal up, All Notes Off and All Sound Off.

    Args:
        engine: the model.
        source, target: where the player is heard and the model is played.
        settings, mode: the parameters at the start.
        seed: of the model's randomness; None takes a fresh one.
        osc: host and port to listen on, or None.
        notice: called with each change of state and each error, in one line.
    """

    def __init__(
        self,
        engine: Engine,
        source: InputPort,
        target: OutputPort,
        *,
        settings: Settings,
        mode: str = "call",
        seed: int | None = None,
        osc: tuple[str, int] | None = None,
        clock: Clock | None = None,
        notice: Callable[[str], None] = lambda _: None,
    ) -> None:
        clock = clock or MonotonicClock()
        self.recording = Recording()
        self.failure: Exception | None = None
        self.ended = threading.Event()
        """Set when the bridge cannot go on; ``failure`` says why."""
        self.source, self.target = source, target
        inbox: Inbox = SimpleQueue()
        self._sender = Sender(target, clock, self.recording.on_sent, self.fail)
        session = Session(engine, self._sender, settings, mode=mode, rng=np.random.default_rng(seed), notice=notice)
        self._player = Player(session, clock, inbox, lambda error: notice(str(error)), self.fail)
        self._poller = Poller(source, clock, inbox, self.recording.on_received, self.fail)
        self.osc = OscServer(osc, clock, inbox, self.fail) if osc else None

    def __enter__(self) -> Bridge:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to listen."""
        for worker in filter(None, (self._sender, self._player, self._poller, self.osc)):
            worker.start()

    def stop(self) -> None:
        """End: hear no more, write no more, silence the output, give the ports back."""
        for worker in filter(None, (self._poller, self.osc, self._player)):
            worker.stop()
        try:
            self._sender.finish()
        except MuseBridgeError as error:
            self.failure = self.failure or error
        self.source.close()
        self.target.close()

    @property
    def osc_name(self) -> str:
        """Where OSC is listened to, for people."""
        return "OSC {}:{}".format(*self.osc.address) if self.osc else "no OSC"

    def fail(self, worker: str, error: Exception) -> None:
        """End the bridge because ``worker`` cannot go on."""
        self.failure = self.failure or error
        self.ended.set()
