"""On a grid, an answer's notes fall on its lines, keep their order and a sensible length, and none is lost."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musebridge.bridge.app.testing import ScriptedEngine, Witness, simulate
from musebridge.bridge.core.clock_in import SteadyTempo
from musebridge.bridge.core.quantise import Lines, Quantiser
from musebridge.bridge.core.scheduler import Owner, Scheduled, Scheduler
from musebridge.bridge.core.session import Session
from musebridge.bridge.core.settings import Settings
from musebridge.errors import ConfigError
from musebridge.events import NoteOff, NoteOn
from musebridge.vocab import N_EVENTS, NOTE_OFF, TIME_SHIFT

PHRASE_S, BAR_S = 1.0, 2.0  # one bar of 4/4 at 120 bpm
grids = st.sampled_from([8, 12, 16, 24])
strengths = st.sampled_from([0.0, 30.0, 70.0, 100.0])
beats = st.floats(0, 64, allow_nan=False)


def test_a_beat_goes_to_the_nearest_line_by_the_strength() -> None:
    sixteenths = Lines(per_beat=4)
    assert [sixteenths.moved(beat) for beat in (0.1, 0.13, 3.9, 7.0)] == pytest.approx([0.0, 0.25, 4.0, 7.0])
    assert Lines(per_beat=3).moved(0.3) == pytest.approx(1 / 3)
    assert Lines(per_beat=4, strength=0.5).moved(0.1) == pytest.approx(0.05)
    assert Lines(per_beat=4, strength=0.0).moved(0.1) == 0.1


def test_a_bar_line_that_cuts_a_beat_off_is_a_line() -> None:
    lines = Lines(per_beat=3, bar_beats=3.5)
    assert [lines.moved(beat) for beat in (3.36, 3.45, 3.6, 3.8)] == pytest.approx([10 / 3, 3.5, 3.5, 3.5 + 1 / 3])


@given(st.lists(beats, min_size=2), grids, strengths, st.sampled_from([3.0, 3.5, 4.0]))
def test_what_comes_later_is_never_moved_before_what_came_earlier(found, grid, strength, bar_beats) -> None:
    lines = Lines(per_beat=grid / 4, strength=strength / 100, bar_beats=bar_beats)
    moved = [lines.moved(beat) for beat in sorted(found)]
    assert all(a <= b + 1e-9 for a, b in pairwise(moved))
    assert all(abs(a - b) <= 2 / grid + 1e-9 for a, b in zip(sorted(found), moved, strict=True))


def test_nothing_is_moved_before_the_present() -> None:
    at = Quantiser(lines=Lines(per_beat=4), grid=SteadyTempo(120, 0.0), origin_s=0.0, now_s=1.04, end_s=9.0)
    assert [at.moved_s(time_s) for time_s in (1.02, 1.05, 1.1)] == pytest.approx([1.02, 1.04, 1.125])


class Told:
    """Takes down when each event is due as it is pushed, and sends it."""

    def __init__(self) -> None:
        self.scheduler, self.pushed = Scheduler(), list[Scheduled]()

    def __getattr__(self, name: str) -> object:
        return getattr(self.scheduler, name)

    def push(self, scheduled: Scheduled) -> None:
        if scheduled.owner is Owner.MODEL:
            self.pushed.append(scheduled)
        self.scheduler.push(scheduled)


def played(says, seed: int = 0, interrupts=(), **parameters: object) -> tuple[list, Told]:
    """Return what is sent where one bar is answered with one."""
    outbox, given_ = Told(), {"listen_bars": 1, "answer_bars": 1, **parameters}
    session = Session(ScriptedEngine(says), outbox, Settings(**given_), mode="bars", rng=np.random.default_rng(seed))
    script = [(PHRASE_S, NoteOn(pitch=60, velocity=66)), (PHRASE_S + 0.2, NoteOff(pitch=60))]
    for at_s in interrupts:
        script += [(at_s, NoteOn(pitch=48, velocity=66)), (at_s + 0.1, NoteOff(pitch=48))]
    return simulate(session, outbox.scheduler, script, until_s=PHRASE_S + 9 * BAR_S), outbox


def notes_of(sent) -> list[tuple[int, float, float]]:
    """Return pitch, onset and end of each note of the model, in beats from the bar line that it begins on."""
    found, open_ = [], {}
    for item in sent:
        beat = (item.due_s - PHRASE_S - BAR_S) * 2
        match item:
            case _ if item.owner is not Owner.MODEL:
                continue
            case _ if isinstance(item.event, NoteOn):
                assert item.event.pitch not in open_
                open_[item.event.pitch] = beat
            case _ if isinstance(item.event, NoteOff):
                found.append((item.event.pitch, open_.pop(item.event.pitch), beat))
    assert not open_
    return sorted(found, key=lambda note: note[1])


def uneven(tokens) -> int:
    """A model that strikes a higher pitch every 170 ms, and ends each when the next one comes."""
    struck = sum(72 <= token < NOTE_OFF for token in tokens)
    match [token for token in tokens if token < N_EVENTS][-1]:
        case token if 72 <= token < NOTE_OFF:
            return TIME_SHIFT + 16
        case token if token == TIME_SHIFT + 16 and struck:
            return NOTE_OFF + 71 + struck
    return 72 + struck


def test_without_a_grid_notes_are_where_they_are_written_and_on_one_they_are_on_its_lines() -> None:
    free, _ = played(uneven, top_p=0.5)
    on_grid, _ = played(uneven, top_p=0.5, grid=16)
    written = [onset for _, onset, _ in notes_of(free)]
    assert written == pytest.approx([0.34 * i for i in range(len(written))])
    assert [onset * 4 for _, onset, _ in notes_of(on_grid)] == pytest.approx(
        [math.floor(onset * 4 + 0.5) for onset in written if math.floor(onset * 4 + 0.5) < 16]
    )


@settings(deadline=None, max_examples=60)
@given(grids, strengths, st.integers(0, 1000), st.lists(st.floats(PHRASE_S + 1.9, PHRASE_S + 3.9), max_size=3))
def test_notes_fall_on_the_grid_in_order_with_sensible_lengths_and_none_is_lost(grid, strength, seed, joins) -> None:
    def babble(tokens) -> int:
        return hash((seed, *tokens[-3:])) % N_EVENTS

    sent, outbox = played(babble, seed, joins, grid=grid, grid_strength=strength)
    witness = Witness()
    witness.take(sent)
    notes = notes_of(sent)
    assert not witness.wrongs
    assert all(item.actual_s == item.due_s for item in sent)  # nothing was moved before the present
    if strength == 100 and not joins:
        assert all(abs(onset * grid / 4 - round(onset * grid / 4)) < 1e-6 for _, onset, _ in notes)
    if not joins:  # else what was pushed is taken back and written anew
        assert [item.due_s for item in outbox.pushed] == sorted(item.due_s for item in outbox.pushed)
        assert len(notes) == sum(isinstance(item.event, NoteOn) for item in outbox.pushed)
        shortest = min((end - onset for _, onset, end in notes if end < 4), default=1)
        assert shortest >= (0.02 - 1e-9 if strength else 0)
        assert all(0 <= onset < 4 and end <= 4 + 1e-6 for _, onset, end in notes)


@pytest.mark.parametrize("wrong", ["5", 7, "fine", -16])
def test_a_grid_that_there_is_not_is_refused(wrong) -> None:
    with pytest.raises(ConfigError, match="grid must be one of off, 8, 12, 16, 24"):
        Settings(grid=wrong)


def test_a_grid_is_set_by_number_or_by_text() -> None:
    assert Settings().with_value("grid", 16.0).lines == Settings(grid="16").lines == Settings(grid=16).lines
    assert Settings().with_value("grid", "off").lines is None
