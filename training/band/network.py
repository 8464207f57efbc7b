"""A band that likelihood teaches: what all families play in four bars, from what the player plays in them.

Steps are read and written a beat at a time. Within a family, each cell is a rest,
an onset or a hold; a hold is possible only where the cell before sounds, so that
a note is one decision to begin and one to go on at each step, and no sampling
breaks it up by chance. The bass has one note at a time: its onsets share a softmax.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musebridge.band.families import BASS, FAMILIES
from musebridge.band.layout import BAR, BARS, COLUMNS, PITCHES, STEPS
from musebridge.config import at_least

MONOPHONIC = (BASS,)
BEAT = 12
BEATS = STEPS // BEAT
PLAYED = tuple(family for family in FAMILIES if family != "piano")
CONDITION = len(PITCHES["piano"])


@dataclass(frozen=True, slots=True, kw_only=True)
class BandConfig:
    """Shape of a band.

    Attributes:
        width: channels of a beat.
        layers, heads: of the transformer that reads all beats at once.
        dropout: on its residuals.
    """

    width: int = 128
    layers: int = 4
    heads: int = 4
    dropout: float = 0.1

    def __post_init__(self) -> None:
        at_least(self, 1, "width", "layers", "heads")
        at_least(self, 0, "dropout")


class BandNetwork(nn.Module):
    """Condition (B, 3, 192, 88) → for each family, logits (B, 3, 192, P) of rest, onset, hold and velocities (B, 192).

    The logit of a rest is always 0.
    """

    def __init__(self, config: BandConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.read = nn.Linear(3 * BEAT * CONDITION, width)
        self.place = nn.Parameter(0.02 * torch.randn(BEATS, width))
        layer = nn.TransformerEncoderLayer(
            width, config.heads, 4 * width, config.dropout, F.gelu, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, config.layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.write = nn.ModuleDict({f: nn.Linear(width, 2 * BEAT * len(PITCHES[f])) for f in PLAYED})
        self.loudness = nn.ModuleDict({f: nn.Linear(width, BEAT) for f in PLAYED})
        for family in PLAYED:  # onsets are rare, holds go on
            onset, hold = self.write[family].get_parameter("bias").data.view(2, -1)
            onset.fill_(-4.0)
            hold.fill_(1.5)

    def forward(self, condition: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Return logits and velocities of each family that plays."""
        size = condition.shape[0]
        beats = condition.reshape(size, 3, BEATS, BEAT * CONDITION).transpose(1, 2).reshape(size, BEATS, -1)
        x_BTD = self.read(beats) + self.place
        x_BTD = self.layers(x_BTD)
        return {family: self._written(family, x_BTD) for family in PLAYED}

    def _written(self, family: str, x_BTD: Tensor) -> tuple[Tensor, Tensor]:
        size, pitches = x_BTD.shape[0], len(PITCHES[family])
        two = self.write[family](x_BTD).reshape(size, BEATS, 2, BEAT, pitches)
        two = two.transpose(1, 2).reshape(size, 2, STEPS, pitches)
        logits = torch.cat([torch.zeros_like(two[:, :1]), two], dim=1)
        return logits, self.loudness[family](x_BTD).reshape(size, STEPS).sigmoid()


def family_nll(family: str, logits: Tensor, target: Tensor) -> Tensor:
    """Return the negative log-likelihood of what a family plays, in nats a step, (B,).

    Args:
        family: the bass has one onset a step at most.
        logits: (B, 3, S, P) of rest, onset and hold.
        target: (B, S, P) classes 0, 1, 2. Before its first step everything may have sounded.
    """
    before = F.pad(target, (0, 0, 1, 0), value=1)[:, :-1] > 0
    if family in MONOPHONIC:
        return _monophonic(logits, target, before)
    barred = torch.zeros_like(logits)
    barred[:, 2] = torch.where(before, 0.0, -1e4)
    nll = F.cross_entropy(logits + barred, target, reduction="none")
    return nll.sum(2).mean(1)


def _monophonic(logits: Tensor, target: Tensor, before: Tensor) -> Tensor:
    """Return the nats a step where one onset, the lowest, or none is chosen; then each sounding cell goes on or not."""
    onset = target == 1
    none = torch.zeros_like(logits[:, 1, :, :1])
    choice = torch.where(onset.any(2), onset.to(torch.uint8).argmax(2) + 1, 0)
    begins = F.cross_entropy(
        torch.cat([none, logits[:, 1] - logits[:, 0]], 2).transpose(1, 2), choice, reduction="none"
    )
    free = before & ~onset.any(2, keepdim=True)
    goes_on = F.binary_cross_entropy_with_logits(logits[:, 2] - logits[:, 0], (target == 2).float(), reduction="none")
    return (begins + (goes_on * free).sum(2)).mean(1)


def band_loss(
    outputs: dict[str, tuple[Tensor, Tensor]], code: Tensor, lead: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return what to minimise, and the mean NLL of each family in nats a step.

    Args:
        outputs: of a network.
        code: cells (B, 192, WIDTH), uint8.
        lead: (B,), the row in ``FAMILIES`` of the player's part, which no loss asks for.
    """
    kinds, loud = (code > 0).long() + (code >= 64), torch.where(code >= 64, code - 64, code.clamp(min=1) - 1) / 31
    total, parts = torch.zeros((), device=code.device), {}
    for family, (logits, velocity) in outputs.items():
        target, own = kinds[:, :, COLUMNS[family]], (lead != FAMILIES.index(family)).float()
        nll = family_nll(family, logits, target)
        parts[family] = (nll * own).sum() / own.sum().clamp(min=1)
        struck = (target == 1).float()
        error = ((velocity[..., None] - loud[:, :, COLUMNS[family]]) ** 2 * struck).sum() / struck.sum().clamp(min=1)
        total = total + parts[family] + error
    return total, parts


assert BAR * BARS == STEPS
