"""The musical state machine, on virtual time."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musebridge.bridge.commands import Command, HandOver, Panic, Reset, SetParameter, Stop
from musebridge.bridge.scheduler import SILENCE, NoteLedger, Scheduler
from musebridge.bridge.session import Session
from musebridge.bridge.settings import Settings
from musebridge.bridge.testing import ScriptedEngine, simulate
from musebridge.errors import ConfigError, EngineError
from musebridge.events import SUSTAIN, Control, Event, NoteOff, NoteOn, Timed
from musebridge.vocab import BEGIN, N_EVENTS, NOTE_OFF, TIME_SHIFT, VELOCITY

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

    def __init__(self, says=pulse, mode: str = "call", **parameters: float) -> None:
        self.engine = ScriptedEngine(says)
        self.scheduler = Scheduler()
        self.notices: list[str] = []
        self.session = Session(
            self.engine,
            self.scheduler,
            Settings(**{"silence_s": 0.6, "answer_s": 0.5, "lookahead_s": 0.3, "top_p": 0.5, **parameters}),
            mode=mode,
            rng=np.random.default_rng(0),
            notice=self.notices.append,
        )

    def play(self, script: Sequence[tuple[float, Event | Command]], until_s: float = 10.0) -> list[Timed]:
        sent = simulate(self.session, self.scheduler, script, until_s=until_s)
        return [Timed(round(t.time_s, 6), t.event) for t in sent]


PHRASE: list[tuple[float, Event | Command]] = [(1.0, on(60)), (1.5, off(60))]


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
    stage.play([], until_s=2.1)
    stage.session.work(2.1)
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


def test_the_model_never_releases_a_key_that_the_player_holds() -> None:
    stage = Stage(says=lambda tokens: NOTE_OFF + 60 if tokens[-1] >= TIME_SHIFT else SHIFT_100MS, top_p=1.0)
    sent = stage.play([(1.0, on(60)), (1.5, HandOver())], until_s=3.0)
    assert off(60) not in [t.event for t in sent]
    assert on(60) not in [t.event for t in sent]


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
    simulate(session, scheduler, PHRASE, until_s=2.1)
    for _ in range(20):
        session.work(2.6)  # the machine slept for half a second
    dues = [round(item.due_s, 3) for item in scheduler.pop_due(99.0) if isinstance(item.event, NoteOn)]
    assert dues[0] == 2.6
    assert dues[1] - dues[0] == pytest.approx(0.2)


def test_pedal_moves_do_not_end_an_answer_and_other_controls_mean_nothing() -> None:
    pedal = Control(controller=SUSTAIN, value=127)
    wheel = Control(controller=1, value=5)
    assert Stage().play([*PHRASE, (2.2, pedal), (2.25, wheel)]) == Stage().play(PHRASE)
    assert Stage().play([*PHRASE, (2.0, wheel)])[0].time_s == 2.1
    assert Stage().play([*PHRASE, (2.0, pedal)])[0].time_s == 2.6


def test_stop_ends_the_answer_and_panic_silences_the_output_as_well() -> None:
    stage = Stage(answer_s=5)
    assert stage.play([*PHRASE, (2.15, Stop())])[-1] == Timed(2.15, off(MODEL_PITCH))
    stage = Stage(answer_s=5)
    sent = stage.play([*PHRASE, (2.15, Panic())])
    assert [t.event for t in sent[-4:]] == [off(MODEL_PITCH), *SILENCE]


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
    with pytest.raises(EngineError):
        stage.session.work(2.2)
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


def babble(tokens: Sequence[int]) -> int:
    """A model that says anything at all, but always the same after the same."""
    return hash(tuple(tokens[-3:])) % N_EVENTS


moments = st.floats(0.0, 12.0)
messages = (
    st.builds(on, st.integers(60, 63))
    | st.builds(off, st.integers(60, 63))
    | st.builds(lambda down: Control(controller=SUSTAIN, value=127 * down), st.booleans())
    | st.sampled_from([HandOver(), HandOver(), Stop(), Panic(), Reset()])
)


@settings(deadline=None)
@given(st.lists(st.tuples(moments, messages), max_size=40))
def test_no_interleaving_leaves_a_note_sounding_or_breaks_the_model(script) -> None:
    stage = Stage(says=babble, answer_s=3, silence_s=0.2)
    sounding: set[int] = set()
    for timed in stage.play(script, until_s=14.0) + [Timed(14.0, item.event) for item in stage.scheduler.finish(14.0)]:
        match timed.event:
            case NoteOn(pitch=pitch):
                assert pitch not in sounding, "struck twice"
                sounding.add(pitch)
            case NoteOff(pitch=pitch):
                assert pitch in sounding, "released in silence"
                sounding.discard(pitch)
    assert not sounding
