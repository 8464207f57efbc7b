"""How alike two sets of music are: distances of their features, and diversity of their tokens.

A distance of zero is not to be had from finite sets, so each figure is set
beside that of two halves of the real music. Both sets have as many windows, and
each measure gives a value for each draw of a bootstrap: what a comparison reports
with an interval is the same figure that an evaluation reports without.

Names end in their shape: N windows of either set, F features, R draws, B bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from musebridge.training.data.tokens import AnyTokens
from musebridge.training.metrics.bootstrap import Array, ClusterBootstrap
from musebridge.training.metrics.diversity import distinct
from musebridge.training.metrics.features import SCALARS, notes_of, vector

_BINS = 400
_NARROWEST = 0.3
"""Bins that a density is smoothed over at least."""
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
    real: Sequence[AnyTokens], others: dict[str, Sequence[AnyTokens]]
) -> dict[str, DistributionDistances]:
    """Compare sets of windows with the real one; all have as many windows, and should have as many tokens."""
    vectors = [np.stack([vector(notes_of(window)) for window in windows]) for windows in (real, *others.values())]
    real_NF, *rest = standardise(*vectors)
    draws = ClusterBootstrap.plain(len(real_NF))
    return {
        name: DistributionDistances(
            frechet=frechet(real_NF, other_NF, draws).item(),
            mmd=mmd(real_NF, other_NF, draws).item(),
            overlap=mean_overlapping_area(vectors[0], plain_NF, draws).item(),
            distinct4=distinct(np.stack(windows).astype(np.int64), 4),
            means=dict(zip(SCALARS, plain_NF.mean(0).tolist(), strict=False)),
        )
        for (name, windows), other_NF, plain_NF in zip(others.items(), rest, vectors[1:], strict=True)
    }


def standardise(real_NF: Array, *others: Array) -> list[Array]:
    """Return feature sets in units of the real set's mean and deviation; features that never vary are left out."""
    mean_F, deviation_F = real_NF.mean(0), real_NF.std(0)
    varies = deviation_F**2 > _LEAST_VARIANCE
    return [((x - mean_F) / np.where(varies, deviation_F, 1))[:, varies] for x in (real_NF, *others)]


def frechet(real_NF: Array, fake_NF: Array, draws: ClusterBootstrap) -> Array:
    """Return the squared Fréchet distance of the Gaussians of two sets (Heusel et al. 2017, eq. 6), (R,).

    Covariances are those of the windows as they are, divided by N; nothing is added to them. The root is taken of a
    symmetric product, whose eigenvalues are real, so that features which depend on each other do no harm.
    """
    (mean_RF, cov_RFF), (other_RF, other_RFF) = (_moments(x_NF, draws.weight_RN) for x_NF in (real_NF, fake_NF))
    value_RF, vector_RFF = np.linalg.eigh(cov_RFF)
    root_RFF = (vector_RFF * np.sqrt(np.maximum(value_RF, 0))[:, None]) @ vector_RFF.transpose(0, 2, 1)
    between_RF = np.sqrt(np.maximum(np.linalg.eigvalsh(root_RFF @ other_RFF @ root_RFF), 0))
    traces_R = np.trace(cov_RFF + other_RFF, axis1=1, axis2=2)
    return np.asarray(((mean_RF - other_RF) ** 2).sum(1) + traces_R - 2 * between_RF.sum(1))


def mmd(real_NF: Array, fake_NF: Array, draws: ClusterBootstrap) -> Array:
    """Return the unbiased squared maximum mean discrepancy (Gretton et al. 2012, eq. 3), (R,).

    The kernel is Gaussian, as wide as the median distance of real windows, so the same for all that they are
    compared with; values below 0 mean that the sets cannot be told apart.
    """
    within_NN, other_NN, across_NN = (
        cdist(*sets, "sqeuclidean") for sets in ((real_NF, real_NF), (fake_NF, fake_NF), (real_NF, fake_NF))
    )
    width = np.median(within_NN[np.triu_indices(len(within_NN), 1)])
    real_R, fake_R = (draws.mean_of_pairs(np.exp(-x_NN / width), distinct=True) for x_NN in (within_NN, other_NN))
    return real_R + fake_R - 2 * draws.mean_of_pairs(np.exp(-across_NN / width))


def mean_overlapping_area(real_NF: Array, fake_NF: Array, draws: ClusterBootstrap) -> Array:
    """Return the mean :func:`overlapping_area` of the scalar features, (R,), which come first in a window's."""
    areas = [overlapping_area(real_NF[:, f], fake_NF[:, f], draws) for f in range(len(SCALARS))]
    return np.asarray(np.mean(areas, axis=0))


def overlapping_area(real_N: Array, fake_N: Array, draws: ClusterBootstrap) -> Array:
    """Return how far the distances inside a set and to another set have the same density, 0..1, (R,).

    One scalar feature at a time (Yang and Lerch 2020, section 4.2): densities of the distances of pairs within the
    real set, and from it to the other. Distances are binned before their density is smoothed (Silverman 1982), as
    widely as Scott's rule has it.
    """
    within_NN, across_NN = np.abs(real_N[:, None] - real_N), np.abs(real_N[:, None] - fake_N)
    top = max(within_NN.max(), across_NN.max())
    if top == 0:
        return np.ones(len(draws.weight_RN))
    within_RB = _density(within_NN, top, draws, distinct=True)
    return np.asarray(np.minimum(within_RB, _density(across_NN, top, draws, distinct=False)).sum(1))


def _density(distance_NN: Array, top: float, draws: ClusterBootstrap, *, distinct: bool) -> Array:
    """Return the smoothed share of pairs in each bin of 0..top, (R, B)."""
    bin_NN = np.minimum((distance_NN * (_BINS / top)).astype(np.int64), _BINS - 1)
    counted = distance_NN[~np.eye(len(distance_NN), dtype=np.bool_)] if distinct else distance_NN
    wide = max(counted.std() * counted.size**-0.2 * _BINS / top, _NARROWEST)
    apart_BB = (np.arange(_BINS)[:, None] - np.arange(_BINS)) / wide
    smooth_BB = np.exp(-0.5 * apart_BB**2) / (wide * np.sqrt(2 * np.pi))
    return np.asarray(draws.share_of_pairs(bin_NN, _BINS, distinct=distinct) @ smooth_BB)


def _moments(x_NF: Array, weight_RN: Array) -> tuple[Array, Array]:
    """Return means, (R, F), and covariances, (R, F, F)."""
    weight_RN = weight_RN / weight_RN.sum(1, keepdims=True)
    mean_RF = weight_RN @ x_NF
    square_RFF = np.einsum("rn,nf,ng->rfg", weight_RN, x_NF, x_NF, optimize=True)
    return mean_RF, square_RFF - mean_RF[:, :, None] * mean_RF[:, None]
