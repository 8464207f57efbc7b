"""The classifier two-sample test (Lopez-Paz and Oquab 2017), with a logistic regression on a generator's statistics."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from musebridge.training.compute.precision import autocast
from musebridge.training.metrics.classification import Scores
from musebridge.training.models.generator import Generator
from musebridge.training.models.token_features import statistics, token_features

_AT_ONCE = 16
_FOLDS = 5


@torch.no_grad()
def token_statistics(frozen: Generator, window_NT: Tensor, seed_length: int) -> npt.NDArray[np.float64]:
    """Return what the classifier knows of each continuation: the statistics of its token features, (N, 18)."""
    rows = []
    for window_BT in torch.split(window_NT, _AT_ONCE):
        with autocast(window_BT.device):
            features_BTF = token_features(frozen, window_BT)
        rows.append(statistics(window_BT[:, seed_length:], features_BTF[:, seed_length:]).double().cpu().numpy())
    return np.concatenate(rows)


def cross_validated_scores(
    real_NF: npt.NDArray[np.float64], fake_NF: npt.NDArray[np.float64], piece_N: npt.NDArray[np.int64]
) -> tuple[Scores, Scores]:
    """Return the scores of real and artificial windows by a classifier that was not trained on their pieces."""
    features_MF, truth_M = np.concatenate([real_NF, fake_NF]), np.repeat([1, 0], len(piece_N))
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    folds = GroupKFold(min(_FOLDS, len(np.unique(piece_N))))
    scores_M = cross_val_predict(
        classifier, features_MF, truth_M, groups=np.tile(piece_N, 2), cv=folds, method="decision_function"
    )
    return scores_M[: len(piece_N)], scores_M[len(piece_N) :]
