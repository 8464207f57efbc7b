"""How the measurement in Ardour pairs what was recorded with what was due."""

from __future__ import annotations

from musebridge.benchmarks.ardour import apart


def test_notes_of_one_moment_are_paired_by_pitch() -> None:
    recorded = [(100.0, 60), (580.0, 67), (580.0, 64), (1060.0, 64)]
    due = [(0.0, 60), (480.0, 64), (480.0, 67), (960.0, 64)]
    assert apart(recorded, due) == [100.0] * 4


def test_a_note_that_was_not_recorded_moves_no_other() -> None:
    assert apart([(100.0, 60), (1060.0, 64)], [(0.0, 60), (480.0, 67), (960.0, 64)]) == [100.0, 100.0]
