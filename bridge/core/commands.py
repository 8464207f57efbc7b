"""What a player can ask for besides playing; OSC and the command line make these."""

from __future__ import annotations

from dataclasses import dataclass

from musebridge.bridge.core.settings import Value


@dataclass(frozen=True, slots=True)
class HandOver:
    """Let the model answer now."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Take the last answer back, and answer the same phrase anew."""


@dataclass(frozen=True, slots=True)
class Stop:
    """End the answer."""


@dataclass(frozen=True, slots=True)
class Panic:
    """End the answer and silence the output by every means MIDI has."""


@dataclass(frozen=True, slots=True)
class Reset:
    """End the answer and forget all that was played."""


@dataclass(frozen=True, slots=True)
class Roll:
    """A DAW's transport starts, and bars are counted from here; or it stops, and the answer ends."""

    rolling: bool


@dataclass(frozen=True, slots=True)
class FollowSharedBeats:
    """Count the bars as other programs do: at ``bpm``, with beat 0 at ``beat_zero_s``; None where none are there."""

    bpm: float | None = None
    beat_zero_s: float = 0.0


@dataclass(frozen=True, slots=True)
class TellBeats:
    """Publish each beat of the grid, or no longer."""

    wanted: bool


@dataclass(frozen=True, slots=True)
class SetMode:
    """Play by the rules of another mode."""

    mode: str


@dataclass(frozen=True, slots=True)
class SetParameter:
    """Change one parameter of :class:`~musebridge.bridge.core.settings.Settings`."""

    name: str
    value: Value


@dataclass(frozen=True, slots=True)
class Pause:
    """Hold the model: it ends its answer and begins none, but goes on listening; or let it play again."""

    paused: bool


@dataclass(frozen=True, slots=True)
class Learn:
    """Bind the controller that is moved next to a parameter; an empty name takes that back."""

    name: str


@dataclass(frozen=True, slots=True)
class Unlearn:
    """Free the controller of a parameter."""

    name: str


@dataclass(frozen=True, slots=True)
class Bind:
    """Let a controller of a channel, 1 to 16, move a parameter through its range; an empty name frees it."""

    name: str
    controller: int
    channel: int


Command = (
    HandOver
    | Retry
    | Stop
    | Panic
    | Reset
    | Roll
    | FollowSharedBeats
    | TellBeats
    | SetMode
    | SetParameter
    | Pause
    | Learn
    | Unlearn
    | Bind
)
