"""Bars are musical time: counted in elapsed beats, and an answer keeps to the lines that the DAW has."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musebridge.bridge.app.testing import ScriptedEngine, babble, simulate
from musebridge.bridge.core.commands import Command, FollowSharedBeats, Roll, SetParameter
from musebridge.bridge.core.scheduler import Owner, Scheduler
from musebridge.bridge.core.session import Session
from musebridge.bridge.core.settings import Settings
from musebridge.events import Message, NoteOff, NoteOn, SongPosition, Transport
from musebridge.vocab import NOTE_OFF, TIME_SHIFT, VELOCITY

MODEL_PITCH, SHIFT_100MS = 72, TIME_SHIFT + 9


def pulse(tokens: Sequence[int]) -> int:
    """A model that plays one pitch for 100 ms, rests 100 ms, and so on."""
    tail = [t for t in tokens if t < VELOCITY][-2:]
    if tail[-1:] == [MODEL_PITCH] or tail[-1:] == [NOTE_OFF + MODEL_PITCH]:
        return SHIFT_100MS
    return NOTE_OFF + MODEL_PITCH if tail == [MODEL_PITCH, SHIFT_100MS] else MODEL_PITCH


@dataclass
class Daw:
    """A DAW with its transport, and what it sends; it counts its own beats and bars."""

    bpm: float = 120.0
    bar: float = 4.0
    now_s: float = 1.0
    beat: float = 0.0
    bar_zero: float = 0.0
    is_running: bool = False
    ticks_stopped: bool = False
    is_lost: bool = False
    script: list[tuple[float, Message | Command]] = field(default_factory=list)
    _pieces: list[tuple[float, float, float, float, float]] = field(default_factory=list)

    def send(self, message: Message | Command) -> None:
        self.script.append((self.now_s, message))

    def start(self) -> None:
        self.beat, self.bar_zero, self.is_running = 0.0, 0.0, True
        self.send(Transport("start"))
        self.go(0.001)

    def stop(self) -> None:
        self.is_running = False
        self.send(Transport("stop"))

    def go_on(self) -> None:
        if not self.is_running:
            self.beat = np.ceil(self.beat * 24 - 1e-6) / 24
            self.is_running = True
            self.send(Transport("continue"))

    def jump(self, sixteenths: int) -> None:
        self.send(SongPosition(sixteenths))
        self.beat = sixteenths / 4

    def metre(self, text: str, beats: float) -> None:
        """Change the metre on the next bar line."""
        self.play(-(self.beat - self.bar_zero) % self.bar)
        self.bar_zero, self.bar = self.beat, beats
        self.send(SetParameter("beats", text))

    def go(self, seconds: float) -> None:
        self.now_s += seconds

    def play(self, beats: float) -> None:
        """Let time pass, ticking."""
        step_s, count = 60 / self.bpm / 24, round(beats * 24)
        for _ in range(count):
            self._pieces.append(
                (self.now_s, self.beat if self.is_running else np.nan, self.bpm, self.bar_zero, self.bar)
            )
            if (self.is_running or self.ticks_stopped) and not self.is_lost:
                self.send(Transport("clock"))
            self.now_s += step_s
            self.beat += self.is_running / 24

    def off_line_s(self, time_s: float) -> float:
        """Return how far a moment is from the nearest bar line, in seconds, be it just before or after a change."""
        return min(self._off_line_s(time_s + late_s) for late_s in (-0.002, 0.0, 0.002))

    def _off_line_s(self, time_s: float) -> float:
        starts = [piece[0] for piece in self._pieces]
        begun_s, beat, bpm, bar_zero, bar = self._pieces[max(0, int(np.searchsorted(starts, time_s + 1e-9)) - 1)]
        if np.isnan(beat):
            return np.inf
        place = beat + (time_s - begun_s) * bpm / 60 - bar_zero
        return abs(place - round(place / bar) * bar) * 60 / bpm


def answers(daw: Daw, phrases_s: Sequence[float] = (), says=pulse, **parameters: object) -> list[float]:
    """Return the first and the last note's moment of each answer."""
    begun: list[list[float]] = []

    def hear(topic: str, *values: object) -> None:
        if topic == "state" and values == ("answering",):
            begun.append([])

    scheduler = Scheduler()
    given_ = {"listen_bars": 1, "answer_bars": 1, "top_p": 0.5, **parameters}
    rng = np.random.default_rng(0)
    session = Session(ScriptedEngine(says), scheduler, Settings(**given_), mode="bars", rng=rng, publish=hear)
    script = list(daw.script)
    for at_s in phrases_s:
        script += [(at_s, NoteOn(pitch=60, velocity=66)), (at_s + 0.2, NoteOff(pitch=60))]
    sent = simulate(session, scheduler, script, until_s=daw.now_s)
    onsets = [s.actual_s for s in sent if isinstance(s.event, NoteOn) and s.owner is Owner.MODEL]
    rests = [i for i in range(len(onsets)) if i == 0 or onsets[i] - onsets[i - 1] > 0.5]
    return [onset for i in rests for onset in (onsets[i], onsets[[*rests, len(onsets)][rests.index(i) + 1] - 1])]


def beats_of(daw: Daw, found: Sequence[float], zero_s: float) -> list[float]:
    return [round((at_s - zero_s) * daw.bpm / 60, 2) for at_s in found]


@pytest.mark.parametrize(("text", "bar"), [("3/4", 3.0), ("6/8", 3.0), ("7/8", 3.5), ("5/4", 5.0)])
def test_a_metre_may_be_any(text: str, bar: float) -> None:
    daw = Daw()
    daw.start()
    zero_s = daw.now_s
    daw.play(40)
    first, last = answers(daw, [zero_s + 0.02], beats=text)
    assert (first - zero_s) * 2 == pytest.approx(bar, abs=0.01)
    assert 2 * bar - 0.5 < (last - zero_s) * 2 <= 2 * bar


def test_a_metre_that_changes_while_listening_counts_from_its_bar_line() -> None:
    daw = Daw()
    daw.start()
    zero_s = daw.now_s
    daw.play(4)
    daw.metre("3/4", 3.0)
    daw.play(30)
    assert (answers(daw, [zero_s + 0.02], listen_bars=3)[0] - zero_s) * 2 == pytest.approx(4 + 3 + 3, abs=0.01)


def test_a_jump_into_the_middle_of_a_bar_moves_the_answer_to_the_daws_bar_line() -> None:
    daw = Daw()
    daw.start()
    zero_s = daw.now_s
    daw.play(4.5)
    daw.jump(8 * 4 + 2)  # to beat 8.5, from 4.5
    daw.play(2)
    daw.jump(3 * 4)  # to beat 3: one beat before a line
    daw.play(20)
    first = answers(daw, [zero_s + 0.02], listen_bars=2)[0]
    assert daw.off_line_s(first) < 0.005
    assert (first - zero_s) * 2 == pytest.approx(7.5, abs=0.01)


def test_a_phrase_goes_on_where_a_song_that_was_stopped_continues() -> None:
    daw = Daw()
    daw.start()
    zero_s = daw.now_s
    daw.play(6)
    daw.stop()
    daw.go(3.0)
    daw.go_on()
    daw.play(20)
    first = answers(daw, [zero_s + 0.02], listen_bars=3)[0]
    assert first - zero_s - 3.0 == pytest.approx(6.0, abs=0.02)


def test_while_a_daw_stands_still_no_answer_begins_and_from_its_start_the_bars_are_counted() -> None:
    daw = Daw()
    daw.start()
    daw.play(2)
    daw.stop()
    stopped_s = daw.now_s
    daw.go(6.0)
    daw.start()
    zero_s = daw.now_s
    daw.play(20)
    assert answers(daw, [stopped_s + 1.0])[0] - zero_s == pytest.approx(2.0, abs=0.01)


def test_a_daw_that_was_stopped_long_ago_is_not_waited_for() -> None:
    daw = Daw()
    daw.start()
    daw.play(2)
    daw.stop()
    daw.go(30.0)
    phrase_s = daw.now_s - 15
    assert answers(daw, [phrase_s])[0] - phrase_s == pytest.approx(2.0, abs=0.001)


def test_the_last_tempo_holds_when_the_clock_dies() -> None:
    daw = Daw(bpm=90)
    daw.start()
    zero_s = daw.now_s
    daw.play(6)
    daw.is_lost = True
    daw.play(40)
    phrase_s = zero_s + 8.02 * 60 / 90
    first = answers(daw, [phrase_s], listen_bars=2)[0]
    assert (first - zero_s) * 1.5 == pytest.approx(16, abs=0.01)


@pytest.mark.parametrize("lost_beats", [0.5, 3.0, 7.25])
def test_a_clock_that_comes_back_has_the_bars_where_it_had_them(lost_beats: float) -> None:
    daw = Daw()
    daw.start()
    zero_s = daw.now_s
    daw.play(6)
    daw.is_lost = True
    daw.play(lost_beats)
    daw.is_lost = False
    daw.play(40)
    first = answers(daw, [zero_s + 10.05], listen_bars=1)[0]
    assert (first - zero_s) * 2 == pytest.approx(24, abs=0.01)


def test_an_answer_ends_on_its_bar_line_though_the_tempo_doubles() -> None:
    daw = Daw(bpm=60)
    daw.start()
    zero_s = daw.now_s
    daw.play(7.5)
    daw.bpm = 120.0
    daw.play(30)
    first, last = answers(daw, [zero_s + 0.02], listen_bars=1, answer_bars=1, lookahead_s=2.0)
    assert first - zero_s == pytest.approx(4.0, abs=0.005)
    assert last - zero_s < 7.5 + 0.25 + 0.02


def test_an_answer_that_waits_for_a_line_is_taken_back_when_the_line_moves() -> None:
    daw = Daw()
    daw.start()
    zero_s = daw.now_s
    daw.play(3.75)  # the answer is written, and due in a quarter of a beat
    daw.jump(12 * 4)
    daw.play(30)
    first = answers(daw, [zero_s + 0.02])[0]
    assert daw.off_line_s(first) < 0.005
    assert (first - zero_s) * 2 == pytest.approx(3.75, abs=0.01) or (first - zero_s) * 2 == pytest.approx(
        7.75, abs=0.01
    )


def test_playing_that_is_said_again_is_no_start_and_stopping_twice_no_stop() -> None:
    said = [(1.0, True), (1.3, True), (2.2, True), (3.1, True)]
    daw = Daw(script=[(at_s, Roll(rolling=rolling)) for at_s, rolling in said], now_s=12.0)
    assert answers(daw, [1.1], listen_bars=2)[0] == pytest.approx(5.0)


def test_where_link_comes_or_goes_the_tempo_changes_and_elapsed_beats_do_not() -> None:
    session = Session(ScriptedEngine(pulse), Scheduler(), Settings(), mode="bars", rng=np.random.default_rng(0))
    meter = session._meter
    session.receive(1.0, NoteOn(pitch=60, velocity=66))
    before = meter.elapsed(2.0)
    session.receive(2.0, FollowSharedBeats(90.0, -500.0))
    assert meter.elapsed(2.0) == pytest.approx(before)
    assert meter.elapsed(4.0) == pytest.approx(before + 3.0)


def test_ticks_in_a_stop_change_the_tempo_and_not_the_song() -> None:
    daw = Daw(ticks_stopped=True)
    daw.start()
    daw.play(5)
    daw.stop()
    daw.bpm = 100.0
    daw.play(9.4)
    daw.go_on()
    go_s, beat = daw.now_s, daw.beat
    daw.play(30)
    first = answers(daw, [go_s + 0.3])[0]
    assert daw.off_line_s(first) < 0.005
    assert beat + (first - go_s) * 100 / 60 == pytest.approx(8 if beat < 5 else 12, abs=4.01)


metres = st.sampled_from([("3/4", 3.0), ("4", 4.0), ("6/8", 3.0), ("7/8", 3.5), ("5/4", 5.0)])
beats = st.integers(1, 40).map(lambda quarters: quarters / 4)
moves = st.one_of(
    st.tuples(st.just("start"), st.none()),
    st.tuples(st.just("stop"), st.integers(1, 36).map(lambda quarters: quarters / 4)),
    st.tuples(st.just("jump"), st.integers(0, 200)),
    st.tuples(st.just("tempo"), st.sampled_from([60.0, 90.0, 100.0, 120.0, 140.0, 180.0])),
    st.tuples(st.just("metre"), metres),
    st.tuples(st.just("lose"), st.integers(1, 12)),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(moves, beats), min_size=3, max_size=14), st.booleans(), st.integers(0, 1000))
def test_an_answer_begins_on_a_bar_line_as_the_daw_counts_it_or_not_at_all(script, ticks_stopped, seed) -> None:
    daw = Daw(ticks_stopped=ticks_stopped)
    daw.start()
    daw.play(1)
    for (move, value), length in script:
        match move:
            case "start":
                daw.start()
                daw.play(1)
            case "stop":
                daw.stop()
                daw.play(value)  # less than a bridge waits for it
                daw.go_on()
            case "jump" if daw.is_running:
                daw.jump(value)
            case "tempo":
                daw.bpm = value
            case "metre" if daw.is_running:
                daw.metre(*value)
            case "lose":
                daw.is_lost = True
                daw.play(value)
                daw.is_lost = False
        daw.play(length)
    daw.play(24)
    rng = np.random.default_rng(seed)
    phrases_s = np.sort(rng.uniform(1.0, daw.now_s, 3))
    begun = beginnings(daw, phrases_s)
    assert all(daw.off_line_s(at_s) < 0.005 for at_s in begun), [(at_s, daw.off_line_s(at_s)) for at_s in begun]


def beginnings(daw: Daw, phrases_s: Sequence[float]) -> list[float]:
    """Return the moment of each answer's first note."""
    begun_s: list[float] = []

    def hear(topic: str, *values: object) -> None:
        if topic == "state" and values == ("answering",):
            begun_s.append(session._now_s)

    scheduler, rng = Scheduler(), np.random.default_rng(0)
    parameters = Settings(listen_bars=1, answer_bars=1)
    session = Session(ScriptedEngine(babble), scheduler, parameters, mode="bars", rng=rng, publish=hear)
    script = list(daw.script)
    for at_s in phrases_s:
        script += [(at_s, NoteOn(pitch=60, velocity=66)), (at_s + 0.2, NoteOff(pitch=60))]
    sent = simulate(session, scheduler, script, until_s=daw.now_s)
    onsets = [s.actual_s for s in sent if isinstance(s.event, NoteOn) and s.owner is Owner.MODEL]
    ends_s = [*begun_s[1:], daw.now_s]  # one that was taken back has no note before the next begins
    firsts = (
        next((s for s in onsets if begin_s <= s < end_s), None) for begin_s, end_s in zip(begun_s, ends_s, strict=False)
    )
    return [first for first in firsts if first is not None]
