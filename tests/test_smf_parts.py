"""Who plays in a file: drums by channel, bank and SysEx, instruments of many channels, and the choice of a track."""

from __future__ import annotations

import pytest
from smf_bytes import bend, chords, control, name, off, on, program, smf, sysex, track

from musebridge.errors import MidiFileError
from musebridge.events import NoteOn
from musebridge.smf.piece import Piece, parse_piece

PIANO = track((0, name("Piano")), *chords(8))
HITS = [move for _ in range(4) for move in ((0, on(36, channel=4)), (60, off(36, channel=4)))]
XG_ON = sysex(b"\x43\x10\x4c\x00\x00\x7e\x00")
GS_RESET = sysex(b"\x41\x10\x42\x12\x40\x00\x7f\x00\x41")


def gs_rhythm(part: int, kit: int) -> bytes:
    return sysex(bytes([0x41, 0x10, 0x42, 0x12, 0x40, 0x10 | part, 0x15, kit, 0]))


def xg_mode(part: int, mode: int) -> bytes:
    return sysex(bytes([0x43, 0x10, 0x4C, 0x08, part, 0x07, mode]))


def pitches(piece: Piece) -> set[int]:
    return {timed.event.pitch for timed in piece.events if isinstance(timed.event, NoteOn)}


DRUMS = {
    "XG bank 127": [(0, XG_ON), (0, control(0, 127, 4)), (0, program(0, 4)), *HITS],
    "XG bank 126, effects": [(0, XG_ON), (0, control(0, 126, 4)), (0, program(0, 4)), *HITS],
    "bank 127 without a word of XG": [(0, control(0, 127, 4)), (0, program(0, 4)), *HITS],
    "GM2 bank 120": [(0, control(0, 120, 4)), (0, program(0, 4)), *HITS],
    "GM2 bank 120 behind a GS reset": [(0, GS_RESET), (0, control(0, 120, 4)), *HITS],
    "a bank that comes just behind the first stroke": [*HITS[:2], (10, control(0, 127, 4)), *HITS],
    "GS rhythm part": [(0, GS_RESET), (0, gs_rhythm(5, 1)), *HITS],
    "GS second rhythm map": [(0, gs_rhythm(5, 2)), *HITS],
    "GS rhythm part in packets": [(0, b"\xf0\x05\x41\x10\x42\x12\x40"), (0, b"\xf7\x05\x15\x15\x01\x00\xf7"), *HITS],
    "XG part mode": [(0, XG_ON), (0, xg_mode(4, 1)), *HITS],
    "channel 10": [(0, on(36, channel=9)), (60, off(36, channel=9))],
    "channel 10 with a bank of its own": [
        (0, control(0, 0, 9)),
        (0, program(25, 9)),
        (0, on(36, channel=9)),
        (60, off(36, channel=9)),
    ],
}


@pytest.mark.parametrize("kind", DRUMS)
def test_drums_are_known_and_left_out(kind: str) -> None:
    piece = parse_piece(smf(PIANO, track((0, name("Kit")), *DRUMS[kind])))
    assert [(part.name, part.is_drums) for part in piece.parts] == [("Piano", False), ("Kit", True)]
    assert 36 not in pitches(piece)
    assert piece.notes_read == 8
    (line,) = piece.report()
    assert line.startswith("read track 1 Piano (channel 1, 8 notes); left out as drums: track 2 Kit (channel ")


PITCHED = {
    "a bank of variations": [(0, control(0, 8, 4)), (0, program(16, 4)), *HITS],
    "bank 127 of both halves, for none": [(0, control(0, 127, 4)), (1, control(32, 127, 4)), (1, program(0, 4)), *HITS],
    "bank 127 with a program that is no kit": [(0, control(0, 127, 4)), (0, program(60, 4)), *HITS],
    "bank 126 without a word of XG": [(0, control(0, 126, 4)), (0, program(33, 4)), *HITS],
    "GS bank 127, an older module's sounds": [(0, GS_RESET), (0, control(0, 127, 4)), (0, program(16, 4)), *HITS],
    "GS channel 10 made melodic": [(0, gs_rhythm(0, 0)), (0, on(36, channel=9)), (60, off(36, channel=9))],
    "XG channel 10 made melodic": [(0, xg_mode(9, 0)), (0, on(36, channel=9)), (60, off(36, channel=9))],
    "GS rhythm on another part": [(0, gs_rhythm(6, 1)), *HITS],
}


@pytest.mark.parametrize("kind", PITCHED)
def test_what_only_looks_like_drums_is_read(kind: str) -> None:
    piece = parse_piece(smf(PIANO, track((0, name("Bass")), *PITCHED[kind])))
    assert [part.is_drums for part in piece.parts] == [False, False]
    assert 36 in pitches(piece)


def test_a_channel_that_becomes_a_kit_later_is_read_up_to_there() -> None:
    moves = [(0, on(40, channel=4)), (4800, off(40, channel=4)), (0, control(0, 127, 4)), (1920, program(0, 4)), *HITS]
    piece = parse_piece(smf(PIANO, track(*moves)))
    assert 40 in pitches(piece)
    assert 36 not in pitches(piece)
    assert [(part.track, part.is_drums, part.notes) for part in piece.parts] == [
        (0, False, 8),
        (1, False, 1),
        (1, True, 4),
    ]


def test_a_kit_on_one_port_makes_none_of_the_same_channel_on_another() -> None:
    def port(number: int) -> tuple[int, bytes]:
        return (0, bytes([0xFF, 0x21, 0x01, number]))

    kit = track(port(0), (0, control(0, 127, 4)), (0, program(0, 4)), *HITS)
    horn = track(port(1), (0, name("Horn")), (0, on(60, channel=4)), (480, off(60, channel=4)))
    assert [part.is_drums for part in parse_piece(smf(kit, horn)).parts] == [True, False]


# MPE


def mpe_notes(channels: range) -> list[tuple[int, bytes]]:
    return [
        move
        for channel in channels
        for move in (
            (0, bend(8192 + 10 * channel, channel)),
            (0, on(60 + channel, channel=channel)),
            (120, off(60 + channel, channel=channel)),
        )
    ]


def zone(master: int, members: int) -> list[tuple[int, bytes]]:
    return [(0, control(number, value, master)) for number, value in ((101, 0), (100, 6), (6, members))]


@pytest.mark.parametrize(
    "moves",
    [
        pytest.param([*zone(0, 15), *mpe_notes(range(1, 16))], id="a lower zone"),
        pytest.param([*zone(15, 15), *mpe_notes(range(0, 15))], id="an upper zone"),
        pytest.param(mpe_notes(range(1, 16)), id="without a word of it"),
    ],
)
def test_channels_of_mpe_are_one_instrument_and_channel_10_is_no_kit(moves: list[tuple[int, bytes]]) -> None:
    piece = parse_piece(smf(track((0, name("Seaboard")), *moves)))
    assert [(part.name, part.is_drums, part.notes, len(part.channels)) for part in piece.parts] == [
        ("Seaboard", False, 15, 15)
    ]


def test_a_zone_leaves_other_channels_what_they_are() -> None:
    kit = [(0, on(36, channel=9)), (60, off(36, channel=9))]
    piece = parse_piece(smf(track(*zone(0, 5), *mpe_notes(range(1, 6)), *kit)))
    assert [(part.is_drums, part.notes) for part in piece.parts] == [(False, 5), (True, 1)]


def test_a_band_with_programs_on_all_channels_is_no_mpe() -> None:
    moves = [(0, program(channel, channel)) for channel in range(16)]
    piece = parse_piece(smf(track(*moves, *mpe_notes(range(16))), kind=0))
    assert [part.is_drums for part in piece.parts] == [channel == 9 for channel in range(16)]


# Names and choice


def band() -> bytes:
    conductor = track((0, name("Song")))
    flute = track((0, name("Flute solo")), (0, program(73)), *chords(4))
    bass = track((0, program(33, 1)), *chords(6, channel=1))
    kit = track((0, name("Kit")), (0, on(36, channel=9)), (60, off(36, channel=9)))
    return smf(conductor, flute, bass, kit)


def test_the_report_names_the_parts() -> None:
    assert parse_piece(band()).report() == [
        "read track 2 Flute solo (channel 1, 4 notes), track 3 Finger Bass (channel 2, 6 notes); "
        "left out as drums: track 4 Kit (channel 10, 1 note)"
    ]
    assert parse_piece(band(), "bass").report() == [
        "read track 3 Finger Bass (channel 2, 6 notes); left out: track 2 Flute solo (channel 1, 4 notes); "
        "left out as drums: track 4 Kit (channel 10, 1 note)"
    ]


@pytest.mark.parametrize(
    ("wanted", "found"), [("2", [1]), ("3", [2]), ("flute solo", [1]), ("FLUTE", [1]), ("bass", [2])]
)
def test_a_track_is_chosen_by_number_or_name(wanted: str, found: list[int]) -> None:
    piece = parse_piece(band(), wanted)
    assert [part.track for part in piece.chosen] == found
    assert piece.notes_read == (4 if found == [1] else 6)


@pytest.mark.parametrize("wanted", ["1", "9", "tuba", "", "-1"])
def test_a_track_that_is_none_is_one_line_with_those_there_are(wanted: str) -> None:
    known = "track 2 Flute solo, track 3 Finger Bass, track 4 Kit"
    with pytest.raises(MidiFileError, match=f"^has no track '{wanted}' that plays; known are: {known}$"):
        parse_piece(band(), wanted)


def test_drums_cannot_be_followed() -> None:
    with pytest.raises(MidiFileError, match="holds only drums in track kit; choose a track"):
        parse_piece(band(), "kit")


def test_channels_of_a_single_track_are_counted_as_its_tracks() -> None:
    moves = [(0, program(40, 2)), *chords(4, channel=2), (0, program(73, 5)), *chords(6, channel=5)]
    data = smf(track((0, name("My song")), *moves), kind=0)
    assert parse_piece(data).report() == [
        "read track 1 Violin (channel 3, 4 notes), track 2 Flute (channel 6, 6 notes)"
    ]
    assert parse_piece(data, "2").notes_read == 6
    assert parse_piece(data, "violin").notes_read == 4


def test_a_name_in_any_encoding_is_one_line_that_can_be_printed() -> None:
    odd = b"\xff\x03\x08Fl\xf6te\n\x1b["
    assert parse_piece(smf(track((0, odd), *chords(2)))).parts[0].name == "Flöte ["
