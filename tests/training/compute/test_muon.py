"""Muon: the same as torch's own, whatever the shapes and their order."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

from musebridge.training.compute.muon import Muon, orthogonal

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPES = [(16, 48), (48, 16), (16, 16), (8, 16), (16, 48), (16, 16)]


def matrices() -> list[nn.Parameter]:
    rng = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=rng)) for shape in SHAPES]


def walk(optimizer: torch.optim.Optimizer, params: list[nn.Parameter], steps: range) -> None:
    for step in steps:
        rng = torch.Generator().manual_seed(step)
        for p in params:
            p.grad = torch.randn(p.shape, generator=rng) + 0.1 * p.detach()
        optimizer.step()


def test_it_steps_as_torchs_own_does():
    ours, theirs, start = matrices(), matrices(), matrices()
    walk(Muon(ours, lr=0.02, weight_decay=0.1, momentum=0.95), ours, range(5))
    walk(torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, momentum=0.95), theirs, range(5))
    for a, b, before in zip(ours, theirs, start, strict=True):
        is_long = max(a.shape) > 2 * min(a.shape)  # its Gram matrix is rounded as well
        bound = 0.04 if is_long else 0.02  # products in bfloat16 round as their order is
        assert (a - b).norm() < bound * (b - before).norm()


def test_it_resumes_where_it_was():
    params = matrices()
    first = Muon(params, lr=0.02, weight_decay=0.1, momentum=0.95)
    walk(first, params, range(3))
    copies = [nn.Parameter(p.detach().clone()) for p in params]
    second = Muon(copies, lr=1.0, weight_decay=0.0, momentum=0.0)
    second.load_state_dict(deepcopy(first.state_dict()))  # it keeps the tensors that it is given
    walk(first, params, range(3, 5))
    walk(second, copies, range(3, 5))
    for a, b in zip(params, copies, strict=True):
        assert torch.equal(a, b)


def test_a_matrix_without_a_gradient_stays():
    params = matrices()
    before = params[0].detach().clone()
    params[1].grad = torch.ones_like(params[1])
    Muon(params, lr=0.02, weight_decay=0.1, momentum=0.95).step()
    assert torch.equal(params[0], before)


def test_singular_values_come_near_to_one():
    wide_MNN = torch.randn(3, 16, 48, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonal(wide_MNN))
    assert values.min() > 0.6
    assert values.max() < 1.3


@pytest.mark.parametrize("shape", [(64, 64), (64, 256), (256, 64)])
def test_a_matrix_of_which_little_matters_does_not_blow_up_in_bfloat16(shape):
    rng = torch.Generator().manual_seed(0)
    u, _, vt = torch.linalg.svd(torch.randn(shape, generator=rng), full_matrices=False)
    slight = u * torch.logspace(0, -4, 64) @ vt
    half = orthogonal(slight.bfloat16()[None])[0].float()
    values = torch.linalg.svdvals(half)
    assert values.max() < 1.3
    whole = orthogonal(slight.double()[None])[0].float()  # the same polynomial, without rounding
    assert (half * (u @ vt)).sum() > 0.99 * (whole * (u @ vt)).sum()


def test_no_gradient_at_all_gives_no_nan():
    assert torch.equal(orthogonal(torch.zeros(1, 4, 8)), torch.zeros(1, 4, 8))
