"""The form: found from what is played, when it comes again, and not before."""

from __future__ import annotations

import numpy as np
import pytest

from musebridge.bridge.core.chart import parse_chart
from musebridge.bridge.core.form import chroma, period

BLUES = "C7 | F7 | C7 | C7 | F7 | F7 | C7 | A7 | Dm7 | G7 | C7 A7 | Dm7 G7"


def played(form: str, bars: int) -> np.ndarray:
    chart = parse_chart(form)
    return np.array([_bar(chart.steps(bar, 48)) for bar in range(bars)])


def _bar(chords) -> np.ndarray:
    onset, hold = np.zeros((2, 48, 128), bool)
    for step, chord in enumerate(chords):
        hold[step, [48 + c for c in chord.classes]] = True
    return chroma(onset, hold)


def test_chroma_is_of_length_one_and_silence_of_none():
    sounds = np.zeros((4, 128), bool)
    assert chroma(sounds, sounds).tolist() == [0.0] * 12
    sounds[:, 60] = sounds[:, 76] = True
    assert chroma(sounds, sounds)[[0, 4]].tolist() == pytest.approx([0.5**0.5, 0.5**0.5])


def test_a_blues_is_of_twelve_bars_once_four_of_them_have_come_again():
    assert period(played(BLUES, 15)) is None
    assert [period(played(BLUES, bars)) for bars in (16, 20, 24, 40)] == [12] * 4


def test_a_vamp_of_two_bars_is_found_as_such():
    assert period(played("Dm7 | Bmaj7", 8)) == 2


def test_one_chord_and_silence_have_no_form():
    assert period(played("C7", 20)) is None
    assert period(np.zeros((20, 12))) is None


def test_what_never_comes_again_has_no_form():
    rng = np.random.default_rng(3)
    bars = rng.exponential(size=(24, 12)) ** 2
    assert period(bars / np.linalg.norm(bars, axis=1, keepdims=True)) is None
