"""The best sampler setting of a generator, found by successive halving (Jamieson and Talwalkar 2016).

Every setting continues a few seeds; the half whose music a fresh classifier
(``musebridge.training.adversarial.selection``) tells least from real music goes on with twice as
many, until one is left. The seeds are of pieces that no figure is reported on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from musebridge.training.compute.parallel import parallel_map
from musebridge.training.data.tokens import Tokens
from musebridge.training.metrics.classification import auroc
from musebridge.training.metrics.two_sample import cross_validated_scores, token_statistics
from musebridge.training.sampling.pairs import Window
from musebridge.training.sampling.sampler import Truncation
from musebridge.training.study.systems import System, WindowSet

GRID = tuple(
    Truncation(temperature=temperature, top_p=top_p, min_p=min_p)
    for temperature, top_p, min_p in product((0.9, 1.0, 1.1), (1.0, 0.97, 0.92), (0.0, 0.03))
    if (temperature, top_p, min_p) != (1.0, 1.0, 0.0)  # is compared in any case
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A sampler setting, how many windows it was last judged by, and how well they were told from real music."""

    truncation: Truncation
    windows: int
    auroc: float


def sweep(
    plain: System,
    part: WindowSet,
    window: Window,
    folder: Path,
    *,
    first: int = 48,
    grid: tuple[Truncation, ...] = GRID,
    on_progress: Callable[[float], None] = lambda _: None,
) -> list[Tried]:
    """Return every setting, the best first.

    Args:
        plain: the generator.
        part: the windows to choose by.
        window: lengths of seed and continuation.
        folder: where samples are kept.
        first: windows of the first round.
        grid: the settings.
        on_progress: called with the share that is done, 0..1.
    """
    going, dropped, count, rounds = [*grid], list[Tried](), first, len(grid).bit_length() - 1
    for number in range(rounds):

        def tell(share: float, number: int = number) -> None:
            on_progress((number + share) / rounds)

        found = _judged(plain, going, part[:count], window, folder, first, tell)
        better = found[: len(found) // 2]
        dropped = found[len(better) :] + dropped
        going, count = [tried.truncation for tried in better], 2 * count
    return better + dropped


def _judged(
    plain: System,
    settings: list[Truncation],
    part: WindowSet,
    window: Window,
    folder: Path,
    shard: int,
    on_progress: Callable[[float], None],
) -> list[Tried]:
    """Return settings after one round, the best first."""
    real_NF = token_statistics(plain.generator, torch.from_numpy(part.window_NT), window.seed_length)
    told: list[Truncation] = []

    def figures_of(truncation: Truncation) -> npt.NDArray[np.float64]:
        system = replace(plain, name=f"sweep {truncation}", truncation=truncation)
        fake_NT = system.continuations(part, window, folder, shard=shard, workers=1)
        told.append(truncation)
        on_progress(len(told) / len(settings))
        return token_statistics(plain.generator, torch.from_numpy(_joined(part, window, fake_NT)), window.seed_length)

    fakes = parallel_map([partial(figures_of, truncation) for truncation in settings])
    # Judged one after the other: scikit-learn empties the process's list of warning filters while it works.
    found = [
        Tried(
            truncation=truncation,
            windows=len(part),
            auroc=auroc(*cross_validated_scores(real_NF, fake_NF, part.piece_N)),
        )
        for truncation, fake_NF in zip(settings, fakes, strict=True)
    ]
    return sorted(found, key=lambda tried: tried.auroc)


def _joined(part: WindowSet, window: Window, fake_NT: Tokens) -> Tokens:
    joined = part.window_NT.copy()
    joined[:, window.seed_length :] = fake_NT
    return joined
