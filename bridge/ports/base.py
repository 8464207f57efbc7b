"""The seam between the bridge and any MIDI system."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from musebridge.events import Message


class InputPort(Protocol):
    """Where the player's events come from."""

    name: str

    def poll(self) -> Sequence[Message]:
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
