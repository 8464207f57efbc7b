"""The optimizers of every model that is trained here, and a step of theirs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from musebridge.training.compute.muon import Muon


def optimizers_of(
    model: nn.Module, blocks: nn.Module, muon_lr: float | None, adam_lr: float, weight_decay: float
) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrices of a model's blocks, AdamW for the rest; AdamW for all without a rate for Muon.

    The learning rates given are kept in each group as ``peak_lr``.
    """
    matrices = [p for p in blocks.parameters() if p.ndim == 2]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    groups = [{"params": others, "weight_decay": 0.0}]
    optimizers: list[torch.optim.Optimizer] = []
    if muon_lr is None:
        groups.append({"params": matrices, "weight_decay": weight_decay})
    else:
        optimizers.append(Muon(matrices, lr=muon_lr, weight_decay=weight_decay, momentum=0.95))
    optimizers.append(torch.optim.AdamW(groups, lr=adam_lr, betas=(0.9, 0.95), fused=True))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def set_rates(optimizers: Sequence[torch.optim.Optimizer], share: float) -> None:
    """Set every learning rate to this share of its peak."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = share * group["peak_lr"]


def take_step(model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], clip: float) -> None:
    """Step by the gradients that are there, their norm clipped, and forget them."""
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
