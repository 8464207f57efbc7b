"""The packed token corpus, and the windows that training reads from it.

A corpus is a folder, written by ``musebridge.training.data.prepare``::

    corpus.json          the card: files, tokens, hours, what was skipped, sha256
    train.npy            uint16 tokens of all pieces, each opened by BEGIN
    validation.npy       likewise (test.npy where the files are there)

Pieces are packed end to end, so no token is padding. Nothing here reads MIDI:
training needs no more than torch, numpy and safetensors.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from musebridge import vocab
from musebridge.errors import CorpusError
from musebridge.training.data.augment import Augmentation
from musebridge.training.data.tokens import PackedTokens

SPLITS = ("train", "validation", "test")
CARD = "corpus.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """A prepared corpus, its splits mapped from disk."""

    folder: Path
    card: dict[str, object]
    splits: dict[str, PackedTokens]

    @property
    def sha256(self) -> str:
        """The hash of all its tokens."""
        return str(self.card["sha256"])


def load(folder: Path) -> Corpus:
    """Open the corpus that :func:`prepare` wrote.

    Raises:
        CorpusError: it is missing, damaged, or in another vocabulary.
    """
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        vocabulary, rows = card["vocabulary"], card["splits"]
        splits: dict[str, PackedTokens] = {s: np.lib.format.open_memmap(folder / f"{s}.npy", mode="r") for s in SPLITS}
        sound = all(_is_sound(tokens, rows[s]["tokens"]) for s, tokens in splits.items())
    except (OSError, ValueError, EOFError, TypeError, KeyError) as error:
        raise CorpusError(f"{folder}: is not a corpus ({error}); make one with 'musebridge prepare'") from error
    if vocabulary != vocab.FINGERPRINT:
        raise CorpusError(f"{folder}: was prepared with another vocabulary; run 'musebridge prepare' again")
    if not sound:
        raise CorpusError(f"{folder}: its tokens do not fit its card; run 'musebridge prepare' again")
    return Corpus(folder=folder, card=card, splits=splits)


def _is_sound(tokens: PackedTokens, count: int) -> bool:
    return tokens.dtype == np.uint16 and tokens.shape == (count,) and int(tokens.max(initial=0)) < vocab.N_TOKENS


class Windows:
    """Training windows in a shuffled order that depends only on seed and index.

    Every epoch cuts the packed tokens into windows at a fresh offset and
    shuffles them, so window ``i`` is the same whenever training is resumed.
    """

    def __init__(self, tokens: PackedTokens, *, length: int, augmentation: Augmentation, seed: int) -> None:
        if len(tokens) < 2 * length:
            raise CorpusError(f"the corpus has {len(tokens)} tokens; windows of {length} need at least {2 * length}")
        self._tokens, self._length, self._augmentation, self._seed = tokens, length, augmentation, seed
        self._per_epoch = (len(tokens) - length) // length
        self._epoch = -1
        self._starts = np.empty(0, np.int64)

    def window(self, index: int) -> npt.NDArray[np.int64]:
        """Return window ``index``, shape (length,)."""
        epoch, position = divmod(index, self._per_epoch)
        if epoch != self._epoch:
            self._epoch, self._starts = epoch, self._shuffle(epoch)
        start = self._starts[position]
        window = self._tokens[start : start + self._augmentation.needed(self._length)].astype(np.int64)
        return self._augmentation.apply(window, self._length, np.random.default_rng([self._seed, 1, index]))

    def _shuffle(self, epoch: int) -> npt.NDArray[np.int64]:
        rng = np.random.default_rng([self._seed, 0, epoch])
        offset = rng.integers(0, self._length)
        return np.asarray(rng.permutation(self._per_epoch) * self._length + offset)


class Mixture:
    """Training windows of several corpora; a share of the windows comes from each.

    Which corpus window ``i`` comes from depends only on seed and index, as the window does.

    Args:
        parts: the windows of each corpus.
        shares: how much of the whole each gives, more than 0 and 1 together.
        seed: of the choice.
    """

    def __init__(self, parts: Sequence[Windows], shares: Sequence[float], *, seed: int) -> None:
        if not all(share > 0 for share in shares):
            raise CorpusError(f"the shares of the corpora must each be more than 0, found {[*shares]}")
        self._parts, self._bounds, self._seed = parts, np.cumsum(shares)[:-1], seed

    def batch(self, first: int, count: int) -> npt.NDArray[np.int64]:
        """Return windows ``first`` ... ``first + count - 1``, shape (count, length)."""
        return np.stack([self._part(index).window(index) for index in range(first, first + count)])

    def _part(self, index: int) -> Windows:
        if len(self._parts) == 1:
            return self._parts[0]
        draw = np.random.default_rng([self._seed, 2, index]).random()
        return self._parts[int(np.searchsorted(self._bounds, draw, side="right"))]
