"""What keyboards really send: the bridge is never deaf for good, and acts on edges."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musebridge.bridge.app.testing import ScriptedEngine, babble, simulate
from musebridge.bridge.core.commands import Bind, Command, HandOver, Learn, Panic, Pause, SetMode, SetParameter
from musebridge.bridge.core.player_input import Pedal, PlayerInput
from musebridge.bridge.core.scheduler import Owner, Scheduled, Scheduler
from musebridge.bridge.core.session import Session
from musebridge.bridge.core.settings import Settings
from musebridge.errors import ConfigError
from musebridge.events import (
    ALL_NOTES_OFF,
    ALL_SOUND_OFF,
    RESET_CONTROLLERS,
    SUSTAIN,
    Control,
    Message,
    NoteOff,
    NoteOn,
    Other,
)
from musebridge.vocab import NOTE_OFF, TIME_SHIFT

Script = Sequence[tuple[float, Message | Command]]


def on(pitch: int, channel: int = 0) -> NoteOn:
    return NoteOn(pitch=pitch, velocity=66, channel=channel)


def off(pitch: int, channel: int = 0) -> NoteOff:
    return NoteOff(pitch=pitch, channel=channel)


def pedal(value: int, channel: int = 0) -> Control:
    return Control(controller=SUSTAIN, value=value, channel=channel)


def begins(script: Script, *, mode: str = "call", until_s: float = 30.0, **parameters: object) -> list[float]:
    """Return when the model begins."""
    begun: list[float] = []

    def hear(topic: str, *values: object) -> None:
        if topic == "state" and values == ("answering",):
            begun.append(round(session._now_s, 2))

    scheduler, given_ = Scheduler(), Settings(**{"answer_s": 1, **parameters})
    rng = np.random.default_rng(0)
    session = Session(ScriptedEngine(babble), scheduler, given_, mode=mode, rng=rng, publish=hear)
    simulate(session, scheduler, script, until_s=until_s)
    return begun


def phrase(at_s: float = 1.0, pitch: int = 67) -> list[tuple[float, Message | Command]]:
    return [(at_s, on(pitch)), (at_s + 0.5, off(pitch))]


# Keys


def test_a_key_that_says_nothing_for_the_longest_note_counts_as_up() -> None:
    lost = [(1.0, on(60)), *phrase(2.0)]
    assert begins(lost, max_note_s=4.0)[0] == 5.0
    assert begins([*lost, (4.0, on(60))], max_note_s=4.0)[0] == 8.0


def test_pressure_on_a_key_says_that_it_is_down() -> None:
    pressed = [(1.0 + i, Other(bytes([0xA0, 60, 50]))) for i in range(8)]
    assert begins([(1.0, on(60)), *pressed, (9.5, off(60))], max_note_s=2.0)[0] == 10.05


def test_a_key_that_counts_as_up_is_not_struck_by_the_model_all_the_same() -> None:
    scheduler = Scheduler()
    given_ = Settings(max_note_s=2.0, low=60, high=61, answer_s=5)
    session = Session(ScriptedEngine(babble), scheduler, given_, rng=np.random.default_rng(0))
    sent = simulate(session, scheduler, [(1.0, on(60)), *phrase(2.0)], until_s=9.0)
    assert {item.event.pitch for item in sent} == {61}


@pytest.mark.parametrize("ending", [ALL_NOTES_OFF, ALL_SOUND_OFF, 124, 127])
def test_what_ends_all_notes_of_a_channel_lifts_its_keys_and_no_others(ending: int) -> None:
    stuck = [(1.0, on(60, channel=3)), (1.6, Control(controller=ending, value=0, channel=3))]
    assert begins([*stuck, *phrase(2.0)])[0] == 3.05
    assert begins([(1.0, on(60, channel=3)), (1.6, Control(controller=ending, value=0, channel=4)), *phrase(2.0)]) == [
        11.0
    ]


@pytest.mark.parametrize("command", [Panic(), SetMode("duet"), SetParameter("channel", 5)])
def test_panic_empties_the_picture_and_other_commands_strand_nothing(command: Command) -> None:
    script = [(1.0, on(60)), (1.2, command), (1.3, off(60)), (1.4, SetMode("call")), *phrase(2.0)]
    assert begins(script)[-1] == 3.05
    assert (begins([(1.0, on(60)), (1.2, Panic()), *phrase(2.0)])) == [3.05]


@pytest.mark.parametrize(
    "change",
    [
        SetParameter("trigger_key", 60),
        SetParameter("transpose", 12),
        SetParameter("in_channels", "2"),
        SetParameter("thru", 1),
    ],
)
def test_a_key_that_is_held_while_a_setting_changes_comes_up(change: SetParameter) -> None:
    back = SetParameter(change.name, getattr(Settings(), change.name))
    assert begins([(1.0, on(60)), (1.2, change), (1.5, off(60)), (1.6, back), *phrase(2.0)])[-1] == 3.05


def test_a_trigger_key_that_is_none_any_more_leaves_no_key_behind() -> None:
    script = [(1.0, on(21)), (1.2, SetParameter("trigger_key", -1)), (1.3, off(21)), *phrase(4.0)]
    assert begins(script, trigger_key=21)[-1] == 5.05


def test_keys_struck_twice_and_ends_said_twice_are_one() -> None:
    twice = [(1.0, on(60)), (1.1, on(60)), (1.5, off(60)), (1.6, off(60)), (1.9, off(60))]
    assert begins(twice) == [2.05]


# Who is playing


def test_drums_are_heard_where_they_are_chosen() -> None:
    drums = [(1.0, on(36, channel=9)), (1.1, off(36, channel=9))]
    assert begins(drums) == []
    assert begins(drums, in_channels="10") == [1.65]
    assert begins(drums, in_channels="all") == [1.65]
    assert begins(phrase(), in_channels="2, 4-6") == []


@pytest.mark.parametrize(
    ("text", "channels"), [("1", {0}), ("1, 3-5", {0, 2, 3, 4}), ("16 2", {1, 15}), ("ALL", set(range(16)))]
)
def test_a_list_of_channels_is_read(text: str, channels: set[int]) -> None:
    assert Settings(in_channels=text).channels == channels


@pytest.mark.parametrize("text", ["", "0", "17", "5-3", "one", "1-", "1,,x"])
def test_what_is_no_list_of_channels_is_one_line(text: str) -> None:
    with pytest.raises(ConfigError, match=r"in_channels must be channels in 1\.\.16"):
        Settings(in_channels=text)


@pytest.mark.parametrize("text", ["3/5", "0/4", "x", "33/8", "3/4/4"])
def test_what_is_no_metre_is_one_line(text: str) -> None:
    with pytest.raises(ConfigError, match=r"beats must be in 1\.\.16, or a metre such as 3/4"):
        Settings(beats=text)


def test_all_notes_off_of_a_keyboard_ends_the_players_notes_and_not_the_models() -> None:
    scheduler = Scheduler()
    for due_s, event, owner in [
        (1.0, on(60), Owner.PLAYER),
        (1.0, on(62, channel=1), Owner.PLAYER),
        (1.0, on(64), Owner.MODEL),
        (2.0, Control(controller=ALL_NOTES_OFF, value=0), Owner.PLAYER),
    ]:
        scheduler.push(Scheduled(due_s, event, owner))
    assert [item.event for item in scheduler.pop_due(3.0)][3:] == [off(60)]


# Pedals and controllers


def edges(values: Sequence[int]) -> list[tuple[int, str]]:
    moved = Pedal()
    return [(value, "down" if moved.is_down else "up") for value in values if moved.move(value)]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([127, 0, 127, 0], [(127, "down"), (0, "up"), (127, "down"), (0, "up")]),
        ([0, 0, 127, 127, 0, 0], [(127, "down"), (0, "up")]),
        ([20, 24, 20, 24, 20, 24], []),
        ([41, 45, 41, 46, 42], []),
        ([0, 40, 70, 62, 66, 61, 65, 127, 60, 20, 0], [(40, "down"), (20, "up")]),
        ([0, 25, 50, 25, 0, 50, 0], [(50, "down"), (0, "up"), (50, "down"), (0, "up")]),
        ([70, 100, 127, 100, 75, 70, 127, 70], [(127, "down"), (75, "up"), (127, "down"), (70, "up")]),
        ([127, 70, 127, 70, 127, 0], [(127, "down"), (0, "up")]),
        ([64, 0, 64, 0], [(64, "down"), (0, "up"), (64, "down"), (0, "up")]),
    ],
)
def test_a_pedal_moves_at_its_edges(values: list[int], expected: list[tuple[int, str]]) -> None:
    found = edges(values)
    assert [way for _, way in found] == [way for _, way in expected]
    assert [value for value, way in found if way == "up"] == [value for value, way in expected if way == "up"]


def test_a_reversed_pedal_hands_over_when_it_rises() -> None:
    script = [*phrase(), (0.2, pedal(127)), (1.2, pedal(0)), (3.0, pedal(127))]
    manual = {"mode": "manual", "trigger_pedal": 1}
    assert begins(script, pedal_polarity="reversed", **manual) == [3.0]
    assert begins(script[:-1], pedal_polarity="reversed", **manual) == []


def test_half_pedals_hand_over_once() -> None:
    script = [
        *phrase(),
        *((1.2 + i / 10, pedal(v)) for i, v in enumerate([5, 60, 127, 70, 110, 66, 127])),
        (3.0, pedal(0)),
    ]
    assert begins(script, mode="manual", trigger_pedal=1) == [3.0]


def test_a_pedal_that_is_said_again_does_not_begin_the_silence_anew() -> None:
    again = [(0.8, pedal(127)), *((1.5 + i / 10, pedal(127 - i % 3)) for i in range(40))]
    assert begins([*phrase(), *again]) == [2.05]


def test_the_pedals_of_two_keyboards_are_two() -> None:
    keys, given_ = PlayerInput(), Settings()
    assert keys.take(0.0, pedal(127, channel=0), given_) == [pedal(127, channel=0)]
    assert keys.take(0.1, pedal(127, channel=1), given_) == []
    assert keys.take(0.2, pedal(0, channel=0), given_) == []
    assert keys.take(0.3, pedal(0, channel=1), given_) == [pedal(0, channel=1)]


def test_reset_controllers_lifts_pedals_and_no_keys() -> None:
    keys, given_ = PlayerInput(), Settings()
    keys.take(0.0, on(60), given_)
    keys.take(0.0, pedal(127), given_)
    assert keys.take(0.1, Control(controller=RESET_CONTROLLERS, value=0), given_) == [pedal(0)]
    assert list(keys.keys) == [(0, 60)]


def test_a_controller_triggers_where_it_crosses_the_middle_and_not_by_its_fine_half() -> None:
    values = [0, 30, 63, 65, 63, 66, 62, 90, 127, 64, 60, 30, 70]
    coarse = [(2.0 + i / 10, Control(controller=1, value=value)) for i, value in enumerate(values)]
    fine = [(2.05 + i / 10, Control(controller=33, value=i * 40 % 128)) for i in range(60)]
    assert begins([*phrase(), *coarse, *fine], mode="manual", trigger_cc=1, answer_s=0.5) == [2.3, 3.2]


# The model's side


def test_a_pitch_that_only_rings_under_the_pedal_may_be_struck_again() -> None:
    def repeats(tokens: Sequence[int]) -> int:
        return 60 if tokens[-1] >= NOTE_OFF else TIME_SHIFT + 9

    scheduler = Scheduler()
    session = Session(ScriptedEngine(repeats), scheduler, Settings(top_p=0.5), rng=np.random.default_rng(0))
    script = [(0.9, pedal(127)), (1.0, on(60)), (1.5, off(60))]
    sent = simulate(session, scheduler, script, until_s=2.15)
    assert [(round(item.actual_s, 3), item.event.pitch) for item in sent if isinstance(item.event, NoteOn)] == [
        (2.1, 60)
    ]
    session.receive(2.15, pedal(0))
    assert 60 in session._performer.stream.state.sounding


def test_pause_holds_the_model_and_it_remembers_what_was_played_meanwhile() -> None:
    script = [*phrase(), (1.8, Pause(paused=True)), *phrase(5.0), (6.0, HandOver()), (9.0, Pause(paused=False))]
    assert begins(script) == []
    assert begins([*script, *phrase(12.0)]) == [13.05]
    assert begins([*phrase(), (2.5, Pause(paused=True)), (2.6, Pause(paused=True))]) == [2.05]


def test_the_controller_that_is_moved_next_is_bound_and_moves_its_parameter() -> None:
    told: list[tuple[object, ...]] = []
    session = Session(
        ScriptedEngine(babble),
        Scheduler(),
        Settings(),
        rng=np.random.default_rng(0),
        publish=lambda topic, *values: told.append((topic, *values)),
    )
    knob = [Control(controller=20, value=value, channel=2) for value in (0, 127, 64)]
    session.receive(0.5, pedal(20))
    session.receive(1.0, Learn("temperature"))
    session.receive(1.1, pedal(22))  # flickers
    for message in knob[:2]:
        session.receive(1.2, message)
    assert ("learnt", "temperature", 20, 3) in told
    assert session.settings.temperature == 3.0
    session.receive(1.3, Bind("", 20, 3))
    session.receive(1.4, knob[2])
    assert session.settings.temperature == 3.0
    session.receive(1.5, Bind("thru", 20, 3))
    session.receive(1.6, knob[2])
    assert session.settings.thru == 1
    for command in (Learn("nothing"), Learn("scale"), Bind("thru", 120, 1), Bind("thru", 1, 17)):
        with pytest.raises(ConfigError):
            session.receive(2.0, command)


def test_an_offset_plays_early_but_for_a_first_note_that_nobody_foresaw() -> None:
    def moments(script: Script, **parameters: object) -> list[float]:
        scheduler, given_ = Scheduler(), Settings(top_p=0.5, answer_s=0.5, **parameters)
        session = Session(ScriptedEngine(every_100ms), scheduler, given_, rng=np.random.default_rng(0))
        return [round(s.actual_s, 3) for s in simulate(session, scheduler, script, until_s=9.0)]

    plain, early = moments(phrase()), moments(phrase(), offset_ms=40.0)
    assert plain[:3] == [2.1, 2.2, 2.3]
    np.testing.assert_allclose(early, np.array(plain) - 0.04, atol=1e-6)
    told = moments([*phrase(), (1.8, HandOver())], offset_ms=40.0)
    assert told[:3] == [1.8, 1.86, 1.96]


def every_100ms(tokens: Sequence[int]) -> int:
    if tokens[-1] in (72, NOTE_OFF + 72):
        return TIME_SHIFT + 9
    return NOTE_OFF + 72 if 72 in tokens[-2:] else 72


# Whatever comes


pitches, values, channels = st.integers(0, 127), st.integers(0, 127), st.integers(0, 15)
gaps_s = st.sampled_from([0.0, 0.0, 0.003, 0.05, 0.4, 2.0])
noise = st.one_of(
    st.builds(on, pitches, channels),
    st.builds(on, pitches, channels),
    st.builds(off, pitches, channels),
    st.builds(pedal, values, channels),
    st.builds(Control, controller=st.integers(0, 127), value=values, channel=channels),
    st.builds(lambda pitch, value: Other(bytes([0xA0, pitch, value])), pitches, values),
)
triggers = st.fixed_dictionaries(
    {"trigger_pedal": st.integers(0, 1), "thru": st.integers(0, 1), "trigger_cc": st.sampled_from([-1, 11, SUSTAIN])}
)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(gaps_s, noise), max_size=60), triggers)
def test_whatever_a_keyboard_sent_before_call_answers_a_phrase(moves, given_) -> None:
    now_s, script = 1.0, []
    for gap_s, message in moves:
        now_s += gap_s
        script.append((now_s, message))
    last_s = now_s + 5.0
    for pitch in (60, 64, 67):
        script += [(last_s, on(pitch)), (last_s + 0.3, off(pitch))]
        last_s += 0.4
    begun = begins(script, until_s=last_s + 7.0, max_note_s=5.0, silence_s=0.6, **given_)
    assert [at_s for at_s in begun if at_s > last_s - 0.2]
