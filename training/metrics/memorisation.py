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
    steps = [np.append(pitch_steps(piece), _BREAK) for piece in pieces]
    owner = np.repeat(np.arange(len(steps)), [len(own) for own in steps])
    known, queries = _Runs(pitch_steps(corpus)), _Runs(np.concatenate(steps))
    longest = np.zeros(len(steps), np.int64)
    while len(queries.hashes):
        known.grow()
        queries.grow()
        known.keep(queries.hashes)
        queries.keep(known.hashes)
        longest[owner[queries.at]] += 1  # once for each piece, however many of its runs are left
    return longest.tolist()


class _Runs:
    """All runs of one length in a sequence, each by its place and a 64-bit hash.

    A run that is not shared is dropped, since no longer one that holds it can be.

    Attributes:
        at: where each run begins.
        hashes: of each.
    """

    def __init__(self, steps: Steps) -> None:
        self._steps, self._length = steps, 0
        self.at = np.arange(len(steps))
        self.hashes = np.zeros(len(steps), np.uint64)

    def grow(self) -> None:
        """Make every run one step longer; drop those that leave their piece."""
        fits = self.at + self._length < len(self._steps)
        self.at, self.hashes = self.at[fits], self.hashes[fits]
        following = self._steps[self.at + self._length]
        mixed = (self.hashes ^ (following + 2 * _BREAK).astype(np.uint64)) * _PRIME
        self.hashes = mixed ^ (mixed >> np.uint64(29))
        self._length += 1
        self._select(following != _BREAK)

    def keep(self, shared: Hashes) -> None:
        """Drop every run that is not among ``shared``."""
        self._select(np.isin(self.hashes, shared))

    def _select(self, chosen: npt.NDArray[np.bool_]) -> None:
        self.at, self.hashes = self.at[chosen], self.hashes[chosen]
