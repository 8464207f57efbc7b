"""What comes back: an input that is wired to our own output must not be taken for a player."""

from __future__ import annotations

from collections import deque

from musebridge.events import Message

WINDOW_S = 0.05
"""A loop through a MIDI system takes a period or two, some 25 ms; nobody strikes one key twice as fast."""


class EchoFilter:
    """Remembers what was sent of late.

    Appending and popping at the ends of a deque are atomic, so the sender may
    tell what it sent while the poller asks.
    """

    def __init__(self) -> None:
        self._sent: deque[tuple[float, Message]] = deque(maxlen=1024)

    def sent(self, now_s: float, message: Message) -> None:
        """Take down a message that left."""
        self._sent.append((now_s, message))

    def is_echo(self, now_s: float, message: Message) -> bool:
        """Return whether a message that came is one that left a moment ago; each counts once."""
        while self._sent and self._sent[0][0] < now_s - WINDOW_S:
            self._sent.popleft()
        for item in tuple(self._sent):
            if item[1] == message:
                self._sent.remove(item)
                return True
        return False
