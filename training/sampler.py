"""Batched sampling from a generator in torch, for training and evaluation.

Tokens are drawn as the argmax of logits plus Gumbel noise (Gumbel 1954; Maddison
et al. 2014), which is a draw from their softmax. Who keeps the noise can find
the same tokens again: see ``musebridge.training.gumbel``.

Tensor names end in their shape, as in ``musebridge.training.generator``; G is
the query heads that share a key/value head, J heads of several kinds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from musebridge import vocab
from musebridge.errors import ConfigError
from musebridge.training.generator import Block, Generator, norm, rotate
from musebridge.training.hints import N_HINTS, opinion
from musebridge.training.precision import multiplies_with_onednn, product_type
from musebridge.training.workers import side_by_side

_TOKENS_AT_ONCE = 2048
_FEWEST_ROWS = 16
"""Fewer at a time are not worth a core of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Truncation:
    """How the likely is preferred; as it stands, not at all.

    Attributes:
        temperature: more than 0; below 1 sharpens, above 1 flattens.
        top_p: the smallest set of likeliest tokens that holds this share is kept (Holtzman et al. 2020).
        min_p: tokens less likely than this share of the likeliest are dropped (Nguyen et al. 2024).
    """

    temperature: float = 1.0
    top_p: float = 1.0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        if not (self.temperature > 0 and 0 < self.top_p <= 1 and 0 <= self.min_p <= 1):
            raise ConfigError(f"temperature must be more than 0, top_p in 0..1 and not 0, min_p in 0..1, found {self}")

    def __str__(self) -> str:
        return f"T {self.temperature:g}, top-p {self.top_p:g}, min-p {self.min_p:g}"

    def __call__(self, logits_BV: Tensor) -> Tensor:
        """Return logits at the temperature, -inf for what is dropped."""
        if self == NONE:
            return logits_BV
        logits_BV = logits_BV / self.temperature
        p_BV = logits_BV.softmax(-1)
        dropped_BV = p_BV < self.min_p * p_BV.amax(-1, keepdim=True)
        if self.top_p < 1:
            ranked_BV, order_BV = p_BV.sort(-1, descending=True)
            likelier_BV = ranked_BV.cumsum(-1) - ranked_BV
            dropped_BV |= torch.empty_like(dropped_BV).scatter(-1, order_BV, likelier_BV >= self.top_p)
        return logits_BV.masked_fill(dropped_BV, -torch.inf)


NONE = Truncation()


def gumbel_noise(batch: int, length: int, rng: torch.Generator) -> Tensor:
    """Return standard Gumbel noise for every token that may be sampled, shape (batch, length, V)."""
    exponential_BTV = torch.empty(batch, length, vocab.N_EVENTS, device=rng.device).exponential_(generator=rng)
    return exponential_BTV.log_().neg_()


def sample_continuations(
    generator: Generator,
    seed_BT: Tensor,
    length: int,
    rng: torch.Generator,
    *,
    dtype: torch.dtype = torch.float32,
    truncation: Truncation = NONE,
    on_progress: Callable[[float], None] = lambda _: None,
) -> Tensor:
    """Continue a batch of seeds.

    Args:
        generator: seeds and continuations together must fit its context.
        seed_BT: tokens that are given, shape (B, T).
        length: tokens to sample.
        rng: source of randomness; the same seeds and state give the same tokens.
        dtype: of the matrix products, keys and values; bfloat16 is the faster where the processor has it.
        truncation: by default temperature 1 and every token.
        on_progress: called with the share that is done, 0..1.

    Returns:
        The sampled tokens, shape (B, length).
    """
    noise_BTV = gumbel_noise(len(seed_BT), length, rng)
    return sample(generator, seed_BT, noise_BTV, dtype=dtype, truncation=truncation, on_progress=on_progress)


def sample(
    generator: Generator,
    seed_BT: Tensor,
    noise_BTV: Tensor,
    *,
    dtype: torch.dtype = torch.float32,
    truncation: Truncation = NONE,
    on_progress: Callable[[float], None] = lambda _: None,
) -> Tensor:
    """Continue a batch of seeds with given noise, one token for each of its moments; see :func:`sample_continuations`.

    Where there is noise for n times as many rows, (B n, T, V), each seed is read once and continued n times; these
    continuations stand side by side.

    Raises:
        ValueError: seeds and continuations together exceed the context.
    """
    some = partial(_sample, generator, dtype=dtype, truncation=truncation)
    return _on_each_core(some, seed_BT, noise_BTV, on_progress)[0]


def sample_with_hints(
    generator: Generator, seed_BT: Tensor, noise_BTV: Tensor, *, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """Continue a batch of seeds as :func:`sample` does, and tell what the generator thought of all the tokens.

    Returns:
        The sampled tokens, shape (B, length), and the ``musebridge.training.hints`` of seeds and tokens, shape
        (B, T + length, 3), which would take another reading to have afterwards.

    Raises:
        ValueError: seeds and continuations together exceed the context.
    """
    some = partial(_sample, generator, dtype=dtype, truncation=NONE, hinted=True)
    return _on_each_core(some, seed_BT, noise_BTV, lambda _: None)


def _on_each_core(
    some: Callable[..., tuple[Tensor, Tensor]], seed_BT: Tensor, noise_BTV: Tensor, on_progress: Callable[[float], None]
) -> tuple[Tensor, Tensor]:
    """Return what ``some`` makes of seeds and noise, a part of them on each core; the first part tells of progress."""
    cores = torch.get_num_threads() if seed_BT.device.type == "cpu" else 1
    n = len(noise_BTV) // len(seed_BT)
    rows = max(-(-_FEWEST_ROWS // n), -(-len(seed_BT) // cores))
    parts = [
        partial(some, *part, on_progress=on_progress if i == 0 else lambda _: None)
        for i, part in enumerate(zip(torch.split(seed_BT, rows), torch.split(noise_BTV, rows * n), strict=True))
    ]
    done = [parts[0]()] if len(parts) == 1 else side_by_side(parts)
    sampled, thought = zip(*done, strict=True)
    return torch.cat(sampled), torch.cat(thought)


@torch.inference_mode()
def _sample(
    generator: Generator,
    seed_BT: Tensor,
    noise_BTV: Tensor,
    *,
    dtype: torch.dtype,
    truncation: Truncation,
    on_progress: Callable[[float], None],
    hinted: bool = False,
) -> tuple[Tensor, Tensor]:
    (batch, length), seeded = noise_BTV.shape[:2], seed_BT.shape[1]
    n = batch // len(seed_BT)
    reader = _Reader(generator, batch, seeded + length, dtype)
    window_BT = F.pad(seed_BT.repeat_interleave(n, 0), (0, length))
    hints_BTF = seed_BT.new_zeros((batch, seeded + length if hinted else 0, N_HINTS), dtype=torch.float32)
    logits_BTV = reader.read(seed_BT, every=hinted, copies=n).repeat_interleave(n, 0)
    if hinted:
        hints_BTF[:, 1:seeded] = opinion(logits_BTV[:, :-1], window_BT[:, 1:seeded])
    for t in range(seeded, seeded + length):
        chosen_B1 = window_BT[:, t : t + 1]
        scores_BV = truncation(logits_BTV[:, -1, : vocab.N_EVENTS]) + noise_BTV[:, t - seeded]
        torch.argmax(scores_BV, -1, keepdim=True, out=chosen_B1)
        if hinted:
            hints_BTF[:, t : t + 1] = opinion(logits_BTV[:, -1:], chosen_B1)
        if t + 1 < seeded + length:
            logits_BTV = reader.read(chosen_B1)
        on_progress((t + 1 - seeded) / length)
    return window_BT[:, seeded:].clone(), hints_BTF.clone()


class _Reader:
    """A generator that reads on from where it is; its keys and values are allocated once.

    The residual stream stays in float32, as in autocast.
    """

    def __init__(self, generator: Generator, batch: int, capacity: int, dtype: torch.dtype) -> None:
        config = generator.config
        if capacity > config.context:
            raise ValueError(f"at most {config.context} positions fit the context, found {capacity}")
        self._generator, self._length = generator, 0
        self._head = _product(generator.head.weight, dtype)
        self._layers = [_Layer(block, batch, capacity, dtype) for block in generator.blocks]  # type: ignore[arg-type]

    def read(self, tokens_BT: Tensor, *, every: bool = False, copies: int = 1) -> Tensor:
        """Take the seed, then one token at a time; return the logits of what comes after the last, or after every one.

        Args:
            tokens_BT: as many as there are continuations, or seeds that have ``copies`` of these each.

        Returns:
            Shape (B, 1, V), or (B, T, V).
        """
        B, T = tokens_BT.shape
        # Seeds are read a few at a time: what lies between two products then stays in the processor's cache.
        rows, wanted = max(1, _TOKENS_AT_ONCE // T), slice(0 if every else T - 1, T)
        parts = [self._read(tokens_BT[i : i + rows], wanted, i, copies) for i in range(0, B, rows)]
        self._length += T
        return torch.cat(parts)

    def _read(self, tokens_BT: Tensor, wanted: slice, first: int, copies: int) -> Tensor:
        start, end = self._length, self._length + tokens_BT.shape[1]
        cos_TP, sin_TP = self._generator.cos[start:end], self._generator.sin[start:end]
        x_BTD = norm(self._generator.embedding(tokens_BT))
        for layer in self._layers:
            x_BTD = layer.read(x_BTD, cos_TP, sin_TP, first, start, copies)
        return self._head(norm(x_BTD[:, wanted])).float()


def _product(weight_NK: Tensor, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """Return what multiplies with a matrix, in the order in which the processor's library wants to read it.

    Given a matrix as it is, the library reorders it each time, which for a few rows takes as long as the product.
    """
    weight_NK = weight_NK.detach().to(dtype)
    if multiplies_with_onednn(weight_NK.device) and dtype == product_type(weight_NK.device):
        packed = torch.ops.mkldnn._reorder_linear_weight(weight_NK, _FEWEST_ROWS)
        return lambda x: torch.ops.mkldnn._linear_pointwise(x.to(dtype), packed, None, "none", [], "")
    return lambda x: F.linear(x.to(dtype), weight_NK)


class _Layer:
    """One block's weights in the type of the products, and its keys and values, each (B, K, S, P)."""

    def __init__(self, block: Block, batch: int, capacity: int, dtype: torch.dtype) -> None:
        attention = block.attention
        self._config, self._dtype = attention.config, dtype
        parts = [attention.query.weight, attention.key.weight, attention.value.weight]
        self._qkv = _product(torch.cat(parts), dtype)
        self._out, self._up, self._down = (_product(w.weight, dtype) for w in (attention.out, block.up, block.down))
        shape = (batch, self._config.n_kv_heads, capacity, self._config.d_head)
        self._key_BKSP, self._value_BKSP = (parts[0].new_empty(shape, dtype=dtype) for _ in "kv")

    def read(self, x_BTD: Tensor, cos_TP: Tensor, sin_TP: Tensor, first: int, start: int, copies: int) -> Tensor:
        B, T, D = x_BTD.shape
        H, K, P, end = self._config.n_heads, self._config.n_kv_heads, self._config.d_head, start + T
        qkv_BTJP = self._qkv(norm(x_BTD)).view(B, T, H + 2 * K, P)
        qk_BTJP, v_BTKP = torch.split(qkv_BTJP, [H + K, K], 2)
        qk_BJTP = rotate(norm(qk_BTJP).transpose(1, 2), cos_TP, sin_TP)
        q_BHTP, k_BKTP = torch.split(qk_BJTP, [H, K], 1)
        rows, own = slice(first * copies, (first + B) * copies), slice(first * copies, (first + B) * copies, copies)
        for kept_BKSP, new_BKTP in ((self._key_BKSP, k_BKTP), (self._value_BKSP, v_BTKP.transpose(1, 2))):
            kept_BKSP[rows, :, start:end].view(B, copies, K, T, P)[:] = new_BKTP[:, None]
        y_BHTP = self._attend(q_BHTP.to(self._dtype), self._key_BKSP[own, :, :end], self._value_BKSP[own, :, :end])
        x_BTD = x_BTD + self._out(y_BHTP.transpose(1, 2).reshape(B, T, D))
        return x_BTD + self._down(F.relu(self._up(norm(x_BTD))).square())

    def _attend(self, q_BHTP: Tensor, k_BKSP: Tensor, v_BKSP: Tensor) -> Tensor:
        B, H, T, P = q_BHTP.shape
        if T > 1:
            return F.scaled_dot_product_attention(q_BHTP, k_BKSP, v_BKSP, is_causal=True, enable_gqa=True)
        # One token sees everything, so the heads of a group can stand where moments would: no mask, no copies of keys.
        q_BKGP = q_BHTP.view(B, self._config.n_kv_heads, -1, P)
        return F.scaled_dot_product_attention(q_BKGP, k_BKSP, v_BKSP).view(B, H, 1, P)
