"""Events hold MIDI's 7-bit numbers and nothing else."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from musebridge.events import PEDALS_UP, Control, NoteOff, NoteOn

FIELDS = [
    (NoteOn, {"pitch": 60, "velocity": 64}, "pitch", 0, 127),
    (NoteOn, {"pitch": 60, "velocity": 64}, "velocity", 1, 127),
    (NoteOn, {"pitch": 60, "velocity": 64}, "channel", 0, 15),
    (NoteOff, {"pitch": 60}, "pitch", 0, 127),
    (NoteOff, {"pitch": 60}, "channel", 0, 15),
    (Control, {"controller": 64, "value": 0}, "controller", 0, 127),
    (Control, {"controller": 64, "value": 0}, "value", 0, 127),
    (Control, {"controller": 64, "value": 0}, "channel", 0, 15),
]


@pytest.mark.parametrize(("kind", "sound", "field", "low", "high"), FIELDS)
def test_a_field_takes_its_range_and_names_it_when_it_is_left(kind, sound, field, low, high):
    for value in (low, high):
        assert getattr(kind(**sound | {field: value}), field) == value
    for value in (low - 1, high + 1):
        with pytest.raises(ValueError, match=rf"^{field} must be in {low}\.\.{high}, found {value}$"):
            kind(**sound | {field: value})


def test_events_are_values_that_never_change():
    note = NoteOn(pitch=60, velocity=64)
    assert {note, NoteOn(pitch=60, velocity=64)} == {note}
    with pytest.raises(FrozenInstanceError):
        note.pitch = 61


def test_pedals_up_are_controllers_66_and_64_at_0():
    assert (Control(controller=66, value=0), Control(controller=64, value=0)) == PEDALS_UP
