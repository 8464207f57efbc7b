"""The discriminator's own training: against samples of a frozen generator, on pairs that lie on disk.

Half of the held-out pieces choose the weights; what is reported is measured on
the other half, which chose nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from musebridge.config import at_least, build, more_than
from musebridge.errors import CheckpointError
from musebridge.training import checkpoint
from musebridge.training.discriminator import Discriminator, DiscriminatorConfig, DiscriminatorLoss
from musebridge.training.generator import Generator
from musebridge.training.hints import statistics
from musebridge.training.judging import Scores, Skill, auroc, best_threshold, skill
from musebridge.training.optimisers import optimisers_of, set_rates, take_step
from musebridge.training.samples import Pairs

_AT_ONCE = 32
_CALIBRATED_BY = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscriminatorTraining(DiscriminatorLoss):
    """How the discriminator is trained before the generator is, and how its verdicts are scored.

    Attributes:
        passes: over the training pairs, at most.
        batch: pairs a step.
        muon_lr, adam_lr, weight_decay, clip: as in pre-training.
        warmup_steps: linear rise of the learning rates; from there they fall linearly to zero.
        validate_steps: steps between measurements of the held-out AUROC.
        patience: end after this many without a new best; 0 for never.
    """

    passes: int = 1
    batch: int = 16
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
        at_least(self, 1, "batch", "validate_steps")
        more_than(self, 0, "clip")


class Discrimination:
    """The discriminator against a frozen generator; resumed from its folder if it has begun.

    Args:
        frozen: the generator that wrote the artificial continuations.
        train, held_out: pairs of different pieces.
        folder: of state and weights.
        shape: of the discriminator.
        config: how to train.
        command: how it was started, for the record.
        seed: of weights, order and dropout.
        compile: compile the loss; slower to start, faster to run.
    """

    def __init__(
        self,
        frozen: Generator,
        train: Pairs,
        held_out: Pairs,
        folder: Path,
        shape: DiscriminatorConfig,
        config: DiscriminatorTraining,
        *,
        command: str,
        seed: int = 0,
        compile: bool = True,
    ) -> None:
        torch.manual_seed(seed)
        self.train, self.folder, self.config, self.seed = train, folder, config, seed
        self.command = command
        self.device = next(frozen.parameters()).device
        chooses = held_out.piece_N % 2 == 0
        self.choosing, self.reported = held_out[chooses], held_out[~chooses]
        self.discriminator = Discriminator(shape).to(self.device)
        if shape.inherit:
            self.discriminator.inherit(frozen)
        self._calibrate()
        self.optimisers = optimisers_of(
            self.discriminator, self.discriminator.blocks, config.muon_lr, config.adam_lr, config.weight_decay
        )
        self.loss = torch.compile(config.__call__) if compile else config
        self.step, self.history, self.best = 0, list[dict[str, float]](), dict[str, Tensor]()
        self._resume(checkpoint.load_state(folder))

    @property
    def steps(self) -> int:
        """Of the whole training."""
        return self.config.passes * len(self.train) // self.config.batch

    @property
    def has_ended(self) -> bool:
        """Whether all steps are taken, or ``patience`` measurements gave no new best."""
        aurocs = [row["auroc"] for row in self.history]
        since_best = len(aurocs) - 1 - aurocs.index(max(aurocs)) if aurocs else 0
        return self.step >= self.steps or 0 < self.config.patience <= since_best

    def run(self, on_step: Callable[[float], None], on_validation: Callable[[dict[str, float]], None]) -> None:
        """Train to the end, and take the best weights; interrupted, it goes on from the last measurement.

        Args:
            on_step: called after each step with the share that is done, 0..1.
            on_validation: called after each measurement with its row of the history.
        """
        while not self.has_ended:
            loss = self._optimise()
            self.step += 1
            on_step(self.step / self.steps)
            if self.step % self.config.validate_steps == 0 or self.step == self.steps:
                self._validate(loss)
                on_validation(self.history[-1])
                self._save()
        if self.best:
            self.discriminator.load_state_dict(self.best)
        self.discriminator.eval()

    def report(self) -> Skill:
        """Return what the discriminator can do on the pieces that chose nothing."""
        threshold = best_threshold(*self.scores(self.choosing))
        return skill(*self.scores(self.reported), self.reported.piece_N, threshold=threshold)

    def scores(self, pairs: Pairs) -> tuple[Scores, Scores]:
        """Return the verdicts on the real and on the artificial continuations."""
        window_MT, hints_MTF = torch.from_numpy(pairs.windows), torch.from_numpy(pairs.hints).float()
        real, fake = np.split(verdicts(self.discriminator, window_MT, hints_MTF, pairs.seed_NT.shape[1]), 2)
        return real, fake

    def _optimise(self) -> float:
        rise = min(1.0, (self.step + 1) / max(1, self.config.warmup_steps))
        set_rates(self.optimisers, rise * (1 - self.step / self.steps))
        per_pass = len(self.train) // self.config.batch
        number, position = divmod(self.step, per_pass)
        order = np.random.default_rng([self.seed, 4, number]).permutation(len(self.train))
        chosen = self.train[order[position * self.config.batch : (position + 1) * self.config.batch]]
        window_MT = torch.from_numpy(chosen.windows).to(self.device)
        hints_MTF = torch.from_numpy(chosen.hints).float().to(self.device)
        self.discriminator.train()
        with torch.autocast(self.device.type, torch.bfloat16):
            loss: Tensor = self.loss(self.discriminator, window_MT, hints_MTF, chosen.seed_NT.shape[1])
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        take_step(self.discriminator, self.optimisers, self.config.clip)
        return loss.item()

    def _validate(self, loss: float) -> None:
        row = {"step": self.step, "loss": loss, "auroc": auroc(*self.scores(self.choosing))}
        self.history.append(row)
        if row["auroc"] >= max(row["auroc"] for row in self.history):
            self.best = {name: weight.clone() for name, weight in self.discriminator.state_dict().items()}

    def _calibrate(self) -> None:
        some = self.train[slice(0, _CALIBRATED_BY)]
        window_MT, hints_MTF = torch.from_numpy(some.windows), torch.from_numpy(some.hints).float()
        seeded = some.seed_NT.shape[1]
        self.discriminator.calibrate(statistics(window_MT[:, seeded:], hints_MTF[:, seeded:]))

    def _save(self) -> None:
        state: dict[str, Any] = {
            "shape": asdict(self.discriminator.config),
            "window": asdict(self.train.window),
            "discriminator": self.discriminator.state_dict(),
            "best": self.best,
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "step": self.step,
            "history": self.history,
            "record": {"command": self.command, "pairs": len(self.train), "training": asdict(self.config)},
        }
        checkpoint.save_state(self.folder, state)

    def _resume(self, state: dict[str, Any] | None) -> None:
        if state is None:
            return
        try:
            if build(DiscriminatorConfig, state["shape"], str(self.folder)) != self.discriminator.config:
                raise CheckpointError(f"{self.folder}: holds a discriminator of another shape; remove it")
            self.discriminator.load_state_dict(state["discriminator"])
            for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
                optimiser.load_state_dict(saved)
            self.best, self.step, self.history = state["best"], state["step"], state["history"]
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"{self.folder / checkpoint.STATE}: is not the state of a discriminator "
                f"({checkpoint.one_line(error)}); remove it to start anew"
            ) from error


@torch.no_grad()
def verdicts(discriminator: Discriminator, window_MT: Tensor, hints_MTF: Tensor, seeded: int) -> Scores:
    """Return the verdict on each window, shape (M,)."""
    discriminator.eval()
    device = next(discriminator.parameters()).device
    parts = []
    for window_BT, hints_BTF in zip(*(torch.split(x, _AT_ONCE) for x in (window_MT, hints_MTF)), strict=True):
        with torch.autocast(device.type, torch.bfloat16):
            verdict = discriminator(window_BT.to(device), hints_BTF.to(device), seeded)
        parts.append(verdict.whole_B.double().cpu())
    return np.asarray(torch.cat(parts).numpy())


def load_discriminator(folder: Path) -> Discriminator:
    """Return the best discriminator of a training, in evaluation mode.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    state = checkpoint.load_state(folder)
    if state is None or not state.get("best"):
        raise CheckpointError(f"{folder}: holds no discriminator; train one with 'train --phase adversarial'")
    try:
        discriminator = Discriminator(build(DiscriminatorConfig, state["shape"], str(folder)))
        discriminator.load_state_dict(state["best"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{folder}: is not a discriminator ({checkpoint.one_line(error)})") from error
    return discriminator.eval().requires_grad_(False)
