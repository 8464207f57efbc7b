"""Attention in blocks is attention: the same values and gradients as torch's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from musebridge.training.compute.attention import attend
from musebridge.training.models.generator import Generator, GeneratorConfig, norm

pytestmark = pytest.mark.usefixtures("one_thread")


def some(T: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries, keys and values of four and two heads."""
    rng = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(3, heads, T, 8, dtype=torch.float64, generator=rng) for heads in (4, 2, 2))
    q, k, v = (x.to(dtype).requires_grad_() for x in (norm(q), norm(k), v))
    return q, k, v


def gradients(y_BHTP: Tensor, *of: Tensor) -> tuple[Tensor, ...]:
    weight_BHTP = torch.randn(y_BHTP.shape, dtype=y_BHTP.dtype, generator=torch.Generator().manual_seed(1))
    return torch.autograd.grad((weight_BHTP * y_BHTP).sum(), of)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("T", [1, 3, 24, 301])  # a block of one, a whole number of blocks, and not
def test_values_and_gradients_are_those_of_torch(T, causal):
    q, k, v = some(T)
    theirs = F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True)
    ours = attend(q, k, v, causal)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)  # sums are in float32
    for mine, its in zip(gradients(ours, q, k, v), gradients(theirs, q, k, v), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("T", "S"), [(1, 7), (24, 60), (50, 51)])
def test_queries_that_come_after_other_keys_see_these_as_well(T, S):
    q, k, v = some(S)
    theirs = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)[:, :, S - T :]
    ours = attend(q[:, :, S - T :], k, v, True)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    for mine, its in zip(gradients(ours, q, k, v), gradients(theirs, q, k, v), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-5)


def test_it_is_as_exact_in_bfloat16_as_torch_is():
    exact = F.scaled_dot_product_attention(*(x.detach() for x in some(300)), is_causal=True, enable_gqa=True)
    q, k, v = some(300, torch.bfloat16)
    theirs = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    ours = attend(q, k, v, True)
    assert ours.dtype == torch.bfloat16
    assert (ours - exact).norm() < 1.5 * (theirs - exact).norm()


def test_a_compiled_training_attends_so_and_gets_the_same_gradient(monkeypatch):
    called: list[bool] = []

    def spied(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
        called.append(causal)
        return attend(q, k, v, causal)

    monkeypatch.setattr("musebridge.training.models.generator.attend", spied)
    torch.manual_seed(0)
    model = Generator(GeneratorConfig(n_layers=1, d_model=32, n_heads=2, n_kv_heads=1, d_ff=16, context=24))
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
    tokens_BT = torch.randint(0, 388, (2, 24))
    plain = gradients(model(tokens_BT), *model.parameters())
    assert not called
    compiled = gradients(torch.compile(model, backend="aot_eager")(tokens_BT), *model.parameters())
    assert called == [True]
    torch.testing.assert_close(compiled, plain, rtol=1e-3, atol=1e-5)
    with torch.no_grad():
        torch.compile(model, backend="aot_eager")(tokens_BT)
    assert called == [True]  # who only listens needs nothing kept


def test_no_query_sees_a_later_key_in_its_block_or_in_another():
    q, k, v = (x.detach() for x in some(48))
    y = attend(q, k, v, True)
    for at in (5, 11, 12, 40):
        changed = k.clone()
        changed[:, :, at + 1 :] += 1
        assert torch.equal(attend(q, changed, v, True)[:, :, : at + 1], y[:, :, : at + 1])
        assert not torch.equal(attend(q, changed, v, True)[:, :, at + 1 :], y[:, :, at + 1 :])
