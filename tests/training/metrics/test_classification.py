"""Figures of a judge, and how sure they are."""

import numpy as np
import pytest
from sklearn import metrics

from musebridge.training.metrics.classification import auroc, best_threshold, classification_metrics

RNG = np.random.default_rng(0)
PIECE_N = np.repeat(np.arange(40), 10)


def test_one_that_knows_nothing_is_at_chance_and_says_how_sure():
    known = classification_metrics(RNG.normal(size=400), RNG.normal(size=400), PIECE_N, resamples=100)
    assert known.auroc.low < 0.5 < known.auroc.high
    assert 0.03 < known.auroc.high - known.auroc.low < 0.15
    assert known.mcc.low < 0 < known.mcc.high
    assert (known.pairs, known.pieces) == (400, 40)


def test_one_that_always_says_real_has_no_skill_whatever_its_f1():
    always = classification_metrics(np.ones(400), np.ones(400), PIECE_N, resamples=20)
    assert (always.auroc.value, always.mcc.value) == (0.5, 0.0)
    assert always.macro_f1.value == pytest.approx(1 / 3)


def test_one_that_knows_all_is_sure():
    knows = classification_metrics(np.ones(400), np.zeros(400), PIECE_N, threshold=0.5, resamples=20)
    assert [(f.low, f.value, f.high) for f in (knows.auroc, knows.macro_f1, knows.mcc)] == [(1.0, 1.0, 1.0)] * 3
    assert str(knows.auroc) == "1.000 [1.000, 1.000]"


def test_windows_of_one_piece_count_as_one_witness():
    """Scores that depend on the piece alone: drawn by windows, the interval would be a third as wide."""
    real_N = RNG.normal(size=40)[PIECE_N]
    fake_N = RNG.normal(size=40)[PIECE_N]
    clustered = classification_metrics(real_N, fake_N, PIECE_N, resamples=100).auroc
    independent = classification_metrics(real_N, fake_N, np.arange(400), resamples=100).auroc
    assert clustered.high - clustered.low > 2 * (independent.high - independent.low)


def test_the_figures_are_those_of_scikit_learn():
    real_N, fake_N = np.round(RNG.normal(0.4, 1, 400), 1), np.round(RNG.normal(size=400), 1)  # with ties
    truth, scores = np.repeat([1, 0], 400), np.concatenate([real_N, fake_N])
    found = classification_metrics(real_N, fake_N, PIECE_N, threshold=0.2, resamples=2)
    assert found.auroc.value == pytest.approx(metrics.roc_auc_score(truth, scores))
    assert found.macro_f1.value == pytest.approx(metrics.f1_score(truth, scores >= 0.2, average="macro"))
    assert found.mcc.value == pytest.approx(metrics.matthews_corrcoef(truth, scores >= 0.2))


def test_the_threshold_is_where_most_answers_are_right():
    assert best_threshold(np.array([3.0, 4.0, 5.0, 1.0]), np.array([0.0, 1.5, 2.0, 2.5])) == 3.0
    assert auroc(np.array([3.0, 1.0]), np.array([2.0])) == 0.5
