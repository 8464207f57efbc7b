"""What is in a file that departs from the standard is read as players read it, and what was mended is told."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from smf_bytes import (
    ONE_NOTE,
    chords,
    chunk,
    control,
    meta,
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

from musebridge import vocab
from musebridge.errors import MidiFileError
from musebridge.events import NoteOff, NoteOn
from musebridge.smf.piece import Piece, open_piece, parse_piece
from musebridge.smf.repairs import describe

END = b"\x00\xff\x2f\x00"
HOUR = 480 * 2 * 3600


def notes_of(piece: Piece) -> list[tuple[int, int, int, int]]:
    """Return (strike, release, pitch, velocity) of each note of the file, in ticks."""
    columns = (piece.notes.on, piece.notes.off, piece.notes.pitch, piece.notes.velocity)
    return sorted(zip(*(column.tolist() for column in columns), strict=True))


def read(data: bytes) -> tuple[list[tuple[int, int, int, int]], str]:
    """Return the notes of a file, and what was mended."""
    piece = parse_piece(data)
    return notes_of(piece), describe(piece.repairs)


def raw(body: bytes) -> bytes:
    """Return a file of one track of just these bytes."""
    return smf(chunk(b"MTrk", body))


def at(delta: int, message: bytes) -> bytes:
    return variable_length(delta) + message


ONE = (0, 480, 60, 64)
TWO = [ONE, (480, 960, 62, 64)]
FIRST = at(0, on(60)) + at(480, off(60))
SECOND = at(0, on(62)) + at(480, off(62))

MENDED = {
    "a controller of value 168": (
        raw(FIRST + at(0, b"\xb0\x07\xa8") + SECOND + END),
        TWO,
        "1 value above 127 clipped",
    ),
    "a velocity of 200": (
        raw(FIRST + at(0, b"\x90\x3e\xc8") + at(480, off(62)) + END),
        [ONE, (480, 960, 62, 127)],
        "1 value above 127 clipped",
    ),
    "a release of velocity 255": (
        raw(FIRST + at(0, on(62)) + at(480, b"\x80\x3e\xff") + END),
        TWO,
        "1 value above 127 clipped",
    ),
    "a bend and a pressure above 127": (
        raw(FIRST + at(0, b"\xe0\x80\xc0") + at(0, b"\xd0\x90") + SECOND + END),
        TWO,
        "3 values above 127 clipped",
    ),
    "a key that no keyboard has": (
        raw(FIRST + at(0, b"\x90\xc8\x40") + SECOND + END),
        TWO,
        "1 event whose key, program or controller is above 127 left out",
    ),
    "a program of 200 and a controller of 199": (
        raw(FIRST + at(0, b"\xc0\xc8") + at(0, b"\xb0\xc7\x10") + SECOND + END),
        TWO,
        "2 events whose key, program or controller is above 127 left out",
    ),
    "running status behind a SysEx": (
        raw(
            at(0, on(60))
            + at(480, b"\x3c\x00")
            + at(0, sysex(b"\x7e\x7f\x06\x01"))
            + at(0, b"\x3e\x40")
            + at(480, b"\x3e\x00")
            + END
        ),
        TWO,
        "1 running status behind a SysEx carried on",
    ),
    "running status behind an escape": (
        raw(
            at(0, on(60))
            + at(480, b"\x3c\x00")
            + at(0, b"\xf7\x01\xfa")
            + at(0, b"\x3e\x40")
            + at(480, b"\x3e\x00")
            + END
        ),
        TWO,
        "1 running status behind a SysEx carried on",
    ),
    "running status behind a meta event, which all players allow": (
        raw(at(0, on(60)) + at(480, b"\x3c\x00") + at(0, name("x")) + at(0, b"\x3e\x40") + at(480, b"\x3e\x00") + END),
        TWO,
        "",
    ),
    "a SysEx in packets": (
        raw(
            FIRST
            + at(0, b"\xf0\x03\x43\x12\x00")
            + at(10, b"\xf7\x02\x43\x12")
            + at(10, b"\xf7\x02\x00\xf7")
            + SECOND
            + END
        ),
        [ONE, (500, 980, 62, 64)],
        "",
    ),
    "a SysEx whose length is left out": (
        raw(FIRST + at(0, b"\xf0\x43\x10\x4c\x00\x00\x7e\x00\xf7") + SECOND * 12 + END),
        [ONE, *((480 + 480 * i, 960 + 480 * i, 62, 64) for i in range(12))],
        "1 SysEx of a wrong length",
    ),
    "a SysEx whose length is one too few": (
        raw(FIRST + at(0, b"\xf0\x04\x7e\x7f\x09\x01\xf7") + SECOND + END),
        TWO,
        "1 SysEx of a wrong length",
    ),
    "a note in an escape": (
        raw(FIRST + at(0, b"\xf7\x03\x90\x3e\x40") + at(480, b"\xf7\x03\x80\x3e\x00") + END),
        TWO,
        "2 messages taken out of escapes",
    ),
    "an undefined status byte": (
        raw(FIRST + at(0, b"\xf4") + SECOND + END),
        TWO,
        "1 undefined status byte passed over",
    ),
    "a system message with its data": (
        raw(FIRST + at(0, b"\xf2\x10\x20") + at(0, b"\xf3\x01") + at(0, b"\xf8") + SECOND + END),
        TWO,
        "3 undefined status bytes passed over",
    ),
    "a system message without its data": (
        raw(FIRST + at(0, b"\xf1") + SECOND + END),
        TWO,
        "1 undefined status byte passed over",
    ),
    "data before any status": (
        raw(at(0, b"\x3c\x40") + FIRST + SECOND + END),
        [(0, 480, 60, 64), (480, 960, 62, 64)],
        "3 bytes of no meaning passed over",
    ),
    "a time of five bytes": (
        raw(FIRST + b"\x80\x80\x80\x80\x00" + on(62) + at(480, off(62)) + END),
        TWO,
        "1 time of more than four bytes",
    ),
    "a header that counts no track": (smf(ONE_NOTE, tracks=0), [ONE], "a wrong number of tracks in the header"),
    "a header that counts too many": (smf(ONE_NOTE, tracks=9), [ONE], "a wrong number of tracks in the header"),
    "a type that is none": (
        smf(ONE_NOTE, kind=7),
        [ONE],
        "a header of another length or type than the standard's",
    ),
    "a longer header": (
        b"MThd" + struct.pack(">IHHH", 10, 1, 1, 480) + b"\x01\x02\x03\x04" + ONE_NOTE,
        [ONE],
        "a header of another length or type than the standard's",
    ),
    "a header of length 0": (
        b"MThd" + struct.pack(">IHHH", 0, 1, 1, 480) + ONE_NOTE,
        [ONE],
        "a header of another length or type than the standard's",
    ),
    "a header that claims four bytes too many": (
        b"MThd" + struct.pack(">IHHH", 10, 1, 1, 480) + ONE_NOTE,
        [ONE],
        "a header of another length or type than the standard's",
    ),
    "bytes before the header": (b"\xef\xbb\xbf\r\n" + smf(ONE_NOTE), [ONE], "5 bytes before the header passed over"),
    "a RIFF container": (
        b"RIFF"
        + struct.pack("<I", 4 + 8 + len(smf(ONE_NOTE)))
        + b"RMIDdata"
        + struct.pack("<I", len(smf(ONE_NOTE)))
        + smf(ONE_NOTE),
        [ONE],
        "taken out of a RIFF container",
    ),
    "a RIFF container with a list before": (
        b"RIFF\x00\x00\x00\x00RMIDLIST\x05\x00\x00\x00INFOx\x00data"
        + struct.pack("<I", len(smf(ONE_NOTE)))
        + smf(ONE_NOTE)
        + b"DLS \x00",
        [ONE],
        "taken out of a RIFF container",
    ),
    "a RIFF container that claims nothing": (
        b"RIFF\x00\x00\x00\x00RMIDdata\x00\x00\x00\x00" + smf(ONE_NOTE),
        [ONE],
        "taken out of a RIFF container",
    ),
    "the last track claims four bytes too many": (
        smf(b"MTrk" + struct.pack(">I", len(FIRST + END) + 4) + FIRST + END),
        [ONE],
        "1 track of a wrong length",
    ),
    "a track claims 4 GB": (
        smf(b"MTrk\xff\xff\xff\xff" + FIRST + END, track((480, on(62)), (480, off(62)))),
        TWO,
        "1 track of a wrong length",
    ),
    "a track claims nothing": (
        smf(b"MTrk\x00\x00\x00\x00" + FIRST + END, track((480, on(62)), (480, off(62)))),
        TWO,
        "1 track of a wrong length",
    ),
    "a track claims too little": (
        smf(b"MTrk" + struct.pack(">I", 5) + FIRST + END, track((480, on(62)), (480, off(62)))),
        TWO,
        "1 track of a wrong length",
    ),
    "a track claims the next one too": (
        smf(
            b"MTrk" + struct.pack(">I", len(FIRST + END) + len(ONE_NOTE)) + FIRST + END,
            track((480, on(62)), (480, off(62))),
        ),
        TWO,
        "1 track of a wrong length",
    ),
    "padding between tracks": (
        smf(ONE_NOTE, b"\0\0\0", track((480, on(62)), (480, off(62))), tracks=2),
        TWO,
        "3 bytes outside the tracks passed over",
    ),
    "a text that holds the name of a chunk": (
        smf(track((0, meta(1, b"not an MTrk at all")), (0, on(60)), (480, off(60)))),
        [ONE],
        "",
    ),
    "no end of the track": (raw(FIRST), [ONE], "1 track without its end"),
    "the last byte missing": (smf(ONE_NOTE)[:-1], [ONE], "1 track that is cut off"),
    "the end of the track missing": (smf(ONE_NOTE)[:-4], [ONE], "1 track of a wrong length, 1 track without its end"),
    "cut within a note": (
        raw(FIRST + SECOND + END)[:-7],
        TWO,
        "1 track that is cut off, 1 note without a note-off ended at the key's next strike or the track's end",
    ),
    "type 2": (smf(ONE_NOTE, kind=2), [ONE], "type 2 read as type 1"),
    "a tempo of 0": (
        smf(track((0, tempo(0)), (0, on(60)), (480, off(60)))),
        [ONE],
        "1 tempo of no meaning passed over",
    ),
    "a metre of 0": (
        smf(track((0, meta(0x58, b"\0\2")), (0, on(60)), (480, off(60)))),
        [ONE],
        "1 time signature of no meaning passed over",
    ),
}


@pytest.mark.parametrize("kind", MENDED)
def test_what_players_forgive_is_read_and_told(kind: str) -> None:
    data, notes, told = MENDED[kind]
    assert read(data) == (notes, told)


def test_a_clean_file_is_read_without_a_word() -> None:
    piece = parse_piece(smf(track((0, name("Piano")), (0, tempo(500_000)), *chords(16))))
    assert piece.report() == ["read track 1 Piano (channel 1, 16 notes)"]


@pytest.mark.parametrize(
    ("frames", "ticks", "seconds"),
    [(25, 40, 1.0), (24, 10, 1000 / 240), (30, 80, 1000 / 2400), (29, 100, 1.001 * 1000 / 3000)],
)
def test_time_may_be_counted_in_frames_and_then_has_no_tempo(frames: int, ticks: int, seconds: float) -> None:
    data = smf(track((0, tempo(123_456)), (0, on(60)), (1000, off(60))), division=(256 - frames) << 8 | ticks)
    assert [(round(t.time_s, 9), t.event) for t in parse_piece(data).events] == [
        (0.0, NoteOn(pitch=60, velocity=64)),
        (round(seconds, 9), NoteOff(pitch=60)),
    ]


# Releases


LOST = "{} without a note-off ended at the key's next strike or the track's end"


def test_a_chord_that_is_never_released_sounds_until_the_end_of_its_track() -> None:
    held = [(0, on(pitch)) for pitch in (48, 52, 55)]
    notes, told = read(smf(chunk(b"MTrk", b"".join(at(*m) for m in [*chords(2), *held]) + b"\x83\x60\xff\x2f\x00")))
    assert notes[2:] == [(480, 960, pitch, 64) for pitch in (48, 52, 55)]
    assert told == LOST.format("3 notes")


def test_a_note_on_a_track_that_ends_at_once_sounds_until_the_end_of_the_piece() -> None:
    notes, _ = read(smf(track((0, on(40))), track(*chords(4))))
    assert (0, 960, 40, 64) in notes


def test_the_next_strike_ends_a_note_that_has_lost_its_release() -> None:
    strikes = [(0, on(60)), (240, off(60))] * 4
    moves = [(0, on(60)), (480, on(60)), (240, off(60)), (240, on(60)), (240, off(60))]
    assert read(smf(track(*moves))) == (
        [(0, 480, 60, 64), (480, 720, 60, 64), (960, 1200, 60, 64)],
        LOST.format("1 note"),
    )
    assert read(smf(track(*strikes)))[1] == ""


def test_of_overlapping_strikes_each_keeps_its_length_the_oldest_ends_first() -> None:
    assert read(smf(track((0, on(60)), (100, on(60)), (100, off(60)), (100, off(60)))))[0] == [
        *((0, 200, 60, 64), (100, 300, 60, 64)),
    ]


def test_a_key_struck_again_before_its_release_at_the_same_tick_is_two_notes() -> None:
    moves = [(0, on(60)), (240, on(60)), (0, off(60)), (240, off(60))]
    assert read(smf(track(*moves))) == ([(0, 240, 60, 64), (240, 480, 60, 64)], "")


def test_of_two_equal_strikes_with_one_release_both_end_there() -> None:
    assert read(smf(track((0, on(60)), (0, on(60)), (240, off(60)), (960, pedal(0)))))[0] == [(0, 240, 60, 64)] * 2


@pytest.mark.parametrize("command", [120, 123, 124, 125, 126, 127])
def test_keys_may_be_released_by_a_command_to_all(command: int) -> None:
    moves = [move for i in range(4) for move in ((0, on(60 + i)), (0, on(70)), (240, control(command, 0)))]
    notes, told = read(smf(track(*moves)))
    assert notes == [(240 * i, 240 * i + 240, pitch, 64) for i in range(4) for pitch in sorted((60 + i, 70))]
    assert told == "8 notes ended by All Notes Off"


def test_a_command_to_all_ends_only_its_own_channel_and_track() -> None:
    mine = track((0, on(60)), (240, control(123, 0)), (240, off(60)))
    other = track((0, on(60)), (480, off(60)))
    third = track((0, on(50, channel=1)), (480, off(50, channel=1)))
    assert read(smf(mine, other, third))[0] == [(0, 240, 60, 64), (0, 480, 50, 64), (0, 480, 60, 64)]


def test_a_command_to_all_before_and_between_notes_mends_nothing() -> None:
    moves = [(0, control(123, 0)), *chords(4), (0, control(123, 0)), *chords(4)]
    assert read(smf(track(*moves)))[1] == ""


# Where it ends


def test_music_ends_with_its_longest_note_whatever_a_pedal_does() -> None:
    chord = [(0, on(60)), (0, pedal(127)), (1440, off(60))]
    assert parse_piece(smf(track(*chords(16), *chord))).end == 16 * 240 + 1440
    assert parse_piece(smf(track(*chords(16), *chord, (HOUR, pedal(0))))).end == 16 * 240 + 1440


def test_music_ends_with_a_pad_that_outlasts_what_strikes_the_same_pitches() -> None:
    pad = track((0, on(48, channel=1)), (9600, off(48, channel=1)))
    assert parse_piece(smf(track(*chords(16)), pad)).end_s == 10.0


def test_a_stroke_on_a_drum_that_is_never_released_does_not_last_for_ever() -> None:
    kit = track((0, on(36, channel=9)), (HOUR, meta(1, b"x")))
    assert parse_piece(smf(track(*chords(16)), kit)).end == 16 * 240


# Voices


def tokens(piece: Piece) -> list[str]:
    return [vocab.describe(token) for token in vocab.encode(piece.events) if not 356 <= token < 388]


def test_a_unison_of_two_hands_sounds_until_the_last_key_is_up() -> None:
    right, left = (
        track((0, on(60, 80)), (960, off(60))),
        track((0, on(60, 60)), (240, off(60)), (240, on(60)), (240, off(60))),
    )
    piece = parse_piece(smf(right, left))
    assert [(t.time_s, t.event) for t in piece.events] == [
        (0.0, NoteOn(pitch=60, velocity=80)),
        (0.5, NoteOn(pitch=60, velocity=64)),
        (1.0, NoteOff(pitch=60)),
    ]
    assert piece.notes_read == 3
    assert tokens(piece) == ["NOTE_ON 60", "TIME_SHIFT 50", "NOTE_OFF 60", "NOTE_ON 60", "TIME_SHIFT 50", "NOTE_OFF 60"]


def test_a_unison_on_two_channels_of_one_track_is_told_apart_too() -> None:
    moves = [(0, on(60, channel=0)), (0, on(60, channel=1)), (240, off(60, channel=1)), (720, off(60, channel=0))]
    assert tokens(parse_piece(smf(track(*moves)))) == ["NOTE_ON 60", "TIME_SHIFT 100", "NOTE_OFF 60"]


def test_a_pedal_holds_only_the_notes_of_its_own_track_and_channel() -> None:
    piano = track((0, pedal(127)), (0, on(48)), (240, off(48)), (720, pedal(0)))
    flute = track((0, on(72)), (240, off(72)))
    assert tokens(parse_piece(smf(piano, flute))) == [
        *("NOTE_ON 48", "NOTE_ON 72", "TIME_SHIFT 25", "NOTE_OFF 72", "TIME_SHIFT 75", "NOTE_OFF 48"),
    ]


def test_a_pedal_that_lifts_in_one_part_does_not_end_what_another_holds() -> None:
    one = track((0, pedal(127)), (0, on(48)), (240, off(48)), (720, pedal(0)))
    other = track(
        (0, pedal(127, channel=1)), (0, on(72, channel=1)), (240, off(72, channel=1)), (240, pedal(0, channel=1))
    )
    assert tokens(parse_piece(smf(one, other))) == [
        *("NOTE_ON 48", "NOTE_ON 72", "TIME_SHIFT 50", "NOTE_OFF 72", "TIME_SHIFT 50", "NOTE_OFF 48"),
    ]


def test_a_track_of_pedals_alone_moves_those_of_all_who_play_on_its_channel() -> None:
    feet = track((0, pedal(127)), (960, pedal(0)))
    hands = [track((0, on(pitch)), (240, off(pitch))) for pitch in (48, 72)]
    assert tokens(parse_piece(smf(feet, *hands))) == [
        *("NOTE_ON 48", "NOTE_ON 72", "TIME_SHIFT 100", "NOTE_OFF 48", "NOTE_OFF 72"),
    ]


def test_sostenuto_of_one_voice_among_several_holds_what_was_down() -> None:
    piano = track((0, on(48)), (120, pedal(127, 66)), (120, off(48)), (0, on(52)), (240, off(52)), (480, pedal(0, 66)))
    flute = track((0, on(72, channel=1)), (240, off(72, channel=1)))
    assert tokens(parse_piece(smf(piano, flute))) == [
        *("NOTE_ON 48", "NOTE_ON 72", "TIME_SHIFT 25", "NOTE_OFF 72", "NOTE_ON 52"),
        *("TIME_SHIFT 25", "NOTE_OFF 52", "TIME_SHIFT 50", "NOTE_OFF 48"),
    ]


def test_a_reset_of_all_controllers_lifts_the_pedal() -> None:
    moves = [(0, pedal(127)), (0, on(60)), (240, off(60)), (240, control(121, 0))]
    assert tokens(parse_piece(smf(track(*moves)))) == ["NOTE_ON 60", "TIME_SHIFT 50", "NOTE_OFF 60"]


# Files that cannot be read


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty (0 bytes); choose another file"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "is not a MIDI file (it begins with b'RIFF'); choose another file"),
        (b"MThd\0\0\0\6\0\1", "is cut off after 10 bytes; export it again"),
        (
            smf(ONE_NOTE, division=0xE700),
            "counts time in SMPTE frames of 0 ticks; export it with 1 or more ticks per frame",
        ),
        (smf(track((0, program(3)))), "holds no notes; choose a file with pitched notes"),
    ],
)
def test_what_cannot_be_read_is_one_line(data: bytes, reason: str) -> None:
    with pytest.raises(MidiFileError) as caught:
        parse_piece(data)
    assert str(caught.value) == reason


def test_what_is_no_file_is_never_waited_for(tmp_path: Path) -> None:
    with pytest.raises(MidiFileError, match="is not a file; give a MIDI file"):
        open_piece(tmp_path)


def test_a_file_of_a_size_that_no_music_has_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.mid"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(MidiFileError, match="is 1024 MiB long; choose a file of at most 64 MiB"):
        open_piece(path)
