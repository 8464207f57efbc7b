"""OSC over UDP: datagrams into the session's inbox, and news to those who subscribed.

What can be said is in ``musebridge.bridge.core.osc_namespace``. What cannot be understood
is counted, and answered with ``/musebridge/error``.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from pythonosc.osc_message_builder import OscMessageBuilder

from musebridge import __version__
from musebridge.bridge.app.osc_parser import parse
from musebridge.bridge.app.threads import Inbox, Worker
from musebridge.bridge.core.commands import TellBeats
from musebridge.bridge.core.osc_namespace import HEARTBEAT_S, ROOT, SPECS, Query
from musebridge.bridge.core.settings import MODES, Value
from musebridge.bridge.ports.clock import Clock
from musebridge.errors import ConfigError, MuseBridgeError, PortError

SUBSCRIPTION_S = 60.0
_MOST_SUBSCRIBERS = 16
_MAX_DATAGRAM = 65_535
_WAIT_S = 0.02

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class _Subscription:
    sender: Address
    until_s: float


class OscServer(Worker):
    """Listens on a UDP port, puts what is asked for into the inbox, and tells subscribers the news.

    Args:
        address: host and port to listen on.
        clock: stamps what comes.
        inbox: of the session.
        status: returns every parameter, ``mode`` and ``state`` as they are now.
        stats: returns what ``/stats`` says.
        record: begins a take or ends it; None does what is not done yet.
        on_failure: called if the thread cannot go on.

    Raises:
        PortError: the address is taken or cannot be bound.
    """

    def __init__(
        self,
        address: Address,
        clock: Clock,
        inbox: Inbox,
        on_failure: Callable[[str, Exception], None],
        *,
        status: Callable[[], dict[str, Value]] = dict,
        stats: Callable[[], Sequence[float]] = tuple,
        record: Callable[[bool | None], None] = lambda wanted: None,
    ) -> None:
        super().__init__("osc", on_failure)
        self._clock, self._inbox, self._status, self._stats, self._record = clock, inbox, status, stats, record
        self.refused = 0
        self._news: SimpleQueue[tuple[str, tuple[Value, ...]]] = SimpleQueue()
        self._subscribers: dict[Address, _Subscription] = {}
        self._beats_wanted = False
        self._start_s = self._beat_s = clock.now()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.settimeout(_WAIT_S)
        try:
            self._socket.bind(address)
        except OSError as error:
            self._socket.close()
            host, port = address
            raise PortError(f"OSC {host}:{port}: {error.strerror}; choose another with --osc HOST:PORT") from error
        self.address: Address = self._socket.getsockname()

    def publish(self, topic: str, *values: Value) -> None:
        """Tell every subscriber; may be called from any thread."""
        if self._subscribers:
            self._news.put((topic, values))

    def turn(self) -> None:
        """Tell what is new, then take one datagram, or wait a moment for one."""
        now_s = self._clock.now()
        self._tell(now_s)
        try:
            datagram, sender = self._socket.recvfrom(_MAX_DATAGRAM)
        except TimeoutError:
            return
        except ConnectionError:  # Windows: an earlier reply found nobody
            return
        now_s = self._clock.now()
        try:
            for request in parse(datagram):
                if isinstance(request, Query):
                    self._answer(now_s, request, sender)
                else:
                    self._inbox.put((now_s, request))
        except MuseBridgeError as error:
            self.refused += 1
            self._send(self._ear_of(sender), "error", str(error))

    def stop(self) -> None:
        """End the thread and give the port back."""
        super().stop()
        self._socket.close()

    def _tell(self, now_s: float) -> None:
        self._subscribers = {where: who for where, who in self._subscribers.items() if who.until_s > now_s}
        if self._beats_wanted != bool(self._subscribers):
            self._beats_wanted = bool(self._subscribers)
            self._inbox.put((now_s, TellBeats(self._beats_wanted)))
        with suppress(Empty):
            while True:
                topic, values = self._news.get_nowait()
                self._send_all(topic, *values)
        if now_s - self._beat_s >= HEARTBEAT_S:
            self._beat_s = now_s
            self._send_all("heartbeat", now_s - self._start_s)
            self._send_all("stats", *self._stats())

    def _answer(self, now_s: float, query: Query, sender: Address) -> None:
        ear, status = self._ear_of(sender), self._status()
        match query:
            case Query("get", str(name)):
                self._send(ear, f"param/{name}", status[name])
            case Query("refresh"):
                for name, value in status.items():
                    self._send(ear, f"param/{name}" if name in SPECS else name, value)
            case Query("capabilities"):
                self._send(ear, "capabilities", __version__, *MODES)
            case Query("record", bool() | None as wanted):
                self._record(wanted)
            case Query("subscribe", port):
                self._subscribe(now_s, sender, (sender[0], int(port or sender[1])))
            case Query("unsubscribe", port):
                self._subscribers.pop((sender[0], int(port or sender[1])), None)

    def _subscribe(self, now_s: float, sender: Address, where: Address) -> None:
        if where not in self._subscribers and len(self._subscribers) >= _MOST_SUBSCRIBERS:
            raise ConfigError(f"{_MOST_SUBSCRIBERS} have subscribed, which is the most; unsubscribe one of them")
        self._subscribers[where] = _Subscription(sender, now_s + SUBSCRIPTION_S)

    def _ear_of(self, sender: Address) -> Address:
        """Return where a sender listens: the port that it subscribed with, or the one that it sends from."""
        return next((where for where, who in self._subscribers.items() if who.sender == sender), sender)

    def _send_all(self, topic: str, *values: Value) -> None:
        for who in self._subscribers:
            self._send(who, topic, *values)

    def _send(self, who: Address, topic: str, *values: Value) -> None:
        builder = OscMessageBuilder(f"{ROOT}/{topic}")
        for value in values:
            builder.add_arg(value)
        with suppress(OSError):  # nobody may be there to be told
            self._socket.sendto(builder.build().dgram, who)
