"""Long and careless playing, made short: `musebridge bench soak` and `bench fuzz` play it in full."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from musebridge.benchmarks import fuzz, soak
from musebridge.cli import main


def test_ten_minutes_of_simulated_playing_leave_no_note_sounding_and_end_none_late() -> None:
    off, stuck, wrong = soak.simulated(1 / 6, seed=1)
    assert off.n > 300
    assert off.max < 20
    assert (stuck.n, stuck.max, wrong.max) == (100, 0, 0)


def test_noise_on_the_midi_input_leaves_no_note_sounding() -> None:
    assert fuzz.noise(100_000).n > 10


@pytest.mark.xdist_group("jack")
def test_the_real_bridge_is_played_to_for_a_while(jack_server: str) -> None:
    rows = {row.name.partition(": ")[2]: row for row in soak.real(0.2)}
    assert rows["stuck"].max == 0
    assert list(rows) == ["note-off late", "late by 20 ms", "stuck", "memory at the end", "growth of memory"]


def test_bench_fuzz_tells_how_the_memory_grew(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    result = CliRunner().invoke(main, ["bench", "fuzz", "--datagrams", "100", "--noise", "1000", "--json", str(path)])
    assert result.exit_code == 0, result.output
    names = [row["name"] for row in json.loads(path.read_text())]
    assert {"growth of memory by OSC", "growth of memory by MIDI"} <= set(names)
