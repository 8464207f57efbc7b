"""What music is like, in numbers that need neither tempo nor bars.

Performed MIDI has no grid, so every feature is of pitch, touch, and time in
seconds. The scalar ones follow Yang and Lerch 2020, "On the evaluation of
generative models in music", where these need no bar; muspy (Dong et al. 2020)
measures pitch classes, scale and polyphony.
"""

from __future__ import annotations

from dataclasses import dataclass

import muspy
import numpy as np
import numpy.typing as npt

from musebridge import vocab
from musebridge.events import NoteOn

Array = npt.NDArray[np.float64]

SCALARS = (
    "pitch range",
    "mean pitch step",
    "pitch-class entropy",
    "scale consistency",
    "polyphony",
    "notes a second",
    "mean length",
    "spread of velocity",
)
"""The eight features that are compared one by one, in this order."""
_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
_SHORTEST_S = 1 / vocab.STEPS_PER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """The notes of a window in order of their onsets, N of each."""

    onset_s_N: Array
    length_s_N: Array
    pitch_N: npt.NDArray[np.int64]
    velocity_N: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.pitch_N)


def notes_of(tokens: npt.NDArray[np.generic]) -> Notes:
    """Return the notes that begin in a window; those still open at its end are ended there."""
    rows: list[list[float]] = []
    open_: dict[int, list[float]] = {}
    decoder = vocab.Decoder()
    for token in tokens.tolist():
        if (timed := decoder.feed(token)) is None:
            continue
        if sounding := open_.pop(timed.event.pitch, None):  # type: ignore[union-attr]  # a decoder gives notes only
            sounding[1] = timed.time_s - sounding[0]
        if isinstance(timed.event, NoteOn):
            row = [timed.time_s, 0.0, timed.event.pitch, timed.event.velocity]
            rows.append(row)
            open_[timed.event.pitch] = row
    end_s = decoder.state.step / vocab.STEPS_PER_S
    for row in open_.values():
        row[1] = end_s - row[0]
    table = np.array(rows, np.float64).reshape(-1, 4)
    return Notes(
        onset_s_N=table[:, 0],
        length_s_N=table[:, 1],
        pitch_N=table[:, 2].astype(np.int64),
        velocity_N=table[:, 3].astype(np.int64),
    )


def scalars(notes: Notes) -> Array:
    """Return the features of :data:`SCALARS`, shape (8,); of fewer than two notes all are 0."""
    if len(notes) < 2:
        return np.zeros(len(SCALARS))
    span_s = max(_SHORTEST_S, float((notes.onset_s_N + notes.length_s_N).max() - notes.onset_s_N[0]))
    music = _as_muspy(notes)
    return np.array(
        [
            muspy.pitch_range(music),
            np.abs(np.diff(notes.pitch_N)).mean(),
            muspy.pitch_class_entropy(music),
            muspy.scale_consistency(music),
            muspy.polyphony(music),
            len(notes) / span_s,
            notes.length_s_N.mean(),
            notes.velocity_N.std(),
        ]
    )


def vector(notes: Notes) -> Array:
    """Return all features of a window, shape (35,): the scalar ones, quantiles of time and touch, steps by class."""
    if len(notes) < 2:
        return np.zeros(len(SCALARS) + 3 * len(_QUANTILES) + 12)
    gaps_s = np.maximum(np.diff(notes.onset_s_N), _SHORTEST_S)
    lengths_s = np.maximum(notes.length_s_N, _SHORTEST_S)
    steps = np.bincount(np.abs(np.diff(notes.pitch_N)) % 12, minlength=12) / (len(notes) - 1)
    spread = [np.quantile(x, _QUANTILES) for x in (np.log(gaps_s), np.log(lengths_s), notes.velocity_N)]
    return np.concatenate([scalars(notes), *spread, steps])


def _as_muspy(notes: Notes) -> muspy.Music:
    """Return the notes as muspy has them: a resolution of 100 to the quarter makes its steps ours."""
    lengths = np.maximum(1, np.rint(notes.length_s_N * vocab.STEPS_PER_S)).astype(int)
    onsets = np.rint(notes.onset_s_N * vocab.STEPS_PER_S).astype(int)
    rows = zip(onsets.tolist(), notes.pitch_N.tolist(), lengths.tolist(), strict=True)
    track = muspy.Track(notes=[muspy.Note(time=t, pitch=p, duration=d) for t, p, d in rows])
    return muspy.Music(resolution=vocab.STEPS_PER_S, tracks=[track])
