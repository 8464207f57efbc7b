"""The discriminator hears events in their order and each window for itself; what earlier work got wrong stays away."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from musebridge import vocab
from musebridge.errors import ConfigError
from musebridge.training.models.discriminator import Discriminator, DiscriminatorConfig, DiscriminatorLoss
from musebridge.training.models.generator import Generator, GeneratorConfig
from musebridge.training.models.token_features import (
    branched_token_features,
    running_statistics,
    statistics,
    token_features,
)

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = DiscriminatorConfig(n_layers=2, d_model=16, n_heads=2, n_kv_heads=1, d_ff=24, context=24, hidden=16)
SEEDED = 10


def some_tokens(batch: int, length: int = 24) -> Tensor:
    return torch.randint(0, 388, (batch, length), generator=torch.Generator().manual_seed(1))


def randomised(model: torch.nn.Module) -> torch.nn.Module:
    """Leave no weight at its initial zero."""
    torch.manual_seed(0)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=weight.shape[-1] ** -0.5)
    return model.eval()


@pytest.fixture
def frozen() -> Generator:
    return randomised(Generator(replace(SHAPE.blocks, n_layers=1))).requires_grad_(False)


@pytest.fixture(params=[True, False], ids=["hinted", "unhinted"])
def discriminator(request) -> Discriminator:
    return randomised(Discriminator(replace(SHAPE, hinted=request.param)))


def judged(discriminator: Discriminator, frozen: Generator, window: Tensor) -> Tensor:
    return discriminator(window, token_features(frozen, window), SEEDED).whole_B


# For ever


@torch.no_grad()
def test_the_verdict_changes_when_time_is_shuffled(discriminator, frozen):
    window_BT = some_tokens(1)
    order = torch.cat([torch.arange(SEEDED), SEEDED + torch.randperm(14, generator=torch.Generator().manual_seed(2))])
    backwards = torch.cat([torch.arange(SEEDED), torch.arange(23, SEEDED - 1, -1)])
    verdict = judged(discriminator, frozen, window_BT)
    for moved in (order, backwards):
        assert (judged(discriminator, frozen, window_BT[:, moved]) - verdict).abs() > 1e-3
    unhinted = torch.zeros(1, 24, 3)  # not by the hints alone
    verdict = discriminator(window_BT, unhinted, SEEDED).whole_B
    assert (discriminator(window_BT[:, order], unhinted, SEEDED).whole_B - verdict).abs() > 1e-3


@torch.no_grad()
def test_the_verdict_is_the_same_alone_and_in_a_batch(discriminator, frozen):
    window_BT = some_tokens(5)
    together_B = judged(discriminator, frozen, window_BT)
    alone_B = torch.cat([judged(discriminator, frozen, window_1T) for window_1T in torch.split(window_BT, 1)])
    torch.testing.assert_close(alone_B, together_B, rtol=0, atol=1e-5)
    assert together_B.std() > 1e-2  # so that the line above can fail


# What it hears


@torch.no_grad()
def test_every_token_hears_what_comes_after_it(discriminator):
    window_BT, unhinted = some_tokens(1), torch.zeros(1, 24, 3)
    changed_BT = window_BT.clone()
    changed_BT[0, -1] = (changed_BT[0, -1] + 1) % 388
    before, after = (discriminator(window, unhinted, SEEDED).token_BC for window in (window_BT, changed_BT))
    assert ((before - after).abs() > 1e-6).all()


@torch.no_grad()
def test_the_tokens_that_are_asked_for_hear_those_before_as_well(discriminator):
    window_BT, features_BTF = some_tokens(2), torch.randn(2, 24, 3)
    whole_BTD = discriminator.token_states(window_BT, features_BTF, 0)
    torch.testing.assert_close(discriminator.token_states(window_BT, features_BTF, SEEDED), whole_BTD[:, SEEDED:])


@torch.no_grad()
def test_one_that_is_not_hinted_looks_at_no_token_feature(discriminator):
    without, other = (
        discriminator(some_tokens(2), features_BTF, SEEDED)
        for features_BTF in (torch.zeros(2, 24, 3), torch.rand(2, 24, 3))
    )
    for mine, its in zip(without, other, strict=True):
        assert torch.equal(mine, its) != discriminator.config.hinted


@torch.no_grad()
def test_the_seed_is_heard_but_not_pooled(discriminator):
    verdict = discriminator(some_tokens(2), torch.zeros(2, 24, 3), SEEDED)
    assert verdict.token_BC.shape == (2, 24 - SEEDED)
    changed_BT = some_tokens(2)
    changed_BT[:, 3] = (changed_BT[:, 3] + 1) % 388
    assert (discriminator(changed_BT, torch.zeros(2, 24, 3), SEEDED).whole_B != verdict.whole_B).all()


@torch.no_grad()
def test_one_hots_are_judged_as_their_tokens(discriminator, frozen):
    window_BT = some_tokens(3)
    one_hot_BTV = torch.nn.functional.one_hot(window_BT, 388).float()
    torch.testing.assert_close(
        judged(discriminator, frozen, one_hot_BTV), judged(discriminator, frozen, window_BT), rtol=0, atol=1e-4
    )


def test_it_begins_with_the_generators_ears(frozen):
    discriminator = Discriminator(replace(SHAPE, n_layers=1))
    discriminator.inherit(frozen)
    assert torch.equal(discriminator.embedding.weight, frozen.embedding.weight)
    assert torch.equal(discriminator.blocks[0].down.weight, frozen.blocks[0].down.weight)
    assert not discriminator.hint.weight.any()


@pytest.mark.parametrize("shape", [replace(SHAPE, d_ff=8), replace(SHAPE, n_layers=2)])
def test_a_generator_of_another_shape_cannot_be_inherited_from(shape, frozen):
    with pytest.raises(ConfigError, match="cannot inherit from a generator of another shape"):
        Discriminator(shape).inherit(frozen)


# Hints


@torch.no_grad()
def test_token_features_are_surprise_entropy_and_rank(frozen):
    window_BT = some_tokens(2)
    p_V = frozen(window_BT)[1, 7, :388].softmax(-1)
    token = window_BT[1, 8]
    expected = [-p_V[token].log(), -(p_V * p_V.log()).sum(), (p_V > p_V[token]).sum().float().log1p()]
    torch.testing.assert_close(token_features(frozen, window_BT)[1, 8], torch.stack(expected), rtol=1e-4, atol=1e-5)
    assert not token_features(frozen, window_BT)[:, 0].any()


def test_token_features_of_a_seed_that_is_read_once_are_those_of_the_windows(frozen):
    rng = torch.Generator().manual_seed(4)
    seed_BT, written_MC = (torch.randint(0, 388, shape, generator=rng) for shape in ((2, 6), (6, 5)))
    expected_MTF = token_features(frozen, torch.cat([seed_BT.repeat_interleave(3, 0), written_MC], 1))
    torch.testing.assert_close(branched_token_features(frozen, seed_BT, written_MC), expected_MTF, rtol=1e-4, atol=1e-5)


def test_statistics_are_means_by_kind_shares_and_means_of_all():
    part_BT = torch.tensor([[60, 64, vocab.NOTE_OFF + 60, vocab.TIME_SHIFT + 9]])
    features_BTF = torch.tensor([[[1.0, 2, 3], [3, 4, 5], [7, 8, 9], [5, 2, 0]]])
    expected = [2, 3, 4, 7, 8, 9, 5, 2, 0, 0, 0, 0, 0.5, 0.25, 0.25, 0, 4, 4]
    assert statistics(part_BT, features_BTF).tolist() == [expected]
    running_BTN = running_statistics(part_BT, features_BTF)
    for t in range(part_BT.shape[1]):
        assert torch.equal(running_BTN[:, t], statistics(part_BT[:, : t + 1], features_BTF[:, : t + 1]))


# Its loss


def test_the_loss_is_lower_for_who_is_right(frozen):
    discriminator = randomised(Discriminator(SHAPE))
    window_MT = some_tokens(8)
    features_MTF, loss = token_features(frozen, window_MT), DiscriminatorLoss()
    optimizer = torch.optim.Adam(discriminator.parameters(), 0.01)
    first = loss(discriminator, window_MT, features_MTF, SEEDED)
    for _ in range(20):
        optimizer.zero_grad()
        loss(discriminator, window_MT, features_MTF, SEEDED).backward()
        optimizer.step()
    real_B, fake_B = discriminator(window_MT, features_MTF, SEEDED).whole_B.chunk(2)
    assert loss(discriminator, window_MT, features_MTF, SEEDED) < first / 2
    assert real_B.min() > fake_B.max()


def test_the_penalty_counts_how_far_verdicts_on_real_music_move(frozen):
    discriminator, window_MT = randomised(Discriminator(SHAPE)), some_tokens(8)
    features_MTF = token_features(frozen, window_MT)
    plain, penalised = DiscriminatorLoss(), DiscriminatorLoss(r1=2.0)
    torch.manual_seed(3)
    moved_B = discriminator(window_MT[:4], features_MTF[:4], SEEDED, 0.1).whole_B
    real_B = discriminator(window_MT[:4], features_MTF[:4], SEEDED).whole_B
    torch.manual_seed(3)
    more = penalised(discriminator, window_MT, features_MTF, SEEDED) - plain(
        discriminator, window_MT, features_MTF, SEEDED
    )
    torch.testing.assert_close(more, 2 * (moved_B - real_B).square().mean() / 0.01, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: replace(SHAPE, dropout=1.0), "discriminator dropout must be at least 0 and less than 1, found 1.0"),
        (lambda: replace(SHAPE, hidden=0), "hidden must be at least 1, found 0"),
        (lambda: replace(SHAPE, n_layers=0), "n_layers must be at least 1, found 0"),
        (lambda: DiscriminatorLoss(smoothing=0.5), "smoothing must be at least 0 and less than 0.5, found 0.5"),
        (lambda: DiscriminatorLoss(r1=-1), "r1 must be at least 0, found -1"),
    ],
)
def test_a_setting_outside_its_range_is_one_line(make, message):
    with pytest.raises(ConfigError) as caught:
        make()
    assert str(caught.value) == message


def test_the_shape_of_its_blocks_is_the_generators():
    assert SHAPE.blocks == GeneratorConfig(n_layers=2, d_model=16, n_heads=2, n_kv_heads=1, d_ff=24, context=24)
