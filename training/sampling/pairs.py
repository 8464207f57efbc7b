"""Pairs to judge: the real continuation of a seed, and the one that a frozen generator writes.

Artificial continuations, and what the generator thought while it wrote them, are kept in the
run's folder, a shard at a time, so a sampling that is interrupted goes on where
it was. Which windows a shard continues, and how, depends only on the corpus,
the seed and its number.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from musebridge import vocab
from musebridge.config import renamed
from musebridge.errors import CheckpointError, CorpusError
from musebridge.files import replacing
from musebridge.training.compute.precision import product_type
from musebridge.training.data.tokens import Tokens
from musebridge.training.models.checkpoint import hash_of
from musebridge.training.models.generator import Generator
from musebridge.training.models.token_features import N_TOKEN_FEATURES
from musebridge.training.sampling.sampler import gumbel_noise, sample_with_token_features

SHARD = 128
_CARD = "samples.json"

TokenFeatures = npt.NDArray[np.float16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """How many tokens a seed has, and how many follow it."""

    seed_length: int = 192
    continuation_length: int = 192

    @property
    def length(self) -> int:
        """Of seed and continuation together."""
        return self.seed_length + self.continuation_length


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Seeds with their real and artificial continuations, N of each.

    Attributes:
        seed_NT, real_NT, fake_NT: tokens; no artificial ones, (N, 0), where only the real were asked for.
        features_NTF: of seeds and artificial continuations, see ``musebridge.training.models.token_features``, float16.
        piece_N: the piece that each is from.
    """

    seed_NT: Tokens
    real_NT: Tokens
    fake_NT: Tokens
    features_NTF: TokenFeatures
    piece_N: Tokens

    def __len__(self) -> int:
        return len(self.piece_N)

    @property
    def window(self) -> Window:
        """The lengths of seed and continuation."""
        return Window(seed_length=self.seed_NT.shape[1], continuation_length=self.real_NT.shape[1])

    def __getitem__(self, chosen: npt.NDArray[np.generic] | slice) -> Pairs:
        return Pairs(
            seed_NT=self.seed_NT[chosen],
            real_NT=self.real_NT[chosen],
            fake_NT=self.fake_NT[chosen],
            features_NTF=self.features_NTF[chosen],
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
    written: bool = True,
    compile: bool = False,
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
        written: whether there is need of artificial continuations; without, nothing is sampled.
        compile: see ``musebridge.training.sampling.sampler``.
        on_progress: called with the share that is done, 0..1.

    Raises:
        CheckpointError: the folder holds samples of something else, or cannot be written.
        CorpusError: no piece of the split is long enough.
    """
    starts = starts_within_pieces(tokens, window.length, seed)[:count]
    if not len(starts):
        raise CorpusError(f"no piece has the {window.length} tokens of a window; prepare longer pieces")
    windows_NT = np.stack([tokens[start : start + window.length] for start in starts]).astype(np.int64)
    seed_NT, real_NT = np.split(windows_NT, [window.seed_length], 1)
    none_N = np.empty(len(starts), _record(Window(seed_length=0, continuation_length=0)))
    write = partial(_sampled, generator, window, compile)
    sampled_N = (
        _all_sampled(generator, tokens, seed_NT, folder, window, seed, write, on_progress) if written else none_N
    )
    return Pairs(
        seed_NT=seed_NT,
        real_NT=real_NT,
        fake_NT=sampled_N["tokens"].astype(np.int64),
        features_NTF=sampled_N["hints"],
        piece_N=np.cumsum(tokens == vocab.BEGIN)[starts],
    )


def _all_sampled(
    generator: Generator,
    tokens: npt.NDArray[np.uint16],
    seed_NT: Tokens,
    folder: Path,
    window: Window,
    seed: int,
    write: Callable[[Tokens, list[int]], npt.NDArray[np.void]],
    on_progress: Callable[[float], None],
) -> npt.NDArray[np.void]:
    """Return records of the seeds' continuations, those from the folder that it holds."""
    records = {"records": ["tokens", "hints"]}
    _check_card(folder, {**asdict(window), **records, "seed": seed, "of": fingerprint(generator, tokens)})
    shards = range(0, len(seed_NT), SHARD)
    sampled = []
    for number, first in enumerate(shards):
        path, asked_NT = folder / f"{number:05}.npy", seed_NT[first : first + SHARD]
        sampled.append(kept(path, len(asked_NT), partial(write, asked_NT, [seed, number])))
        on_progress((number + 1) / len(shards))
    return np.concatenate(sampled)


def _record(window: Window) -> np.dtype[np.void]:
    """Return the type of a continuation that is kept, with the hints of its window."""
    return np.dtype(
        [("tokens", np.uint16, (window.continuation_length,)), ("hints", np.float16, (window.length, N_TOKEN_FEATURES))]
    )


def kept(path: Path, count: int, make: Callable[[], npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Return ``count`` rows from disk; made and written where they are not there."""
    kept: npt.NDArray[Any] | None = np.load(path) if path.exists() else None
    if kept is None or len(kept) < count:
        kept = make()
        with replacing(path, CheckpointError) as beside, beside.open("wb") as file:
            np.save(file, kept)
    return kept[:count]


def _sampled(
    generator: Generator, window: Window, compile: bool, seed_NT: Tokens, seed: list[int]
) -> npt.NDArray[np.void]:
    """Return records of continuations and of the hints of their windows."""
    device = next(generator.parameters()).device
    rng = torch.Generator(device).manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
    seed_BT, noise_BTV = (
        torch.from_numpy(seed_NT).to(device),
        gumbel_noise(len(seed_NT), window.continuation_length, rng),
    )
    tokens_BT, features_BTF = sample_with_token_features(
        generator, seed_BT, noise_BTV, dtype=product_type(device), compile=compile
    )
    sampled_N = np.empty(len(seed_NT), _record(window))
    sampled_N["tokens"], sampled_N["hints"] = tokens_BT.cpu().numpy(), features_BTF.cpu().numpy()
    return sampled_N


def fingerprint(generator: Generator, tokens: npt.NDArray[np.uint16]) -> str:
    """Return a hash of weights and tokens."""
    return hash_of(generator, also=tokens.tobytes())


def _check_card(folder: Path, card: dict[str, object]) -> None:
    path = folder / _CARD
    try:
        known = json.loads(path.read_text("utf-8")) if path.exists() else None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: is damaged; remove {folder} to sample anew") from error
    if known is not None and renamed(known, card) != card:
        raise CheckpointError(f"{folder}: holds samples of another generator, corpus or window; remove it")
    if known is None:
        with replacing(path, CheckpointError) as beside:
            beside.write_text(json.dumps(card, indent=1) + "\n", "utf-8")
