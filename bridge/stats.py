"""What happened: counts and lateness of a session, and its recording."""

from __future__ import annotations

import json
import threading
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from musebridge import midifile
from musebridge.bridge.scheduler import NoteLedger, Sent
from musebridge.errors import MidiFileError
from musebridge.events import Event, NoteOn, Timed


class Recording:
    """Everything that was received and sent, in order, with its times.

    Its callbacks are called from the input and the output thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.received: list[Timed] = []
        self.sent: list[Sent] = []
        self._ledgers = {"player": NoteLedger(), "model": NoteLedger()}

    def on_received(self, now_s: float, event: Event) -> None:
        """Keep an event of the player."""
        with self._lock:
            self.received.append(Timed(now_s, event))
            self._ledgers["player"].note(event)

    def on_sent(self, sent: Sent) -> None:
        """Keep an event of the model."""
        with self._lock:
            self.sent.append(sent)
            self._ledgers["model"].note(sent.event)

    def sounding(self) -> dict[int, str]:
        """Return the pitches that sound now and who plays them: ``player`` or ``model``."""
        with self._lock:
            return {pitch: who for who, ledger in self._ledgers.items() for pitch in ledger.pitches()}

    def tracks(self) -> dict[str, list[Timed]]:
        """Return both sides in seconds from the first event of either."""
        start_s = min([t.time_s for t in self.received[:1]] + [s.actual_s for s in self.sent[:1]], default=0.0)
        return {
            "seed": [Timed(t.time_s - start_s, t.event) for t in self.received],
            "continuation": [Timed(s.actual_s - start_s, s.event) for s in self.sent],
        }

    def summary(self) -> str:
        """Return one line: notes received and sent, and how late the sender was."""
        heard = sum(isinstance(t.event, NoteOn) for t in self.received)
        played = sum(isinstance(s.event, NoteOn) for s in self.sent)
        line = f"heard {heard} notes, played {played}"
        if not self.sent:
            return line
        late_ms = np.array([(s.actual_s - s.due_s) * 1000 for s in self.sent])
        p50, p99 = np.percentile(late_ms, [50, 99])
        return f"{line}; sent after due: median {p50:.2f} ms, p99 {p99:.2f} ms, most {late_ms.max():.2f} ms"

    def save(self, folder: Path, name: str) -> list[Path]:
        """Write ``name.mid`` (two tracks) and ``name.jsonl`` (every message and its times).

        Raises:
            MidiFileError: the folder cannot be written.
        """
        midi, log = folder / f"{name}.mid", folder / f"{name}.jsonl"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            log.write_text("".join(f"{json.dumps(row)}\n" for row in self._rows()), encoding="utf-8")
        except OSError as error:
            raise MidiFileError(f"{folder}: cannot be written: {error.strerror}") from error
        midifile.write(midi, self.tracks())
        return [midi, log]

    def _rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = [
            {"kind": "received", "time_s": t.time_s, "bytes": midifile.to_message(t.event).bytes()}
            for t in self.received
        ]
        rows += [
            {"kind": "sent", "time_s": s.actual_s, "due_s": s.due_s, "bytes": midifile.to_message(s.event).bytes()}
            for s in self.sent
        ]
        return sorted(rows, key=itemgetter("time_s"))
