"""MIDI files: what is read from good ones, and one line for every bad one."""

from __future__ import annotations

import csv
import random
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import mido
import pytest
from hypothesis import given
from hypothesis import strategies as st
from smf_bytes import ONE_NOTE, chunk, off, on, pedal, smf, tempo, track
from symusic.core import ScoreSecond

from musebridge import midifile
from musebridge.errors import MidiFileError
from musebridge.events import SOSTENUTO, SUSTAIN, Control, NoteOff, NoteOn, Timed

MAESTRO = Path(__file__).parents[2] / "shared" / "data" / "maestro"
LONGEST_DELTA = 0x0FFFFFFF


@pytest.fixture
def read(tmp_path):
    """Read bytes as a file; return (seconds, event) pairs."""

    def read_bytes(data: bytes):
        path = tmp_path / "piece.mid"
        path.write_bytes(data)
        return [(t.time_s, t.event) for t in midifile.read(path)]

    return read_bytes


@pytest.fixture
def refusal(tmp_path, read):
    """Return the message with which bytes are refused, without the path that it begins with."""

    def message(data: bytes) -> str:
        with pytest.raises(MidiFileError) as caught:
            read(data)
        return str(caught.value).removeprefix(f"{tmp_path / 'piece.mid'}: ")

    return message


def strike(pitch: int, velocity: int = 64) -> NoteOn:
    return NoteOn(pitch=pitch, velocity=velocity)


def lift(pitch: int) -> NoteOff:
    return NoteOff(pitch=pitch)


def foot(value: int, controller: int = SUSTAIN) -> Control:
    return Control(controller=controller, value=value)


# Reading


def test_times_are_seconds_from_the_first_note(read):
    assert read(smf(track((960, on(60, 80)), (240, off(60))))) == [(0.0, strike(60, 80)), (0.25, lift(60))]


def test_a_beat_lasts_half_a_second_until_a_tempo_is_given(read):
    assert read(smf(track((0, on(60)), (480, off(60)), (0, tempo(1_000_000)), (0, on(62)), (480, off(62))))) == [
        *((0.0, strike(60)), (0.5, lift(60)), (0.5, strike(62)), (1.5, lift(62))),
    ]


def test_tempo_changes_are_exact_also_within_a_note_and_from_another_track(read):
    conductor = track((0, tempo(600_000)), (480, tempo(250_000)), (240, tempo(1_200_000)))
    notes = track((240, on(60)), (480, off(60)), (120, on(64)), (360, off(64)))
    # From tick 240: half a beat at 0.6 s, half at 0.25 s, then all at 1.2 s a beat.
    expected = [(0.0, strike(60)), (0.425, lift(60)), (0.725, strike(64)), (1.625, lift(64))]
    found = read(smf(conductor, notes))
    assert [event for _, event in found] == [event for _, event in expected]
    assert [t for t, _ in found] == pytest.approx([t for t, _ in expected], abs=1e-12)


def test_tracks_are_merged_and_drums_left_out(read):
    left, right = track((0, on(48)), (480, off(48))), track((240, on(72)), (480, off(72)))
    drums = track((0, on(36, channel=9)), (480, off(36, channel=9)))
    assert read(smf(left, drums, right)) == [
        *((0.0, strike(48)), (0.25, strike(72)), (0.5, lift(48)), (0.75, lift(72))),
    ]


def test_a_note_on_of_velocity_0_ends_the_note_also_under_running_status(read):
    running = ((0, on(60)), (480, bytes([60, 0])), (0, bytes([62, 90])), (480, bytes([62, 0])))
    assert read(smf(track(*running))) == [
        *((0.0, strike(60)), (0.5, lift(60)), (0.5, strike(62, 90)), (1.0, lift(62))),
    ]


def test_at_one_moment_releases_come_before_pedal_and_pedal_before_strikes(read):
    messages = ((0, on(60)), (480, on(62)), (0, pedal(127)), (0, off(60)), (480, off(62)))
    assert read(smf(track(*messages))) == [
        *((0.0, strike(60)), (0.5, lift(60)), (0.5, foot(127)), (0.5, strike(62)), (1.0, lift(62))),
    ]


def test_the_pedal_is_kept_where_it_changes_sides(read):
    values = ((0, pedal(20)), (0, on(60)), (96, pedal(64)), (96, pedal(127)), (96, pedal(63)), (96, pedal(0)))
    assert read(smf(track(*values, (96, off(60))))) == [
        *((0.0, strike(60)), (0.1, foot(127)), (0.3, foot(0)), (0.5, lift(60))),
    ]


def test_sostenuto_is_kept_where_it_changes_sides_and_the_soft_pedal_is_not(read):
    down, still, up = (pedal(value, SOSTENUTO) for value in (64, 127, 0))
    soft = pedal(127, 67)
    messages = ((0, on(60)), (96, down), (96, still), (0, soft), (96, pedal(127)), (96, off(60)), (96, up))
    assert read(smf(track(*messages))) == [
        *((0.0, strike(60)), (0.1, foot(127, SOSTENUTO)), (0.3, foot(127)), (0.4, lift(60)), (0.5, foot(0, SOSTENUTO))),
    ]


def test_a_pedal_that_is_down_before_the_first_note_is_down_at_its_start(read):
    assert read(smf(track((0, pedal(127)), (960, on(60)), (480, off(60)), (480, pedal(0))))) == [
        *((0.0, foot(127)), (0.0, strike(60)), (0.5, lift(60)), (1.0, foot(0))),
    ]


def test_overlapping_strikes_of_a_pitch_are_all_kept_and_it_sounds_until_its_last_key_is_up(read):
    assert read(smf(track((0, on(60, 50)), (480, on(60, 90)), (480, off(60)), (480, off(60))))) == [
        *((0.0, strike(60, 50)), (0.5, strike(60, 90)), (1.5, lift(60))),
    ]


def test_a_note_of_no_length_is_struck_before_it_is_released(read):
    assert read(smf(track((0, on(60)), (0, off(60))))) == [(0.0, strike(60)), (0.0001, lift(60))]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(smf(ONE_NOTE, tracks=7), id="fewer tracks than the header says"),
        pytest.param(smf(chunk(b"XFIH", b"abcd"), ONE_NOTE, tracks=1), id="a chunk of another kind before"),
        pytest.param(smf(ONE_NOTE, chunk(b"XFKM", b"abcd"), tracks=2), id="a chunk of another kind behind"),
        pytest.param(smf(ONE_NOTE) + b"rubbish after the end", id="rubbish after the last track"),
        pytest.param(smf(track((0, b"\xff\x03\x02\xff\xfe"), (0, on(60)), (480, off(60)))), id="a name in no encoding"),
        pytest.param(smf(track((0, b"\xf0\x03abc"), (0, on(60)), (480, off(60)))), id="system exclusive"),
    ],
)
def test_what_players_forgive_is_read(read, data):
    assert read(data) == [(0.0, strike(60)), (0.5, lift(60))]


# Writing


def test_write_gives_a_track_a_name_and_a_millisecond_a_tick(tmp_path):
    path = tmp_path / "out.mid"
    midifile.write(path, {"seed": [Timed(0.25, strike(60, 80)), Timed(1.0, lift(60))], "続き": [Timed(1.5, foot(127))]})
    file = mido.MidiFile(path, charset="utf-8")
    assert (file.type, file.ticks_per_beat) == (1, 500)
    assert [[str(message) for message in t] for t in file.tracks] == [
        [
            "MetaMessage('track_name', name='seed', time=0)",
            "MetaMessage('set_tempo', tempo=500000, time=0)",
            "note_on channel=0 note=60 velocity=80 time=250",
            "note_off channel=0 note=60 velocity=64 time=750",
            "MetaMessage('end_of_track', time=0)",
        ],
        [
            "MetaMessage('track_name', name='続き', time=0)",
            "control_change channel=0 control=64 value=127 time=1500",
            "MetaMessage('end_of_track', time=0)",
        ],
    ]


moves = st.tuples(st.integers(1, 4000), st.sampled_from([48, 60, 61, 72, "pedal"]), st.integers(1, 127))


@given(st.lists(moves, max_size=40))
def test_what_was_written_is_read_to_the_millisecond(tmp_path_factory, rows):
    ms, down, events = 0, set(), [Timed(0.0, strike(30))]
    for gap_ms, what, velocity in rows:
        ms += gap_ms
        if what == "pedal":
            event = foot(0 if what in down else 127)
        else:
            event = lift(what) if what in down else strike(what, velocity)
        down ^= {what}
        events.append(Timed(ms / 1000, event))
    for pitch in [*sorted(down - {"pedal"}), 30]:
        ms += 1
        events.append(Timed(ms / 1000, lift(pitch)))
    path = tmp_path_factory.getbasetemp() / "round_trip.mid"
    midifile.write(path, {"piano": events})
    back = midifile.read(path)
    assert [t.event for t in back] == [t.event for t in events]
    assert [t.time_s for t in back] == pytest.approx([t.time_s for t in events], abs=1e-9)


def test_an_event_that_is_out_of_order_is_written_at_once_and_shifts_nothing(tmp_path):
    path = tmp_path / "out.mid"
    midifile.write(
        path, {"x": [Timed(0.0, strike(60)), Timed(1.0, strike(62)), Timed(0.9, lift(60)), Timed(2, lift(62))]}
    )
    assert [(t.time_s, t.event) for t in midifile.read(path)] == [
        *((0.0, strike(60)), (1.0, lift(60)), (1.0, strike(62)), (2.0, lift(62))),
    ]


@pytest.mark.parametrize("where", ["no/such/folder/out.mid", "."])
def test_a_place_that_cannot_be_written_is_one_line(tmp_path, where):
    path = tmp_path / where
    with pytest.raises(MidiFileError) as caught:
        midifile.write(path, {"piano": [Timed(0.0, strike(60))]})
    assert str(caught.value).startswith(f"{path}: cannot be written: ")
    assert "\n" not in str(caught.value)


# Bad files


CUT = smf(track(*[(10, on(p)) for p in range(40)], *[(10, off(p)) for p in range(40)]))
REFUSED = {
    "is empty (0 bytes); choose another file": b"",
    "is not a MIDI file (it begins with b'dear'); choose another file": b"dear diary, today I played\n" * 20,
    "is not a MIDI file (it begins with b'RIFF'); choose another file": b"RIFF\0\0\0\0RMIDdata",
    "is cut off after 4 bytes; export it again": b"MThd",
    "holds no notes; choose a file with pitched notes": smf(),
    "holds only drums; choose a file with pitched notes": smf(track((0, on(36, channel=9)), (9, off(36, channel=9)))),
    "counts time in 0 ticks per beat; export it with 1 or more ticks per beat": smf(ONE_NOTE, division=0),
}


@pytest.mark.parametrize("message", REFUSED)
def test_a_bad_file_is_one_line_that_says_what_and_what_to_do(refusal, message):
    assert refusal(REFUSED[message]) == message


def test_a_file_cut_off_anywhere_is_read_as_far_as_it_goes(tmp_path):
    path, struck = tmp_path / "cut.mid", []
    for length in range(1, len(CUT) + 1):
        path.write_bytes(CUT[:length])
        try:
            struck.append(sum(isinstance(t.event, NoteOn) for t in midifile.read(path)))
        except MidiFileError:
            struck.append(0)
    assert struck == sorted(struck)
    assert set(struck) == set(range(41))


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param([(LONGEST_DELTA, on(60)), (480, off(60))], id="78 hours"),
        pytest.param([(LONGEST_DELTA, on(60)), (LONGEST_DELTA, off(60))] * 6, id="more than 32 bits of ticks"),
        pytest.param([(LONGEST_DELTA, b"\xff\x01\x00")] * 8 + [(999, on(60)), (9, off(60))], id="notes behind 32 bits"),
        pytest.param([(0, tempo(0xFFFFFF)), (0, on(60)), (480 * 6000, off(60))], id="a slow tempo"),
    ],
)
def test_a_file_that_claims_to_last_longer_than_a_day_is_refused(refusal, messages):
    assert refusal(smf(track(*messages))) == "claims to last more than 24 h; choose a shorter file"


@pytest.mark.parametrize("presses", [1, 6], ids=["78 hours", "more than 32 bits of ticks"])
def test_a_pedal_that_moves_on_for_days_makes_no_piece_longer(read, presses):
    feet = [(LONGEST_DELTA, pedal(v)) for v in (0, 127)] * presses
    assert read(smf(track((0, on(60)), (480, off(60)), (0, pedal(127)), *feet))) == [
        *((0.0, strike(60)), (0.5, lift(60)), (0.5, foot(127))),
    ]


def test_a_file_that_ends_in_a_meta_event_of_the_wrong_length_reads_the_same_every_time(read):
    body = b"\x00" + on(60) + b"\x83\x60" + off(60) + b"\x00\xff\x51\x00"
    # Its missing bytes are never looked for beyond the file.
    assert read(smf(chunk(b"MTrk", body))) == [(0.0, strike(60)), (0.5, lift(60))]


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(MidiFileError) as caught:
        midifile.read(tmp_path / "none.mid")
    assert str(caught.value) == f"{tmp_path / 'none.mid'}: cannot be read: No such file or directory; check the path"


def test_damaged_bytes_are_read_or_refused_and_nothing_else(tmp_path):
    """A flipped byte may change the music or end it, but raises nothing but MidiFileError."""
    rng, path, outcomes, messages = random.Random(0), tmp_path / "damaged.mid", [], []
    sound = smf(
        track((0, tempo(600_000)), (960, tempo(300_000))),
        track(*[(24, on(40 + i, 30 + i)) for i in range(40)], (0, pedal(127)), *[(12, off(40 + i)) for i in range(40)]),
    )
    for _ in range(2000):
        data = bytearray(sound)
        for _ in range(rng.choice([1, 1, 2, 8])):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data)
        try:
            events = midifile.read(path)
        except MidiFileError as error:
            outcomes.append("refused")
            messages.append(str(error))
        else:
            outcomes.append("read")
            times_s = [t.time_s for t in events]
            assert times_s == sorted(times_s)
            assert 0 <= times_s[0] <= times_s[-1] <= midifile.MAX_DURATION_S
    assert not any("\n" in message for message in messages)
    assert outcomes.count("read") > 1500
    assert outcomes.count("refused") > 30


# A real collection


def measure(path: Path) -> tuple[int, float, float]:
    """Return a file's notes, its seconds from first note to last event, and from tick 0 to its end."""
    events = midifile.read(path)
    notes = sum(isinstance(t.event, NoteOn) for t in events)
    return notes, events[-1].time_s, ScoreSecond.from_file(path).end()


@pytest.mark.slow
@pytest.mark.skipif(not MAESTRO.is_dir(), reason="needs the MIDI files of MAESTRO v3.0.0 in ../shared/data/maestro")
def test_all_of_maestro_is_read_to_the_note():
    with next(MAESTRO.glob("maestro-*.csv")).open(newline="", encoding="utf-8") as sheet:
        split_of = {row["midi_filename"]: row["split"] for row in csv.DictReader(sheet)}
    paths = sorted(MAESTRO.rglob("*.mid*"))
    assert len(paths) == 1099
    totals = {"train": [0, 0.0, 0.0], "validation": [0, 0.0, 0.0]}
    with ProcessPoolExecutor() as pool:
        for path, figures in zip(paths, pool.map(measure, paths, chunksize=8), strict=True):
            row = totals[split_of[path.relative_to(MAESTRO).as_posix()]]
            row[:] = [total + figure for total, figure in zip(row, figures, strict=True)]
    assert (totals["train"][0], totals["validation"][0]) == (5_659_329, 639_425)
    # The published 159.48 h are of whole files, from tick 0; read() starts at the first note
    # and ends at the last event that it keeps, which leaves out 1.2 s of silence a file.
    assert totals["train"][2] / 3600 == pytest.approx(159.48, abs=0.005)
    assert totals["train"][1] / 3600 == pytest.approx(159.155, abs=0.005)
