"""Charts: what players write means these chords at these beats."""

from __future__ import annotations

import numpy as np
import pytest

from musebridge.bridge.core.chart import Chord, changes, lean, parse_chart, parse_chord
from musebridge.errors import ConfigError

DM7, G7, CMAJ7 = Chord(2, (0, 3, 7, 10), 2), Chord(7, (0, 4, 7, 10), 7), Chord(0, (0, 4, 7, 11), 0)


@pytest.mark.parametrize(
    ("text", "classes", "bass"),
    [
        ("C", {0, 4, 7}, 0),
        ("Dm7", {2, 5, 9, 0}, 2),
        ("D-7", {2, 5, 9, 0}, 2),
        ("F#ø", {6, 9, 0, 4}, 6),
        ("BbΔ/D", {10, 2, 5, 9}, 2),
        ("E7(b9)", {4, 5, 8, 11, 2}, 4),
        ("A♭6/9", {8, 10, 0, 3, 5}, 8),
        ("Cb", {11, 3, 6}, 11),
        ("C/D", {0, 4, 7, 2}, 2),
    ],
)
def test_a_symbol_means_its_pitch_classes(text, classes, bass):
    chord = parse_chord(text)
    assert (chord.classes, chord.bass) == (frozenset(classes), bass)


def test_a_chart_says_which_chord_each_beat_has_and_begins_again():
    chart = parse_chart("Dm7 | G7 | Cmaj7 N.C. | %")
    assert chart.bars == ((DM7,), (G7,), (CMAJ7, None), (CMAJ7, None))
    assert [chart.at(beat) for beat in (0, 3.9, 4, 9.9, 10, 12, 14, 16)] == [
        *(DM7, DM7, G7, CMAJ7, None, CMAJ7, None, DM7)
    ]
    assert changes(chart) == [(0, DM7), (4, G7), (8, CMAJ7), (10, None), (12, CMAJ7), (14, None)]


def test_a_chart_has_a_metre_lines_and_remarks():
    chart = parse_chart("// a waltz\n3/4 | Dm7 | G7 |\n\n| Cmaj7 | % ||\n")
    assert (chart.count, chart.unit, chart.bar_beats) == (3, 4, 3.0)
    assert chart.bars == ((DM7,), (G7,), (CMAJ7,), (CMAJ7,))
    assert chart.at(3) == G7
    assert chart.steps(4, 3) == [DM7] * 3


def test_chords_of_one_bar_share_its_steps():
    assert parse_chart("Dm7 G7 Cmaj7").steps(0, 6) == [DM7, DM7, G7, G7, CMAJ7, CMAJ7]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "1 to 1024 bars"),
        ("// nothing", "1 to 1024 bars"),
        ("C | H7", "bar 2 of the chart: chord must be .* found 'H7'"),
        ("%", "bar 1 of the chart: % repeats the bar before"),
        ("C " * 17, "16 chords at most, found 17"),
        ("C |" * 1025, "found 1025"),
        ("C7blah", "found 'C7blah'"),
    ],
)
def test_a_chart_of_no_meaning_is_refused_in_one_line(text, says):
    with pytest.raises(ConfigError, match=says):
        parse_chart(text)


def test_a_chord_is_leant_to_and_nothing_is_walled_off():
    assert lean(G7, 2.0, np.array([55, 56, 59, 62, 65, 60])).tolist() == [0, -2, 0, 0, 0, -2]
    assert lean(None, 2.0, np.array([55, 56])).tolist() == [0, 0]
