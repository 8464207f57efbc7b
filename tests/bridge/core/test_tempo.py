"""Beats from MIDI clock."""

import numpy as np
import numpy.typing as npt
import pytest

from musebridge.bridge.core.clock_in import TICKS_PER_BEAT, ClockFollower, SteadyTempo
from musebridge.bridge.core.tempo import Meter
from musebridge.events import SongPosition, Transport

Times = npt.NDArray[np.float64]


def ticks(*parts: tuple[float, int], start_s: float = 10.0) -> Times:
    """Return the times of ``count`` ticks at ``bpm``, for each part."""
    intervals = np.concatenate([np.full(count, 60 / bpm / TICKS_PER_BEAT) for bpm, count in parts])
    return start_s + np.concatenate([[0.0], np.cumsum(intervals)[:-1]])


def followed(times: Times, jitter_s: float = 0.0) -> ClockFollower:
    follower = ClockFollower()
    follower.receive(times[0] - 0.01, Transport("start"))
    for time_s in times + np.random.default_rng(0).uniform(-jitter_s, jitter_s, len(times)):
        follower.receive(time_s, Transport("clock"))
    return follower


@pytest.mark.parametrize("bpm", [40, 90, 120, 174, 240])
def test_the_beat_is_found_under_jitter(bpm: float) -> None:
    times = ticks((bpm, 24 * 12))
    follower = followed(times, 0.003)
    assert follower.bpm == pytest.approx(bpm, rel=0.005)
    assert follower.time_of(16) == pytest.approx(10 + 16 * 60 / bpm, abs=0.005)
    assert follower.beat_at(times[240]) == pytest.approx(10, abs=0.02)


@pytest.mark.parametrize("lost", [[100], [100, 101], [50, 130, 200]])
def test_a_lost_tick_is_counted(lost: list[int]) -> None:
    follower = followed(np.delete(ticks((120, 288)), lost), 0.003)
    assert follower.time_of(16) == pytest.approx(18, abs=0.005)


@pytest.mark.parametrize("stall_s", [0.02, 0.035, 0.05, 0.08, 0.2, 0.4])
def test_ticks_that_a_busy_machine_hands_over_late_and_together_are_each_counted_once(stall_s: float) -> None:
    times = ticks((120, 24 * 12))
    for start_s in np.arange(11.003, 15.5, 0.61):
        stalled = (times > start_s) & (times < start_s + stall_s)
        times[stalled] = start_s + stall_s + 0.0003 * np.arange(stalled.sum())
    follower = followed(times)
    assert follower.bpm == pytest.approx(120, rel=0.01)
    assert follower.time_of(16) == pytest.approx(18, abs=0.01)


@pytest.mark.parametrize("bpm", [100, 110, 114, 118, 122, 126, 135, 150])
def test_a_small_change_of_tempo_is_not_taken_for_lost_ticks(bpm: float) -> None:
    times = ticks((120, 200), (bpm, 300))
    follower = followed(times, 0.003)
    assert follower.beat_at(times[-1]) == pytest.approx(499 / 24, abs=0.02)


@pytest.mark.parametrize("bpm", [60, 90, 140, 240])
def test_another_tempo_is_taken_up_and_no_beat_lost(bpm: float) -> None:
    times = ticks((120, 200), (bpm, 200))
    follower = followed(times, 0.003)
    assert follower.bpm == pytest.approx(bpm, rel=0.005)
    assert follower.time_of(399 / 24) == pytest.approx(times[-1], abs=0.005)


def test_it_is_alive_while_the_song_runs_and_ticks_come() -> None:
    follower = followed(ticks((120, 48)))
    assert follower.is_alive(11.0)
    assert not follower.is_alive(12.0)
    follower.receive(11.0, Transport("stop"))
    assert not follower.is_alive(11.0)
    assert not ClockFollower().is_alive(0.0)


def test_the_song_position_says_which_beat_comes_next() -> None:
    follower = followed(ticks((120, 100)))
    follower.receive(12.1, Transport("stop"))
    follower.receive(12.2, SongPosition(16))
    follower.receive(12.2, Transport("continue"))
    for time_s in ticks((120, 30), start_s=13.0):
        follower.receive(time_s, Transport("clock"))
    assert follower.beat_at(13.5) == pytest.approx(5.0, abs=0.01)


def test_after_a_pause_the_tempo_is_learnt_anew() -> None:
    follower = followed(ticks((120, 100)))
    for time_s in ticks((75, 60), start_s=100.0):
        follower.receive(time_s, Transport("clock"))
    assert follower.bpm == pytest.approx(75, rel=0.001)


def test_a_steady_tempo_counts_from_its_origin() -> None:
    grid = SteadyTempo(90, 5.0)
    assert grid.time_of(3) == 7.0
    assert grid.beat_at(7.0) == 3.0


# The meter


def begun(meter: Meter, until_s: float, start_s: float = 5.0) -> list[tuple[float, int]]:
    """Return when which beat begins, for one who wakes when the meter says."""
    beats, now_s = [], start_s
    while now_s < until_s:
        if (beat := meter.begun(now_s)) is not None:
            beats.append((round(now_s, 6), beat))
        now_s = meter.next_beat_s(now_s) or until_s
    return beats


def test_the_steady_beats_are_counted_from_the_phrase() -> None:
    meter = Meter(120)
    assert begun(meter, 7.0) == []
    meter.begin_phrase(5.0)
    assert begun(meter, 7.0) == [(5.0, 0), (5.5, 1), (6.0, 2), (6.5, 3)]
    meter.begin_phrase(6.7)
    assert begun(meter, 7.5, 6.7) == [(6.7, 0), (7.2, 1)]


def test_while_a_daw_rolls_a_phrase_does_not_move_the_beats() -> None:
    meter = Meter(120)
    meter.roll(5.0, True)
    meter.begin_phrase(6.1)
    assert meter.grid(6.1).beat_at(6.0) == 2.0
    meter.roll(7.0, False)
    meter.begin_phrase(7.3)
    assert meter.grid(7.3).beat_at(7.3) == 0.0


def test_another_tempo_goes_on_from_the_beat_where_it_is() -> None:
    meter = Meter(120)
    meter.begin_phrase(5.0)
    meter.set_tempo(6.0, 60)
    assert [meter.grid(6.0).beat_at(time_s) for time_s in (6.0, 7.0)] == [2.0, 3.0]


def test_a_beat_of_a_clock_that_jitters_begins_once() -> None:
    meter, rng = Meter(100), np.random.default_rng(0)
    meter.receive(9.99, Transport("start"))
    beats = []
    for time_s in ticks((120, 24 * 8)) + rng.uniform(-0.003, 0.003, 24 * 8):
        meter.receive(time_s, Transport("clock"))
        beats += begun(meter, time_s + 0.02, time_s)
    assert [beat for _, beat in beats] == [0, 1, 2, 3, 4, 5, 6, 7]
    assert [time_s for time_s, _ in beats[1:]] == pytest.approx([10 + beat / 2 for beat in range(1, 8)], abs=0.005)


def test_beats_that_no_clock_and_no_player_set_are_not_waited_for() -> None:
    meter = Meter(100)
    meter.receive(9.99, Transport("start"))
    for time_s in ticks((120, 48)):
        meter.receive(time_s, Transport("clock"))
    assert meter.begun(11.01) == 2
    assert meter.next_beat_s(11.01) == pytest.approx(11.5)
    meter.receive(11.1, Transport("stop"))
    assert meter.begun(11.1) is None
    assert meter.next_beat_s(11.1) is None
