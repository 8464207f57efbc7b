import numpy as np
import pytest

from musebridge import vocab
from musebridge.training.metrics import distances


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
    assert distances.frechet(a, b) == pytest.approx(2**2 + (3 - 1) ** 2, rel=0.03)


def test_the_discrepancy_of_a_set_and_itself_split_is_about_nothing(rng):
    a, b = rng.standard_normal((2, 400, 3))
    assert abs(distances.mmd(a, b)) < 0.005
    assert distances.mmd(a, b + 1) > 0.1


def test_the_overlapping_area_of_one_distribution_is_nearly_all(rng):
    a, b = rng.standard_normal((2, 300))
    assert distances.overlapping_area(a, b) > 0.95
    assert distances.overlapping_area(a, b + 6) < 0.2


def test_a_feature_that_never_varies_overlaps_or_does_not():
    assert distances.overlapping_area(np.ones(5), np.ones(4)) == 1.0
    assert distances.overlapping_area(np.ones(5), np.zeros(4)) == 0.0


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
