"""How well a classifier tells real continuations from artificial ones, and how sure that figure is.

"Always real" has a positive-class F1 of 2/3 on balanced data, so what is
reported is AUROC, macro-F1 and the Matthews correlation. Windows of one piece
are not independent: the bootstrap draws pieces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from musebridge.training.metrics.bootstrap import ClusterBootstrap, Estimate, Ids, estimate

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassificationMetrics:
    """What a classifier can do on so many pairs of so many pieces."""

    auroc: Estimate
    macro_f1: Estimate
    mcc: Estimate
    pairs: int
    pieces: int


def auroc(real_N: Scores, fake_M: Scores) -> float:
    """Return how often a real continuation is scored above an artificial one; a tie counts half."""
    return _Ranks(real_N, fake_M).auroc(np.ones(len(real_N)), np.ones(len(fake_M)))


def aurocs(real_N: Scores, fake_N: Scores, draws: ClusterBootstrap) -> Scores:
    """Return the :func:`auroc` of each draw, (R,)."""
    ranks = _Ranks(real_N, fake_N)
    return np.array([ranks.auroc(weight_N, weight_N) for weight_N in draws.weight_RN])


def best_threshold(real_N: Scores, fake_N: Scores) -> float:
    """Return the score from which on "real" is the best answer; to be chosen on other pieces than are reported."""
    scores = np.sort(np.concatenate([real_N, fake_N]))
    real_above = len(real_N) - np.searchsorted(np.sort(real_N), scores)
    fake_above = len(fake_N) - np.searchsorted(np.sort(fake_N), scores)
    return float(scores[np.argmax(real_above / len(real_N) - fake_above / len(fake_N))])


def classification_metrics(
    real_N: Scores, fake_N: Scores, piece_N: Ids, *, threshold: float = 0.0, resamples: int = 1000, seed: int = 0
) -> ClassificationMetrics:
    """Measure a classifier by its scores of real and artificial continuations of the same seeds.

    Args:
        real_N, fake_N: higher means more likely real.
        piece_N: the piece that each seed is from.
        threshold: from which on a score says "real".
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """
    draws = ClusterBootstrap(piece_N, resamples=resamples, seed=seed)

    def confusion(weight_N: Scores) -> ConfusionMatrix:
        hit, false = (float(weight_N[said_N >= threshold].sum()) for said_N in (real_N, fake_N))
        whole = float(weight_N.sum())
        return ConfusionMatrix(hit=hit, miss=whole - hit, false=false, right=whole - false)

    confusions = [confusion(weight_N) for weight_N in draws.weight_RN]
    return ClassificationMetrics(
        auroc=estimate(aurocs(real_N, fake_N, draws), most=1),
        macro_f1=estimate(np.array([found.macro_f1 for found in confusions]), most=1),
        mcc=estimate(np.array([found.mcc for found in confusions]), most=1),
        pairs=len(real_N),
        pieces=draws.pieces,
    )


class ConfusionMatrix(NamedTuple):
    """How many real continuations were taken for real (hit) or not (miss), and artificial ones (false, right)."""

    hit: float
    miss: float
    false: float
    right: float

    @property
    def macro_f1(self) -> float:
        """The mean of the F1 of "real" and of "artificial"."""
        wrong = self.miss + self.false
        return sum(2 * good / max(2 * good + wrong, 1e-12) for good in (self.hit, self.right)) / 2

    @property
    def mcc(self) -> float:
        """The Matthews correlation; 0 for who always gives the same answer."""
        h, m, f, r = self
        return float((h * r - f * m) / max(np.sqrt((h + f) * (h + m) * (r + f) * (r + m)), 1e-12))


class _Ranks:
    """Where each score stands among all, so that those of any weights compare without another sort."""

    def __init__(self, real_N: Scores, fake_M: Scores) -> None:
        _, place = np.unique(np.concatenate([real_N, fake_M]), return_inverse=True)
        self._real_N, self._fake_M, self._count = place[: len(real_N)], place[len(real_N) :], place.max() + 1

    def auroc(self, real_weight_N: Scores, fake_weight_M: Scores) -> float:
        real_U = np.bincount(self._real_N, real_weight_N, self._count)
        fake_U = np.bincount(self._fake_M, fake_weight_M, self._count)
        below_U = np.cumsum(fake_U) - fake_U / 2
        return float(real_U @ below_U / (real_U.sum() * fake_U.sum()))
