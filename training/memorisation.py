"""How much of its corpus a generator has learnt by heart.

A melody that is copied stays recognisable in any key and at any speed, so a run
is a sequence of pitch steps from one note-on to the next. The longest run that a
continuation shares with the training data is set beside the longest one of the
real continuation of the same seed: music repeats itself, and only what exceeds
that is copied.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from musebridge import vocab

_BREAK = 1_000
"""Stands where one piece ends and the next begins; no step is as wide."""
_PRIME = np.uint64(0x9E3779B97F4A7C15)

Steps = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]


def pitch_steps(tokens: npt.NDArray[np.generic]) -> Steps:
    """Return the steps in semitones from each note-on to the next; pieces are kept apart."""
    marks = np.asarray(tokens, np.int64)
    marks = marks[(marks < vocab.NOTE_OFF) | (marks == vocab.BEGIN)]
    crosses = (marks[1:] == vocab.BEGIN) | (marks[:-1] == vocab.BEGIN)
    return np.where(crosses, _BREAK, np.diff(marks))


def longest_runs(corpus: npt.NDArray[np.generic], pieces: Sequence[npt.NDArray[np.generic]]) -> list[int]:
    """Return for each piece how many pitch steps in a row it shares with the corpus at most.

    Args:
        corpus: packed tokens, shape (N,).
        pieces: the tokens of each piece.
    """
    known, queries = _Runs(pitch_steps(corpus)), [_Runs(pitch_steps(piece)) for piece in pieces]
    longest = [0] * len(queries)
    while any(len(query.hashes) for query in queries):
        for runs in (known, *queries):
            runs.grow()
        known.keep(np.concatenate([query.hashes for query in queries]))
        for i, query in enumerate(queries):
            query.keep(known.hashes)
            longest[i] += bool(len(query.hashes))
    return longest


class _Runs:
    """All runs of one length in a sequence, each by its place and a 64-bit hash.

    A run that is not shared is dropped, since no longer one that holds it can be.
    """

    def __init__(self, steps: Steps) -> None:
        self._steps, self._length = steps, 0
        self._at = np.arange(len(steps))
        self.hashes = np.zeros(len(steps), np.uint64)

    def grow(self) -> None:
        """Make every run one step longer; drop those that leave their piece."""
        fits = self._at + self._length < len(self._steps)
        self._at, self.hashes = self._at[fits], self.hashes[fits]
        following = self._steps[self._at + self._length]
        mixed = (self.hashes ^ (following + 2 * _BREAK).astype(np.uint64)) * _PRIME
        self.hashes = mixed ^ (mixed >> np.uint64(29))
        self._length += 1
        self._select(following != _BREAK)

    def keep(self, shared: Hashes) -> None:
        """Drop every run that is not among ``shared``."""
        self._select(np.isin(self.hashes, shared))

    def _select(self, chosen: npt.NDArray[np.bool_]) -> None:
        self._at, self.hashes = self._at[chosen], self.hashes[chosen]
