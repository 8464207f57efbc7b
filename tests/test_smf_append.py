"""A seed comes back as it is, with one track more: the continuation, on the seed's ticks and on a free channel."""

from __future__ import annotations

import struct
from io import BytesIO

import mido
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from smf_bytes import (
    ONE_NOTE,
    bend,
    chords,
    chunk,
    control,
    meta,
    metre,
    name,
    off,
    on,
    pedal,
    program,
    smf,
    sysex,
    tempo,
    track,
    variable_length,
)

from musebridge.errors import MidiFileError
from musebridge.events import NoteOff, NoteOn, Timed
from musebridge.smf import append
from musebridge.smf.append import Span
from musebridge.smf.opening import opening
from musebridge.smf.piece import Piece, parse_piece

CONDUCTOR = track((0, name("Rubato")), (0, metre(6, 3)), *[(48, tempo(500_000 + 20_000 * (i % 7))) for i in range(33)])
SONG = smf(
    CONDUCTOR,
    track((0, name("Cello")), (0, program(42)), (0, control(10, 30)), *chords(8), (0, bend(9000))),
    chunk(b"XFIH", b"kept as it is"),
    track(
        (0, name("Harp")), (0, control(0, 2, 1)), (0, control(32, 3, 1)), (0, program(46, 1)), *chords(16, channel=1)
    ),
    track((0, name("Kit")), (0, on(36, channel=9)), (60, off(36, channel=9))),
    tracks=4,
)


def split(data: bytes) -> list[bytes]:
    """Return the chunks of a file whose lengths are right."""
    chunks, at = [], 0
    while at < len(data):
        end = at + 8 + struct.unpack_from(">I", data, at + 4)[0]
        chunks.append(data[at:end])
        at = end
    return chunks


def answer(*notes: tuple[float, float, int]) -> list[Timed]:
    """Return events of (seconds from the seed's first note, length, pitch)."""
    return [
        timed
        for at_s, length_s, pitch in notes
        for timed in (Timed(at_s, NoteOn(pitch=pitch, velocity=70)), Timed(at_s + length_s, NoteOff(pitch=pitch)))
    ]


def followed(data: bytes, *, only: bool = False, channel: int = 0) -> tuple[Piece, mido.MidiFile, bytes, list[str]]:
    """Continue a file by a note of half a second, a quarter of a second behind its end."""
    piece = parse_piece(data)
    span = append.span_of_seconds(piece, 2.0)
    compose = append.alone if only else append.continued
    out, remarks = compose(piece, answer((piece.end_s + 0.25, 0.5, 65)), span, channel=channel)
    return piece, parsed(out), out, remarks


def parsed(data: bytes) -> mido.MidiFile:
    known = [part for part in split(data) if part[:4] in (b"MThd", b"MTrk")]  # mido stumbles over others
    return mido.MidiFile(file=BytesIO(b"".join(known)))


def timeline(events: mido.MidiTrack) -> list[tuple[int, mido.Message]]:
    """Return (tick, message without time) of each event of a track."""
    ticks = np.cumsum([message.time for message in events]).tolist()
    return [(tick, message.copy(time=0)) for tick, message in zip(ticks, events, strict=True)]


def test_every_chunk_of_the_seed_stays_and_one_track_is_added() -> None:
    _, file, out, remarks = followed(SONG)
    before, after = split(SONG), split(out)
    assert after[1:-1] == before[1:]
    assert (file.type, file.ticks_per_beat, len(file.tracks)) == (1, 480, 5)
    assert file.tracks[-1].name == "continuation"
    assert remarks == []


def test_the_continuation_follows_the_tempo_map_on_a_free_channel_with_the_sound_of_its_part() -> None:
    piece, file, _, _ = followed(SONG)
    events = timeline(file.tracks[-1])
    assert [str(message) for _, message in events] == [
        "MetaMessage('track_name', name='continuation', time=0)",
        "control_change channel=2 control=0 value=2 time=0",
        "control_change channel=2 control=32 value=3 time=0",
        "program_change channel=2 program=46 time=0",
        "note_on channel=2 note=65 velocity=70 time=0",
        "note_off channel=2 note=65 velocity=64 time=0",
        "MetaMessage('end_of_track', time=0)",
    ]
    # Behind the last tempo a beat lasts 0.58 s.
    seconds = [(tick - piece.end) * 0.58 / 480 for tick, _ in events[-3:]]
    assert piece.end == 16 * 240
    assert seconds == pytest.approx([0.25, 0.75, 2.0], abs=0.58 / 480)


def test_leading_silence_stays() -> None:
    _, file, out, _ = followed(smf(track((115_200, on(60)), (480, off(60)))))
    assert split(out)[1] == split(smf(track((115_200, on(60)), (480, off(60)))))[1]
    assert [tick for tick, message in timeline(file.tracks[1]) if message.type == "note_on"] == [115_680 + 240]


def test_type_0_becomes_type_1_and_that_is_said() -> None:
    _, file, out, remarks = followed(smf(ONE_NOTE, kind=0))
    assert (file.type, len(file.tracks)) == (1, 2)
    assert split(out)[1] == ONE_NOTE
    assert remarks == ["type 0 became type 1, which has room for another track"]


def test_type_2_becomes_type_1() -> None:
    assert followed(smf(ONE_NOTE, kind=2))[1].type == 1


@pytest.mark.parametrize(("division", "per_second"), [(0xE728, 1000), (0xE80A, 240), (0xE250, 2400)])
def test_frames_are_kept_and_followed(division: int, per_second: int) -> None:
    data = smf(track((0, on(60)), (per_second, off(60))), division=division, kind=0)
    piece, _, out, _ = followed(data)
    assert out[12:14] == data[12:14]
    assert piece.end == per_second
    body = split(out)[-1][8:]
    assert variable_length(per_second * 5 // 4) + on(65, 70, channel=1) in body


def test_pedals_that_are_down_are_lifted_before_the_continuation_begins() -> None:
    moves = [
        (0, pedal(127)),
        (0, pedal(90, 66)),
        (0, pedal(127, 67)),
        (0, pedal(127, channel=3)),
        (0, pedal(0, channel=3)),
        *chords(4),
    ]
    _, file, _, _ = followed(smf(track(*moves)))
    lifts = [(tick, str(message)) for tick, message in timeline(file.tracks[-1]) if message.type == "control_change"]
    assert lifts == [(960, f"control_change channel=0 control={number} value=0 time=0") for number in (64, 66, 67)]


def test_a_pedal_that_rises_long_after_the_music_is_lifted_at_its_end() -> None:
    piece, file, _, _ = followed(smf(track((0, pedal(127)), *chords(4), (1_000_000, pedal(0)))))
    assert [tick for tick, message in timeline(file.tracks[-1]) if message.is_cc(64)] == [piece.end] == [960]


def test_keys_that_nothing_lifts_are_lifted() -> None:
    _, file, _, _ = followed(smf(track(*chords(4), (0, on(60)), (480, meta(1, b"end")))))
    assert [(tick, m.channel) for tick, m in timeline(file.tracks[-1]) if m.is_cc(123)] == [(1440, 0)]


def test_a_channel_that_is_wanted_and_free_is_taken() -> None:
    assert {m.channel for m in followed(SONG, channel=6)[1].tracks[-1] if m.type == "note_on"} == {6}
    _, file, _, remarks = followed(SONG, channel=1)
    assert {m.channel for m in file.tracks[-1] if m.type == "note_on"} == {2}
    assert remarks == ["channel 2 is taken; the continuation is on 3"]


def test_drum_channels_are_never_taken() -> None:
    used = [(0, control(7, 100, channel)) for channel in range(16) if channel not in (9, 11, 12)]
    kit = (0, sysex(bytes([0x41, 0x10, 0x42, 0x12, 0x40, 0x1B, 0x15, 1, 0])))
    _, file, _, _ = followed(smf(track(*used, kit, *chords(4))))
    assert {m.channel for m in file.tracks[-1] if m.type == "note_on"} == {12}


def test_where_no_channel_is_free_one_without_notes_is_taken_and_that_is_said() -> None:
    touched = [(0, control(7, 100, channel)) for channel in range(16)]
    _, file, _, remarks = followed(smf(track(*touched, (0, program(19)), *chords(4))))
    assert remarks[0] == "no channel is free; the continuation is on 2, which has no notes"
    sound = [str(m) for tick, m in timeline(file.tracks[-1]) if tick == 960]
    assert sound == [
        "control_change channel=1 control=121 value=0 time=0",
        "pitchwheel channel=1 pitch=0 time=0",
        "program_change channel=1 program=19 time=0",
    ]


def test_where_all_channels_play_the_part_that_is_followed_lends_its_own() -> None:
    others = [track((0, on(60, channel=c)), (480, off(60, channel=c))) for c in range(16)]
    _, file, _, remarks = followed(smf(*others, track((0, name("Organ")), *chords(16, channel=7))))
    assert {m.channel for m in file.tracks[-1] if m.type == "note_on"} == {7}
    assert remarks == ["no channel is free; the continuation is on 8, with track 17 Organ"]


def test_the_continuation_plays_on_the_port_of_its_part() -> None:
    far = track((0, bytes([0xFF, 0x21, 1, 2])), *chords(4))
    _, file, _, _ = followed(smf(track((0, on(60, channel=0)), (10, off(60))), far))
    assert [m.port for m in file.tracks[-1] if m.type == "midi_port"] == [2]


def test_alone_it_lies_where_it_would_with_its_seed_and_keeps_the_tempo_map() -> None:
    _, whole, _, _ = followed(SONG)
    _, file, _, remarks = followed(SONG, only=True)
    assert (file.type, file.ticks_per_beat, len(file.tracks), remarks) == (1, 480, 2, [])
    assert timeline(file.tracks[1]) == timeline(whole.tracks[-1])
    tempos = [row for row in timeline(whole.tracks[0]) if row[1].type in ("set_tempo", "time_signature")]
    assert timeline(file.tracks[0])[:-1] == tempos


def test_a_damaged_track_is_written_so_that_strict_readers_take_it_and_others_stay() -> None:
    bad = (
        b"\0"
        + on(60)
        + b"\x83\x60\x3c\0"
        + b"\0\xb0\x07\xa8"
        + b"\0"
        + sysex(b"\x7e")
        + b"\0\x07\x10"
        + b"\0\xf4\0"
        + on(62)
    )
    data = smf(CONDUCTOR, chunk(b"MTrk", bad))[:-1]
    _, file, out, _ = followed(data)
    assert split(out)[1] == CONDUCTOR
    assert [str(m) for _, m in timeline(file.tracks[1])] == [
        "note_on channel=0 note=60 velocity=64 time=0",
        "note_on channel=0 note=60 velocity=0 time=0",
        "control_change channel=0 control=7 value=127 time=0",
        "sysex data=(126) time=0",
        "control_change channel=0 control=7 value=16 time=0",
        "MetaMessage('end_of_track', time=0)",
    ]


def test_notes_last_a_tick_at_least_and_never_cross_on_a_coarse_grid() -> None:
    piece = parse_piece(smf(track((0, on(60)), (4, off(60))), division=4))
    events = answer((2.0, 0.01, 60), (2.02, 0.01, 60), (2.04, 0.01, 60))
    out, _ = append.continued(piece, events, Span(16, 24))
    moves = [(tick, m.type) for tick, m in timeline(parsed(out).tracks[1]) if m.type.startswith("note")]
    assert moves == [
        (16, "note_on"),
        (17, "note_off"),
        (17, "note_on"),
        (18, "note_off"),
        (18, "note_on"),
        (19, "note_off"),
    ]


def test_a_seed_of_as_many_tracks_as_there_can_be_is_one_line() -> None:
    empty = chunk(b"MTrk", b"\0\xff\x2f\0")
    piece = parse_piece(smf(ONE_NOTE, *[empty] * 65_534, tracks=65_535))
    with pytest.raises(MidiFileError, match="has 65534 tracks, and no file can have more"):
        append.continued(piece, [], Span(480, 960))


# Openings


def test_an_opening_ends_its_notes_and_keeps_all_else_before_it() -> None:
    lines = [
        (0, name("Piano")),
        (0, tempo(600_000)),
        (0, control(7, 90)),
        (480, on(60)),
        (240, on(64)),
        (480, off(60)),
        (0, off(64)),
    ]
    data = smf(track(*lines, (0, tempo(250_000)), *chords(8)))
    piece = opening(parse_piece(data), 0.6, None).piece
    file = parsed(append.continued(piece, [], Span(960, 1920))[0])
    assert timeline(file.tracks[0]) == timeline(
        mido.MidiTrack(
            [
                *parsed(data).tracks[0][:5],
                mido.Message("note_off", note=60, velocity=64, time=240),
                mido.Message("note_off", note=64, velocity=64, time=0),
                mido.MetaMessage("end_of_track", time=0),
            ]
        )
    )
    assert (piece.end, piece.notes_read) == (960, 2)


def test_a_continuation_shorter_than_a_tick_lasts_one() -> None:
    piece = parse_piece(smf(track((0, on(60)), (4, off(60))), division=1))
    assert append.span_of_seconds(piece, 0.1) == Span(4, 5)


# Bars


@pytest.mark.parametrize(
    ("head", "seed_ticks", "bars", "begin", "end"),
    [
        pytest.param([], 7680, 4, 7680, 15_360, id="4/4 on the bar line"),
        pytest.param([(0, metre(3, 2))], 1440, 2, 1440, 4320, id="3/4"),
        pytest.param([(0, metre(6, 3))], 1440, 2, 1440, 4320, id="6/8"),
        pytest.param([(0, metre(7, 3))], 1680, 1, 1680, 3360, id="7/8"),
        pytest.param([], 7000, 2, 7680, 11_520, id="in the middle of a bar"),
        pytest.param([], 7690, 2, 7690, 11_520, id="just over the bar line"),
        pytest.param([], 7900, 2, 9600, 13_440, id="well over the bar line"),
    ],
)
def test_bars_are_those_of_the_seed(
    head: list[tuple[int, bytes]], seed_ticks: int, bars: int, begin: int, end: int
) -> None:
    piece = parse_piece(smf(track(*head, (0, on(60)), (seed_ticks, off(60)))))
    assert append.span_of_bars(piece, bars) == Span(begin, end)


def test_a_change_of_metre_begins_a_bar() -> None:
    piece = parse_piece(smf(track((0, metre(4, 2)), (2000, metre(3, 2)), (0, on(60)), (1000, off(60)))))
    assert append.span_of_bars(piece, 2) == Span(2000 + 1440, 2000 + 3 * 1440)


def test_frames_make_no_bars() -> None:
    with pytest.raises(MidiFileError, match="counts time in SMPTE frames, which make no bars; give --seconds"):
        append.span_of_bars(parse_piece(smf(ONE_NOTE, division=0xE728)), 4)


# Any file


channels, sevens = st.integers(0, 15), st.integers(0, 127)
messages = st.one_of(
    st.builds(on, sevens, sevens, channels),
    st.builds(off, sevens, channels),
    st.builds(control, sevens, sevens, channels),
    st.builds(program, sevens, channels),
    st.builds(bend, st.integers(0, 16383), channels),
    st.builds(lambda p, c: bytes([0xD0 | c, p]), sevens, channels),
    st.builds(lambda k, p, c: bytes([0xA0 | c, k, p]), sevens, sevens, channels),
    st.builds(tempo, st.integers(100_000, 2_000_000)),
    st.builds(metre, st.integers(1, 12), st.integers(0, 4)),
    st.builds(meta, st.sampled_from([1, 2, 3, 5, 6, 7, 0x7F]), st.binary(max_size=200)),
    st.builds(sysex, st.lists(sevens, min_size=1, max_size=9).map(bytes)),
)
deltas = st.one_of(st.integers(0, 500), st.integers(0, 30_000))
tracks = st.lists(st.tuples(deltas, messages), max_size=30).map(lambda rows: track(*rows))


@given(st.lists(tracks, min_size=1, max_size=5), st.integers(24, 960), st.sampled_from([0, 1]))
def test_whatever_a_seed_holds_comes_back_byte_for_byte(chunks: list[bytes], division: int, kind: int) -> None:
    chunks = [*chunks, ONE_NOTE]
    data = smf(*chunks, division=division, kind=kind)
    piece = parse_piece(data)
    out, _ = append.continued(piece, answer((piece.end_s, 0.5, 65)), append.span_of_seconds(piece, 1.0))
    assert split(out)[1:-1] == chunks
    file, before = parsed(out), parsed(data)
    assert [timeline(t) for t in file.tracks[:-1]] == [timeline(t) for t in before.tracks]
    notes = [(tick, m) for tick, m in timeline(file.tracks[-1]) if m.type.startswith("note")]
    assert [(m.type, m.note) for _, m in notes] == [("note_on", 65), ("note_off", 65)]
    assert notes[0][0] == piece.end
    played = {m.channel for t in before.tracks for m in t if m.type == "note_on"}
    assert notes[0][1].channel not in played or len(played | {9}) == 16
