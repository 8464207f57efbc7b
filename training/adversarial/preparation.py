"""What phase 2 begins with: samples of the frozen generator, a discriminator of them, and perhaps a critic.

All of it is kept in the run's folder, so a preparation that is interrupted goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from musebridge import vocab
from musebridge.errors import ConfigError, CorpusError
from musebridge.training.adversarial import trained_discriminator
from musebridge.training.adversarial.config import AdversarialConfig
from musebridge.training.adversarial.critic_trainer import CriticTrainer
from musebridge.training.adversarial.discriminator_trainer import DiscriminatorTrainer
from musebridge.training.adversarial.objectives import Objective
from musebridge.training.adversarial.pair_trainer import DiscriminatorTraining
from musebridge.training.adversarial.trained_discriminator import TrainedDiscriminator
from musebridge.training.data.corpus import Corpus
from musebridge.training.models import checkpoint
from musebridge.training.models.discriminator import DiscriminatorConfig
from musebridge.training.models.generator import Generator
from musebridge.training.sampling.pairs import Pairs, Window, pairs

_PIECES = 4

OnProgress = Callable[[str, float], None]


class Prepared(NamedTuple):
    """Pairs to learn from, and the trainers of discriminator and critic, which are done; an objective may need none."""

    train: Pairs
    discriminator_trainer: DiscriminatorTrainer
    critic_trainer: CriticTrainer | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """How to sample, and to train a discriminator and a critic.

    Attributes:
        frozen, init_record: the pre-trained generator and how it came to be.
        corpus, folder, shape, training, config, trained, command, compile: see
            :class:`musebridge.training.adversarial.trainer.Adversarial`.
        objective: says what it needs.

    Raises:
        ConfigError: the windows do not fit the generator's context, or what is taken is of another window.
        CorpusError: validation has too few pieces.
    """

    frozen: Generator
    init_record: dict[str, Any]
    corpus: Corpus
    folder: Path
    shape: DiscriminatorConfig
    training: DiscriminatorTraining
    config: AdversarialConfig
    objective: Objective
    trained: TrainedDiscriminator | None
    command: str
    compile: bool

    def __post_init__(self) -> None:
        pieces = int((self.corpus.splits["validation"] == vocab.BEGIN).sum())
        if pieces < _PIECES:
            raise CorpusError(
                f"{self.corpus.folder}: validation has {pieces} pieces, {_PIECES} are needed to choose by some and "
                "report others; prepare more files"
            )
        context = min(self.frozen.config.context, self.shape.context)
        if max(self.window.length, self.config.ce_context) > context:
            raise ConfigError(
                f"seeds and continuations, and ce_context, must fit {context} tokens of context, "
                f"found {self.window.length} and {self.config.ce_context}"
            )
        if self.trained:
            self.trained.check(self.window)

    @property
    def window(self) -> Window:
        """Lengths of seed and continuation."""
        return Window(seed_length=self.config.seed_length, continuation_length=self.config.continuation_length)

    def run(self, on_stage: OnProgress) -> Prepared:
        """Sample and train what the folder does not hold yet.

        Args:
            on_stage: told what is done and its share, 0..1.
        """
        config = self.config
        # Who takes a discriminator as it is and writes anew needs seeds alone.
        is_taken = self.trained is not None and self.trained.was_trained_on(self.frozen)
        learns_from_kept = not is_taken or config.discriminator_lr > 0 or self.objective.learns_from_kept
        train = self._pairs("train", config.pairs, on_stage, written=learns_from_kept)
        held_out = self._pairs("validation", config.held_out, on_stage)
        discriminator_trainer = self._train_discriminator(train, held_out, on_stage)
        critic_trainer = None
        if self.objective.needs_critic:
            critic_trainer = self._train_critic(discriminator_trainer, train, on_stage)
        return Prepared(train, discriminator_trainer, critic_trainer)

    def _pairs(self, split: str, count: int, on_stage: OnProgress, *, written: bool = True) -> Pairs:
        return pairs(
            self.frozen,
            self.corpus.splits[split],
            self.folder / "samples" / split,
            count=count,
            window=self.window,
            seed=self.config.seed,
            written=written,
            compile=self.compile,
            on_progress=lambda share: on_stage(f"sampling {split} continuations", share),
        )

    def _train_discriminator(self, train: Pairs, held_out: Pairs, on_stage: OnProgress) -> DiscriminatorTrainer:
        """Train the discriminator and return its trainer; an objective without one trains none."""
        folder = self.folder / trained_discriminator.FOLDER
        trainer = DiscriminatorTrainer(
            self.frozen, train, held_out, folder, self.shape, self.training,
            command=self.command, seed=self.config.seed, compile=self.compile,
        )  # fmt: skip
        if self.objective.needs_discriminator:
            # Its token features are what the discriminator reads.
            checkpoint.save_generator(folder / checkpoint.WEIGHTS, self.frozen, self.init_record)
            if self.trained:
                was_trained_on = self.trained.was_trained_on(self.frozen)
                (trainer.load_pretrained if was_trained_on else trainer.start_from)(self.trained)
            trainer.run(lambda share: on_stage("training the discriminator", share), lambda row: None)
            trained_discriminator.save(folder / trained_discriminator.FILE, trainer.trained(self.init_record))
        return trainer

    def _train_critic(self, of: DiscriminatorTrainer, train: Pairs, on_stage: OnProgress) -> CriticTrainer:
        """Train the critic and return its trainer; another discriminator's critic stays in another folder."""
        discriminator = of.discriminator.eval().requires_grad_(False)
        trainer = CriticTrainer(
            discriminator, train, of.choosing, self.folder / "critic" / checkpoint.hash_of(discriminator)[:12],
            self.training, command=self.command, seed=self.config.seed, compile=self.compile,
        )  # fmt: skip
        trainer.run(lambda share: on_stage("training the critic", share), lambda row: None)
        return trainer
