from __future__ import annotations

import pytest
import torch

from musebridge.training.models.generator import Generator, GeneratorConfig

TINY = GeneratorConfig(n_layers=2, d_model=64, n_heads=4, n_kv_heads=2, d_ff=96, context=300)


@pytest.fixture
def generator() -> Generator:
    """A small generator in which every weight matters: none is left at its initial zero."""
    torch.manual_seed(0)
    generator = Generator(TINY).eval()
    for weight in generator.parameters():
        if not weight.any():
            torch.nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
    return generator
