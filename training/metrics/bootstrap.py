"""How sure figures of many windows are: the bootstrap over pieces, with the same draws for every system.

Windows of one piece are not independent, so what is drawn anew is pieces
(Field and Welsh 2007, the cluster bootstrap). AUROC, MMD and overlapping areas
are means over pairs of windows; summed once for each pair of pieces, they cost
a draw next to nothing.

Names end in their shape: N windows, each real one beside the artificial one of the
same seed; P pieces; R draws, the first of which takes every piece once; F features; B bins.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from musebridge.training.metrics.classification import Estimate, Ids, Scores

Array = npt.NDArray[np.float64]

_BINS = 400


class ClusterBootstrap:
    """Pieces drawn anew.

    Every measure returns one value for each draw, shape (R,), of which :func:`estimate`
    makes a figure with its interval. Differences of two systems are paired, since they share the draws.

    Args:
        piece_N: the piece that each window is from.
        resamples: how many draws to make beside the first.
        seed: of the draws.
    """

    def __init__(self, piece_N: Ids, *, resamples: int = 500, seed: int = 0) -> None:
        pieces, self._member_N = np.unique(piece_N, return_inverse=True)
        self.pieces, self.windows = len(pieces), len(piece_N)
        even_P = np.full(self.pieces, 1 / self.pieces)
        drawn_RP = np.random.default_rng(seed).multinomial(self.pieces, even_P, resamples)
        self._weight_RP = np.concatenate([np.ones((1, self.pieces)), drawn_RP])
        self._both_RQ = (self._weight_RP[:, :, None] * self._weight_RP[:, None]).reshape(resamples + 1, -1)

    @cached_property
    def _pair_NN(self) -> Ids:  # noqa: N802  # the name ends in its shape
        """The number of the pair of pieces that a pair of windows is from; of many windows it is large."""
        return np.asarray(self._member_N[:, None] * self.pieces + self._member_N)

    def mean(self, value_N: Array) -> Array:
        """Return the mean of the windows' values; NaN is none."""
        known_N = ~np.isnan(value_N)
        sums_P = np.bincount(self._member_N[known_N], value_N[known_N], self.pieces)
        counts_P = np.bincount(self._member_N[known_N], minlength=self.pieces)
        return np.asarray((self._weight_RP @ sums_P) / np.maximum(self._weight_RP @ counts_P, 1))

    def auroc(self, real_N: Scores, fake_N: Scores) -> Array:
        """Return how often a real window is scored above an artificial one; a tie counts half."""
        wins_NN = (real_N[:, None] > fake_N) + 0.5 * (real_N[:, None] == fake_N)
        return self._mean_of_pairs(wins_NN)

    def mmd(self, real_NF: Array, fake_NF: Array) -> Array:
        """Return the unbiased squared maximum mean discrepancy (Gretton et al. 2012, eq. 3).

        The kernel is Gaussian, as wide as the median distance of real windows: the same for all systems.
        """
        within_NN, other_NN, across_NN = (
            cdist(*sets, "sqeuclidean") for sets in ((real_NF, real_NF), (fake_NF, fake_NF), (real_NF, fake_NF))
        )
        width = np.median(within_NN[np.triu_indices(len(within_NN), 1)])
        real_R, fake_R = (self._mean_of_pairs(np.exp(-x_NN / width), distinct=True) for x_NN in (within_NN, other_NN))
        return real_R + fake_R - 2 * self._mean_of_pairs(np.exp(-across_NN / width))

    def frechet(self, real_NF: Array, fake_NF: Array) -> Array:
        """Return the squared Fréchet distance of the Gaussians of two sets (Heusel et al. 2017, eq. 6)."""
        (mean_RF, cov_RFF), (other_RF, other_RFF) = self._moments(real_NF), self._moments(fake_NF)
        value_RF, vector_RFF = np.linalg.eigh(cov_RFF)
        root_RFF = (vector_RFF * np.sqrt(np.maximum(value_RF, 0))[:, None]) @ vector_RFF.transpose(0, 2, 1)
        between_RF = np.sqrt(np.maximum(np.linalg.eigvalsh(root_RFF @ other_RFF @ root_RFF), 0))
        traces_R = np.trace(cov_RFF + other_RFF, axis1=1, axis2=2)
        return np.asarray(((mean_RF - other_RF) ** 2).sum(1) + traces_R - 2 * between_RF.sum(1))

    def overlap(self, real_N: Array, fake_N: Array) -> Array:
        """Return the overlapping area of one feature; see ``musebridge.training.metrics.distances.overlapping_area``.

        Distances are binned before their density is smoothed (Silverman 1982), as widely as Scott's rule has it.
        """
        within_NN, across_NN = np.abs(real_N[:, None] - real_N), np.abs(real_N[:, None] - fake_N)
        top = max(within_NN.max(), across_NN.max())
        if top == 0:
            return np.ones(len(self._weight_RP))
        both = [self._density(x_NN, top, distinct=x_NN is within_NN) for x_NN in (within_NN, across_NN)]
        return np.asarray(np.minimum(*both).sum(1))

    def _density(self, distance_NN: Array, top: float, *, distinct: bool) -> Array:
        """Return the share of pairs that lies in each bin of 0..top, (R, B)."""
        bin_NN = np.minimum((distance_NN * (_BINS / top)).astype(np.int64), _BINS - 1)
        counted_NN = ~np.eye(self.windows, dtype=np.bool_) if distinct else np.ones_like(bin_NN, np.bool_)
        code = self._pair_NN[counted_NN] * _BINS + bin_NN[counted_NN]
        counts_QB = np.bincount(code, minlength=self.pieces**2 * _BINS).reshape(-1, _BINS)
        counts_RB = self._both_RQ @ counts_QB
        wide = distance_NN[counted_NN].std() * len(code) ** -0.2 * _BINS / top
        apart_BB = (np.arange(_BINS)[:, None] - np.arange(_BINS)) / max(wide, 0.3)
        smooth_BB = np.exp(-0.5 * apart_BB**2) / (max(wide, 0.3) * np.sqrt(2 * np.pi))
        return np.asarray(counts_RB @ smooth_BB / np.maximum(counts_RB.sum(1, keepdims=True), 1))

    def _mean_of_pairs(self, value_NN: Array, *, distinct: bool = False) -> Array:
        """Return the mean over pairs of a figure; ``distinct``: a window makes no pair with itself."""
        counted_NN = ~np.eye(self.windows, dtype=np.bool_) if distinct else np.ones_like(value_NN, np.bool_)
        pair, Q = self._pair_NN[counted_NN], self.pieces**2
        sums_Q, counts_Q = np.bincount(pair, value_NN[counted_NN], Q), np.bincount(pair, minlength=Q)
        return np.asarray((self._both_RQ @ sums_Q) / np.maximum(self._both_RQ @ counts_Q, 1))

    def _moments(self, x_NF: Array) -> tuple[Array, Array]:
        """Return means, (R, F), and covariances, (R, F, F)."""
        weight_RN = self._weight_RP[:, self._member_N]
        weight_RN /= weight_RN.sum(1, keepdims=True)
        mean_RF = weight_RN @ x_NF
        square_RFF = np.einsum("rn,nf,ng->rfg", weight_RN, x_NF, x_NF, optimize=True)
        return mean_RF, square_RFF - mean_RF[:, :, None] * mean_RF[:, None]


def estimate(value_R: Array) -> Estimate:
    """Return a measured value, the first, with the 95 % interval of its draws.

    Distances of finite sets are too large, and more so when only some of the pieces are drawn. So the draws
    tell how far a figure strays, and not where it lies: their mean is moved to the measured value.
    """
    value, drawn_R = float(value_R[0]), value_R[1:]
    low, high = np.percentile(drawn_R - drawn_R.mean() + value, [2.5, 97.5])
    value, low, high = (round(float(x), 12) + 0.0 for x in (value, low, high))  # what cancels is 0, not -0
    return Estimate(value=value, low=low, high=high)
