"""Piano rolls: which bars are drawn where, and the line of a live roll."""

from __future__ import annotations

import struct
import subprocess
import sys

import pytest
from matplotlib.image import imread

from musebridge.errors import MuseBridgeError, PictureError
from musebridge.events import SUSTAIN, Control, NoteOff, NoteOn, Timed
from musebridge.roll import COLOURS, Bar, bars, pedal_spans, roll_lines, save_roll


def on(time_s: float, pitch: int, velocity: int = 80) -> Timed:
    return Timed(time_s, NoteOn(pitch=pitch, velocity=velocity))


def off(time_s: float, pitch: int) -> Timed:
    return Timed(time_s, NoteOff(pitch=pitch))


def pedal(time_s: float, value: int) -> Timed:
    return Timed(time_s, Control(controller=SUSTAIN, value=value))


SEED = [on(0.0, 60), pedal(0.5, 127), off(1.0, 60), on(1.0, 64, 30), off(2.0, 64), pedal(2.0, 0)]
CONTINUATION = [on(2.5, 67, 110), off(3.0, 67), on(3.0, 72)]


def size_of(path) -> tuple[int, int]:
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", data[16:24])


def pixels(path):
    return imread(path)[..., :3]


def share_of(picture, colour: str) -> float:
    """Return which share of the pixels has the hue of ``colour``, however faint."""
    red, _, blue = (picture[..., i].astype(float) for i in range(3))
    warm = red - blue if colour == COLOURS[1] else blue - red
    return float((warm > 0.2).mean())


# What is drawn


def test_a_bar_lasts_from_strike_to_release():
    assert bars([on(0.0, 60, 50), on(0.5, 64, 90), off(1.0, 60), off(2.0, 64)], end_s=9.0) == [
        Bar(start_s=0.0, end_s=1.0, pitch=60, velocity=50),
        Bar(start_s=0.5, end_s=2.0, pitch=64, velocity=90),
    ]


def test_a_restrike_ends_the_earlier_bar():
    assert bars([on(0.0, 60, 50), on(1.0, 60, 90), off(2.0, 60), off(3.0, 60)], end_s=9.0) == [
        Bar(start_s=0.0, end_s=1.0, pitch=60, velocity=50),
        Bar(start_s=1.0, end_s=2.0, pitch=60, velocity=90),
    ]


def test_a_note_that_is_open_at_the_end_is_drawn_to_the_end():
    assert bars([on(0.0, 64), on(1.0, 60)], end_s=4.0) == [
        Bar(start_s=1.0, end_s=4.0, pitch=60, velocity=80),
        Bar(start_s=0.0, end_s=4.0, pitch=64, velocity=80),
    ]


def test_a_release_of_silence_draws_nothing():
    assert bars([off(1.0, 60), pedal(1.0, 127)], end_s=4.0) == []


def test_a_pedal_is_drawn_while_it_is_64_or_more_and_to_the_end():
    moves = [pedal(t, v) for t, v in ((0.0, 0), (0.5, 64), (0.7, 127), (1.0, 63), (1.5, 0), (2.0, 127))]
    assert list(pedal_spans(moves, end_s=3.0)) == [(0.5, 1.0), (2.0, 3.0)]


# The picture


def test_each_part_has_its_colour(tmp_path):
    save_roll(tmp_path / "both.png", {"seed": SEED, "continuation": CONTINUATION}, title="Both")
    save_roll(tmp_path / "seed.png", {"seed": SEED})
    both, seed = pixels(tmp_path / "both.png"), pixels(tmp_path / "seed.png")
    assert min(share_of(both, colour) for colour in COLOURS[:2]) > 0.003
    assert share_of(seed, COLOURS[0]) > 0.003
    assert share_of(seed, COLOURS[1]) == 0.0


def test_the_picture_grows_with_the_range_of_pitches_and_with_time(tmp_path):
    save_roll(tmp_path / "small.png", {"seed": SEED})
    save_roll(tmp_path / "tall.png", {"seed": [*SEED, on(2.0, 24), on(2.0, 96)]})
    save_roll(tmp_path / "long.png", {"seed": [*SEED, on(60.0, 60), off(61.0, 60)]})
    save_roll(tmp_path / "very long.png", {"seed": [*SEED, on(6000.0, 60), off(6001.0, 60)]})
    small, tall, long, very_long = (size_of(tmp_path / f"{n}.png") for n in ("small", "tall", "long", "very long"))
    assert (tall[0], long[1]) == (small[0], small[1])
    assert tall[1] > small[1]
    assert small[0] < long[0] < very_long[0] <= 6000


def test_the_same_music_gives_the_same_picture(tmp_path):
    for name in ("a.png", "b.png"):
        save_roll(tmp_path / name, {"seed": SEED, "continuation": CONTINUATION}, title="Both")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(
    "parts", [{}, {"seed": []}, {"seed": [on(0.0, 0)], "continuation": []}, {"seed": [on(0.0, 127)]}]
)
def test_little_or_no_music_has_a_picture_too(tmp_path, parts):
    save_roll(tmp_path / "roll.png", parts)
    assert size_of(tmp_path / "roll.png")[0] == 1800


@pytest.mark.parametrize("title", [r"a $\frac$ b_c", "曲 ♪ 曲", "x" * 300])
def test_any_title_is_taken_as_it_is(tmp_path, title):
    save_roll(tmp_path / "roll.png", {"seed": SEED}, title=title)
    assert size_of(tmp_path / "roll.png")[0] == 1800


def test_the_users_own_matplotlib_is_left_alone(tmp_path):
    script = (
        "import sys\n"
        "from musebridge.roll import save_roll\n"
        f"save_roll({str(tmp_path / 'roll.png')!r}, {{}})\n"
        "print('matplotlib.pyplot' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("where", ["no/such/folder/roll.png", "."])
def test_a_place_that_cannot_be_written_is_one_line(tmp_path, where):
    with pytest.raises(PictureError, match=r": cannot be written: .*; choose another place$") as caught:
        save_roll(tmp_path / where, {"seed": SEED})
    assert isinstance(caught.value, MuseBridgeError)
    assert str(caught.value).startswith(str(tmp_path / where))
    assert "\n" not in str(caught.value)


# The live line


def test_a_live_line_has_a_column_for_each_pitch():
    line = roll_lines({61: "player", 65: "model", 40: "player"}, low=59, high=66)
    assert line.plain == "·│█···▓·"
    assert [str(span.style) for span in line.spans] == [
        *("dim", "dim", COLOURS[0], "dim", "dim", "dim", COLOURS[1], "dim"),
    ]


def test_a_live_line_of_silence_shows_only_the_octaves():
    assert roll_lines({}, low=48, high=72).plain == "│···········│···········│"
