"""``musebridge band`` and ``jam``: parts beside a file's own, and from nothing."""

from __future__ import annotations

from pathlib import Path

import pattern_band
import pytest
from click.testing import CliRunner, Result
from smf_bytes import metre, off, on, program, smf, track

from musebridge.band import reading
from musebridge.cli import main

PATTERN = {"drums": [(0, 36, 1), (96, 38, 1)], "bass": [(0, 36, 24), (48, 41, 24), (96, 36, 24), (144, 43, 24)]}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return pattern_band.write(tmp_path / "pattern.onnx", PATTERN)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def played(path: Path) -> list[tuple[str, int, int, int]]:
    canvas, _ = reading.read(path)
    n, voices = canvas.notes, canvas.header.voices
    rows = zip(n.voice.tolist(), n.step.tolist(), n.length.tolist(), n.pitch.tolist(), strict=True)
    return sorted((voices[voice].family, step, length, pitch) for voice, step, length, pitch in rows)


def whole_notes(*pitches: int) -> bytes:
    return track(*[move for p in pitches for move in ((0, on(p)), (1920, off(p)))])


def test_a_jam_is_the_bands_alone_for_as_many_bars_as_asked(tmp_path, model):
    done = run("jam", "-o", tmp_path / "jam.mid", "--bars", 5, "--model", model)
    assert (done.exit_code, done.output) == (0, f"wrote {tmp_path / 'jam.mid'}: 5 bars, drums 3, bass 5\n")
    assert played(tmp_path / "jam.mid") == [
        *(
            ("bass", 0, 24, 36),
            ("bass", 48, 24, 41),
            ("bass", 96, 24, 36),
            ("bass", 144, 24, 43),
            ("bass", 192, 24, 36),
        ),
        *(("drums", 0, 1, 36), ("drums", 96, 1, 38), ("drums", 192, 1, 36)),
    ]


def test_a_band_adds_tracks_on_free_channels_and_leaves_the_seed_as_it_is(tmp_path, model):
    own = whole_notes(60, 62, 64, 65)
    (tmp_path / "seed.mid").write_bytes(smf(own))
    done = run("band", tmp_path / "seed.mid", "-o", tmp_path / "out.mid", "--model", model)
    assert done.exit_code == 0, done.output
    assert done.output.endswith("seed.mid and drums 2, bass 4\n")
    assert own in (tmp_path / "out.mid").read_bytes()
    canvas, _ = reading.read(tmp_path / "out.mid")
    assert [(v.family, v.channel) for v in canvas.header.voices] == [("piano", 0), ("drums", 9), ("bass", 1)]


def test_a_part_is_filled_only_in_the_bars_where_it_is_empty(tmp_path, model):
    bass = track((0, program(33, 1)), (0, on(40, 64, 1)), (1920, off(40, 1)), (1920, on(45, 64, 1)), (1920, off(45, 1)))
    (tmp_path / "seed.mid").write_bytes(smf(whole_notes(60, 62, 64, 65), bass))
    run("band", tmp_path / "seed.mid", "-o", tmp_path / "out.mid", "--model", model, "--parts", "bass")
    assert [row[1:] for row in played(tmp_path / "out.mid") if row[0] == "bass"] == [
        *((0, 48, 40), (48, 24, 41), (96, 48, 45), (144, 24, 43)),
    ]


def test_a_chart_walls_nothing_off(tmp_path):
    model = pattern_band.write(tmp_path / "p.onnx", {"bass": [(0, 37, 12)]})
    run("jam", "-o", tmp_path / "jam.mid", "--bars", 4, "--model", model, "--chords", "C | F | G | C")
    assert played(tmp_path / "jam.mid") == [("bass", 0, 12, 37)]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--chords", "H"), "bar 1 of the chart"),
        (("--chords", "3/4 C"), "the band plays in 4/4, the chart is in 3/4"),
        (("--chords", "none.txt"), "none.txt: cannot be read"),
        (("--parts", "horns"), "parts must be of drums, bass"),
        (("--model", "none.onnx"), "there is no such file"),
    ],
)
def test_what_a_jam_cannot_do_is_said_in_one_line(tmp_path, model, options, says):
    done = run("jam", "-o", tmp_path / "jam.mid", "--model", model, *options)
    assert done.exit_code == 1
    assert says in done.output
    assert len(done.output.splitlines()) == 1
    assert not (tmp_path / "jam.mid").exists()


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"steps_per_beat": 24}, "steps_per_beat is 24"),
        ({"families": ["horns"]}, "families are"),
        ({"noise": -1}, "noise is -1"),
    ],
)
def test_a_band_of_another_canvas_is_refused(tmp_path, told, says):
    model = pattern_band.write(tmp_path / "other.onnx", PATTERN, **told)
    done = run("jam", "-o", tmp_path / "jam.mid", "--model", model)
    assert done.exit_code == 1
    assert says in done.output


def test_a_generator_is_no_band(tmp_path):
    shipped = Path(__file__).parents[1] / "presets"
    done = run("jam", "-o", tmp_path / "jam.mid", "--model", shipped / "maestro-12m.onnx")
    assert done.exit_code == 1
    assert "here a band is needed" in done.output


def test_a_file_in_three_leaves_the_band_nothing(tmp_path, model):
    (tmp_path / "waltz.mid").write_bytes(smf(track((0, metre(3, 2)), (0, on(60)), (1440, off(60)))))
    done = run("band", tmp_path / "waltz.mid", "-o", tmp_path / "out.mid", "--model", model)
    assert done.exit_code == 1
    assert "waltz.mid: leaves the band nothing to play" in done.output


def test_the_bundled_band_jams_without_being_named(tmp_path):
    done = run("jam", "-o", tmp_path / "jam.mid", "--bars", "4")
    assert done.exit_code == 0, done.output
    assert {"drums", "bass"} <= {family for family, *_ in played(tmp_path / "jam.mid")}
