"""How well a judge tells real continuations from artificial ones, and how sure that figure is.

"Always real" has a positive-class F1 of 2/3 on balanced data, so what is
reported is AUROC, macro-F1 and the Matthews correlation. Windows of one piece
are not independent: the bootstrap draws pieces.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import f1_score, matthews_corrcoef, roc_auc_score

Scores = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure with its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Skill:
    """What a judge can do on so many pairs of so many pieces."""

    auroc: Figure
    macro_f1: Figure
    mcc: Figure
    pairs: int
    pieces: int


def auroc(real_N: Scores, fake_M: Scores) -> float:
    """Return how often a real continuation is scored above an artificial one."""
    return float(roc_auc_score(np.repeat([1, 0], [len(real_N), len(fake_M)]), np.concatenate([real_N, fake_M])))


def best_threshold(real_N: Scores, fake_N: Scores) -> float:
    """Return the score from which on "real" is the best answer; to be chosen on other pieces than are reported."""
    scores = np.sort(np.concatenate([real_N, fake_N]))
    real_above = len(real_N) - np.searchsorted(np.sort(real_N), scores)
    fake_above = len(fake_N) - np.searchsorted(np.sort(fake_N), scores)
    return float(scores[np.argmax(real_above / len(real_N) - fake_above / len(fake_N))])


def skill(
    real_N: Scores, fake_N: Scores, piece_N: Ids, *, threshold: float = 0.0, resamples: int = 1000, seed: int = 0
) -> Skill:
    """Measure a judge by its scores of real and artificial continuations of the same seeds.

    Args:
        real_N, fake_N: higher means more likely real.
        piece_N: the piece that each seed is from.
        threshold: from which on a score says "real".
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(piece_N == piece) for piece in np.unique(piece_N)]
    draws = [
        np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))]) for _ in range(resamples)
    ]

    def figure(measure: Callable[[Scores, Scores], float]) -> Figure:
        low, high = np.percentile([measure(real_N[draw], fake_N[draw]) for draw in draws], [2.5, 97.5])
        return Figure(value=measure(real_N, fake_N), low=float(low), high=float(high))

    def macro_f1(real: Scores, fake: Scores) -> float:
        return float(f1_score(*_answers(real, fake, threshold), average="macro"))

    def mcc(real: Scores, fake: Scores) -> float:
        return float(matthews_corrcoef(*_answers(real, fake, threshold)))

    return Skill(
        auroc=figure(auroc), macro_f1=figure(macro_f1), mcc=figure(mcc), pairs=len(real_N), pieces=len(members)
    )


def _answers(real: Scores, fake: Scores, threshold: float) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    truth = np.repeat([True, False], [len(real), len(fake)])
    return truth, np.concatenate([real, fake]) >= threshold
