"""Pairs to judge: the real continuation of a seed, and the one that a frozen generator writes.

Artificial continuations are kept in the run's folder, a shard at a time, so a
sampling that is interrupted goes on where it was. Which windows a shard
continues, and how, depends only on the corpus, the seed and its number.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from musebridge import vocab
from musebridge.errors import CheckpointError, CorpusError
from musebridge.training.checkpoint import replacing
from musebridge.training.generator import Generator
from musebridge.training.sampler import sample_continuations

SHARD = 128
_CARD = "samples.json"

Tokens = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """How many tokens a seed has, and how many follow it."""

    seeded: int = 192
    continued: int = 192

    @property
    def length(self) -> int:
        """Of seed and continuation together."""
        return self.seeded + self.continued


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Seeds with their real and artificial continuations, N of each, and the piece that each is from."""

    seed_NT: Tokens
    real_NT: Tokens
    fake_NT: Tokens
    piece_N: Tokens

    def __len__(self) -> int:
        return len(self.piece_N)

    def __getitem__(self, chosen: npt.NDArray[np.generic] | slice) -> Pairs:
        return Pairs(
            seed_NT=self.seed_NT[chosen],
            real_NT=self.real_NT[chosen],
            fake_NT=self.fake_NT[chosen],
            piece_N=self.piece_N[chosen],
        )

    @property
    def windows(self) -> Tokens:
        """All real windows, then all artificial ones, shape (2 N, seeded + continued)."""
        real, fake = (np.concatenate([self.seed_NT, part], 1) for part in (self.real_NT, self.fake_NT))
        return np.concatenate([real, fake])


def starts_within_pieces(tokens: npt.NDArray[np.uint16], length: int, seed: int) -> Tokens:
    """Return where windows begin that do not overlap and hold no BEGIN after their first token, shuffled.

    A generator never writes BEGIN, so one in a real continuation would give it away.
    """
    bounds = np.unique([0, *np.flatnonzero(tokens == vocab.BEGIN), len(tokens)])
    starts = [np.arange(low, high - length + 1, length) for low, high in pairwise(bounds)]
    return np.random.default_rng([seed, 3]).permutation(np.concatenate(starts))


def pairs(
    generator: Generator,
    tokens: npt.NDArray[np.uint16],
    folder: Path,
    *,
    count: int,
    window: Window,
    seed: int,
    on_progress: Callable[[float], None] = lambda _: None,
) -> Pairs:
    """Return pairs from all over a split, sampling what the folder does not hold yet.

    Args:
        generator: frozen; it writes the artificial continuations.
        tokens: a packed split, shape (N,).
        folder: of the shards, made where missing.
        count: pairs, or as many as the split has windows for.
        window: lengths of seed and continuation.
        seed: of choice and sampling.
        on_progress: called with the share that is done, 0..1.

    Raises:
        CheckpointError: the folder holds samples of something else, or cannot be written.
        CorpusError: no piece of the split is long enough.
    """
    _check_card(folder, {**asdict(window), "seed": seed, "of": _fingerprint(generator, tokens)})
    starts = starts_within_pieces(tokens, window.length, seed)[:count]
    if not len(starts):
        raise CorpusError(f"no piece has the {window.length} tokens of a window; prepare longer pieces")
    windows_NT = np.stack([tokens[start : start + window.length] for start in starts]).astype(np.int64)
    seed_NT, real_NT = windows_NT[:, : window.seeded], windows_NT[:, window.seeded :]
    shards = range(0, len(starts), SHARD)
    written: list[Tokens] = []
    for number, first in enumerate(shards):
        path = folder / f"{number:05}.npy"
        written.append(_shard(path, generator, seed_NT[first : first + SHARD], window.continued, [seed, number]))
        on_progress((number + 1) / len(shards))
    piece_N = np.cumsum(tokens == vocab.BEGIN)[starts]
    return Pairs(seed_NT=seed_NT, real_NT=real_NT, fake_NT=np.concatenate(written), piece_N=piece_N)


def _shard(path: Path, generator: Generator, seed_NT: Tokens, length: int, seed: list[int]) -> Tokens:
    """Return the continuations of some seeds, from disk where they are there."""
    kept = np.load(path) if path.exists() else np.empty((0, length), np.uint16)
    if len(kept) >= len(seed_NT):
        return np.asarray(kept[: len(seed_NT)], np.int64)
    device = next(generator.parameters()).device
    rng = torch.Generator(device).manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
    seed_BT = torch.from_numpy(seed_NT).to(device)
    sampled = sample_continuations(generator, seed_BT, length, rng, dtype=torch.bfloat16).cpu().numpy()
    with replacing(path) as partial, partial.open("wb") as file:
        np.save(file, sampled.astype(np.uint16))
    return np.asarray(sampled)


def _fingerprint(generator: Generator, tokens: npt.NDArray[np.uint16]) -> str:
    """Return a hash of weights and tokens."""
    digest = hashlib.sha256(tokens.tobytes())
    for weight in generator.state_dict().values():
        digest.update(weight.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()


def _check_card(folder: Path, card: dict[str, object]) -> None:
    path = folder / _CARD
    try:
        known = json.loads(path.read_text("utf-8")) if path.exists() else None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: is damaged; remove {folder} to sample anew") from error
    if known not in (None, card):
        raise CheckpointError(f"{folder}: holds samples of another generator, corpus or window; remove it")
    if known is None:
        with replacing(path) as partial:
            partial.write_text(json.dumps(card, indent=1) + "\n", "utf-8")
