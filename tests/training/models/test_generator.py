"""The generator: it never looks ahead, and its cache changes nothing."""

from __future__ import annotations

import math

import pytest
import torch

from musebridge import vocab
from musebridge.errors import ConfigError
from musebridge.training.metrics.likelihood import cross_entropy
from musebridge.training.models.generator import (
    Generator,
    GeneratorConfig,
    count_parameters,
    deepen,
    norm,
    rope_table,
    rotate,
)

SHAPES = {
    "grouped heads": GeneratorConfig(n_layers=2, d_model=32, n_heads=4, n_kv_heads=2, d_ff=48, context=24),
    "a key for each query": GeneratorConfig(n_layers=1, d_model=16, n_heads=2, n_kv_heads=2, d_ff=16, context=24),
    "one key for all": GeneratorConfig(n_layers=2, d_model=32, n_heads=4, n_kv_heads=1, d_ff=48, context=24),
}
CACHE_TOLERANCE = 2e-5
"""Sums are taken in another order; float32 logits of size 1 differ by less."""


@pytest.fixture(params=SHAPES)
def generator(request) -> Generator:
    """A generator of random weights: fresh, it would ignore its input."""
    torch.manual_seed(0)
    made = Generator(SHAPES[request.param]).eval()
    for weight in made.parameters():
        torch.nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
    return made


def some_tokens(batch: int, length: int) -> torch.Tensor:
    return torch.randint(vocab.N_TOKENS, (batch, length), generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def test_a_token_changes_no_logits_before_it_and_those_at_it(generator):
    tokens_BT = some_tokens(1, 24)
    logits_BTV = generator(tokens_BT)
    for t in (0, 7, 23):
        changed_BT = tokens_BT.clone()
        changed_BT[0, t] = (changed_BT[0, t] + 1) % vocab.N_TOKENS
        changed_BTV = generator(changed_BT)
        torch.testing.assert_close(changed_BTV[:, :t], logits_BTV[:, :t], rtol=0, atol=0)
        assert ((changed_BTV - logits_BTV)[0, t:].abs().amax(dim=-1) > 1e-4).all()


@torch.inference_mode()
@pytest.mark.parametrize("more", [0, 1, 3])
def test_a_deeper_generator_says_the_same_and_can_learn_more(generator, more):
    tokens_BT, n_layers = some_tokens(2, 24), generator.config.n_layers + more
    deeper = deepen(generator, n_layers)
    assert len(deeper.blocks) == deeper.config.n_layers == n_layers
    torch.testing.assert_close(deeper(tokens_BT), generator(tokens_BT), rtol=0, atol=0)
    half = generator.config.n_layers // 2
    for block in deeper.blocks[half : half + more]:
        assert not block.attention.out.weight.any()
        assert not block.down.weight.any()
        assert block.up.weight.any()
        assert block.attention.query.weight.any()


@torch.inference_mode()
@pytest.mark.parametrize("chunks", [[24], [1] * 24, [10, 1, 1, 12], [1, 23], [5, 7, 1, 11]])
def test_chunks_through_the_cache_give_the_logits_of_the_whole(generator, chunks):
    tokens_BT = some_tokens(2, 24)
    cache, parts = None, []
    for part_BT in tokens_BT.split(chunks, dim=1):
        logits_BTV, cache = generator.extend(part_BT, cache)
        parts.append(logits_BTV)
    torch.testing.assert_close(torch.cat(parts, 1), generator(tokens_BT), rtol=0, atol=CACHE_TOLERANCE)
    kv_shape = (2, generator.config.n_kv_heads, 24, generator.config.d_head)
    assert [tuple(t.shape) for pair in cache for t in pair] == [kv_shape] * 2 * generator.config.n_layers


@torch.inference_mode()
def test_a_cache_can_be_continued_twice(generator):
    tokens_BT = some_tokens(1, 12)
    _, cache = generator.extend(tokens_BT[:, :8], None)
    first_BTV, _ = generator.extend(tokens_BT[:, 8:], cache)
    generator.extend(some_tokens(1, 9), cache)
    again_BTV, _ = generator.extend(tokens_BT[:, 8:], cache)
    torch.testing.assert_close(again_BTV, first_BTV, rtol=0, atol=0)


def test_several_continuations_of_a_seed_get_the_logits_and_the_gradient_of_the_wholes(generator):
    rng = torch.Generator().manual_seed(3)
    seed_BT, written_MC = (torch.randint(0, 388, shape, generator=rng) for shape in ((2, 5), (6, 4)))
    seed_BTV, written_MCV = generator.branch(seed_BT, written_MC)
    whole_MTV = generator(torch.cat([seed_BT.repeat_interleave(3, 0), written_MC], 1))
    torch.testing.assert_close(seed_BTV, whole_MTV[::3, :5], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(written_MCV, whole_MTV[:, 4:-1], rtol=1e-4, atol=1e-5)
    weights = [*generator.requires_grad_().parameters()]
    branched, whole = (
        torch.autograd.grad(logits_MCV.softmax(-1)[..., 7].sum(), weights)
        for logits_MCV in (written_MCV, whole_MTV[:, 4:-1])
    )
    for one, other in zip(branched, whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_logits_from_a_token_on_have_the_gradient_of_the_wholes(generator):
    tokens_BT, weights = some_tokens(2, 20), [*generator.requires_grad_().parameters()]
    part_BTV, whole_BTV = generator(tokens_BT, 7), generator(tokens_BT)[:, 7:]
    torch.testing.assert_close(part_BTV, whole_BTV, rtol=1e-4, atol=1e-5)
    of_part, of_whole = (torch.autograd.grad(x.softmax(-1)[..., 7].sum(), weights) for x in (part_BTV, whole_BTV))
    for one, other in zip(of_part, of_whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


@torch.inference_mode()
def test_a_sequence_is_the_same_alone_and_in_a_batch(generator):
    tokens_BT = some_tokens(3, 20)
    torch.testing.assert_close(generator(tokens_BT[1:2]), generator(tokens_BT)[1:2], rtol=0, atol=CACHE_TOLERANCE)


@torch.inference_mode()
def test_more_than_the_context_is_refused(generator):
    with pytest.raises(ValueError, match=r"^at most 24 positions fit the context, found 25$"):
        generator(some_tokens(1, 25))
    _, cache = generator.extend(some_tokens(1, 20), None)
    with pytest.raises(ValueError, match=r"^at most 24 positions fit the context, found 25$"):
        generator.extend(some_tokens(1, 5), cache)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_fresh_generator_knows_nothing(shape):
    generator, window_BT = Generator(SHAPES[shape]), some_tokens(2, 25)
    assert not generator(window_BT[:, :24]).any()
    assert cross_entropy(generator, window_BT).item() == pytest.approx(math.log(389), abs=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_fresh_block_adds_nothing(shape):
    config = SHAPES[shape]
    x_BTD = torch.randn(2, 24, config.d_model, generator=torch.Generator().manual_seed(3))
    for block in Generator(config).blocks:
        y_BTD, _ = block(x_BTD, *rope_table(config), None)
        assert torch.equal(y_BTD, x_BTD)


def test_every_weight_is_trained(generator):
    cross_entropy(generator, some_tokens(2, 25)).backward()
    assert all(weight.grad.abs().max() > 0 for weight in generator.parameters())


def test_the_parameters_of_a_shape_are_counted():
    config = SHAPES["grouped heads"]
    attention = 32 * 32 + 2 * 32 * 16 + 32 * 32
    assert count_parameters(Generator(config)) == 2 * (attention + 2 * 32 * 48) + 2 * 389 * 32


def test_a_norm_makes_every_row_of_size_one():
    x_BD = torch.tensor([[3.0, 4.0], [-30.0, 40.0]])
    torch.testing.assert_close(norm(x_BD), torch.tensor([[3.0, 4.0], [-3.0, 4.0]]) / 12.5**0.5)


def test_rotation_makes_products_depend_on_distance_only():
    config = GeneratorConfig(n_layers=1, d_model=16, n_heads=1, n_kv_heads=1, d_ff=1, context=64)
    cos_TP, sin_TP = rope_table(config)
    assert cos_TP.shape == sin_TP.shape == (64, 8)
    q_P, k_P = torch.randn(2, 16, generator=torch.Generator().manual_seed(2))
    q_TP, k_TP = rotate(q_P.expand(64, 16), cos_TP, sin_TP), rotate(k_P.expand(64, 16), cos_TP, sin_TP)
    products_TT = q_TP @ k_TP.T
    for distance in (0, 1, 30):
        diagonal = products_TT.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=0, atol=1e-5)
    assert abs(products_TT[0, 0] - products_TT[0, 1]) > 0.1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_layers": 0}, "n_layers must be at least 1, found 0"),
        ({"context": -5}, "context must be at least 1, found -5"),
        ({"d_model": 36}, "generator d_model must be a multiple of 2 × n_heads, found 36 and 8"),
        ({"n_kv_heads": 3}, "generator n_heads must be a multiple of n_kv_heads, found 8 and 3"),
    ],
)
def test_a_shape_that_cannot_be_built_is_one_line(change, message):
    with pytest.raises(ConfigError) as caught:
        GeneratorConfig(**{"d_model": 64, "n_heads": 8, "n_kv_heads": 4, **change})
    assert str(caught.value) == message
