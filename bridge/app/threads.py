"""The threads, and the only waiting.

Three threads share nothing but two queues, and what the session's publishes: an immutable
:class:`~musebridge.bridge.core.snapshot.Snapshot`. A fourth looks after the ports::

    Poller         input port → inbox           (polls: rtmidi's callback loses events when the GIL is busy)
    SessionThread  inbox → session → sender     (encodes, prefills, samples)
    Sender         scheduler → output port      (the only one that sends)
    PortMonitor    ports                        (waits for their return when they are lost)
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from musebridge.bridge.app.journal import Journal
from musebridge.bridge.core.commands import Command
from musebridge.bridge.core.echo import EchoFilter
from musebridge.bridge.core.osc_namespace import Query, Request
from musebridge.bridge.core.scheduler import Owner, Scheduled, Scheduler, Sent
from musebridge.bridge.core.session import Session
from musebridge.bridge.core.snapshot import Snapshot
from musebridge.bridge.ports.base import AheadPort, At, InputPort, OutputPort
from musebridge.bridge.ports.clock import Clock
from musebridge.errors import ConfigError, MuseBridgeError, PortError
from musebridge.events import Message, NoteOff

POLL_S = 0.0005
KEEP_S = 0.5
SPIN_S = 0.00015
"""A sleeping thread wakes some 0.1 ms late: the sender wakes this early, and asks the clock until the moment comes."""
STALL_S = 0.25
"""A strike that is later than this is left out: the computer stood still, and all that was due would come at once."""
_SWITCH_S = 0.0005
"""A thread that computes gives the interpreter to one that waits for it after this; Python's own 5 ms are heard."""
_IDLE_S = 0.1


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody asks for at once who wants to know what became of it.

    Attributes:
        requests: are done in order, with nothing in between. A query changes nothing: it waits for its turn.
        tell: called from the session's thread, with each request and how things stood behind it, or what was wrong.
    """

    requests: Sequence[Request]
    tell: Callable[[Outcomes], None]


Outcomes = Sequence[tuple[Request, Snapshot | MuseBridgeError]]
Inbox = SimpleQueue[tuple[float, Message | Command | Asked]]


class Worker(threading.Thread):
    """A thread with an end: it runs ``turn`` until stopped, and reports what ends it."""

    def __init__(self, name: str, on_failure: Callable[[str, Exception], None]) -> None:
        super().__init__(name=name, daemon=True)
        self._on_failure = on_failure
        self._stopping = threading.Event()

    def run(self) -> None:
        """Take turns until :meth:`stop`."""
        try:
            while not self._stopping.is_set():
                self.turn()
        except Exception as error:  # noqa: BLE001  # thread boundary: the bridge ends and releases all notes
            self._on_failure(self.name, error)

    def turn(self) -> None:
        """Do one piece of work, or wait for some."""
        raise NotImplementedError

    def stop(self) -> None:
        """End after the present turn, and wait for that."""
        self._stopping.set()
        if self.is_alive() and self is not threading.current_thread():
            self.join(timeout=5)


class Poller(Worker):
    """Reads the input port, stamps each message with its time, and passes on what is to be heard at once.

    Args:
        port: where the player is.
        clock: stamps.
        inbox: of the session.
        echoes: of the output, which are left out.
        pass_on: called with what goes to the output as well, if ``passes_on`` says so.
        on_received: called with everything that came.
        on_failure: called if the thread cannot go on.
    """

    def __init__(
        self,
        port: InputPort,
        clock: Clock,
        inbox: Inbox,
        echoes: EchoFilter,
        pass_on: Callable[[Scheduled], None],
        passes_on: Callable[[Message], bool],
        on_received: Callable[[float, Message], None],
        on_failure: Callable[[str, Exception], None],
    ) -> None:
        super().__init__("input", on_failure)
        self._port, self._clock, self._inbox, self._echoes = port, clock, inbox, echoes
        self._pass_on, self._passes_on, self._on_received = pass_on, passes_on, on_received

    def turn(self) -> None:
        """Move what has come into the inbox."""
        for came in self._port.poll():
            now_s, message = (came.moment_s, came.message) if isinstance(came, At) else (self._clock.now(), came)
            if isinstance(message, Command):
                self._inbox.put((now_s, message))
                continue
            if self._echoes.is_echo(now_s, message):
                continue
            if self._passes_on(message):
                self._pass_on(Scheduled(now_s, message, Owner.PLAYER))
            self._inbox.put((now_s, message))
            self._on_received(now_s, message)
        self._stopping.wait(POLL_S)


class Sender(Worker):
    """Sends each event of a scheduler when it is due, or as long before as the port asks; an :class:`Outbox`."""

    def __init__(
        self,
        port: OutputPort,
        clock: Clock,
        on_sent: Callable[[Sent], None],
        on_failure: Callable[[str, Exception], None],
    ) -> None:
        super().__init__("output", on_failure)
        self._port, self._clock, self._on_sent = port, clock, on_sent
        self._planner = port if isinstance(port, AheadPort) else None
        self._scheduler = Scheduler()
        self._changed = threading.Condition()

    def push(self, scheduled: Scheduled) -> None:
        """Take one event to send."""
        with self._changed:
            self._scheduler.push(scheduled)
            self._changed.notify()

    def push_all(self, events: Iterable[Scheduled]) -> None:
        """Take events to send, in one go."""
        with self._changed:
            for scheduled in events:
                self._scheduler.push(scheduled)
            self._changed.notify()

    def cancel(self, now_s: float, owner: Owner = Owner.MODEL) -> int:
        """Drop what an owner has that was not sent, release what sounds of it; return how many were dropped."""
        with self._changed:
            dropped = self._scheduler.cancel(now_s, owner)
            self._changed.notify()
            return dropped

    def withdraw(self) -> int:
        """Drop what the model had that was not sent; return how many."""
        with self._changed:
            return self._scheduler.withdraw()

    def release(self, scheduled: Scheduled) -> None:
        """Take a note-off of the model that nothing may withdraw."""
        with self._changed:
            self._scheduler.release(scheduled)
            self._changed.notify()

    def panic(self, now_s: float) -> None:
        """Silence every channel by every means MIDI has."""
        with self._changed:
            self._scheduler.panic(now_s)
            self._changed.notify()

    def run(self) -> None:
        """Take turns until :meth:`stop`, before other threads where that can be had."""
        sys.setswitchinterval(_SWITCH_S)
        _go_first()
        super().run()

    def turn(self) -> None:
        """Send what is due, or wait until something is."""
        with self._changed:
            now_s, next_s = self._clock.now(), self._scheduler.next_due()
            if next_s is not None and next_s < now_s - STALL_S:
                self._scheduler.drop_overdue(now_s - STALL_S)
            due = self._scheduler.pop_due(now_s + self._ahead_s())
            if not due:
                self._changed.wait(self._patience_s())
        for scheduled in due:
            self._send(scheduled)

    def finish(self) -> None:
        """Stop, then silence the output. Call it once, at the very end."""
        with self._changed:
            self._stopping.set()
            self._changed.notify()
        self.stop()
        for scheduled in self._scheduler.finish(self._clock.now()):
            self._send(scheduled)

    def _patience_s(self) -> float:
        next_s = self._scheduler.next_due()
        return (
            _IDLE_S if next_s is None else min(_IDLE_S, max(0.0, next_s - self._ahead_s() - SPIN_S - self._clock.now()))
        )

    def _ahead_s(self) -> float:
        return self._planner.ahead_s if self._planner else 0.0

    def _send(self, scheduled: Scheduled) -> None:
        try:
            if self._planner:
                self._planner.send_ahead(scheduled.event, scheduled.due_s)
            else:
                self._port.send(scheduled.event)
        except PortError:
            if not isinstance(scheduled.event, NoteOff):  # the end of a note is told all the same: it sounds no more
                return
        actual_s = max(scheduled.due_s, self._clock.now()) if self._planner else self._clock.now()
        self._on_sent(Sent(scheduled.due_s, actual_s, scheduled.event, scheduled.owner))


def _go_first() -> None:
    """Take realtime priority for this thread; Linux gives it to those who may, such as its audio group."""
    if sys.platform == "linux":
        with suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(os.sched_get_priority_min(os.SCHED_FIFO)))


class PortMonitor(Worker):
    """Looks after the ports, and opens again what was lost.

    Args:
        ports: to be there.
        on_change: called with a port that was lost, and with one that came back, and whether it is there.
        on_failure: called if the thread cannot go on.
    """

    def __init__(
        self,
        ports: Sequence[InputPort | OutputPort],
        on_change: Callable[[InputPort | OutputPort, bool], None],
        on_failure: Callable[[str, Exception], None],
    ) -> None:
        super().__init__("ports", on_failure)
        self._there = dict.fromkeys(ports, True)
        self._on_change = on_change

    def is_there(self, port: InputPort | OutputPort) -> bool:
        """Return whether a port was there when it was looked at last; any thread may ask."""
        return self._there[port]

    def turn(self) -> None:
        """Look once, then wait."""
        for port, was_there in self._there.items():
            is_there = self._there[port] = port.reconnect()
            if is_there != was_there:
                self._on_change(port, is_there)
        self._stopping.wait(KEEP_S)


class SessionThread(Worker):
    """Feeds the session from the inbox and lets it work in between.

    A failure of the engine ends the answer, not the bridge.

    Args:
        session: is called from this thread alone.
        clock: the present.
        inbox: what to receive.
        journal: of all that the session is told, or None.
        show: called after each turn with how the session stands, for other threads.
        on_error: called with what was wrong.
        on_failure: called if the thread cannot go on.
        on_heard: called with all that the session receives.
    """

    def __init__(
        self,
        session: Session,
        clock: Clock,
        inbox: Inbox,
        journal: Journal | None,
        show: Callable[[Snapshot], None],
        on_error: Callable[[MuseBridgeError], None],
        on_failure: Callable[[str, Exception], None],
        on_heard: Callable[[float, Message | Command], None] = lambda at_s, message: None,
    ) -> None:
        super().__init__("session", on_failure)
        self._session, self._clock, self._inbox, self._journal = session, clock, inbox, journal
        self._show, self._on_error, self._on_heard = show, on_error, on_heard

    def turn(self) -> None:
        """Take one message, or do one token's work, or wait for either."""
        match self._next():
            case None:
                self._work(self._clock.now())
            case at_s, Asked(requests=requests, tell=tell):
                tell([(request, self._answer(at_s, request)) for request in requests])
            case at_s, message:
                if error := self._receive(at_s, message):
                    self._on_error(error)
        self._show(self._session.snapshot)

    def _answer(self, at_s: float, request: Request) -> Snapshot | MuseBridgeError:
        error = None if isinstance(request, Query) else self._receive(at_s, request)
        return error or self._session.snapshot

    def _receive(self, at_s: float, message: Message | Command) -> MuseBridgeError | None:
        """Let the session receive a message; return what was wrong with it.

        A failure of the model is not the asker's mistake: it ends the answer, and everybody is told.
        """
        if self._journal:
            self._journal.heard(at_s, message)
        self._on_heard(at_s, message)
        try:
            self._session.receive(at_s, message)
        except ConfigError as error:
            return error
        except MuseBridgeError as error:
            self._abandon(self._clock.now())
            self._on_error(error)
        return None

    def _work(self, now_s: float) -> None:
        wake_s = self._session.wake_s()
        if wake_s is None or now_s < wake_s:
            return
        if self._journal:
            self._journal.worked(now_s)
        try:
            self._session.work(now_s)
        except MuseBridgeError as error:
            self._abandon(self._clock.now())
            self._on_error(error)

    def _abandon(self, now_s: float) -> None:
        if self._journal:
            self._journal.abandoned(now_s)
        self._session.abandon(now_s)

    def _next(self) -> tuple[float, Message | Command | Asked] | None:
        wake_s = self._session.wake_s()
        patience_s = _IDLE_S if wake_s is None else min(_IDLE_S, wake_s - self._clock.now())
        try:
            return self._inbox.get(timeout=patience_s) if patience_s > 0 else self._inbox.get_nowait()
        except Empty:
            return None
