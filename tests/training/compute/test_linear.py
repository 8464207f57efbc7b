"""Products with packed matrices: the plain product, also to torch's compiler."""

from __future__ import annotations

import gc

import pytest
import torch
import torch.nn.functional as F

from musebridge.training.compute import linear
from musebridge.training.compute.linear import packed, product
from musebridge.training.compute.precision import product_type

WEIGHT_NK = torch.randn(24, 16, generator=torch.Generator().manual_seed(0))
ROWS = torch.randn(3, 1, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("rows", [ROWS, ROWS[:1]], ids=["rows", "a row"])
@pytest.mark.parametrize("multiply", [product, torch.compile(product, backend="eager")], ids=["plain", "compiled"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_product_is_the_plain_one_in_the_type_of_the_matrix(rows, multiply, dtype):
    y = multiply(rows, packed(WEIGHT_NK, dtype))
    assert y.dtype == dtype
    exact = torch.promote_types(dtype, torch.float32)
    expected = F.linear(*(x.to(dtype).to(exact) for x in (rows, WEIGHT_NK)))
    off = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 1e-2}[dtype]
    torch.testing.assert_close(y.to(exact), expected, rtol=off, atol=off)


def test_a_change_of_the_matrix_does_not_reach_what_was_packed_before():
    weight_NK = WEIGHT_NK.clone()
    before, y = packed(weight_NK, torch.float32), product(ROWS, packed(weight_NK, torch.float32))
    weight_NK.zero_()
    assert torch.equal(product(ROWS, before), y)


def test_what_is_packed_goes_with_its_matrix():
    gc.collect()  # what other tests left
    held = len(linear._PACKED)
    weight_NK = packed(WEIGHT_NK, product_type(WEIGHT_NK.device))
    assert len(linear._PACKED) in (held, held + 1)  # nothing is packed where the processor has no use for it
    del weight_NK
    assert len(linear._PACKED) == held


def test_the_compiler_is_told_the_truth_about_the_operator():
    weight_NK = packed(WEIGHT_NK, product_type(WEIGHT_NK.device))
    told = torch.library.opcheck(torch.ops.musebridge.product.default, (ROWS.to(weight_NK.dtype), weight_NK))
    assert set(told.values()) == {"SUCCESS"}
