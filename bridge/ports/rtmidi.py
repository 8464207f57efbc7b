"""Real MIDI ports through RtMidi: JACK and ALSA, Core MIDI, Windows MM."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from musebridge.bridge.core.scheduler import NoteLedger, silence
from musebridge.bridge.ports import backends
from musebridge.bridge.ports.backends import CLIENT
from musebridge.bridge.ports.jack_watch import LONGEST_PERIOD_S
from musebridge.bridge.ports.midi_library import Client, InputClient, OutputClient
from musebridge.errors import PortError
from musebridge.events import SUSTAIN, Control, Message

C = TypeVar("C", bound=Client)
VIRTUAL = "virtual"
WINDOWS_HINT = (
    "Windows has no virtual ports of its own: create one with loopMIDI or Windows MIDI Services, "
    "then start with --port and its name"
)


class MidiSystem:
    """A MIDI system that answers, and the ports that are opened in it.

    Args:
        backend: the MIDI system and the library that speaks to it, see :func:`backends.parse_backend`;
            ``auto`` for the first system that answers.

    Raises:
        PortError: there is none.
    """

    def __init__(self, backend: str = "auto") -> None:
        self.library, self.backend, self.monitor = backends.connect(backend)
        self._open: list[_Port[Any]] = []

    def input(self, name: str) -> RtMidiInput:
        """Open ``MuseBridge:in`` for ``virtual``, else the first input whose name contains ``name``.

        Raises:
            PortError: no such port, or it is in use.
        """
        return RtMidiInput(self, name)

    def output(self, name: str) -> RtMidiOutput:
        """Open ``MuseBridge:out`` for ``virtual``, else the first output whose name contains ``name``.

        Raises:
            PortError: no such port, or it is in use.
        """
        return RtMidiOutput(self, name)

    def pair(self, in_name: str, out_name: str) -> tuple[RtMidiInput, RtMidiOutput]:
        """Open an input and an output, or neither.

        Raises:
            PortError: no such port, or it is in use.
        """
        source = self.input(in_name)
        try:
            return source, self.output(out_name)
        except PortError:
            source.close()
            raise

    def loop(self) -> tuple[RtMidiInput, RtMidiOutput, RtMidiOutput]:
        """Open a virtual pair, and an output that plays into its input.

        Raises:
            PortError: the system has no virtual ports.
        """
        others = set(self.list_ports().outputs)
        source, target = self.pair(VIRTUAL, VIRTUAL)
        # Another bridge may be running: ours is the port that was not there before.
        ours = next((name for name in self.list_ports().outputs if name not in others), source.name)
        return source, target, self.output(ours)

    def list_ports(self) -> PortList:
        """Return the ports that other programs offer."""
        clients: list[Client] = [self.client(self.library.input), self.client(self.library.output)]
        inputs, outputs = (tuple(client.get_ports()) for client in clients)
        for client in clients:
            backends.close(client)
        return PortList(self.backend, str(self.library), inputs, outputs)

    def client(self, make: Callable[[Any, str], C]) -> C:
        """Return a new client, which the system may call by another name than ours.

        Args:
            make: the library's ``input`` or ``output``.

        Raises:
            PortError: the system does not answer.
        """
        return backends.client(make, self.library, self.backend)

    def took(self, port: _Port[Any]) -> None:
        """Take down that a port was opened."""
        self._open.append(port)

    def gave(self, port: _Port[Any]) -> None:
        """Take down that a port was closed; with the last one the system is left alone."""
        if port in self._open:
            self._open.remove(port)
        if not self._open:
            self.close()

    def close(self) -> None:
        """Leave the system alone; ports that are open stay so."""
        self.monitor.close()

    def revive(self) -> None:
        """If the system died, connect anew, and open the ports in their old order, which makes their names.

        Virtual ports, which others know by these names, come back together or not at all. All that is left of the
        old system goes first: libjack frees it when a new client is opened, and what is closed after that is closed
        twice.

        Raises:
            PortError: it does not answer yet.
        """
        if not self.monitor.dead:
            return
        dead = self.monitor
        for port in self._open:
            port.drop()
        dead.close()
        *_, self.monitor = backends.connect(f"{self.library.name}/{self.backend}")
        for port in self._open:
            try:
                port.reopen()
            except PortError:
                if port.is_virtual:
                    self.monitor.close()
                    self.monitor = dead
                    raise
                # a named one may come later


class _Port(ABC, Generic[C]):
    """What inputs and outputs share: they know whether they are there, and come back."""

    _own_name: str

    def __init__(self, system: MidiSystem, wanted: str) -> None:
        self._system, self._wanted, self.name = system, wanted, wanted
        self._lock = threading.Lock()
        self._client: C | None = None
        self._own = ""
        self._peers: set[str] = set()
        self._lost = False
        system.took(self)
        try:
            self.reopen()
        except PortError:
            self.drop()
            system.gave(self)
            raise

    @property
    def is_virtual(self) -> bool:
        """Whether the port is one of our own making, not another program's."""
        return self._wanted == VIRTUAL

    def reconnect(self) -> bool:
        """Look whether the port is there, and if it was not, open it again; return whether it is there."""
        self._lost = not (self._came_back() if self._lost else self._is_there())
        return not self._lost

    def reopen(self) -> None:
        """Open the port, by its name, in the client that there is, or in a new one.

        Raises:
            PortError: no such port, it is in use, or the system does not answer.
        """
        client = self._client = self._client or self._new_client()
        client.close_port()
        others = self._system.monitor.ports(CLIENT)
        if self.is_virtual:
            self._open_virtual(client)
        else:
            self.name = self._open_existing(client)
        self._own = next(iter(self._system.monitor.ports(CLIENT) - others), f"{CLIENT}:{self._own_name}")
        if self.is_virtual:
            self.name = self._own

    def drop(self) -> None:
        """Give up the client, which nobody then uses."""
        with self._lock:
            client, self._client = self._client, None
        self._lost = True
        if client is not None:
            backends.close(client)

    def close(self) -> None:
        """Close the port and its client."""
        self.drop()
        self._system.gave(self)

    def _is_there(self) -> bool:
        if self._client is None or not self._system.monitor.runs():
            return False
        return self.is_virtual or self.name in self._client.get_ports()

    def _came_back(self) -> bool:
        try:
            self._system.revive()
            if not self._system.monitor.runs():
                return False
            if self._client is None or not self.is_virtual:
                self.reopen()
        except PortError:
            return False
        return True

    @abstractmethod
    def _new_client(self) -> C:
        """Return a client of this port's direction."""

    def _open_virtual(self, client: C) -> None:
        if self._system.backend == "winmm":
            raise PortError(WINDOWS_HINT)
        try:
            client.open_virtual_port(self._own_name)
        except Exception as error:  # the libraries' own error types share no base but this
            raise PortError(f"{CLIENT}:{self._own_name}: cannot be opened ({error})") from error

    def _open_existing(self, client: C) -> str:
        names: list[str] = client.get_ports()
        wanted = self._wanted.lower()
        index = next((i for i, full_name in enumerate(names) if wanted in full_name.lower()), None)
        if index is None:
            found = ", ".join(names) or "none"
            raise PortError(f"no MIDI port matches {self._wanted!r}; found {found}; see 'musebridge ports'")
        try:
            client.open_port(index, self._own_name)
        except Exception as error:  # the libraries' own error types share no base but this
            raise PortError(f"{names[index]}: cannot be opened ({error}); is another program using it?") from error
        return names[index]

    def _connected(self) -> set[str] | None:
        """Return who is at the other end: nobody while the port is lost, None if that is not known."""
        return set() if self._lost else self._system.monitor.peers(self._own)


class RtMidiInput(_Port[InputClient]):
    """An input that is polled; see ``loop`` for why.

    Nobody else can lift the keys of a player who vanished, with a port, a wire
    or the whole MIDI system: then the input says that they were lifted.
    """

    _own_name = "in"

    def __init__(self, system: MidiSystem, wanted: str) -> None:
        self._keys, self._pedals = NoteLedger(), set[int]()
        self._deserted = False
        super().__init__(system, wanted)

    def poll(self) -> Sequence[Message]:
        """Return the events that came since the last call."""
        events = self._received()
        if self._deserted:
            self._deserted = False
            events += self._keys.releases()
            events += [Control(controller=SUSTAIN, value=0, channel=channel) for channel in self._pedals]
            self._note(events)
        return events

    def reconnect(self) -> bool:
        """Look whether the port and its player are there; return whether the port is."""
        is_there, peers = super().reconnect(), self._connected()
        if peers is not None:
            self._deserted |= not peers or bool(self._peers - peers)
            self._peers = peers
        return is_there

    def _received(self) -> list[Message]:
        events = []
        with self._lock:
            while self._client is not None and (received := self._client.get_message()) is not None:
                event = backends.decode(received[0])
                if event is not None:
                    events.append(event)
        self._note(events)
        return events

    def _note(self, events: Sequence[Message]) -> None:
        for event in events:
            self._keys.note(event)
            if isinstance(event, Control) and event.controller == SUSTAIN:
                (self._pedals.add if event.value >= 64 else self._pedals.discard)(event.channel)

    def _new_client(self) -> InputClient:
        client = self._system.client(self._system.library.input)
        client.ignore_types(sysex=True, timing=False, active_sense=True)
        return client


class RtMidiOutput(_Port[OutputClient]):
    """An output; ``send`` returns at once.

    Whoever listens again after a loss first hears what silences notes.
    """

    _own_name = "out"

    def __init__(self, system: MidiSystem, wanted: str) -> None:
        self._owes_silence = False
        super().__init__(system, wanted)

    def _new_client(self) -> OutputClient:
        return self._system.client(self._system.library.output)

    def send(self, message: Message) -> None:
        """Send one event now.

        Raises:
            PortError: the port is gone.
        """
        with self._lock:
            if self._client is None or self._lost or self._system.monitor.dead:
                raise PortError(f"{self.name} is gone")
            try:
                self._client.send_message(backends.encode(message))
            except Exception as error:
                self._lost = True
                raise PortError(f"{self.name}: cannot send: {error}") from error

    def reconnect(self) -> bool:
        """Look whether the port and its listeners are there; return whether the port is."""
        is_there, peers = super().reconnect(), self._connected()
        self._owes_silence |= not is_there or bool(self._peers - (peers or set()))
        self._peers = peers or set()
        if self._owes_silence and is_there and (peers is None or peers):
            self._owes_silence = False
            with suppress(PortError):
                for message in silence(range(16)):
                    self.send(message)
        return is_there

    def close(self) -> None:
        """Close the port and its client, once the MIDI system has taken what was sent.

        JACK takes it at its next period; what is closed before that is lost,
        and with it the last note-offs.
        """
        if self._client is not None and not self._system.monitor.dead:
            threading.Event().wait(LONGEST_PERIOD_S)
        super().close()


@dataclass(frozen=True, slots=True)
class PortList:
    """What a MIDI system offers: ports that can be read, ports that can be written."""

    backend: str
    library: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def list_ports(backend: str = "auto") -> PortList:
    """Return the ports that other programs offer.

    Raises:
        PortError: there is no MIDI system.
    """
    system = MidiSystem(backend)
    try:
        return system.list_ports()
    finally:
        system.close()


def open_pair(in_name: str, out_name: str, backend: str = "auto") -> tuple[RtMidiInput, RtMidiOutput]:
    """Open an input and an output, or neither; see :meth:`MidiSystem.input`.

    Raises:
        PortError: no MIDI system, no such port, or it is in use.
    """
    return MidiSystem(backend).pair(in_name, out_name)
