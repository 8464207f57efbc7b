"""The bridge: one session between two ports, with its threads and its end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from secrets import randbits

import numpy as np

from musebridge.bridge.app.bulletin import Bulletin, ToldOutbox
from musebridge.bridge.app.clips import ClipWriter
from musebridge.bridge.app.journal import Journal, JournalledOutbox
from musebridge.bridge.app.link import LinkFollower
from musebridge.bridge.app.osc_server import OscServer, address_text
from musebridge.bridge.app.preset import Preset
from musebridge.bridge.app.saver import Saver
from musebridge.bridge.app.shelf import Shelf
from musebridge.bridge.app.stats import Stats
from musebridge.bridge.app.takes import Takes
from musebridge.bridge.app.threads import Asked, Inbox, Poller, PortMonitor, Sender, SessionThread
from musebridge.bridge.core.clip import Place
from musebridge.bridge.core.commands import Bind, Command, Stop
from musebridge.bridge.core.context import Engine
from musebridge.bridge.core.echo import EchoFilter
from musebridge.bridge.core.scheduler import Outbox, Owner, Sent
from musebridge.bridge.core.session import Session
from musebridge.bridge.core.settings import Settings, Value
from musebridge.bridge.core.snapshot import Snapshot
from musebridge.bridge.ports.base import InputPort, OutputPort
from musebridge.bridge.ports.clock import Clock, MonotonicClock
from musebridge.errors import ConfigError, MuseBridgeError, PortError
from musebridge.events import Message, NoteOff, NoteOn


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
        binds: controllers that move parameters, at the start.
        save: called, from a thread of its own, with the controllers that move parameters whenever one was learnt.
        clip: where each answer becomes a clip once it has sounded: one of ``clips.TARGETS``.
        clip_track: the track there; empty is the selected one.
        preset: that it began with; others can be taken and saved by OSC.
        link: whether bars follow Ableton Link, where others are there.
        journal: given the seed, returns where to log the session; or None.
        notice: called with each change of state or of a port and each error, in one line.
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
        binds: Sequence[Bind] = (),
        save: Callable[[Sequence[Bind]], object] | None = None,
        clip: str = "off",
        clip_track: str = "",
        preset: Preset | None = None,
        link: bool = False,
        journal: Callable[[int], Journal] | None = None,
        clock: Clock | None = None,
        notice: Callable[[str], None] = lambda _: None,
    ) -> None:
        clock = clock or MonotonicClock()
        seed = randbits(32) if seed is None else seed
        self.stats = Stats()
        self.failure: Exception | None = None
        self.ended = threading.Event()
        """Set when the bridge cannot go on; ``failure`` says why."""
        self.source, self.target, self._notice = source, target, notice
        self.inbox: Inbox = SimpleQueue()
        """What the session is to receive, with its time; any thread may put."""
        self._clock, self._echoes = clock, EchoFilter(lambda sentence: self._report(PortError(sentence)))
        self._sender = Sender(target, clock, self._on_sent, self.fail)
        self.journal = journal(seed) if journal else None
        outbox: Outbox = JournalledOutbox(self._sender, self.journal) if self.journal else self._sender
        self._bulletin = Bulletin(clock.now())
        outbox = ToldOutbox(outbox, self._bulletin) if osc else outbox
        rng = np.random.default_rng(seed)
        session = Session(engine, outbox, settings, mode=mode, rng=rng, publish=self._publish)
        self.snapshot = session.snapshot
        """How the session stood after its thread's latest turn; any thread may read it."""
        self._takes = Takes(self._sender, clock.now, self._publish) if osc else None
        self._session_thread = SessionThread(
            *(session, clock, self.inbox, self.journal, self._show, self._report, self.fail, self._on_heard)
        )
        hears, passed_on = self.stats.on_received, self._sender.push
        self._poller = Poller(source, clock, self.inbox, self._echoes, passed_on, self._passes_on, hears, self.fail)
        self._port_monitor = PortMonitor([source, target], self._on_port, self.fail)
        self._clips = self._clip_writer(clip, clip_track)
        self._shelf = Shelf(preset, self._ask, self._publish, self._report) if preset else None
        self.osc = self._osc_server(osc) if osc else None
        self._binds = binds
        self._saver = Saver(save, binds, self._report, self.fail) if save else None
        self._link = LinkFollower(clock, self.inbox, lambda: self.snapshot.settings, self.fail) if link else None

    def _osc_server(self, address: tuple[str, int]) -> OscServer:
        return OscServer(
            *(address, self._clock, self.inbox, self.fail, self._bulletin),
            status=self._status,
            stats=self.stats.numbers,
            record=self.record,
            clip=self._clips.ask,
            ports=self._ports,
            others=dict(item for desk in (self._shelf, self._takes) if desk for item in desk.answerers().items()),
        )

    def _ask(self, asked: Asked) -> None:
        self.inbox.put((self._clock.now(), asked))

    def _ports(self) -> list[tuple[str, str, int]]:
        sides = (("in", self.source), ("out", self.target))
        return [(side, port.name, int(self._port_monitor.is_there(port))) for side, port in sides]

    def _clip_writer(self, target: str, track: str) -> ClipWriter:
        return ClipWriter(
            target,
            track,
            lines=lambda: self.snapshot.settings.lines,
            now=self._clock.now,
            lookahead_s=lambda: self.snapshot.settings.lookahead_s,
            notice=self._notice,
            on_error=self._report,
            on_failure=self.fail,
            on_answer=self._takes.add if self._takes else lambda answered: None,
        )

    def _passes_on(self, message: Message) -> bool:
        return self.snapshot.passes_on(message)

    def __enter__(self) -> Bridge:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to listen."""
        for bind in self._binds:
            self.inbox.put((self._clock.now(), bind))
        workers = (
            *(self._sender, self._session_thread, self._poller, self._port_monitor),
            *(self.osc, self._link, self._saver, self._clips),
        )
        for worker in filter(None, workers):
            worker.start()

    def stop(self) -> None:
        """End: hear no more, write no more, silence the output, give the ports back."""
        workers = (self._port_monitor, self._poller, self.osc, self._link, self._session_thread, self._saver)
        for worker in filter(None, workers):
            worker.stop()
        self._sender.finish()
        self._clips.stop()
        self.source.close()
        self.target.close()
        if self.journal:
            if self.journal.is_taking:
                self.journal.end_take()
            self.journal.close()

    def record(self, wanted: bool | None) -> None:
        """Begin a take, or end and write it; None does the other than what was done last.

        Raises:
            ConfigError: there is no journal, and so no folder.
            MidiFileError: the take cannot be written.
        """
        if self.journal is None:
            raise ConfigError("there is no folder to record into; start with --record DIR")
        if self.journal.is_taking is wanted:
            return
        if self.journal.is_taking:
            self._publish("record", 0, str(self.journal.end_take()))
        else:
            self.journal.begin_take()
            self._publish("record", 1)

    @property
    def osc_name(self) -> str:
        """Where OSC is listened to, for people."""
        return f"OSC {address_text(self.osc.address)}" if self.osc else "no OSC"

    def fail(self, worker: str, error: Exception) -> None:
        """End the bridge because ``worker`` cannot go on."""
        self.failure = self.failure or error
        self.ended.set()

    def _show(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot

    def _on_heard(self, at_s: float, message: Message | Command) -> None:
        self._bulletin.heard(at_s, message)
        if self._takes:
            self._takes.heard(message)

    def _on_sent(self, sent: Sent) -> None:
        self._echoes.sent(sent)
        self.stats.on_sent(sent)
        if self.journal:
            self.journal.sent(sent)
        self._clips.tell(sent)
        if self.osc and sent.owner is not Owner.PLAYER:
            match sent.event:
                case NoteOn(pitch=pitch, velocity=velocity):
                    self.osc.publish("note", pitch, velocity, self._bulletin.ms(sent.due_s))
                case NoteOff(pitch=pitch):
                    self.osc.publish("note", pitch, 0, self._bulletin.ms(sent.due_s))

    def _on_port(self, port: InputPort | OutputPort, is_there: bool) -> None:
        self._publish("port", "in" if port is self.source else "out", port.name, int(is_there))
        if is_there:
            self._notice(f"{port.name} is back")
        else:
            self.inbox.put((self._clock.now(), Stop()))
            self._report(PortError(f"{port.name} is gone; the bridge plays on when it is back"))

    def _answer_begins(self, place: Place) -> None:
        if self.journal:
            self.journal.answer(place)
        if self._takes:
            self._takes.end()
        self._clips.tell(place)

    def _publish(self, topic: str, *values: Value) -> None:
        if topic == "answer":
            self._answer_begins(Place(*map(float, values)))
            return
        if topic == "state" and values != ("answering",):
            self._clips.tell(self._clock.now())
        if topic == "state":
            self._notice(*map(str, values))
        if topic == "learnt" and self._saver:
            name, controller, channel = values
            self._saver.learnt(Bind(str(name), int(controller), int(channel)))
        if self.osc:
            self.osc.publish(topic, *values)

    def _report(self, error: MuseBridgeError) -> None:
        self._notice(str(error))
        self._publish("error", str(error))

    def _status(self, snapshot: Snapshot) -> dict[str, Value]:
        return {**snapshot.values(), "record": int(self.journal is not None and self.journal.is_taking)}
