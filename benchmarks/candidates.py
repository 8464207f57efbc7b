"""What a choice among candidates costs, and what it gains by a classifier that is not the one that chose.

The rival of candidates that are written side by side is one after the other. A
choice by the first tokens alone is what there would be time for while a
musician waits, so its time and its gain are measured beside the whole one's.

Seeds are handed over as ``musebridge continue`` does, with their notes ended:
the figures compare choices with each other, not with samples drawn in training.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from musebridge import vocab
from musebridge.benchmarks.measure import Row, in_turns
from musebridge.bridge.core.answer import Answer
from musebridge.bridge.core.candidates import Candidate, Candidates
from musebridge.bridge.core.context import Context
from musebridge.bridge.core.continuation import read
from musebridge.bridge.core.settings import Settings
from musebridge.bridge.inference.discriminator import OnnxDiscriminator
from musebridge.bridge.inference.engine import OnnxEngine
from musebridge.errors import CorpusError
from musebridge.export import discriminator, graph
from musebridge.training.data import corpus
from musebridge.training.metrics.bootstrap import Estimate
from musebridge.training.metrics.classification import Scores, classification_metrics
from musebridge.training.metrics.two_sample import cross_validated_scores, token_statistics
from musebridge.training.models.checkpoint import load_generator
from musebridge.training.models.generator import Generator
from musebridge.training.sampling.pairs import starts_within_pieces

_SETTINGS = Settings()
_FEWEST = 20
"""Seeds, below which a fresh classifier has too little to learn from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What came of a way to choose.

    Attributes:
        by: how many tokens of each candidate the discriminator read; 0 where the first candidate was taken.
        own: its AUROC, on so many tokens, against first candidates; None where it did not choose.
        fresh: the AUROC of a fresh classifier against what was chosen.
    """

    by: int
    own: Estimate | None
    fresh: Estimate


class Bench:
    """A generator and its discriminator, both as exported, with seeds from the validation split.

    Args:
        folder: of the discriminator, as adversarial training leaves it.
        corpus_dir: a prepared corpus.
        seeds: how many.
        count: of candidates.

    Raises:
        CheckpointError: the folder holds no discriminator.
        CorpusError: the split has too few windows.
    """

    def __init__(self, folder: Path, corpus_dir: Path, *, seeds: int, count: int) -> None:
        self.count = count
        with tempfile.TemporaryDirectory() as kept:
            judge, model = Path(kept) / "judge.onnx", Path(kept) / "generator.onnx"
            self.info = discriminator.export(folder, judge, precision="int8")
            graph.export(folder, model, precision="int8")
            self.judge, self.engine, self._rival = OnnxDiscriminator(judge), OnnxEngine(model), OnnxEngine(model)
        self.frozen = load_generator(folder)[0]
        tokens, length = (
            corpus.load(corpus_dir).splits["validation"],
            self.info.seed_length + self.info.continuation_length,
        )
        starts = starts_within_pieces(tokens, length, seed=0)[:seeds]
        if len(starts) < max(seeds, _FEWEST):
            raise CorpusError(f"{corpus_dir}: {len(starts)} validation windows, {max(seeds, _FEWEST)} are needed")
        self.real_NT = np.stack([tokens[start : start + length] for start in starts]).astype(np.int64)
        self.piece_N = np.cumsum(tokens == vocab.BEGIN)[starts]

    @property
    def lengths(self) -> tuple[int, ...]:
        """A quarter, a half and all of what the discriminator was trained to judge."""
        return tuple(self.info.continuation_length // part for part in (4, 2, 1))

    def times(self, rounds: int) -> list[Row]:
        """Measure writing and judging, on one thread each."""
        stream, length = self._stream(0), self.info.continuation_length
        candidates, alone = stream.write(length, _SETTINGS), self._alone()
        subjects: dict[str, Callable[[], object]] = {
            "one candidate": lambda: alone(1),
            f"{self.count} candidates, one after the other": lambda: alone(self.count),
            f"{self.count} candidates, side by side": lambda: stream.write(length, _SETTINGS),
            "verdict on one": lambda: stream.judge(candidates[:1], self.judge),
            f"verdict on {self.count}": lambda: stream.judge(candidates, self.judge),
        }
        for part in self.lengths:
            subjects[f"{self.count} candidates of {part} tokens, verdict included"] = self._chosen(stream, part)
        return in_turns(subjects, rounds)

    def choices(self, on_progress: Callable[[float], None] = lambda _: None) -> Iterator[Choice]:
        """Yield what no choice and choices by so many tokens are worth, on all seeds."""
        seed_length, lengths = self.info.seed_length, self.lengths
        taken: dict[int, list[npt.NDArray[np.int64]]] = {by: [] for by in (0, *lengths)}
        heard: dict[int, list[tuple[float, float]]] = {by: [] for by in lengths}
        for n, real_T in enumerate(self.real_NT):
            stream = self._stream(n)
            candidates = stream.write(self.info.continuation_length, _SETTINGS)
            seed = np.array(stream.tokens[-seed_length:])
            taken[0].append(np.concatenate([real_T[:seed_length], candidates[0].tokens]))
            for by in lengths:
                verdict_B = stream.judge([_first(candidate, by) for candidate in candidates], self.judge)
                best = candidates[int(verdict_B.argmax())]
                taken[by].append(np.concatenate([real_T[:seed_length], best.tokens]))
                real = self.judge.judge(np.concatenate([seed, real_T[seed_length:][:by]])[None], len(seed))
                heard[by].append((float(real[0]), float(verdict_B[0])))
            on_progress((n + 1) / len(self.real_NT))
        real_NF = self._figures(self.real_NT)
        for by, windows in taken.items():
            fresh = cross_validated_scores(real_NF, self._figures(np.stack(windows)), self.piece_N)
            own = self._auroc(*np.array(heard[by]).T) if by else None
            yield Choice(by=by, own=own, fresh=self._auroc(*fresh))

    def _figures(self, window_NT: npt.NDArray[np.int64]) -> Scores:
        assert isinstance(self.frozen, Generator)  # no other can be exported
        return token_statistics(self.frozen, torch.from_numpy(window_NT), self.info.seed_length)

    def _auroc(self, real_N: Scores, fake_N: Scores) -> Estimate:
        return classification_metrics(real_N, fake_N, self.piece_N).auroc

    def _stream(self, n: int) -> Candidates:
        """Return the stream of a seed."""
        seed = vocab.decode(self.real_NT[n, : self.info.seed_length].tolist())
        return Candidates(self.engine, *read([*seed]), np.random.default_rng([n, 8]), self.count)

    def _alone(self) -> Callable[[int], None]:
        """Return what writes so many pieces one after the other, as an answer is."""
        tokens, state = read([*vocab.decode(self.real_NT[0, : self.info.seed_length].tolist())])
        context = Context(self._rival)
        context.append(tokens)

        def write(count: int) -> None:
            for _ in range(count):
                answer = Answer(context, state.copy(), np.random.default_rng(0))
                for _ in range(self.info.continuation_length):
                    answer.next(_SETTINGS)
                context.rollback(len(tokens))

        return write

    def _chosen(self, stream: Candidates, length: int) -> Callable[[], object]:
        """Return what writes and judges candidates of so many tokens."""
        return lambda: stream.judge(stream.write(length, _SETTINGS), self.judge)


def _first(candidate: Candidate, count: int) -> Candidate:
    """Return the beginning of a candidate, to be judged."""
    return Candidate(candidate.tokens[:count])


def lines(choices: Sequence[Choice]) -> Iterator[str]:
    """Yield a line about each choice."""
    for choice in choices:
        if choice.own is None:
            yield f"the first candidate: AUROC of a fresh classifier {choice.fresh}"
        else:
            yield (
                f"the best by its first {choice.by} tokens: AUROC of a fresh classifier {choice.fresh}; "
                f"of the discriminator, on so many, {choice.own}"
            )
