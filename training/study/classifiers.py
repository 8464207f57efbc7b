"""Classifiers that took no part in any other training: two of different kinds, trained anew for every comparison.

One is boosted trees (Friedman 2001) on features of whole windows, the other a small
transformer that reads note after note (``musebridge.training.study.note_transformer``); neither
knows anything of a generator. Both are cross-fitted: pieces are dealt into folds,
and a fold is scored by a classifier that was trained on none of its pieces.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import GroupKFold

from musebridge import vocab
from musebridge.training.compute.parallel import parallel_map
from musebridge.training.data.tokens import Tokens
from musebridge.training.metrics.classification import Scores
from musebridge.training.metrics.features import notes_of, vector
from musebridge.training.study import note_transformer

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Features = npt.NDArray[Any]
OnProgress = Callable[[float], None]
Verdicts = Callable[[Features], Scores]

_SHORT = 12
"""Shifts of so many steps and fewer are counted one by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Classifier:
    """A kind of classifier.

    Attributes:
        name: for the report.
        folds: into which pieces are dealt.
        featurize: makes features of a window and of how many tokens are its seed.
        fit: learns from features, and which of them are real; returns what tells how real others are.
        workers: how many folds are trained at once; default one a core.
    """

    name: str
    folds: int
    featurize: Callable[[Tokens, int], Features]
    fit: Callable[[Features, Bools, OnProgress], Verdicts]
    workers: int | None = None

    def cross_fitted(
        self,
        features_M: Features,
        is_real_M: Bools,
        piece_M: Tokens,
        *,
        asked_M: Bools | None = None,
        on_progress: OnProgress = lambda share: None,
    ) -> Scores:
        """Return how real each window is to a classifier that was trained on other pieces.

        Args:
            features_M: of M windows.
            is_real_M: which of them are real.
            piece_M: the piece that each is from.
            asked_M: which are to be scored, default all; the others are only trained on.
            on_progress: called with the share that is done, 0..1.

        Returns:
            The scores of those that were asked for, in their order: ranks among those of the same fold, 0..1.
        """
        asked = np.arange(len(piece_M)) if asked_M is None else np.flatnonzero(asked_M)
        piece_N, score_N = piece_M[asked], np.full(len(asked), np.nan)
        folds = min(self.folds, len(np.unique(piece_N)))
        done_K = np.zeros(folds)

        def score_fold(k: int, held_out: npt.NDArray[np.int64]) -> None:
            def tell(share: float) -> None:
                done_K[k] = share
                on_progress(float(done_K.mean()))

            trained_on_M = ~np.isin(piece_M, piece_N[held_out])
            verdicts = self.fit(features_M[trained_on_M], is_real_M[trained_on_M], tell)
            # Ranks, since each classifier has a scale of its own; every fold holds as much of each system as of real
            # music.
            score_N[held_out] = rankdata(verdicts(features_M[asked[held_out]])) / len(held_out)

        split = GroupKFold(folds).split(piece_N, groups=piece_N)
        parallel_map([partial(score_fold, k, held_out) for k, (_, held_out) in enumerate(split)], workers=self.workers)
        return score_N


def classifiers(training: note_transformer.TransformerTraining) -> list[Classifier]:
    """Return one classifier of each kind."""
    return [
        # One at a time: while it bins, scikit-learn empties the process's list of warning filters.
        Classifier(name="boosted trees", folds=4, featurize=features, fit=_fit_trees, workers=1),
        Classifier(
            name="transformer",
            folds=2,
            featurize=note_transformer.note_features,
            fit=partial(note_transformer.fit, training=training),
        ),
    ]


def features(window_T: Tokens, seed_length: int) -> Array:
    """Return the trees' features of a window, shape (118,).

    The features of the continuation (``musebridge.training.metrics.features``), how far they are from the seed's, and
    how often each short shift occurs in the continuation and in the seed.
    """
    seed_T, part_T = window_T[:seed_length], window_T[seed_length:]
    seed_F, part_F = (vector(notes_of(part)) for part in (seed_T, part_T))
    shifts = [_short_shifts(part) for part in (part_T, seed_T)]
    return np.concatenate([part_F, part_F - seed_F, *shifts, shifts[0] - shifts[1]])


def _short_shifts(tokens_T: Tokens) -> Array:
    shift_N = tokens_T[(tokens_T >= vocab.TIME_SHIFT) & (tokens_T < vocab.VELOCITY)] - vocab.TIME_SHIFT
    return np.bincount(shift_N, minlength=_SHORT)[:_SHORT] / max(1, len(shift_N))


def _fit_trees(feature_MF: Features, is_real_M: Bools, on_progress: OnProgress) -> Verdicts:
    # The classes are not weighted: ranks do not ask for it, and weights make fits fifteen times as slow.
    trees = HistGradientBoostingClassifier(
        learning_rate=0.05, max_iter=200, max_leaf_nodes=12, l2_regularization=1.0, max_features=0.3,
        early_stopping=False, random_state=0,
    )  # fmt: skip
    trees.fit(feature_MF, is_real_M)
    on_progress(1.0)
    return lambda others_NF: np.asarray(trees.decision_function(others_NF), np.float64)


def shorter(training: note_transformer.TransformerTraining, share: float) -> note_transformer.TransformerTraining:
    """Return the same training with fewer steps."""
    return replace(training, steps=max(1, round(share * training.steps)))
