"""MuseGAN (Dong et al. 2018): jamming, composer and hybrid, as one network with three wirings of noise.

What a bar of a track is written from is 128 numbers: shared by the tracks or a
track's own, and the same in all bars or changing with them.

=========  ======================  =======================
wiring     shared                  private
=========  ======================  =======================
jamming    –                       64 fixed, 64 changing
composer   64 fixed, 64 changing   –
hybrid     32 fixed, 32 changing   32 fixed, 32 changing
=========  ======================  =======================

Convolutions whose kernel is their stride are matrix products of patches here: a beat at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musebridge.band.families import FAMILIES
from musebridge.band.layout import BARS, PITCHES
from musebridge.config import at_least
from musebridge.errors import ConfigError
from musebridge.training.band.network import BEAT, BEATS, CONDITION, PLAYED

WIRINGS = {"jamming": (0, 64), "composer": (64, 0), "hybrid": (32, 32)}
"""How many numbers are shared, and how many private; fixed and changing alike."""
_BEATS_OF_BAR = BEATS // BARS


@dataclass(frozen=True, slots=True, kw_only=True)
class MuseGanConfig:
    """Shape of a MuseGAN.

    Attributes:
        wiring: one of ``WIRINGS``.
        conditional: whether it hears the player's part; else it writes that as well.
        width: channels of a bar, and half of them of a beat; 1,024 as published.
    """

    wiring: str = "hybrid"
    conditional: bool = True
    width: int = 256

    def __post_init__(self) -> None:
        if self.wiring not in WIRINGS:
            raise ConfigError(f"wiring must be one of {', '.join(WIRINGS)}, found {self.wiring!r}")
        at_least(self, 8, "width")

    @property
    def families(self) -> tuple[str, ...]:
        """Which it writes."""
        return PLAYED if self.conditional else FAMILIES

    @property
    def noise(self) -> int:
        """How many numbers it is written from."""
        shared, private = WIRINGS[self.wiring]
        return 2 * (shared + private * len(self.families))


class _Temporal(nn.Module):
    """One noise → one for each bar, different and related: (B, Z) → (B, 4, Z)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(size, 4 * size), nn.ReLU(), nn.Linear(4 * size, BARS * size))

    def forward(self, noise: Tensor) -> Tensor:
        """Return the noise of each bar."""
        bars: Tensor = self.net(noise)
        return bars.reshape(len(noise), BARS, -1)


class _Encoder(nn.Module):
    """The player's part → 16 channels of each beat, (B, 16, 16)."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3 * BEAT * CONDITION, 64), nn.LeakyReLU(0.2), nn.Linear(64, 16))

    def forward(self, condition: Tensor) -> Tensor:
        """Return what each beat is about."""
        size = len(condition)
        heard: Tensor = self.net(condition.reshape(size, 3, BEATS, -1).transpose(1, 2).reshape(size, BEATS, -1))
        return heard


class _BarGenerator(nn.Module):
    """Noise of a bar, and what its beats hear → onsets and holds of one family, (B, 2, 192, P)."""

    def __init__(self, noise: int, heard: int, width: int, pitches: int) -> None:
        super().__init__()
        self.pitches = pitches
        self.bar = nn.Sequential(nn.Linear(noise + heard * _BEATS_OF_BAR, width), nn.LayerNorm(width), nn.ReLU())
        self.beat = nn.Linear(width, _BEATS_OF_BAR * width // 2)
        self.inner = nn.Sequential(nn.Linear(width // 2 + heard, width // 2), nn.LayerNorm(width // 2), nn.ReLU())
        self.out = nn.Linear(width // 2, 2 * BEAT * pitches)
        nn.init.constant_(self.out.bias, -0.5)  # silence is the beginning, not noise

    def forward(self, noise_BbZ: Tensor, heard: Tensor | None) -> Tensor:
        """Return pre-activations; above 0 is on."""
        size = len(noise_BbZ)
        bar = noise_BbZ if heard is None else torch.cat([noise_BbZ, heard.reshape(size, BARS, -1)], 2)
        x = F.relu(self.beat(self.bar(bar))).reshape(size, BEATS, -1)
        x = self.inner(x if heard is None else torch.cat([x, heard], 2))
        cells: Tensor = self.out(x).reshape(size, BEATS, 2, BEAT, self.pitches)
        return cells.transpose(1, 2).reshape(size, 2, -1, self.pitches)


class MuseGan(nn.Module):
    """Noise (B, ``config.noise``), and the player's part (B, 3, 192, 88) where it hears → as a ``BandNetwork``."""

    def __init__(self, config: MuseGanConfig) -> None:
        super().__init__()
        self.config = config
        shared, private = WIRINGS[config.wiring]
        self.encoder = _Encoder() if config.conditional else None
        heard = 16 if config.conditional else 0
        self.shared_temporal = _Temporal(shared) if shared else None
        self.temporal = nn.ModuleDict({f: _Temporal(private) for f in config.families} if private else {})
        self.bars = nn.ModuleDict(
            {f: _BarGenerator(2 * (shared + private), heard, config.width, len(PITCHES[f])) for f in config.families}
        )
        self.loudness = nn.Parameter(torch.zeros(len(config.families)))

    def planes(self, condition: Tensor, noise: Tensor) -> dict[str, Tensor]:
        """Return pre-activations (B, 2, 192, P) of onset and hold for each family."""
        shared, private = WIRINGS[self.config.wiring]
        heard = self.encoder(condition) if self.encoder is not None else None
        parts = torch.split(noise, [shared, shared, *[private] * (2 * len(self.config.families))], 1)
        found = {}
        for i, family in enumerate(self.config.families):
            of = (
                []
                if self.shared_temporal is None
                else [parts[0][:, None].expand(-1, BARS, -1), self.shared_temporal(parts[1])]
            )
            if private:
                fixed, changing = parts[2 + 2 * i : 4 + 2 * i]
                of += [fixed[:, None].expand(-1, BARS, -1), self.temporal[family](changing)]
            found[family] = self.bars[family](torch.cat(of, 2), heard)
        return found

    def forward(self, condition: Tensor, noise: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Return logits that are certain: above 0 is on, as ``musebridge.band.sampling.sample`` has it without rng."""
        found = {}
        for i, (family, two) in enumerate(self.planes(condition, noise).items()):
            logits = torch.cat([torch.zeros_like(two[:, :1]), two], 1)
            found[family] = (logits, self.loudness[i].sigmoid() * torch.ones_like(logits[:, 0, :, 0]))
        return found


class Critic(nn.Module):
    """How real some families are, beside the player's part: beats, then bars, then the phrase → (B,)."""

    def __init__(self, families: tuple[str, ...], conditional: bool, width: int) -> None:
        super().__init__()
        self.families, self.conditional = families, conditional
        pitches = sum(2 * len(PITCHES[f]) for f in families) + 2 * CONDITION * conditional
        self.beat = nn.Linear(pitches * BEAT, width)
        self.bar = nn.Conv1d(width, width, _BEATS_OF_BAR, _BEATS_OF_BAR // 2)
        self.phrase = nn.Conv1d(width, width, 3, 2)
        self.out = nn.Linear(width * 3, 1)

    def forward(self, planes: dict[str, Tensor], condition: Tensor) -> Tensor:
        """Return a score for each phrase.

        Args:
            planes: (B, 2, 192, P) of each family, onset and hold, 0..1.
            condition: the player's part.
        """
        parts = [planes[f].transpose(1, 2).flatten(2) for f in self.families]
        if self.conditional:
            parts.append(condition[:, :2].transpose(1, 2).flatten(2))
        x = torch.cat(parts, 2)
        x = F.leaky_relu(self.beat(x.reshape(len(x), BEATS, -1)), 0.2).transpose(1, 2)
        x = F.leaky_relu(self.bar(x), 0.2)
        x = F.leaky_relu(self.phrase(x), 0.2)
        score: Tensor = self.out(x.flatten(1))
        return score[:, 0]
