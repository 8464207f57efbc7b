"""The first seconds of a file, whose sounding notes a continuation may go on with."""

from __future__ import annotations

import pytest
from smf_bytes import control, name, off, on, pedal, smf, tempo, track

from musebridge.events import NoteOff, NoteOn, Timed
from musebridge.smf.append import Span
from musebridge.smf.opening import Opening, opening
from musebridge.smf.piece import Piece, parse_piece

SPAN = Span(480, 1440)


def opened(*lines: tuple[int, bytes], others: tuple[bytes, ...] = ()) -> Opening:
    """Return the first half second, 480 ticks, of a track."""
    return opening(parse_piece(smf(track((0, tempo(500_000)), *lines), *others, tracks=1 + len(others))), 0.5, None)


def lengths(piece: Piece) -> list[tuple[int, int, int, int]]:
    """Return track, pitch, begin and end of the notes of a file."""
    notes = piece.notes
    rows = (notes.track, notes.pitch, notes.on, notes.off)
    return [*zip(*(row.tolist() for row in rows), strict=True)]


def ends(*times: tuple[float, int]) -> list[Timed]:
    return [Timed(time_s, NoteOff(pitch=pitch)) for time_s, pitch in times]


def test_held_keys_end_where_the_continuation_ends_them() -> None:
    taken = opened((0, on(60)), (100, on(64, 90)), (100, on(67)), (100, off(67)), (900, off(60)), (0, off(64)))
    assert lengths(taken.piece) == [(0, 60, 0, 480), (0, 64, 100, 480), (0, 67, 200, 300)]
    assert taken.strikes() == [
        Timed(0.0, NoteOn(pitch=60, velocity=64)),
        Timed(pytest.approx(100 / 960), NoteOn(pitch=64, velocity=90)),
    ]
    assert [timed.event.pitch for timed in taken.heard() if isinstance(timed.event, NoteOff)] == [67]
    own = [Timed(1.0, NoteOn(pitch=60, velocity=50)), *ends((1.2, 60))]
    piece, left = taken.let_ring([*ends((0.75, 60)), *own], SPAN)
    assert lengths(piece) == [(0, 60, 0, 720), (0, 64, 100, 1440), (0, 67, 200, 300)]
    assert left == own


def test_a_note_on_another_channel_is_not_taken_for_the_held_one() -> None:
    taken = opened((0, on(60)), (960, off(60)))
    own = [Timed(0.6, NoteOn(pitch=60, velocity=50, channel=1)), Timed(0.7, NoteOff(pitch=60, channel=1))]
    piece, left = taken.let_ring([*own, *ends((1.0, 60))], SPAN)
    assert (lengths(piece), left) == ([(0, 60, 0, 960)], own)


def test_what_only_the_pedal_holds_goes_on_too() -> None:
    taken = opened((0, pedal(127)), (0, on(60)), (100, off(60)), (0, on(64)), (100, off(64)), (700, pedal(0)))
    assert taken.held.pitch.tolist() == [60, 64]
    piece, _ = taken.let_ring(ends((0.75, 64)), SPAN)
    assert lengths(piece) == [(0, 60, 0, 1440), (0, 64, 100, 720)]


def test_the_last_strike_of_a_pitch_is_the_one_that_sounds() -> None:
    taken = opened((0, pedal(127)), (0, on(60)), (100, off(60)), (100, on(60)), (100, off(60)), (700, pedal(0)))
    piece, _ = taken.let_ring(ends((0.75, 60)), SPAN)
    assert lengths(piece) == [(0, 60, 0, 100), (0, 60, 200, 720)]


def test_releases_of_velocity_0_move_as_others_do() -> None:
    taken = opened((0, pedal(127)), (0, on(60)), (100, on(60, 0)), (900, pedal(0)))
    assert lengths(taken.let_ring(ends((0.75, 60)), SPAN)[0]) == [(0, 60, 0, 720)]


def test_drums_and_tracks_not_read_end_at_the_cut() -> None:
    kit = track((0, on(36, channel=9)), (960, off(36, channel=9)))
    taken = opened((0, name("Piano")), (0, on(60)), (960, off(60)), others=(kit,))
    piece, _ = taken.let_ring(ends((1.0, 60)), SPAN)
    assert lengths(piece) == [(0, 60, 0, 960), (1, 36, 0, 480)]


def test_what_ends_at_the_cut_is_not_held() -> None:
    taken = opened((0, on(60)), (480, off(60)), (0, on(64)), (480, off(64)))
    assert len(taken.held) == 0
    assert taken.let_ring(ends((1.0, 64)), SPAN) == (taken.piece, ends((1.0, 64)))


def test_other_messages_stay_where_they_are() -> None:
    taken = opened((0, control(7, 90)), (0, on(60)), (240, control(10, 3)), (720, off(60)), (0, control(11, 5)))
    track_0 = taken.let_ring(ends((1.0, 60)), SPAN)[0].smf.tracks[0]
    assert list(track_0.messages())[1:] == [
        (0, control(7, 90)),
        (0, on(60)),
        (240, control(10, 3)),
        (960, bytes([0x80, 60, 64])),
    ]


def test_a_whole_piece_has_nothing_to_hand_over() -> None:
    piece = parse_piece(smf(track((0, on(60)), (960, off(60)))))
    taken = opening(piece, None, None)
    assert (taken.heard(), taken.strikes(), taken.let_ring([], SPAN)) == (piece.events, [], (piece, []))
