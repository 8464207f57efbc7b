"""Likelihood: the training loss, and the figure that models are compared by."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from musebridge.training.generator import Generator


def cross_entropy(generator: Generator, window_BT: Tensor) -> Tensor:
    """Return the mean next-token loss of windows, in nats per token."""
    logits_BTV = generator(window_BT[:, :-1])
    return F.cross_entropy(logits_BTV.flatten(0, 1), window_BT[:, 1:].flatten())


@torch.inference_mode()
def nll(generator: Generator, tokens: npt.NDArray[np.uint16], *, warm: int, limit: int | None = None) -> float:
    """Return the mean negative log-likelihood in nats per token with warm context.

    Windows as long as the context overlap by ``warm`` tokens, and only what
    follows these is scored, so every scored token has at least ``warm`` before it.

    Args:
        tokens: a packed split, shape (N,).
        warm: context that is read but not scored, less than ``context``.
        limit: score about this many tokens, spread evenly over the split.
    """
    total, count = 0.0, 0
    device = next(generator.parameters()).device
    for batch_BT in _overlapping(tokens, generator.config.context + 1, warm, limit):
        with torch.autocast(device.type, torch.bfloat16):
            logits_BTV = generator(batch_BT[:, :-1].to(device))
        scored_BTV, target_BT = logits_BTV[:, warm:], batch_BT[:, warm + 1 :].to(device)
        total += F.cross_entropy(scored_BTV.flatten(0, 1), target_BT.flatten(), reduction="sum").item()
        count += target_BT.numel()
    return total / count


def _overlapping(tokens: npt.NDArray[np.uint16], length: int, warm: int, limit: int | None) -> Iterator[Tensor]:
    """Yield batches of windows of ``length``, each ``length - 1 - warm`` after the last."""
    stride = length - 1 - warm
    starts = np.arange(0, len(tokens) - length + 1, stride)
    if not len(starts):
        raise ValueError(f"windows of {length} tokens need as many, found {len(tokens)}")
    if limit and len(starts) > limit // stride:
        starts = starts[np.linspace(0, len(starts) - 1, max(1, limit // stride)).astype(np.int64)]
    for i in range(0, len(starts), 8):
        windows = [tokens[s : s + length].astype(np.int64) for s in starts[i : i + 8]]
        yield torch.from_numpy(np.stack(windows))
