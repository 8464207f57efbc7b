"""The figure that models are compared by: hand-computed cases, and which tokens it scores."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from musebridge.training.metrics.likelihood import cross_entropy, likelihood, nll
from musebridge.training.models.generator import Generator, GeneratorConfig

CONTEXT = 10
SHAPE = GeneratorConfig(n_layers=1, d_model=8, n_heads=1, n_kv_heads=1, d_ff=8, context=CONTEXT)


class Oracle(nn.Module):
    """A stand-in whose cost of each token is known, and which remembers what it was asked.

    Args:
        cost_V: by token, so that the mean shows which tokens were scored.
        cold: further cost of whatever is predicted from the first ``cold`` positions.
    """

    config = SHAPE

    def __init__(self, cost_V: Tensor, cold: int = 0) -> None:
        super().__init__()
        self.logits_V = nn.Parameter(-cost_V)
        self.cold = cold
        self.lengths: list[int] = []

    def forward(self, tokens_BT: Tensor) -> Tensor:
        self.lengths += [tokens_BT.shape[1]] * len(tokens_BT)
        logits_BTV = self.logits_V.repeat(*tokens_BT.shape, 1)
        logits_BTV[:, : self.cold, tokens_BT.max() + 1 :] += 1000.0
        return logits_BTV


def costs() -> Tensor:
    """Return a cost in nats for each token, each its own, of a distribution that adds up to 1."""
    weights_V = torch.linspace(1, 40, 389)
    return -(weights_V / weights_V.sum()).log()


def split(length: int) -> np.ndarray:
    """Return tokens of which each is another, so that each has its own cost."""
    return np.random.default_rng(0).permutation(300)[:length].astype(np.uint16)


@pytest.mark.parametrize("warm", [0, 4, 9])
@pytest.mark.parametrize("length", [11, 12, 57, 300])
def test_every_token_behind_the_warm_context_is_scored_once(length, warm):
    tokens = split(length)
    stride = CONTEXT - warm
    windows = (length - CONTEXT - 1) // stride + 1
    scored = tokens[warm + 1 : warm + 1 + windows * stride]
    oracle = Oracle(costs())
    assert nll(oracle, tokens, warm=warm) == pytest.approx(costs()[scored.astype(int)].mean().item(), abs=1e-5)
    assert oracle.lengths == [CONTEXT] * windows


def test_tokens_with_less_than_the_warm_context_are_not_scored():
    tokens = np.full(41, 7, np.uint16)
    known = nll(Oracle(costs()), tokens, warm=5)
    assert known == pytest.approx(costs()[7].item(), abs=1e-5)
    assert nll(Oracle(costs(), cold=5), tokens, warm=5) == known
    assert nll(Oracle(costs(), cold=6), tokens, warm=5) > known + 100


def test_the_same_cost_is_counted_per_note_per_second_and_by_kind():
    tokens = np.array([388, 60, 256 + 49, 128 + 60, 356 + 20, 62, 256 + 24, 128 + 62, 256 + 99, 60, 61], np.uint16)
    cost = costs()[tokens.astype(int)].double().numpy()
    scored = likelihood(Oracle(costs()), tokens, warm=0)
    assert (scored.tokens, scored.notes, scored.seconds) == (10, 4, 1.75)
    assert scored.nats == pytest.approx(cost[1:].sum(), abs=1e-4)
    assert scored.per_note == pytest.approx(cost[1:].sum() / 4, abs=1e-4)
    assert scored.per_second == pytest.approx(cost[1:].sum() / 1.75, abs=1e-4)
    kinds = {"NOTE_ON": [1, 5, 9, 10], "NOTE_OFF": [3, 7], "TIME_SHIFT": [2, 6, 8], "VELOCITY": [4]}
    assert scored.by_kind == pytest.approx({kind: cost[at].mean() for kind, at in kinds.items()}, abs=1e-4)


def test_the_curve_against_position_includes_the_warm_context():
    curve = likelihood(Oracle(costs(), cold=3), np.full(41, 7, np.uint16), warm=5).by_position_T
    assert curve.shape == (CONTEXT,)
    assert (curve[:3] > 1000).all()
    np.testing.assert_allclose(curve[3:], costs()[7].item(), atol=1e-4)


def test_a_limit_scores_about_as_many_tokens_spread_over_the_split():
    tokens, oracle = split(300), Oracle(costs())
    nll(oracle, tokens, warm=5, limit=50)
    assert len(oracle.lengths) == 10
    first, last = tokens[6:11].astype(int), tokens[291:296].astype(int)
    two = nll(Oracle(costs()), tokens, warm=5, limit=10)
    assert two == pytest.approx(costs()[np.concatenate([first, last])].mean().item(), abs=1e-5)


def test_a_limit_above_the_split_scores_the_whole_of_it():
    tokens = split(100)
    assert nll(Oracle(costs()), tokens, warm=5, limit=10_000) == nll(Oracle(costs()), tokens, warm=5)


def test_a_split_shorter_than_a_window_is_refused():
    with pytest.raises(ValueError, match=r"^windows of 11 tokens need as many, found 10$"):
        nll(Oracle(costs()), split(10), warm=5)


def test_the_training_loss_is_the_mean_over_every_next_token():
    tokens_BT = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
    expected = costs()[torch.tensor([2, 3, 4, 6, 7, 8])].mean().item()
    assert cross_entropy(Oracle(costs()), tokens_BT).item() == pytest.approx(expected, abs=1e-5)


def test_a_fresh_generator_scores_the_logarithm_of_the_vocabulary():
    assert nll(Generator(SHAPE), split(60), warm=5) == pytest.approx(math.log(389), abs=1e-5)
