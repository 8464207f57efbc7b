"""The best of n: several continuations of each seed, and which of them scores highest."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from musebridge.training.compute.precision import product_type
from musebridge.training.models.generator import Generator
from musebridge.training.sampling.sampler import gumbel_noise, sample


@torch.no_grad()
def scored(
    generator: Generator,
    score: Callable[[Tensor, Tensor], Tensor],
    seed_BT: Tensor,
    length: int,
    n: int,
    rng: torch.Generator,
    *,
    compile: bool = False,
) -> tuple[Tensor, Tensor]:
    """Continue each seed ``n`` times.

    Args:
        generator: that writes.
        score: of seeds and their continuations, (B, T) and (B n, C), the higher the better.
        seed_BT: token ids.
        length: of a continuation.
        n: continuations of each seed.
        rng: source of randomness.
        compile: see ``musebridge.training.sampling.sampler``.

    Returns:
        The windows, (B, n, T), and their scores, (B, n).
    """
    written_MC = written(generator, seed_BT, length, n, rng, compile=compile)
    window_MT = torch.cat([seed_BT.repeat_interleave(n, 0), written_MC], 1)
    return window_MT.view(len(seed_BT), n, -1), score(seed_BT, written_MC).view(-1, n)


def written(
    generator: Generator, seed_BT: Tensor, length: int, n: int, rng: torch.Generator, *, compile: bool
) -> Tensor:
    """Return ``n`` continuations of each seed, side by side, (B n, length); see :func:`scored`."""
    noise_MCV = gumbel_noise(len(seed_BT) * n, length, rng)
    return sample(generator, seed_BT, noise_MCV, dtype=product_type(seed_BT.device), compile=compile)


def ranked(window_BNT: Tensor, score_BN: Tensor) -> Tensor:
    """Return the windows of each seed, the best first."""
    order_BN = score_BN.argsort(1, descending=True)
    return window_BNT.gather(1, order_BN[..., None].expand_as(window_BNT))
