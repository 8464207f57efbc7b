"""OSC over UDP: datagrams into the session's inbox, and answers and news out.

What can be said is in ``musebridge.bridge.core.osc_namespace``. Whatever is
asked for goes through the inbox, queries as well, so that a query sees what was
asked before it; what became of it comes back by a queue::

    datagram → parse → (kept until its time tag) → inbox → session → answers → datagrams

What cannot be understood or done is counted, and answered once for each
datagram with ``/musebridge/error``. Answers cannot feed on themselves: news and
errors that come in are not answered, nothing is sent to the bridge's own port,
and no address is sent much more than it asks for.
"""

from __future__ import annotations

import heapq
import selectors
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass
from functools import partial
from itertools import count
from queue import Empty, SimpleQueue
from typing import Any

from pythonosc.osc_message import OscMessage
from pythonosc.osc_message_builder import OscMessageBuilder

from musebridge import __version__
from musebridge.bridge.app.bulletin import Bulletin, News
from musebridge.bridge.app.osc_parser import delay_s, read
from musebridge.bridge.app.threads import Asked, Inbox, Outcomes, Worker
from musebridge.bridge.core.commands import SetMode, TellBeats
from musebridge.bridge.core.learn import by_name
from musebridge.bridge.core.osc_namespace import (
    ERRORS_PER_S,
    EXTRAS_PER_S,
    MOST_ERRORS,
    MOST_EXTRAS,
    SPECS,
    Query,
    Request,
)
from musebridge.bridge.core.osc_news import HEARTBEAT_S, ROOT, parameters
from musebridge.bridge.core.rate_limit import RateLimit
from musebridge.bridge.core.settings import MODES, Value
from musebridge.bridge.core.snapshot import Snapshot
from musebridge.bridge.ports.clock import Clock, unix_s
from musebridge.errors import ConfigError, MuseBridgeError, PortError

SUBSCRIPTION_S = 60.0
_MOST_SUBSCRIBERS = 16
_MOST_KEPT = 1024
"""Bundles that may wait for their time tags."""
_MAX_DATAGRAM = 65_535
_WAIT_S = 0.02

Address = tuple[str, int]
"""Host and port."""
Answerer = Callable[[Value | None, Snapshot], Sequence[News]]
SocketAddress = tuple[Any, ...]
"""As the socket has it: IPv6 adds two numbers to host and port."""


@dataclass(slots=True)
class _Subscription:
    """Who asked for news, until when, and whether news come back from there: from a mirror, or another bridge."""

    sender: SocketAddress
    until_s: float
    reflects: bool = False


class OscServer(Worker):
    """Listens on a UDP port, puts what is asked for into the inbox, answers, and tells subscribers the news.

    Args:
        address: host and port to listen on; a host with a colon is IPv6.
        clock: stamps what comes.
        inbox: of the session.
        on_failure: called if the thread cannot go on.
        bulletin: what is told in batches.
        status: returns every parameter, ``mode`` and ``state`` of a snapshot, and what else ``refresh`` says.
        stats: returns what ``/stats`` says.
        record: begins a take or ends it; None does what is not done yet.
        clip: writes the last answer as a clip to where it is told, or to the preset's place for None.
        others: of further queries, what answers one, given its argument and how things stand.
        ports: returns of each port whether it is ``in`` or ``out``, its name, and 1 if it is there.

    Raises:
        PortError: the address is taken or cannot be bound.
    """

    def __init__(
        self,
        address: Address,
        clock: Clock,
        inbox: Inbox,
        on_failure: Callable[[str, Exception], None],
        bulletin: Bulletin | None = None,
        *,
        status: Callable[[Snapshot], dict[str, Value]] = Snapshot.values,
        stats: Callable[[], Sequence[float]] = tuple,
        record: Callable[[bool | None], None] = lambda wanted: None,
        clip: Callable[[str | None], None] = lambda target: None,
        ports: Callable[[], Sequence[tuple[str, str, int]]] = tuple,
        others: Mapping[str, Answerer] | None = None,
    ) -> None:
        super().__init__("osc", on_failure)
        self._bulletin, self._ports = bulletin or Bulletin(clock.now()), ports
        self._clock, self._inbox, self._status, self._stats = clock, inbox, status, stats
        self._record, self._clip = record, clip
        self._others = others or {}
        self.refused = 0
        """Datagrams of which something was not understood or not done."""
        self._to_say: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._kept: list[tuple[float, int, Asked]] = []
        self._order = count()
        self._subscribers: dict[SocketAddress, _Subscription] = {}
        self._beats_wanted = False
        self._errors, self._extras = RateLimit(MOST_ERRORS, ERRORS_PER_S), RateLimit(MOST_EXTRAS, EXTRAS_PER_S)
        self._start_s = self._beat_s = clock.now()
        self._socket = _bound(address)
        self.address: Address = self._socket.getsockname()[:2]
        self._woken, self._waker = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        for each in (self._socket, self._woken, self._waker):
            each.setblocking(False)
        for each in (self._socket, self._woken):
            self._selector.register(each, selectors.EVENT_READ)

    def publish(self, topic: str, *values: Value) -> None:
        """Tell every subscriber; may be called from any thread."""
        self._to_say.put(partial(self._send_all, topic, *values))

    def turn(self) -> None:
        """Say what there is to say, ask for what is due, then take one datagram, or wait a moment for one."""
        now_s = self._clock.now()
        with suppress(Empty):
            while True:
                self._to_say.get_nowait()()
        self._look_after_subscribers(now_s)
        for batch in self._bulletin.batches(now_s):
            for topic, values in batch:  # each a datagram of its own: simple programs read no bundles
                self._send_all(topic, *values)
        self._let_go(now_s)
        for key, _ in self._selector.select(self._patience_s(now_s)):
            if key.fileobj is self._woken:
                self._woken.recv(4096)
            else:
                self._take()

    def stop(self) -> None:
        """End the thread and give the port back."""
        super().stop()
        self._selector.close()
        for each in (self._socket, self._woken, self._waker):
            each.close()

    # What comes in

    def _take(self) -> None:
        try:
            datagram, sender = self._socket.recvfrom(_MAX_DATAGRAM)
        except (BlockingIOError, ConnectionError):  # nothing after all; Windows: an earlier reply found nobody
            return
        if self._is_own(sender):
            return
        now_s, reading = self._clock.now(), read(datagram)
        if reading.has_news and sender in self._subscribers:
            self._subscribers[sender].reflects = True
        delays: dict[float, list[Request]] = {}
        at_unix_s = unix_s()
        for tag, request in reading.asked:
            if self._may_ask(sender, request):
                delays.setdefault(delay_s(tag, at_unix_s), []).append(request)
        if reading.errors:
            delays.setdefault(0.0, [])
        for wait_s, requests in delays.items():
            errors = reading.errors if wait_s == 0 else []
            self._ask(now_s, wait_s, Asked(requests, partial(self._hear_back, sender, errors)))

    def _may_ask(self, sender: SocketAddress, request: Request) -> bool:
        """Return whether a request is one, not what was told to a mirror or another bridge and comes back."""
        is_news_too = isinstance(request, SetMode) or (isinstance(request, Query) and request.what == "record")
        subscription = self._subscribers.get(sender)
        return not (is_news_too and subscription and subscription.reflects)

    def _ask(self, now_s: float, wait_s: float, asked: Asked) -> None:
        if wait_s == 0:
            self._inbox.put((now_s, asked))
        elif len(self._kept) < _MOST_KEPT:
            heapq.heappush(self._kept, (now_s + wait_s, next(self._order), asked))
        else:
            error = ConfigError(f"{_MOST_KEPT} bundles wait for their time tags, which is the most")
            asked.tell([(request, error) for request in asked.requests[:1]])

    def _let_go(self, now_s: float) -> None:
        """Ask for what was kept and is due."""
        while self._kept and self._kept[0][0] <= now_s:
            self._inbox.put((now_s, heapq.heappop(self._kept)[2]))

    def _patience_s(self, now_s: float) -> float:
        return min(_WAIT_S, max(0.0, self._kept[0][0] - now_s)) if self._kept else _WAIT_S

    def _hear_back(self, sender: SocketAddress, errors: Sequence[MuseBridgeError], outcomes: Outcomes) -> None:
        """Take what became of what was asked for; called from the session's thread."""
        if errors or any(isinstance(request, Query) or isinstance(done, Exception) for request, done in outcomes):
            self._to_say.put(partial(self._answer, sender, errors, outcomes))
            with suppress(OSError):  # it is awake
                self._waker.send(b"\0")

    # What goes out

    def _look_after_subscribers(self, now_s: float) -> None:
        self._subscribers = {where: who for where, who in self._subscribers.items() if who.until_s > now_s}
        if self._beats_wanted != bool(self._subscribers):
            self._beats_wanted = self._bulletin.is_wanted = bool(self._subscribers)
            self._inbox.put((now_s, TellBeats(self._beats_wanted)))
        if now_s - self._beat_s >= HEARTBEAT_S:
            self._beat_s = now_s
            self._send_all("heartbeat", now_s - self._start_s)
            self._send_all("time", self._bulletin.ms(now_s))
            self._send_all("stats", *self._stats())

    def _answer(self, sender: SocketAddress, errors: Sequence[MuseBridgeError], outcomes: Outcomes) -> None:
        """Answer one datagram: each query, and all that was wrong with it in one message."""
        now_s = self._clock.now()
        errors, answers = list(errors), list[News]()
        for request, done in outcomes:
            try:
                if isinstance(done, MuseBridgeError):
                    raise done
                if isinstance(request, Query):
                    answers += self._answers(now_s, request, done, sender)
            except MuseBridgeError as error:
                errors.append(error)
        for i, (topic, values) in enumerate(answers):
            if i == 0 or self._extras.allows(sender, now_s):
                self._send(self._ear_of(sender), topic, *values)
        if errors:
            self.refused += 1
            if self._errors.allows(sender, now_s):
                more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
                self._send(self._ear_of(sender), "error", f"{errors[0]!s:.1000}{more}")

    def _answers(self, now_s: float, query: Query, snapshot: Snapshot, sender: SocketAddress) -> list[News]:
        """Do what a query asks for; return what to answer."""
        match query:
            case Query("get", str(name)):
                return [(f"param/{name}", (self._status(snapshot)[name],))]
            case Query("refresh"):
                named = self._status(snapshot).items()
                told = [(f"param/{name}" if name in SPECS else name, (value,)) for name, value in named]
                return [*told, *(("learnt", astuple(bind)) for bind in by_name(snapshot.bound).values())]
            case Query("capabilities"):
                return [("capabilities", (__version__, *MODES))]
            case Query("parameters"):
                return [("parameter", row) for row in parameters()]
            case Query("ports"):
                return [("port", row) for row in self._ports()]
            case Query("record", bool() | None as wanted):
                self._record(wanted)
            case Query("clip", str() | None as target):
                self._clip(target)
            case Query(what, argument) if what in self._others:
                return list(self._others[what](argument, snapshot))
            case Query("subscribe", port):
                self._subscribe(now_s, sender, _at_port(sender, port))
            case Query("unsubscribe", port):
                self._subscribers.pop(_at_port(sender, port), None)
        return []

    def _subscribe(self, now_s: float, sender: SocketAddress, where: SocketAddress) -> None:
        if self._is_own(where):
            raise ConfigError(f"port {where[1]} is the bridge's own; subscribe with the port that you listen on")
        if where not in self._subscribers and len(self._subscribers) >= _MOST_SUBSCRIBERS:
            raise ConfigError(f"{_MOST_SUBSCRIBERS} have subscribed, which is the most; unsubscribe one of them")
        reflects = where in self._subscribers and self._subscribers[where].reflects
        self._subscribers[where] = _Subscription(sender, now_s + SUBSCRIPTION_S, reflects)

    def _is_own(self, where: SocketAddress) -> bool:
        """Return whether an address is this socket's, by whichever of the machine's names."""
        return bool(where[1] == self.address[1]) and _is_here(self._socket.family, where)

    def _ear_of(self, sender: SocketAddress) -> SocketAddress:
        """Return where a sender listens: the port that it subscribed with, or the one that it sends from."""
        return next((where for where, who in self._subscribers.items() if who.sender == sender), sender)

    def _send_all(self, topic: str, *values: Value) -> None:
        for who in self._subscribers:
            self._send(who, topic, *values)

    def _send(self, who: SocketAddress, topic: str, *values: Value) -> None:
        with suppress(OSError):  # nobody may be there to be told
            self._socket.sendto(_message(topic, values).dgram, who)


def _message(topic: str, values: Sequence[Value]) -> OscMessage:
    builder = OscMessageBuilder(f"{ROOT}/{topic}")
    for value in values:
        builder.add_arg(value)
    return builder.build()


def _bound(address: Address) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        bound.bind(address)
    except OSError as error:
        bound.close()
        where = address_text(address)
        raise PortError(f"OSC {where}: {error.strerror}; choose another with --osc HOST:PORT") from error
    return bound


def address_text(address: Address) -> str:
    """Return ``host:port``, with an IPv6 host in brackets."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _at_port(sender: SocketAddress, port: Value | None) -> SocketAddress:
    """Return the address of a sender's machine with another port, or its own."""
    return (sender[0], int(port or sender[1]), *sender[2:])


def _is_here(family: socket.AddressFamily, where: SocketAddress) -> bool:
    """Return whether an address is one of this machine: only those can be bound."""
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((where[0], 0, *where[2:]))
        except OSError:
            return False
    return True
