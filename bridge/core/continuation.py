"""Offline: continue a piece that is already there, as fast as the engine can."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from musebridge.bridge.core.answer import Answer
from musebridge.bridge.core.context import Context, Engine
from musebridge.bridge.core.harmony import KeyFinder, Scale
from musebridge.bridge.core.scheduler import NoteLedger
from musebridge.bridge.core.settings import Settings
from musebridge.events import PEDALS_UP, Control, NoteOn, Timed
from musebridge.vocab import BEGIN, STEPS_PER_S, TIME_SHIFT, VELOCITY, Encoder, StreamState, shorten_rests

UNUSED = (
    *("silence_s", "lookahead_s", "in_channels", "pedal_polarity", "offset_ms", "thru", "bpm", "beats", "listen_bars"),
    *("trigger_key", "trigger_cc", "trigger_pedal", "clock_out", "grid", "grid_strength"),
)
"""Parameters of playing live that mean nothing for a file: it has a beat of its own, and nobody waits or hands over."""


def continue_piece(
    engine: Engine,
    seed: Sequence[Timed],
    *,
    seconds: float,
    settings: Settings,
    rng: np.random.Generator,
    begin_s: float | None = None,
    handed_over: Sequence[Timed] = (),
    on_progress: Callable[[float], None] = lambda _: None,
) -> list[Timed]:
    """Return ``seconds`` of music that follow ``seed``.

    Args:
        engine: any engine; its cache is cleared first.
        seed: events in seconds from the first note.
        seconds: how much to write; notes open at that point are ended there.
        settings: what has a meaning where nobody plays; see :data:`UNUSED`.
        rng: the same seed and engine give the same continuation.
        begin_s: when it begins, on the seed's time line; default when the last key is up.
        handed_over: strikes of the seed that nothing in it ends, the oldest first. These notes sound when it begins
            and become the model's, so what is returned ends them.
        on_progress: called with the seconds written so far.

    Returns:
        Events in seconds on the seed's time line.
    """
    context = Context(engine)
    begin_s = end_of(seed) if begin_s is None else begin_s
    tokens, state = read(seed, begin_s, handed_over)
    context.append(tokens)
    answer = Answer(context, state, rng, key=key_of(seed))
    answer.take_over(handed_over, begin_s)
    start_step = state.step
    end_step = start_step + round(seconds * STEPS_PER_S)
    events: list[Timed] = []
    while state.step <= end_step:
        written = answer.next(settings)  # nothing, when it is the shift that passes the end
        if written:
            events.append(written)
        on_progress(min(seconds, (state.step - start_step) / STEPS_PER_S))
    events += [Timed(end_step / STEPS_PER_S, timed.event) for timed in answer.close()]
    return moved(events, begin_s - start_step / STEPS_PER_S)


def end_of(seed: Sequence[Timed]) -> float:
    """Return when the last key of a piece is up, whatever its pedals do after that."""
    return max((timed.time_s for timed in seed if not isinstance(timed.event, Control)), default=0.0)


def read(
    seed: Sequence[Timed], until_s: float | None = None, handed_over: Sequence[Timed] = ()
) -> tuple[list[int], StreamState]:
    """Return what a model reads of a piece.

    Args:
        seed: events in seconds from the first note.
        until_s: when to stop, where every note ends; default when the last key is up.
        handed_over: strikes of notes that do not end there.

    Returns:
        Its tokens, long rests cut short, and the state of the stream after them.
    """
    until_s = end_of(seed) if until_s is None else until_s
    encoder, tokens = Encoder(), [BEGIN]
    for timed in seed:
        if timed.time_s <= until_s:
            tokens += encoder.feed(timed.time_s, timed.event)
    kept = {timed.event.pitch for timed in handed_over if isinstance(timed.event, NoteOn)}
    tokens += encoder.release_all(min(until_s, end_of(seed)), kept)
    tokens, _ = shorten_rests([*tokens, *encoder.advance(until_s)])
    state = encoder.state
    state.step = sum(token - TIME_SHIFT + 1 for token in tokens if TIME_SHIFT <= token < VELOCITY)
    return tokens, state


def moved(events: Iterable[Timed], by_s: float) -> list[Timed]:
    """Return events so many seconds later."""
    return [Timed(timed.time_s + by_s, timed.event) for timed in events]


def key_of(seed: Sequence[Timed]) -> Scale | None:
    """Return the key that the notes of a piece suggest, the latest weighing most; None where they are too few."""
    finder = KeyFinder()
    for timed in seed:
        if isinstance(timed.event, NoteOn):
            finder.hear(timed.event.pitch)
    return finder.key()


def unused(settings: Settings) -> list[str]:
    """Return the parameters that are not at their default and mean nothing where nobody plays."""
    return [name for name in UNUSED if getattr(settings, name) != getattr(Settings(), name)]


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
