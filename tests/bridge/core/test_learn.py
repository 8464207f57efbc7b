"""MIDI learn: the next controller that is moved moves a parameter from then on."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musebridge.bridge.app.testing import ScriptedEngine, babble, simulate
from musebridge.bridge.core.commands import Bind, Command, HandOver, Learn, Pause, SetParameter, Unlearn
from musebridge.bridge.core.learn import FREE, Bindings
from musebridge.bridge.core.scheduler import Scheduler
from musebridge.bridge.core.session import Session
from musebridge.bridge.core.settings import Settings
from musebridge.errors import ConfigError
from musebridge.events import SUSTAIN, Control, Message, NoteOff, NoteOn

KNOB, PEDAL = 74, 11


def knob(value: int, controller: int = KNOB, channel: int = 0) -> Control:
    return Control(controller=controller, value=value, channel=channel)


class Stage:
    """A session that is told one thing after another, and what it says."""

    def __init__(self, mode: str = "manual", **parameters: object) -> None:
        self.scheduler, self.now_s = Scheduler(), 0.0
        self.said: list[tuple[object, ...]] = []
        settings, rng = Settings(**parameters), np.random.default_rng(0)
        self.session = Session(
            ScriptedEngine(babble),
            self.scheduler,
            settings,
            mode=mode,
            rng=rng,
            publish=lambda *news: self.said.append(news),
        )

    def tell(self, *told: Message | Command) -> list[tuple[object, ...]]:
        """Return what the session says to these, but for state, key and chord."""
        before = len(self.said)
        for message in told:
            self.now_s += 0.01
            self.session.receive(self.now_s, message)
        return [news for news in self.said[before:] if news[0] not in ("state", "key", "chord")]


def test_the_next_controller_that_moves_is_bound_and_moves_the_parameter_over_its_range() -> None:
    stage = Stage()
    assert stage.tell(Learn("temperature"), knob(60)) == [("learning", "temperature")]
    assert stage.tell(knob(64)) == [
        ("learning", ""),
        ("learnt", "temperature", KNOB, 1),
        ("param/temperature", pytest.approx(0.05 + 64 / 127 * 2.95)),
    ]
    for value, meant in ((0, 0.05), (127, 3.0)):
        stage.tell(knob(value))
        assert stage.session.settings.temperature == meant


def test_a_button_is_learnt_when_it_is_let_go() -> None:
    stage = Stage(thru=1)
    stage.tell(Learn("thru"), knob(127), knob(0))
    assert stage.session.settings.thru == 0
    stage.tell(knob(127))
    assert stage.session.settings.thru == 1


@pytest.mark.parametrize("channel", [0, 9, 15])
def test_any_channel_is_learnt_from_and_only_that_one_moves_the_parameter(channel: int) -> None:
    stage = Stage()
    stage.tell(Learn("low"), knob(0, channel=channel), knob(10, channel=channel), knob(90, channel=(channel + 1) % 16))
    assert stage.session.settings.low == 10
    assert stage.session.snapshot.bound == {(channel, KNOB): "low"}


@pytest.mark.parametrize("known_before", [True, False])
def test_a_pedal_that_flickers_where_it_stands_is_not_learnt(known_before: bool) -> None:
    stage = Stage()
    if known_before:
        stage.tell(knob(63, PEDAL))
    stage.tell(Learn("density"), *[knob(63 + i % 3, PEDAL) for i in range(50)], knob(20), knob(127))
    assert stage.session.snapshot.bound == {(0, KNOB): "density"}


def test_a_knob_that_moved_before_is_learnt_only_when_it_moves_again() -> None:
    stage = Stage()
    stage.tell(knob(0), knob(127), Learn("density"), knob(127), knob(126))
    assert stage.session.snapshot.bound == {}
    stage.tell(knob(123))
    assert stage.session.snapshot.bound == {(0, KNOB): "density"}


def test_a_wheel_that_is_turned_slowly_is_learnt() -> None:
    stage = Stage()
    stage.tell(Learn("density"), *[knob(50 + i) for i in range(6)])
    assert stage.session.snapshot.bound == {(0, KNOB): "density"}


@pytest.mark.parametrize("controller", [SUSTAIN, 66, 120, 121, 123, 127])
def test_the_pedals_that_the_model_hears_and_panic_are_not_learnt(controller: int) -> None:
    stage = Stage()
    stage.tell(Learn("density"), *[knob(value, controller) for value in (0, 127, 0)])
    assert stage.session.snapshot.bound == {}


def test_what_hands_over_stays_what_hands_over() -> None:
    stage = Stage(trigger_cc=KNOB)
    stage.tell(Learn("density"), knob(0), knob(127))
    assert stage.session.answering
    assert stage.session.snapshot.bound == {}


def test_learning_can_be_taken_back_and_another_name_takes_its_place() -> None:
    stage = Stage()
    assert stage.tell(Learn("low"), Learn(""), knob(0), knob(99)) == [("learning", "low"), ("learning", "")]
    assert stage.session.settings.low == 0
    stage.tell(Learn("low"), Learn("high"), knob(0), knob(99))
    assert stage.session.snapshot.bound == {(0, KNOB): "high"}


def test_learning_again_rebinds_and_a_controller_moves_one_parameter() -> None:
    stage = Stage()
    stage.tell(Learn("low"), knob(0), knob(9))
    assert ("learnt", "low", PEDAL, 1) in stage.tell(Learn("low"), knob(0, PEDAL), knob(9, PEDAL))
    assert stage.session.snapshot.bound == {(0, PEDAL): "low"}
    told = stage.tell(Learn("high"), knob(100, PEDAL))
    assert [news for news in told if news[0] == "learnt"] == [("learnt", "low", FREE, 0), ("learnt", "high", PEDAL, 1)]
    assert stage.session.snapshot.bound == {(0, PEDAL): "high"}


def test_unlearning_frees_the_controller() -> None:
    stage = Stage()
    stage.tell(Bind("low", KNOB, 1), knob(9))
    assert stage.tell(Unlearn("low")) == [("learnt", "low", FREE, 0)]
    stage.tell(knob(50))
    assert stage.session.settings.low == 9
    assert stage.tell(Unlearn("low")) == []


def test_a_bound_controller_is_no_music_and_is_not_passed_on() -> None:
    stage = Stage(thru=1)
    assert stage.session.passes_on(knob(5))
    stage.tell(Bind("density", KNOB, 1))
    assert not stage.session.passes_on(knob(5))
    assert stage.session.passes_on(knob(5, channel=1))
    assert stage.session.passes_on(knob(5, PEDAL))


def test_a_controller_holds_at_what_the_other_parameters_allow() -> None:
    stage = Stage(high=50)
    stage.tell(Bind("low", KNOB, 1), knob(50), knob(51), knob(127))
    assert stage.session.settings.low == 50


@pytest.mark.parametrize("name", ["scale", "volume"])
def test_what_has_no_range_cannot_be_learnt(name: str) -> None:
    stage = Stage()
    with pytest.raises(ConfigError, match=f"no parameter '{name}' with a range; known are temperature, "):
        stage.tell(Learn(name))
    with pytest.raises(ConfigError, match=f"no parameter '{name}' with a range"):
        stage.tell(Bind(name, KNOB, 1))


@pytest.mark.parametrize(("controller", "channel"), [(120, 1), (-1, 1), (5, 0), (5, 17)])
def test_what_is_no_controller_cannot_be_bound(controller: int, channel: int) -> None:
    with pytest.raises(ConfigError, match=r"a controller is 0\.\.119 on channel 1\.\.16"):
        Stage().tell(Bind("low", controller, channel))


_NAMES = st.sampled_from(["low", "high", "thru", "temperature", ""])
_STEPS = st.lists(
    st.builds(Learn, _NAMES)
    | st.builds(Unlearn, _NAMES)
    | st.builds(Bind, _NAMES, st.integers(0, 3), st.integers(1, 2))
    | st.builds(knob, st.integers(0, 127), st.integers(0, 3), st.integers(0, 1)),
    max_size=60,
)


@given(_STEPS)
def test_each_parameter_has_one_controller_at_most_and_what_is_told_is_what_holds(
    steps: Sequence[Message | Command],
) -> None:
    stage, told = Stage(), dict[object, tuple[object, ...]]()
    for step in steps:
        for topic, *values in stage.tell(step):
            if topic == "learnt":
                told[values[0]] = tuple(values[1:])
    bound = stage.session.snapshot.bound
    assert len(set(bound.values())) == len(bound)
    holds = {name: (controller, channel + 1) for (channel, controller), name in bound.items()}
    assert {name: where for name, where in told.items() if where[0] != FREE} == holds


def test_bindings_are_replaced_and_never_changed() -> None:
    bindings = Bindings()
    before = bindings.bound
    bindings.bind(Bind("low", KNOB, 1))
    assert before == {}


PHRASE = [(1.0, NoteOn(pitch=60, velocity=66)), (1.5, NoteOff(pitch=60))]


def test_a_pause_holds_the_model_until_it_ends_and_forgets_nothing() -> None:
    def played(*script: tuple[float, Message | Command]) -> list[float]:
        stage = Stage(mode="call", answer_s=3)
        sent = simulate(stage.session, stage.scheduler, [*script], until_s=20)
        return [item.actual_s for item in sent if isinstance(item.event, NoteOn)]

    first_s, *_ = played(*PHRASE)
    assert not played((0.5, Pause(True)), *PHRASE, (3.0, HandOver()))
    paused_s = first_s + 0.01
    script = [*PHRASE, (paused_s, Pause(True)), (10.0, HandOver()), (11.0, Pause(False)), (12.0, HandOver())]
    before, *after = played(*script)
    assert before == first_s
    assert after
    assert min(after) >= 12.0


def test_a_parameter_set_by_hand_and_by_a_controller_is_the_same_parameter() -> None:
    stage = Stage()
    stage.tell(Bind("polyphony", KNOB, 1), SetParameter("polyphony", 3.0), knob(0))
    assert stage.session.settings.polyphony == 1
