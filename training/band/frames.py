"""Piano-roll models that write one frame after another: a GPT and an LSTM over the player's part.

A frame is factorised, a class for each pitch, so no chord is out of vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from musebridge.config import at_least, more_than
from musebridge.errors import ConfigError
from musebridge.training.band.network import CONDITION, family_nll
from musebridge.training.band.system import Batch, System, average, averaged


@dataclass(frozen=True, slots=True, kw_only=True)
class FramesConfig:
    """Shape of a frame model.

    Attributes:
        body: ``gpt`` (causal attention, sinusoidal positions) or ``lstm``.
        width, layers, heads: 128, 3 and 4 as published for the GPT; an LSTM has 256 and 2, and no heads.
    """

    body: str = "gpt"
    width: int = 128
    layers: int = 3
    heads: int = 4

    def __post_init__(self) -> None:
        if self.body not in ("gpt", "lstm"):
            raise ConfigError(f"body must be gpt or lstm, found {self.body!r}")
        at_least(self, 1, "width", "layers", "heads")


@dataclass(frozen=True, slots=True, kw_only=True)
class FramesTraining:
    """How it is taught: AdamW with a falling rate."""

    lr: float = 1e-3
    weight_decay: float = 0.05
    ema: float = 0.998

    def __post_init__(self) -> None:
        more_than(self, 0, "lr")


class FrameNetwork(nn.Module):
    """Planes of frames read (B, 2, S, 88), onset and hold → logits of the frame after each, (B, 3, S, 88)."""

    def __init__(self, config: FramesConfig) -> None:
        super().__init__()
        self.config = config
        self.read = nn.Linear(2 * CONDITION, config.width)
        if config.body == "lstm":
            self.body: nn.Module = nn.LSTM(config.width, config.width, config.layers, batch_first=True)
        else:
            layer = nn.TransformerEncoderLayer(
                config.width, config.heads, 4 * config.width, 0.1, F.gelu, batch_first=True, norm_first=True
            )
            self.body = nn.TransformerEncoder(
                layer, config.layers, nn.LayerNorm(config.width), enable_nested_tensor=False
            )
        self.write = nn.Linear(config.width, 2 * CONDITION)
        self.write.bias.data.view(2, -1)[0] = -4.0

    def forward(self, planes: Tensor) -> Tensor:
        """Return what follows each frame."""
        size, _, steps, _ = planes.shape
        x_BSD = self.read(planes.transpose(1, 2).flatten(2))
        if self.config.body == "lstm":
            x_BSD = self.body(x_BSD)[0]
        else:
            causal = torch.full((steps, steps), float("-inf")).triu(1)
            x_BSD = self.body(x_BSD + positions(steps, self.config.width), mask=causal)
        two = self.write(x_BSD).reshape(size, steps, 2, CONDITION).transpose(1, 2)
        return torch.cat([torch.zeros_like(two[:, :1]), two], 1)


def positions(steps: int, width: int) -> Tensor:
    """Return sinusoids (S, D), the even columns sines and the odd ones cosines (Vaswani et al. 2017)."""
    rate = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    angle = torch.arange(steps)[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], 2).flatten(1)[:, :width]


class FrameSystem(System):
    """A :class:`FrameNetwork` and its training; it learns the player's part alone."""

    def __init__(self, config: FramesConfig, training: FramesTraining) -> None:
        super().__init__()
        self.training_config = training
        self.network = FrameNetwork(config)
        self.player = averaged(self.network)
        self._adam = torch.optim.AdamW(self.network.parameters(), training.lr, weight_decay=training.weight_decay)
        self._steps = 0

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """Return the one."""
        return [self._adam]

    def update(self, batch: Batch, progress: float) -> dict[str, float]:
        """Take one step; the figure is the NLL in nats a step."""
        self.network.train()
        loss = self._nll(self.network, batch)
        self._adam.zero_grad()
        torch.autograd.backward(loss)
        clip_grad_norm_(self.network.parameters(), 1.0)
        for group in self._adam.param_groups:
            group["lr"] = self.training_config.lr * max(0.02, 0.5 + 0.5 * math.cos(math.pi * min(1.0, progress)))
        self._adam.step()
        self._steps += 1
        average(self.player, self.network, min(self.training_config.ema, self._steps / (self._steps + 9)))
        return {"nll": float(loss.detach())}

    @torch.no_grad()
    def nll(self, batch: Batch) -> float:
        """Return nats a step of the player's part."""
        return float(self._nll(self.player, batch))

    @staticmethod
    def _nll(network: nn.Module, batch: Batch) -> Tensor:
        planes = batch.condition[:, :2]
        logits = network(F.pad(planes, (0, 0, 1, 0))[:, :, :-1])
        target = (planes[:, 0] + 2 * planes[:, 1]).long()
        return family_nll("piano", logits, target).mean()
