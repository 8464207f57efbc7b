"""How alike two sets of music are: distances of their features, and diversity of their tokens.

A distance of zero is not to be had from finite sets, so each figure is set
beside that of two halves of the real music.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.integrate import trapezoid
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist
from scipy.stats import gaussian_kde

from musebridge.training.metrics.diversity import distinct
from musebridge.training.metrics.features import SCALARS, Array, notes_of, vector

Tokens = npt.NDArray[np.generic]
_GRID = 500
_LEAST_VARIANCE = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class DistributionDistances:
    """How a set of windows compares with real music.

    Attributes:
        frechet, mmd: distances of all features; less is better.
        overlap: mean overlapping area of the scalar features, 0..1.
        distinct4: share of different 4-grams of tokens.
        means: of each scalar feature.
    """

    frechet: float
    mmd: float
    overlap: float
    distinct4: float
    means: dict[str, float]


def distribution_distances(
    real: Sequence[Tokens], others: dict[str, Sequence[Tokens]]
) -> dict[str, DistributionDistances]:
    """Compare sets of windows with the real one; all should have as many tokens."""
    vectors = [np.stack([vector(notes_of(window)) for window in windows]) for windows in (real, *others.values())]
    real_NF, *rest = standardise(*vectors)
    return {
        name: DistributionDistances(
            frechet=frechet(real_NF, other_MF),
            mmd=mmd(real_NF, other_MF),
            overlap=float(np.mean([overlapping_area(vectors[0][:, i], plain_MF[:, i]) for i in range(len(SCALARS))])),
            distinct4=distinct(np.stack(windows).astype(np.int64), 4),
            means=dict(zip(SCALARS, plain_MF.mean(0).tolist(), strict=False)),
        )
        for (name, windows), other_MF, plain_MF in zip(others.items(), rest, vectors[1:], strict=True)
    }


def standardise(real_NF: Array, *others: Array) -> list[Array]:
    """Return feature sets in units of the real set's mean and deviation; features that never vary are left out."""
    mean_F, deviation_F = real_NF.mean(0), real_NF.std(0)
    varies = deviation_F**2 > _LEAST_VARIANCE
    return [((x - mean_F) / np.where(varies, deviation_F, 1))[:, varies] for x in (real_NF, *others)]


def frechet(a_NF: Array, b_MF: Array) -> float:
    """Return the squared Fréchet distance of two sets' Gaussians (Heusel et al. 2017, eq. 6)."""
    covariance_a, covariance_b = (np.cov(x, rowvar=False) + 1e-6 * np.eye(x.shape[1]) for x in (a_NF, b_MF))
    between = np.real(sqrtm(covariance_a @ covariance_b))
    apart = ((a_NF.mean(0) - b_MF.mean(0)) ** 2).sum()
    return float(apart + np.trace(covariance_a + covariance_b - 2 * between))


def mmd(a_NF: Array, b_MF: Array) -> float:
    """Return the unbiased squared maximum mean discrepancy (Gretton et al. 2012, eq. 3).

    The kernel is Gaussian, as wide as the median distance of all points; values
    below 0 mean that the sets cannot be told apart.
    """
    both = np.concatenate([a_NF, b_MF])
    distance = cdist(both, both, "sqeuclidean")
    kernel = np.exp(-distance / np.median(distance[np.triu_indices_from(distance, 1)]))
    n = len(a_NF)
    within_a, within_b = (_mean_off_diagonal(k) for k in (kernel[:n, :n], kernel[n:, n:]))
    return within_a + within_b - 2 * float(kernel[:n, n:].mean())


def overlapping_area(real_N: Array, other_M: Array) -> float:
    """Return how far the distances inside a set and to another set have the same density, 0..1.

    One scalar feature at a time (Yang and Lerch 2020, section 4.2): densities of
    the pairwise distances within the real set, and from it to the other.
    """
    within = np.abs(real_N[:, None] - real_N)[np.triu_indices(len(real_N), 1)]
    across = np.abs(real_N[:, None] - other_M).flatten()
    if min(np.ptp(within), np.ptp(across)) ** 2 < _LEAST_VARIANCE:
        return float(np.allclose(within.mean(), across.mean()))
    grid = np.linspace(0, max(within.max(), across.max()), _GRID)
    smaller = np.minimum(gaussian_kde(within)(grid), gaussian_kde(across)(grid))
    return float(trapezoid(smaller, grid))


def _mean_off_diagonal(square: Array) -> float:
    n = len(square)
    return float((square.sum() - np.trace(square)) / (n * (n - 1)))
