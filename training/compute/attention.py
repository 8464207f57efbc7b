"""Attention over whole windows, for compiled training on a CPU.

There torch's fused kernel takes four times as long backward as forward, which was a third of a
training step. In blocks of queries the same arithmetic is a few plain matrix products, which
run faster, and what lies between them is fused by the compiler. The weights of attention are
kept for the backward pass, which costs memory that a processor has.

Tensor names end in their shape, as in ``musebridge.training.models.generator``; G is the query heads that
share a key/value head, R the rows of a block: its moments, once for each of the G.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

_BLOCKS = 4
"""Of queries: more would see less that causality hides, and take longer to compile."""


def attend(q_BHTP: Tensor, k_BKSP: Tensor, v_BKSP: Tensor, causal: bool) -> Tensor:
    """Return what each query gathers, (B, H, T, P), in the values' type.

    Args:
        q_BHTP: queries, normed: their products with keys must stay small enough for an exponential.
        k_BKSP: keys, likewise.
        v_BKSP: values.
        causal: whether no query sees later keys; then there may be more keys, of what came before the first query.
    """
    q_BHTP, k_BKSP = q_BHTP.to(v_BKSP.dtype), k_BKSP.to(v_BKSP.dtype)
    y_BHTP: Tensor = _Attention.apply(q_BHTP, k_BKSP, v_BKSP, causal)  # type: ignore[no-untyped-call]  # torch's
    return y_BHTP


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q_BHTP: Tensor, k_BKSP: Tensor, v_BKSP: Tensor, causal: bool) -> Tensor:
        (B, K, S, P), T = k_BKSP.shape, q_BHTP.shape[2]
        q_BKGTP = q_BHTP.view(B, K, -1, T, P) * P**-0.5
        written, weights, totals = [], [], []
        for start, end, seen in _blocks(T, S, causal):
            q_BKRP = q_BKGTP[..., start:end, :].flatten(2, 3)
            w_BKRS = (q_BKRP @ k_BKSP[:, :, :seen].mT).float().exp()
            if causal:
                w_BKGTS = w_BKRS.view(B, K, -1, end - start, seen)
                sees_TS = torch.ones(end - start, seen, dtype=torch.bool, device=w_BKRS.device).tril(S - T + start)
                w_BKRS = torch.where(sees_TS, w_BKGTS, 0).flatten(2, 3)
            w_BKRS = w_BKRS.to(v_BKSP.dtype)
            total_BKR1 = w_BKRS.sum(-1, keepdim=True, dtype=torch.float32)
            y_BKRP = (w_BKRS @ v_BKSP[:, :, :seen] / total_BKR1).to(v_BKSP.dtype)
            written.append(y_BKRP.view(B, K, -1, end - start, P))
            weights.append(w_BKRS)
            totals.append(total_BKR1)
        y_BKGTP = torch.cat(written, 3)
        ctx.save_for_backward(q_BKGTP, k_BKSP, v_BKSP, y_BKGTP, *weights, *totals)
        ctx.causal = causal
        return y_BKGTP.flatten(1, 2)

    @staticmethod
    def backward(ctx: Any, dy_BHTP: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q_BKGTP, k_BKSP, v_BKSP, y_BKGTP, *kept = ctx.saved_tensors
        weights, totals = kept[: len(kept) // 2], kept[len(kept) // 2 :]
        (S, P), T, dy_BKGTP = k_BKSP.shape[2:], y_BKGTP.shape[3], dy_BHTP.reshape(y_BKGTP.shape)
        dq, (dk_BKSP, dv_BKSP) = [], (torch.zeros_like(x, dtype=torch.float32) for x in (k_BKSP, v_BKSP))
        for (start, end, seen), w_BKRS, total_BKR1 in zip(_blocks(T, S, ctx.causal), weights, totals, strict=True):
            q_BKRP, y_BKRP, dy_BKRP = (x[..., start:end, :].flatten(2, 3) for x in (q_BKGTP, y_BKGTP, dy_BKGTP))
            dy_BKRP = dy_BKRP / total_BKR1
            mean_BKR1 = (dy_BKRP * y_BKRP).sum(-1, keepdim=True)
            dy_BKRP = dy_BKRP.to(v_BKSP.dtype)
            dw_BKRS = dy_BKRP @ v_BKSP[:, :, :seen].mT
            ds_BKRS = (w_BKRS * (dw_BKRS - mean_BKR1)).to(v_BKSP.dtype)
            dq.append((ds_BKRS @ k_BKSP[:, :, :seen] * P**-0.5).view(*q_BKGTP.shape[:3], end - start, P))
            dk_BKSP[:, :, :seen] += ds_BKRS.mT @ q_BKRP
            dv_BKSP[:, :, :seen] += w_BKRS.mT @ dy_BKRP
        return torch.cat(dq, 3).flatten(1, 2), dk_BKSP.to(k_BKSP.dtype), dv_BKSP.to(v_BKSP.dtype), None


def _blocks(T: int, S: int, causal: bool) -> Iterator[tuple[int, int, int]]:
    """Yield where each block of T queries begins and ends, and how many of the S keys its last one sees."""
    size = -(-T // _BLOCKS) if causal else T
    for start in range(0, T, size):
        end = min(T, start + size)
        yield start, end, S - T + end
