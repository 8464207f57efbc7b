"""The generator: a decoder-only transformer over the event vocabulary.

Vaswani et al. 2017 with what later work found better on small budgets: rotary
positions (Su et al. 2021), RMS norms, also on queries and keys (Henry et al.
2020), grouped key/value heads (Ainslie et al. 2023), squared ReLU (So et al.
2021), and output projections that start at zero.

Tensor names end in their shape: B batch, T time, D d_model, H query heads,
K key/value heads, P head dimension, V tokens, S cached positions.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musebridge import vocab
from musebridge.config import at_least
from musebridge.errors import ConfigError
from musebridge.training.compute.attention import attend

ROPE_BASE = 10_000.0
NORM_EPS = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorConfig:
    """The generator's shape; every count is at least 1."""

    n_layers: int = 4
    d_model: int = 512
    n_heads: int = 4
    n_kv_heads: int = 2
    d_ff: int = 2048
    context: int = 1024

    def __post_init__(self) -> None:
        at_least(self, 1, *asdict(self))
        if self.d_model % (2 * self.n_heads):
            raise ConfigError(
                f"generator d_model must be a multiple of 2 × n_heads, found {self.d_model} and {self.n_heads}"
            )
        if self.n_heads % self.n_kv_heads:
            raise ConfigError(
                f"generator n_heads must be a multiple of n_kv_heads, found {self.n_heads} and {self.n_kv_heads}"
            )

    @property
    def d_head(self) -> int:
        """The width of one head."""
        return self.d_model // self.n_heads


KVCache = list[tuple[Tensor, Tensor]]
"""For each layer the rotated keys and the values so far, each (B, K, S, P)."""


def rope_table(config: GeneratorConfig) -> tuple[Tensor, Tensor]:
    """Return cos and sin of the rotary angles, each (context, P / 2), float32."""
    half = config.d_head // 2
    frequency = ROPE_BASE ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = torch.arange(config.context, dtype=torch.float64)[:, None] * frequency
    return angle.cos().float(), angle.sin().float()


def rotate(x_BHTP: Tensor, cos_TP: Tensor, sin_TP: Tensor) -> Tensor:
    """Rotate each pair (first half, second half) of a head by its position's angle."""
    a, b = x_BHTP.chunk(2, dim=-1)
    return torch.cat([a * cos_TP - b * sin_TP, b * cos_TP + a * sin_TP], dim=-1)


def norm(x: Tensor) -> Tensor:
    """Root-mean-square norm over the last axis, without a learned scale."""
    return F.rms_norm(x, (x.shape[-1],), eps=NORM_EPS)


def embed(tokens: Tensor, weight_VD: Tensor) -> Tensor:
    """Return a row of ``weight_VD`` for each token, (..., D).

    Args:
        tokens: ids, (...), or a weight for each token of the vocabulary's beginning, (..., V), as a
            straight-through sample has: a gradient comes back to these.
        weight_VD: the rows.
    """
    if not tokens.is_floating_point():
        return F.embedding(tokens, weight_VD)
    return tokens @ weight_VD[: tokens.shape[-1]]


class Attention(nn.Module):
    """Self-attention with rotary positions and normalised queries and keys; causal unless it is told otherwise."""

    def __init__(self, config: GeneratorConfig, *, causal: bool = True) -> None:
        super().__init__()
        self.config, self.causal = config, causal
        kv_width = config.n_kv_heads * config.d_head
        self.query = nn.Linear(config.d_model, config.d_model, bias=False)
        self.key = nn.Linear(config.d_model, kv_width, bias=False)
        self.value = nn.Linear(config.d_model, kv_width, bias=False)
        self.out = nn.Linear(config.d_model, config.d_model, bias=False)

    def forward(
        self, x_BTD: Tensor, cos_TP: Tensor, sin_TP: Tensor, past: tuple[Tensor, Tensor] | None, first: int
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        B, T, D = x_BTD.shape
        P, n_asking = self.config.d_head, T - first
        q_BHTP = norm(self.query(x_BTD[:, first:]).view(B, n_asking, -1, P)).transpose(1, 2)
        k_BKTP = norm(self.key(x_BTD).view(B, T, -1, P)).transpose(1, 2)
        v_BKSP = self.value(x_BTD).view(B, T, -1, P).transpose(1, 2)
        q_BHTP, k_BKSP = rotate(q_BHTP, cos_TP[first:], sin_TP[first:]), rotate(k_BKTP, cos_TP, sin_TP)
        if past is not None:
            k_BKSP, v_BKSP = torch.cat([past[0], k_BKSP], 2), torch.cat([past[1], v_BKSP], 2)
        S, mask_TS = k_BKSP.shape[2], None
        if self.causal and n_asking < S:
            mask_TS = torch.ones(n_asking, S, dtype=torch.bool, device=x_BTD.device).tril(S - n_asking)
        is_trained_compiled = torch.compiler.is_compiling() and torch.is_grad_enabled()
        if is_trained_compiled and x_BTD.device.type == "cpu":
            y_BHTP = attend(q_BHTP, k_BKSP, v_BKSP, self.causal)
        else:
            y_BHTP = F.scaled_dot_product_attention(
                q_BHTP,
                k_BKSP,
                v_BKSP,
                attn_mask=mask_TS,
                is_causal=self.causal and mask_TS is None,
                enable_gqa=self.config.n_kv_heads != self.config.n_heads,
            )
        return self.out(y_BHTP.transpose(1, 2).reshape(B, n_asking, D)), (k_BKSP, v_BKSP)


class Block(nn.Module):
    """Attention and a squared-ReLU feed-forward layer, each on a normed residual."""

    def __init__(self, config: GeneratorConfig, *, causal: bool = True) -> None:
        super().__init__()
        self.attention = Attention(config, causal=causal)
        self.up = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.down = nn.Linear(config.d_ff, config.d_model, bias=False)

    def forward(
        self, x_BTD: Tensor, cos_TP: Tensor, sin_TP: Tensor, past: tuple[Tensor, Tensor] | None, first: int = 0
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return what the block makes of tokens, and the keys and values of all.

        Args:
            x_BTD: the tokens.
            cos_TP, sin_TP: rotary angles of their positions.
            past: keys and values of what came before them.
            first: from which token on it is asked for.
        """
        y_BTD, cache = self.attention(norm(x_BTD), cos_TP, sin_TP, past, first)
        x_BTD = x_BTD[:, first:] + y_BTD
        return x_BTD + self.down(F.relu(self.up(norm(x_BTD))).square()), cache


class Generator(nn.Module):
    """Tokens to next-token logits."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(vocab.N_TOKENS, config.d_model)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.head = nn.Linear(config.d_model, vocab.N_TOKENS, bias=False)
        cos, sin = rope_table(config)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self._initialise()

    def _initialise(self) -> None:
        nn.init.normal_(self.embedding.weight, std=1.0)
        for name, weight in self.named_parameters():
            if name.endswith(("out.weight", "down.weight", "head.weight")):
                nn.init.zeros_(weight)
            elif name != "embedding.weight":
                nn.init.normal_(weight, std=weight.shape[1] ** -0.5)

    def forward(self, tokens_BT: Tensor, first: int = 0) -> Tensor:
        """Return logits for whole sequences of at most ``context`` tokens, (B, T - ``first``, V); see :func:`embed`."""
        return self.extend(tokens_BT, None, first)[0]

    def extend(self, tokens_BT: Tensor, cache: KVCache | None, first: int = 0) -> tuple[Tensor, KVCache]:
        """Return logits (B, T - first, V) for tokens that follow a cache, from the ``first`` on, and the longer cache.

        Raises:
            ValueError: cache and tokens together exceed ``context``.
        """
        start = cache[0][0].shape[2] if cache else 0
        end = start + tokens_BT.shape[1]
        if end > self.config.context:
            raise ValueError(f"at most {self.config.context} positions fit the context, found {end}")
        x_BTD = norm(embed(tokens_BT, self.embedding.weight))
        cos_TP, sin_TP = self.cos[start:end].to(x_BTD.dtype), self.sin[start:end].to(x_BTD.dtype)
        grown: KVCache = []
        for i, block in enumerate(self.blocks):
            is_last = i == len(self.blocks) - 1
            x_BTD, layer_cache = block(x_BTD, cos_TP, sin_TP, cache[i] if cache else None, first if is_last else 0)
            grown.append(layer_cache)
        return self.head(norm(x_BTD)).float(), grown

    def branch(self, seed_BT: Tensor, written_MC: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits after each token of seeds, and where each token of several continuations of a seed came.

        Args:
            seed_BT: read once.
            written_MC: M / B continuations of each seed, side by side.

        Returns:
            Shapes (B, T, V) and (M, C, V).
        """
        n = len(written_MC) // len(seed_BT)
        logits_BTV, cache = self.extend(seed_BT, None)
        copies = [(k_BKSP.repeat_interleave(n, 0), v_BKSP.repeat_interleave(n, 0)) for k_BKSP, v_BKSP in cache]
        later_MCV, _ = self.extend(written_MC, copies)
        return logits_BTV, torch.cat([logits_BTV[:, -1:].repeat_interleave(n, 0), later_MCV[:, :-1]], 1)


def deepen(trained: Generator, n_layers: int) -> Generator:
    """Return a generator of more layers that computes the same function (Chen et al. 2016, "Net2Net").

    The new blocks are in the middle. Their output projections are zero, as in every new generator, so they add
    nothing yet.

    Args:
        trained: its weights are copied.
        n_layers: at least as many as it has.
    """
    deeper = Generator(replace(trained.config, n_layers=n_layers))
    half, more = len(trained.blocks) // 2, n_layers - len(trained.blocks)
    for i, block in enumerate(trained.blocks):
        deeper.blocks[i if i < half else i + more].load_state_dict(block.state_dict())
    deeper.embedding.load_state_dict(trained.embedding.state_dict())
    deeper.head.load_state_dict(trained.head.state_dict())
    return deeper


def count_parameters(generator: nn.Module) -> int:
    """Return the number of trained parameters."""
    return sum(p.numel() for p in generator.parameters())
