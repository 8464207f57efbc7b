import numpy as np
import pytest

from musebridge.training.metrics.diversity import distinct, self_bleu


def test_distinct_counts_runs_once():
    assert distinct(np.array([[1, 2, 3, 4, 5], [1, 2, 3, 4, 9]]), 4) == 3 / 4


def test_continuations_that_are_all_the_same_are_no_variety_at_all():
    assert self_bleu(np.array([[1, 2, 3, 4, 5]] * 3)) == 1.0


def test_continuations_that_share_nothing_are_all_variety():
    assert self_bleu(np.arange(30).reshape(3, 10)) == 0.0


def test_self_bleu_of_known_strings():
    """By hand: each shares 4 of 5 tokens, 3 of 4 pairs, 2 of 3 triples and 1 of 2 runs of four with the other."""
    strings = np.array([[1, 2, 3, 4, 5], [1, 2, 3, 4, 9]])
    assert self_bleu(strings) == pytest.approx((4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)


def test_a_run_counts_no_more_often_than_in_the_best_reference():
    """Papineni et al. 2002: "the the the …" matches as often as one reference has it, not as all together."""
    strings = np.array([[7, 7, 7, 7, 7, 7], [7, 7, 7, 7, 7, 1], [7, 7, 7, 7, 7, 2]])
    first = (5 / 6 * 4 / 5 * 3 / 4 * 2 / 3) ** 0.25
    others = (5 / 6 * 4 / 5 * 3 / 4 * 2 / 3) ** 0.25
    assert self_bleu(strings) == pytest.approx((first + 2 * others) / 3)
