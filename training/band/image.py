"""The image GAN: a picture of four bars of the player's part, 96 pitches by 192 steps, with time or without.

As published, three steps are the colours of one pixel (96 × 64 × 3), and square convolutions see no time. Mended, the
picture is unpacked, convolutions see only what is earlier, and each step knows its place in the bar.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musebridge.band.layout import STEPS
from musebridge.config import at_least, more_than
from musebridge.training.band.frames import positions
from musebridge.training.band.system import Batch, System, average, averaged

_ROWS, _COLOURS = 96, 3
_NOISE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig:
    """Shape: ``width`` channels (64 as published), and whether time has a direction (``causal``)."""

    width: int = 32
    causal: bool = True

    def __post_init__(self) -> None:
        at_least(self, 4, "width")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageTraining:
    """How it is trained: Adam (0.5, 0.999), the loss of Goodfellow et al. (2014) that does not saturate."""

    lr: float = 2e-4
    ema: float = 0.998

    def __post_init__(self) -> None:
        more_than(self, 0, "lr")


class ImageGenerator(nn.Module):
    """Noise (B, 100) → brightness (B, 192, 96), -1..1."""

    def __init__(self, config: ImageConfig) -> None:
        super().__init__()
        self.config, w = config, config.width
        if config.causal:
            self.first = nn.Linear(_NOISE, 4 * w)
            self.layers = nn.ModuleList(nn.Conv1d(4 * w, 4 * w, 4, dilation=4**i) for i in range(4))
            self.out = nn.Conv1d(4 * w, _ROWS, 1)
        else:
            self.first = nn.Linear(_NOISE, 8 * w * 6 * 4)
            sizes = [8 * w, 4 * w, 2 * w, w, _COLOURS]
            blocks: list[nn.Module] = []
            for i, (a, b) in enumerate(pairwise(sizes)):
                blocks += [nn.ConvTranspose2d(a, b, 4, 2, 1)] + ([nn.BatchNorm2d(b), nn.ReLU()] if i < 3 else [])
            self.deconvolutions = nn.Sequential(nn.BatchNorm2d(8 * w), nn.ReLU(), *blocks)

    def forward(self, noise: Tensor) -> Tensor:
        """Return pictures."""
        size, w = len(noise), self.config.width
        if not self.config.causal:
            packed = self.deconvolutions(self.first(noise).reshape(size, 8 * w, 6, 4))
            return torch.tanh(packed.permute(0, 3, 1, 2).reshape(size, STEPS, _ROWS))
        x = self.first(noise)[:, :, None] + positions(48, 4 * w).T.repeat(1, 4)
        for i, layer in enumerate(self.layers):
            x = x + F.relu(layer(F.pad(x, (3 * 4**i, 0))))
        return torch.tanh(self.out(x)).transpose(1, 2)


class ImageCritic(nn.Module):
    """Brightness (B, 192, 96) → how real, (B,)."""

    def __init__(self, config: ImageConfig) -> None:
        super().__init__()
        self.config, w = config, config.width
        if config.causal:
            self.layers: nn.Module = nn.Sequential(
                nn.Conv1d(_ROWS, 4 * w, 12, 12), nn.LeakyReLU(0.2), nn.Conv1d(4 * w, 4 * w, 4, 2), nn.LeakyReLU(0.2),
                nn.Flatten(), nn.Linear(4 * w * 7, 1),
            )  # fmt: skip
        else:
            self.layers = nn.Sequential(
                nn.Conv2d(_COLOURS, w, 4, 2, 1), nn.LeakyReLU(0.2),
                nn.Conv2d(w, 2 * w, 4, 2, 1), nn.BatchNorm2d(2 * w), nn.LeakyReLU(0.2),
                nn.Conv2d(2 * w, 4 * w, 4, 2, 1), nn.BatchNorm2d(4 * w), nn.LeakyReLU(0.2),
                nn.Flatten(), nn.Linear(4 * w * 12 * 8, 1),
            )  # fmt: skip

    def forward(self, picture: Tensor) -> Tensor:
        """Return a logit for each."""
        if self.config.causal:
            logit: Tensor = self.layers(picture.transpose(1, 2))
        else:
            logit = self.layers(picture.reshape(len(picture), STEPS // 3, 3, _ROWS).permute(0, 2, 3, 1))
        return logit[:, 0]


class ImageSystem(System):
    """Generator and critic of pictures."""

    def __init__(self, config: ImageConfig, training: ImageTraining) -> None:
        super().__init__()
        self.training_config = training
        self.network, self.critic = ImageGenerator(config), ImageCritic(config)
        self.player = averaged(self.network)
        self._adams = [torch.optim.Adam(m.parameters(), training.lr, (0.5, 0.999)) for m in (self.network, self.critic)]

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """Return the generator's and the critic's."""
        return list(self._adams)

    def update(self, batch: Batch, progress: float) -> dict[str, float]:
        """Take a step of each; the figures are their losses."""
        real = pictures(batch.condition)
        fake = self.network(torch.randn(len(real), _NOISE))
        told = F.softplus(-self.critic(real)).mean() + F.softplus(self.critic(fake.detach())).mean()
        self._adams[1].zero_grad()
        torch.autograd.backward(told)
        self._adams[1].step()
        fooled = F.softplus(-self.critic(fake)).mean()
        self._adams[0].zero_grad()
        torch.autograd.backward(fooled)
        self._adams[0].step()
        average(self.player, self.network, self.training_config.ema)
        return {"critic": float(told.detach()), "generator": float(fooled.detach())}


def pictures(condition: Tensor) -> Tensor:
    """Return the player's part (B, 3, 192, 88) as brightness -1..1 on rows 12..107, (B, 192, 96)."""
    sounds = (condition[:, 0] + condition[:, 1]) * (1 + condition[:, 2]) / 2
    return F.pad(sounds, (9, -1)) * 2 - 1
