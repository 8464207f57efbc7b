"""MIDI systems as python-rtmidi knows them: which one answers, its clients, and messages in its form."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import mido
import rtmidi

from musebridge import midifile
from musebridge.bridge.ports.jack_watch import JackWatch, ServerMonitor
from musebridge.errors import PortError
from musebridge.events import Message

CLIENT = "MuseBridge"
_BACKENDS = {
    "jack": rtmidi.API_UNIX_JACK,
    "alsa": rtmidi.API_LINUX_ALSA,
    "coremidi": rtmidi.API_MACOSX_CORE,
    "winmm": rtmidi.API_WINDOWS_MM,
}


def connect(backend: str) -> tuple[str, ServerMonitor]:
    """Return the name of the first MIDI system that answers, and what monitors it.

    Args:
        backend: which to ask, or ``auto`` for all.

    Raises:
        PortError: none answers.
    """
    # A bridge never starts a JACK server behind its user's back.
    os.environ.setdefault("JACK_NO_START_SERVER", "1")
    failures = []
    for name, api in _BACKENDS.items():
        if backend not in ("auto", name) or api not in rtmidi.get_compiled_api():
            continue
        try:
            with _native_chatter_muted():
                return name, _monitor(name)
        except PortError as error:
            failures.append(f"{name}: {error}")
    tried = "; ".join(failures) or f"{backend} is not available on this computer"
    raise PortError(f"no MIDI system answers ({tried}); start one (JACK: jackd), or use --port memory")


def _monitor(backend: str) -> ServerMonitor:
    if backend == "jack":
        return JackWatch()
    close(client(rtmidi.MidiIn, backend))
    return ServerMonitor()


def client(kind: type, backend: str) -> rtmidi.MidiIn | rtmidi.MidiOut:
    """Return a new input or output client.

    Raises:
        PortError: the system does not let one in.
    """
    try:
        with _native_chatter_muted():
            return kind(_BACKENDS[backend], name=CLIENT)
    except Exception as error:  # rtmidi's own error types share no base but this
        raise PortError(str(error).rstrip(".")) from error


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


def close(port: rtmidi.MidiIn | rtmidi.MidiOut) -> None:
    """End a client."""
    port.close_port()
    port.delete()  # without it a JACK server takes seconds to stop


@lru_cache(maxsize=4096)
def encode(message: Message) -> list[int]:
    """Return a message's bytes: the same few messages are sent again and again."""
    data: list[int] = midifile.to_message(message).bytes()
    return data


def decode(data: list[int]) -> Message | None:
    """Return what bytes mean, or None where they mean nothing."""
    try:
        return midifile.from_message(mido.Message.from_bytes(data))
    except (ValueError, IndexError):  # the latter for a pitch bend that is cut off
        return None  # a device sent nonsense; playing goes on
