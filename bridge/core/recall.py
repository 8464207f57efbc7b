"""Recall: figures that have begun again lend weight to how they went on before.

A cache in the manner of Grave et al. 2017, "Improving neural language models with a continuous cache", over pitches in
place of hidden states. The pitches struck last are sought in all that was played and written before, as they are and,
for other keys, by their intervals. What followed them there gets likelier, the more pitches came before it alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from musebridge.vocab import N_PITCHES, NOTE_OFF

Pitches = npt.NDArray[np.int16]
Weights = npt.NDArray[np.float32]

LONGEST = 8
"""Pitches of a match; longer ones weigh as much."""
KINDS = ("exact", "by interval")
STRENGTH_KL = np.array(
    [
        [0.00, 0.16, 0.35, 0.57, 0.30, 0.10, 0.10, 0.29, 0.34],
        [0.00, 0.00, 0.18, 0.56, 1.27, 1.88, 1.95, 2.33, 2.97],
    ],
    np.float32,
)
"""Nats that a pitch gains, by kind and length of the match before it; kinds add up (``musebridge bench recall``)."""
_MOST = 8192
"""Notes that are remembered at least."""


def matches(pitch_N: Pitches) -> npt.NDArray[np.int8]:
    """Return for each pitch how many of the last pitches it has followed before, (2, 128), at most :data:`LONGEST`.

    The first row is of the pitches as they are, the second of their intervals; a match by intervals has two pitches at
    least. 0 where it never followed the last one.

    Args:
        pitch_N: all pitches so far, in order.
    """
    length_KW = np.zeros((len(KINDS), 3 * N_PITCHES), np.int8)  # an interval may lead out of the range, by one range
    for kind, series_N in enumerate((pitch_N, np.diff(pitch_N))):
        first = N_PITCHES + (int(pitch_N[-1]) if kind and len(pitch_N) else 0)
        places = np.flatnonzero(series_N[:-1] == series_N[-1:])
        for length in range(1 + kind, LONGEST + 1):
            length_KW[kind, series_N[places + 1] + first] = length
            back = length - kind  # the next pitch, or interval, to compare
            places = places[places >= back]
            if not len(places):
                break
            places = places[series_N[places - back] == series_N[-1 - back]]
    return length_KW[:, N_PITCHES : 2 * N_PITCHES]


class Figures:
    """The pitches that were struck in a stream, by the player and by the model, and what they call to mind.

    Positions count the stream's tokens.
    """

    def __init__(self) -> None:
        self._pitch_N, self._position_N = np.zeros(2 * _MOST, np.int16), np.zeros(2 * _MOST, np.int64)
        self._n = 0
        self._weight_P: Weights | None = None

    def copy(self) -> Figures:
        """Return an independent copy."""
        copy = Figures()
        copy._pitch_N[:], copy._position_N[:], copy._n = self._pitch_N, self._position_N, self._n
        return copy

    def append(self, position: int, tokens: Sequence[int]) -> None:
        """Take down the notes among tokens that are written from ``position`` on."""
        for i, token in enumerate(tokens):
            if token >= NOTE_OFF:
                continue
            if self._n == len(self._pitch_N):
                self._pitch_N[:_MOST], self._position_N[:_MOST] = self._pitch_N[_MOST:], self._position_N[_MOST:]
                self._n = _MOST
            self._pitch_N[self._n], self._position_N[self._n] = token, position + i
            self._n += 1
            self._weight_P = None

    def rewind(self, position: int) -> None:
        """Forget what was written from ``position`` on."""
        self._n = int(np.searchsorted(self._position_N[: self._n], position))
        self._weight_P = None

    def weights(self) -> Weights:
        """Return what each pitch gains if it is struck next, in nats, (128,)."""
        if self._weight_P is None:
            exact_P, by_interval_P = matches(self._pitch_N[: self._n])
            self._weight_P = STRENGTH_KL[0, exact_P] + STRENGTH_KL[1, by_interval_P]
        return self._weight_P
