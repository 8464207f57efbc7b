"""Pairs of real and artificial continuations: cut within pieces, kept on disk, and never mixed up."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from musebridge import vocab
from musebridge.errors import CheckpointError, CorpusError
from musebridge.training.data import corpus
from musebridge.training.models.generator import Generator, GeneratorConfig
from musebridge.training.models.token_features import token_features
from musebridge.training.sampling import pairs as samples
from musebridge.training.sampling.pairs import Window, pairs, starts_within_pieces

pytestmark = pytest.mark.usefixtures("one_thread")

WINDOW = Window(seed_length=8, continuation_length=12)


@pytest.fixture
def generator() -> Generator:
    torch.manual_seed(0)
    return Generator(GeneratorConfig(n_layers=1, d_model=8, n_heads=1, n_kv_heads=1, d_ff=8, context=32)).eval()


@pytest.fixture
def tokens(small_corpus):
    return corpus.load(small_corpus).splits["train"]


def test_no_window_crosses_into_another_piece():
    tokens = np.array([vocab.BEGIN, *[60] * 9, vocab.BEGIN, *[61] * 3, vocab.BEGIN, *[62] * 4], np.uint16)
    starts = starts_within_pieces(tokens, 4, seed=0)
    assert sorted(starts) == [0, 4, 10, 14]
    assert starts_within_pieces(tokens, 4, seed=0).tolist() == starts.tolist()
    assert (starts_within_pieces(tokens[1:10], 4, seed=0) < 9).all()  # a split that does not open with BEGIN


def test_pairs_share_seed_and_piece(generator, tokens, tmp_path):
    made = pairs(generator, tokens, tmp_path, count=10, window=WINDOW, seed=0)
    windows_MT, starts = made.windows, starts_within_pieces(tokens, WINDOW.length, 0)[:10]
    assert (windows_MT[:10, :8] == windows_MT[10:, :8]).all()
    for i, start in enumerate(starts):
        assert (windows_MT[i] == tokens[start : start + 20]).all()
        assert made.piece_N[i] == (tokens[: start + 1] == vocab.BEGIN).sum()
    assert made.fake_NT.max() < vocab.N_EVENTS
    with torch.no_grad():
        expected_NTF = token_features(generator, torch.from_numpy(windows_MT[10:])).numpy()
    assert np.allclose(made.features_NTF, expected_NTF, atol=0.05)  # in half the precision, perhaps in bfloat16
    assert (made[made.piece_N == 1].piece_N == 1).all()


def test_an_interrupted_sampling_goes_on_where_it_was(generator, tokens, tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "SHARD", 4)
    whole = pairs(generator, tokens, tmp_path / "whole", count=10, window=WINDOW, seed=0)
    pairs(generator, tokens, tmp_path / "parts", count=4, window=WINDOW, seed=0)
    first = (tmp_path / "parts" / "00000.npy").stat().st_mtime_ns
    told: list[float] = []
    parts = pairs(generator, tokens, tmp_path / "parts", count=10, window=WINDOW, seed=0, on_progress=told.append)
    assert (parts.fake_NT == whole.fake_NT).all()
    assert (tmp_path / "parts" / "00000.npy").stat().st_mtime_ns == first
    assert told == [1 / 3, 2 / 3, 1.0]


def test_samples_of_another_generator_are_refused(generator, tokens, tmp_path):
    pairs(generator, tokens, tmp_path, count=4, window=WINDOW, seed=0)
    torch.nn.init.ones_(generator.head.weight)
    with pytest.raises(CheckpointError, match="holds samples of another generator, corpus or window; remove it"):
        pairs(generator, tokens, tmp_path, count=4, window=WINDOW, seed=0)


def test_a_damaged_card_is_one_line(generator, tokens, tmp_path):
    (tmp_path / "samples.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"samples\.json: is damaged; remove .* to sample anew"):
        pairs(generator, tokens, tmp_path, count=4, window=WINDOW, seed=0)


def test_pieces_that_are_too_short_are_one_line(generator, tokens, tmp_path):
    with pytest.raises(CorpusError, match="no piece has the 2016 tokens of a window; prepare longer pieces"):
        pairs(generator, tokens, tmp_path, count=4, window=Window(seed_length=16, continuation_length=2000), seed=0)
