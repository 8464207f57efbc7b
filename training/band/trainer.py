"""The one trainer of all systems of a band."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from musebridge.config import at_least, build
from musebridge.errors import ConfigError
from musebridge.training.band.corpus import Piece, Sampler, read_pieces
from musebridge.training.band.registry import WEIGHTS, create
from musebridge.training.band.system import System, batch_of
from musebridge.training.models.checkpoint import load_state, save_state, save_weights

LOG = "band.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class BandTraining:
    """What is trained on, and how long.

    Attributes:
        sources: beginnings of paths within the folder of MIDI files; with ``-`` before it, one is left out.
        steps: updates in all; the learning rate is planned for these.
        batch: windows of an update.
        transpose: whether each window is moved to a key of its own.
        eval_every: updates between two validations and checkpoints.
        eval_batches: batches of a validation.
        seed: of weights and draws.
    """

    sources: list[str]
    steps: int = 2000
    batch: int = 64
    transpose: bool = True
    eval_every: int = 100
    eval_batches: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(self, 1, "steps", "batch", "eval_every", "eval_batches")


class BandTrainer:
    """Trains a system of the configured kind in a run folder; the same command resumes it.

    Raises:
        ConfigError: the config does not fit.
        CorpusError: the folder has nothing that a band learns from.
    """

    def __init__(self, folder: Path, run: Path, table: dict[str, Any], on_progress: Callable[[float], None]) -> None:
        unknown = set(table) - {"data", "system", "training"}
        if unknown:
            raise ConfigError(f"unknown table {sorted(unknown)[0]!r}; a band's are data, system, training")
        self.config = build(BandTraining, table.get("data", {}), "data")
        self.table, self.run = table, run
        torch.manual_seed(self.config.seed)
        self.system: System = create(table.get("system", {}), table.get("training", {}))
        self.step, self.best, self.seconds = 0, float("inf"), 0.0
        self._resume()
        pieces = read_pieces(folder, self.config.sources, ("train", "validation"), on_progress)
        self._train = self._sampler(pieces, "train", self.config.seed + self.step)
        validation = self._sampler(pieces, "validation", 1234)
        self._validation = [
            batch_of(validation.draw(self.config.batch, transpose=False)) for _ in range(self.config.eval_batches)
        ]
        again = self._sampler(pieces, "train", 1234)
        self._seen = [batch_of(again.draw(self.config.batch, transpose=False)) for _ in range(self.config.eval_batches)]

    def _sampler(self, pieces: list[Piece], split: str, seed: int) -> Sampler:
        sampler = Sampler([piece for piece in pieces if piece.split == split], seed)
        if not len(sampler):
            raise ConfigError(f"data: the {split} split has no four bars of 4/4 in a row; name more sources")
        return sampler

    def train(
        self, seconds: float = float("inf"), on_step: Callable[[int, dict[str, float]], None] = lambda *_: None
    ) -> None:
        """Train until the configured steps are done, or for some seconds."""
        begun, before = time.monotonic(), self.seconds
        while self.step < self.config.steps and time.monotonic() - begun < seconds:
            batch = batch_of(self._train.draw(self.config.batch, transpose=self.config.transpose))
            figures = self.system.update(batch, self.step / self.config.steps)
            self.step += 1
            self.seconds = before + time.monotonic() - begun
            on_step(self.step, figures)
            if self.step % self.config.eval_every == 0 or self.step == self.config.steps:
                self._save(figures)
        self._save({})

    def _validated(self) -> dict[str, float]:
        sets = {"train_nll": self._seen, "validation_nll": self._validation}
        found = {name: [self.system.nll(batch) for batch in batches] for name, batches in sets.items()}
        return {
            name: sum(x for x in each if x is not None) / len(each) for name, each in found.items() if None not in each
        }

    def _save(self, figures: dict[str, float]) -> None:
        validated = self._validated()
        record = {"step": self.step, "seconds": round(self.seconds, 1), **validated}
        with (self.run / LOG).open("a", encoding="utf-8") as log:
            log.write(json.dumps({**record, **figures}) + "\n")
        state = {
            "system": self.system.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.system.optimizers()],
            "step": self.step, "best": self.best, "seconds": self.seconds, "table": json.dumps(self.table),
        }  # fmt: skip
        save_state(self.run, state)
        metadata = {"config": json.dumps(self.table), "record": json.dumps(record)}
        score = validated.get("validation_nll")
        if score is None or score < self.best:
            self.best = self.best if score is None else score
            save_weights(self.run / WEIGHTS, self.system.player, metadata)

    def _resume(self) -> None:
        self.run.mkdir(parents=True, exist_ok=True)
        if state := load_state(self.run):
            if json.loads(state["table"]) != self.table:
                raise ConfigError(f"{self.run}: was begun with another config; name another run folder")
            self.system.load_state_dict(state["system"])
            for optimizer, saved in zip(self.system.optimizers(), state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            self.step, self.best, self.seconds = state["step"], state["best"], state["seconds"]
