"""The discriminator's own training: against samples of a frozen generator.

Half of the held-out pieces choose the weights; what is reported is measured on
the other half, which chose nothing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from musebridge.config import build
from musebridge.errors import CheckpointError
from musebridge.training import checkpoint
from musebridge.training.course import Course, DiscriminatorTraining
from musebridge.training.discriminator import Discriminator, DiscriminatorConfig
from musebridge.training.generator import Generator
from musebridge.training.hints import statistics
from musebridge.training.judging import Scores, Skill, auroc, best_threshold, skill
from musebridge.training.samples import Pairs

_AT_ONCE = 32
_CALIBRATED_BY = 512


class Discrimination(Course):
    """The discriminator against a frozen generator.

    Args:
        frozen: the generator that wrote the artificial continuations.
        train, held_out: pairs of different pieces.
        folder: of state and weights.
        shape: of the discriminator.
        config: how to train.
        command: how it was started, for the record.
        seed: of weights, order and dropout.
        compile: compile the loss; slower to start, faster to run.
    """

    figure = "auroc"

    def __init__(
        self,
        frozen: Generator,
        train: Pairs,
        held_out: Pairs,
        folder: Path,
        shape: DiscriminatorConfig,
        config: DiscriminatorTraining,
        *,
        command: str,
        seed: int = 0,
        compile: bool = True,
    ) -> None:
        torch.manual_seed(seed)
        chooses = held_out.piece_N % 2 == 0
        self.choosing, self.reported = held_out[chooses], held_out[~chooses]
        self.discriminator = Discriminator(shape).to(next(frozen.parameters()).device)
        if shape.inherit:
            self.discriminator.inherit(frozen)
        _calibrate(self.discriminator, train[slice(0, _CALIBRATED_BY)])
        self.loss = torch.compile(config.__call__) if compile else config
        super().__init__(self.discriminator, train, folder, config, command=command, seed=seed)

    def report(self) -> Skill:
        """Return what the discriminator can do on the pieces that chose nothing."""
        threshold = best_threshold(*self.scores(self.choosing))
        return skill(*self.scores(self.reported), self.reported.piece_N, threshold=threshold)

    def scores(self, pairs: Pairs) -> tuple[Scores, Scores]:
        """Return the verdicts on the real and on the artificial continuations."""
        window_MT, hints_MTF = torch.from_numpy(pairs.windows), torch.from_numpy(pairs.hints).float()
        real, fake = np.split(verdicts(self.discriminator, window_MT, hints_MTF, pairs.seed_NT.shape[1]), 2)
        return real, fake

    def _loss(self, at: npt.NDArray[np.int64]) -> Tensor:
        chosen = self.train[at]
        window_MT = torch.from_numpy(chosen.windows).to(self.device)
        hints_MTF = torch.from_numpy(chosen.hints).float().to(self.device)
        loss: Tensor = self.loss(self.discriminator, window_MT, hints_MTF, chosen.seed_NT.shape[1])
        return loss

    def _measure(self) -> float:
        return auroc(*self.scores(self.choosing))


def _calibrate(discriminator: Discriminator, some: Pairs) -> None:
    window_MT, hints_MTF = torch.from_numpy(some.windows), torch.from_numpy(some.hints).float()
    seeded = some.seed_NT.shape[1]
    discriminator.calibrate(statistics(window_MT[:, seeded:], hints_MTF[:, seeded:]))


@torch.no_grad()
def verdicts(discriminator: Discriminator, window_MT: Tensor, hints_MTF: Tensor, seeded: int) -> Scores:
    """Return the verdict on each window, shape (M,)."""
    discriminator.eval()
    device = next(discriminator.parameters()).device
    parts = []
    for window_BT, hints_BTF in zip(*(torch.split(x, _AT_ONCE) for x in (window_MT, hints_MTF)), strict=True):
        with torch.autocast(device.type, torch.bfloat16):
            verdict = discriminator(window_BT.to(device), hints_BTF.to(device), seeded)
        parts.append(verdict.whole_B.double().cpu())
    return np.asarray(torch.cat(parts).numpy())


def load_discriminator(folder: Path) -> Discriminator:
    """Return the best discriminator of a training, in evaluation mode.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    state = checkpoint.load_state(folder)
    if state is None or not state.get("best"):
        raise CheckpointError(f"{folder}: holds no discriminator; train one with 'train --phase adversarial'")
    try:
        discriminator = Discriminator(build(DiscriminatorConfig, state["shape"], str(folder)))
        discriminator.load_state_dict(state["best"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{folder}: is not a discriminator ({checkpoint.one_line(error)})") from error
    return discriminator.eval().requires_grad_(False)
