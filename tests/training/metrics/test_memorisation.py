"""What counts as copied."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musebridge import vocab
from musebridge.training.metrics.memorisation import longest_runs, pitch_steps


def melody(*pitches: int) -> np.ndarray:
    """Tokens of a melody, its notes 100 ms long."""
    return np.array([t for p in pitches for t in (p, vocab.TIME_SHIFT + 9, vocab.NOTE_OFF + p)], np.uint16)


CORPUS = np.concatenate([[vocab.BEGIN], melody(60, 62, 64, 65, 67), [vocab.BEGIN], melody(50, 47, 59)])


def test_steps_are_taken_from_note_to_note_and_never_across_pieces():
    assert pitch_steps(CORPUS).tolist() == [1000, 2, 2, 1, 2, 1000, 1000, -3, 12]


@pytest.mark.parametrize(
    ("piece", "longest"),
    [
        (melody(60, 62, 64, 65, 67), 4),  # a copy
        (melody(70, 72, 74, 75, 77), 4),  # in another key
        (melody(10, 90, 92, 94, 10), 2),  # two steps of it
        (melody(65, 67, 50, 47), 1),  # the end of one piece and the beginning of the next
        (melody(60, 90), 0),
        (melody(60), 0),
    ],
)
def test_the_longest_run_is_the_longest_that_is_shared_in_any_key(piece, longest):
    assert longest_runs(CORPUS, [piece]) == [longest]


@given(st.lists(st.integers(0, 5), min_size=2, max_size=40), st.lists(st.integers(0, 5), min_size=2, max_size=20))
def test_it_agrees_with_looking_everywhere(corpus, piece):
    known, asked = np.diff(corpus).tolist(), np.diff(piece).tolist()
    spans = [asked[i:j] for i in range(len(asked)) for j in range(i + 1, len(asked) + 1)]
    found = [s for s in spans if any(known[i : i + len(s)] == s for i in range(len(known)))]
    assert longest_runs(melody(*corpus), [melody(*piece)]) == [max(map(len, found), default=0)]


def test_pieces_are_judged_each_for_itself():
    assert longest_runs(CORPUS, [melody(60, 90), melody(60, 62, 64), melody(7, 4)]) == [0, 2, 1]
