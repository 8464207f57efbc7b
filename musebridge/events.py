"""The musical events that flow between player, model and ports.

Events carry no time of their own; :class:`Timed` pairs one with a moment in
seconds. Pitches, velocities, controllers and values are MIDI's 7-bit numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

SUSTAIN, SOSTENUTO = 64, 66
"""Controller numbers of pedals; values of 64 and more mean *down*."""
ALL_SOUND_OFF, RESET_CONTROLLERS, ALL_NOTES_OFF = 120, 121, 123
"""Controller numbers of channel mode messages; those above All Notes Off mean that as well."""


def _check(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} must be in {low}..{high}, found {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteOn:
    """A key goes down. ``velocity`` is 1..127: velocity 0 is a :class:`NoteOff`."""

    pitch: int
    velocity: int
    channel: int = 0

    def __post_init__(self) -> None:
        _check("pitch", self.pitch, 0, 127)
        _check("velocity", self.velocity, 1, 127)
        _check("channel", self.channel, 0, 15)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteOff:
    """A key goes up."""

    pitch: int
    channel: int = 0

    def __post_init__(self) -> None:
        _check("pitch", self.pitch, 0, 127)
        _check("channel", self.channel, 0, 15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """A controller moves (control change)."""

    controller: int
    value: int
    channel: int = 0

    def __post_init__(self) -> None:
        _check("controller", self.controller, 0, 127)
        _check("value", self.value, 0, 127)
        _check("channel", self.channel, 0, 15)


Event = NoteOn | NoteOff | Control
"""What music is made of here."""
PEDALS_UP = (Control(controller=SOSTENUTO, value=0), Control(controller=SUSTAIN, value=0))


@dataclass(frozen=True, slots=True)
class Transport:
    """A real-time message: ``clock`` (24 to a quarter note), ``start``, ``continue`` or ``stop``."""

    kind: str


@dataclass(frozen=True, slots=True)
class SongPosition:
    """Where a song that continues will go on, in sixteenth notes from its start."""

    sixteenths: int

    def __post_init__(self) -> None:
        _check("sixteenths", self.sixteenths, 0, 16383)


@dataclass(frozen=True, slots=True)
class Other:
    """A message that is passed on as it is: pitch bend, pressure, program."""

    data: bytes


Message = Event | Transport | SongPosition | Other
"""What comes and goes through a port."""


@dataclass(frozen=True, slots=True)
class Timed:
    """An event and its moment, in seconds from an origin that the context names."""

    time_s: float
    event: Event
