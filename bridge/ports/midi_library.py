"""The library that speaks to MIDI systems: python-rtmidi, or supriya-midi where that has no wheels (Python 3.13 on).

Both wrap the C++ library RtMidi and are called alike, but for what :class:`MidiLibrary` holds.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any, Protocol

from musebridge.errors import PortError

NO_LIBASOUND = "libasound is missing; Debian and Ubuntu: sudo apt install libasound2, Fedora: sudo dnf install alsa-lib"
INPUT_QUEUE = 16_384
"""Messages that may wait to be polled: a DAW's panic sends 2,048 at once, and RtMidi's own 1,024 loses half of it."""


class Client(Protocol):
    """What clients for input and for output share."""

    def get_ports(self) -> list[str]: ...  # noqa: D102  # named by RtMidi
    def open_port(self, port_number: int, port_name: str, /) -> object: ...  # noqa: D102
    def open_virtual_port(self, port_name: str, /) -> object: ...  # noqa: D102
    def close_port(self) -> None: ...  # noqa: D102
    def delete(self) -> None: ...  # noqa: D102


class InputClient(Client, Protocol):
    """A client that listens to one port."""

    def ignore_types(self, sysex: bool, timing: bool, active_sense: bool) -> None: ...  # noqa: D102
    def get_message(self) -> tuple[list[int], float] | None: ...  # noqa: D102


class OutputClient(Client, Protocol):
    """A client that plays to one port."""

    def send_message(self, message: Sequence[int], /) -> None: ...  # noqa: D102


@dataclass(frozen=True, slots=True, kw_only=True)
class MidiLibrary:
    """A library that is installed.

    Attributes:
        name: what ``pip install`` calls it.
        apis: the library's number of each MIDI system that it was built for, by our name of the system.
        input, output: make a client of the system with that number, and give it a name.
    """

    name: str
    apis: Mapping[str, Any]
    input: Callable[[Any, str], InputClient]
    output: Callable[[Any, str], OutputClient]

    def __str__(self) -> str:
        return f"{self.name} {version(self.name)}"


def _python_rtmidi() -> MidiLibrary:
    import rtmidi

    systems = {
        "jack": rtmidi.API_UNIX_JACK,
        "alsa": rtmidi.API_LINUX_ALSA,
        "coremidi": rtmidi.API_MACOSX_CORE,
        "winmm": rtmidi.API_WINDOWS_MM,
    }
    return MidiLibrary(
        name="python-rtmidi",
        apis={name: api for name, api in systems.items() if api in rtmidi.get_compiled_api()},
        input=lambda api, client: rtmidi.MidiIn(api, client, INPUT_QUEUE),
        output=rtmidi.MidiOut,
    )


def _supriya_midi() -> MidiLibrary:
    import supriya_midi

    systems = {
        "jack": supriya_midi.RtMidiAPI.UNIX_JACK,
        "alsa": supriya_midi.RtMidiAPI.LINUX_ALSA,
        "coremidi": supriya_midi.RtMidiAPI.MACOSX_CORE,
        "winmm": supriya_midi.RtMidiAPI.WINDOWS_MM,
    }
    return MidiLibrary(
        name="supriya-midi",
        apis={name: api for name, api in systems.items() if api in supriya_midi.get_compiled_apis()},
        input=lambda api, client: supriya_midi.MidiIn(api, client, INPUT_QUEUE),
        output=supriya_midi.MidiOut,
    )


_LOADERS = {"python-rtmidi": _python_rtmidi, "supriya-midi": _supriya_midi}
NAMES = tuple(_LOADERS)


def load(name: str | None = None) -> MidiLibrary:
    """Return the library of this name, or the first that is installed.

    Raises:
        PortError: it is not installed, or lacks a library of the system.
    """
    failures = []
    for candidate in (name,) if name else NAMES:
        try:
            return _load(candidate)
        except ModuleNotFoundError:
            failures.append(f"{candidate} is not installed (pip install {candidate})")
        except ImportError as error:
            if "libasound" in str(error):  # which each of them needs
                raise PortError(NO_LIBASOUND) from error
            failures.append(f"{candidate} cannot be loaded: {error}")
    raise PortError("; ".join(failures[-1:] if name else failures))


@cache
def _load(name: str) -> MidiLibrary:
    if sys.platform.startswith("linux"):
        # Wheels bring a libjack of their own, which speaks to no server of another version, nor to PipeWire. The
        # system's is asked for first where it is loaded for all to see.
        with suppress(OSError):
            ctypes.CDLL("libjack.so.0", mode=ctypes.RTLD_GLOBAL)
    return _LOADERS[name]()
