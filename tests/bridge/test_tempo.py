"""Beats from MIDI clock."""

import numpy as np
import numpy.typing as npt
import pytest

from musebridge.bridge.tempo import TICKS_PER_BEAT, ClockFollower, SteadyTempo
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
