"""Phase 2: fine-tune a pre-trained generator until its music is harder to tell from real music.

It begins with samples of the frozen generator, a discriminator trained on them, and where tokens are to be
credited one by one a critic (``musebridge.training.adversarial.preparation``). Then every step gives the generator
the objective's gradient (``musebridge.training.adversarial.objectives``) together with the
likelihood of real music, which keeps it a musician, and the discriminator a
step on new samples and replayed ones, unless it is too good already.
Checkpoints are chosen by figures of ``musebridge.training.adversarial.selection``; the weights
that phase 1 left are the first candidate.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from musebridge.config import build
from musebridge.errors import CheckpointError, ConfigError, one_line
from musebridge.training.adversarial.config import AdversarialConfig, Progress
from musebridge.training.adversarial.objectives import Models, Result, Step, objective_of
from musebridge.training.adversarial.pair_trainer import DiscriminatorTraining
from musebridge.training.adversarial.preparation import OnProgress, Preparation, Prepared
from musebridge.training.adversarial.scorer import DiscriminatorScorer
from musebridge.training.adversarial.selection import CheckpointSelector
from musebridge.training.adversarial.trained_discriminator import TrainedDiscriminator
from musebridge.training.compute.optimizers import take_step
from musebridge.training.compute.precision import autocast
from musebridge.training.data.augment import Augmentation
from musebridge.training.data.corpus import Corpus, Windows
from musebridge.training.metrics.classification import auroc
from musebridge.training.metrics.likelihood import cross_entropy
from musebridge.training.models import checkpoint
from musebridge.training.models.discriminator import Discriminator, DiscriminatorConfig
from musebridge.training.models.generator import count_parameters
from musebridge.training.models.token_features import branched_token_features
from musebridge.training.pretraining.trainer import SCORED_WHILE_TRAINING
from musebridge.training.sampling.pairs import Pairs


class Adversarial:
    """One run, resumed from its folder if it has begun: :meth:`prepare` it, then :meth:`run` it.

    Args:
        corpus: its train split is learnt from; its validation split measures.
        folder: of the run.
        init: the pre-trained generator.
        shape: of the discriminator.
        training: how it is trained before the generator is, and how its verdicts are scored.
        config: how to fine-tune.
        command: how the run was started, for the record in the weights.
        trained: a discriminator to take as it is, or, where it knows another generator, to begin with.
        compile: compile sampling, token features and losses; slower to start, faster to run.

    Raises:
        CheckpointError: ``init`` is no default generator, or cannot be read.
        ConfigError: the windows do not fit the generator's context, or what is taken is of another window.
        CorpusError: validation has too few pieces.
    """

    # Made by prepare().
    prepared: Prepared
    models: Models
    selector: CheckpointSelector
    discriminator_optimizer: torch.optim.Optimizer
    replay_buffer: Tensor

    def __init__(
        self,
        corpus: Corpus,
        folder: Path,
        init: Path,
        shape: DiscriminatorConfig,
        training: DiscriminatorTraining,
        config: AdversarialConfig,
        *,
        command: str,
        trained: TrainedDiscriminator | None = None,
        compile: bool = True,
    ) -> None:
        self.corpus, self.folder, self.config, self.command, self._compile = corpus, folder, config, command, compile
        self.objective = objective_of(config, compile=compile)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.frozen, self.init_record = checkpoint.load(init)
        self.frozen.to(self.device)
        self.preparation = Preparation(
            frozen=self.frozen, init_record=self.init_record, corpus=corpus, folder=folder, shape=shape,
            training=training, config=config, objective=self.objective, trained=trained, command=command,
            compile=compile,
        )  # fmt: skip
        self.generator, self.averaged = deepcopy(self.frozen).requires_grad_(True), deepcopy(self.frozen)
        self.optimizer = torch.optim.AdamW(self.generator.parameters(), lr=config.lr, betas=(0.9, 0.95), weight_decay=0)
        self.real = Windows(
            corpus.splits["train"],
            length=config.ce_context + 1,
            augmentation=Augmentation(transpose=config.transpose),
            seed=config.seed,
        )
        self.progress, self.history, self.best = Progress(), list[dict[str, float]](), self._weights()

    def prepare(self, on_stage: OnProgress = lambda stage, share: None) -> None:
        """Sample, train discriminator and critic, and take up the run where its folder left it; may take an hour.

        Args:
            on_stage: told what is done and its share, 0..1.

        Raises:
            CheckpointError: the folder holds another run, or cannot be written.
            CorpusError: no piece is long enough.
        """
        self.prepared = self.preparation.run(on_stage)
        self.models = self._models()
        self.selector = CheckpointSelector(
            self.frozen,
            self.prepared.discriminator_trainer.choosing[slice(0, self.config.eval_pairs)],
            self.corpus.splits["validation"],
            SCORED_WHILE_TRAINING,
            compile=self._compile,
        )
        self.discriminator_optimizer = torch.optim.AdamW(
            self.discriminator.parameters(), lr=self.config.discriminator_lr, betas=(0.5, 0.95)
        )
        self.replay_buffer = torch.from_numpy(self.train.fake_NT).to(torch.int16)
        self._resume(checkpoint.load_state(self.folder))

    def _models(self) -> Models:
        compiled: Callable[[Any], Any] = torch.compile if self._compile else lambda what: what
        discriminator = self.discriminator.eval().requires_grad_(False)
        return Models(
            generator=self.generator,
            frozen=self.frozen,
            discriminator=discriminator,
            scorer=DiscriminatorScorer(
                discriminator=compiled(discriminator),
                generator=self.frozen,
                features_of=compiled(branched_token_features),
            ),
            critic_trainer=self.prepared.critic_trainer,
            compile=self._compile,
        )

    @property
    def train(self) -> Pairs:
        """The pairs that are learnt from."""
        return self.prepared.train

    @property
    def discriminator(self) -> Discriminator:
        """What the generator is trained against."""
        return self.prepared.discriminator_trainer.discriminator

    @property
    def fraction(self) -> float:
        """The share of the budget that is used up, 0..1 and beyond."""
        if self.config.tokens:
            return self.progress.tokens / self.config.tokens
        return self.progress.seconds / self.config.seconds

    @property
    def has_ended(self) -> bool:
        """Whether the budget is used up, a limit was crossed, or nothing gets better any more."""
        since_best = len(self.history) - 1 - self._best_index
        return self.fraction >= 1 or self.progress.over or 0 < self.config.patience <= since_best

    @property
    def best_row(self) -> dict[str, float]:
        """The measurement of the weights that are saved."""
        return self.history[self._best_index]

    @property
    def _best_index(self) -> int:
        taken = [i for i, row in enumerate(self.history) if row["taken"]]
        return taken[-1] if taken else -1

    def run(self, on_step: Callable[[Progress], None], on_row: Callable[[dict[str, float]], None]) -> None:
        """Fine-tune to the end; interrupted at any step, it leaves a checkpoint.

        Args:
            on_step: called after each step.
            on_row: called with each measurement; the first is of the pre-trained generator.
        """

        def measure() -> None:
            self._measure()
            on_row(self.history[-1])

        try:
            if not self.history:
                measure()
            saved_s = measured_s = self.progress.seconds
            while not self.has_ended:
                self.step()
                on_step(self.progress)
                if is_due := self.progress.seconds - measured_s >= self.config.validate_s or self.fraction >= 1:
                    measured_s = self.progress.seconds
                    measure()
                if is_due or self.progress.seconds - saved_s >= self.config.save_s:
                    saved_s = self.progress.seconds
                    self.save()
        finally:
            self.save()

    def step(self) -> None:
        """Take one step of generator and discriminator, and count it."""
        start_s, step = time.monotonic(), self.progress.step
        rise, fall = min(1.0, (step + 1) / max(1, self.config.warmup_steps)), max(0.0, 1 - self.fraction)
        for optimizer, lr in zip(self._optimizers, (self.config.lr, self.config.discriminator_lr), strict=True):
            optimizer.param_groups[0]["lr"] = lr * rise * fall
        at = np.arange(step * self.config.batch, (step + 1) * self.config.batch) % len(self.train)
        self._optimize(at)
        self.progress.step += 1
        self.progress.tokens += self.config.batch * self.config.continuation_length
        self.progress.seconds += time.monotonic() - start_s

    def _optimize(self, at: npt.NDArray[np.int64]) -> None:
        config = self.config
        asked = [self._ask(part, at_part) for part, at_part in enumerate(np.split(at, config.grad_accumulation))]
        self._note("loss", torch.stack([part.loss for part in asked]).mean())
        verdicts = [part.verdict for part in asked if part.verdict is not None]
        if verdicts:
            self._note("verdict", torch.stack(verdicts).mean())
        if config.ce_weight:
            first = self.progress.step * config.ce_batch
            real_BT = torch.from_numpy(np.stack([self.real.window(first + i) for i in range(config.ce_batch)]))
            with autocast(self.device):
                nats = cross_entropy(self.generator, real_BT.to(self.device))
            (config.ce_weight * nats).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            self._note("nll", nats)
        take_step(self.generator, [self.optimizer], config.clip)
        with torch.no_grad():
            torch._foreach_lerp_([*self.averaged.parameters()], [*self.generator.parameters()], 1 - config.ema)
        written = [part.written_BT.cpu() for part in asked if part.written_BT is not None]
        if written and config.discriminator_lr:
            self._train_on(at, torch.cat(written))

    def _ask(self, part: int, at: npt.NDArray[np.int64]) -> Result:
        """Return what the objective says of a part of a step's pairs; the generator keeps its share of the gradient."""
        config = self.config
        torch.manual_seed(int(np.random.SeedSequence([config.seed, 5, self.progress.step, part]).generate_state(1)[0]))
        with autocast(self.device):
            asked = self.objective(self.models, Step(self.train[at], at, min(1.0, self.fraction)))
        (config.weight / config.grad_accumulation * asked.loss).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return asked._replace(loss=asked.loss.detach())

    def _note(self, name: str, value: Tensor) -> None:
        """Take a figure of this step into its running mean."""
        before, now = getattr(self.progress, name), value.item()
        setattr(self.progress, name, now if math.isnan(before) else 0.95 * before + 0.05 * now)

    def _train_on(self, at: npt.NDArray[np.int64], written_BT: Tensor) -> None:
        """Train the discriminator a step on new samples and replayed ones, unless it is too good."""
        progress, pairs_B, slots = self.progress, self.train[at], torch.from_numpy(at)
        is_old_B = torch.rand(len(slots)) < self.config.replay
        fake_BT = torch.where(is_old_B[:, None], self.replay_buffer[slots].long(), written_BT)
        self.replay_buffer[slots] = written_BT.to(torch.int16)
        seed_MT = torch.from_numpy(pairs_B.seed_NT).repeat(2, 1).to(self.device)
        part_MC = torch.cat([torch.from_numpy(pairs_B.real_NT), fake_BT]).to(self.device)
        window_MT = torch.cat([seed_MT, part_MC], 1)
        verdict_M, features_MTF = self.models.scorer.score(seed_MT, part_MC)
        real_B, fake_B = verdict_M.double().cpu().chunk(2)
        progress.discriminator_auroc += 0.1 * (auroc(real_B.numpy(), fake_B.numpy()) - progress.discriminator_auroc)
        if progress.discriminator_auroc > self.config.pause_above:
            progress.paused += 1
            return
        self.discriminator.train().requires_grad_(True)
        with autocast(self.device):
            given = self.discriminator, window_MT, features_MTF, self.config.seed_length
            loss = self.prepared.discriminator_trainer.loss(*given)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        take_step(self.discriminator, [self.discriminator_optimizer], self.config.clip)
        self.discriminator.eval().requires_grad_(False)

    @property
    def _optimizers(self) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
        return self.optimizer, self.discriminator_optimizer

    def _measure(self) -> None:
        row = {**asdict(self.progress), **self.selector.measure(self.averaged)}
        first = self.history[0] if self.history else row
        self.progress.over = (
            row["nll"] > first["nll"] + self.config.nll_rise
            or row["distinct_4"] < self.config.distinct * first["distinct_4"]
        )
        best = min((earlier["judge_auroc"] for earlier in self.history if earlier["taken"]), default=float("inf"))
        row["taken"] = not self.progress.over and row["judge_auroc"] < best + self.config.tolerance
        self.history.append(row)
        if row["taken"]:
            self.best = self._weights()

    def _weights(self) -> dict[str, Tensor]:
        return {name: weight.detach().clone() for name, weight in self.averaged.state_dict().items()}

    def save(self) -> None:
        """Write the resumable state, and the best generator."""
        state = {
            "begun": self._begun,
            "generator": self.generator.state_dict(),
            "averaged": self.averaged.state_dict(),
            "best": self.best,
            "discriminator": self.discriminator.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "replay_buffer": self.replay_buffer,
            "progress": asdict(self.progress),
            "history": self.history,
        }
        checkpoint.save_state(self.folder, state)
        shipped = deepcopy(self.averaged)
        shipped.load_state_dict(self.best)
        checkpoint.save_generator(self.folder / checkpoint.WEIGHTS, shipped, self.record(), torch.bfloat16)

    def record(self) -> dict[str, Any]:
        """Return how these weights came to be: what a model card states."""
        return {
            "command": self.command,
            "corpus": {"name": self.corpus.card["name"], "sha256": self.corpus.sha256},
            "licence": self.corpus.card["licence"],
            "parameters": count_parameters(self.generator),
            "adversarial": asdict(self.config),
            "discriminator": asdict(self.discriminator.config),
            **asdict(self.progress),
            "validation_nll": self.best_row["nll"] if self.history else float("nan"),
            "warm_context": self.generator.config.context // 2,
            "history": self.history,
            "init": self.init_record,
            "torch": torch.__version__,
        }

    @property
    def _begun(self) -> list[Any]:
        """What a run must not change."""
        config = self.config
        window = config.seed_length, config.continuation_length
        return [self.corpus.sha256, config.objective, *window, len(self.train)]

    def _resume(self, state: dict[str, Any] | None) -> None:
        if state is None:
            return
        try:
            if state["begun"] != self._begun:
                raise CheckpointError(f"{self.folder}: holds another run; choose another --run folder")
            for name in ("generator", "averaged", "discriminator"):
                getattr(self, name).load_state_dict(state[name])
            for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            self.best = state["best"]
            if state["replay_buffer"].numel():  # nothing, where the discriminator learnt nothing so far
                self.replay_buffer = state["replay_buffer"]
            self.progress, self.history = Progress(**state["progress"]), state["history"]
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"{self.folder / checkpoint.STATE}: is not the state of a run ({one_line(error)}); "
                "remove it to start the run anew"
            ) from error


def begin(
    corpus: Corpus,
    folder: Path,
    init: Path,
    tables: dict[str, Any],
    budget: dict[str, float],
    *,
    command: str,
    trained: TrainedDiscriminator | None = None,
    compile: bool = True,
) -> Adversarial:
    """Return a run by its TOML tables; a discriminator without a shape of its own takes the generator's.

    Args:
        corpus, folder, init, command, trained, compile: see :class:`Adversarial`.
        tables: ``adversarial``, ``discriminator`` (its shape) and ``discrimination`` (its training).
        budget: ``tokens`` or ``seconds``.

    Raises:
        ConfigError: a table or key is unknown, or a value does not fit.
    """
    known = ("adversarial", "discriminator", "discrimination")
    if unknown := set(tables) - set(known):
        raise ConfigError(f"unknown table {sorted(unknown)[0]!r}; known are {', '.join(known)}")
    own, shape, training_table = (tables.get(name, {}) for name in known)
    config = build(AdversarialConfig, {**own, **budget} if isinstance(own, dict) else own, known[0])
    training = build(DiscriminatorTraining, training_table, known[2])
    widths = asdict(checkpoint.load(init)[0].config)
    discriminator = build(DiscriminatorConfig, {**widths, **shape} if isinstance(shape, dict) else shape, known[1])
    if trained:
        if shape:
            raise ConfigError("a discriminator that is given has a shape: leave the table discriminator away")
        discriminator = trained.discriminator.config
    given = corpus, folder, init, discriminator, training, config
    return Adversarial(*given, command=command, trained=trained, compile=compile)
