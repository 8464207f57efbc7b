"""The discriminator: is the continuation of a seed real or artificial?

A transformer of the generator's blocks in which every token attends to every
other of its own window, in both directions. It is pooled over the continuation
only: the seed is real in either case. Beside the verdict on the whole, every
token of the continuation is judged, which helps to find what gives it away.

Two things that earlier work got wrong are kept right by tests: attention runs
over time, never over the batch, and the order of events matters.

Tensor names end in their shape, as in ``musebridge.training.models.generator``; C is
the continuation's time, F a token's features, N the statistics of a window.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musebridge import vocab
from musebridge.config import at_least
from musebridge.errors import ConfigError
from musebridge.training.models.generator import Block, Generator, GeneratorConfig, embed, norm, rope_table
from musebridge.training.models.token_features import N_STATISTICS, N_TOKEN_FEATURES, statistics


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscriminatorConfig:
    """The discriminator's shape; every count is at least 1.

    Attributes:
        n_layers, d_model, n_heads, n_kv_heads, d_ff: as the generator's.
        context: the longest window.
        hidden: width of the layer between pool and verdict.
        dropout: of embedded and of pooled tokens while training.
        inherit: begin with the generator's embedding and lowest blocks, whose widths must be the same.
        hinted: whether it reads the ``musebridge.training.models.token_features`` of a frozen generator.
        causal: whether no token attends to a later one, as in a critic.
    """

    n_layers: int = 4
    d_model: int = 512
    n_heads: int = 4
    n_kv_heads: int = 2
    d_ff: int = 2048
    context: int = 1024
    hidden: int = 1024
    dropout: float = 0.1
    inherit: bool = True
    hinted: bool = True
    causal: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"discriminator dropout must be at least 0 and less than 1, found {self.dropout}")
        at_least(self, 1, "hidden")
        _ = self.blocks  # checks its own ranges

    @property
    def blocks(self) -> GeneratorConfig:
        """The shape of its blocks."""
        names = ("n_layers", "d_model", "n_heads", "n_kv_heads", "d_ff", "context")
        return GeneratorConfig(**{name: getattr(self, name) for name in names})


class Verdict(NamedTuple):
    """Logits that a continuation is real: of the whole, (B,), and of each token, (B, C)."""

    whole_B: Tensor
    token_BC: Tensor


class Discriminator(nn.Module):
    """Windows to verdicts."""

    cos: Tensor
    sin: Tensor
    centre_N: Tensor
    spread_N: Tensor

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        D = config.d_model
        self.embedding = nn.Embedding(vocab.N_TOKENS, D)
        self.blocks = nn.ModuleList(Block(config.blocks, causal=config.causal) for _ in range(config.n_layers))
        self.hint = nn.Linear(N_TOKEN_FEATURES, D, bias=False)
        self.token = nn.Linear(D, 1)
        self.hidden = nn.Linear(D + N_STATISTICS, config.hidden)
        self.verdict = nn.Linear(config.hidden, 1)
        self.dropout = nn.Dropout(config.dropout)
        cos, sin = rope_table(config.blocks)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.register_buffer("centre_N", torch.zeros(N_STATISTICS))
        self.register_buffer("spread_N", torch.ones(N_STATISTICS))
        nn.init.zeros_(self.hint.weight)  # at first it reads what phase 1 read

    def inherit(self, generator: Generator) -> None:
        """Begin with a generator's embedding and its lowest blocks.

        Raises:
            ConfigError: its blocks have other widths, or there are too few.
        """
        try:
            self.embedding.load_state_dict(generator.embedding.state_dict())
            for mine, its in zip(self.blocks, generator.blocks[: self.config.n_layers], strict=True):
                mine.load_state_dict(its.state_dict())
        except (RuntimeError, ValueError) as error:
            raise ConfigError(
                f"the discriminator cannot inherit from a generator of another shape: {asdict(generator.config)}; "
                "set its widths alike, or inherit = false"
            ) from error

    def calibrate(self, statistics_BN: Tensor) -> None:
        """Take mean and spread of the statistics from some windows, so that each begins with the same weight."""
        self.centre_N.copy_(statistics_BN.mean(0))
        self.spread_N.copy_(statistics_BN.std(0).clamp(min=1e-3))

    def forward(self, window: Tensor, features_BTF: Tensor, seed_length: int, jitter: float = 0.0) -> Verdict:
        """Judge windows.

        Args:
            window: token ids (B, T), or weights of tokens (B, T, V) through which a gradient flows.
            features_BTF: see :func:`musebridge.training.models.token_features.token_features`; not looked at by one
                that is not hinted.
            seed_length: tokens of the seed, which are read but not judged.
            jitter: standard deviation of noise on the embedded tokens.
        """
        features_BTF = self.readable(features_BTF)
        x_BCD = self.token_states(window, features_BTF, seed_length, jitter)
        whole_B = self.verdict_of(x_BCD.mean(1), statistics(window[:, seed_length:], features_BTF[:, seed_length:]))
        return Verdict(whole_B.float(), self.token(x_BCD)[..., 0].float())

    def readable(self, features_BTF: Tensor) -> Tensor:
        """Return token features, or zeros in their place for a discriminator that is not hinted."""
        return features_BTF if self.config.hinted else torch.zeros_like(features_BTF)

    def token_states(self, window: Tensor, features_BTF: Tensor, first: int, jitter: float = 0.0) -> Tensor:
        """Return what the blocks make of each token, (B, T - first, D).

        Args:
            window, jitter: as for a verdict.
            features_BTF: as :meth:`readable` gives them.
            first: from which token on it is asked for.
        """
        x_BTD = norm(embed(window, self.embedding.weight)) + self.hint(features_BTF)
        x_BTD = self.dropout(x_BTD + jitter * torch.randn_like(x_BTD) if jitter else x_BTD)
        T = window.shape[1]
        for i, block in enumerate(self.blocks):
            is_last = i == len(self.blocks) - 1
            x_BTD, _ = block(x_BTD, self.cos[:T], self.sin[:T], None, first if is_last else 0)
        return norm(x_BTD)

    def verdict_of(self, pooled_D: Tensor, figures_N: Tensor) -> Tensor:
        """Return the verdict on a whole by its mean and its statistics, (..., D) and (..., N)."""
        pooled = torch.cat([pooled_D, (figures_N - self.centre_N) / self.spread_N], -1)
        verdict: Tensor = self.verdict(self.dropout(F.relu(self.hidden(pooled))))[..., 0]
        return verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscriminatorLoss:
    """How verdicts on pairs are scored.

    Attributes:
        smoothing: the label of real music is 1 - ``smoothing`` (Salimans et al. 2016).
        relativistic: weight of the paired loss, which asks that the real continuation
            of a seed be judged above the artificial one (Jolicoeur-Martineau 2018).
        tokens: weight of the verdicts on single tokens.
        r1: weight of the penalty on how far verdicts on real music move when its
            embedded tokens are jittered (Lin et al. 2025, "approximated R1"); 0 for none.
        jitter: standard deviation of that noise.
    """

    smoothing: float = 0.05
    relativistic: float = 1.0
    tokens: float = 0.3
    r1: float = 0.0
    jitter: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing < 0.5:
            raise ConfigError(f"smoothing must be at least 0 and less than 0.5, found {self.smoothing}")
        at_least(self, 0, "relativistic", "tokens", "r1", "jitter")

    def __call__(
        self, discriminator: Discriminator, window_MT: Tensor, features_MTF: Tensor, seed_length: int
    ) -> Tensor:
        """Return the loss of real windows and, behind them, the artificial ones of the same seeds."""
        verdict = discriminator(window_MT, features_MTF, seed_length)
        real_B, fake_B = verdict.whole_B.chunk(2)
        label_M = torch.cat([torch.full_like(real_B, 1 - self.smoothing), torch.zeros_like(fake_B)])
        loss = F.binary_cross_entropy_with_logits(verdict.whole_B, label_M)
        label_MC = label_M[:, None].expand_as(verdict.token_BC)
        loss = loss + self.tokens * F.binary_cross_entropy_with_logits(verdict.token_BC, label_MC)
        loss = loss + self.relativistic * F.softplus(fake_B - real_B).mean()
        if self.r1:
            B = len(real_B)
            moved = discriminator(window_MT[:B], features_MTF[:B], seed_length, self.jitter)
            loss = loss + self.r1 * (moved.whole_B - real_B).square().mean() / self.jitter**2
        return loss
