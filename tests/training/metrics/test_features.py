import numpy as np
import pytest

from musebridge import vocab
from musebridge.events import NoteOff, NoteOn, Timed
from musebridge.training.metrics import features


def music(*notes: tuple[float, float, int, int]) -> np.ndarray:
    """Encode (onset, length, pitch, velocity) of each note."""
    events = [Timed(on_s, NoteOn(pitch=pitch, velocity=velocity)) for on_s, _, pitch, velocity in notes]
    events += [Timed(on_s + length_s, NoteOff(pitch=pitch)) for on_s, length_s, pitch, _ in notes]
    return np.array(vocab.encode(sorted(events, key=lambda timed: timed.time_s)), np.uint16)


TWO = music((0.0, 0.5, 60, 66), (0.5, 1.0, 67, 82))


def test_the_notes_of_a_window_have_onset_length_pitch_and_velocity():
    notes = features.notes_of(TWO)
    assert notes.onset_s_N.tolist() == [0.0, 0.5]
    assert notes.length_s_N.tolist() == [0.5, 1.0]
    assert notes.pitch_N.tolist() == [60, 67]
    assert notes.velocity_N.tolist() == [66, 82]


def test_a_note_that_is_open_at_the_end_ends_there():
    notes = features.notes_of(np.array([60, vocab.TIME_SHIFT + 24, 67, vocab.TIME_SHIFT + 49]))
    assert notes.length_s_N.tolist() == [0.75, 0.5]


def test_a_note_off_of_nothing_is_no_note():
    assert len(features.notes_of(np.array([vocab.NOTE_OFF + 60, vocab.TIME_SHIFT]))) == 0


def test_the_eight_features_of_two_notes():
    found = dict(zip(features.SCALARS, features.scalars(features.notes_of(TWO)), strict=True))
    assert found == pytest.approx(
        {
            "pitch range": 7,
            "mean pitch step": 7,
            "pitch-class entropy": 1,
            "scale consistency": 1,
            "polyphony": 1,
            "notes a second": 2 / 1.5,
            "mean length": 0.75,
            "spread of velocity": 8,
        }
    )


def test_a_transposed_piece_differs_in_no_feature():
    higher = music((0.0, 0.5, 65, 66), (0.5, 1.0, 72, 82))
    assert features.vector(features.notes_of(higher)) == pytest.approx(features.vector(features.notes_of(TWO)))


@pytest.mark.parametrize("tokens", [np.array([], np.uint16), np.array([60, vocab.TIME_SHIFT])])
def test_a_window_of_fewer_than_two_notes_has_features_of_zero(tokens):
    found = features.vector(features.notes_of(tokens))
    assert found.shape == features.vector(features.notes_of(TWO)).shape
    assert not found.any()
