"""Muon: momentum whose matrices are made orthogonal (Jordan et al. 2024, "Muon")."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import sqrt

import torch
from torch import Tensor, nn

_STEPS = 5
_COEFFICIENTS = (3.4445, -4.775, 2.0315)
"""Of the quintic that drives singular values towards 1, after Jordan; it stops within 0.7..1.2 of it."""
_SMALLEST = 1e-7


class Muon(torch.optim.Optimizer):
    """As ``torch.optim.Muon``, but one batched product for all matrices of a shape: two thirds of the time.

    Args:
        params: matrices.
        lr: how far a step goes; more for tall matrices, by the root of height over width.
        weight_decay: decoupled, as in AdamW.
        momentum: of Nesterov's kind.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float, weight_decay: float, momentum: float) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]  # torch returns a loss
        """Take one step with the gradients that are there; ``closure`` is not called."""
        for group in self.param_groups:
            alike: dict[tuple[int, ...], list[nn.Parameter]] = {}
            for matrix in group["params"]:
                if matrix.grad is not None:
                    alike.setdefault(tuple(sorted(matrix.shape)), []).append(matrix)
            for matrices in alike.values():
                moved_MNN = torch.stack([_wide(self._momentum(matrix, group["momentum"])) for matrix in matrices])
                for matrix, update_NN in zip(matrices, orthogonal(moved_MNN), strict=True):
                    height, width = matrix.shape
                    matrix.mul_(1 - group["lr"] * group["weight_decay"])
                    turned = update_NN if height <= width else update_NN.mT
                    matrix.add_(turned, alpha=-group["lr"] * sqrt(max(1, height / width)))

    def _momentum(self, matrix: nn.Parameter, momentum: float) -> Tensor:
        assert matrix.grad is not None
        state = self.state[matrix]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(matrix)
        buffer: Tensor = state["momentum_buffer"].lerp_(matrix.grad, 1 - momentum)
        return matrix.grad.lerp(buffer, momentum).bfloat16()


def _wide(matrix: Tensor) -> Tensor:
    return matrix if matrix.shape[0] <= matrix.shape[1] else matrix.mT


def orthogonal(wide_MNN: Tensor) -> Tensor:
    """Return the nearest matrices with orthonormal rows, roughly, by Newton-Schulz iterations.

    Args:
        wide_MNN: matrices not higher than wide, (M, height, width).
    """
    a, b, c = _COEFFICIENTS
    x_MNN: Tensor = wide_MNN / wide_MNN.norm(dim=(1, 2), keepdim=True).clamp(min=_SMALLEST)
    for _ in range(_STEPS):
        gram_MNN = x_MNN @ x_MNN.mT
        x_MNN = torch.baddbmm(x_MNN, torch.baddbmm(gram_MNN, gram_MNN, gram_MNN, beta=b, alpha=c), x_MNN, beta=a)
    return x_MNN
