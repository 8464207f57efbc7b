"""The discriminator's own training: against samples of a frozen generator.

Half of the held-out pieces choose the weights; what is reported is measured on
the other half, which chose nothing.

A few of its steps are on what no generator writes: real music in a wrong order,
or after another seed. Without them it learns what gives the generator away, and
takes noise for music.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from musebridge.errors import CheckpointError
from musebridge.training.adversarial.pair_trainer import DiscriminatorTraining, PairTrainer
from musebridge.training.adversarial.trained_discriminator import TrainedDiscriminator, described
from musebridge.training.compute.precision import autocast
from musebridge.training.data.tokens import Tokens
from musebridge.training.metrics.classification import (
    ClassificationMetrics,
    Scores,
    auroc,
    best_threshold,
    classification_metrics,
)
from musebridge.training.models.discriminator import Discriminator, DiscriminatorConfig
from musebridge.training.models.generator import Generator
from musebridge.training.models.token_features import statistics, token_features
from musebridge.training.sampling.pairs import Pairs

_AT_ONCE = 32
_CALIBRATED_BY = 512
_HOLDS_ANOTHER = "holds another discriminator; choose another --run folder"
_UNKNOWN = "token.weight", "token.bias"
"""What a file does not tell of a discriminator."""
_BLOCKS = 1, 4, 16, 64
"""Tokens that stay together where the order is corrupted: from noise to a phrase in the wrong place."""


class DiscriminatorTrainer(PairTrainer):
    """The discriminator against a frozen generator.

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

    figure = "auroc"

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
        chooses = held_out.piece_N % 2 == 0
        self.choosing, self.reported = held_out[chooses], held_out[~chooses]
        self.discriminator = Discriminator(shape).to(next(frozen.parameters()).device)
        if shape.inherit:
            self.discriminator.inherit(frozen)
        self._frozen, self._token_features, self.loss = frozen, token_features, config.__call__
        if compile:
            self._token_features, self.loss = torch.compile(token_features), torch.compile(config.__call__)
        super().__init__(self.discriminator, train, folder, config, command=command, seed=seed)

    def load_pretrained(self, trained: TrainedDiscriminator) -> None:
        """Take a discriminator as it is in place of a training, if there was none yet.

        Raises:
            CheckpointError: there was, and it is another.
        """
        theirs, mine = trained.discriminator.state_dict(), self.model.state_dict()
        if self.step and not all(torch.equal(theirs[name], mine[name]) for name in theirs if name not in _UNKNOWN):
            raise CheckpointError(f"{self.folder}: {_HOLDS_ANOTHER}")
        is_new, self.step = self.step == 0, self.steps
        if is_new:
            self.model.load_state_dict(theirs)
            self.record = trained.info.record
            self._validate(float("nan"))
            self._save()

    def start_from(self, trained: TrainedDiscriminator) -> None:
        """Begin with a discriminator of another generator in place of this one's blocks, if it was not trained yet.

        Raises:
            CheckpointError: there was one, and it began with another.
        """
        # As text, in which a figure that was not measured (NaN) is the same as itself.
        if self.step and json.dumps(self.record.get("init")) != json.dumps(trained.info.record):
            raise CheckpointError(f"{self.folder}: {_HOLDS_ANOTHER}")
        if self.step == 0:
            self.model.load_state_dict(trained.discriminator.state_dict())
            self.record["init"] = trained.info.record

    def run(self, on_step: Callable[[float], None], on_validation: Callable[[dict[str, float]], None]) -> None:
        """Train as every pair trainer does; what is judged by is calibrated first."""
        if self.step == 0 < self.steps:
            window_MT, features_MTF = self._featurized(self.train[slice(0, _CALIBRATED_BY)])
            self.discriminator.calibrate(
                statistics(window_MT[:, self._seed_length :], features_MTF[:, self._seed_length :])
            )
        super().run(on_step, on_validation)

    def trained(self, record: dict[str, Any]) -> TrainedDiscriminator:
        """Return the discriminator with its description; ``record`` is how the frozen generator came to be."""
        state = {"window": asdict(self.train.window), "history": self.history, "record": self.record}
        return described(self.discriminator, self._frozen, record, state, str(self.folder))

    def report(self) -> ClassificationMetrics:
        """Return what the discriminator can do on the pieces that chose nothing."""
        threshold = best_threshold(*self._scores(*self._choosing))
        return classification_metrics(
            *self._scores(*self._featurized(self.reported)), self.reported.piece_N, threshold=threshold
        )

    def _loss(self, at: npt.NDArray[np.int64]) -> Tensor:
        chosen = self.train[at]
        window_MT, new = torch.from_numpy(chosen.windows), len(chosen)
        if count := round(self.config.corrupted * len(chosen)):
            rng, new = np.random.default_rng([self.seed, 6, self.step]), new + count
            window_MT[len(chosen) : new, self._seed_length :] = torch.from_numpy(corrupted(chosen.real_NT, count, rng))
        features_MTF = torch.cat(
            [self._features_of(window_MT[:new]), torch.from_numpy(chosen.features_NTF[new - len(chosen) :])]
        )
        both = window_MT.to(self.device), features_MTF.float().to(self.device)
        return self.loss(self.discriminator, *both, self._seed_length)

    def _measure(self) -> float:
        return auroc(*self._scores(*self._choosing))

    @property
    def _seed_length(self) -> int:
        return self.train.window.seed_length

    @cached_property
    def _choosing(self) -> tuple[Tensor, Tensor]:
        return self._featurized(self.choosing)

    def _featurized(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Return all real windows, then all artificial ones, (2 N, T), and their token features, (2 N, T, 3)."""
        window_MT = torch.from_numpy(pairs.windows)
        parts = [self._features_of(part_BT) for part_BT in torch.split(window_MT[: len(pairs)], _AT_ONCE)]
        return window_MT, torch.cat([*parts, torch.from_numpy(pairs.features_NTF).float()])

    @torch.no_grad()
    def _features_of(self, window_BT: Tensor) -> Tensor:
        """Return what the generator thinks of music that it did not write, rounded as what it thinks of its own is."""
        with autocast(self.device):
            features_BTF = self._token_features(self._frozen, window_BT.to(self.device))
        return features_BTF.half().float().cpu()

    def _scores(self, window_MT: Tensor, features_MTF: Tensor) -> tuple[Scores, Scores]:
        """Return the verdicts on the real and on the artificial continuations."""
        real, fake = np.split(verdicts(self.discriminator, window_MT, features_MTF, self._seed_length), 2)
        return real, fake


def corrupted(real_NT: Tokens, count: int, rng: np.random.Generator) -> Tokens:
    """Return what does not follow the first ``count`` seeds: another's continuation, or theirs in a new order.

    Args:
        real_NT: what does follow, two at least.
        count: how many to spoil.
        rng: chooses how.
    """
    corrupted_NT = np.roll(real_NT, 1, axis=0)[:count]
    for row_T, real_T, block in zip(corrupted_NT, real_NT, rng.choice([0, *_BLOCKS], count), strict=False):
        if block:
            parts = np.split(real_T, range(block, len(real_T), block))
            row_T[:] = np.concatenate([parts[i] for i in rng.permutation(len(parts))])
    return corrupted_NT


@torch.no_grad()
def verdicts(discriminator: Discriminator, window_MT: Tensor, features_MTF: Tensor, seed_length: int) -> Scores:
    """Return the verdict on each window, shape (M,)."""
    discriminator.eval()
    device = next(discriminator.parameters()).device
    parts = []
    for window_BT, features_BTF in zip(*(torch.split(x, _AT_ONCE) for x in (window_MT, features_MTF)), strict=True):
        with autocast(device):
            verdict = discriminator(window_BT.to(device), features_BTF.to(device), seed_length)
        parts.append(verdict.whole_B.double().cpu())
    return np.asarray(torch.cat(parts).numpy())
