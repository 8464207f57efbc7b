"""How late notes are written when the window is full and has to be read again: a long answer with the real engine.

Time is virtual, but the engine's is real: a piece of work takes as long as it
takes, many times over for a slower machine. An event that is written after its
due time is late by that much.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from musebridge.benchmarks.measure import Row, row_of, seconds
from musebridge.bridge.core.commands import HandOver
from musebridge.bridge.core.scheduler import Scheduler
from musebridge.bridge.core.session import Session
from musebridge.bridge.core.settings import Settings
from musebridge.bridge.inference.engine import OnnxEngine
from musebridge.events import NoteOff


def row(model: Path, *, minutes: float, slowness: float) -> Row:
    """Measure how late the note-offs of an answer are written, with an engine so many times slower."""
    settings = Settings(answer_s=3600)
    scheduler = Scheduler()
    session = Session(OnnxEngine(model), scheduler, settings, mode="manual", rng=np.random.default_rng(0))
    session.receive(0.0, HandOver())
    late_s: list[float] = []
    rolls, now_s = 0, 0.0
    while now_s < 60 * minutes:
        now_s = max(now_s, session.wake_s() or 0.0)
        forgotten = session._performer.stream.context.forgotten
        now_s += slowness * seconds(lambda: session.work(now_s))  # noqa: B023  # called at once
        rolls += session._performer.stream.context.forgotten > forgotten
        written = scheduler.pop_due(math.inf)
        late_s += [max(0.0, now_s - item.due_s) for item in written if isinstance(item.event, NoteOff)]
    name = f"note-off, {rolls} window rolls, engine {slowness:g}× slower"
    return row_of(name if slowness > 1 else name.partition(", engine")[0], "ms late", np.array(late_s) * 1e3)
