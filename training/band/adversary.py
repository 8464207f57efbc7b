"""How a GAN of a band is trained: WGAN-GP as published, or hinge with lazy R1 and a binary output."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musebridge.band.families import FAMILIES
from musebridge.band.layout import COLUMNS
from musebridge.config import at_least, more_than
from musebridge.errors import ConfigError
from musebridge.training.band.musegan import Critic, MuseGan, MuseGanConfig
from musebridge.training.band.system import Batch, System, average, averaged

_R1_EVERY = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class GanTraining:
    """How a GAN is trained.

    Attributes:
        objective: ``wgan-gp`` (Gulrajani et al. 2017; output a sigmoid, thresholded when it plays), or ``hinge`` with
            R1 (Mescheder et al. 2018) at every sixteenth step and a straight-through binary output.
        lr: of both Adams.
        critic_steps: updates of the critic for one of the generator; 5 as published.
        penalty: weight of the gradient penalty.
        ema: how much of the moving average stays at each step.
    """

    objective: str = "hinge"
    lr: float = 2e-4
    critic_steps: int = 1
    penalty: float = 10.0
    ema: float = 0.998

    def __post_init__(self) -> None:
        if self.objective not in ("wgan-gp", "hinge"):
            raise ConfigError(f"objective must be wgan-gp or hinge, found {self.objective!r}")
        more_than(self, 0, "lr", "penalty")
        at_least(self, 1, "critic_steps")


class MuseGanSystem(System):
    """A :class:`MuseGan` and its critics: one for each track where they jam, else one for all."""

    def __init__(self, config: MuseGanConfig, training: GanTraining) -> None:
        super().__init__()
        self.training_config = training
        self.network = MuseGan(config)
        self.player = averaged(self.network)
        heard = [(family,) for family in config.families] if config.wiring == "jamming" else [config.families]
        self.critics = nn.ModuleList(Critic(families, config.conditional, config.width) for families in heard)
        betas = (0.5, 0.9)
        self._adam = torch.optim.Adam(self.network.parameters(), training.lr, betas)
        self._critic_adam = torch.optim.Adam(self.critics.parameters(), training.lr, betas)
        self._steps = 0

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """Return the generator's and the critics'."""
        return [self._adam, self._critic_adam]

    def update(self, batch: Batch, progress: float) -> dict[str, float]:
        """Take the critics' steps and one of the generator; the figures are their losses."""
        real = real_planes(batch.code, self.network.config.families)
        for _ in range(self.training_config.critic_steps):
            criticism = self._criticise(real, batch.condition)
        score = self._score(self._fake(batch.condition), batch.condition)
        self._adam.zero_grad()
        torch.autograd.backward(-score.mean())
        self._adam.step()
        self._steps += 1
        average(self.player, self.network, min(self.training_config.ema, self._steps / (self._steps + 9)))
        return {"critic": criticism, "generator": -float(score.mean().detach())}

    def _criticise(self, real: dict[str, Tensor], condition: Tensor) -> float:
        with torch.no_grad():
            fake = self._fake(condition)
        on_real, on_fake = self._score(real, condition), self._score(fake, condition)
        if self.training_config.objective == "hinge":
            loss = F.relu(1 - on_real).mean() + F.relu(1 + on_fake).mean()
            if self._steps % _R1_EVERY == 0:
                slope = self._slope(real, condition)
                loss = loss + self.training_config.penalty * _R1_EVERY / 2 * slope.square().mean()
        else:
            loss = on_fake.mean() - on_real.mean()
            share = torch.rand(len(condition), 1, 1, 1)
            between = {f: share * real[f] + (1 - share) * fake[f] for f in real}
            loss = loss + self.training_config.penalty * (self._slope(between, condition) - 1).square().mean()
        self._critic_adam.zero_grad()
        torch.autograd.backward(loss)
        self._critic_adam.step()
        return float(loss.detach())

    def _slope(self, planes: dict[str, Tensor], condition: Tensor) -> Tensor:
        """Return the norm of the gradient of the score by the planes, (B,)."""
        planes = {f: plane.detach().requires_grad_() for f, plane in planes.items()}
        gradients = torch.autograd.grad(self._score(planes, condition).sum(), list(planes.values()), create_graph=True)
        return (torch.stack([g.square().flatten(1).sum(1) for g in gradients]).sum(0) + 1e-12).sqrt()

    def _score(self, planes: dict[str, Tensor], condition: Tensor) -> Tensor:
        return torch.stack([critic(planes, condition) for critic in self.critics]).sum(0)

    def _fake(self, condition: Tensor) -> dict[str, Tensor]:
        noise = torch.randn(len(condition), self.network.config.noise)
        soft = {f: two.sigmoid() for f, two in self.network.planes(condition, noise).items()}
        if self.training_config.objective == "wgan-gp":
            return soft
        return {f: (two > 0.5).float() + two - two.detach() for f, two in soft.items()}


def real_planes(code: Tensor, families: tuple[str, ...] = FAMILIES) -> dict[str, Tensor]:
    """Return onset and hold (B, 2, S, P) of families, from cells (B, S, WIDTH)."""
    parts = {f: code[:, :, COLUMNS[f]] for f in families}
    return {f: torch.stack([(own > 0) & (own < 64), own >= 64], 1).float() for f, own in parts.items()}
