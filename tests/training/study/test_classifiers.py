"""Fresh judges: what is like real music is told by none, what is not by each, and always on other pieces."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

from musebridge import vocab
from musebridge.training.metrics.classification import auroc
from musebridge.training.study import note_transformer
from musebridge.training.study.classifiers import Classifier, classifiers, features
from musebridge.training.study.note_transformer import AFTER, BEFORE, TransformerTraining

pytestmark = pytest.mark.usefixtures("one_thread")

SEEDED, CONTINUED, EACH = 24, 48, 10
TRAINING = TransformerTraining(steps=60, batch=16, muon_lr=0.03, shape=note_transformer.small(16))


def music(rng: np.random.Generator, windows: int, *, spread: int = 12) -> np.ndarray:
    """Return windows of notes with a velocity, a length and a gap: six tokens a note, pitches within ``spread``."""
    notes = (SEEDED + CONTINUED) // 6
    pitch = rng.integers(60, 60 + spread, (windows, notes))
    shift = vocab.TIME_SHIFT + rng.integers(5, 20, (2, windows, notes))
    velocity = vocab.VELOCITY + rng.integers(10, 20, (windows, notes))
    after = np.full_like(pitch, vocab.TIME_SHIFT + 1)
    note = [velocity, pitch, shift[0], pitch + vocab.NOTE_OFF, shift[1], after]
    return np.stack(note, -1).reshape(windows, -1)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(params=[0, 1], ids=["trees", "transformer"])
def judge(request) -> Classifier:
    return classifiers(TRAINING)[request.param]


def scored(judge: Classifier, real: np.ndarray, fake: np.ndarray) -> float:
    features_M = np.stack([judge.featurize(window_T, SEEDED) for window_T in np.concatenate([real, fake])])
    piece_M = np.tile(np.arange(len(real)) // EACH, 2)
    scores_M = judge.cross_fitted(features_M, np.arange(2 * len(real)) < len(real), piece_M)
    return auroc(*np.split(scores_M, 2))


def test_music_of_the_same_kind_is_told_apart_by_no_judge(judge, rng):
    assert 0.38 < scored(judge, *music(rng, 200).reshape(2, 100, -1)) < 0.62


def test_noise_is_told_apart_by_every_judge(judge, rng):
    noise = music(rng, 100)
    noise[:, SEEDED:] = rng.integers(0, vocab.N_EVENTS, noise[:, SEEDED:].shape)
    assert scored(judge, music(rng, 100), noise) > 0.97


def test_other_pitches_are_told_apart_by_every_judge(judge, rng):
    assert scored(judge, music(rng, 100), music(rng, 100, spread=3)) > 0.9


def test_no_judge_is_taught_on_a_piece_that_it_judges(rng):
    taught: list[set[int]] = []
    judged: list[tuple[set[int], set[int]]] = []

    def fit(features_M, is_real, on_progress):
        mine = set(features_M[:, 0].tolist())
        taught.append(mine)
        return lambda others: judged.append((mine, set(others[:, 0].tolist()))) or np.arange(len(others))

    piece_M = np.repeat(np.arange(7), 3)
    judge = Classifier(name="", folds=3, featurize=features, fit=fit)
    asked_M = piece_M > 1
    scores = judge.cross_fitted(piece_M[:, None], piece_M > 3, piece_M, asked_M=asked_M)
    assert all(mine.isdisjoint(others) for mine, others in judged)
    assert sorted(piece for _, others in judged for piece in others) == [2, 3, 4, 5, 6]
    assert len(scores) == asked_M.sum()
    assert len(taught) == 3
    assert set.union(*taught) == set(range(7))


def test_trees_are_taught_one_fold_at_a_time():
    """While it works, scikit-learn empties the list of warning filters, which the whole process shares."""
    threads: list[int] = []

    def fit(features_M, is_real, on_progress):
        threads.append(threading.get_ident())
        return lambda others: np.arange(len(others))

    piece_M = np.repeat(np.arange(8), 3)
    trees = replace(classifiers(TRAINING)[0], fit=fit)
    trees.cross_fitted(piece_M[:, None], piece_M > 3, piece_M)
    assert trees.workers == 1
    assert (len(threads), len(set(threads))) == (4, 1)


def test_what_is_not_asked_for_still_teaches(rng):
    """Both classes of half of the pieces are only there to be learnt from."""
    judge = classifiers(TRAINING)[0]
    features_M = rng.standard_normal((80, 2))
    is_real_M = np.arange(80) % 2 == 0
    features_M[is_real_M] += 2
    piece_M = np.arange(80) // 4
    scores = judge.cross_fitted(features_M, is_real_M, piece_M, asked_M=piece_M < 5)
    assert len(scores) == 20
    assert auroc(scores[::2], scores[1::2]) > 0.85


# What the transformer hears


def test_notes_are_read_as_classes_of_pitch_touch_gap_length_step_and_company():
    seed = [vocab.VELOCITY + 16, 60, vocab.TIME_SHIFT + 9]
    part = [64, vocab.TIME_SHIFT + 1, vocab.NOTE_OFF + 60, 67, vocab.TIME_SHIFT + 2, vocab.NOTE_OFF + 64]
    notes_SA = note_transformer.note_features(np.array(seed + part), len(seed))
    assert notes_SA.shape == (BEFORE + AFTER, 6)
    assert notes_SA[BEFORE - 1].tolist() == [60, 16, 0, 10, 24, 0]
    assert notes_SA[BEFORE].tolist() == [64, 16, 9, 5, 28, 1]
    assert notes_SA[BEFORE + 1].tolist() == [67, 16, 2, 3, 27, 1]
    assert (notes_SA[: BEFORE - 1] == -1).all()
    assert (notes_SA[BEFORE + 2 :] == -1).all()


def test_a_window_without_notes_is_silence():
    assert (note_transformer.note_features(np.full(20, vocab.TIME_SHIFT), 8) == -1).all()


def test_a_verdict_is_the_same_alone_and_in_a_batch_and_depends_on_the_order_of_notes(rng):
    import torch

    torch.manual_seed(0)
    model = note_transformer.NoteTransformer(note_transformer.small(16)).eval()
    notes = torch.from_numpy(np.stack([note_transformer.note_features(window_T, SEEDED) for window_T in music(rng, 3)]))
    with torch.no_grad():
        together = model(notes)
        assert torch.allclose(model(notes[1:2]), together[1:2], atol=1e-5)
        turned = notes.clone()
        first = slice(BEFORE, BEFORE + CONTINUED // 6)
        turned[:, first] = notes[:, first].flip(1)
        assert (model(turned) - together).abs().min() > 1e-4


def test_the_seed_is_read_but_not_pooled(rng):
    import torch

    torch.manual_seed(0)
    model = note_transformer.NoteTransformer(note_transformer.small(16)).eval()
    notes = torch.from_numpy(note_transformer.note_features(music(rng, 1)[0], SEEDED))[None]
    other = notes.clone()
    other[:, :BEFORE] = -1
    with torch.no_grad():
        assert (model(notes) - model(other)).abs() > 1e-5
