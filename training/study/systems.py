"""Systems that continue the same seeds, and the seeds: pieces that chose nothing.

Of a split, the even pieces may choose (the weights in phase 2, the best sampler
setting); what is reported is of the odd ones. A system is a generator and how it
is sampled. What it wrote is kept on disk, a shard at a time, under a name that
tells everything it depends on, so an interrupted comparison goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from musebridge import vocab
from musebridge.errors import CorpusError
from musebridge.training.adversarial.scorer import DiscriminatorScorer
from musebridge.training.compute.parallel import parallel_map
from musebridge.training.compute.precision import product_type
from musebridge.training.data.tokens import Tokens
from musebridge.training.models import checkpoint
from musebridge.training.models.generator import Generator
from musebridge.training.sampling.best_of_n import ranked, scored
from musebridge.training.sampling.pairs import Window, fingerprint, kept, starts_within_pieces
from musebridge.training.sampling.sampler import NONE, Truncation, sample_continuations

SHARD = 128
_MORE = 8192

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowSet:
    """Real windows of a split, and the piece that each is from."""

    window_NT: Tokens
    piece_N: Tokens

    def __len__(self) -> int:
        return len(self.piece_N)

    def __getitem__(self, chosen: Bools | slice) -> WindowSet:
        return WindowSet(window_NT=self.window_NT[chosen], piece_N=self.piece_N[chosen])


@dataclass(frozen=True, slots=True, kw_only=True)
class Music:
    """Real music to compare with.

    Attributes:
        choosing: windows by which something may be chosen.
        reported: those that all systems are measured by, of other pieces.
        more: of all pieces, only for judges to learn from what real music is.
        window: lengths of seed and continuation.
    """

    choosing: WindowSet
    reported: WindowSet
    more: WindowSet
    window: Window


def real_music(tokens: npt.NDArray[np.uint16], window: Window, count: int) -> Music:
    """Cut a split into windows that do not overlap; the first come from as many pieces as there are.

    Args:
        tokens: a packed split.
        window: lengths of seed and continuation.
        count: windows to report, or as many as there are.

    Raises:
        CorpusError: there are too few pieces, or they are too short.
    """
    starts = starts_within_pieces(tokens, window.length, seed=0)
    piece_N = np.cumsum(tokens == vocab.BEGIN)[starts]
    evenly = np.argsort(_earlier_of_its_piece(piece_N), kind="stable")
    starts, piece_N = starts[evenly], piece_N[evenly]
    may_choose_N = piece_N % 2 == 0
    for what, found_N in (("even", may_choose_N), ("odd", ~may_choose_N)):
        if len(np.unique(piece_N[found_N])) < 2:
            raise CorpusError(f"2 {what} pieces of {window.length} tokens or more are needed; prepare longer pieces")
    window_NT = np.stack([tokens[start : start + window.length] for start in starts]).astype(np.int64)
    every = WindowSet(window_NT=window_NT, piece_N=piece_N)
    is_reported_N = ~may_choose_N & (np.cumsum(~may_choose_N) <= count)
    return Music(
        choosing=every[may_choose_N],
        reported=every[is_reported_N],
        more=every[~is_reported_N][:_MORE],
        window=window,
    )


def _earlier_of_its_piece(piece_N: Tokens) -> Tokens:
    """Return for each window how many of the same piece come before it."""
    order = np.argsort(piece_N, kind="stable")
    place = np.arange(len(piece_N))
    begins = np.maximum.accumulate(np.where(np.diff(piece_N[order], prepend=-1) != 0, place, 0))
    earlier_N = np.empty_like(place)
    earlier_N[order] = place - begins
    return earlier_N


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A generator and how it is sampled.

    Attributes:
        name: for the report.
        generator: in evaluation mode.
        truncation: of the sampler.
        n: continuations of each seed, of which ``pick`` keeps the one that it finds most real.
        pick: needed where ``n`` is more than 1.
    """

    name: str
    generator: Generator
    truncation: Truncation = NONE
    n: int = 1
    pick: DiscriminatorScorer | None = None

    def continuations(
        self,
        part: WindowSet,
        window: Window,
        folder: Path,
        *,
        seed: int = 0,
        shard: int = SHARD,
        workers: int | None = None,
        on_progress: Callable[[float], None] = lambda _: None,
    ) -> Tokens:
        """Return a continuation of each window's seed, (N, continued), sampling what the folder does not hold yet."""
        seed_NT = part.window_NT[:, : window.seed_length]
        kept_in = folder / f"{_slug(self.name)}-{self._key(seed_NT, window, shard)}" / str(seed)
        shards = [seed_NT[first : first + shard] for first in range(0, len(part), shard)]
        told: list[int] = []

        def write(number: int) -> npt.NDArray[np.uint16]:
            make = partial(self._write, shards[number], window.continuation_length, [seed, number])
            written_NT = kept(kept_in / f"{number:05}.npy", len(shards[number]), make)
            told.append(number)
            on_progress(len(told) / len(shards))
            return written_NT

        tasks = [partial(write, number) for number in range(len(shards))]
        return np.concatenate(parallel_map(tasks, workers=workers)).astype(np.int64)

    def _write(self, seed_NT: Tokens, length: int, seed: list[int]) -> npt.NDArray[np.uint16]:
        rng = torch.Generator().manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
        seed_BT = torch.from_numpy(seed_NT)
        if self.pick is None:
            written_BT = sample_continuations(
                self.generator, seed_BT, length, rng, dtype=product_type(seed_BT.device), truncation=self.truncation
            )
        else:
            parts = torch.split(seed_BT, max(1, SHARD // self.n))
            best = [ranked(*scored(self.generator, self.pick, x, length, self.n, rng))[:, 0] for x in parts]
            written_BT = torch.cat(best)[:, seed_BT.shape[1] :]
        return np.asarray(written_BT.numpy(), np.uint16)

    def _key(self, seed_NT: Tokens, window: Window, shard: int) -> str:
        """Return a hash of all that the continuations depend on but the seeds' number."""
        # In the words of the first release, so that samples which it kept are found.
        told_of_window = f"Window(seeded={window.seed_length}, continued={window.continuation_length})"
        told = f"({self.truncation!r}, {self.n}, {told_of_window}, {shard})" + fingerprint(
            self.generator, seed_NT[:1].astype(np.uint16)
        )
        judges = () if self.pick is None else (self.pick.discriminator, self.pick.generator)
        return checkpoint.hash_of(*judges, also=told.encode())[:12]


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name).strip("-")
