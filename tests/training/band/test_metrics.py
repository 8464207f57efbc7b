"""The figures of a band's bars have the right values."""

import numpy as np
import pytest

from musebridge.band.layout import BAR, COLUMNS, HOLD, PITCHES, STEPS, WIDTH
from musebridge.band.sampling import sample
from musebridge.training.band import metrics
from musebridge.training.band.corpus import transposed


def part(family, *notes, steps=BAR):
    """Return (1, S, P) with notes (pitch, step, length)."""
    code = np.zeros((1, steps, len(PITCHES[family])), np.uint8)
    for pitch, step, length in notes:
        row = PITCHES[family].index(pitch)
        code[0, step, row] = 17
        code[0, step + 1 : step + length, row] = HOLD + 16
    return code


def test_half_of_the_bars_are_empty():
    assert metrics.empty_bars(np.concatenate([part("bass"), part("bass", (36, 0, 4))])) == 50


def test_octaves_are_one_pitch_class():
    bar = part("bass", (36, 0, 4), (48, 4, 4), (43, 8, 4))
    assert metrics.used_pitch_classes(bar, "bass") == 2


def test_a_note_of_a_sixteenth_is_qualified_and_a_shorter_one_is_not():
    assert metrics.qualified_notes(part("bass", (36, 0, 3), (38, 4, 2), (40, 8, 12), (40, 30, 1))) == 50


def test_a_note_held_over_the_bar_line_counts_once():
    assert metrics.note_lengths(part("bass", (36, 40, 20), steps=2 * BAR)).tolist() == [20]


def test_strokes_off_the_sixteenths_are_in_no_pattern():
    assert metrics.drum_pattern(part("drums", (36, 0, 1), (42, 4, 1), (38, 12, 1), (42, 13, 1))) == 50


def test_onsets_of_a_bar():
    assert metrics.onsets(np.concatenate([part("bass", (36, 0, 4), (38, 4, 4)), part("bass")])) == 1


@pytest.mark.parametrize(
    ("pitch", "distance"),
    # Of pitch classes so many fifths apart on a circle: Harte et al. (2006), with radii 1, 1 and a half.
    [(36, 0.0), (48, 0.0), (43, np.sqrt((2 * np.sin(np.pi / 12)) ** 2 + 2 + 0.75))],
)
def test_tonal_distance_of_two_notes(pitch, distance):
    one = metrics.pitch_classes(part("bass", (36, 0, 48)), "bass")
    other = metrics.pitch_classes(part("bass", (pitch, 0, 48)), "bass")
    assert metrics.tonal_distances(one, other)[0] == pytest.approx([distance] * 4, abs=1e-9)


def test_silence_has_no_distance():
    one = metrics.pitch_classes(part("bass", (36, 0, 12)), "bass")
    assert np.isnan(metrics.tonal_distances(one, one)[0]).tolist() == [False, True, True, True]


def test_the_published_chroma_takes_neighbours_for_one_class():
    sounds = np.zeros(84, bool)
    sounds[[0, 6, 7]] = True
    assert metrics.faulty_chroma(sounds).tolist() == [2, 1, *[0] * 10]


def test_the_gap_that_is_closed():
    assert metrics.gap_closed(1.2, 1.0, 2.0) == pytest.approx(0.8)


def test_a_hold_needs_something_that_sounds():
    logits = np.full((3, STEPS, 44), -9.0, np.float32)
    logits[0], logits[2] = 0, 9
    drawn = sample({"guitar": (logits, np.full(STEPS, 0.5, np.float32))}, None)
    assert not drawn.any()
    logits[1, 10, 5] = 20
    drawn = sample({"guitar": (logits, np.full(STEPS, 0.5, np.float32))}, None)[:, COLUMNS["guitar"]]
    assert drawn[10, 5] == 17
    assert (drawn[11:, 5] == HOLD + 16).all()
    assert np.count_nonzero(drawn) == STEPS - 10


def test_one_bass_note_ends_another():
    logits = np.zeros((3, STEPS, 36), np.float32)
    logits[1], logits[2] = -9, 9
    logits[1, 0, 3], logits[1, 6, [4, 5]] = 9, (9, 8)
    drawn = sample({"bass": (logits, np.ones(STEPS, np.float32))}, None, monophonic=("bass",))[:, COLUMNS["bass"]]
    assert drawn[:6, 3].tolist() == [32, *[HOLD + 31] * 5]
    assert np.flatnonzero(drawn[6:].any(0)).tolist() == [4]


def test_drums_stay_where_the_rest_is_transposed():
    code = np.zeros((STEPS, WIDTH), np.uint8)
    code[0, COLUMNS["drums"].start] = 5
    code[0, COLUMNS["bass"].start + 35] = 7  # the highest goes down an octave
    code[0, COLUMNS["piano"].start] = 9
    moved = transposed(code, 2)
    assert sorted(np.argwhere(moved).tolist()) == [
        [0, COLUMNS["drums"].start], [0, COLUMNS["bass"].start + 25], [0, COLUMNS["piano"].start + 2],
    ]  # fmt: skip
