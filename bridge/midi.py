"""Real MIDI ports through python-rtmidi: JACK and ALSA, Core MIDI, Windows MM."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import mido
import rtmidi

from musebridge import midifile
from musebridge.errors import PortError
from musebridge.events import Message

CLIENT = "MuseBridge"
VIRTUAL = "virtual"
_BACKENDS = {
    "jack": rtmidi.API_UNIX_JACK,
    "alsa": rtmidi.API_LINUX_ALSA,
    "coremidi": rtmidi.API_MACOSX_CORE,
    "winmm": rtmidi.API_WINDOWS_MM,
}
_DRAIN_S = 0.25
"""Longer than any period in use: 8,192 frames at 44.1 kHz are 0.19 s."""
_WINDOWS_HINT = (
    "Windows has no virtual ports of its own: create one with loopMIDI or Windows MIDI Services, "
    "then start with --port and its name"
)


class RtMidiInput:
    """An input that is polled; see ``loop`` for why."""

    def __init__(self, port: rtmidi.MidiIn, name: str) -> None:
        self._port, self.name = port, name

    def poll(self) -> Sequence[Message]:
        """Return the events that came since the last call."""
        events = []
        while (received := self._port.get_message()) is not None:
            event = _decode(received[0])
            if event is not None:
                events.append(event)
        return events

    def close(self) -> None:
        """Close the port and its client."""
        _close(self._port)


class RtMidiOutput:
    """An output; ``send`` returns at once."""

    def __init__(self, port: rtmidi.MidiOut, name: str) -> None:
        self._port, self.name = port, name
        self._closed = False

    def send(self, message: Message) -> None:
        """Send one event now.

        Raises:
            PortError: the MIDI system refused it.
        """
        try:
            self._port.send_message(midifile.to_message(message).bytes())
        except Exception as error:
            raise PortError(f"{self.name}: cannot send: {error}; is the MIDI system still there?") from error

    def close(self) -> None:
        """Close the port and its client, once the MIDI system has taken what was sent.

        JACK takes it at its next period; what is closed before that is lost,
        and with it the last note-offs.
        """
        if not self._closed:
            self._closed = True
            threading.Event().wait(_DRAIN_S)
            _close(self._port)


@dataclass(frozen=True, slots=True)
class PortList:
    """What a MIDI system offers: ports that can be read, ports that can be written."""

    backend: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def list_ports(backend: str = "auto") -> PortList:
    """Return the ports that other programs offer.

    Raises:
        PortError: there is no MIDI system.
    """
    probe_in, found = _client(rtmidi.MidiIn, backend)
    probe_out, _ = _client(rtmidi.MidiOut, found)
    try:
        return PortList(found, tuple(probe_in.get_ports()), tuple(probe_out.get_ports()))
    finally:
        _close(probe_in)
        _close(probe_out)


def open_input(name: str, backend: str = "auto") -> RtMidiInput:
    """Open ``MuseBridge:in`` for ``virtual``, else the first input whose name contains ``name``.

    Raises:
        PortError: no MIDI system, no such port, or it is in use.
    """
    port, full_name = _open(rtmidi.MidiIn, "in", name, backend)
    port.ignore_types(sysex=True, timing=False, active_sense=True)
    return RtMidiInput(port, full_name)


def open_output(name: str, backend: str = "auto") -> RtMidiOutput:
    """Open ``MuseBridge:out`` for ``virtual``, else the first output whose name contains ``name``.

    Raises:
        PortError: no MIDI system, no such port, or it is in use.
    """
    port, full_name = _open(rtmidi.MidiOut, "out", name, backend)
    return RtMidiOutput(port, full_name)


def open_pair(in_name: str, out_name: str, backend: str = "auto") -> tuple[RtMidiInput, RtMidiOutput]:
    """Open an input and an output, or neither.

    Raises:
        PortError: no MIDI system, no such port, or it is in use.
    """
    source = open_input(in_name, backend)
    try:
        return source, open_output(out_name, backend)
    except PortError:
        source.close()
        raise


def _open(kind: type, own_name: str, name: str, backend: str) -> tuple[rtmidi.MidiIn | rtmidi.MidiOut, str]:
    port, _ = _client(kind, backend)
    try:
        if name == VIRTUAL:
            return port, _open_virtual(port, own_name)
        return port, _open_existing(port, own_name, name)
    except PortError:
        _close(port)
        raise


def _open_virtual(port: rtmidi.MidiIn | rtmidi.MidiOut, own_name: str) -> str:
    if port.get_current_api() == rtmidi.API_WINDOWS_MM:
        raise PortError(_WINDOWS_HINT)
    port.open_virtual_port(own_name)
    return f"{CLIENT}:{own_name}"


def _open_existing(port: rtmidi.MidiIn | rtmidi.MidiOut, own_name: str, name: str) -> str:
    names: list[str] = port.get_ports()
    index = next((i for i, full_name in enumerate(names) if name.lower() in full_name.lower()), None)
    if index is None:
        raise PortError(f"no MIDI port matches {name!r}; found {', '.join(names) or 'none'}; see 'musebridge ports'")
    try:
        port.open_port(index, own_name)
    except Exception as error:  # rtmidi's own error types share no base but this
        raise PortError(f"{names[index]}: cannot be opened ({error}); is another program using it?") from error
    return names[index]


def _client(kind: type, backend: str) -> tuple[rtmidi.MidiIn | rtmidi.MidiOut, str]:
    """Return a client of the first MIDI system that answers, and that system's name."""
    # A bridge never starts a JACK server behind its user's back.
    os.environ.setdefault("JACK_NO_START_SERVER", "1")
    compiled = rtmidi.get_compiled_api()
    failures = []
    for name, api in _BACKENDS.items():
        if backend not in ("auto", name) or api not in compiled:
            continue
        try:
            with _native_chatter_muted():
                return kind(api, name=CLIENT), name
        except Exception as error:  # noqa: BLE001  # rtmidi's own error types share no base but this
            failures.append(f"{name}: {str(error).rstrip('.')}")
    tried = "; ".join(failures) or f"{backend} is not available on this computer"
    raise PortError(f"no MIDI system answers ({tried}); start one (JACK: jackd), or use --port memory")


@contextmanager
def _native_chatter_muted() -> Iterator[None]:
    """Hide what libjack and libasound print when they find no server; the exception says it."""
    saved, sink = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(sink)


def _close(port: rtmidi.MidiIn | rtmidi.MidiOut) -> None:
    port.close_port()
    port.delete()  # without it a JACK server takes seconds to stop


def _decode(data: list[int]) -> Message | None:
    try:
        return midifile.from_message(mido.Message.from_bytes(data))
    except (ValueError, IndexError):  # the latter for a pitch bend that is cut off
        return None  # a device sent nonsense; playing goes on
