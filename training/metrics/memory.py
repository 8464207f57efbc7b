"""What music keeps of what was played before: its figures, its pulse, its pitch classes.

A stream is a seed and what follows it, and is measured in slices of its time. Figures are
sought in the top voice: of notes that begin together, the highest.

Names end in their shape: N streams, each of its own piece; S slices; F features; L lags.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from musebridge.training.metrics.features import Notes

Array = npt.NDArray[np.float64]
Pitches = npt.NDArray[np.int64]

FIGURE, LOOP = 5, 8
"""Pitches of a figure, and of a run that counts as a loop where too many return."""
_TOGETHER_S = 0.035
"""Notes of a chord begin no further apart: three steps of the grid, and a rounding's room."""
_GRID_S = 0.02
"""Notes as near as this are put in the order of their pitches before loops are sought."""
_BIN_S, _BUMP_BINS, _LAGS = 0.01, 2.0, np.arange(5, 101)
"""Of the onsets' autocorrelation: its grid, how wide an onset is smeared, and the lags, 50 ms to 1 s."""
_FEWEST_BINS = 150
_PULSE_S = 10.0
"""The pulse of a seed is that of its last seconds."""
_WEIGHT_S = 0.05, 2.0
"""A note weighs in a histogram as long as it lasts, within these."""
_SEAM_S = 3.0
"""The density is compared over so long before and after a seam."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What streams keep, each an array (N, S), but for those of the seam, (N,); NaN where a slice has no notes.

    Attributes:
        figures: share of the top voice's notes that are in figures which came before.
        loops: share of notes that are in runs of :data:`LOOP` pitches which came before.
        pulse, pitch_classes: correlation of a slice with its own seed, less the mean with the other pieces' seeds.
        pitch_classes_of_seed: that correlation as it is.
        longest_note_s, longest_silence_s: in the slice; the note is one that begins there.
        density_jump: absolute change of the logarithm of notes a second at the seam.
        wait_s: from the seam to the first onset.
    """

    figures: Array
    loops: Array
    pulse: Array
    pitch_classes: Array
    pitch_classes_of_seed: Array
    longest_note_s: Array
    longest_silence_s: Array
    density_jump: Array
    wait_s: Array


def memory(streams: Sequence[Notes], seam_s: float, slices: int, slice_s: float = 10.0) -> Memory:
    """Measure streams whose seeds end at ``seam_s``, in so many slices after it.

    Args:
        streams: at least two, of different pieces.
        seam_s: where what is measured begins.
        slices: how many.
        slice_s: how long each is.
    """
    spans = [(seam_s + k * slice_s, seam_s + (k + 1) * slice_s) for k in range(slices)]
    seeds = [between(stream, 0.0, seam_s) for stream in streams]
    pulse_NSL = np.array([[onset_autocorrelation(stream, *span) for span in spans] for stream in streams])
    classes_NSF = np.array([[pitch_classes(between(stream, *span)) for span in spans] for stream in streams])
    seed_pulse_NL = np.array([onset_autocorrelation(seed, seam_s - _PULSE_S, seam_s) for seed in seeds])
    seed_classes_NF = np.array([pitch_classes(seed) for seed in seeds])
    return Memory(
        figures=np.array([_shares(*_top_voice(stream), FIGURE, spans) for stream in streams]),
        loops=np.array([_shares(*_by_chords(stream), LOOP, spans) for stream in streams]),
        pulse=kept(pulse_NSL, seed_pulse_NL),
        pitch_classes=kept(classes_NSF, seed_classes_NF),
        pitch_classes_of_seed=_correlations(classes_NSF, seed_classes_NF).diagonal(axis1=0, axis2=2).T,
        longest_note_s=np.array([[_longest_note_s(stream, *span) for span in spans] for stream in streams]),
        longest_silence_s=np.array([[longest_silence_s(stream, *span) for span in spans] for stream in streams]),
        density_jump=np.array([_density_jump(stream, seam_s) for stream in streams]),
        wait_s=np.array([_wait_s(stream, seam_s) for stream in streams]),
    )


def between(notes: Notes, start_s: float, end_s: float) -> Notes:
    """Return the notes that begin in [start, end)."""
    chosen = (notes.onset_s_N >= start_s) & (notes.onset_s_N < end_s)
    return Notes(
        onset_s_N=notes.onset_s_N[chosen],
        length_s_N=notes.length_s_N[chosen],
        pitch_N=notes.pitch_N[chosen],
        velocity_N=notes.velocity_N[chosen],
    )


def kept(slice_NSF: Array, seed_NF: Array) -> Array:
    """Return the correlation of each slice with its own seed, less the mean with the other seeds, (N, S)."""
    every_NSN = _correlations(slice_NSF, seed_NF)
    own_NS = every_NSN.diagonal(axis1=0, axis2=2).T
    return np.asarray(own_NS - (every_NSN.sum(2) - own_NS) / (len(seed_NF) - 1))


def _correlations(slice_NSF: Array, seed_NF: Array) -> Array:
    """Return Pearson's correlation of every slice with every seed, (N, S, N); 0 where one of the two is even."""
    slice_NSF, seed_NF = (x - x.mean(-1, keepdims=True) for x in (slice_NSF, seed_NF))
    size_NS, size_N = np.linalg.norm(slice_NSF, axis=-1), np.linalg.norm(seed_NF, axis=-1)
    size_NSN = size_NS[:, :, None] * size_N
    return np.asarray(np.divide(slice_NSF @ seed_NF.T, size_NSN, out=np.zeros_like(size_NSN), where=size_NSN > 0))


def returning(pitches: Sequence[int], length: int) -> npt.NDArray[np.bool_]:
    """Return for each pitch whether it is in a run of ``length`` pitches that came before."""
    seen: set[tuple[int, ...]] = set()
    found_N = np.zeros(len(pitches), bool)
    for i in range(len(pitches) - length + 1):
        run = tuple(pitches[i : i + length])
        if run in seen:
            found_N[i : i + length] = True
        seen.add(run)
    return found_N


def _shares(onset_s_N: Array, pitch_N: Pitches, length: int, spans: Sequence[tuple[float, float]]) -> list[float]:
    """Return the share of the notes of each span that return in runs of this length."""
    found_N = returning(pitch_N.tolist(), length)
    inside = [found_N[(onset_s_N >= start_s) & (onset_s_N < end_s)] for start_s, end_s in spans]
    return [float(found.mean()) if len(found) else np.nan for found in inside]


def _chords_s(notes: Notes) -> Array:
    """Return when groups of notes that follow each other at once begin."""
    onset_s_N = np.sort(notes.onset_s_N)
    return onset_s_N[np.diff(onset_s_N, prepend=-np.inf) > _TOGETHER_S]


def _top_voice(notes: Notes) -> tuple[Array, Pitches]:
    """Return onset and highest pitch of each chord."""
    chord_s = _chords_s(notes)
    top = [notes.pitch_N[abs(notes.onset_s_N - at_s - _TOGETHER_S / 2) < _TOGETHER_S].max() for at_s in chord_s]
    return chord_s, np.array(top, np.int64)


def _by_chords(notes: Notes) -> tuple[Array, Pitches]:
    """Return onset and pitch of each note, those of a chord in the order of their pitches."""
    order = np.lexsort((notes.pitch_N, np.rint(notes.onset_s_N / _GRID_S)))
    return notes.onset_s_N[order], notes.pitch_N[order]


def onset_autocorrelation(notes: Notes, start_s: float, end_s: float) -> Array:
    """Return how onsets in [start, end) repeat after 50 ms to 1 s: the autocorrelation of their density, (L,)."""
    bins = max(round((end_s - start_s) / _BIN_S), _FEWEST_BINS)
    at = np.rint((_chords_s(notes) - start_s) / _BIN_S).astype(int)
    density = np.bincount(at[(at >= 0) & (at < bins)], minlength=bins).astype(float)
    density = np.convolve(density, np.exp(-0.5 * (np.arange(-8, 9) / _BUMP_BINS) ** 2), "same")
    spectrum = np.fft.rfft(density - density.mean(), 2 * bins)
    raw = np.fft.irfft(spectrum * spectrum.conj())
    if raw[0] == 0:
        return np.zeros(len(_LAGS))
    return np.asarray(raw[_LAGS] * bins / (bins - _LAGS) / raw[0])  # the further apart, the fewer pairs there are


def pitch_classes(notes: Notes) -> Array:
    """Return for how long each pitch class sounds, in seconds, (12,)."""
    return np.bincount(notes.pitch_N % 12, np.clip(notes.length_s_N, *_WEIGHT_S), 12).astype(np.float64)


def _longest_note_s(notes: Notes, start_s: float, end_s: float) -> float:
    return float(between(notes, start_s, end_s).length_s_N.max(initial=0.0))


def longest_silence_s(notes: Notes, start_s: float, end_s: float) -> float:
    """Return the longest time within [start, end) in which nothing sounds."""
    begin_N, stop_N = (np.clip(at_N, start_s, end_s) for at_N in (notes.onset_s_N, notes.onset_s_N + notes.length_s_N))
    order = np.argsort(begin_N)
    silent_from = np.maximum.accumulate([start_s, *stop_N[order]])
    return float(max(0.0, ([*begin_N[order], end_s] - silent_from).max()))


def _density_jump(notes: Notes, seam_s: float) -> float:
    before, after = len(between(notes, seam_s - _SEAM_S, seam_s)), len(between(notes, seam_s, seam_s + _SEAM_S))
    return float(abs(np.log((after + 1) / (before + 1))))


def _wait_s(notes: Notes, seam_s: float) -> float:
    later = notes.onset_s_N[notes.onset_s_N >= seam_s]
    return float(later.min() - seam_s) if len(later) else np.nan
