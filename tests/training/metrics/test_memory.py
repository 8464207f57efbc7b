"""What music keeps: each measure on music of which the answer is known."""

from __future__ import annotations

import math
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musebridge.training.metrics.features import Notes
from musebridge.training.metrics.memory import (
    Memory,
    between,
    kept,
    longest_silence_s,
    memory,
    onset_autocorrelation,
    pitch_classes,
    returning,
)

TUNE = [60, 64, 67, 72, 71, 69, 65, 62]


def notes(*rows: tuple[float, float, int]) -> Notes:
    """Notes by onset and length in seconds, and pitch."""
    table = np.array(rows, np.float64).reshape(-1, 3)
    return Notes(
        onset_s_N=table[:, 0],
        length_s_N=table[:, 1],
        pitch_N=table[:, 2].astype(np.int64),
        velocity_N=np.full(len(table), 64),
    )


def melody(pitches: list[int], every_s: float = 0.5, start_s: float = 0.0) -> Notes:
    return notes(*[(start_s + i * every_s, 0.4, pitch) for i, pitch in enumerate(pitches)])


def joined(*parts: Notes) -> Notes:
    return notes(
        *[row for part in parts for row in zip(part.onset_s_N, part.length_s_N, part.pitch_N.tolist(), strict=True)]
    )


def shifted(part: Notes, by_s: float) -> Notes:
    return notes(*zip(part.onset_s_N + by_s, part.length_s_N, part.pitch_N.tolist(), strict=True))


@given(st.lists(st.integers(60, 62), max_size=30), st.integers(1, 6))
def test_a_run_returns_if_it_began_anywhere_before(pitches, length):
    starts = range(len(pitches) - length + 1)
    again = [i for i in starts if any(pitches[j : j + length] == pitches[i : i + length] for j in range(i))]
    expected = [any(i <= at < i + length for i in again) for at in range(len(pitches))]
    assert returning(pitches, length).tolist() == expected


def test_a_figure_of_the_seed_is_taken_up_and_a_loop_is_one():
    seed = melody([*TUNE[:5], 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54])
    first = melody([*TUNE[:5], *range(80, 95)], start_s=10.0)
    second = melody([*TUNE[:5], *range(80, 95)], start_s=20.0)
    found = memory([joined(seed, first, second)] * 2, 10.0, 2)
    np.testing.assert_allclose(found.figures, [[5 / 20, 1.0]] * 2)
    np.testing.assert_allclose(found.loops, [[0.0, 1.0]] * 2)


def test_figures_are_of_the_highest_notes_of_chords_however_they_are_broken():
    chords = [(0.5 * i + 0.01 * j, 0.4, pitch - 12 * j) for i, pitch in enumerate(TUNE) for j in range(3)]
    tops = [(10.0 + row[0], 0.4, row[2]) for row in chords[::3]]
    found = memory([notes(*chords, *tops)] * 2, 10.0, 1)
    np.testing.assert_allclose(found.figures, 1.0)
    np.testing.assert_allclose(found.loops, 0.0)


def test_who_keeps_the_pulse_of_its_own_seed_gains_over_the_others():
    steady = [melody([60] * int(10 / gap), gap) for gap in (0.31, 0.47)]
    faithful = [joined(seed, shifted(seed, 10.0)) for seed in steady]
    swapped = [joined(seed, shifted(other, 10.0)) for seed, other in zip(steady, steady[::-1], strict=True)]
    own, other = memory(faithful, 10.0, 1), memory(swapped, 10.0, 1)
    assert (own.pulse > 0.5).all()
    np.testing.assert_allclose(other.pulse, -own.pulse, atol=0.05)


@pytest.mark.parametrize("gap", [0.2, 0.25, 0.6])
def test_onsets_correlate_after_their_distance(gap):
    best = int(onset_autocorrelation(melody([60] * int(10 / gap), gap), 0.0, 10.0).argmax())
    assert (best + 5) * 0.01 % gap == pytest.approx(0, abs=1e-9) or (best + 5) * 0.01 % gap == pytest.approx(gap)


def test_pitch_classes_weigh_by_how_long_they_sound_up_to_two_seconds():
    histogram = pitch_classes(notes((0, 0.5, 60), (1, 9.0, 72), (2, 0.0, 61)))
    assert histogram.tolist() == pytest.approx([2.5, 0.05, *[0] * 10])


def test_a_slice_is_compared_with_every_seed():
    seeds = np.array([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]])
    slices = np.stack([seeds, seeds[[1, 2, 0]]], 1)
    np.testing.assert_allclose(kept(slices, seeds), [[1.5, -0.75]] * 3)
    np.testing.assert_allclose(kept(np.ones_like(slices), seeds), 0)


def test_silence_is_where_nothing_sounds():
    music = notes((0.0, 1.0, 60), (0.5, 3.0, 64), (4.0, 0.5, 60), (12.0, 1.0, 60))
    assert longest_silence_s(music, 0.0, 10.0) == 5.5
    assert longest_silence_s(music, 1.0, 4.2) == 0.5
    assert longest_silence_s(music, 0.0, 3.0) == 0.0
    assert longest_silence_s(notes(), 1.0, 4.0) == 3.0


def test_the_seam_is_heard_as_a_change_of_density_and_a_wait():
    seed, after = melody([60] * 20), melody([60] * 11, 0.25, start_s=10.2)
    found = memory([joined(seed, after)] * 2, 10.0, 1)
    np.testing.assert_allclose(found.density_jump, math.log(12 / 7))
    np.testing.assert_allclose(found.wait_s, 0.2)
    np.testing.assert_allclose(found.longest_note_s, 0.4)


def test_a_stream_that_stops_is_measured_too():
    found = memory([melody(TUNE), melody(TUNE[::-1])], 4.0, 2, 1.0)
    for field in fields(Memory):
        assert getattr(found, field.name).shape in {(2, 2), (2,)}
    assert np.isnan(found.figures).all()
    assert np.isnan(found.wait_s).all()
    assert (found.longest_silence_s == 1.0).all()
    assert (found.pulse == 0).all()


def test_notes_between_two_moments_begin_there():
    part = between(melody(TUNE), 0.5, 1.5)
    assert (part.onset_s_N.tolist(), part.pitch_N.tolist()) == ([0.5, 1.0], TUNE[1:3])
