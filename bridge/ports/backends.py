"""MIDI systems as RtMidi knows them: which one answers, its clients, and messages in its form."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, TypeVar

import mido

from musebridge import wire
from musebridge.bridge.ports import midi_library
from musebridge.bridge.ports.jack_watch import NO_SERVER, JackWatch, ServerMonitor
from musebridge.bridge.ports.midi_library import Client, MidiLibrary
from musebridge.errors import PortError
from musebridge.events import Message

CLIENT = "MuseBridge"
SYSTEMS = ("jack", "alsa", "coremidi", "winmm")
C = TypeVar("C", bound=Client)
_ADVICE = {
    "jack": NO_SERVER,
    "alsa": "ALSA: its sequencer is not there; load it (sudo modprobe snd-seq)",
    "coremidi": "Core MIDI does not answer; log out and in again",
    "winmm": "Windows MIDI does not answer; restart the service 'Windows Audio'",
}


def parse_backend(backend: str) -> tuple[str | None, str]:
    """Return the library and the MIDI system that ``LIBRARY/SYSTEM`` names; either may be left out, or be ``auto``.

    Raises:
        PortError: there is no such library or system.
    """
    library, _, system = backend.rpartition("/")
    if not library and system in midi_library.NAMES:
        library, system = system, "auto"
    if system not in ("auto", *SYSTEMS) or library not in ("", "auto", *midi_library.NAMES):
        raise PortError(
            f"backend must be auto, {', '.join(SYSTEMS)}, or one of these behind {' or '.join(midi_library.NAMES)} "
            f"and a slash, found {backend!r}"
        )
    return (None if library in ("", "auto") else library), system


def connect(backend: str) -> tuple[MidiLibrary, str, ServerMonitor]:
    """Return the library, the name of the first MIDI system that answers, and what monitors it.

    Args:
        backend: which to ask, see :func:`parse`.

    Raises:
        PortError: none answers; it says of each what to do.
    """
    # A bridge never starts a JACK server behind its user's back.
    os.environ.setdefault("JACK_NO_START_SERVER", "1")
    parse_backend(backend)  # a mistake in it is no matter of MIDI systems
    try:
        library, systems = candidates(backend)
    except PortError as error:
        raise _nobody([str(error)]) from error
    failures = []
    for system in systems:
        try:
            with _native_chatter_muted():
                return library, system, _monitor(library, system)
        except PortError as error:
            failures.append(str(error))
    raise _nobody(failures)


def _nobody(failures: Sequence[str]) -> PortError:
    return PortError(f"no MIDI system answers ({'; '.join(failures)}); or play without one: --port memory")


def candidates(backend: str) -> tuple[MidiLibrary, Sequence[str]]:
    """Return the library that ``backend`` names, and which systems it is to ask, one at least.

    Raises:
        PortError: there is no such library or system on this computer.
    """
    name, asked = parse_backend(backend)
    library = midi_library.load(name)
    systems = [system for system in library.apis if asked in ("auto", system)]
    if not systems:
        raise PortError(f"{asked} is not available on this computer; it has {' and '.join(library.apis)}")
    return library, systems


def _monitor(library: MidiLibrary, system: str) -> ServerMonitor:
    if system == "jack":
        return JackWatch()
    close(client(library.input, library, system))
    return ServerMonitor()


def client(make: Callable[[Any, str], C], library: MidiLibrary, system: str) -> C:
    """Return a new client of a MIDI system, by what makes it: ``library.input`` or ``library.output``.

    Raises:
        PortError: the system does not let one in.
    """
    try:
        with _native_chatter_muted():
            return make(library.apis[system], CLIENT)
    except Exception as error:  # the libraries' own error types share no base but this
        raise PortError(_ADVICE[system]) from error


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


def close(port: Client) -> None:
    """End a client."""
    port.close_port()
    port.delete()  # without it a JACK server takes seconds to stop


@lru_cache(maxsize=4096)
def encode(message: Message) -> list[int]:
    """Return a message's bytes: the same few messages are sent again and again."""
    data: list[int] = wire.to_message(message).bytes()
    return data


def decode(data: list[int]) -> Message | None:
    """Return what bytes mean, or None where they mean nothing."""
    try:
        return wire.from_message(mido.Message.from_bytes(data))
    except (ValueError, IndexError):  # the latter for a pitch bend that is cut off
        return None  # a device sent nonsense; playing goes on
