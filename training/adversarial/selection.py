"""By what the checkpoints of phase 2 are chosen: figures of which none comes from the discriminator that trained.

The classifier is a logistic regression on statistics of what was written, trained
anew for every measurement and scored on pieces that it was not trained on. It
is a two-sample test (Lopez-Paz and Oquab 2017): the nearer to .5, the less
tells the generator's music from real music.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from musebridge.training.compute.precision import product_type
from musebridge.training.metrics.classification import auroc
from musebridge.training.metrics.diversity import distinct
from musebridge.training.metrics.likelihood import nll
from musebridge.training.metrics.two_sample import cross_validated_scores, token_statistics
from musebridge.training.models.generator import Generator
from musebridge.training.sampling.pairs import Pairs
from musebridge.training.sampling.sampler import sample_continuations


class CheckpointSelector:
    """Measures generators, always with the same seeds and noise.

    Args:
        frozen: the pre-trained generator, whose surprise the classifier knows.
        pairs: held-out seeds and their real continuations.
        validation: a packed split, for the likelihood.
        limit: tokens of it to score.
        compile: see ``musebridge.training.sampling.sampler``.
    """

    def __init__(
        self, frozen: Generator, pairs: Pairs, validation: npt.NDArray[np.uint16], limit: int, *, compile: bool
    ) -> None:
        self._frozen, self._pairs, self._validation, self._limit = frozen, pairs, validation, limit
        self._device = next(frozen.parameters()).device
        self._sample = partial(sample_continuations, dtype=product_type(self._device), compile=compile)
        self._real_NF = token_statistics(frozen, self._windows(pairs.real_NT), pairs.seed_NT.shape[1])

    def measure(self, generator: Generator) -> dict[str, float]:
        """Return likelihood, how varied it writes, and how well a new classifier tells its music from real music."""
        context = generator.config.context
        rng = torch.Generator(self._device).manual_seed(0)
        seed_NT, length = torch.from_numpy(self._pairs.seed_NT).to(self._device), self._pairs.real_NT.shape[1]
        fake_NT = self._sample(generator, seed_NT, length, rng).cpu().numpy()
        fake_NF = token_statistics(self._frozen, self._windows(fake_NT), self._pairs.seed_NT.shape[1])
        return {
            "nll": nll(generator, self._validation, warm=context // 2, limit=self._limit),
            "distinct_4": distinct(fake_NT, 4),
            "judge_auroc": auroc(*cross_validated_scores(self._real_NF, fake_NF, self._pairs.piece_N)),
        }

    def _windows(self, part_NT: npt.NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(np.concatenate([self._pairs.seed_NT, part_NT], 1)).to(self._device)
