"""The figures of bars of a band: MuseGAN's (Dong et al. 2018), with its chroma mended, and how full they are."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from musebridge.band.families import DRUMS, FAMILIES
from musebridge.band.layout import BAR, COLUMNS, PITCHES, Cells, classes

Floats = npt.NDArray[np.float64]
_SIXTEENTH = 3
LOWEST, HIGHEST = 24, 107
"""Of the published canvas."""


def bars_of(code: Cells) -> Cells:
    """Cut cells (..., S, WIDTH) into bars (N, 48, WIDTH)."""
    return code.reshape(-1, BAR, code.shape[-1])


def empty_bars(part: Cells) -> float:
    """Return which share of bars (N, 48, P) of a part is silent, in %."""
    return 100 * float(np.mean(~part.any((1, 2))))


def pitch_classes(part: Cells, family: str) -> Floats:
    """Return how many steps each pitch class sounds in, (N, 48, 12) → counts of sounding pitches by class."""
    sounds, of = part > 0, np.array(PITCHES[family]) % 12
    return np.stack([sounds[..., of == chroma].sum(-1) for chroma in range(12)], -1).astype(np.float64)


def used_pitch_classes(part: Cells, family: str) -> float:
    """Return how many of the 12 pitch classes a bar uses on average; empty bars have none."""
    return float(pitch_classes(part, family).any(1).sum(-1).mean())


def qualified_notes(part: Cells) -> float:
    """Return which share of notes is at least a sixteenth (three steps) long, in %; 100 where there is none.

    A note that is held over the bar line counts once; hence (N, S, P) may be whole windows.
    """
    lengths = note_lengths(part)
    return 100 * float(np.mean(lengths >= _SIXTEENTH)) if len(lengths) else 100.0


def note_lengths(part: Cells) -> npt.NDArray[np.int64]:
    """Return the lengths in steps of the notes of (N, S, P) that begin in it."""
    kind = classes(part).transpose(0, 2, 1).reshape(-1, part.shape[1])
    line = np.pad(kind, ((0, 0), (0, 1))).reshape(-1)
    begins = np.flatnonzero(line == 1)
    free = np.where(line == 2, len(line), np.arange(len(line)))
    free = np.minimum.accumulate(free[::-1])[::-1]
    return np.asarray(free[begins + 1] - begins)


def drum_pattern(part: Cells) -> float:
    """Return which share of strokes of bars (N, 48, P) lies on a sixteenth, in %."""
    strokes = (classes(part) == 1).sum((0, 2))
    return 100 * float(strokes[::_SIXTEENTH].sum() / max(1, strokes.sum()))


def onsets(part: Cells) -> float:
    """Return how many notes begin in a bar on average."""
    return float((classes(part) == 1).sum() / max(1, len(part)))


_ANGLES = np.arange(12) * np.pi / 6
_TONAL = np.concatenate(
    [
        radius * np.stack([np.sin(turn * _ANGLES), np.cos(turn * _ANGLES)])
        for radius, turn in ((1.0, 7), (1.0, 3), (0.5, 4))
    ]
)
"""Harte, Sandler and Gasser (2006): chroma → six-dimensional tonal space, (6, 12)."""


def tonal_centroids(chroma: Floats) -> Floats:
    """Return where chroma (..., 12) lies in the tonal space, (..., 6); silence is not a number."""
    total = chroma.sum(-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((chroma / total) @ _TONAL.T)


def tonal_distances(one: Floats, other: Floats) -> Floats:
    """Return the distance of two parts at each beat, from counts by class (N, 48, 12); nan where either is silent.

    Args:
        one, other: as :func:`pitch_classes` gives them.
    """
    beats = [tonal_centroids(part.reshape(len(part), -1, 12, 12).sum(2)) for part in (one, other)]
    return np.asarray(np.linalg.norm(beats[0] - beats[1], axis=-1))


def faulty_chroma(sounds: npt.NDArray[np.bool_]) -> Floats:
    """Return the published code's chroma of (..., 84) pitches from 24: twelve blocks of neighbours, not pitch classes.

    Only for the published table; see :func:`pitch_classes`.
    """
    return np.asarray(sounds.reshape(*sounds.shape[:-1], 12, 7).sum(-1), np.float64)


def gap_closed(system: float, real: float, shuffled: float) -> float:
    """Return how much of the gap between shuffled and real a system closes: 1 is real, 0 is as shuffled."""
    return (shuffled - system) / (shuffled - real)


def figures(code: Cells) -> dict[str, float]:
    """Return the figures of each family of windows (N, S, WIDTH), as ``name/family``."""
    found: dict[str, float] = {}
    bars = bars_of(code)
    for family in FAMILIES:
        part, whole = bars[..., COLUMNS[family]], code[..., COLUMNS[family]]
        found[f"empty_bars/{family}"] = empty_bars(part)
        found[f"onsets/{family}"] = onsets(part)
        if family == DRUMS:
            found["drum_pattern"] = drum_pattern(part)
        else:
            found[f"used_pitch_classes/{family}"] = used_pitch_classes(part, family)
            found[f"qualified_notes/{family}"] = qualified_notes(whole)
    return found


def distances_to(code: Cells, heard: Floats, families: Mapping[str, int] | tuple[str, ...]) -> dict[str, Floats]:
    """Return each family's tonal distances to the player, (N, beats), from the player's counts by class (N, S, 12)."""
    return {f: tonal_distances(pitch_classes(code[..., COLUMNS[f]], f), heard) for f in families}
