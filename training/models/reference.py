"""The reference generator: the 2017 transformer that earlier work trained on the same events.

Vaswani et al. 2017 as a decoder: six layers of eight heads, width 512,
feed-forward 1,024, context 2,048, dropout 0.1, ReLU, layer norms after each
sublayer, and sinusoidal positions. It is what the default generator is measured
against; it is trained and scored here, not exported.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from musebridge import vocab
from musebridge.config import at_least
from musebridge.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceConfig:
    """The reference generator's shape; every count is at least 1."""

    n_layers: int = 6
    d_model: int = 512
    n_heads: int = 8
    d_ff: int = 1024
    context: int = 2048
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"generator dropout must be at least 0 and less than 1, found {self.dropout}")
        at_least(self, 1, "n_layers", "d_model", "n_heads", "d_ff", "context")
        if self.d_model % self.n_heads or self.d_model % 2:
            raise ConfigError(
                f"generator d_model must be even and a multiple of n_heads, found {self.d_model} and {self.n_heads}"
            )


class ReferenceGenerator(nn.Module):
    """Tokens to next-token logits."""

    position_TD: Tensor

    def __init__(self, config: ReferenceConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(vocab.N_TOKENS, config.d_model)
        layer = nn.TransformerEncoderLayer(
            config.d_model, config.n_heads, config.d_ff, config.dropout, activation="relu", batch_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, config.n_layers, enable_nested_tensor=False)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.d_model, vocab.N_TOKENS)
        self.register_buffer("position_TD", _sinusoids(config.context, config.d_model), persistent=False)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Return logits (B, T, V) for whole sequences of at most ``context`` tokens."""
        T = tokens_BT.shape[1]
        x_BTD = self.embedding(tokens_BT) * math.sqrt(self.config.d_model) + self.position_TD[:T]
        mask_TT = nn.Transformer.generate_square_subsequent_mask(T, device=tokens_BT.device)
        logits_BTV: Tensor = self.head(self.blocks(self.dropout(x_BTD), mask=mask_TT, is_causal=True))
        return logits_BTV.float()


def _sinusoids(length: int, width: int) -> Tensor:
    """Return the positions of Vaswani et al. 2017, section 3.5, shape (length, width)."""
    frequency = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    angle = torch.arange(length)[:, None] * frequency
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)
