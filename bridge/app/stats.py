"""What happened: the notes that sound, counts, and how late the sender was."""

from __future__ import annotations

import threading
from collections import deque

import numpy as np

from musebridge.bridge.core.scheduler import NoteLedger, Owner, Sent
from musebridge.events import Message, NoteOn

_REMEMBERED = 20_000


class Stats:
    """Counts what was received and sent, and remembers how late the latest of it left.

    Its callbacks are called from the input and the output thread; its size does
    not grow with the session.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._late_ms: deque[float] = deque(maxlen=_REMEMBERED)
        self._ledgers = {"player": NoteLedger(), "model": NoteLedger()}
        self.heard = 0
        """Notes of the player."""
        self.played = 0
        """Notes of the model."""

    def on_received(self, now_s: float, message: Message) -> None:
        """Count a message of the player."""
        with self._lock:
            self.heard += isinstance(message, NoteOn)
            self._ledgers["player"].note(message)

    def on_sent(self, sent: Sent) -> None:
        """Count a message of the model."""
        if sent.owner is not Owner.MODEL:
            return
        with self._lock:
            self.played += isinstance(sent.event, NoteOn)
            self._late_ms.append((sent.actual_s - sent.due_s) * 1000)
            self._ledgers["model"].note(sent.event)

    def sounding(self) -> dict[int, str]:
        """Return the pitches that sound now and who plays them: ``player`` or ``model``."""
        with self._lock:
            return {pitch: who for who, ledger in self._ledgers.items() for pitch in ledger.pitches()}

    def lateness_ms(self) -> tuple[float, float, float]:
        """Return median, 99th percentile and most of sent minus due; zeros before anything was sent."""
        with self._lock:
            if not self._late_ms:
                return 0.0, 0.0, 0.0
            p50, p99, most = np.percentile(self._late_ms, [50, 99, 100])
        return float(p50), float(p99), float(most)

    def numbers(self) -> tuple[float, ...]:
        """Return notes heard, notes played, median and p99 of lateness in milliseconds."""
        return self.heard, self.played, *self.lateness_ms()[:2]

    def summary(self) -> str:
        """Return one line: notes received and sent, and how late the sender was."""
        line = f"heard {self.heard} notes, played {self.played}"
        if not self._late_ms:
            return line
        p50, p99, most = self.lateness_ms()
        return f"{line}; sent after due: median {p50:.2f} ms, p99 {p99:.2f} ms, most {most:.2f} ms"
