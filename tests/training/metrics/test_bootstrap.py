"""Figures under the bootstrap over pieces: the same as measured plainly, as sure as they are, and paired."""

from __future__ import annotations

import numpy as np
import pytest

from musebridge.training.metrics.bootstrap import ClusterBootstrap, estimate
from musebridge.training.metrics.classification import auroc, aurocs, classification_metrics
from musebridge.training.metrics.distances import frechet, mmd, overlapping_area

PIECES, EACH = 24, 6


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def pieces() -> np.ndarray:
    return np.repeat(np.arange(PIECES) * 3 + 1, EACH)


def test_the_first_draw_is_the_plain_measure(rng, pieces):
    """So an evaluation's figure is the one that a comparison gives an interval."""
    real_NF, fake_NF = rng.standard_normal((2, PIECES * EACH, 4)) + np.array([0, 0.3])[:, None, None]
    draws, plain = ClusterBootstrap(pieces, resamples=10), ClusterBootstrap.plain(len(pieces))
    real_N, fake_N = real_NF[:, 0].round(1), fake_NF[:, 0].round(1)  # with ties
    assert aurocs(real_N, fake_N, draws)[0] == auroc(real_N, fake_N)
    for measure, *sets in ((frechet, real_NF, fake_NF), (mmd, real_NF, fake_NF), (overlapping_area, real_N, fake_N)):
        found_R, (expected,) = measure(*sets, draws), measure(*sets, plain)
        assert found_R.shape == (11,)
        assert found_R[0] == pytest.approx(expected, rel=1e-9)


def test_a_judges_interval_is_the_comparisons(rng, pieces):
    """Both draw pieces, and move the draws' mean to what was measured."""
    real_N, fake_N = rng.standard_normal((2, len(pieces))) + np.array([[0.5], [0.0]])
    found = classification_metrics(real_N, fake_N, pieces, resamples=200).auroc
    assert found == estimate(aurocs(real_N, fake_N, ClusterBootstrap(pieces, resamples=200)))


def test_an_interval_does_not_exceed_what_can_be(rng):
    drawn_R = np.array([0.99, 0.8, 0.99, 1.0])
    assert estimate(drawn_R, most=1).high == 1
    assert estimate(drawn_R).high > 1


def test_a_draw_is_the_measure_of_the_pieces_that_it_took(rng):
    pieces = np.array([5, 5, 9, 9])
    real_N, fake_N = rng.standard_normal((2, 4))
    bootstrap = ClusterBootstrap(pieces, resamples=20)
    first, second = auroc(real_N[:2], fake_N[:2]), auroc(real_N[2:], fake_N[2:])
    expected = {round(x, 9) for x in (first, second, auroc(real_N, fake_N))}
    assert {round(x, 9) for x in aurocs(real_N, fake_N, bootstrap)} == expected


def test_a_feature_that_never_varies_overlaps():
    assert (overlapping_area(np.ones(4), np.ones(4), ClusterBootstrap(np.arange(4), resamples=3)) == 1).all()


def test_an_interval_holds_the_truth_about_as_often_as_it_says(rng, pieces):
    """Windows of a piece are alike, so that a bootstrap over windows would hold it far too rarely."""
    held, held_by_windows, trials = 0, 0, 100
    for trial in range(trials):
        of_piece = rng.standard_normal((2, PIECES)).repeat(EACH, 1)
        real_N, fake_N = of_piece + 0.3 * rng.standard_normal(of_piece.shape)  # alike: the truth is .5
        for of in (pieces, np.arange(len(pieces))):
            found = estimate(aurocs(real_N, fake_N, ClusterBootstrap(of, resamples=100, seed=trial)))
            if of is pieces:
                held += found.low <= 0.5 <= found.high
            else:
                held_by_windows += found.low <= 0.5 <= found.high
    assert 0.87 <= held / trials <= 0.99
    assert held_by_windows / trials < 0.75


def test_a_paired_gain_has_the_right_sign_and_is_surer_than_two_figures(rng, pieces):
    of_piece = rng.standard_normal(PIECES).repeat(EACH)
    real_N, noise_N = of_piece + rng.standard_normal((2, len(pieces)))
    worse_N, better_N = noise_N - 1.0, noise_N - 0.5
    bootstrap = ClusterBootstrap(pieces)
    worse_R, better_R = (aurocs(real_N, fake_N, bootstrap) for fake_N in (worse_N, better_N))
    gain, worse, better = estimate(worse_R - better_R), estimate(worse_R), estimate(better_R)
    assert 0 < gain.low < gain.value < gain.high
    assert gain.high - gain.low < min(x.high - x.low for x in (worse, better))


def test_distances_grow_with_what_is_far(rng, pieces):
    real_NF, near_NF, far_NF = rng.standard_normal((3, len(pieces), 3)) + np.array([0, 0.1, 3.0])[:, None, None]
    bootstrap = ClusterBootstrap(pieces)
    for measure in (frechet, mmd):
        assert estimate(measure(real_NF, far_NF, bootstrap) - measure(real_NF, near_NF, bootstrap)).low > 0
    areas = [overlapping_area(real_NF[:, 0], other_NF[:, 0], bootstrap) for other_NF in (near_NF, far_NF)]
    assert estimate(areas[0] - areas[1]).low > 0
