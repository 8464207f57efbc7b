"""Training on pairs that lie on disk, a few pairs at a time, measured now and then on other pieces.

What a discriminator is taught by, and the critic of one; the best weights are kept.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from musebridge.config import at_least, build, more_than
from musebridge.errors import CheckpointError, ConfigError, one_line
from musebridge.training.compute.optimizers import optimizers_of, set_rates, take_step
from musebridge.training.compute.precision import autocast
from musebridge.training.models import checkpoint
from musebridge.training.models.discriminator import Discriminator, DiscriminatorConfig, DiscriminatorLoss
from musebridge.training.sampling.pairs import Pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscriminatorTraining(DiscriminatorLoss):
    """How the discriminator is trained before the generator is, and how its verdicts are scored.

    Attributes:
        passes: over the training pairs, at most.
        batch: pairs a step.
        corrupted: share of them whose artificial continuation is not the generator's, but real music made wrong.
        muon_lr, adam_lr, weight_decay, clip: as in pre-training.
        warmup_steps: linear rise of the learning rates; from there they fall linearly to zero.
        validate_steps: steps between measurements on held-out pieces.
        patience: end after this many without a new best; 0 for never.
    """

    passes: int = 1
    batch: int = 16
    corrupted: float = 0.125
    muon_lr: float = 3e-3
    adam_lr: float = 1e-3
    weight_decay: float = 0.1
    clip: float = 1.0
    warmup_steps: int = 30
    validate_steps: int = 100
    patience: int = 4

    def __post_init__(self) -> None:
        DiscriminatorLoss.__post_init__(self)
        at_least(self, 0, "passes", "muon_lr", "adam_lr", "weight_decay", "warmup_steps", "patience")
        at_least(self, 1, "validate_steps")
        at_least(self, 2 if self.corrupted else 1, "batch")  # what is corrupted may take another's continuation
        more_than(self, 0, "clip")
        if not 0 <= self.corrupted <= 1:
            raise ConfigError(f"corrupted must be in 0..1, found {self.corrupted}")


class PairTrainer(ABC):
    """A training on pairs; resumed from its folder if it has begun.

    Args:
        model: as it begins.
        train: pairs to learn from.
        folder: of state and weights.
        config: how to train.
        command: how it was started, for the record.
        seed: of the order.
    """

    figure: ClassVar[str]
    """What is measured; more is better."""

    def __init__(
        self,
        model: Discriminator,
        train: Pairs,
        folder: Path,
        config: DiscriminatorTraining,
        *,
        command: str,
        seed: int,
    ) -> None:
        self.model, self.train, self.folder, self.config = model, train, folder, config
        self.seed = seed
        self.record: dict[str, Any] = {"command": command, "pairs": len(train), "training": asdict(config)}
        self.device = next(model.parameters()).device
        self.optimizers = optimizers_of(model, model.blocks, config.muon_lr, config.adam_lr, config.weight_decay)
        self.step, self.history, self.best = 0, list[dict[str, float]](), dict[str, Tensor]()
        self._resume(checkpoint.load_state(folder))

    @abstractmethod
    def _loss(self, at: npt.NDArray[np.int64]) -> Tensor:
        """Return the loss of the training pairs at these places."""

    @abstractmethod
    def _measure(self) -> float:
        """Return what the model can do on pieces that it was not trained on."""

    @property
    def steps(self) -> int:
        """Of the whole training."""
        return self.config.passes * len(self.train) // self.config.batch

    @property
    def has_ended(self) -> bool:
        """Whether all steps are taken, or ``patience`` measurements gave no new best."""
        found = [row[self.figure] for row in self.history]
        since_best = len(found) - 1 - found.index(max(found)) if found else 0
        return self.step >= self.steps or 0 < self.config.patience <= since_best

    def run(self, on_step: Callable[[float], None], on_validation: Callable[[dict[str, float]], None]) -> None:
        """Train to the end, and take the best weights; interrupted, it goes on from the last measurement.

        Args:
            on_step: called after each step with the share that is done, 0..1.
            on_validation: called after each measurement with its row of the history.
        """
        while not self.has_ended:
            loss = self._optimize()
            self.step += 1
            on_step(self.step / self.steps)
            if self.step % self.config.validate_steps == 0 or self.step == self.steps:
                self._validate(loss)
                on_validation(self.history[-1])
                self._save()
        if self.best:
            self.model.load_state_dict(self.best)
        self.model.eval()

    def _optimize(self) -> float:
        rise = min(1.0, (self.step + 1) / max(1, self.config.warmup_steps))
        set_rates(self.optimizers, rise * (1 - self.step / self.steps))
        per_pass = len(self.train) // self.config.batch
        number, position = divmod(self.step, per_pass)
        order = np.random.default_rng([self.seed, 4, number]).permutation(len(self.train))
        self.model.train()
        with autocast(self.device):
            loss = self._loss(order[position * self.config.batch : (position + 1) * self.config.batch])
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        take_step(self.model, self.optimizers, self.config.clip)
        return loss.item()

    def _validate(self, loss: float) -> None:
        row = {"step": self.step, "loss": loss, self.figure: self._measure()}
        self.history.append(row)
        if row[self.figure] >= max(row[self.figure] for row in self.history):
            self.best = {name: weight.clone() for name, weight in self.model.state_dict().items()}

    def _save(self) -> None:
        state: dict[str, Any] = {
            "shape": asdict(self.model.config),
            "window": asdict(self.train.window),
            "discriminator": self.model.state_dict(),
            "best": self.best,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "history": self.history,
            "record": self.record,
        }
        checkpoint.save_state(self.folder, state)

    def _resume(self, state: dict[str, Any] | None) -> None:
        if state is None:
            return
        try:
            if build(DiscriminatorConfig, state["shape"], str(self.folder)) != self.model.config:
                raise CheckpointError(f"{self.folder}: holds a discriminator of another shape; remove it")
            self.model.load_state_dict(state["discriminator"])
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            self.best, self.step, self.history = state["best"], state["step"], state["history"]
            self.record = state["record"]
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"{self.folder / checkpoint.STATE}: is not the state of a discriminator "
                f"({one_line(error)}); remove it to start anew"
            ) from error
