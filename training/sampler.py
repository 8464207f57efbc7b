"""Batched sampling from a generator in torch, for training and evaluation."""

from __future__ import annotations

import torch
from torch import Tensor

from musebridge import vocab
from musebridge.training.generator import Generator


@torch.inference_mode()
def sample_continuations(generator: Generator, seed_BT: Tensor, length: int, rng: torch.Generator) -> Tensor:
    """Continue a batch of seeds at temperature 1, without truncation.

    Args:
        generator: seeds and continuations together must fit its context.
        seed_BT: tokens that are given, shape (B, T).
        length: tokens to sample.
        rng: source of randomness; the same seeds and state give the same tokens.

    Returns:
        The sampled tokens, shape (B, length).
    """
    logits_BTV, cache = generator.extend(seed_BT, None)
    sampled = []
    for _ in range(length):
        probability_BV = logits_BTV[:, -1, : vocab.N_EVENTS].softmax(-1)
        token_B1 = torch.multinomial(probability_BV, 1, generator=rng)
        sampled.append(token_B1)
        if len(sampled) < length:
            logits_BTV, cache = generator.extend(token_B1, cache)
    return torch.cat(sampled, 1)
