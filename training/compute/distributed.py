"""Data-parallel training: processes that hold the same weights and share each batch.

``torchrun`` starts them and says in the environment who they are. Gradients are
averaged after every step, so any number of processes takes the same path as one
with the same global batch, to the rounding of the sums.
"""

from __future__ import annotations

import atexit
import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from musebridge.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Distributed:
    """This process among all that train; alone it does nothing."""

    rank: int = 0
    size: int = 1

    @staticmethod
    def init() -> Distributed:
        """Join the processes that torchrun started, or be alone."""
        if "RANK" not in os.environ:
            return Distributed()
        if not dist.is_initialized():
            dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
            atexit.register(dist.destroy_process_group)
        return Distributed(rank=dist.get_rank(), size=dist.get_world_size())

    @property
    def is_main(self) -> bool:
        """Whether this one writes files and talks."""
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """Where this one computes."""
        if not torch.cuda.is_available():
            return torch.device("cpu")
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))

    def shard(self, first: int, count: int) -> tuple[int, int]:
        """Return this one's part, as first and count, of ``count`` windows.

        Raises:
            ConfigError: they cannot be shared evenly.
        """
        if count % self.size:
            raise ConfigError(f"batch must be a multiple of {self.size} processes, found {count}")
        each = count // self.size
        return first + self.rank * each, each

    def average(self, model: nn.Module, loss: Tensor) -> Tensor:
        """Average all gradients in place; return the averaged loss."""
        if self.size == 1:
            return loss
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        flat = torch.cat([g.flatten() for g in gradients] + [loss.detach().flatten()])
        dist.all_reduce(flat)
        flat /= self.size
        parts = torch.split(flat[:-1], [g.numel() for g in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))
        return flat[-1]

    def broadcast(self, value: float) -> float:
        """Return the first one's value, so that all do the same next."""
        if self.size == 1:
            return value
        shared = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.broadcast(shared, 0)
        return shared.item()
