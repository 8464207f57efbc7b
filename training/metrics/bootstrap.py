"""How sure figures of many windows are: the bootstrap over pieces, with the same draws for every system.

Windows of one piece are not independent, so what is drawn anew is pieces
(Field and Welsh 2007, the cluster bootstrap). MMD and overlapping areas
are means over pairs of windows; summed once for each pair of pieces, they cost
a draw next to nothing.

Names end in their shape: N windows, each real one beside the artificial one of the
same seed; P pieces; Q pairs of pieces; R draws, the first of which takes every piece once; B bins.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure with its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def __neg__(self) -> Estimate:
        return Estimate(value=-self.value, low=-self.high, high=-self.low)


class ClusterBootstrap:
    """Pieces drawn anew.

    A measure of ``musebridge.training.metrics`` that is given one returns a value for each draw, shape (R,), of which
    :func:`estimate` makes a figure with its interval. Differences of two systems are paired, since they share the
    draws.

    Args:
        piece_N: the piece that each window is from.
        resamples: how many draws to make beside the first.
        seed: of the draws.

    Attributes:
        weight_RN: how often each draw takes each window.
    """

    def __init__(self, piece_N: Ids, *, resamples: int = 500, seed: int = 0) -> None:
        pieces, self._member_N = np.unique(piece_N, return_inverse=True)
        self.pieces, self.windows = len(pieces), len(piece_N)
        even_P = np.full(self.pieces, 1 / self.pieces)
        drawn_RP = np.random.default_rng(seed).multinomial(self.pieces, even_P, resamples)
        self._weight_RP = np.concatenate([np.ones((1, self.pieces)), drawn_RP])
        self.weight_RN = self._weight_RP[:, self._member_N]

    def mean(self, value_N: Array) -> Array:
        """Return the mean of the windows' values; NaN is none."""
        known_N = ~np.isnan(value_N)
        sums_P = np.bincount(self._member_N[known_N], value_N[known_N], self.pieces)
        counts_P = np.bincount(self._member_N[known_N], minlength=self.pieces)
        return np.asarray((self._weight_RP @ sums_P) / np.maximum(self._weight_RP @ counts_P, 1))

    @classmethod
    def plain(cls, windows: int) -> ClusterBootstrap:
        """Return the one draw that takes each of so many windows once: what is measured, without an interval."""
        return cls(np.zeros(windows, np.int64), resamples=0)

    @cached_property
    def _pair_weights(self) -> Array:
        weight_RP = self._weight_RP
        return np.asarray((weight_RP[:, :, None] * weight_RP[:, None]).reshape(len(weight_RP), -1))

    @cached_property
    def _pairs(self) -> Ids:
        return np.asarray(self._member_N[:, None] * self.pieces + self._member_N)

    def mean_of_pairs(self, value_NN: Array, *, distinct: bool = False) -> Array:
        """Return the mean over pairs of windows of a figure, (R,); ``distinct``: a window makes no pair with itself."""
        counted_NN = self._counted(distinct)
        pair, Q = self._pairs[counted_NN], self.pieces**2
        sums_Q, counts_Q = np.bincount(pair, value_NN[counted_NN], Q), np.bincount(pair, minlength=Q)
        return np.asarray((self._pair_weights @ sums_Q) / np.maximum(self._pair_weights @ counts_Q, 1))

    def share_of_pairs(self, bin_NN: Ids, bins: int, *, distinct: bool = False) -> Array:
        """Return the share of pairs of windows that lies in each bin, (R, B); ``distinct`` as for a mean."""
        counted_NN = self._counted(distinct)
        code = self._pairs[counted_NN] * bins + bin_NN[counted_NN]
        counts_QB = np.bincount(code, minlength=self.pieces**2 * bins).reshape(-1, bins)
        counts_RB = self._pair_weights @ counts_QB
        return np.asarray(counts_RB / np.maximum(counts_RB.sum(1, keepdims=True), 1))

    def _counted(self, distinct: bool) -> npt.NDArray[np.bool_]:
        return ~np.eye(self.windows, dtype=np.bool_) if distinct else np.ones((self.windows,) * 2, np.bool_)


def estimate(value_R: Array, *, most: float = np.inf) -> Estimate:
    """Return a measured value, the first, with the 95 % interval of its draws.

    Distances of finite sets are too large, and more so when only some of the pieces are drawn. So the draws
    tell how far a figure strays, and not where it lies: their mean is moved to the measured value.

    Args:
        value_R: of each draw.
        most: what cannot be exceeded, nor can the interval.
    """
    value, drawn_R = float(value_R[0]), value_R[1:]
    low, high = np.percentile(drawn_R - drawn_R.mean() + value, [2.5, 97.5])
    value, low, high = (round(float(x), 12) + 0.0 for x in (value, low, high))  # what cancels is 0, not -0
    return Estimate(value=value, low=low, high=min(high, most))
