"""Likelihood: the training loss, and the figure that models are compared by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from musebridge import vocab
from musebridge.training.compute.precision import autocast
from musebridge.training.models.registry import AnyGenerator


def cross_entropy(generator: AnyGenerator, window_BT: Tensor) -> Tensor:
    """Return the mean next-token loss of windows, in nats per token."""
    logits_BTV = generator(window_BT[:, :-1])
    return F.cross_entropy(logits_BTV.flatten(0, 1), window_BT[:, 1:].flatten())


@dataclass(frozen=True, slots=True, kw_only=True)
class Likelihood:
    """What a split costs a generator, in nats.

    Attributes:
        tokens, notes, seconds: how much was scored.
        nats: the cost of all of it.
        by_position_T: mean cost of a token against how many came before it in
            its window, shape (context,), the warm context included.
        by_kind: mean cost of a token of each kind: NOTE_ON, NOTE_OFF, TIME_SHIFT, VELOCITY.
    """

    tokens: int
    notes: int
    seconds: float
    nats: float
    by_position_T: npt.NDArray[np.float64]
    by_kind: dict[str, float]

    @property
    def per_token(self) -> float:
        """Nats per token, the figure of the literature."""
        return self.nats / self.tokens

    @property
    def per_note(self) -> float:
        """Nats per note; does not depend on how events are cut into tokens."""
        return self.nats / max(1, self.notes)

    @property
    def per_second(self) -> float:
        """Nats per second of music."""
        return self.nats / max(self.seconds, 1 / vocab.STEPS_PER_S)


@torch.inference_mode()
def likelihood(
    generator: AnyGenerator,
    tokens: npt.NDArray[np.uint16],
    *,
    warm: int,
    limit: int | None = None,
    on_progress: Callable[[float], None] = lambda _: None,
) -> Likelihood:
    """Score a split with warm context.

    Windows as long as the context overlap by ``warm`` tokens, and only what
    follows these is scored, so every scored token has at least ``warm`` before it.

    Args:
        tokens: a packed split, shape (N,).
        warm: context that is read but not scored, less than ``context``.
        limit: score about this many tokens, spread evenly over the split.
        on_progress: called with the share that is done, 0..1.
    """
    device = next(generator.parameters()).device
    length = generator.config.context + 1
    starts = _starts(len(tokens), length, warm, limit)
    position_T, windows = np.zeros(length - 1), 0
    cost_V, count_V = np.zeros(vocab.N_TOKENS), np.zeros(vocab.N_TOKENS, np.int64)
    for batch_BT in _batches(tokens, starts, length):
        nats_BT = _costs(generator, batch_BT.to(device)).double().cpu().numpy()
        target_N, nats_N = batch_BT[:, warm + 1 :].flatten().numpy(), nats_BT[:, warm:].flatten()
        cost_V += np.bincount(target_N, nats_N, vocab.N_TOKENS)
        count_V += np.bincount(target_N, minlength=vocab.N_TOKENS)
        position_T += nats_BT.sum(0)
        windows += len(nats_BT)
        on_progress(windows / len(starts))
    shift_steps_V = np.zeros(vocab.N_TOKENS)
    shift_steps_V[vocab.TIME_SHIFT : vocab.VELOCITY] = np.arange(1, vocab.MAX_SHIFT_STEPS + 1)
    return Likelihood(
        tokens=int(count_V.sum()),
        notes=int(count_V[: vocab.NOTE_OFF].sum()),
        seconds=float(count_V @ shift_steps_V) / vocab.STEPS_PER_S,
        nats=float(cost_V.sum()),
        by_position_T=position_T / windows,
        by_kind={
            kind: float(cost_V[low:high].sum() / max(1, count_V[low:high].sum())) for kind, low, high in vocab.KINDS
        },
    )


def nll(generator: AnyGenerator, tokens: npt.NDArray[np.uint16], *, warm: int, limit: int | None = None) -> float:
    """Return :attr:`Likelihood.per_token`, the mean negative log-likelihood in nats per token."""
    return likelihood(generator, tokens, warm=warm, limit=limit).per_token


def _costs(generator: AnyGenerator, window_BT: Tensor) -> Tensor:
    """Return what each token after the first costs, in nats, (B, T - 1)."""
    with autocast(window_BT.device):
        logits_BTV = generator(window_BT[:, :-1])
    return F.cross_entropy(logits_BTV.transpose(1, 2), window_BT[:, 1:], reduction="none")


def _starts(n_tokens: int, length: int, warm: int, limit: int | None) -> npt.NDArray[np.int64]:
    """Return where windows of ``length`` begin, each ``length - 1 - warm`` after the last."""
    stride = length - 1 - warm
    starts = np.arange(0, n_tokens - length + 1, stride)
    if not len(starts):
        raise ValueError(f"windows of {length} tokens need as many, found {n_tokens}")
    if limit and len(starts) > limit // stride:
        starts = starts[np.linspace(0, len(starts) - 1, max(1, limit // stride)).astype(np.int64)]
    return starts


def _batches(tokens: npt.NDArray[np.uint16], starts: npt.NDArray[np.int64], length: int) -> Iterator[Tensor]:
    for i in range(0, len(starts), 8):
        windows = [tokens[s : s + length].astype(np.int64) for s in starts[i : i + 8]]
        yield torch.from_numpy(np.stack(windows))
