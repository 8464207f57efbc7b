"""The critic: what the discriminator will say of a continuation, guessed at each token from what came before.

A verdict on the whole does not tell which tokens earned it. How much the guess rises
with a token does, roughly (Sutton 1988; Konda and Tsitsiklis 2000, "Actor-Critic
Algorithms"; Schulman et al. 2016, "Generalized Advantage Estimation"), and a
generator that learns from that learns from less noise.

The critic has the discriminator's shape, but no token hears a later one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from musebridge.training.course import Course, DiscriminatorTraining
from musebridge.training.discriminate import verdicts
from musebridge.training.discriminator import Discriminator, Verdict
from musebridge.training.generator import Generator
from musebridge.training.judging import Scores
from musebridge.training.samples import Pairs, kept
from musebridge.training.systems import AT_ONCE, Discriminated


class Criticism(Course):
    """A critic's training, on a frozen generator's continuations and a discriminator's verdicts on them.

    Args:
        frozen: the generator.
        discriminator: as it is after its own training.
        train, held_out: pairs of different pieces; their artificial continuations are learnt from.
        folder: of state and weights.
        config: how to train, as the discriminator was.
        command: how it was started, for the record.
        seed: of weights, order and dropout.
        compile: compile the loss; slower to start, faster to run.
    """

    figure = "explained"

    def __init__(
        self,
        frozen: Generator,
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
        self.critic = Discriminator(replace(discriminator.config, causal=True)).to(next(frozen.parameters()).device)
        if self.critic.config.inherit:
            self.critic.inherit(frozen)
        self._compiled = torch.compile(_loss) if compile else _loss
        super().__init__(self.critic, train, folder, config, command=command, seed=seed)
        self._held_out = held_out
        if not self.has_ended:
            self._verdict_N, self._held_out_verdict_N = (
                kept(folder / f"{name}.npy", len(part), partial(_verdicts, discriminator, part))
                for name, part in (("verdicts", train), ("held-out-verdicts", held_out))
            )

    def _loss(self, at: npt.NDArray[np.int64]) -> Tensor:
        window_BT, hints_BTF = (x.to(self.device) for x in _artificial(self.train[at]))
        verdict_B = torch.from_numpy(self._verdict_N[at]).float().to(self.device)
        loss: Tensor = self._compiled(self.critic, window_BT, hints_BTF, verdict_B, self._seeded)
        return loss

    @torch.no_grad()
    def _measure(self) -> float:
        """Return which share of the verdicts' variance the guesses explain, on average over the tokens."""
        self.critic.eval()
        parts = []
        window_NT, hints_NTF = _artificial(self._held_out)
        for window_BT, hints_BTF in zip(torch.split(window_NT, AT_ONCE), torch.split(hints_NTF, AT_ONCE), strict=True):
            with torch.autocast(self.device.type, torch.bfloat16):
                parts.append(values(self.critic, window_BT.to(self.device), hints_BTF.to(self.device), self._seeded))
        verdict_N1 = torch.from_numpy(self._held_out_verdict_N)[:, None]
        error = (torch.cat(parts).cpu() - verdict_N1).square().mean()
        return float(1 - error / verdict_N1.var(correction=0))

    @property
    def _seeded(self) -> int:
        return self.train.window.seeded


def values(critic: Discriminator, window_MT: Tensor, hints_MTF: Tensor, seeded: int) -> Tensor:
    """Return the verdict that is expected after the seed and after each token of the continuation, (M, C + 1)."""
    verdict: Verdict = critic(window_MT, hints_MTF, seeded - 1)
    return verdict.token_BC


@dataclass(frozen=True, slots=True, kw_only=True)
class Appraised:
    """Expected verdicts on windows, and how it came.

    Attributes:
        judge: gives the verdicts.
        critic: in evaluation mode.
    """

    judge: Discriminated
    critic: Discriminator

    @torch.no_grad()
    def __call__(self, window_MT: Tensor) -> Tensor:
        """Return what is expected before each token of a continuation and, in place of the last, the verdict."""
        parts = []
        for window_BT in torch.split(window_MT, AT_ONCE):
            with torch.autocast(window_BT.device.type, torch.bfloat16):
                hints_BTF = self.judge.hint(self.judge.hinter, window_BT)
                verdict_B = self.judge.discriminator(window_BT, hints_BTF, self.judge.seeded).whole_B
                value_BC = values(self.critic, window_BT, hints_BTF, self.judge.seeded)
            parts.append(torch.cat([value_BC[:, :-1], verdict_B[:, None]], 1))
        return torch.cat(parts)


def _loss(critic: Discriminator, window_BT: Tensor, hints_BTF: Tensor, verdict_B: Tensor, seeded: int) -> Tensor:
    value_BC = values(critic, window_BT, hints_BTF, seeded)
    return F.mse_loss(value_BC, verdict_B[:, None].expand_as(value_BC))


def _artificial(pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Return the windows that the generator wrote, and their hints."""
    window_NT = np.concatenate([pairs.seed_NT, pairs.fake_NT], 1)
    return torch.from_numpy(window_NT), torch.from_numpy(pairs.hints_N2TF[:, 1]).float()


def _verdicts(discriminator: Discriminator, pairs: Pairs) -> Scores:
    return verdicts(discriminator, *_artificial(pairs), pairs.window.seeded)
