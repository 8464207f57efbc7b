"""Phase 1: next-token training on a packed corpus.

Matrices inside the blocks are trained by Muon (Jordan et al. 2024), embedding
and head by AdamW (Loshchilov and Hutter 2019). The learning rate warms up, stays, and falls linearly to zero
at the end of the budget (Hu et al. 2024, "MiniCPM", the WSD schedule), which is
counted in tokens or in seconds of training.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from musebridge.config import at_least, build, more_than
from musebridge.errors import CheckpointError, ConfigError, CorpusError, one_line
from musebridge.training.compute.distributed import Distributed
from musebridge.training.compute.optimizers import optimizers_of, set_rates, take_step
from musebridge.training.compute.precision import autocast
from musebridge.training.data.augment import Augmentation
from musebridge.training.data.corpus import Corpus, Mixture, Windows
from musebridge.training.metrics.likelihood import cross_entropy, nll
from musebridge.training.models import checkpoint
from musebridge.training.models.generator import Generator, count_parameters, deepen
from musebridge.training.models.registry import AnyGenerator, Shape, create, shape_from, table_of

SCORED_WHILE_TRAINING = 65_536
_SAVED = torch.bfloat16
_OPTIMIZERS = ("muon", "adamw")


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainConfig:
    """How to train; the budget ends at ``tokens`` or ``seconds``, whichever is set.

    Attributes:
        batch: windows a step; each is one context long.
        optimizer: of the matrices, ``muon``, or ``adamw`` as for the rest.
        muon_lr, adam_lr: peak learning rates of the two.
        warmup_steps: linear rise of the learning rate.
        decay: the last share of the budget, in which it falls to zero.
        ema: keep an exponential moving average of the weights that forgets 1 - ``ema`` a step; it
            is what is validated and saved. 0 for none.
        patience: end after this many validations without a new best, with the best weights; 0 for never.
        transpose, stretch, velocity_shift, repeat: see :class:`Augmentation`.
        validate_s, save_s: seconds between validations and between checkpoints.
    """

    tokens: int = 0
    seconds: float = 0.0
    batch: int = 8
    optimizer: str = "muon"
    muon_lr: float = 0.02
    adam_lr: float = 3e-3
    weight_decay: float = 0.1
    clip: float = 1.0
    warmup_steps: int = 100
    decay: float = 0.4
    ema: float = 0.0
    patience: int = 0
    transpose: int = 5
    stretch: float = 0.0
    velocity_shift: int = 0
    repeat: float = 0.0
    seed: int = 0
    validate_s: float = 300.0
    save_s: float = 120.0

    def __post_init__(self) -> None:
        if (self.tokens > 0) == (self.seconds > 0):
            raise ConfigError("give the budget either as tokens or as seconds, more than 0")
        if not 0 < self.decay <= 1:
            raise ConfigError(f"decay must be more than 0 and at most 1, found {self.decay}")
        if not self.ema < 1:
            raise ConfigError(f"ema must be less than 1, found {self.ema}")
        if self.optimizer not in _OPTIMIZERS:
            raise ConfigError(f"optimizer must be one of {', '.join(_OPTIMIZERS)}, found {self.optimizer!r}")
        more_than(self, 0, "clip")
        at_least(self, 1, "batch")
        at_least(self, 0, "muon_lr", "adam_lr", "weight_decay", "warmup_steps", "ema")
        at_least(self, 0, "patience", "seed", "validate_s", "save_s")
        _ = self.augmentation  # checks its own ranges

    @property
    def augmentation(self) -> Augmentation:
        """How windows are moved."""
        return Augmentation(
            transpose=self.transpose, stretch=self.stretch, velocity_shift=self.velocity_shift, repeat=self.repeat
        )


@dataclass(slots=True)
class Progress:
    """Where a run stands; part of its checkpoint."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    train_nll: float = float("nan")
    validation_nll: float = float("nan")

    @property
    def tokens_per_s(self) -> float:
        """The rate of training so far."""
        return self.tokens / max(self.seconds, 1e-9)


class Pretraining:
    """One run: model, optimizers, data and progress, resumed from its folder if it has begun.

    Args:
        corpus: what to train and validate on.
        mixed: more corpora to train on, and the share of the windows that come from each.
        folder: of the run.
        shape: of the generator.
        config: how to train.
        init: weights to begin with instead of random ones, of the same shape but for the context; of fewer layers, they
            get new ones that add nothing at first.
        compile: compile the loss; slower to start, faster to run.

    Raises:
        CheckpointError: the folder holds a run of another shape or corpus, or ``init`` does not fit.
        CorpusError: a split is too short for windows of this context, or the shares leave no room for ``corpus``.
    """

    def __init__(
        self,
        corpus: Corpus,
        folder: Path,
        shape: Shape,
        config: PretrainConfig,
        *,
        mixed: Sequence[tuple[Corpus, float]] = (),
        init: Path | None = None,
        compile: bool = True,
    ) -> None:
        _check_validation(corpus, shape.context)
        self.corpus, self.mixed, self.folder, self.config = corpus, mixed, folder, config
        self.distributed = Distributed.init()
        self.distributed.shard(0, config.batch)  # refuses what cannot be shared
        self.device = self.distributed.device
        torch.manual_seed(config.seed)
        self.generator = create(shape).to(self.device)
        muon_lr = config.muon_lr if config.optimizer == "muon" else None
        self.optimizers = optimizers_of(
            self.generator, self.generator.blocks, muon_lr, config.adam_lr, config.weight_decay
        )
        shares = [1 - sum(share for _, share in mixed), *(share for _, share in mixed)]
        parts = [
            Windows(each.splits["train"], length=shape.context + 1, augmentation=config.augmentation, seed=config.seed)
            for each in (corpus, *(other for other, _ in mixed))
        ]
        self.windows = Mixture(parts, shares, seed=config.seed)
        self.progress = Progress()
        self.history: list[dict[str, float]] = []
        self.init_record: dict[str, Any] | None = None
        self.averaged: AnyGenerator | None = None
        self.best: dict[str, Tensor] = {}
        self._loss = torch.compile(cross_entropy) if compile else cross_entropy
        state = checkpoint.load_state(folder)
        if state is None and init is not None:
            self._begin_with(init)
        if config.ema:
            self.averaged = deepcopy(self.generator)
        if state is not None:
            self._resume(state)

    def run(self, command: str, on_step: Callable[[Progress], None], on_validation: Callable[[Progress], None]) -> None:
        """Train to the end of the budget; interrupted at any step, it leaves a checkpoint.

        Args:
            command: how the run was started, for the record in the weights.
            on_step: called after each optimizer step.
            on_validation: called after each validation.
        """
        saved_s = validated_s = self.progress.seconds
        with self._saved_at_exit(command):
            while self.fraction < 1 and not self.has_stalled:
                self.step()
                on_step(self.progress)
                if self.progress.seconds - validated_s >= self.config.validate_s:
                    validated_s = self.progress.seconds
                    self.validate()
                    on_validation(self.progress)
                if self.progress.seconds - saved_s >= self.config.save_s:
                    saved_s = self.progress.seconds
                    self.save(command)
            if self.config.patience:
                self.validate()
                self.shipped.load_state_dict(self.best)
            self._round()
            self.validate(whole=True)
            on_validation(self.progress)

    @property
    def fraction(self) -> float:
        """The share of the budget that is used up, 0..1 and beyond."""
        if self.config.tokens:
            return self.progress.tokens / self.config.tokens
        return self.progress.seconds / self.config.seconds

    @property
    def shipped(self) -> AnyGenerator:
        """What is validated and saved: the average of the weights where one is kept."""
        return self.generator if self.averaged is None else self.averaged

    @property
    def has_stalled(self) -> bool:
        """Whether ``patience`` validations have gone by without a new best."""
        nlls = [row["validation_nll"] for row in self.history]
        since_best = len(nlls) - 1 - nlls.index(min(nlls)) if nlls else 0
        return 0 < self.config.patience <= since_best

    def validate(self, *, whole: bool = False) -> None:
        """Measure validation NLL on a sample of the split, or on the whole of it."""
        measured = float("nan")
        if self.distributed.is_main:
            limit = None if whole else SCORED_WHILE_TRAINING
            warm = self.shipped.config.context // 2
            self.shipped.eval()
            measured = nll(self.shipped, self.corpus.splits["validation"], warm=warm, limit=limit)
            self.shipped.train()
        self.progress.validation_nll = self.distributed.broadcast(measured)
        self.history.append(asdict(self.progress))
        if self.config.patience and measured <= min(row["validation_nll"] for row in self.history):
            self.best = {name: weight.clone() for name, weight in self.shipped.state_dict().items()}

    def save(self, command: str) -> None:
        """Write the resumable state and the generator."""
        if not self.distributed.is_main:
            return
        state = {
            "shape": table_of(self.generator.config),
            "corpus": self._data,
            "generator": self.generator.state_dict(),
            "averaged": self.averaged.state_dict() if self.averaged else {},
            "best": self.best,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "progress": asdict(self.progress),
            "history": self.history,
            "init_record": self.init_record,
        }
        checkpoint.save_state(self.folder, state)
        weights = self.folder / checkpoint.WEIGHTS
        checkpoint.save_generator(weights, self.shipped, self.record(command), _SAVED)

    def record(self, command: str) -> dict[str, Any]:
        """Return how these weights came to be: what a model card states."""
        return {
            "command": command,
            "corpus": {"name": self.corpus.card["name"], "sha256": self.corpus.sha256},
            "mixed": [
                {"name": other.card["name"], "sha256": other.sha256, "share": share, "licence": other.card["licence"]}
                for other, share in self.mixed
            ],
            "licence": self.corpus.card["licence"],
            "parameters": count_parameters(self.generator),
            "pretrain": asdict(self.config),
            **asdict(self.progress),
            "warm_context": self.generator.config.context // 2,
            "history": self.history,
            "init": self.init_record,
            "torch": torch.__version__,
        }

    @torch.no_grad()
    def _round(self) -> None:
        """Round the weights as they are saved, so that the last validation is of just these."""
        for parameter in self.shipped.parameters():
            parameter.copy_(parameter.to(_SAVED))

    def step(self) -> None:
        """Take one optimizer step and count it."""
        start_s = time.monotonic()
        loss = self._optimize()
        progress = self.progress
        progress.step += 1
        progress.tokens += self.config.batch * self.generator.config.context
        progress.seconds = self.distributed.broadcast(progress.seconds + time.monotonic() - start_s)
        progress.train_nll = loss if progress.step == 1 else 0.98 * progress.train_nll + 0.02 * loss

    def _optimize(self) -> float:
        factor = learning_rate_factor(self.config, self.progress.step, self.fraction)
        set_rates(self.optimizers, factor)
        first, count = self.distributed.shard(self.progress.step * self.config.batch, self.config.batch)
        window_BT = torch.from_numpy(self.windows.batch(first, count)).to(self.device)
        with autocast(self.device):
            loss: Tensor = self._loss(self.generator, window_BT)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        loss = self.distributed.average(self.generator, loss)
        take_step(self.generator, self.optimizers, self.config.clip)
        if self.averaged is not None:
            with torch.no_grad():
                torch._foreach_lerp_([*self.averaged.parameters()], [*self.generator.parameters()], 1 - self.config.ema)
        return loss.item()

    @contextmanager
    def _saved_at_exit(self, command: str) -> Iterator[None]:
        try:
            yield
        finally:
            self.save(command)

    def _begin_with(self, path: Path) -> None:
        trained, self.init_record = checkpoint.load_generator(path)
        found, n_layers = trained.config, self.generator.config.n_layers
        if isinstance(trained, Generator) and found.n_layers < n_layers:
            trained = deepen(trained, n_layers)
        try:
            self.generator.load_state_dict(trained.state_dict())
        except RuntimeError as error:
            raise CheckpointError(f"{path}: has another shape than this run: {found}") from error

    @property
    def _data(self) -> list[Any]:
        """What is trained on, as far as a run must not change it."""
        return [self.corpus.sha256, *([other.sha256, share] for other, share in self.mixed)]

    def _resume(self, state: dict[str, Any]) -> None:
        """Take up the run where its folder left it."""
        try:
            if shape_from(state["shape"], str(self.folder)) != self.generator.config or state["corpus"] != self._data:
                raise CheckpointError(
                    f"{self.folder}: holds a run of another shape or corpus; choose another --run folder"
                )
            self.generator.load_state_dict(state["generator"])
            if self.averaged is not None:
                self.averaged.load_state_dict(state["averaged"] or state["generator"])
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            self.best = state["best"]
            self.progress = Progress(**state["progress"])
            self.history = state["history"]
            self.init_record = state["init_record"]
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"{self.folder / checkpoint.STATE}: is not the state of a run ({one_line(error)}); "
                "remove it to start the run anew"
            ) from error


def _check_validation(corpus: Corpus, context: int) -> None:
    """Refuse at the start what could not be measured at the end."""
    found = len(corpus.splits["validation"])
    if found <= context:
        raise CorpusError(
            f"{corpus.folder}: validation has {found} tokens, a context of {context} needs more; prepare more files"
        )


def learning_rate_factor(config: PretrainConfig, step: int, fraction: float) -> float:
    """Return the learning rate as a share of its peak at ``fraction`` of the budget."""
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    return warm * min(1.0, max(0.0, (1 - fraction) / config.decay))


def begin(
    corpus: Corpus,
    folder: Path,
    tables: dict[str, Any],
    budget: dict[str, float],
    *,
    mixed: Sequence[tuple[Corpus, float]] = (),
    init: Path | None = None,
    compile: bool = True,
) -> Pretraining:
    """Begin or resume a run by its TOML tables; what the generator's does not say is as in ``init``.

    Args:
        corpus, folder, mixed, init, compile: see :class:`Pretraining`.
        tables: ``generator`` (its shape) and ``pretrain``.
        budget: ``tokens`` or ``seconds``.

    Raises:
        ConfigError: a key is unknown, or a value does not fit.
    """
    own, shape = (tables.get(name, {}) for name in ("pretrain", "generator"))
    config = build(PretrainConfig, {**own, **budget} if isinstance(own, dict) else own, "pretrain")
    base = table_of(checkpoint.load_generator(init)[0].config) if init else {}
    generator = shape_from({**base, **shape} if isinstance(shape, dict) else shape, "generator")
    return Pretraining(corpus, folder, generator, config, mixed=mixed, init=init, compile=compile)
