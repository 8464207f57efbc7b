"""The seam between the bridge and any MIDI system."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from musebridge.bridge.core.commands import Command
from musebridge.events import Message


@dataclass(frozen=True, slots=True)
class At:
    """What came with a moment of its own, in monotonic seconds: a message, or what a DAW says of its song."""

    moment_s: float
    message: Message | Command


class InputPort(Protocol):
    """Where the player's events come from."""

    name: str

    def poll(self) -> Sequence[Message | At]:
        """Return the events that came since the last call, oldest first; never wait.

        A player who vanishes has lifted every key and pedal.
        """
        ...

    def reconnect(self) -> bool:
        """Look whether the port is there, and if it was not, open it again; return whether it is there."""
        ...

    def close(self) -> None:
        """Give the port back; further calls do nothing."""
        ...


class OutputPort(Protocol):
    """Where the model's events go."""

    name: str

    def send(self, message: Message) -> None:
        """Send one event now.

        Raises:
            PortError: the port is gone.
        """
        ...

    def reconnect(self) -> bool:
        """Look whether the port is there, and if it was not, open it again; return whether it is there."""
        ...

    def close(self) -> None:
        """Give the port back; further calls do nothing."""
        ...


@runtime_checkable
class AheadPort(Protocol):
    """An output that is told of an event before its moment, and itself sees to it that it sounds then."""

    @property
    def ahead_s(self) -> float:
        """How long before its moment an event is wanted."""
        ...

    def send_ahead(self, message: Message, due_s: float) -> None:
        """Send one event that is due at a moment in monotonic seconds; raises as :meth:`OutputPort.send`."""
        ...


class MemoryPort:
    """A port without a MIDI system: events sent into it are polled from it.

    Works as an input and as an output; appending and popping at the ends of a
    list are atomic, so a player's thread may send while the bridge polls.
    """

    def __init__(self, name: str = "memory") -> None:
        self.name = name
        self.events: list[Message] = []

    def send(self, message: Message) -> None:
        """Keep one event for the next poll."""
        self.events.append(message)

    def poll(self) -> Sequence[Message]:
        """Return and forget what was sent since the last call."""
        count = len(self.events)
        taken, self.events[:count] = self.events[:count], []
        return taken

    def reconnect(self) -> bool:
        """Return True: it cannot be lost."""
        return True

    def close(self) -> None:
        """Do nothing."""
