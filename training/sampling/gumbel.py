"""A sampled continuation that a gradient passes through: straight-through Gumbel-Softmax.

Jang et al. 2017; Maddison et al. 2017. Forward, each token is the argmax of
logits plus Gumbel noise, exactly one-hot, as it was sampled; backward, it is the
softmax of the same sum at a temperature. So what judges it judges real samples,
and every logit learns what a little more of each token would have changed.

``sequential`` back-propagates through every cached step. ``parallel`` samples
without a gradient, keeps the noise, and reads the sampled tokens once more in
one pass: with the same noise their argmax is the same sequence, so the pass
gives each token its soft form. What it leaves out is how a token changes the
later ones through the context; each of ``jacobi_iterations`` reads the
straight-through tokens again and adds one link of that chain, and as many
rounds as tokens give the sequential gradient.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from musebridge import vocab
from musebridge.training.models.generator import Generator, KVCache


def straight_through(logits_BTV: Tensor, noise_BTV: Tensor, tokens_BT: Tensor, temperature: float | Tensor) -> Tensor:
    """Return tokens as one-hots (B, T, V) whose gradient is that of the soft relaxation."""
    soft_BTV = ((logits_BTV + noise_BTV) / temperature).softmax(-1)
    hard_BTV = F.one_hot(tokens_BT, logits_BTV.shape[-1]).to(soft_BTV)
    # In this order the forward value is exact: the difference is 0, not rounded.
    return hard_BTV + (soft_BTV - soft_BTV.detach())


def sequential(generator: Generator, seed_BT: Tensor, noise_BTV: Tensor, temperature: float | Tensor) -> Tensor:
    """Continue seeds with given noise, back-propagating through every cached step.

    Args:
        generator: seeds and continuations together must fit its context.
        seed_BT: token ids.
        noise_BTV: standard Gumbel noise, one moment for each token to sample.
        temperature: of the soft relaxation; samples are drawn at 1.

    Returns:
        One-hot continuations, shape (B, T, V) as the noise.
    """
    cache: KVCache | None = None
    given, written = seed_BT, []
    for noise_BV in noise_BTV.unbind(1):
        logits_BTV, cache = generator.extend(given, cache)
        logits_B1V, noise_B1V = logits_BTV[:, -1:, : vocab.N_EVENTS], noise_BV[:, None]
        given = straight_through(logits_B1V, noise_B1V, (logits_B1V + noise_B1V).argmax(-1), temperature)
        written.append(given)
    return torch.cat(written, 1)


def parallel(
    generator: Generator,
    seed_BT: Tensor,
    tokens_BT: Tensor,
    noise_BTV: Tensor,
    temperature: float | Tensor,
    *,
    jacobi_iterations: int = 0,
) -> Tensor:
    """Return sampled continuations as :func:`sequential` does, in ``1 + jacobi_iterations`` passes, not a step a token.

    Args:
        generator: as in :func:`sequential`.
        seed_BT: token ids.
        tokens_BT: what :func:`musebridge.training.sampling.sampler.sample` wrote with the noise.
        noise_BTV: standard Gumbel noise.
        temperature: of the soft relaxation.
        jacobi_iterations: links of the chain through the context that the gradient follows.
    """
    written = relaxed(generator, seed_BT, tokens_BT, noise_BTV, temperature)
    for _ in range(jacobi_iterations):
        written = relaxed(generator, seed_BT, tokens_BT, noise_BTV, temperature, given=written)
    return written


def relaxed(
    generator: Generator,
    seed_BT: Tensor,
    tokens_BT: Tensor,
    noise_BTV: Tensor,
    temperature: float | Tensor,
    *,
    given: Tensor | None = None,
) -> Tensor:
    """Return sampled tokens in their straight-through form, from one pass over seed and tokens.

    Args:
        generator: that sampled them.
        seed_BT: token ids.
        tokens_BT: that were sampled with ``noise_BTV``.
        noise_BTV: see there.
        temperature: of the soft relaxation.
        given: what to read as context in place of the tokens: themselves, with a gradient.
    """
    window = torch.cat([seed_BT, tokens_BT], 1)
    if given is not None:
        seed_BTV = F.one_hot(seed_BT, vocab.N_TOKENS).to(given)
        window = torch.cat([seed_BTV, F.pad(given, (0, vocab.N_TOKENS - given.shape[-1]))], 1)
    logits_BTV = generator(window[:, :-1], seed_BT.shape[1] - 1)[..., : vocab.N_EVENTS]
    return straight_through(logits_BTV, noise_BTV, tokens_BT, temperature)
