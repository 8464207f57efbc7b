"""The benchmarks of the live bridge run and measure what they name. What they find is not judged here."""

from pathlib import Path

import pytest

from musebridge.benchmarks import live, rolls, sender
from musebridge.bridge.app import preset


def model() -> Path:
    return preset.load("call").model


@pytest.mark.xdist_group("jack")
def test_hand_overs_and_interruptions_are_measured(jack_server: str) -> None:
    rows = {row.name: row for row in live.rows(model(), cycles=4, hoarded=3, seed_s=0.5)}
    names = [
        "hand-over after silence",
        "hand-over by controller",
        "hand-over by controller, seed read then",
        "interruption",
    ]
    assert list(rows) == [name for name in names if name in rows]
    assert len(rows) >= 3, "now and then the model answers with silence, but not so often"
    assert all(row.p50 > 0 for row in rows.values())


@pytest.mark.xdist_group("jack")
def test_both_kinds_of_sender_are_measured(jack_server: str) -> None:
    rows = sender.rows(model(), 20)
    assert [row.n for row in rows] == [20, 20]
    assert all(row.p50 > 0 for row in rows)


def test_lateness_around_window_rolls_is_measured() -> None:
    row = rolls.row(model(), minutes=0.5, slowness=1)
    assert row.name.startswith("note-off, ")
    assert row.n > 10
