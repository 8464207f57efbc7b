"""Judges that took no part in any training: two of different kinds, taught anew for every comparison.

One is boosted trees (Friedman 2001) on features of whole windows, the other a small
transformer that hears note after note (``musebridge.training.study.note_transformer``); neither
knows anything of a generator. Both are cross-fitted: pieces are dealt into folds,
and what is said of a fold is said by a judge that heard none of its pieces.
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
from musebridge.training.metrics.classification import Scores
from musebridge.training.metrics.features import notes_of, vector
from musebridge.training.study import note_transformer

Array = npt.NDArray[np.float64]
Tokens = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Exhibits = npt.NDArray[Any]
OnProgress = Callable[[float], None]
Verdicts = Callable[[Exhibits], Scores]

_SHORT = 12
"""Shifts of so many steps and fewer are counted one by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """A kind of judge.

    Attributes:
        name: for the report.
        folds: into which pieces are dealt.
        perceive: makes an exhibit of a window and of how many tokens are its seed.
        teach: learns from exhibits, and which of them are real; returns what tells how real others are.
        workers: how many folds are taught at once; default one a core.
    """

    name: str
    folds: int
    perceive: Callable[[Tokens, int], Exhibits]
    teach: Callable[[Exhibits, Bools, OnProgress], Verdicts]
    workers: int | None = None

    def cross_fitted(
        self,
        exhibits: Exhibits,
        is_real_M: Bools,
        piece_M: Tokens,
        *,
        asked_M: Bools | None = None,
        on_progress: OnProgress = lambda share: None,
    ) -> Scores:
        """Return how real each exhibit is to a judge that was taught on other pieces.

        Args:
            exhibits: M of them.
            is_real_M: which of them are real.
            piece_M: the piece that each is from.
            asked_M: which are to be judged, default all; the others only teach.
            on_progress: called with the share that is done, 0..1.

        Returns:
            The scores of those that were asked for, in their order: ranks among those of the same fold, 0..1.
        """
        asked = np.arange(len(piece_M)) if asked_M is None else np.flatnonzero(asked_M)
        piece_N, score_N = piece_M[asked], np.full(len(asked), np.nan)
        folds = min(self.folds, len(np.unique(piece_N)))
        done_K = np.zeros(folds)

        def judge(k: int, held_out: npt.NDArray[np.int64]) -> None:
            def tell(share: float) -> None:
                done_K[k] = share
                on_progress(float(done_K.mean()))

            taught_M = ~np.isin(piece_M, piece_N[held_out])
            verdicts = self.teach(exhibits[taught_M], is_real_M[taught_M], tell)
            # Ranks, since each judge has a scale of its own; every fold holds as much of each system as of real music.
            score_N[held_out] = rankdata(verdicts(exhibits[asked[held_out]])) / len(held_out)

        split = GroupKFold(folds).split(piece_N, groups=piece_N)
        parallel_map([partial(judge, k, held_out) for k, (_, held_out) in enumerate(split)], workers=self.workers)
        return score_N


def judges(lessons: note_transformer.Lessons) -> list[Judge]:
    """Return one judge of each kind."""
    return [
        # One at a time: while it bins, scikit-learn empties the process's list of warning filters.
        Judge(name="boosted trees", folds=4, perceive=features, teach=_teach_trees, workers=1),
        Judge(
            name="transformer",
            folds=2,
            perceive=note_transformer.heard,
            teach=partial(note_transformer.teach, lessons=lessons),
        ),
    ]


def features(window_T: Tokens, seeded: int) -> Array:
    """Return what the trees are told of a window, shape (118,).

    The features of the continuation (``musebridge.training.metrics.features``), how far they are from the seed's, and
    how often each short shift occurs in the continuation and in the seed.
    """
    seed_T, part_T = window_T[:seeded], window_T[seeded:]
    seed_F, part_F = (vector(notes_of(part)) for part in (seed_T, part_T))
    shifts = [_short_shifts(part) for part in (part_T, seed_T)]
    return np.concatenate([part_F, part_F - seed_F, *shifts, shifts[0] - shifts[1]])


def _short_shifts(tokens_T: Tokens) -> Array:
    shift_N = tokens_T[(tokens_T >= vocab.TIME_SHIFT) & (tokens_T < vocab.VELOCITY)] - vocab.TIME_SHIFT
    return np.bincount(shift_N, minlength=_SHORT)[:_SHORT] / max(1, len(shift_N))


def _teach_trees(feature_MF: Exhibits, is_real_M: Bools, on_progress: OnProgress) -> Verdicts:
    # The classes are not weighted: ranks do not ask for it, and weights make fits fifteen times as slow.
    trees = HistGradientBoostingClassifier(
        learning_rate=0.05, max_iter=200, max_leaf_nodes=12, l2_regularization=1.0, max_features=0.3,
        early_stopping=False, random_state=0,
    )  # fmt: skip
    trees.fit(feature_MF, is_real_M)
    on_progress(1.0)
    return lambda others_NF: np.asarray(trees.decision_function(others_NF), np.float64)


def shorter(lessons: note_transformer.Lessons, share: float) -> note_transformer.Lessons:
    """Return the same lessons, but fewer."""
    return replace(lessons, steps=max(1, round(share * lessons.steps)))
