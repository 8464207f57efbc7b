"""The band by likelihood: what the families play given the player's part."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn.utils import clip_grad_norm_

from musebridge.config import at_least, more_than
from musebridge.training.band.network import BandConfig, BandNetwork, band_loss
from musebridge.training.band.system import Batch, System, average, averaged


@dataclass(frozen=True, slots=True, kw_only=True)
class LikelihoodTraining:
    """How the band is taught.

    Attributes:
        lr: peak of the learning rate, which rises for ``warmup`` of the training and falls as a cosine.
        weight_decay: of AdamW.
        unheard: in how many windows the player's part is withheld, so that the band can play alone.
        ema: how much of the moving average stays at each step.
    """

    lr: float = 1e-3
    warmup: float = 0.03
    weight_decay: float = 0.05
    unheard: float = 0.1
    ema: float = 0.998

    def __post_init__(self) -> None:
        more_than(self, 0, "lr")
        at_least(self, 0, "warmup", "weight_decay", "unheard", "ema")


class LikelihoodBand(System):
    """A :class:`BandNetwork` and its training."""

    def __init__(self, config: BandConfig, training: LikelihoodTraining) -> None:
        super().__init__()
        self.training_config = training
        self.network = BandNetwork(config)
        self.player = averaged(self.network)
        self._optimizer = torch.optim.AdamW(
            self.network.parameters(), training.lr, (0.9, 0.98), weight_decay=training.weight_decay
        )
        self._steps = 0

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """Return the one."""
        return [self._optimizer]

    def update(self, batch: Batch, progress: float) -> dict[str, float]:
        """Take one step; the figures are the NLL of each family."""
        c = self.training_config
        self.network.train()
        unheard = torch.rand(len(batch.lead)) < c.unheard
        heard = batch.condition * ~unheard[:, None, None, None]
        total, parts = band_loss(self.network(heard), batch.code, batch.lead)
        self._optimizer.zero_grad()
        torch.autograd.backward(total)
        clip_grad_norm_(self.network.parameters(), 1.0)
        rate = min(1.0, (progress + 1e-3) / c.warmup) if c.warmup else 1.0
        for group in self._optimizer.param_groups:
            group["lr"] = c.lr * rate * max(0.02, 0.5 + 0.5 * math.cos(math.pi * min(1.0, progress)))
        self._optimizer.step()
        self._steps += 1
        average(self.player, self.network, min(c.ema, self._steps / (self._steps + 9)))
        return {name: float(part.detach()) for name, part in parts.items()}

    @torch.no_grad()
    def nll(self, batch: Batch) -> float:
        """Return the player's nats a step, summed over the families."""
        _, parts = band_loss(self.player(batch.condition), batch.code, batch.lead)
        return float(sum(parts.values()))
