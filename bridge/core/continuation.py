"""Offline: continue a piece that is already there, as fast as the engine can."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from musebridge.bridge.core.answer import Answer
from musebridge.bridge.core.context import Context, Engine
from musebridge.bridge.core.scheduler import NoteLedger
from musebridge.bridge.core.settings import Settings
from musebridge.events import PEDALS_UP, Timed
from musebridge.vocab import BEGIN, STEPS_PER_S, Encoder, StreamState


def continue_piece(
    engine: Engine,
    seed: Sequence[Timed],
    *,
    seconds: float,
    settings: Settings,
    rng: np.random.Generator,
    on_progress: Callable[[float], None] = lambda _: None,
) -> list[Timed]:
    """Return ``seconds`` of music that follow the end of ``seed``.

    Args:
        engine: any engine; its cache is cleared first.
        seed: events in seconds from the first note.
        seconds: how much to write; notes open at that point are ended there.
        settings: temperature, top-p and the longest note are used.
        rng: the same seed and engine give the same continuation.
        on_progress: called with the seconds written so far.

    Returns:
        Events in seconds on the seed's time line.
    """
    context = Context(engine)
    tokens, state = read(seed)
    context.append(tokens)
    answer = Answer(context, state, rng)
    start_step = state.step
    end_step = start_step + round(seconds * STEPS_PER_S)
    events: list[Timed] = []
    while state.step <= end_step:
        written = answer.next(settings)  # nothing, when it is the shift that passes the end
        if written:
            events.append(written)
        on_progress(min(seconds, (state.step - start_step) / STEPS_PER_S))
    return events + [Timed(end_step / STEPS_PER_S, timed.event) for timed in answer.close()]


def read(seed: Sequence[Timed]) -> tuple[list[int], StreamState]:
    """Return the tokens of a piece, all its notes ended, and the state of the stream after them."""
    encoder, tokens = Encoder(), [BEGIN]
    for timed in seed:
        tokens += encoder.feed(timed.time_s, timed.event)
    tokens += encoder.release_all(encoder.state.step / STEPS_PER_S)
    return tokens, encoder.state


def opening(events: Sequence[Timed], seconds: float) -> list[Timed]:
    """Return the first seconds of a piece, with every note and pedal ended by then."""
    return cut(events, seconds) + [Timed(seconds, event) for event in PEDALS_UP]


def cut(events: Sequence[Timed], at_s: float) -> list[Timed]:
    """Return what comes before a moment, with every note ended by then."""
    ledger = NoteLedger()
    kept = [timed for timed in events if timed.time_s < at_s]
    for timed in kept:
        ledger.note(timed.event)
    return kept + [Timed(at_s, event) for event in ledger.releases()]
