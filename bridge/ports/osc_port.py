"""A port of notes by OSC over UDP: no MIDI system, one peer at a time; ``docs/osc.md`` has the wire."""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from secrets import randbits
from typing import Any

from musebridge.bridge.core.scheduler import NoteLedger
from musebridge.bridge.ports import backends
from musebridge.bridge.ports.base import At
from musebridge.bridge.ports.clock import Clock, MonotonicClock
from musebridge.bridge.ports.osc_peer import Peer, PeerClock
from musebridge.bridge.ports.osc_wire import ROUND_S, ROUND_SEQ, VERSION, Bye, Hello, key_number, read, write
from musebridge.errors import ConfigError, PortError
from musebridge.events import ALL_SOUND_OFF, Control, Message, NoteOff, NoteOn

DEFAULT = ("127.0.0.1", 9124)
HELLO_S = 0.03
LOST_S = 0.5
_WAIT_S = 0.02
_MOST_WAITING = 4096
_RECEIVE_BUFFER = 2**20


class OscLine:
    """The socket between the bridge and its peer, its thread, and the clock that follows the peer's.

    Args:
        address: host and port to listen on; a host with a colon is IPv6.

    Raises:
        PortError: the address is taken or cannot be bound.
    """

    def __init__(self, address: tuple[str, int] = DEFAULT, clock: Clock | None = None) -> None:
        self._socket = _bound(address)
        host, port = self.address = self._socket.getsockname()[:2]
        self.name = f"OSC notes [{host}]:{port}" if ":" in host else f"OSC notes {host}:{port}"
        self.clock = PeerClock(clock or MonotonicClock())
        self.refused = 0
        """Datagrams that were nothing of the wire."""
        self.is_lost = False
        """Whether a peer was there and is not any more."""
        self.peer = Peer(self.clock)
        self._sender: Any = None  # the peer's address
        self._heard_s = self._hello_s = self.clock.now()
        self._came: deque[At] = deque()
        self._run = randbits(23)
        self._sending = threading.Lock()
        self._seq = 0
        self._ledger = NoteLedger()
        self._due_s: dict[tuple[int, int], float] = {}  # of what was sent last for each key
        self._latest_s = 0.0  # of all that was sent
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="notes", daemon=True)
        self._thread.start()

    def poll(self) -> Sequence[At]:
        """Return what came since the last call, with its moments."""
        return [self._came.popleft() for _ in range(len(self._came))]

    def send(self, message: Message, due_s: float) -> None:
        """Send one message with its moment; where nobody is there, nobody hears it.

        Raises:
            PortError: the socket is gone.
        """
        with self._sending:
            due_s = self._in_order_s(message, due_s)
            self._ledger.note(message)
            clock_s, self._seq = self.peer.clock_s(due_s), (self._seq + 1) % ROUND_SEQ
            clock_ms = -1.0 if clock_s is None else clock_s % ROUND_S * 1000
            wait_ms = max(0.0, due_s - self.clock.now()) * 1000
            self._tell(write("midi", self._seq, clock_ms, wait_ms, *backends.encode(message)))

    def close(self) -> None:
        """Take leave of the peer, and give the port back."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._thread.join(timeout=5)
        self._tell(write("bye"))
        self._socket.close()

    def _in_order_s(self, message: Message, due_s: float) -> float:
        """Return when a message is to be heard: not before what was sent ahead and it is to end."""
        match message:
            case NoteOn(pitch=pitch, channel=channel) | NoteOff(pitch=pitch, channel=channel):
                due_s = max(due_s, self._due_s.get((channel, pitch), due_s))
                self._due_s[channel, pitch] = due_s
            case Control(controller=controller) if controller >= ALL_SOUND_OFF:
                due_s = max(due_s, self._latest_s)
        self._latest_s = max(self._latest_s, due_s)
        return due_s

    def _listen(self) -> None:
        while not self._stopping.is_set():
            with suppress(TimeoutError, ConnectionError):  # Windows: an earlier message found nobody
                self._take(*self._socket.recvfrom(65_535))
            now_s = self.clock.now()
            if self._sender and now_s - self._heard_s > LOST_S:
                self._lose()
            if self._sender and now_s - self._hello_s > HELLO_S:
                self._hello_s = now_s
                self._greet()

    def _take(self, datagram: bytes, sender: Any) -> None:
        said = read(datagram)
        if said is None or (self._sender is None and not isinstance(said, Hello)):
            self.refused += 1
            return
        if self._sender not in (None, sender):
            with suppress(OSError):
                self._socket.sendto(write("busy"), sender)
            return
        is_first = self._sender is None
        self._sender, self._heard_s, self.is_lost = sender, self.clock.now(), False
        came = self.peer.hear(said)
        if len(self._came) < _MOST_WAITING:
            self._came += came
        if isinstance(said, Bye):
            self._sender, self.is_lost = None, True
        elif is_first:
            self._hello_s = self._heard_s
            self._greet()

    def _lose(self) -> None:
        self._came += self.peer.lost()
        self._sender, self.is_lost = None, True

    def _greet(self) -> None:
        with self._sending:
            keys = [key_number((off.channel, off.pitch)) for off in self._ledger.releases()]
            self._tell(write("hello", VERSION, self._run))
            self._tell(write("held", self._seq, *keys))

    def _tell(self, datagram: bytes) -> None:
        if sender := self._sender:
            with suppress(OSError):  # nobody may be there to be told
                self._socket.sendto(datagram, sender)


class OscInput:
    """What the peer plays."""

    def __init__(self, line: OscLine) -> None:
        self._line, self.name = line, line.name

    def poll(self) -> Sequence[At]:
        """Return what came since the last call; a peer who is lost has lifted its keys and pedals."""
        return self._line.poll()

    def reconnect(self) -> bool:
        """Return whether the peer is there, or none ever was: it comes by itself."""
        return not self._line.is_lost

    def close(self) -> None:
        """Give the port back."""
        self._line.close()


class OscOutput:
    """What the peer hears."""

    def __init__(self, line: OscLine) -> None:
        self._line, self.name = line, line.name

    @property
    def ahead_s(self) -> float:
        """How long before its moment the peer wants an event."""
        return self._line.peer.ahead_s

    def send(self, message: Message) -> None:
        """Send one event that is due now."""
        self.send_ahead(message, self._line.clock.now())

    def send_ahead(self, message: Message, due_s: float) -> None:
        """Send one event with its moment."""
        self._line.send(message, due_s)

    def reconnect(self) -> bool:
        """Return whether the peer is there, or none ever was: it comes by itself."""
        return not self._line.is_lost

    def close(self) -> None:
        """Give the port back."""
        self._line.close()


def address_of(name: str) -> tuple[str, int] | None:
    """Return the host and port that ``osc`` or ``osc:HOST:PORT`` names, or None for a port of another kind.

    Raises:
        ConfigError: it begins so, and names none.
    """
    if name == "osc":
        return DEFAULT
    if not name.startswith("osc:"):
        return None
    host, _, port = name.removeprefix("osc:").rpartition(":")
    if not (port.isdecimal() and int(port) < 2**16):
        raise ConfigError(f"a port of notes by OSC is osc, osc:PORT or osc:HOST:PORT, found {name!r}")
    return host.strip("[]") or DEFAULT[0], int(port)


def _bound(address: tuple[str, int]) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise PortError(
            f"OSC notes {address[0]}:{address[1]}: {error.strerror}; choose another with --port osc:HOST:PORT"
        ) from error
    bound.settimeout(_WAIT_S)
    return bound
