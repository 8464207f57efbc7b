"""The form of what is played: after how many bars it comes again."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SHORTEST, LONGEST = 2, 64
"""Bars of a form."""
_CONFIRMED = 4
"""So many bars must have come again before a form is believed in."""
_ALIKE, _MARGIN, _TIE = 0.8, 0.1, 0.02
"""How like each other they must be, how much more so than bars at other distances, and what is as good as equal."""


def chroma(onset_SP: npt.NDArray[np.bool_], hold_SP: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return how long each pitch class sounds in a bar's steps S, as a vector of length 1; zeros for silence, (12,)."""
    sounds = (onset_SP | hold_SP).sum(0)
    classes = np.bincount(np.arange(len(sounds)) % 12, sounds, 12).astype(np.float64)
    length = np.linalg.norm(classes)
    return np.asarray(classes / length if length else classes)


def period(bars_B12: npt.NDArray[np.float64]) -> int | None:
    """Return after how many bars music comes again, or None while nothing says so.

    The similarity of two bars is the cosine of their chroma; a form is the shortest
    distance at which bars are most alike, and clearly more so than at the mean
    distance. One that has not yet come again for ``_CONFIRMED`` bars is none.

    Args:
        bars_B12: :func:`chroma` of each bar so far.
    """
    count = len(bars_B12)
    alike = bars_B12 @ bars_B12.T
    at = {lag: float(np.diagonal(alike, lag).mean()) for lag in range(1, count - _CONFIRMED + 1)}
    found = {lag: score for lag, score in at.items() if SHORTEST <= lag <= LONGEST}
    if not found:
        return None
    best = max(found.values())
    # Where a chord stands still all distances are alike, and there is no form to find.
    if best < _ALIKE or best - float(np.mean(list(at.values()))) < _MARGIN:
        return None
    return min(lag for lag, score in found.items() if score > best - _TIE)
