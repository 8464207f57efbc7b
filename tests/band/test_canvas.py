"""The canvas: what a MIDI file has is on it, and comes back from it, from planes and from a picture."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from smf_bytes import metre, off, on, program, smf, tempo, track

from musebridge.band import picture, reading, writing
from musebridge.band.canvas import Canvas, Header, Metre, Tempo, Voice
from musebridge.band.families import family_of
from musebridge.band.planes import GridNotes, to_notes, to_planes
from musebridge.errors import MidiFileError, PictureError

BANDS = Path(os.environ.get("MUSEBRIDGE_BANDS", Path(__file__).parents[2].parent / "shared" / "data" / "bands"))


def notes(*rows: tuple[int, int, int, int, int]) -> GridNotes:
    return GridNotes(*(np.array(column, np.int64) for column in zip(*rows, strict=True))).in_order()


def through_planes(canvas: Canvas) -> Canvas:
    found = []
    for row in range(len(canvas.header.voices)):
        own = to_notes(canvas.voice(row, 0, canvas.end))
        found += list(zip(own.voice + row, own.step, own.length, own.pitch, own.velocity, strict=True))
    return Canvas(canvas.header, notes(*found))


def test_programs_are_of_the_families_of_the_lakh_pianoroll_dataset() -> None:
    found = [family_of(number) for number in (0, 7, 8, 24, 32, 39, 40, 95, 96, 104, 112)]
    assert found == [
        *("piano", "piano", "strings", "guitar", "bass", "bass", "strings", "strings", "other", "strings", "other")
    ]
    assert family_of(32, is_drums=True) == "drums"


def test_planes_hold_onset_hold_and_velocity() -> None:
    planes = to_planes(notes((0, 1, 3, 60, 7), (0, 4, 1, 60, 9)), 1, 0, 6)
    assert planes.onset[0, :, 60].tolist() == [0, 1, 0, 0, 1, 0]
    assert planes.hold[0, :, 60].tolist() == [0, 0, 1, 1, 0, 0]
    assert planes.velocity[0, :, 60].tolist() == [0, 7, 7, 7, 9, 0]


def test_a_window_begins_within_a_note_that_is_held() -> None:
    planes = to_planes(notes((0, 0, 4, 60, 7)), 1, 2, 6)
    assert planes.hold[0, :, 60].tolist() == [1, 1, 0, 0]
    assert len(to_notes(planes)) == 0  # nothing struck it here


def test_a_file_goes_through_the_canvas_unchanged() -> None:
    data = smf(
        track((0, tempo(400_000)), (0, metre(3, 2)), (700, tempo(600_001))),
        track((0, program(33)), (0, on(40, 70)), (480, off(40)), (0, on(40, 5)), (40, off(40))),
        track((0, on(36, 100, 9)), (1, off(36, 9)), (479, on(36, 1, 9)), (480, off(36, 9))),
    )
    canvas, rounding = reading.read_canvas(data)
    assert canvas.header == Header(
        tempos=(Tempo(0, 400_000), Tempo(700, 600_001)),
        metres=(Metre(0, 3, 4),),
        voices=(Voice(program=33), Voice(channel=9, is_drums=True)),
    )
    assert canvas.notes == notes((0, 0, 12, 40, 17), (0, 12, 1, 40, 1), (1, 0, 1, 36, 25), (1, 12, 12, 36, 0))
    assert (rounding.lengthened, rounding.in_layers, rounding.strikes_ms.tolist()) == (1, 0, [0.0] * 4)
    assert reading.read_canvas(writing.to_bytes(through_planes(canvas)))[0] == canvas


def test_what_rounding_costs_is_told_in_milliseconds() -> None:
    _, rounding = reading.read_canvas(smf(track((10, on(60)), (480, off(60)), (20, on(62)), (480, off(62)))))
    # 10 ticks of 480 go to step 0, 510 to step 13 at tick 520; a tick is 500 / 480 ms.
    assert rounding.strikes_ms.tolist() == pytest.approx([-10 * 500 / 480, 10 * 500 / 480])


def test_two_strikes_within_a_step_and_unisons_are_of_voices_of_their_own() -> None:
    twice = track((0, on(60, 80)), (5, off(60)), (5, on(60, 40)), (470, off(60)))
    canvas, rounding = reading.read_canvas(smf(twice))
    assert canvas.notes == notes((0, 0, 1, 60, 20), (1, 0, 12, 60, 10))
    assert rounding.in_layers == 1
    assert canvas.merged() == 1
    assert reading.read_canvas(writing.to_bytes(through_planes(canvas)))[0] == canvas


def test_two_pianos_are_one_family_and_stay_two_voices() -> None:
    canvas, _ = reading.read_canvas(
        smf(track((0, on(60)), (480, off(60))), track((0, on(60, 90, 1)), (240, off(60, 1))))
    )
    assert len(canvas.header.voices) == 2
    merged = to_notes(canvas.planes(0, 24, ("piano",)))
    assert merged == notes((0, 0, 12, 60, 22))


def test_a_program_that_changes_on_a_channel_is_chosen_again_before_each_note() -> None:
    both = track(
        (0, on(60)), (240, off(60)), (0, program(40)), (0, on(62)), (240, off(62)), (0, program(0)), (0, on(64))
    )
    canvas, _ = reading.read_canvas(smf(both))
    assert [voice.program for voice in canvas.header.voices] == [0, 40]
    tracks = writing.tracks(canvas)
    assert tracks[0][-3] == (480, program(0))
    assert reading.read_canvas(writing.to_bytes(canvas))[0] == canvas


def test_bars_follow_the_metres() -> None:
    header = Header(metres=(Metre(0, 4, 4), Metre(2880, 6, 8)))
    assert [bar[:2] for bar in header.bars(120)] == [(0, 48), (48, 72), (72, 108), (108, 144)]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (smf(track((0, tempo(1)))), "holds 0 notes"),
        (smf(track((0, on(60)), (9, off(60))), division=0xE728), "SMPTE frames"),
        (smf(track((0xFFFFFFF, on(60)), (9, off(60))), division=1), "claims to last"),
        (smf(track(*[(0, on(60))] * 70)), "more than 64 times at once"),
    ],
)
def test_a_file_that_is_no_music_on_a_grid_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(MidiFileError, match=says):
        reading.read_canvas(data)


def test_packing_moves_nothing() -> None:
    rows = np.arange(96 * 192, dtype=np.int64).astype(np.uint8).reshape(96, 192)
    pixels = picture.pack(rows)
    assert pixels.shape == (96, 64, 3)
    assert pixels[5, 7].tolist() == rows[5, 21:24].tolist()
    assert np.array_equal(picture.unpack(pixels), rows)


_ROWS = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 400), st.integers(0, 127), st.integers(0, 31)), max_size=30
)


_STRIKE = st.tuples(st.integers(0, 1), st.integers(0, 400), st.integers(0, 127), st.integers(0, 31))


@given(rows=st.lists(_STRIKE, max_size=30))
def test_a_picture_and_a_file_of_any_notes_give_them_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, int, int, int]]
) -> None:
    at = {(voice, step // 8, pitch): velocity for voice, step, pitch, velocity in rows}
    found = [(voice, 8 * step, 1 + (step + pitch) % 8, pitch, v) for (voice, step, pitch), v in at.items()]
    header = Header(resolution=97, voices=(Voice(name="é", program=3), Voice(channel=9, is_drums=True)))
    canvas = Canvas(header, notes(*found) if found else GridNotes.none())
    path = tmp_path_factory.getbasetemp() / "canvas.png"
    picture.write(path, canvas)
    assert picture.read(path) == canvas
    if {voice for voice, *_ in found} == {0, 1}:
        assert reading.read_canvas(writing.to_bytes(canvas))[0] == canvas


def test_another_picture_is_refused_in_one_line(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (64, 96)).save(tmp_path / "plain.png")
    (tmp_path / "text.png").write_text("no picture")
    for name, says in (("plain.png", "no header of music"), ("text.png", "cannot be read"), ("none.png", "No such")):
        with pytest.raises(PictureError, match=says):
            picture.read(tmp_path / name)


@pytest.mark.slow
def test_the_corpus_of_bands_loses_no_note() -> None:
    index = BANDS / "index.tsv"
    if not index.exists():
        pytest.skip("no corpus of bands: set MUSEBRIDGE_BANDS to its folder")
    with index.open(encoding="utf-8") as table:
        files = [row["file"] for row in csv.DictReader(table, delimiter="\t")]
    for name in files[::300]:
        canvas, _ = reading.read(BANDS / name)
        assert reading.read_canvas(writing.to_bytes(through_planes(canvas)))[0] == canvas, name
