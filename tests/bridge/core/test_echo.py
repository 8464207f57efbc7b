"""What was sent is not heard as a player when it comes back; whatever a player sends is."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musebridge.bridge.core.echo import LOOP, EchoFilter
from musebridge.bridge.core.scheduler import Owner, Sent
from musebridge.events import Control, Message, NoteOff, NoteOn, Transport

Moments = list[tuple[float, Message]]


def melody(count: int, every_s: float = 0.2, channel: int = 0) -> Moments:
    """Notes that leave, each half as long as the time to the next."""
    return [
        (1.0 + i * every_s + late_s, event)
        for i in range(count)
        for pitch in [60 + (i * 7) % 12]
        for late_s, event in (
            (0.0, NoteOn(pitch=pitch, velocity=66, channel=channel)),
            (every_s / 2, NoteOff(pitch=pitch, channel=channel)),
        )
    ]


def heard(sent: Moments, came: Moments, owner: Owner = Owner.MODEL) -> tuple[Moments, list[str]]:
    """Return what of it is taken for the player's, and what was reported."""
    said: list[str] = []
    echoes = EchoFilter(said.append)
    rest = []
    moments = sorted([(t, 0, e) for t, e in sent] + [(t, 1, e) for t, e in came], key=lambda item: item[:2])
    for at_s, is_in, event in moments:
        if not is_in:
            echoes.sent(Sent(at_s, at_s, event, owner))
        elif not echoes.is_echo(at_s, event):
            rest.append((at_s, event))
    return rest, said


def looped(sent: Moments, took_s: float, jitter_s: float = 0.0, **changed: int) -> Moments:
    """What a DAW sends back: on another channel or louder, if asked."""
    rng = np.random.default_rng(0)
    came = []
    for at_s, event in sent:
        velocity = {"velocity": changed.get("velocity", 66)} if isinstance(event, NoteOn) else {}
        again = type(event)(pitch=event.pitch, channel=changed.get("channel", 0), **velocity)
        came.append((at_s + took_s + rng.uniform(0, jitter_s), again))
    return came


@pytest.mark.parametrize("took_s", [0.003, 0.05, 0.26, 1.3, 4.0])
@pytest.mark.parametrize("changed", [{}, {"channel": 5}, {"velocity": 99}])
def test_a_loop_is_found_by_its_pattern_and_told_once_whatever_it_changes(took_s, changed) -> None:
    sent = melody(60)
    rest, said = heard(sent, looped(sent, took_s, **changed))
    assert len(rest) == 6
    assert said == [LOOP]


@pytest.mark.parametrize("jitter_s", [0.003, 0.010, 0.021])
def test_a_loop_through_a_sound_systems_periods_is_found(jitter_s: float) -> None:
    sent = melody(60)
    rest, said = heard(sent, looped(sent, 0.1, jitter_s))
    assert len(rest) <= 20
    assert said == [LOOP]


def test_a_loop_is_found_though_its_notes_end_each_answer() -> None:
    sent: Moments = []
    for i in range(8):  # the first note comes back after 5 ms, and the answer ends
        sent += [(1.0 + i, NoteOn(pitch=60 + i, velocity=66)), (1.006 + i, NoteOff(pitch=60 + i))]
    rest, said = heard(sent, looped(sent, 0.005))
    assert len(rest) == 6
    assert said == [LOOP]


def test_in_a_loop_the_player_is_heard_and_every_key_comes_up() -> None:
    sent = melody(60)
    played = [(t + 0.07, e) for t, e in melody(60, every_s=0.19)]
    rest, _ = heard(sent, looped(sent, 0.1) + played)
    assert [moment for moment in rest if moment in played] == played


def test_a_note_that_was_heard_is_ended_though_its_end_is_an_echo() -> None:
    sent = melody(60)
    came = looped(sent, 0.15)
    rest, _ = heard(sent, came)
    downs = [e.pitch for _, e in rest if isinstance(e, NoteOn)]
    assert sorted(downs) == sorted(e.pitch for _, e in rest if isinstance(e, NoteOff))


def test_a_loop_that_was_cut_is_forgotten() -> None:
    sent = melody(120)
    came = looped(sent[:60], 0.1)
    imitated = [(at_s + 0.1, event) for at_s, event in sent[-2:]]
    rest, _ = heard(sent, came + imitated)
    assert rest[-2:] == imitated


@given(st.integers(0, 10_000), st.floats(0.1, 1.5))
def test_a_player_who_imitates_the_model_is_heard(seed: int, after_s: float) -> None:
    rng = np.random.default_rng(seed)
    sent = melody(12, every_s=0.4)
    came = [(at_s + after_s + rng.normal(0, 0.03), event) for at_s, event in sent]
    rest, said = heard(sent, came)
    assert len(rest) == len(came)
    assert said == []


def test_who_plays_single_notes_of_the_model_at_once_is_heard() -> None:
    sent = melody(60)
    came = [(at_s + 0.02, event) for at_s, event in sent if event.pitch == 67]
    assert heard(sent, came) == (came, [])


def repeated(pitch: int, every_s: float, count: int) -> Sequence[tuple[float, Message]]:
    strikes = [(1.0 + i * every_s, NoteOn(pitch=pitch, velocity=100)) for i in range(count)]
    return strikes + [(at_s + every_s / 2, NoteOff(pitch=pitch)) for at_s, _ in strikes]


def test_what_was_passed_on_and_clock_are_never_echoes() -> None:
    played = sorted(repeated(60, 60 / 160 / 8, 64), key=lambda item: item[0])
    rest, said = heard([(t + 0.001, e) for t, e in played], list(played), Owner.PLAYER)
    assert (rest, said) == (played, [])
    ticks: Moments = [(i / 48, Transport("clock")) for i in range(200)]
    wheel: Moments = [(i / 48, Control(controller=6, value=64)) for i in range(200)]
    assert heard(ticks + wheel, ticks)[0] == ticks
    assert heard(wheel, wheel)[0] == wheel
