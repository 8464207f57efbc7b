"""The codec: what each event writes, and that nothing is lost on the way back."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musebridge import vocab
from musebridge.events import (
    ALL_NOTES_OFF,
    ALL_SOUND_OFF,
    RESET_CONTROLLERS,
    SOSTENUTO,
    SUSTAIN,
    Control,
    Event,
    NoteOff,
    NoteOn,
    Timed,
)
from musebridge.vocab import BEGIN, NOTE_OFF, NOTE_ON, TIME_SHIFT, VELOCITY, Decoder, Encoder, KeyState, StreamState


def on(pitch: int, velocity: int = 66, channel: int = 0) -> NoteOn:
    return NoteOn(pitch=pitch, velocity=velocity, channel=channel)


def off(pitch: int, channel: int = 0) -> NoteOff:
    return NoteOff(pitch=pitch, channel=channel)


def pedal(value: int) -> Control:
    return Control(controller=SUSTAIN, value=value)


def sostenuto(value: int) -> Control:
    return Control(controller=SOSTENUTO, value=value)


def timed(*rows: tuple[float, Event]) -> list[Timed]:
    return [Timed(time_s, event) for time_s, event in rows]


def written(*rows: tuple[float, Event]) -> list[str]:
    """Encode a piece and name its tokens."""
    return [vocab.describe(token) for token in vocab.encode(timed(*rows))]


class Moves:
    """Strategies: what hands and feet do, one move after another, on the 10 ms grid."""

    gap_steps = st.integers(0, 320)
    pitch = st.integers(58, 63) | st.sampled_from([0, 127])
    velocity = st.integers(0, vocab.N_VELOCITY_BINS - 1).map(vocab.bin_velocity)
    key = st.tuples(gap_steps, pitch, velocity)
    channel = st.integers(0, 1)
    controller = st.sampled_from([SUSTAIN, SUSTAIN, SOSTENUTO, 1, 67, ALL_SOUND_OFF, RESET_CONTROLLERS, ALL_NOTES_OFF])
    any_event = st.one_of(
        st.builds(NoteOn, pitch=pitch, velocity=st.integers(1, 127), channel=channel),
        st.builds(NoteOff, pitch=pitch, channel=channel),
        st.builds(Control, controller=controller, value=st.integers(0, 127), channel=channel),
    )
    any_events = st.lists(st.tuples(gap_steps, any_event), max_size=60)


def played(keys: list[tuple[int, int, int]]) -> list[Timed]:
    """Return well-formed music: each key alternately goes down and up, at last all go up."""
    step, down, events = 0, set[int](), []
    for gap, pitch, velocity in keys:
        step += gap
        events.append(Timed(step / 100, off(pitch) if pitch in down else on(pitch, velocity)))
        down ^= {pitch}
    return events + [Timed(step / 100, off(pitch)) for pitch in sorted(down)]


def at_steps(moves: list[tuple[int, Event]]) -> list[Timed]:
    step, events = 0, []
    for gap, event in moves:
        step += gap
        events.append(Timed(step / 100, event))
    return events


# Round trips


@given(st.lists(Moves.key, max_size=60))
def test_events_on_the_grid_come_back_exactly(keys):
    events = played(keys)
    assert list(vocab.decode(vocab.encode(events))) == events


@given(Moves.any_events)
def test_a_written_stream_is_written_the_same_again(moves):
    tokens = vocab.encode(at_steps(moves))
    assert vocab.encode(vocab.decode(tokens)) == tokens


@given(Moves.any_events, st.integers(0, 60))
def test_what_was_written_is_never_taken_back(moves, length):
    events, encoder = at_steps(moves), Encoder()
    begun = [token for t in events[:length] for token in encoder.feed(t.time_s, t.event)]
    assert vocab.encode(events)[: len(begun)] == begun


@given(Moves.any_events, st.integers(0, 200))
def test_a_decoder_goes_on_from_a_copied_state(moves, length):
    tokens = vocab.encode(at_steps(moves))
    state = StreamState()
    head = [Decoder(state).feed(token) for token in tokens[:length]]
    copy = state.copy()
    tail = [Decoder(copy).feed(token) for token in tokens[length:]]
    assert [t for t in head + tail if t] == list(vocab.decode(tokens))
    assert state.step == sum(token - TIME_SHIFT + 1 for token in tokens[:length] if TIME_SHIFT <= token < VELOCITY)


@given(Moves.any_events)
def test_every_note_that_is_written_is_struck_once_and_ended_once(moves):
    sounding: set[int] = set()
    for t in vocab.decode(vocab.encode(at_steps(moves))):
        assert (t.event.pitch in sounding) is isinstance(t.event, NoteOff)
        sounding ^= {t.event.pitch}
    assert sounding == set()


@given(Moves.any_events)
def test_what_would_be_written_is_known_before(moves):
    encoder = Encoder()
    for t in at_steps(moves):
        would_write = encoder.would_write(t.event)
        assert bool(encoder.feed(t.time_s, t.event)) is would_write


# Time


def test_times_do_not_drift_over_an_hour():
    rng, events, time_s = random.Random(0), [], 0.0
    while time_s < 3600:
        # Rounded by itself, each of these gaps would lose 4.9 ms: six minutes in all.
        time_s += 0.0149 + 0.01 * rng.randrange(8)
        events.append(Timed(time_s, off(60) if len(events) % 2 else on(60)))
    back = list(vocab.decode(vocab.encode(events)))
    assert [t.event for t in back[: len(events)]] == [t.event for t in events]
    assert max(abs(b.time_s - e.time_s) for b, e in zip(back, events, strict=False)) <= 0.005 + 1e-9


@given(st.lists(st.floats(0, 7200), min_size=1, max_size=40).map(sorted))
def test_any_time_is_kept_within_half_a_step(times_s):
    events = [Timed(t, off(60) if i % 2 else on(60)) for i, t in enumerate(times_s)]
    back = list(vocab.decode(vocab.encode(events)))
    assert all(abs(b.time_s - e.time_s) <= 0.005 + 1e-9 for b, e in zip(back, events, strict=False))


@pytest.mark.parametrize(
    ("steps", "shifts"),
    [(0, []), (1, [1]), (99, [99]), (100, [100]), (101, [100, 1]), (200, [100, 100]), (250, [100, 100, 50])],
)
def test_a_shift_is_as_many_seconds_as_fit_and_the_rest(steps, shifts):
    assert vocab.shift_tokens(steps) == [TIME_SHIFT + n - 1 for n in shifts]


def test_time_is_written_just_before_the_event_that_needs_it():
    encoder = Encoder()
    assert encoder.feed(0.0, on(60)) == [VELOCITY + 16, NOTE_ON + 60]
    assert encoder.feed(1.0, Control(controller=1, value=99)) == []
    assert encoder.feed(2.0, pedal(127)) == []
    assert encoder.feed(2.5, on(62)) == [TIME_SHIFT + 99, TIME_SHIFT + 99, TIME_SHIFT + 49, NOTE_ON + 62]


def test_advance_brings_the_stream_to_a_moment_once():
    encoder = Encoder()
    assert encoder.advance(0.3) == [TIME_SHIFT + 29]
    assert encoder.advance(0.3) == []
    assert encoder.feed(0.3, on(60)) == [VELOCITY + 16, NOTE_ON + 60]


def test_a_late_event_is_written_at_the_present_moment():
    encoder = Encoder()
    encoder.advance(1.0)
    assert encoder.feed(0.9, on(60)) == [VELOCITY + 16, NOTE_ON + 60]
    assert encoder.state.step == 100


# Velocity


def test_velocity_is_written_only_when_its_bin_changes():
    assert written((0.0, on(60, 64)), (0.0, on(61, 67)), (0.0, on(62, 68)), (0.0, on(63, 1))) == [
        *("VELOCITY 16", "NOTE_ON 60", "NOTE_ON 61", "VELOCITY 17", "NOTE_ON 62", "VELOCITY 0", "NOTE_ON 63"),
        *("NOTE_OFF 60", "NOTE_OFF 61", "NOTE_OFF 62", "NOTE_OFF 63"),
    ]


def test_every_velocity_comes_back_within_two():
    heard = [vocab.bin_velocity(vocab.velocity_bin(velocity)) for velocity in range(1, 128)]
    assert heard == [velocity // 4 * 4 + 2 for velocity in range(1, 128)]


def test_a_note_before_any_velocity_sounds_at_66():
    assert list(vocab.decode([NOTE_ON + 60])) == timed((0.0, on(60, 66)))


# Keys and pedal


def test_a_release_under_the_pedal_waits_for_the_pedal():
    assert written((0.0, pedal(127)), (0.0, on(60)), (0.2, off(60)), (0.5, pedal(0)), (0.6, on(62))) == [
        *("VELOCITY 16", "NOTE_ON 60", "TIME_SHIFT 50", "NOTE_OFF 60"),
        *("TIME_SHIFT 10", "NOTE_ON 62", "NOTE_OFF 62"),
    ]


@pytest.mark.parametrize(("value", "release"), [(0, "TIME_SHIFT 20"), (63, "TIME_SHIFT 20"), (64, "TIME_SHIFT 50")])
def test_the_pedal_is_down_from_64(value, release):
    notes = (0.0, pedal(value)), (0.0, on(60)), (0.2, off(60)), (0.5, pedal(0))
    assert written(*notes) == ["VELOCITY 16", "NOTE_ON 60", release, "NOTE_OFF 60"]


def test_pedal_up_at_63_releases():
    notes = (0.0, pedal(64)), (0.0, on(60)), (0.2, off(60)), (0.3, pedal(64)), (0.4, pedal(63))
    assert written(*notes) == ["VELOCITY 16", "NOTE_ON 60", "TIME_SHIFT 40", "NOTE_OFF 60"]


def test_pedal_up_releases_only_keys_that_are_up():
    assert written(
        (0.0, pedal(127)), (0.0, on(60)), (0.0, on(64)), (0.1, off(64)), (0.2, pedal(0)), (0.3, off(60))
    ) == [
        *("VELOCITY 16", "NOTE_ON 60", "NOTE_ON 64"),
        *("TIME_SHIFT 20", "NOTE_OFF 64", "TIME_SHIFT 10", "NOTE_OFF 60"),
    ]


def test_a_restrike_under_the_pedal_ends_the_earlier_note_first():
    assert written((0.0, pedal(127)), (0.0, on(60)), (0.1, off(60)), (0.3, on(60, 98)), (0.4, off(60))) == [
        *("VELOCITY 16", "NOTE_ON 60", "TIME_SHIFT 30", "NOTE_OFF 60", "VELOCITY 24", "NOTE_ON 60"),
        *("TIME_SHIFT 10", "NOTE_OFF 60"),
    ]


def test_a_restrike_of_a_held_key_ends_the_earlier_note_and_holds_on():
    assert written((0.0, on(60)), (0.3, on(60)), (0.4, off(60)), (0.5, off(60))) == [
        *("VELOCITY 16", "NOTE_ON 60", "TIME_SHIFT 30", "NOTE_OFF 60", "NOTE_ON 60", "TIME_SHIFT 10", "NOTE_OFF 60"),
    ]


def test_a_restruck_key_is_held_when_the_pedal_rises():
    assert written(
        (0.0, pedal(127)), (0.0, on(60)), (0.1, off(60)), (0.2, on(60)), (0.3, pedal(0)), (0.5, off(60))
    ) == [
        *("VELOCITY 16", "NOTE_ON 60", "TIME_SHIFT 20", "NOTE_OFF 60", "NOTE_ON 60"),
        *("TIME_SHIFT 30", "NOTE_OFF 60"),
    ]


def test_sostenuto_holds_the_keys_that_were_down_and_no_others():
    chord = [(0.0, on(48)), (0.1, sostenuto(127)), (0.2, off(48)), (0.2, on(60)), (0.3, off(60))]
    assert written(*chord, (0.9, sostenuto(0)), (1.0, on(62))) == [
        *("VELOCITY 16", "NOTE_ON 48", "TIME_SHIFT 20", "NOTE_ON 60", "TIME_SHIFT 10", "NOTE_OFF 60"),
        *("TIME_SHIFT 60", "NOTE_OFF 48", "TIME_SHIFT 10", "NOTE_ON 62", "NOTE_OFF 62"),
    ]


def test_a_key_that_is_still_down_when_sostenuto_rises_sounds_on():
    assert written((0.0, on(48)), (0.1, sostenuto(64)), (0.2, sostenuto(63)), (0.5, off(48))) == [
        *("VELOCITY 16", "NOTE_ON 48", "TIME_SHIFT 50", "NOTE_OFF 48"),
    ]


def test_a_sostenuto_pedal_that_moves_while_it_is_down_catches_nothing_more():
    notes = (0.0, sostenuto(70)), (0.0, on(60)), (0.1, sostenuto(127)), (0.2, off(60)), (0.5, sostenuto(0))
    assert written(*notes) == ["VELOCITY 16", "NOTE_ON 60", "TIME_SHIFT 20", "NOTE_OFF 60"]


def test_a_caught_key_that_is_struck_again_is_held_on():
    assert written(
        (0.0, on(48)), (0.1, sostenuto(127)), (0.2, off(48)), (0.3, on(48)), (0.4, off(48)), (0.9, sostenuto(0))
    ) == [
        *("VELOCITY 16", "NOTE_ON 48", "TIME_SHIFT 30", "NOTE_OFF 48", "NOTE_ON 48"),
        *("TIME_SHIFT 60", "NOTE_OFF 48"),
    ]


@pytest.mark.parametrize(("first", "last"), [(SUSTAIN, SOSTENUTO), (SOSTENUTO, SUSTAIN)])
def test_a_note_that_both_pedals_hold_ends_with_the_last_of_them(first, last):
    down = [(0.1, Control(controller=number, value=127)) for number in (SOSTENUTO, SUSTAIN)]
    up = [(0.5, Control(controller=first, value=0)), (0.8, Control(controller=last, value=0))]
    assert written((0.0, on(48)), *down, (0.2, off(48)), *up) == [
        *("VELOCITY 16", "NOTE_ON 48", "TIME_SHIFT 80", "NOTE_OFF 48"),
    ]


def test_the_soft_pedal_and_unknown_controllers_write_nothing():
    encoder = Encoder()
    for number in set(range(128)) - vocab.CONTROLLERS:
        assert encoder.feed(1.0, Control(controller=number, value=127)) == []
    assert encoder.key_state == KeyState()


def test_one_pitch_on_two_channels_sounds_until_both_keys_are_up():
    assert written((0.0, on(60)), (0.1, on(60, channel=1)), (0.2, off(60)), (0.4, off(60, channel=1))) == [
        *("VELOCITY 16", "NOTE_ON 60", "TIME_SHIFT 10", "NOTE_OFF 60", "NOTE_ON 60", "TIME_SHIFT 30", "NOTE_OFF 60"),
    ]


def test_a_release_on_another_channel_is_of_another_key():
    assert written((0.0, on(60, channel=3)), (0.1, off(60)), (0.4, off(60, channel=3))) == [
        *("VELOCITY 16", "NOTE_ON 60", "TIME_SHIFT 40", "NOTE_OFF 60"),
    ]


def test_a_pedal_holds_the_notes_of_every_channel():
    notes = (0.0, on(60, channel=5)), (0.1, pedal(127)), (0.2, off(60, channel=5)), (0.5, pedal(0))
    assert written(*notes) == ["VELOCITY 16", "NOTE_ON 60", "TIME_SHIFT 50", "NOTE_OFF 60"]


@pytest.mark.parametrize("number", [ALL_SOUND_OFF, ALL_NOTES_OFF, 124, 125, 126, 127])
def test_a_mode_message_lifts_the_keys_of_its_channel(number):
    encoder = Encoder()
    for event in (on(60), on(64), on(67, channel=1)):
        encoder.feed(0.0, event)
    assert encoder.feed(0.5, Control(controller=number, value=0)) == [TIME_SHIFT + 49, NOTE_OFF + 60, NOTE_OFF + 64]
    assert encoder.key_state.held == {67}


def test_a_reset_of_all_controllers_lifts_the_pedals():
    encoder = Encoder()
    for event in (on(60), sostenuto(127), off(60), pedal(127), on(64), off(64)):
        encoder.feed(0.0, event)
    reset = Control(controller=RESET_CONTROLLERS, value=0)
    assert encoder.feed(0.5, reset) == [TIME_SHIFT + 49, NOTE_OFF + 60, NOTE_OFF + 64]


def test_a_release_of_a_key_that_is_not_down_is_ignored():
    assert written((0.0, off(60)), (0.1, on(62)), (0.2, off(60)), (0.3, off(62)), (0.4, off(62))) == [
        *("TIME_SHIFT 10", "VELOCITY 16", "NOTE_ON 62", "TIME_SHIFT 20", "NOTE_OFF 62"),
    ]


def test_releases_at_one_moment_are_written_from_the_lowest():
    encoder = Encoder()
    for pitch in (67, 60, 64):
        encoder.feed(0.0, on(pitch))
    assert encoder.release_all(0.5) == [TIME_SHIFT + 49, NOTE_OFF + 60, NOTE_OFF + 64, NOTE_OFF + 67]


def test_release_all_lifts_keys_and_pedal_once():
    encoder = Encoder()
    for event in (pedal(127), on(60), off(60), on(64)):
        encoder.feed(0.0, event)
    assert encoder.release_all(0.1) == [TIME_SHIFT + 9, NOTE_OFF + 60, NOTE_OFF + 64]
    assert encoder.release_all(0.2) == []
    assert encoder.key_state == KeyState()


# One stream, two writers


def test_encoder_and_decoder_share_moment_velocity_and_notes():
    state = StreamState()
    encoder, decoder = Encoder(state), Decoder(state)
    assert encoder.feed(0.0, on(60)) == [VELOCITY + 16, NOTE_ON + 60]
    assert [decoder.feed(t) for t in (TIME_SHIFT + 49, VELOCITY + 20, NOTE_ON + 64)] == [
        *(None, None, Timed(0.5, on(64, vocab.bin_velocity(20)))),
    ]
    # The player strikes the model's note at its velocity: no VELOCITY, the model's note ends.
    assert encoder.feed(0.7, on(64, vocab.bin_velocity(20))) == [TIME_SHIFT + 19, NOTE_OFF + 64, NOTE_ON + 64]
    assert state == StreamState(step=70, velocity_bin=20, sounding={60, 64})


def test_a_players_release_is_not_written_twice_after_the_model_ended_the_note():
    state = StreamState()
    encoder, decoder = Encoder(state), Decoder(state)
    encoder.feed(0.0, on(60))
    assert decoder.feed(NOTE_OFF + 60) == Timed(0.0, off(60))
    assert encoder.feed(0.5, off(60)) == []


def test_a_players_release_of_a_key_that_is_up_leaves_the_models_note():
    state = StreamState()
    encoder, decoder = Encoder(state), Decoder(state)
    decoder.feed(NOTE_ON + 60)
    assert encoder.feed(0.5, off(60)) == []
    assert state.sounding == {60}


def test_a_note_that_the_player_has_left_belongs_to_whoever_strikes_it_next():
    state = StreamState()
    encoder, decoder = Encoder(state), Decoder(state)
    encoder.feed(0.0, on(60))
    encoder.feed(0.0, off(60))
    decoder.feed(NOTE_ON + 60)
    assert encoder.release_all(0.0) == []
    assert encoder.release_others(0.0) == [NOTE_OFF + 60]


def test_a_copied_state_goes_its_own_way():
    state = StreamState(step=3, velocity_bin=4, sounding={60})
    copy = state.copy()
    for token in (NOTE_OFF + 60, NOTE_ON + 62, VELOCITY + 9, TIME_SHIFT):
        copy.apply(token)
    assert state == StreamState(step=3, velocity_bin=4, sounding={60})
    assert copy == StreamState(step=4, velocity_bin=9, sounding={62})


def test_release_others_ends_the_models_notes_and_keeps_the_players():
    state = StreamState()
    encoder, decoder = Encoder(state), Decoder(state)
    for event in (pedal(127), on(60), off(60), on(64)):
        encoder.feed(0.0, event)
    for token in (NOTE_ON + 67, NOTE_ON + 72):
        decoder.feed(token)
    assert encoder.release_others(0.1) == [TIME_SHIFT + 9, NOTE_OFF + 67, NOTE_OFF + 72]
    assert encoder.release_all(0.1) == [NOTE_OFF + 60, NOTE_OFF + 64]


def test_a_note_off_of_silence_decodes_to_nothing():
    assert list(vocab.decode([NOTE_OFF + 60, TIME_SHIFT, NOTE_ON + 60, NOTE_OFF + 60, NOTE_OFF + 60])) == timed(
        (0.01, on(60)), (0.01, off(60))
    )


def test_begin_starts_over():
    tokens = [VELOCITY + 3, NOTE_ON + 60, TIME_SHIFT + 99, BEGIN, TIME_SHIFT, NOTE_OFF + 60, NOTE_ON + 62]
    assert list(vocab.decode(tokens)) == timed((0.0, on(60, 14)), (0.01, on(62, 66)))


# The vocabulary


def test_the_fingerprint_is_the_one_that_shipped_models_carry():
    assert vocab.FINGERPRINT == "4d0ee11bec5c61d7"


def test_every_token_has_a_name_of_its_own():
    names = [vocab.describe(token) for token in range(vocab.N_TOKENS)]
    assert len(set(names)) == vocab.N_TOKENS == 389
    firsts = [names[0]] + [b for a, b in pairwise(names) if a.split()[0] != b.split()[0]]
    assert firsts == ["NOTE_ON 0", "NOTE_OFF 0", "TIME_SHIFT 1", "VELOCITY 0", "BEGIN"]
    assert [names[i] for i in (127, 255, 355, 387)] == ["NOTE_ON 127", "NOTE_OFF 127", "TIME_SHIFT 100", "VELOCITY 31"]


@pytest.mark.parametrize("token", [-1, 389, 65_535])
def test_a_token_outside_the_vocabulary_is_refused(token):
    message = rf"^token must be in 0\.\.388, found {token}$"
    with pytest.raises(ValueError, match=message):
        vocab.describe(token)
    with pytest.raises(ValueError, match=message):
        Decoder().feed(token)
