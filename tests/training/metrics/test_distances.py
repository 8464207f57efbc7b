import numpy as np
import pytest

from musebridge import vocab
from musebridge.training.metrics import distances
from musebridge.training.metrics.bootstrap import ClusterBootstrap


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_features_are_compared_in_units_of_the_real_ones():
    real, other = distances.standardise(np.array([[0.0, 5.0], [2.0, 5.0]]), np.array([[4.0, 9.0]]))
    assert real.tolist() == [[-1.0], [1.0]]
    assert other.tolist() == [[3.0]]


def test_the_frechet_distance_of_two_gaussians_is_the_closed_form(rng):
    a = rng.standard_normal((20_000, 2))
    b = rng.standard_normal((20_000, 2)) * [1, 3] + [2, 0]
    assert frechet(a, b) == pytest.approx(2**2 + (3 - 1) ** 2, rel=0.03)


def test_the_frechet_distance_is_of_the_windows_as_they_are():
    """Covariances are divided by N, and nothing is added to them."""
    narrow, wide = np.array([[-1.0], [1.0]]), np.array([[2.0], [8.0]])
    assert frechet(narrow, wide) == pytest.approx(5**2 + (3 - 1) ** 2, abs=1e-12)
    twice = [np.repeat(x, 2, axis=1) for x in (narrow, wide)]  # features that depend on each other
    assert frechet(*twice) == pytest.approx(2 * (5**2 + (3 - 1) ** 2), abs=1e-7)
    assert frechet(wide, wide) == pytest.approx(0, abs=1e-12)


def test_the_discrepancy_of_a_set_and_itself_split_is_about_nothing(rng):
    a, b = rng.standard_normal((2, 400, 3))
    assert abs(mmd(a, b)) < 0.005
    assert mmd(a, b + 1) > 0.1


def test_the_kernel_is_as_wide_as_the_median_distance_of_real_windows():
    """So that a system that writes strange music is not measured by a wider one."""
    real, fake = np.array([[0.0], [2.0]]), np.array([[0.0], [6.0]])
    within, other, across = (
        np.exp(-4 / 4),
        np.exp(-36 / 4),
        (1 + np.exp(-36 / 4) + np.exp(-4 / 4) + np.exp(-16 / 4)) / 4,
    )
    assert mmd(real, fake) == pytest.approx(within + other - 2 * across, abs=1e-12)


def test_the_overlapping_area_of_one_distribution_is_nearly_all(rng):
    a, b = rng.standard_normal((2, 300))
    assert overlapping_area(a, b) > 0.95
    assert overlapping_area(a, b + 6) < 0.2


def test_a_feature_that_never_varies_overlaps_or_does_not():
    assert overlapping_area(np.ones(5), np.ones(5)) == 1.0
    assert overlapping_area(np.ones(5), np.zeros(5)) == pytest.approx(0.0, abs=1e-12)


def frechet(a_NF: np.ndarray, b_NF: np.ndarray) -> float:
    return distances.frechet(a_NF, b_NF, ClusterBootstrap.plain(len(a_NF))).item()


def mmd(a_NF: np.ndarray, b_NF: np.ndarray) -> float:
    return distances.mmd(a_NF, b_NF, ClusterBootstrap.plain(len(a_NF))).item()


def overlapping_area(a_N: np.ndarray, b_N: np.ndarray) -> float:
    return distances.overlapping_area(a_N, b_N, ClusterBootstrap.plain(len(a_N))).item()


def test_music_is_likest_to_music_of_its_kind(rng):
    def windows(low: int, high: int) -> list[np.ndarray]:
        pitches = rng.integers(low, high, (60, 20))
        return [
            np.stack([row, np.full(20, vocab.TIME_SHIFT + 9), row + vocab.NOTE_OFF], 1).flatten() for row in pitches
        ]

    found = distances.distribution_distances(windows(60, 84), {"same": windows(60, 84), "narrow": windows(60, 64)})
    assert found["same"].frechet < found["narrow"].frechet
    assert found["same"].mmd < 0.05 < found["narrow"].mmd
    assert found["same"].overlap > found["narrow"].overlap
    assert found["same"].means["pitch range"] == pytest.approx(22, abs=1)
    assert found["narrow"].distinct4 < found["same"].distinct4
