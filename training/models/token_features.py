"""What a frozen generator thinks of music: how surprising each token is to it.

What a model wrote is on average exactly as surprising to it as it expects
(surprise equals entropy); real music is not. Gehrmann et al. 2019 ("GLTR") tell
text apart by the same figures.

A window is token ids (B, T), or the weights of tokens (B, T, V) that a
straight-through sample has; the gradient flows through these, ranks excepted.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from musebridge import vocab
from musebridge.training.models.generator import Generator, embed
from musebridge.training.models.registry import AnyGenerator

N_TOKEN_FEATURES, N_STATISTICS = 3, 18


def token_features(generator: AnyGenerator, window: Tensor) -> Tensor:
    """Return surprise, entropy (nats) and log rank of every token, shape (B, T, 3); the first token has none.

    Args:
        generator: in evaluation mode, its weights frozen.
        window: see the module.
    """
    return F.pad(opinion(generator(window[:, :-1]), window[:, 1:]), (0, 0, 1, 0))


def branched_token_features(generator: Generator, seed_BT: Tensor, written_MC: Tensor) -> Tensor:
    """Return the :func:`token_features` of windows, (M, T + C, 3), where some begin with the same seed.

    Args:
        generator: as there.
        seed_BT: token ids; each is read once.
        written_MC: M / B continuations of each seed, side by side, or weights of their tokens (M, C, V).
    """
    n = len(written_MC) // len(seed_BT)
    logits_BTV, logits_MCV = generator.branch(seed_BT, written_MC)
    of_seed_BTF = F.pad(opinion(logits_BTV[:, :-1], seed_BT[:, 1:]), (0, 0, 1, 0))
    return torch.cat([of_seed_BTF.repeat_interleave(n, 0), opinion(logits_MCV, written_MC)], 1)


def opinion(logits_BTV: Tensor, tokens: Tensor) -> Tensor:
    """Return the hints of tokens that came where these logits were, shape (B, T, 3)."""
    log_p_BTV = logits_BTV[..., : vocab.N_EVENTS].log_softmax(-1)
    nats_BT = -_chosen(log_p_BTV, tokens)
    entropy_BT = -(log_p_BTV.exp() * log_p_BTV).sum(-1)
    likelier_BT = (log_p_BTV.detach() > -nats_BT.detach()[..., None]).sum(-1)
    return torch.stack([nats_BT, entropy_BT, likelier_BT.float().log1p()], -1)


def _chosen(log_p_BTV: Tensor, tokens: Tensor) -> Tensor:
    if tokens.is_floating_point():
        return (log_p_BTV * tokens[..., : vocab.N_EVENTS]).sum(-1)
    # BEGIN is never sampled; where a seed opens with it, it is not asked for.
    return log_p_BTV.gather(-1, tokens.clamp(max=vocab.N_EVENTS - 1)[..., None])[..., 0]


def statistics(part: Tensor, features_BTF: Tensor) -> Tensor:
    """Return 18 figures of a continuation: for each kind of event the mean hints and its share, and the mean of all.

    Args:
        part: the continuation, as a window.
        features_BTF: its hints.

    Returns:
        Shape (B, 18); a kind that does not occur has zeros.
    """
    return running_statistics(part, features_BTF)[:, -1]


def running_statistics(part: Tensor, features_BTF: Tensor) -> Tensor:
    """Return the :func:`statistics` of a continuation as far as each of its tokens, (B, T, 18)."""
    kind_BTK = embed(part, kinds(features_BTF))
    count_BTK = kind_BTK.cumsum(1)
    by_kind_BTKF = (kind_BTK[..., None] * features_BTF[:, :, None]).cumsum(1) / count_BTK.clamp(min=1)[..., None]
    length_T1 = torch.arange(1, part.shape[1] + 1, device=part.device)[:, None]
    mean_BTF = features_BTF[..., :2].cumsum(1) / length_T1
    return torch.cat([by_kind_BTKF.flatten(2), count_BTK / length_T1, mean_BTF], -1)


def kinds(like: Tensor) -> Tensor:
    """Return which kind each token is of, shape (V, 4), of ones and zeros."""
    kind_VK = like.new_zeros(vocab.N_TOKENS, len(vocab.KINDS))
    for k, (_, low, high) in enumerate(vocab.KINDS):
        kind_VK[low:high, k] = 1
    return kind_VK
