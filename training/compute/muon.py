"""Muon: momentum whose matrices are made orthogonal (Jordan et al. 2024, "Muon")."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import sqrt

import torch
from torch import Tensor, nn

from musebridge.training.compute.precision import product_type

_COEFFICIENTS = (3.4445, -4.775, 2.0315)
"""Of the quintic that drives singular values towards 1, after Jordan; it stops within 0.7..1.2 of it."""
_LONG = 3, 2
"""Iterations on one Gram matrix: five at once blow up in bfloat16, three and two are as good as one by one."""
_SMALLEST = 1e-7


class Muon(torch.optim.Optimizer):
    """As ``torch.optim.Muon``, but one batched product for all matrices of a shape, and fewer for long ones.

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
                    alike.setdefault(tuple(matrix.shape), []).append(matrix)
            for (height, width), matrices in alike.items():
                moved_MHW = torch.stack([self._momentum(matrix, group["momentum"]) for matrix in matrices])
                for matrix, update_HW in zip(matrices, orthogonal(moved_MHW), strict=True):
                    matrix.mul_(1 - group["lr"] * group["weight_decay"])
                    matrix.add_(update_HW, alpha=-group["lr"] * sqrt(max(1, height / width)))

    def _momentum(self, matrix: nn.Parameter, momentum: float) -> Tensor:
        assert matrix.grad is not None
        state = self.state[matrix]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(matrix)
        buffer: Tensor = state["momentum_buffer"].lerp_(matrix.grad, 1 - momentum)
        return matrix.grad.lerp(buffer, momentum).to(product_type(matrix.device))


def orthogonal(matrix_MHW: Tensor) -> Tensor:
    """Return the nearest matrices with orthonormal rows or columns, roughly, by Newton-Schulz iterations.

    Those of long matrices are done on the small Gram matrix (Zhang et al. 2026, "Gram Newton-Schulz").

    Args:
        matrix_MHW: M matrices of one shape.
    """
    x_MHW: Tensor = matrix_MHW / matrix_MHW.norm(dim=(1, 2), keepdim=True).clamp(min=_SMALLEST)
    height, width = x_MHW.shape[1:]
    is_tall, is_long = height > width, max(height, width) > 2 * min(height, width)
    for steps in _LONG if is_long else (1,) * sum(_LONG):
        scale, rest_MNN = _steps(x_MHW.mT @ x_MHW if is_tall else x_MHW @ x_MHW.mT, steps)
        factors = (x_MHW, rest_MNN) if is_tall else (rest_MNN, x_MHW)
        x_MHW = torch.baddbmm(x_MHW, *factors, beta=scale)
    return x_MHW


def _steps(gram_MNN: Tensor, steps: int) -> tuple[float, Tensor]:
    """Return s and R such that ``steps`` iterations multiply a matrix of this Gram matrix by s I + R."""
    a, b, c = _COEFFICIENTS
    scale, more_MNN = a, torch.baddbmm(gram_MNN, gram_MNN, gram_MNN, beta=b, alpha=c)
    rest_MNN = more_MNN
    for _ in range(steps - 1):
        half_MNN = torch.baddbmm(gram_MNN, gram_MNN, more_MNN, beta=a)
        gram_MNN = torch.baddbmm(half_MNN, half_MNN, more_MNN, beta=a)
        more_MNN = torch.baddbmm(gram_MNN, gram_MNN, gram_MNN, beta=b, alpha=c)
        rest_MNN = (scale * more_MNN).add_(rest_MNN, alpha=a).baddbmm_(more_MNN, rest_MNN)
        scale *= a
    return scale, rest_MNN
