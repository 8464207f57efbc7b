"""The musical state machine, on virtual time."""

from collections.abc import Sequence
from dataclasses import Field, fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musebridge.bridge.app.testing import ScriptedEngine, Witness, babble, simulate
from musebridge.bridge.core.commands import (
    Bind,
    Command,
    FollowSharedBeats,
    HandOver,
    Learn,
    Panic,
    Pause,
    Reset,
    Retry,
    Roll,
    SetMode,
    SetParameter,
    Stop,
    TellBeats,
)
from musebridge.bridge.core.scheduler import NoteLedger, Owner, Scheduled, Scheduler, silence
from musebridge.bridge.core.session import Session
from musebridge.bridge.core.settings import MODES, Settings
from musebridge.errors import ConfigError, EngineError
from musebridge.events import (
    ALL_NOTES_OFF,
    SOSTENUTO,
    SUSTAIN,
    Control,
    Event,
    Message,
    NoteOff,
    NoteOn,
    Other,
    SongPosition,
    Timed,
    Transport,
)
from musebridge.vocab import BEGIN, NOTE_OFF, TIME_SHIFT, VELOCITY

SHIFT_100MS, SHIFT_600MS = TIME_SHIFT + 9, TIME_SHIFT + 59
MODEL_PITCH = 72


def on(pitch: int, velocity: int = 66) -> NoteOn:
    return NoteOn(pitch=pitch, velocity=velocity)


def off(pitch: int) -> NoteOff:
    return NoteOff(pitch=pitch)


def pulse(tokens: Sequence[int]) -> int:
    """A model that plays one pitch for 100 ms, rests 100 ms, and so on."""
    tail = [t for t in tokens if t < VELOCITY][-2:]
    if tail[-1:] == [MODEL_PITCH] or tail[-1:] == [NOTE_OFF + MODEL_PITCH]:
        return SHIFT_100MS
    return NOTE_OFF + MODEL_PITCH if tail == [MODEL_PITCH, SHIFT_100MS] else MODEL_PITCH


class Stage:
    """A session with its engine, scheduler and what it said."""

    def __init__(self, says=pulse, mode: str = "call", **parameters: object) -> None:
        self.engine = ScriptedEngine(says)
        self.scheduler = Scheduler()
        self.notices: list[str] = []
        self.beats: list[tuple[int, int, float]] = []
        self.session = Session(
            self.engine,
            self.scheduler,
            Settings(**{"silence_s": 0.6, "answer_s": 0.5, "lookahead_s": 0.3, "top_p": 0.5, **parameters}),
            mode=mode,
            rng=np.random.default_rng(0),
            publish=self._hear,
        )

    def _hear(self, topic: str, *values) -> None:
        if topic == "state":
            self.notices += values
        if topic == "beat":
            self.beats.append(values)

    def play(self, script: Sequence[tuple[float, Message | Command]], until_s: float = 10.0) -> list[Timed]:
        sent = simulate(self.session, self.scheduler, script, until_s=until_s)
        return [Timed(round(item.actual_s, 6), item.event) for item in sent]


PHRASE: list[tuple[float, Message | Command]] = [(1.0, on(60)), (1.5, off(60))]


def test_call_mode_answers_after_the_silence_and_then_listens() -> None:
    stage = Stage()
    assert stage.play(PHRASE) == [
        Timed(2.1, on(MODEL_PITCH)),
        Timed(2.2, off(MODEL_PITCH)),
        Timed(2.3, on(MODEL_PITCH)),
        Timed(2.4, off(MODEL_PITCH)),
        Timed(2.5, on(MODEL_PITCH)),
        Timed(2.6, off(MODEL_PITCH)),
    ]
    assert stage.notices == ["answering", "listening"]


def test_the_model_reads_the_phrase_with_its_timing_and_the_silence() -> None:
    stage = Stage()
    stage.play(PHRASE, until_s=2.05)
    velocity = VELOCITY + 66 // 4
    assert stage.engine.tokens == [BEGIN, velocity, 60, TIME_SHIFT + 49, NOTE_OFF + 60]
    stage.play([], until_s=2.15)
    assert stage.engine.tokens[5] == SHIFT_600MS


def test_an_hours_pause_is_read_as_a_rest_and_the_answer_still_comes_in_time() -> None:
    stage = Stage(mode="manual")
    sent = stage.play([*PHRASE, (3600.0, on(62)), (3600.1, off(62)), (7200.0, HandOver())], until_s=7300.0)
    second = [TIME_SHIFT + 99]
    assert stage.engine.tokens[5:14] == [*second * 5, 62, TIME_SHIFT + 9, NOTE_OFF + 62, *second]
    assert sent[0] == Timed(7200.0, on(MODEL_PITCH))


def test_no_answer_while_a_key_is_held() -> None:
    assert Stage().play([(1.0, on(60))]) == []


def test_manual_mode_answers_only_when_told() -> None:
    assert Stage(mode="manual").play(PHRASE) == []
    sent = Stage(mode="manual").play([*PHRASE, (1.7, HandOver())])
    assert sent[0] == Timed(1.7, on(MODEL_PITCH))


def test_the_rest_before_a_hand_over_is_read_before_it_comes() -> None:
    stage = Stage(mode="manual")
    stage.play(PHRASE, until_s=1.703)
    assert stage.engine.tokens[-2:] == [NOTE_OFF + 60, TIME_SHIFT + 19]
    read, prefill = [], stage.engine.prefill
    stage.engine.prefill = lambda tokens: read.extend(tokens) or prefill(tokens)
    stage.session.receive(1.703, HandOver())
    stage.session.work(1.703)
    assert stage.scheduler.pop_due(1.703) == [Scheduled(1.703, on(MODEL_PITCH))]
    assert read == []


def test_a_rest_that_was_read_ahead_is_forgotten_when_the_player_plays_on() -> None:
    stage = Stage(mode="manual", trigger_pedal=1)
    stage.play([*PHRASE, (1.7, on(62))], until_s=1.705)
    assert stage.engine.tokens[-3:] == [NOTE_OFF + 60, TIME_SHIFT + 19, 62]


def test_nothing_is_read_ahead_for_a_player_who_has_gone() -> None:
    stage = Stage(mode="manual")
    stage.play(PHRASE, until_s=3.6)
    assert stage.session.wake_s() is None
    stage = Stage()
    stage.play(PHRASE, until_s=1.7)
    assert stage.engine.tokens[-1] == NOTE_OFF + 60


def test_hand_over_works_from_nothing() -> None:
    assert Stage().play([(3.0, HandOver())])[0] == Timed(3.0, on(MODEL_PITCH))


def test_the_players_note_stops_the_answer_at_once_and_its_notes_end() -> None:
    stage = Stage(answer_s=5)
    assert stage.play([*PHRASE, (2.35, on(64))], until_s=9.0) == [
        Timed(2.1, on(MODEL_PITCH)),
        Timed(2.2, off(MODEL_PITCH)),
        Timed(2.3, on(MODEL_PITCH)),
        Timed(2.35, off(MODEL_PITCH)),
    ]
    assert stage.notices == ["answering", "interrupted"]


def test_after_an_interruption_the_context_holds_what_was_played_not_what_was_written() -> None:
    stage = Stage(answer_s=5)
    stage.play([*PHRASE, (2.35, on(64))], until_s=2.5)
    played = [MODEL_PITCH, SHIFT_100MS, NOTE_OFF + MODEL_PITCH, SHIFT_100MS, MODEL_PITCH]
    cut = [TIME_SHIFT + 4, NOTE_OFF + MODEL_PITCH, 64]
    assert stage.engine.tokens[6:] == played + cut


def test_an_answer_that_has_ended_is_still_cut_off_while_its_last_notes_sound() -> None:
    stage = Stage(answer_s=0.5, lookahead_s=0.5)
    sent = stage.play([*PHRASE, (2.35, on(64))])
    assert sent[-1] == Timed(2.35, off(MODEL_PITCH))


def test_a_note_just_before_the_answer_is_read_where_it_was_played() -> None:
    stage = Stage()
    assert stage.play([*PHRASE, (2.07, on(64)), (2.17, off(64))], until_s=2.5) == []
    assert stage.engine.tokens[4:] == [NOTE_OFF + 60, TIME_SHIFT + 56, 64, TIME_SHIFT + 9, NOTE_OFF + 64]


def test_the_model_never_releases_a_key_that_the_player_holds() -> None:
    stage = Stage(says=lambda tokens: NOTE_OFF + 60 if tokens[-1] >= TIME_SHIFT else SHIFT_100MS, top_p=1.0)
    sent = stage.play([(1.0, on(60)), (1.5, HandOver())], until_s=3.0)
    assert off(60) not in [t.event for t in sent]
    assert on(60) not in [t.event for t in sent]


def test_a_model_that_strikes_what_it_holds_ends_it_first() -> None:
    sent = Stage(says=lambda tokens: SHIFT_100MS if tokens[-1] == MODEL_PITCH else MODEL_PITCH).play(PHRASE)
    assert sent[:4] == [
        Timed(2.1, on(MODEL_PITCH)),
        Timed(2.2, off(MODEL_PITCH)),
        Timed(2.2, on(MODEL_PITCH)),
        Timed(2.3, off(MODEL_PITCH)),
    ]


def test_a_note_of_the_model_ends_after_its_longest_time() -> None:
    def holds(tokens: Sequence[int]) -> int:
        return MODEL_PITCH if MODEL_PITCH not in tokens else SHIFT_100MS

    sent = Stage(says=holds, answer_s=3, max_note_s=1.0).play(PHRASE)
    assert sent[:2] == [Timed(2.1, on(MODEL_PITCH)), Timed(3.1, off(MODEL_PITCH))]


def test_a_model_that_never_lets_time_pass_is_made_to() -> None:
    stage = Stage(says=lambda tokens: VELOCITY + len(tokens) % 2, answer_s=0.5)
    stage.play(PHRASE, until_s=4.0)
    assert not stage.session.answering


def test_a_late_note_moves_the_rest_of_the_answer_back_and_keeps_its_rhythm() -> None:
    stage = Stage(answer_s=5)
    session, scheduler = stage.session, stage.scheduler
    simulate(session, scheduler, PHRASE, until_s=2.04)
    for _ in range(20):
        session.work(2.6)  # the machine slept for half a second
    dues = [round(item.due_s, 3) for item in scheduler.pop_due(99.0) if isinstance(item.event, NoteOn)]
    assert dues[0] == 2.6
    assert dues[1] - dues[0] == pytest.approx(0.2)


def test_a_late_note_beyond_the_end_of_its_answer_ends_after_it_began() -> None:
    stage = Stage(answer_s=0.5, lookahead_s=0.05)
    simulate(stage.session, stage.scheduler, PHRASE, until_s=2.21)
    for _ in range(20):
        stage.session.work(2.7)
    assert stage.scheduler.pop_due(99.0) == [Scheduled(2.7, on(MODEL_PITCH)), Scheduled(2.7, off(MODEL_PITCH))]


def test_pedal_moves_do_not_end_an_answer_and_other_controls_mean_nothing() -> None:
    pedal = Control(controller=SUSTAIN, value=127)
    wheel = Control(controller=1, value=5)
    assert Stage().play([*PHRASE, (2.2, pedal), (2.25, wheel)]) == Stage().play(PHRASE)
    assert Stage().play([*PHRASE, (2.0, wheel)])[0].time_s == 2.1
    assert Stage().play([*PHRASE, (2.0, pedal)])[0].time_s == 2.6


def test_the_player_is_heard_on_any_channel_and_answered_when_every_key_is_up() -> None:
    fourth, fifth = NoteOn(pitch=60, velocity=66, channel=3), NoteOn(pitch=60, velocity=66, channel=4)
    lifted, other = NoteOff(pitch=60, channel=3), NoteOff(pitch=60, channel=4)
    assert Stage().play([(1.0, fourth), (1.2, fifth), (1.5, other)]) == []
    assert Stage().play([(1.0, fourth), (1.2, fifth), (1.5, other), (2.0, lifted)])[0].time_s == 2.6


def test_a_daw_that_stops_with_all_notes_off_has_let_go_of_its_keys() -> None:
    stop = Control(controller=ALL_NOTES_OFF, value=0)
    assert Stage().play([(1.0, on(60)), (1.5, stop)])[0].time_s == 2.1


def test_what_sostenuto_holds_is_in_the_models_ear_until_it_rises() -> None:
    stage = Stage(mode="manual")
    down, up = (Control(controller=SOSTENUTO, value=value) for value in (127, 0))
    stage.play([(1.0, on(60)), (1.1, down), (1.2, off(60)), (1.3, on(64)), (1.4, off(64)), (1.5, up)], until_s=1.503)
    bin_ = VELOCITY + 66 // 4
    assert stage.engine.tokens == [
        *(BEGIN, bin_, 60, TIME_SHIFT + 29, 64, TIME_SHIFT + 9, NOTE_OFF + 64, TIME_SHIFT + 9, NOTE_OFF + 60),
    ]


def test_only_the_sustain_pedal_hands_over() -> None:
    sostenuto = Control(controller=SOSTENUTO, value=0)
    assert Stage(mode="manual", trigger_pedal=1).play([*PHRASE, (1.7, sostenuto)]) == []


def test_a_note_off_passes_when_thru_ended_while_its_key_was_down() -> None:
    stage = Stage(mode="manual", thru=1)
    assert stage.session.passes_on(on(22))
    stage.session.receive(1.0, SetParameter("thru", 0))
    assert stage.session.passes_on(off(22))
    assert not stage.session.passes_on(on(22))


def test_stop_ends_the_answer_and_panic_silences_the_output_as_well() -> None:
    stage = Stage(answer_s=5)
    assert stage.play([*PHRASE, (2.15, Stop())])[-1] == Timed(2.15, off(MODEL_PITCH))
    stage = Stage(answer_s=5)
    sent = stage.play([*PHRASE, (2.15, Panic())])
    assert [t.event for t in sent[-65:]] == [off(MODEL_PITCH), *silence(range(16))]


def test_reset_forgets_what_was_played() -> None:
    stage = Stage()
    stage.play([*PHRASE, (2.15, Reset())])
    assert stage.engine.tokens == []


def test_a_parameter_counts_from_the_next_token_on() -> None:
    stage = Stage()
    stage.session.receive(0.0, SetParameter("silence_s", 0.2))
    assert stage.play(PHRASE)[0].time_s == 1.7
    with pytest.raises(ConfigError, match=r"temperature must be in 0\.05\.\.3, found 9"):
        stage.session.receive(0.0, SetParameter("temperature", 9.0))


def test_after_a_failing_engine_the_session_can_be_abandoned_and_plays_again() -> None:
    stage = Stage(answer_s=5)
    simulate(stage.session, stage.scheduler, PHRASE, until_s=2.2)
    stage.engine.failing = True
    stage.session.work(2.2)  # writes a token
    with pytest.raises(EngineError):
        stage.session.work(2.2)  # reads it
    stage.engine.failing = False
    stage.session.abandon(2.25)
    silenced = NoteLedger()
    for item in [*stage.scheduler.pop_due(2.3)]:
        silenced.note(item.event)
    assert silenced.releases() == []
    assert not stage.session.answering
    assert stage.play([(11.0, on(60)), (11.1, off(60))], until_s=20.0)[0].event == on(MODEL_PITCH)


def test_a_window_that_fills_up_does_not_disturb_the_rhythm() -> None:
    stage = Stage(answer_s=60)
    stage.engine.capacity = 64
    sent = stage.play(PHRASE, until_s=60.0)
    onsets = [t.time_s for t in sent if isinstance(t.event, NoteOn)]
    assert len(onsets) > 200
    np.testing.assert_allclose(np.diff(onsets), 0.2, atol=1e-6)


def test_a_window_that_fills_up_is_read_again_in_small_pieces_beside_the_answer() -> None:
    stage = Stage(answer_s=60)
    stage.engine.capacity = 256
    pieces: list[int] = []
    prefill = stage.engine.prefill
    stage.engine.prefill = lambda tokens: pieces.append(len(tokens)) or prefill(tokens)
    stage.play(PHRASE, until_s=30.0)
    assert stage.session._performer.stream.context.forgotten > 128
    assert max(pieces) == 16


# Duet


def steady(tokens: Sequence[int]) -> int:
    """A model that keeps its pulse of 100 ms whatever else is played."""
    own = [i for i, token in enumerate(tokens) if token in (MODEL_PITCH, NOTE_OFF + MODEL_PITCH)]
    if not own:
        return MODEL_PITCH
    passed = sum(t - TIME_SHIFT + 1 for t in tokens[own[-1] :] if TIME_SHIFT <= t < VELOCITY)
    if passed < 10:
        return TIME_SHIFT + 9 - passed
    return NOTE_OFF + MODEL_PITCH if tokens[own[-1]] == MODEL_PITCH else MODEL_PITCH


def test_in_a_duet_the_model_joins_in_and_goes_on_while_the_player_plays() -> None:
    stage = Stage(says=steady, mode="duet", answer_s=1.0)
    script = [(1.0 + 0.5 * i, on(60 + i)) for i in range(8)] + [(5.0, off(60 + i)) for i in range(8)]
    onsets = [t.time_s for t in stage.play(script, until_s=20.0) if isinstance(t.event, NoteOn)]
    assert onsets[0] == 3.0
    assert 5.7 < onsets[-1] < 6.0
    assert max(np.diff(onsets)) < 0.25
    assert stage.notices == ["answering", "listening"]


def test_what_the_player_adds_to_a_duet_is_read_where_it_was_played() -> None:
    stage = Stage(says=steady, mode="duet", lookahead_s=1.0, answer_s=5)
    stage.play([(1.0, on(60)), (3.25, on(64))], until_s=3.3)
    before = stage.engine.tokens.index(64)
    steps = sum(t - TIME_SHIFT + 1 for t in stage.engine.tokens[:before] if TIME_SHIFT <= t < VELOCITY)
    assert steps == 225
    assert stage.engine.tokens[before + 1 :], "the model wrote on"


def test_a_note_of_the_model_that_the_player_strikes_is_the_players() -> None:
    stage = Stage(says=steady, mode="duet", answer_s=5)
    sent = stage.play([(1.0, on(60)), (3.05, on(MODEL_PITCH)), (3.5, off(MODEL_PITCH))], until_s=4.0)
    assert sent[:2] == [Timed(3.0, on(MODEL_PITCH)), Timed(3.05, off(MODEL_PITCH))]
    assert not [t for t in sent[2:] if t.event.pitch == MODEL_PITCH and t.time_s < 3.5]


def test_two_keys_at_once_lose_no_note_off() -> None:
    stage = Stage(says=steady, mode="duet", answer_s=5)
    simulate(stage.session, stage.scheduler, [(1.0, on(60))], until_s=3.05)
    stage.session.receive(3.05, on(MODEL_PITCH))
    stage.session.receive(3.05, on(67))  # before the output took the release
    assert Scheduled(3.05, off(MODEL_PITCH)) in stage.scheduler.pop_due(3.05)


def at_348(*events: Event) -> Stage:
    """A duet at 3.48 s, in which the model has 72 sounding from 3.4 to 3.5 s, and of which the player is in the way."""
    stage = Stage(says=steady, mode="duet", answer_s=5)
    simulate(stage.session, stage.scheduler, [(1.0, on(60))], until_s=3.48)
    for event in events:
        stage.session.receive(3.48, event)
    return stage


def test_what_is_due_soon_stays_when_a_note_is_woven_in_and_is_read_behind_it() -> None:
    stage = at_348(on(64), on(65))
    assert stage.scheduler.pop_due(99.0) == [Scheduled(3.5, off(MODEL_PITCH))]
    stage.session.work(3.48)
    assert stage.engine.tokens[-4:] == [64, 65, TIME_SHIFT + 1, NOTE_OFF + MODEL_PITCH]


def test_a_note_that_the_player_strikes_ends_once_however_soon_it_would_have() -> None:
    stage = at_348(on(MODEL_PITCH))
    assert stage.scheduler.pop_due(3.48) == [Scheduled(3.48, off(MODEL_PITCH))]
    assert stage.scheduler.pop_due(99.0) == []


def test_what_was_to_begin_soon_does_not_where_the_player_has_the_key() -> None:
    stage = Stage(says=steady, mode="duet", answer_s=5)
    sent = stage.play([(1.0, on(60)), (3.18, on(MODEL_PITCH)), (4.0, off(MODEL_PITCH))], until_s=4.0)
    assert [t for t in sent if t.event.pitch == MODEL_PITCH] == [
        Timed(3.0, on(MODEL_PITCH)),
        Timed(3.1, off(MODEL_PITCH)),
    ]


def test_nothing_new_comes_sooner_than_it_can_be_written() -> None:
    stage = Stage(says=anything, mode="duet", answer_s=5, top_p=1.0)
    simulate(stage.session, stage.scheduler, [(1.0, on(60))], until_s=3.4)
    stage.session.receive(3.405, on(61))
    before = stage.scheduler.pop_due(99.0)
    assert 0 < len(before) <= 4
    assert max(item.due_s for item in before) < 3.455
    simulate(stage.session, stage.scheduler, [], now_s=3.405, until_s=3.406)
    assert all(item.due_s > 3.45 for item in stage.scheduler.pop_due(99.0))


def test_the_end_of_a_duet_is_played_around_the_key_that_the_player_strikes_then() -> None:
    script = [(1.0, on(60)), (1.2, off(60))]
    stage = Stage(says=steady, mode="duet", answer_s=1.0, lookahead_s=0.5)
    assert stage.play(script, until_s=3.65)[-1] == Timed(3.6, on(MODEL_PITCH))
    assert not stage.session.answering
    script += [(3.65, on(MODEL_PITCH))]
    sent = Stage(says=steady, mode="duet", answer_s=1.0, lookahead_s=0.5).play(script, until_s=5.0)
    assert sent[-1] == Timed(3.65, off(MODEL_PITCH))


def test_a_hand_over_ends_the_last_notes_of_the_answer_before() -> None:
    stage = Stage(answer_s=0.5, lookahead_s=0.5, mode="manual")
    sent = stage.play([*PHRASE, (2.0, HandOver()), (2.25, HandOver())], until_s=2.3)
    assert [t for t in sent if t.time_s >= 2.2] == [Timed(2.2, on(MODEL_PITCH)), Timed(2.25, off(MODEL_PITCH))]


# Bars


def test_in_bars_the_answer_begins_and_ends_on_a_bar_line() -> None:
    stage = Stage(mode="bars", bpm=110, listen_bars=1, answer_bars=2)
    bar_s = 4 * 60 / 110
    sent = stage.play([(1.003, on(60)), (1.2, off(60))], until_s=12.0)
    assert sent[0] == Timed(round(1.003 + bar_s, 6), on(MODEL_PITCH))
    assert 1.003 + 3 * bar_s - 0.25 < sent[-1].time_s <= 1.003 + 3 * bar_s + 1e-6
    assert stage.notices == ["answering", "listening"]


def test_a_model_that_would_rest_still_begins_on_the_bar_line() -> None:
    def rests(tokens: Sequence[int]) -> int:
        return SHIFT_600MS

    stage = Stage(says=rests, mode="bars", bpm=120, listen_bars=1, answer_bars=1, top_p=1.0)
    assert stage.play([(1.0, on(60)), (1.2, off(60))])[0].time_s == 3.0
    stage = Stage(says=rests, mode="bars", bpm=120, listen_bars=1, answer_bars=1, top_p=1.0)
    played_until_then = [(1.0, on(60)), (2.88, off(60)), (2.92, on(64)), (2.98, off(64))]
    assert stage.play(played_until_then)[0].time_s == 3.0


def test_bars_follow_the_clock_that_comes_in() -> None:
    stage = Stage(mode="bars", bpm=120, listen_bars=1, answer_bars=1)
    tick_s = 60 / 90 / 24
    rng = np.random.default_rng(0)
    clock = [(1.0 + i * tick_s + rng.uniform(-0.003, 0.003), Transport("clock")) for i in range(24 * 16)]
    script = [(0.99, Transport("start")), *clock, (1.0 + 24 * 4.2 * tick_s, on(60)), (1.0 + 24 * 5 * tick_s, off(60))]
    onsets = [t.time_s for t in stage.play(script, until_s=11.0) if isinstance(t.event, NoteOn)]
    assert onsets[0] == pytest.approx(1.0 + 24 * 8 * tick_s, abs=0.005)


def test_a_transport_that_stops_ends_the_answer_in_bars() -> None:
    stage = Stage(mode="bars", listen_bars=1, answer_bars=4)
    stage.play([(1.0, on(60)), (1.2, off(60)), (3.5, Transport("stop"))], until_s=6.0)
    assert stage.notices == ["answering", "stopped"]


def test_in_bars_a_late_note_is_left_out_and_the_grid_stays() -> None:
    stage = Stage(mode="bars", bpm=120, listen_bars=1, answer_bars=2)
    simulate(stage.session, stage.scheduler, [(1.0, on(60)), (1.2, off(60))], until_s=3.0)
    for _ in range(40):
        stage.session.work(3.45)  # the machine slept
    sent = simulate(stage.session, stage.scheduler, [], until_s=8.0)
    onsets = [item.due_s for item in sent if isinstance(item.event, NoteOn) and item.due_s > 3.5]
    assert onsets
    assert all(onset / 0.2 == pytest.approx(round(onset / 0.2)) for onset in onsets)


def test_where_a_daw_says_no_more_than_play_the_bars_are_counted_from_there() -> None:
    stage = Stage(mode="bars", bpm=120, listen_bars=1, answer_bars=4)
    sent = stage.play([(1.0, Roll(rolling=True)), (3.7, on(60)), (3.9, off(60)), (6.0, Roll(rolling=False))])
    assert sent[0] == Timed(5.0, on(MODEL_PITCH))
    assert sent[-1].time_s == 6.0
    assert stage.notices == ["answering", "stopped"]


def test_bars_follow_what_others_share_rather_than_the_clock() -> None:
    stage = Stage(mode="bars", bpm=120, listen_bars=1, answer_bars=1)
    clock = [(0.5 + i * 60 / 90 / 24, Transport("clock")) for i in range(24 * 6)]
    script = [(0.4, Transport("start")), *clock, (0.6, FollowSharedBeats(100.0, -1.0)), (2.0, on(60)), (2.2, off(60))]
    sent = stage.play(script)
    assert sent[0] == Timed(3.8, on(MODEL_PITCH))  # beat 8, counted from -1 s, 0.6 s each
    assert sent[-1].time_s <= 6.2


@pytest.mark.parametrize("share", [FollowSharedBeats(), FollowSharedBeats(100.0, -1000.0)])
def test_who_comes_or_goes_during_a_phrase_counts_its_bars_anew(share: FollowSharedBeats) -> None:
    stage = Stage(mode="bars", bpm=120, listen_bars=1, answer_bars=1)
    before = FollowSharedBeats() if share.bpm else FollowSharedBeats(100.0, -1000.0)
    begin_s = stage.play([(0.6, before), (2.0, on(60)), (2.2, off(60)), (2.5, share)])[0].time_s
    assert begin_s == (3.2 if share.bpm else 4.0)


def test_beats_are_told_while_they_are_wanted_and_change_nothing() -> None:
    stage = Stage(mode="bars", bpm=120, beats=3, listen_bars=1, answer_bars=1)
    script = [(1.0, on(60)), (1.2, off(60)), (1.1, TellBeats(wanted=True)), (3.3, TellBeats(wanted=False))]
    untold = Stage(mode="bars", bpm=120, beats=3, listen_bars=1, answer_bars=1)
    assert stage.play(script) == untold.play(script[:2])
    assert stage.beats == [(1, 1, 120.0), (2, 1, 120.0), (3, 1, 120.0), (1, 2, 120.0), (2, 2, 120.0)]


# Triggers


@pytest.mark.parametrize(
    ("parameter", "value", "trigger"),
    [
        ("trigger_key", 21, on(21)),
        ("trigger_cc", 80, Control(controller=80, value=127)),
        ("trigger_pedal", 1, Control(controller=SUSTAIN, value=0)),
    ],
)
def test_a_key_a_controller_or_the_pedal_hands_over(parameter: str, value: int, trigger: Event) -> None:
    stage = Stage(mode="manual", **{parameter: value})
    assert stage.play([*PHRASE, (1.7, trigger)])[0] == Timed(1.7, on(MODEL_PITCH))
    assert Stage(mode="manual").play([*PHRASE, (1.7, trigger)]) == []


def test_a_trigger_key_is_neither_read_nor_passed_on() -> None:
    stage = Stage(mode="manual", trigger_key=21, thru=1)
    stage.play([*PHRASE, (1.7, on(21)), (1.8, off(21))], until_s=3.0)
    assert 21 not in stage.engine.tokens
    assert not stage.session.passes_on(on(21))
    assert stage.session.passes_on(on(22))
    assert not stage.session.passes_on(Transport("clock"))
    assert not Stage().session.passes_on(on(22))


def test_retry_takes_the_answer_back_and_answers_the_same_phrase() -> None:
    stage = Stage(answer_s=1)
    stage.play(PHRASE, until_s=2.5)
    asked = stage.engine.tokens[:5]
    stage.session.receive(2.6, Retry())
    assert stage.engine.tokens == asked
    assert stage.notices == ["answering", "stopped", "answering"]
    assert Timed(2.6, on(MODEL_PITCH)) in stage.play([], until_s=5.0)


def test_retry_after_other_notes_is_a_hand_over() -> None:
    stage = Stage(mode="manual")
    sent = stage.play([*PHRASE, (2.0, HandOver()), (3.0, on(62)), (3.1, off(62)), (3.5, Retry())])
    assert Timed(3.5, on(MODEL_PITCH)) in sent
    assert 62 in stage.engine.tokens


def test_a_change_of_mode_ends_the_answer() -> None:
    stage = Stage(answer_s=5)
    stage.play([*PHRASE, (2.15, SetMode("manual"))], until_s=5.0)
    assert stage.notices == ["answering", "stopped"]
    assert stage.session.mode == "manual"
    with pytest.raises(ConfigError, match="mode must be one of call, duet, bars, manual, found 'solo'"):
        stage.session.receive(6.0, SetMode("solo"))


def test_what_was_passed_on_is_ended_when_passing_on_is_switched_off_meanwhile() -> None:
    stage = Stage(mode="manual", thru=1)
    down, up = (Control(controller=SUSTAIN, value=value) for value in (127, 0))
    sent = stage.play([(1.0, on(60)), (1.1, down), (1.2, SetParameter("thru", 0)), (1.3, off(60)), (1.4, up)])
    assert sent == [Timed(1.0, on(60)), Timed(1.1, down), Timed(1.3, off(60)), Timed(1.4, up)]


@pytest.mark.parametrize("mode", ["duet", "bars"])
def test_after_a_stop_the_model_waits_for_another_phrase(mode: str) -> None:
    stage = Stage(says=steady, mode=mode, answer_s=60, listen_bars=1, answer_bars=8)
    stage.play([(1.0, on(60)), (4.2, on(62)), (4.5, Stop())], until_s=20.0)
    assert stage.notices == ["answering", "stopped"]


# Constraints


def anything(tokens: Sequence[int]) -> int:
    """A model that strikes all pitches in turn, 20 ms apart, and ends none."""
    return TIME_SHIFT + 1 if tokens[-1] < NOTE_OFF or tokens[-1] >= VELOCITY else (len(tokens) * 7) % 128


def struck(**parameters: object) -> list[NoteOn]:
    stage = Stage(says=anything, top_p=1.0, temperature=3.0, answer_s=20, **parameters)
    return [t.event for t in stage.play(PHRASE, until_s=24.0) if isinstance(t.event, NoteOn)]


def test_a_scale_and_a_range_hold_for_what_sounds() -> None:
    notes = struck(scale="D minor", low=48, high=72, transpose=5)
    assert len(notes) > 10
    assert {note.pitch % 12 for note in notes} <= {2, 4, 5, 7, 9, 10, 0}
    assert all(48 <= note.pitch <= 72 for note in notes)


def test_the_players_key_can_be_kept_to() -> None:
    stage = Stage(says=anything, top_p=1.0, temperature=3.0, answer_s=3, scale="detect")
    told: dict[str, str] = {}
    stage.session._publish = told.__setitem__
    melody = [62, 64, 66, 67, 69, 71, 73, 74, 69, 66, 62]
    script = [(0.2 * i + d, e) for i, p in enumerate(melody) for d, e in ((0.0, on(p)), (0.15, off(p)))]
    notes = [t.event.pitch for t in stage.play(script, until_s=7.0) if isinstance(t.event, NoteOn)]
    assert told["key"] == "D major"
    assert {pitch % 12 for pitch in notes} <= {2, 4, 6, 7, 9, 11, 1}


def test_polyphony_and_density_are_not_exceeded() -> None:
    stage = Stage(says=anything, top_p=1.0, temperature=3.0, answer_s=4, polyphony=2, density=5, max_note_s=0.5)
    sounding: set[int] = set()
    onsets = []
    for timed in stage.play(PHRASE, until_s=8.0):
        if isinstance(timed.event, NoteOn):
            sounding.add(timed.event.pitch)
            onsets.append(timed.time_s)
        else:
            sounding.discard(timed.event.pitch)
        assert len(sounding) <= 2
    assert len(onsets) > 5
    assert all(np.array(onsets[5:]) - np.array(onsets[:-5]) > 0.99)


def test_loudness_and_channel_are_those_asked_for() -> None:
    plain, loud = struck(), struck(loudness=3.0, channel=5)
    assert {note.channel for note in loud} == {4}
    assert max(note.velocity for note in loud) > max(note.velocity for note in plain)
    assert all(1 <= note.velocity <= 127 for note in loud)


def test_a_note_ends_where_it_began_whatever_was_changed_meanwhile() -> None:
    stage = Stage(answer_s=5)
    changes = [(2.15, SetParameter("transpose", 2)), (2.15, SetParameter("channel", 3))]
    sent = stage.play([*PHRASE, *changes], until_s=2.7)
    balance = NoteLedger()
    for timed in sent:
        balance.note(timed.event)
    assert {(t.event.channel, t.event.pitch) for t in sent} == {(0, MODEL_PITCH), (2, MODEL_PITCH + 2)}
    assert len(balance.releases()) <= 1


# Clock


def test_clock_goes_out_at_the_tempo_and_stops_when_it_is_not_wanted() -> None:
    stage = Stage(clock_out=1, bpm=100)
    sent = stage.play([(2.0, SetParameter("clock_out", 0))], until_s=3.0)
    ticks = [t.time_s for t in sent if t.event == Transport("clock")]
    assert sent[0].event == Transport("start")
    np.testing.assert_allclose(np.diff(ticks), 60 / 100 / 24, atol=2e-6)
    assert [t.event for t in sent].count(Transport("stop")) == 1
    assert ticks[-1] < 2.3


def test_the_clock_starts_on_a_bar_line_and_the_bars_stay_where_it_has_them() -> None:
    stage = Stage(mode="bars", listen_bars=1, answer_bars=1, bpm=100)  # a bar is 2.4 s
    script = [*PHRASE, (2.0, SetParameter("clock_out", 1)), (9.0, on(62)), (9.1, off(62))]
    sent = stage.play(script, until_s=20.0)
    clock = [t for t in sent if isinstance(t.event, Transport)]
    assert clock[:2] == [Timed(3.4, Transport("start")), Timed(3.4, Transport("clock"))]
    onsets = [t.time_s for t in sent if isinstance(t.event, NoteOn)]
    assert onsets[0] == 3.4
    assert next(onset for onset in onsets if onset > 9.0) == 10.6  # 1 s + 4 bars


def test_the_clock_keeps_the_beat_when_the_tempo_changes_and_starts_anew_on_another_grid() -> None:
    stage = Stage(clock_out=1, bpm=100)
    sent = stage.play([(2.0, SetParameter("bpm", 50.0)), (4.01, FollowSharedBeats(100.0, 0.5))], until_s=8.0)
    events = [t.event for t in sent]
    ticks = [t.time_s for t in sent if t.event == Transport("clock")]
    steps = np.diff(ticks[: sum(tick < 4.0 for tick in ticks)])
    changed = int(np.argmax(steps > 0.04))
    np.testing.assert_allclose(steps[:changed], 0.025, atol=2e-6)
    np.testing.assert_allclose(steps[changed:], 0.05, atol=2e-6)
    assert 2.2 < ticks[changed] < 2.3
    assert events.count(Transport("stop")) == 1
    restart_s = sent[len(events) - 1 - events[::-1].index(Transport("start"))].time_s
    assert restart_s == pytest.approx(0.5 + 2 * 2.4)
    assert not [tick for tick in ticks if 4.3 < tick < restart_s - 1e-6]


# Keys that are held


keys = st.integers(70, 72)
gaps_s = st.sampled_from([0.0, 0.01, 0.05, 0.2, 0.5, 1.0])
strikes = st.builds(on, keys) | st.builds(off, keys)
rules = st.builds(SetMode, st.sampled_from(MODES)) | st.sampled_from([HandOver(), HandOver(), Stop(), Retry()])


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.tuples(gaps_s, strikes | strikes | rules), min_size=10, max_size=40),
    st.sampled_from(MODES),
    st.integers(0, 1),
)
def test_the_model_never_strikes_a_key_that_the_player_holds(moves, mode, thru) -> None:
    keyboard = {"low": 70, "high": 72, "thru": thru}
    stage = Stage(says=babble, mode=mode, answer_s=3, silence_s=0.1, listen_bars=1, answer_bars=1, bpm=300, **keyboard)
    held: set[int] = set()
    now_s = 0.0
    for gap_s, message in moves:
        began_s, now_s = now_s, now_s + gap_s + 1e-3
        sent = simulate(stage.session, stage.scheduler, [(began_s, message)], now_s=began_s, until_s=now_s)
        if isinstance(message, NoteOn):
            held.add(message.pitch)
        if isinstance(message, NoteOff):
            held.discard(message.pitch)
        struck = {
            item.event.pitch
            for item in sent
            if isinstance(item.event, NoteOn) and item.owner is Owner.MODEL and item.actual_s > began_s
        }
        assert not struck & held


# Stuck notes


def numbers(spec: Field[Any]) -> st.SearchStrategy[object]:
    low, high = spec.metadata["low"], spec.metadata["high"]
    return st.integers(low, high) if spec.type == "int" else st.floats(low, high)


def parameter(spec: Field[Any]) -> st.SearchStrategy[SetParameter]:
    values = numbers(spec) if "low" in spec.metadata else st.sampled_from(["off", "detect", "C major", "F# blues"])
    return st.builds(SetParameter, st.just(spec.name), values)


class Fault:
    """Not a command: the engine fails from here on, or works again."""

    def __init__(self, failing: bool) -> None:
        self.failing = failing

    def __repr__(self) -> str:
        return f"Fault({self.failing})"


channels, bits = st.integers(0, 1), st.integers(0, 127)
playing = (
    st.builds(NoteOn, pitch=keys, velocity=st.integers(1, 127), channel=channels)
    | st.builds(NoteOff, pitch=keys, channel=channels)
    | st.builds(
        Control,
        controller=st.sampled_from([SUSTAIN, SUSTAIN, SOSTENUTO, ALL_NOTES_OFF, 1, 20]),
        value=bits,
        channel=channels,
    )
    | st.builds(Other, st.sampled_from([bytes([0xE0, 1, 2]), bytes([0xC0, 5])]))
)
commands = (
    st.sampled_from([HandOver(), HandOver(), Stop(), Panic(), Reset(), Retry()])
    | st.builds(SetMode, st.sampled_from(MODES))
    | st.builds(Roll, rolling=st.booleans())
    | st.builds(TellBeats, wanted=st.booleans())
    | st.builds(Pause, paused=st.booleans())
    | st.sampled_from([Learn("thru"), Learn("transpose"), Bind("channel", 20, 1), Bind("", 20, 1)])
    | st.sampled_from([FollowSharedBeats(), FollowSharedBeats(90.0, 0.3), FollowSharedBeats(200.0, -4000.0)])
)
parameters = st.one_of([parameter(spec) for spec in fields(Settings)])
# Those that move notes about while they sound, more often than their share.
moving = st.one_of(
    [
        parameter(spec)
        for spec in fields(Settings)
        if spec.name in ("thru", "transpose", "channel", "trigger_key", "trigger_cc", "trigger_pedal", "clock_out")
    ]
) | st.builds(SetParameter, st.just("channel"), st.integers(1, 2))
clock = st.builds(Transport, st.sampled_from(["start", "continue", "clock", "stop"])) | st.builds(
    SongPosition, st.integers(0, 64)
)
faults = st.builds(Fault, st.booleans())
messages = playing | playing | playing | playing | commands | commands | moving | moving | parameters | clock | faults


def _held(moves: Sequence[tuple[float, object]]) -> set[tuple[int, int]]:
    """The keys that the player has down at the end."""
    held: set[tuple[int, int]] = set()
    for _, message in moves:
        match message:
            case NoteOn(pitch=pitch, channel=channel):
                held.add((channel, pitch))
            case NoteOff(pitch=pitch, channel=channel):
                held.discard((channel, pitch))
    return held


@settings(deadline=None, max_examples=300)
@pytest.mark.slow
@given(
    st.lists(st.tuples(gaps_s, messages), min_size=20, max_size=60),
    st.sampled_from(MODES),
    st.sampled_from([64, 1024]),
    st.integers(0, 1),
)
def test_no_interleaving_leaves_a_note_sounding_or_breaks_the_model(moves, mode, capacity, thru) -> None:
    witness, now_s = Witness(), 0.0
    # The model has but the player's keys, and two more: they meet.
    keyboard = {"low": 69, "high": 73, "thru": thru}
    stage = Stage(says=babble, mode=mode, answer_s=3, silence_s=0.1, listen_bars=1, answer_bars=1, bpm=300, **keyboard)
    stage.engine.capacity = capacity
    for gap_s, message in [*moves, (1.0, Stop())]:
        began_s, now_s = now_s, now_s + gap_s
        if isinstance(message, Fault):
            stage.engine.failing = message.failing
            continue
        script = [(began_s, message)]
        witness.take(simulate(stage.session, stage.scheduler, script, now_s=began_s, until_s=now_s + 1e-3))
    witness.take(stage.scheduler.pop_due(now_s + 1e-3))
    assert {note for note, owner in witness.sounding.items() if owner is Owner.PLAYER} <= _held(moves)
    assert Owner.MODEL not in witness.sounding.values()
    witness.take(stage.scheduler.finish(now_s))
    assert witness.wrongs == []
    assert not witness.sounding
    assert stage.scheduler.pop_due(1e9) == []


def test_a_snapshot_stays_as_it_was_when_the_session_goes_on() -> None:
    stage = Stage(mode="manual", thru=1)
    before = stage.session.snapshot
    stage.play([(0.5, SetParameter("thru", 0)), *PHRASE, (1.6, HandOver())], until_s=1.7)
    after = stage.session.snapshot
    assert (before.state, after.state) == ("listening", "answering")
    assert before.passes_on(on(22))
    assert not after.passes_on(on(22))
