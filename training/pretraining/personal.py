"""Fine-tuning on one's own music: minutes on a CPU, anchored to the model that it begins with.

Each step reads windows of the takes, moved in key, tempo and touch, and windows
that the model wrote before it learned. On these it is held to what it said
then, so it forgets little (distillation on its own samples, in the manner of
Li & Hoiem 2017, "Learning without Forgetting"), and needs no corpus.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from musebridge import vocab
from musebridge.errors import CorpusError
from musebridge.training.compute.optimizers import optimizers_of, set_rates, take_step
from musebridge.training.data.augment import Augmentation
from musebridge.training.data.corpus import Windows
from musebridge.training.data.tokens import PackedTokens
from musebridge.training.metrics.likelihood import cross_entropy
from musebridge.training.models.generator import Generator
from musebridge.training.sampling.sampler import sample_continuations

_WARM_UP = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Personal:
    """How to learn from takes.

    Attributes:
        steps: of the optimizer.
        windows, anchors: windows of the takes and of the model's own music in each step.
        length: tokens of a window.
        own: windows of its own music that the model writes first.
        rate: AdamW's highest; it warms up and falls to zero.
        anchor: the weight of staying what it was.
        seed: of all that is drawn.
    """

    steps: int = 200
    windows: int = 2
    anchors: int = 1
    length: int = 512
    own: int = 16
    rate: float = 2e-4
    anchor: float = 1.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Learned:
    """A generator that learned.

    Attributes:
        generator: the new one.
        tokens: of the takes that it learned from.
        before, after: nats a token on the tenth that it did not see.
    """

    generator: Generator
    tokens: int
    before: float
    after: float


def learn(
    base: Generator, takes: Sequence[PackedTokens], config: Personal, on_progress: Callable[[float], None]
) -> Learned:
    """Return a copy of a generator that learned from takes.

    Args:
        base: stays as it is.
        takes: the tokens of each, opened by BEGIN. In a shuffled order, the last tenth of them all is held out.
        config: how.
        on_progress: called with the share that is done, 0..1.

    Raises:
        CorpusError: there is too little music.
    """
    seen, held_out = split(takes, config)
    windows = Windows(
        seen,
        length=config.length + 1,
        augmentation=Augmentation(transpose=3, stretch=0.05, velocity_shift=1),
        seed=config.seed,
    )
    rng = torch.Generator().manual_seed(config.seed)
    begin_BT = torch.full((config.own, 1), vocab.BEGIN)
    own_BT = torch.cat([begin_BT, sample_continuations(base, begin_BT, config.length - 1, rng)], 1)
    student = copy.deepcopy(base).train().requires_grad_(True)
    optimizers = optimizers_of(student, student.blocks, None, config.rate, 0.0)
    for step in range(config.steps):
        set_rates(optimizers, min(1, (step + 1) / _WARM_UP) * (1 - step / config.steps))
        first = step * config.windows
        batch = np.stack([windows.window(i) for i in range(first, first + config.windows)])
        chosen_N = torch.randint(config.own, (config.anchors,), generator=rng)
        loss = cross_entropy(student, torch.from_numpy(batch))
        (loss + config.anchor * _forgetting(student, base, own_BT[chosen_N])).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        take_step(student, optimizers, 1.0)
        on_progress((step + 1) / config.steps)
    student.eval().requires_grad_(False)
    return Learned(student, len(seen), nats(base, held_out, config.length), nats(student, held_out, config.length))


def split(takes: Sequence[PackedTokens], config: Personal) -> tuple[PackedTokens, PackedTokens]:
    """Return nine tenths of the takes, packed, and the tenth that is held out.

    Raises:
        CorpusError: the larger part has fewer than three windows, or the smaller less than half of one.
    """
    order = np.random.default_rng(config.seed).permutation(len(takes))
    tokens = np.concatenate([np.empty(0, np.uint16), *(takes[i] for i in order)]).astype(np.uint16)
    need = max(4 * (config.length + 1), 5 * config.length)
    if len(tokens) < need:
        raise CorpusError(
            f"{len(tokens):,} tokens are too little music to learn from; give takes of {need:,} or more, some minutes"
        )
    at = len(tokens) * 9 // 10
    return tokens[:at], tokens[at:]


@torch.inference_mode()
def nats(generator: Generator, tokens: PackedTokens, length: int) -> float:
    """Return the mean cost of a token in windows of at most ``length``, side by side, in nats."""
    costs = []
    for start in range(0, len(tokens) - 1, length):
        window_T = torch.from_numpy(tokens[start : start + length + 1].astype(np.int64))
        costs.append((float(cross_entropy(generator, window_T[None])), len(window_T) - 1))
    return sum(cost * count for cost, count in costs) / sum(count for _, count in costs)


def _forgetting(student: Generator, base: Generator, window_BT: Tensor) -> Tensor:
    """Return the divergence of what the student says from what it said before, in nats a token."""
    with torch.no_grad():
        before_BTV = base(window_BT).log_softmax(-1)
    now_BTV = student(window_BT).log_softmax(-1)
    return F.kl_div(now_BTV.flatten(0, 1), before_BTV.flatten(0, 1), reduction="batchmean", log_target=True)
