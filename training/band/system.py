"""What the trainer trains: a system, which is a module that takes its own updates."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from musebridge.band.layout import condition
from musebridge.training.band.corpus import Windows


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Four bars each, as tensors: cells (B, 192, WIDTH), the player's part (B, 3, 192, 88) and its row (B,)."""

    code: Tensor
    condition: Tensor
    lead: Tensor


def batch_of(windows: Windows) -> Batch:
    """Return windows as tensors."""
    heard = np.stack([condition(code, lead) for code, lead in zip(windows.code, windows.lead.tolist(), strict=True)])
    return Batch(torch.from_numpy(windows.code), torch.from_numpy(heard), torch.from_numpy(windows.lead))


class System(nn.Module):
    """A network, its optimizers and its loss.

    ``player`` is what is exported: the network whose weights are the moving
    average of those that are trained, or these themselves.
    """

    player: nn.Module

    def update(self, batch: Batch, progress: float) -> dict[str, float]:
        """Take one step on a batch, at a share of the training that is done; return its figures."""
        raise NotImplementedError

    def nll(self, batch: Batch) -> float | None:
        """Return the player's nats a step of all families on a batch; None where it has no likelihood."""
        return None

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """Return what :meth:`update` steps, for the resumable state."""
        raise NotImplementedError


def averaged(network: nn.Module) -> nn.Module:
    """Return a copy that no gradient reaches."""
    return copy.deepcopy(network).requires_grad_(False).eval()


@torch.no_grad()
def average(player: nn.Module, network: nn.Module, keep: float) -> None:
    """Move a player's weights towards a network's."""
    for mean, weight in zip(player.state_dict().values(), network.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(weight, 1 - keep)
        else:
            mean.copy_(weight)
