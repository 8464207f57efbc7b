"""Trains the critic on a frozen generator's continuations, and on a discriminator's verdicts on them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from musebridge.training.adversarial.discriminator_trainer import verdicts
from musebridge.training.adversarial.pair_trainer import DiscriminatorTraining, PairTrainer
from musebridge.training.compute.precision import autocast
from musebridge.training.metrics.classification import Scores
from musebridge.training.models.critic import Critic
from musebridge.training.models.discriminator import Discriminator
from musebridge.training.sampling.pairs import Pairs, kept

_AT_ONCE = 32
_STEADY = 10.0
"""Weight of what is guessed a token later, beside the verdict.

Both are what a guess should foresee (Sutton 1988, "temporal differences"). The verdict alone lets guesses rise and
fall from token to token by more than music tells, which its own variance hides.
"""


class CriticTrainer(PairTrainer):
    """A critic's training, on a frozen generator's continuations and a discriminator's verdicts on them.

    Args:
        discriminator: as it is after its own training.
        train, held_out: pairs of different pieces; their artificial continuations are learnt from.
        folder: of state and weights.
        config: how to train, as the discriminator was.
        command: how it was started, for the record.
        seed: of weights, order and dropout.
        compile: compile the loss; slower to start, faster to run.

    Attributes:
        critic: what is trained.
        verdict_N: what the discriminator says of the continuations that are learnt from.
    """

    figure = "explained"

    def __init__(
        self,
        discriminator: Discriminator,
        train: Pairs,
        held_out: Pairs,
        folder: Path,
        config: DiscriminatorTraining,
        *,
        command: str,
        seed: int = 0,
        compile: bool = True,
    ) -> None:
        torch.manual_seed(seed)
        self.critic = Critic(discriminator).to(next(discriminator.parameters()).device)
        self._compiled = torch.compile(_loss) if compile else _loss
        super().__init__(self.critic, train, folder, config, command=command, seed=seed)
        self._held_out = held_out
        self.verdict_N, self._held_out_verdict_N = (
            kept(folder / f"{name}.npy", len(part), partial(_verdicts, discriminator, part))
            for name, part in (("verdicts", train), ("held-out-verdicts", held_out))
        )

    def _loss(self, at: npt.NDArray[np.int64]) -> Tensor:
        window_BT, features_BTF = (x.to(self.device) for x in artificial(self.train[at]))
        verdict_B = torch.from_numpy(self.verdict_N[at]).float().to(self.device)
        loss: Tensor = self._compiled(self.critic, window_BT, features_BTF, verdict_B, self._seed_length)
        return loss

    @torch.no_grad()
    def _measure(self) -> float:
        """Return which share of the verdicts' variance the guesses explain, on average over the tokens."""
        self.critic.eval()
        parts = []
        window_NT, features_NTF = artificial(self._held_out)
        for window_BT, features_BTF in zip(
            torch.split(window_NT, _AT_ONCE), torch.split(features_NTF, _AT_ONCE), strict=True
        ):
            with autocast(self.device):
                parts.append(self.critic(window_BT.to(self.device), features_BTF.to(self.device), self._seed_length))
        verdict_N1 = torch.from_numpy(self._held_out_verdict_N)[:, None]
        error = (torch.cat(parts).cpu() - verdict_N1).square().mean()
        return float(1 - error / verdict_N1.var(correction=0))

    @property
    def _seed_length(self) -> int:
        return self.train.window.seed_length


def _loss(critic: Critic, window_BT: Tensor, features_BTF: Tensor, verdict_B: Tensor, seed_length: int) -> Tensor:
    value_BC = critic(window_BT, features_BTF, seed_length)
    verdict_B1 = verdict_B[:, None].expand_as(value_BC)
    return F.mse_loss(value_BC, verdict_B1) + _STEADY * F.mse_loss(value_BC[:, :-1], value_BC[:, 1:].detach())


def artificial(pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Return the windows that the generator wrote, and their token features."""
    window_NT = np.concatenate([pairs.seed_NT, pairs.fake_NT], 1)
    return torch.from_numpy(window_NT), torch.from_numpy(pairs.features_NTF).float()


def _verdicts(discriminator: Discriminator, pairs: Pairs) -> Scores:
    return verdicts(discriminator, *artificial(pairs), pairs.window.seed_length)
