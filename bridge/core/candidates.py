"""Offline: write several continuations of a piece, and keep the one that a discriminator takes for the most real.

The choice is made piece by piece. A piece has as many tokens as the
discriminator was trained to judge, and follows as long a seed as it was trained
with: every candidate is judged on what it was trained for, however long the
music, and the one that is chosen is what all candidates of the next piece
continue.

Candidates are written side by side, a token of each at a time, which costs less
than one after the other. Live it is not done: the verdicts take longer than the
silence before an answer, and no player could interrupt one that is under way;
``musebridge bench candidates`` measures how long, also for shorter pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from musebridge.artifact import DiscriminatorInfo
from musebridge.bridge.core.answer import Answer
from musebridge.bridge.core.context import Engine
from musebridge.bridge.core.continuation import cut, end_of, key_of, moved, read
from musebridge.bridge.core.harmony import Scale
from musebridge.bridge.core.recall import Figures
from musebridge.bridge.core.sampling import Logits
from musebridge.bridge.core.settings import Settings
from musebridge.errors import ModelError
from musebridge.events import Timed
from musebridge.vocab import STEPS_PER_S, StreamState


class Fork(Protocol):
    """Several streams of one beginning, one of which is a row."""

    def step(self, tokens: Sequence[int]) -> Logits:
        """Read a token of each; return the logits after them, shape (B, N_TOKENS)."""
        ...


class ForkingEngine(Engine, Protocol):
    """An engine that can go on in several ways at once."""

    def fork(self, count: int) -> Fork:
        """Return so many streams that go on from what was read."""
        ...


class Discriminator(Protocol):
    """Says how real music is; :class:`musebridge.bridge.inference.discriminator.OnnxDiscriminator` is one."""

    info: DiscriminatorInfo

    def judge(self, window_BT: npt.NDArray[np.int64], seed_length: int) -> npt.NDArray[np.float32]:
        """Return how real each window is behind its first ``seed_length`` tokens, (B,): the higher, the more."""
        ...


_CONTEXT = 512
"""Tokens that a piece follows. At every token the keys and values of all candidates are read, so
a longer memory costs as many times as much; it would save some 0.02 nats a token (docs/model-card.md)."""


@dataclass(slots=True)
class Candidate:
    """One way to go on; the stream that its answer is written to.

    Attributes:
        tokens, events: what was written.
        figures: what was struck in the stream so far.
        logits_V: after the last token.
        answer: that writes it.
    """

    tokens: list[int] = field(default_factory=list)
    events: list[Timed] = field(default_factory=list)
    figures: Figures = field(default_factory=Figures)
    logits_V: Logits = field(init=False)
    answer: Answer = field(init=False)

    def append(self, tokens: Sequence[int]) -> None:
        """Write tokens."""
        self.figures.append(len(self.tokens), tokens)
        self.tokens += tokens

    def logits(self) -> Logits:
        """Return the logits after the last token."""
        return self.logits_V


class Candidates:
    """A stream that goes on in several ways until one of them is chosen.

    Args:
        engine: its cache is cleared for every piece.
        tokens: the stream so far.
        state: what it means.
        rng: source of randomness of all candidates.
        count: of candidates.
        key: the player's, for settings that ask for it.
    """

    def __init__(
        self,
        engine: ForkingEngine,
        tokens: Sequence[int],
        state: StreamState,
        rng: np.random.Generator,
        count: int,
        key: Scale | None = None,
    ) -> None:
        self._engine, self._count, self.tokens = engine, count, [*tokens]
        self._figures = Figures()
        self._figures.append(0, self.tokens)
        self._answer = Answer(Candidate(figures=self._figures), state, rng, key=key)

    @property
    def state(self) -> StreamState:
        """What the stream means, up to the last choice."""
        return self._answer.state

    def take_over(self, notes: Sequence[Timed], now_s: float) -> None:
        """Make notes of the player the model's; see :meth:`Answer.take_over`."""
        self._answer.take_over(notes, now_s)

    def write(self, length: int, settings: Settings) -> list[Candidate]:
        """Return candidates of so many tokens each."""
        self._engine.rollback(0)
        logits_V = self._engine.prefill(self.tokens[-min(_CONTEXT, self._engine.capacity - length) :])
        candidates = [Candidate(figures=self._figures.copy()) for _ in range(self._count)]
        for candidate in candidates:
            candidate.logits_V, candidate.answer = logits_V.copy(), self._answer.branch(candidate)
        fork = self._engine.fork(self._count)
        for left in reversed(range(length)):
            for candidate in candidates:
                written = candidate.answer.next(settings)
                candidate.events += [written] if written else []
            if left:
                logits_BV = fork.step([candidate.tokens[-1] for candidate in candidates])
                for candidate, logits_V in zip(candidates, logits_BV, strict=True):
                    candidate.logits_V = logits_V
        return candidates

    def judge(self, candidates: Sequence[Candidate], discriminator: Discriminator) -> npt.NDArray[np.float32]:
        """Return how real each candidate is, (B,); of a short stream the seed is what there is."""
        seed = self.tokens[-discriminator.info.seed_length :]
        window_BT = np.array([seed + candidate.tokens for candidate in candidates], np.int64)
        return discriminator.judge(window_BT, len(seed))

    def choose(self, candidate: Candidate) -> None:
        """Go on from the end of this one."""
        self._answer, self._figures = candidate.answer, candidate.figures
        self.tokens += candidate.tokens


def continue_with_best(
    engine: ForkingEngine,
    seed: Sequence[Timed],
    *,
    judge: Discriminator,
    count: int,
    seconds: float,
    settings: Settings,
    rng: np.random.Generator,
    begin_s: float | None = None,
    handed_over: Sequence[Timed] = (),
    on_progress: Callable[[float], None] = lambda _: None,
) -> list[Timed]:
    """Return ``seconds`` of music that follow ``seed``: piece by piece the most real of ``count`` candidates.

    The last piece is written and judged whole, then cut.

    Args:
        engine: its cache is cleared first.
        seed: events in seconds from the first note.
        judge: chooses.
        count: of candidates.
        seconds, settings, rng, begin_s, handed_over, on_progress: as in
            :func:`musebridge.bridge.core.continuation.continue_piece`.

    Returns:
        Events in seconds on the seed's time line.

    Raises:
        ModelError: the generator cannot hold what the discriminator judges at once.
    """
    length = judge.info.continuation_length
    if length >= engine.capacity:
        raise ModelError(
            f"the discriminator judges {length} tokens at once, the generator reads {engine.capacity} at most; "
            "take two that belong together"
        )
    begin_s = end_of(seed) if begin_s is None else begin_s
    stream = Candidates(engine, *read(seed, begin_s, handed_over), rng, count, key_of(seed))
    stream.take_over(handed_over, begin_s)
    start_s = stream.state.step / STEPS_PER_S
    events: list[Timed] = []
    while (written_s := stream.state.step / STEPS_PER_S - start_s) < seconds:
        on_progress(written_s)
        candidates = stream.write(length, settings)
        best = candidates[int(stream.judge(candidates, judge).argmax())]
        stream.choose(best)
        events += best.events
    on_progress(seconds)
    ended = cut([*moved(handed_over, start_s - begin_s), *events], start_s + seconds)
    return moved(ended[len(handed_over) :], begin_s - start_s)
