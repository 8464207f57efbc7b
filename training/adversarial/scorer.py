"""A discriminator with the generator whose token features it reads: how real continuations are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from musebridge.errors import CheckpointError, ConfigError
from musebridge.training.adversarial import trained_discriminator
from musebridge.training.adversarial.trained_discriminator import TrainedDiscriminator
from musebridge.training.compute.precision import autocast
from musebridge.training.models.checkpoint import load
from musebridge.training.models.discriminator import Discriminator
from musebridge.training.models.generator import Generator
from musebridge.training.models.token_features import branched_token_features
from musebridge.training.sampling.pairs import Window

_AT_ONCE = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscriminatorScorer:
    """A discriminator and the generator whose token features it reads: how real continuations are.

    Attributes:
        discriminator: in evaluation mode.
        generator: the generator.
        features_of: ``musebridge.training.models.token_features.branched_token_features``, perhaps compiled.
    """

    discriminator: Discriminator
    generator: Generator
    features_of: Callable[[Generator, Tensor, Tensor], Tensor] = branched_token_features

    def __call__(self, seed_BT: Tensor, written_MC: Tensor) -> Tensor:
        """Return how real each continuation is, (M,); see :meth:`score`."""
        return self.score(seed_BT, written_MC)[0]

    @torch.no_grad()
    def score(self, seed_BT: Tensor, written_MC: Tensor) -> tuple[Tensor, Tensor]:
        """Return how real each continuation is, (M,), and the token features of seeds and continuations, (M, T + C, 3).

        Args:
            seed_BT: token ids.
            written_MC: M / B continuations of each seed, side by side.
        """
        n = len(written_MC) // len(seed_BT)
        rows = max(1, _AT_ONCE // n)
        verdicts, token_features = [], []
        for some_BT, some_MC in zip(torch.split(seed_BT, rows), torch.split(written_MC, rows * n), strict=True):
            with autocast(seed_BT.device):
                token_features.append(self.features_of(self.generator, some_BT, some_MC))
                window_MT = torch.cat([some_BT.repeat_interleave(n, 0), some_MC], 1)
                verdicts.append(self.discriminator(window_MT, token_features[-1], seed_BT.shape[1]).whole_B)
        return torch.cat(verdicts), torch.cat(token_features)


def load_scorer(folder: Path, window: Window) -> DiscriminatorScorer:
    """Return the discriminator that phase 2 left in a folder, its own or the run's.

    Raises:
        CheckpointError: there is none, or the windows do not fit it.
    """
    inner = folder / trained_discriminator.FOLDER
    folder = inner if inner.is_dir() else folder
    discriminator, generator = trained_discriminator.load(folder).discriminator, load(folder)[0]
    longest = discriminator.config.context
    if window.length > longest:
        raise CheckpointError(f"{folder}: windows of at most {longest} tokens fit the discriminator, found {window}")
    return DiscriminatorScorer(discriminator=discriminator, generator=generator)


def scorer_of(trained: TrainedDiscriminator, generators: Iterable[Generator], window: Window) -> DiscriminatorScorer:
    """Return a discriminator that was trained before, with that of the generators that it was trained on.

    Raises:
        ConfigError: it was trained on none of them, or knows other windows.
    """
    trained.check(window)
    generator = next((each for each in generators if trained.was_trained_on(each)), None)
    if generator is None:
        raise ConfigError("the discriminator was taught on another generator than those that are compared")
    return DiscriminatorScorer(discriminator=trained.discriminator, generator=generator)
