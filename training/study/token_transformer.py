"""A small transformer on tokens that is trained to tell windows apart, as it should be and as earlier work had it.

Earlier work fed (batch, time, width) to an encoder that expects (time, batch, width):
tokens attended to the tokens at the same place in other windows, and never to their
neighbours, and what came out was averaged over time. Such a model reads a bag of
events, whose order does not matter. The noise study shows what that costs.

Tensor names end in their shape: B windows, T time, D width.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musebridge import vocab
from musebridge.training.compute.optimizers import optimizers_of, set_rates, take_step
from musebridge.training.compute.precision import autocast
from musebridge.training.data.tokens import Tokens
from musebridge.training.metrics.classification import Scores
from musebridge.training.models.generator import Block, GeneratorConfig, embed, norm, rope_table

SHAPE = GeneratorConfig(n_layers=2, d_model=128, n_heads=4, n_kv_heads=4, d_ff=256, context=1024)
_HIDDEN = 1024
_MUON_LR, _ADAM_LR, _WEIGHT_DECAY = 0.01, 2e-3, 0.1


class TokenTransformer(nn.Module):
    """Windows to the logit that what follows the seed is untouched.

    Args:
        over_batch: attend over the batch instead of over time.
        shape: of the blocks; its context bounds windows, and a batch that is attended over.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, *, over_batch: bool, shape: GeneratorConfig = SHAPE) -> None:
        super().__init__()
        self.over_batch = over_batch
        self.embedding = nn.Embedding(vocab.N_TOKENS, shape.d_model)
        self.blocks = nn.ModuleList(Block(shape, causal=False) for _ in range(shape.n_layers))
        self.hidden = nn.Linear(shape.d_model, _HIDDEN)
        self.verdict = nn.Linear(_HIDDEN, 1)
        cos, sin = rope_table(shape)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, window_BT: Tensor, seed_length: int) -> Tensor:
        """Return a logit for each window, (B,)."""
        x_BTD = norm(embed(window_BT, self.embedding.weight))
        x = x_BTD.transpose(0, 1) if self.over_batch else x_BTD
        cos, sin = self.cos[: x.shape[1]], self.sin[: x.shape[1]]
        for block in self.blocks:
            x, _ = block(x, cos, sin, None)
        x_BTD = norm(x.transpose(0, 1) if self.over_batch else x)
        logit_B1: Tensor = self.verdict(F.relu(self.hidden(x_BTD[:, seed_length:].mean(1))))
        return logit_B1[:, 0].float()


def fit(
    real_NT: Tokens, other_NT: Tokens, seed_length: int, *, over_batch: bool, steps: int, batch: int = 32, seed: int = 0
) -> TokenTransformer:
    """Train a transformer to tell real windows from others; half of each batch is real, in any order.

    Args:
        real_NT, other_NT: as many of each.
        seed_length: tokens of a window that are heard, not judged.
        over_batch: see :class:`TokenTransformer`.
        steps: of training; the learning rates fall linearly to zero.
        batch: windows a step.
        seed: of weights and order.
    """
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    model = TokenTransformer(over_batch=over_batch)
    optimizers = optimizers_of(model, model.blocks, _MUON_LR, _ADAM_LR, _WEIGHT_DECAY)
    both_MT, is_real_M = np.concatenate([real_NT, other_NT]), np.arange(2 * len(real_NT)) < len(real_NT)
    for step in range(steps):
        set_rates(optimizers, 1 - step / steps)
        halves = [first + rng.integers(0, len(real_NT), batch // 2) for first in (0, len(real_NT))]
        at = rng.permutation(np.concatenate(halves))
        window_BT = torch.from_numpy(both_MT[at])
        with autocast(window_BT.device):
            logit_B = model(window_BT, seed_length)
        loss = F.binary_cross_entropy_with_logits(logit_B, torch.from_numpy(is_real_M[at]).float())
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        take_step(model, optimizers, clip=1.0)
    return model.eval()


@torch.inference_mode()
def scores(
    model: TokenTransformer, real_NT: Tokens, other_NT: Tokens, seed_length: int, batch: int = 32
) -> tuple[Scores, Scores]:
    """Return the logits of real windows and of others, which are judged in batches of both, in any order."""
    both_MT = np.concatenate([real_NT, other_NT])
    order = np.random.default_rng(0).permutation(len(both_MT))
    parts = []
    for part_BT in torch.split(torch.from_numpy(both_MT[order]), batch):
        with autocast(part_BT.device):
            parts.append(model(part_BT, seed_length).double().numpy())
    score_M = np.empty(len(both_MT))
    score_M[order] = np.concatenate(parts)
    real_N, other_N = np.split(score_M, 2)
    return real_N, other_N
