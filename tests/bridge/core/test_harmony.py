"""Scales, keys and chords."""

import numpy as np
import pytest

from musebridge.bridge.core.harmony import KeyFinder, Scale, allowed_pitches, chord_of, parse_scale
from musebridge.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "scale", "classes"),
    [
        ("C major", Scale(0, "major"), {0, 2, 4, 5, 7, 9, 11}),
        ("Bb major", Scale(10, "major"), {10, 0, 2, 3, 5, 7, 9}),
        ("f# dorian", Scale(6, "dorian"), {6, 8, 9, 11, 1, 3, 4}),
        ("A minor pentatonic", Scale(9, "minor pentatonic"), {9, 0, 2, 4, 7}),
        ("Cb major", Scale(11, "major"), {11, 1, 3, 4, 6, 8, 10}),
    ],
)
def test_scales_are_named_as_musicians_name_them(text: str, scale: Scale, classes: set[int]) -> None:
    assert parse_scale(text) == scale
    assert scale.classes == classes
    assert parse_scale(str(scale)) == scale


@pytest.mark.parametrize("text", ["", "D", "H major", "D lydianish", "Dx minor", "major"])
def test_what_is_no_scale_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="scale must be a tonic and one of"):
        parse_scale(text)


@pytest.mark.parametrize("tonic", range(12))
@pytest.mark.parametrize(
    ("mode", "melody"),
    [
        ("major", [0, 2, 4, 5, 7, 9, 11, 12, 7, 4, 0, 5, 7, 0]),
        ("minor", [0, 2, 3, 5, 7, 8, 11, 12, 7, 3, 0, 8, 7, 0]),
    ],
)
def test_the_key_of_a_melody_is_found_in_every_transposition(tonic: int, mode: str, melody: list[int]) -> None:
    finder = KeyFinder()
    for degree in melody:
        finder.hear(60 + tonic + degree)
    assert finder.key() == Scale(tonic, mode)


def test_a_new_key_is_heard_after_a_while() -> None:
    finder = KeyFinder()
    for tonic in (0, 6):
        for degree in [0, 2, 4, 5, 7, 9, 11, 12, 7, 4, 0] * 8:
            finder.hear(60 + tonic + degree)
    assert finder.key() == Scale(6, "major")


def test_a_few_notes_make_no_key() -> None:
    finder = KeyFinder()
    assert finder.key() is None
    finder.hear(60)
    assert finder.key() is None


def test_all_notes_alike_make_no_key() -> None:
    finder = KeyFinder()
    finder._weights, finder._notes = np.ones(12), 12
    assert finder.key() is None


@pytest.mark.parametrize(
    ("pitches", "name"),
    [
        ([60, 64, 67], "C"),
        ([57, 60, 64, 67], "Am7"),
        ([55, 57, 60, 64], "Am7/G"),
        ([52, 60, 67], "C/E"),
        ([59, 62, 65], "Bdim"),
        ([60, 63, 66, 69], "Cdim7"),
        ([60, 65, 67, 79], "Csus4"),
        ([60], None),
        ([60, 61, 62], None),
        ([], None),
    ],
)
def test_chords_are_named(pitches: list[int], name: str | None) -> None:
    assert chord_of(pitches) == name


def test_what_may_be_struck_sounds_in_scale_and_range() -> None:
    allowed_P = allowed_pitches(parse_scale("C major"), 60, 72, -12)
    assert (np.flatnonzero(allowed_P) - 12).tolist() == [60, 62, 64, 65, 67, 69, 71, 72]
    assert allowed_pitches(None, 0, 127, 0).all()
    assert np.flatnonzero(allowed_pitches(None, 0, 127, 36)).max() == 127 - 36
