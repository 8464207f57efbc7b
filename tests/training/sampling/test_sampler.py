"""Batched sampling: the generator's own distribution, and a cache that changes nothing."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from musebridge.errors import ConfigError
from musebridge.training.compute.compiler import can_compile
from musebridge.training.compute.parallel import parallel_map
from musebridge.training.models.generator import Generator, GeneratorConfig
from musebridge.training.models.token_features import token_features
from musebridge.training.sampling import sampler
from musebridge.training.sampling.sampler import (
    Truncation,
    gumbel_noise,
    sample,
    sample_continuations,
    sample_with_token_features,
)


@pytest.fixture
def generator() -> Generator:
    torch.manual_seed(0)
    generator = Generator(GeneratorConfig(n_layers=2, d_model=16, n_heads=4, n_kv_heads=2, d_ff=16, context=32))
    for parameter in generator.parameters():
        torch.nn.init.normal_(parameter, std=0.35)
    return generator.eval()


def some_seeds(batch: int) -> Tensor:
    return torch.randint(0, 388, (batch, 5), generator=torch.Generator().manual_seed(1))


def test_continuations_follow_the_generators_own_distribution(generator):
    seed_BT = some_seeds(1).repeat(4000, 1)
    first_B = sample_continuations(generator, seed_BT, 1, torch.Generator().manual_seed(2))[:, 0]
    with torch.no_grad():
        expected_V = generator(seed_BT[:1])[0, -1, :388].softmax(-1)
    counts_V = torch.bincount(first_B, minlength=388) / 4000
    assert (counts_V - expected_V).abs().max() < 0.015
    assert expected_V.max() > 0.03  # so that the line above can fail


@pytest.mark.parametrize("tokens_at_once", [1, 10, 2048])
def test_neither_the_cache_nor_reading_a_few_at_a_time_changes_a_continuation(generator, monkeypatch, tokens_at_once):
    monkeypatch.setattr(sampler, "_TOKENS_AT_ONCE", tokens_at_once)
    noise_BTV = gumbel_noise(3, 8, torch.Generator().manual_seed(2))
    sampled_BT = sample(generator, some_seeds(3), noise_BTV)
    tokens_BT = some_seeds(3)
    for t in range(8):
        with torch.no_grad():
            logits_BV = generator(tokens_BT)[:, -1, :388]
        tokens_BT = torch.cat([tokens_BT, (logits_BV + noise_BTV[:, t]).argmax(-1, keepdim=True)], 1)
    assert torch.equal(tokens_BT[:, 5:], sampled_BT)


def test_a_continuation_is_the_same_alone_and_in_a_batch(generator):
    noise_BTV = gumbel_noise(4, 8, torch.Generator().manual_seed(2))
    together_BT = sample(generator, some_seeds(4), noise_BTV)
    assert torch.equal(sample(generator, some_seeds(4)[2:3], noise_BTV[2:3]), together_BT[2:3])


@pytest.mark.parametrize("tokens_at_once", [10, 2048])
def test_a_seed_that_is_continued_several_times_is_read_once(generator, monkeypatch, tokens_at_once):
    monkeypatch.setattr(sampler, "_TOKENS_AT_ONCE", tokens_at_once)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(sampler, "_FEWEST_ROWS", 4)
    read, rows = sampler._Reader.read, list[int]()

    def counted(reader, tokens_BT, **how):
        rows.append(len(tokens_BT))
        return read(reader, tokens_BT, **how)

    monkeypatch.setattr(sampler._Reader, "read", counted)
    noise_BTV = gumbel_noise(12, 8, torch.Generator().manual_seed(2))
    once, often = sample(generator, some_seeds(4), noise_BTV), [len(part) for part in torch.split(noise_BTV, 6)]
    assert sorted(rows) == sorted([2, 2] + 7 * often)
    assert torch.equal(once, sample(generator, some_seeds(4).repeat_interleave(3, 0), noise_BTV))
    tokens_BT, features_BTF = sample_with_token_features(generator, some_seeds(4), noise_BTV)
    assert torch.equal(tokens_BT, once)
    with torch.no_grad():
        expected_BTF = token_features(generator, torch.cat([some_seeds(4).repeat_interleave(3, 0), once], 1))
    torch.testing.assert_close(features_BTF, expected_BTF, rtol=1e-4, atol=1e-5)


def test_continuations_are_the_same_on_several_cores(generator, monkeypatch):
    noise_BTV = gumbel_noise(5, 8, torch.Generator().manual_seed(2))
    alone_BT = sample(generator, some_seeds(5), noise_BTV)
    monkeypatch.setattr(sampler, "_FEWEST_ROWS", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    asked: list[int] = []
    monkeypatch.setattr(sampler, "parallel_map", lambda parts: asked.append(len(parts)) or parallel_map(parts))
    assert torch.equal(sample(generator, some_seeds(5), noise_BTV), alone_BT)
    assert asked == [3]


@pytest.mark.parametrize("tokens_at_once", [1, 10, 2048])
def test_what_the_generator_thinks_while_it_writes_is_what_it_thinks_of_the_whole(
    generator, monkeypatch, tokens_at_once
):
    monkeypatch.setattr(sampler, "_TOKENS_AT_ONCE", tokens_at_once)
    monkeypatch.setattr(sampler, "_FEWEST_ROWS", 2)
    noise_BTV = gumbel_noise(4, 8, torch.Generator().manual_seed(2))
    tokens_BT, features_BTF = sample_with_token_features(generator, some_seeds(4), noise_BTV)
    assert torch.equal(tokens_BT, sample(generator, some_seeds(4), noise_BTV))
    with torch.no_grad():
        expected_BTF = token_features(generator, torch.cat([some_seeds(4), tokens_BT], 1))
    assert torch.allclose(features_BTF, expected_BTF, atol=1e-4)
    assert features_BTF[:, 1:].std() > 0.5  # so that the line above can fail


@pytest.mark.skipif(not can_compile(), reason="compiling needs a C++ compiler; Debian and Ubuntu: sudo apt install g++")
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch.compile's own
@pytest.mark.parametrize(("seeds", "rows"), [(3, 6), (1, 1)])
def test_what_is_compiled_is_compiled_once_and_writes_the_same(generator, seeds, rows):
    torch._dynamo.reset()
    noise_BTV = gumbel_noise(rows, 8, torch.Generator().manual_seed(2))
    counters.clear()
    with readers_die_at_once():
        tokens_BT, features_BTF = sample_with_token_features(generator, some_seeds(seeds), noise_BTV, compile=True)
    assert counters["stats"]["unique_graphs"] == 1
    with readers_die_at_once():
        expected_BT, expected_BTF = sample_with_token_features(generator, some_seeds(seeds), noise_BTV)
    assert torch.equal(tokens_BT, expected_BT)
    torch.testing.assert_close(features_BTF, expected_BTF, rtol=1e-4, atol=1e-5)


@contextmanager
def readers_die_at_once() -> Iterator[None]:
    """Check that keys and values, which can be most of the memory, do not wait for the collector of cycles."""
    gc.collect()
    gc.disable()
    try:
        yield
        assert not any(type(kept) is sampler._Reader for kept in gc.get_objects())
    finally:
        gc.enable()


def test_half_the_precision_rarely_changes_a_first_token(generator):
    noise_BTV = gumbel_noise(1000, 1, torch.Generator().manual_seed(2))
    whole, half = (sample(generator, some_seeds(1000), noise_BTV, dtype=d) for d in (torch.float32, torch.bfloat16))
    assert (whole == half).float().mean() > 0.97


def test_progress_is_told_to_the_end(generator):
    told: list[float] = []
    sample_continuations(generator, some_seeds(2), 4, torch.Generator(), on_progress=told.append)
    assert told == [0.25, 0.5, 0.75, 1.0]


def test_more_than_the_context_is_refused_before_anything_is_sampled(generator):
    with pytest.raises(ValueError, match=r"^at most 32 positions fit the context, found 33$"):
        sample_continuations(generator, some_seeds(1), 28, torch.Generator())


# Truncation


def kept(truncation: Truncation, likelihoods: list[float]) -> list[float]:
    """Return what a truncation leaves of likelihoods, rounded."""
    kept_BV = truncation(torch.tensor([likelihoods]).log()).softmax(-1)
    return [round(p, 3) for p in kept_BV[0].tolist()]


def test_without_truncation_logits_stay_as_they_are():
    logits_BV = torch.randn(2, 5)
    assert Truncation()(logits_BV) is logits_BV


def test_top_p_keeps_the_smallest_set_that_holds_the_share():
    assert kept(Truncation(top_p=0.7), [0.2, 0.5, 0.3]) == [0, 0.625, 0.375]
    assert kept(Truncation(top_p=0.9), [0.2, 0.5, 0.3]) == [0.2, 0.5, 0.3]
    assert kept(Truncation(top_p=0.01), [0.2, 0.5, 0.3]) == [0, 1, 0]


def test_min_p_drops_what_is_much_less_likely_than_the_likeliest():
    assert kept(Truncation(min_p=0.5), [0.2, 0.5, 0.3]) == [0, 0.625, 0.375]


def test_temperature_comes_before_truncation():
    assert kept(Truncation(temperature=0.5), [0.2, 0.4, 0.4]) == [0.111, 0.444, 0.444]
    assert kept(Truncation(temperature=0.5, min_p=0.4), [0.2, 0.4, 0.4]) == [0, 0.5, 0.5]


def test_truncated_continuations_hold_only_what_may_be(generator):
    with torch.no_grad():
        p_V = generator(some_seeds(1))[0, -1, :388].softmax(-1)
    likeliest = p_V.topk(3).indices
    holding = float(p_V[likeliest].sum()) - 1e-4
    noise_BTV = gumbel_noise(500, 1, torch.Generator().manual_seed(2))
    drawn = sample(generator, some_seeds(1).repeat(500, 1), noise_BTV, truncation=Truncation(top_p=holding))
    assert set(drawn.flatten().tolist()) == set(likeliest.tolist())


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"top_p": 0.0}, {"top_p": 1.1}, {"min_p": -0.1}])
def test_a_truncation_that_is_none_is_refused(wrong):
    with pytest.raises(ConfigError, match=r"^temperature must be more than 0, top_p in 0\.\.1"):
        Truncation(**wrong)
