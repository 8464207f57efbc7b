"""Batched sampling from a generator in torch, for training and evaluation.

Tokens are drawn as the argmax of logits plus Gumbel noise (Gumbel 1954; Maddison
et al. 2014), which is a draw from their softmax. Who keeps the noise can find
the same tokens again: see ``musebridge.training.sampling.gumbel``.

Tensor names end in their shape, as in ``musebridge.training.models.generator``; G is
the query heads that share a key/value head, J heads of several kinds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor

from musebridge import vocab
from musebridge.errors import ConfigError
from musebridge.training.compute.linear import packed, product
from musebridge.training.compute.parallel import parallel_map
from musebridge.training.models.generator import Block, Generator, embed, norm, rotate
from musebridge.training.models.token_features import N_TOKEN_FEATURES, opinion

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
    compile: bool = False,
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
        compile: compile what reads a token; slower to start, faster to run.
        on_progress: called with the share that is done, 0..1.

    Returns:
        The sampled tokens, shape (B, length).
    """
    noise_BTV = gumbel_noise(len(seed_BT), length, rng)
    given = generator, seed_BT, noise_BTV
    return sample(*given, dtype=dtype, truncation=truncation, compile=compile, on_progress=on_progress)


def sample(
    generator: Generator,
    seed_BT: Tensor,
    noise_BTV: Tensor,
    *,
    dtype: torch.dtype = torch.float32,
    truncation: Truncation = NONE,
    compile: bool = False,
    on_progress: Callable[[float], None] = lambda _: None,
) -> Tensor:
    """Continue a batch of seeds with given noise, one token for each of its moments; see :func:`sample_continuations`.

    Where there is noise for n times as many rows, (B n, T, V), each seed is read once and continued n times; these
    continuations stand side by side.

    Raises:
        ValueError: seeds and continuations together exceed the context.
    """
    some = partial(_sample, generator, dtype=dtype, truncation=truncation)
    return _on_each_core(some, seed_BT, noise_BTV, compile, on_progress)[0]


def sample_with_token_features(
    generator: Generator,
    seed_BT: Tensor,
    noise_BTV: Tensor,
    *,
    dtype: torch.dtype = torch.float32,
    compile: bool = False,
) -> tuple[Tensor, Tensor]:
    """Continue a batch of seeds as :func:`sample` does, and tell what the generator thought of all the tokens.

    Returns:
        The sampled tokens, shape (B, length), and the ``musebridge.training.models.token_features`` of seeds and
        tokens, shape (B, T + length, 3), which would take another reading to have afterwards.

    Raises:
        ValueError: seeds and continuations together exceed the context.
    """
    some = partial(_sample, generator, dtype=dtype, truncation=NONE, hinted=True)
    return _on_each_core(some, seed_BT, noise_BTV, compile, lambda _: None)


def _on_each_core(
    some: Callable[..., tuple[Tensor, Tensor]],
    seed_BT: Tensor,
    noise_BTV: Tensor,
    compile: bool,
    on_progress: Callable[[float], None],
) -> tuple[Tensor, Tensor]:
    """Return what ``some`` makes of seeds and noise, a part of them on each core; the first part tells of progress."""
    # Compiled loops keep Python's lock while they run, but each of them runs on all cores by itself.
    cores = torch.get_num_threads() if seed_BT.device.type == "cpu" and not compile else 1
    n = len(noise_BTV) // len(seed_BT)
    rows = max(-(-_FEWEST_ROWS // n), -(-len(seed_BT) // cores))
    parts = [
        partial(some, *part, compile=compile, on_progress=on_progress if i == 0 else lambda _: None)
        for i, part in enumerate(zip(torch.split(seed_BT, rows), torch.split(noise_BTV, rows * n), strict=True))
    ]
    done = [parts[0]()] if len(parts) == 1 else parallel_map(parts)
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
    compile: bool,
    hinted: bool = False,
) -> tuple[Tensor, Tensor]:
    (batch, length), seed_length = noise_BTV.shape[:2], seed_BT.shape[1]
    n = batch // len(seed_BT)
    reader = _Reader(generator, batch, seed_length + length, dtype, compile)
    window_BT = F.pad(seed_BT.repeat_interleave(n, 0), (0, length))
    features_BTF = seed_BT.new_zeros(
        (batch, seed_length + length if hinted else 0, N_TOKEN_FEATURES), dtype=torch.float32
    )
    logits_BTV = reader.read(seed_BT, every=hinted, copies=n).repeat_interleave(n, 0)
    if hinted:
        features_BTF[:, 1:seed_length] = opinion(logits_BTV[:, :-1], window_BT[:, 1:seed_length])
    for t in range(seed_length, seed_length + length):
        chosen_B1 = window_BT[:, t : t + 1]
        scores_BV = truncation(logits_BTV[:, -1, : vocab.N_EVENTS]) + noise_BTV[:, t - seed_length]
        torch.argmax(scores_BV, -1, keepdim=True, out=chosen_B1)
        if hinted:
            features_BTF[:, t : t + 1] = opinion(logits_BTV[:, -1:], chosen_B1)
        if t + 1 < seed_length + length:
            logits_BTV = reader.read(chosen_B1)
        on_progress((t + 1 - seed_length) / length)
    return window_BT[:, seed_length:].clone(), features_BTF.clone()


class _Reader:
    """A generator that reads on from where it is; its keys and values are allocated once.

    The residual stream stays in float32, as in autocast.
    """

    def __init__(self, generator: Generator, batch: int, capacity: int, dtype: torch.dtype, compile: bool) -> None:
        config = generator.config
        if capacity > config.context:
            raise ValueError(f"at most {config.context} positions fit the context, found {capacity}")
        self._cos, self._sin, self._length = generator.cos, generator.sin, 0
        self._embedding, self._head = generator.embedding.weight.detach(), packed(generator.head.weight, dtype)
        self._layers = [_Layer(block, batch, capacity, dtype) for block in generator.blocks]  # type: ignore[arg-type]
        self._compile = compile

    def read(self, tokens_BT: Tensor, *, every: bool = False, copies: int = 1) -> Tensor:
        """Take the seed, then one token at a time; return the logits of what comes after the last, or after every one.

        Args:
            tokens_BT: as many as there are continuations, or seeds that have ``copies`` of these each.

        Returns:
            Shape (B, 1, V), or (B, T, V).
        """
        B, T = tokens_BT.shape
        is_first, self._length = not self._length, self._length + T
        angles = self._cos[: self._length], self._sin[: self._length]
        if not is_first:
            return (_read_compiled if self._compile else _Reader._read)(self, tokens_BT, *angles)
        # Seeds are read a few at a time: what lies between two products then stays in the processor's cache.
        rows, first = max(1, _TOKENS_AT_ONCE // T), 0 if every else T - 1
        return torch.cat([self._read(tokens_BT[i : i + rows], *angles, first, i, copies) for i in range(0, B, rows)])

    def _read(
        self, tokens_BT: Tensor, cos_SP: Tensor, sin_SP: Tensor, first: int = 0, row: int = 0, copies: int = 1
    ) -> Tensor:
        """Return logits of what follows tokens, from the ``first`` of these on.

        Args:
            tokens_BT: the next ones of seeds from ``row`` on, each of which stands for so many ``copies``.
            cos_SP, sin_SP: rotary angles from the beginning to the last of the tokens.
            first: 0, or that of the last.
        """
        x_BTD = norm(embed(tokens_BT, self._embedding))
        for layer in self._layers:
            x_BTD = layer.read(x_BTD, cos_SP, sin_SP, first if layer is self._layers[-1] else 0, row, copies)
        return product(norm(x_BTD), self._head).float()


def _read_compiled(reader: _Reader, tokens_B1: Tensor, cos_SP: Tensor, sin_SP: Tensor) -> Tensor:
    for angle_SP in (cos_SP, sin_SP):
        torch._dynamo.mark_dynamic(angle_SP, 0)  # or each length would be compiled
    return _compiled()(reader, tokens_B1, cos_SP, sin_SP)


@cache
def _compiled() -> Callable[..., Tensor]:
    # A batch is read alike, whichever came before it.
    return torch.compile(_Reader._read, dynamic=False)


class _Layer:
    """One block's weights in the type of the products, and its keys and values, each (B, K, S, P)."""

    def __init__(self, block: Block, batch: int, capacity: int, dtype: torch.dtype) -> None:
        attention = block.attention
        self._config = attention.config
        parts = [attention.query.weight, attention.key.weight, attention.value.weight]
        self._qkv = packed(torch.cat(parts), dtype)
        self._out, self._up, self._down = (packed(w.weight, dtype) for w in (attention.out, block.up, block.down))
        shape = (batch, self._config.n_kv_heads, capacity, self._config.d_head)
        self._key_BKSP, self._value_BKSP = (parts[0].new_empty(shape, dtype=dtype) for _ in "kv")

    def read(self, x_BTD: Tensor, cos_SP: Tensor, sin_SP: Tensor, first: int, row: int, copies: int) -> Tensor:
        """Return what the block makes of tokens: of all, ``first`` 0, or of the last alone, T - 1."""
        B, T, D = x_BTD.shape
        H, K, P, S = self._config.n_heads, self._config.n_kv_heads, self._config.d_head, len(cos_SP)
        qkv_BTJP = product(norm(x_BTD), self._qkv).view(B, T, H + 2 * K, P)
        qk_BTJP, v_BTKP = torch.split(qkv_BTJP, [H + K, K], 2)
        qk_BJTP = rotate(norm(qk_BTJP).transpose(1, 2), cos_SP[S - T :], sin_SP[S - T :])
        q_BHTP, k_BKTP = torch.split(qk_BJTP, [H, K], 1)
        rows, own = slice(row * copies, (row + B) * copies), slice(row * copies, (row + B) * copies, copies)
        for kept_BKSP, new_BKTP in ((self._key_BKSP, k_BKTP), (self._value_BKSP, v_BTKP.transpose(1, 2))):
            kept_BKSP[rows, :, S - T : S].view(B, copies, K, T, P)[:] = new_BKTP[:, None]
        q_BHTP = q_BHTP[:, :, first:].to(v_BTKP.dtype)
        y_BHTP = _attend(q_BHTP, self._key_BKSP[own, :, :S], self._value_BKSP[own, :, :S])
        x_BTD = x_BTD[:, first:] + product(y_BHTP.transpose(1, 2).reshape(B, T - first, D), self._out)
        return x_BTD + product(F.relu(product(norm(x_BTD), self._up)).square(), self._down)


def _attend(q_BHTP: Tensor, k_BKSP: Tensor, v_BKSP: Tensor) -> Tensor:
    (B, H, T, P), K = q_BHTP.shape, k_BKSP.shape[1]
    if T > 1:
        return F.scaled_dot_product_attention(q_BHTP, k_BKSP, v_BKSP, is_causal=True, enable_gqa=True)
    # One token sees everything, so the heads of a group can stand where moments would: no mask, no copies of keys.
    q_BKGP = q_BHTP.reshape(B, K, H // K, P)
    if not torch.compiler.is_compiling():
        return F.scaled_dot_product_attention(q_BKGP, k_BKSP, v_BKSP).view(B, H, 1, P)
    # The compiler makes two loops of this, which for so few queries beat a kernel or products that are made for many.
    # Queries and keys are normed, so their products are small enough for an exponential.
    wide = torch.promote_types(v_BKSP.dtype, torch.float32)
    w_BKGS = (q_BKGP[..., None, :].to(wide) * k_BKSP[:, :, None].to(wide)).sum(-1).mul(P**-0.5).exp()
    y_BKGP = (w_BKGS[..., None] * v_BKSP[:, :, None].to(wide)).sum(-2) / w_BKGS.sum(-1, keepdim=True)
    return y_BKGP.to(v_BKSP.dtype).view(B, H, 1, P)
