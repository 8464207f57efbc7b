"""The type of matrix products: what the processor multiplies, not what it imitates."""

import platform
import sys
from pathlib import Path

import pytest
import torch

from musebridge.training.compute import precision

CPU = torch.device("cpu")
BFLOAT16 = {"avx512_bf16", "avx_ne_convert"}


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64",
    reason="the kernel's word needs Linux on an x86 processor",
)
def test_bfloat16_is_taken_where_the_processor_has_instructions_for_it():
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    flags = set(next(line for line in lines if line.startswith("flags")).split())
    assert precision.product_type(CPU) == (torch.bfloat16 if flags & BFLOAT16 else torch.float32)


@pytest.mark.parametrize("expected", [torch.bfloat16, torch.float32])
def test_products_are_of_that_type_and_what_must_be_exact_stays(expected, monkeypatch):
    monkeypatch.setattr(precision, "_processor_has_bfloat16", lambda: expected == torch.bfloat16)
    square = torch.eye(2)
    with precision.autocast(CPU):
        assert (square @ square).dtype == expected
        assert torch.nn.functional.cross_entropy(square @ square, torch.tensor([0, 1])).dtype == torch.float32
