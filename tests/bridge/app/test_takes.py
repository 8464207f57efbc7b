"""Takes: answers that have sounded, remembered, told, played again, kept and forgotten."""

from collections.abc import Iterator, Sequence

import pytest
from controller import Controller, messages

from musebridge.bridge.app.bridge import Bridge
from musebridge.bridge.app.takes import CHUNK, MOST, MOST_KEPT, Takes
from musebridge.bridge.app.testing import ScriptedEngine, Witness, babble
from musebridge.bridge.app.threads import Sender
from musebridge.bridge.core.clip import Answered, AnswerRecorder, Place
from musebridge.bridge.core.commands import Command, Panic, Reset, Roll, Stop
from musebridge.bridge.core.osc_news import ROOT
from musebridge.bridge.core.scheduler import Owner, Sent
from musebridge.bridge.core.settings import Settings
from musebridge.bridge.core.snapshot import Snapshot
from musebridge.bridge.ports.base import MemoryPort
from musebridge.bridge.ports.clock import MonotonicClock
from musebridge.errors import ConfigError
from musebridge.events import NoteOff, NoteOn

LISTENING, ANSWERING = (Snapshot(Settings(), "manual", state) for state in ("listening", "answering"))
NOTES = [(10.0, 60, 64), (10.25, 60, 0), (10.25, 60, 70), (10.5, 67, 50), (10.75, 60, 0), (11.0, 67, 0)]
"""When, pitch and velocity, as an answer sounded."""


def answered(notes: Sequence[tuple[float, int, int]] = NOTES) -> Answered:
    recorder = AnswerRecorder()
    recorder.begin(Place(notes[0][0], notes[0][0], 0, 4))
    for at_s, pitch, velocity in notes:
        event = NoteOn(pitch=pitch, velocity=velocity) if velocity else NoteOff(pitch=pitch)
        recorder.sent(Sent(at_s, at_s, event))
    (found,) = recorder.take()
    return found


class Stage:
    """Takes with a real sender, whose thread is left out: what is due is asked of it."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.now_s = 100.0
        self.told: list[tuple[object, ...]] = []
        self.sender = Sender(MemoryPort(), self, self.sent.append, self.fail)
        self.takes = Takes(self.sender, self.now, lambda *news: self.told.append(news))
        self.ask = self.takes.answerers()

    def now(self) -> float:
        return self.now_s

    def fail(self, worker: str, error: Exception) -> None:
        raise error

    def play_until(self, at_s: float) -> list[tuple[float, int, int]]:
        """Let the time come; return what was sent on the way: seconds from 100, pitch and velocity, 0 for an end."""
        before, self.now_s = len(self.sent), at_s
        self.sender.turn()
        rows = [(round(item.due_s - 100, 3), item.event) for item in self.sent[before:]]
        return [(s, e.pitch, getattr(e, "velocity", 0) if isinstance(e, NoteOn) else 0) for s, e in rows]  # type: ignore[union-attr]


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    witness = Witness()
    witness.take(stage.sent)
    assert witness.wrongs == []
    assert witness.sounding == {}


def test_an_answer_is_told_and_its_notes_come_as_flat_numbers(stage: Stage) -> None:
    stage.takes.add(answered())
    assert stage.told == [("take", 1, 1.0, 3, 0)]
    assert stage.ask["takes"](None, LISTENING) == [("take", (1, 1.0, 3, 0))]
    flat = (0, 60, 64, 250, 60, 0, 250, 60, 70, 500, 67, 50, 750, 60, 0, 1000, 67, 0)
    assert stage.ask["takes/notes"](1, LISTENING) == [("take/notes", (1, 0, 6, *flat))]


def test_a_long_take_comes_in_chunks_that_say_where_they_belong(stage: Stage) -> None:
    stage.takes.add(answered([(i * 0.1 + part * 0.05, 60, 0 if part else 64) for i in range(50) for part in range(2)]))
    chunks = stage.ask["takes/notes"](1, LISTENING)
    assert [values[:3] for _, values in chunks] == [(1, 0, 100), (1, CHUNK, 100)]
    assert [len(values) for _, values in chunks] == [3 + 3 * CHUNK, 3 + 3 * (100 - CHUNK)]


def test_a_note_without_length_is_struck_before_it_ends(stage: Stage) -> None:
    stage.takes.add(answered([(10.0, 60, 64), (10.0, 60, 0)]))
    assert stage.ask["takes/notes"](1, LISTENING) == [("take/notes", (1, 0, 2, 0, 60, 64, 1, 60, 0))]


def test_a_take_is_played_again_as_it_sounded(stage: Stage) -> None:
    stage.takes.add(answered())
    stage.ask["takes/play"](1, LISTENING)
    played = [event for s in range(6) for event in stage.play_until(100.05 + s * 0.25)]
    assert played == [(round(at_s - 9.95, 3), pitch, velocity) for at_s, pitch, velocity in NOTES]
    assert {item.owner for item in stage.sent} == {Owner.TAKE}


@pytest.mark.parametrize("command", [Stop(), Panic(), Reset(), Roll(rolling=False)])
def test_what_stops_the_model_ends_a_take_with_its_notes(stage: Stage, command: Command) -> None:
    stage.takes.add(answered())
    stage.ask["takes/play"](1, LISTENING)
    assert stage.play_until(100.1) == [(0.05, 60, 64)]
    stage.takes.heard(command)
    assert stage.play_until(100.2) == [(0.1, 60, 0)]
    stage.sender.cancel(100.2)
    assert stage.sender._scheduler.next_due() is None


def test_a_take_that_plays_makes_way_for_another_one(stage: Stage) -> None:
    stage.takes.add(answered())
    stage.ask["takes/play"](1, LISTENING)
    stage.play_until(100.1)
    stage.ask["takes/play"](1, LISTENING)
    assert stage.play_until(100.2) == [(0.1, 60, 0), (0.15, 60, 64)]
    stage.takes.end()
    assert stage.play_until(100.3) == [(0.2, 60, 0)]


def test_the_oldest_takes_go_and_those_that_are_kept_stay(stage: Stage) -> None:
    stage.takes.add(answered())
    stage.ask["takes/keep"](1, LISTENING)
    for _ in range(MOST + 1):
        stage.takes.add(answered())
    assert stage.told[1] == ("take", 1, 1.0, 3, 1)
    assert stage.told[-1] == ("take/deleted", 2)
    numbers = [values[0] for _, values in stage.ask["takes"](None, LISTENING)]
    assert numbers == [1, *range(3, MOST + 3)]
    stage.ask["takes/delete"](1, LISTENING)
    assert stage.told[-1] == ("take/deleted", 1)
    with pytest.raises(ConfigError, match=f"no take 1; {ROOT}/takes lists those that there are"):
        stage.ask["takes/notes"](1, LISTENING)


def test_so_many_may_be_kept_and_no_more(stage: Stage) -> None:
    for number in range(1, MOST_KEPT + 2):
        stage.takes.add(answered())
        if number <= MOST_KEPT:
            stage.ask["takes/keep"](number, LISTENING)
    with pytest.raises(ConfigError, match=f"{MOST_KEPT} takes are kept, which is the most"):
        stage.ask["takes/keep"](MOST_KEPT + 1, LISTENING)


def test_no_take_is_played_into_an_answer(stage: Stage) -> None:
    stage.takes.add(answered())
    with pytest.raises(ConfigError, match="the model is answering; stop it before a take is played"):
        stage.ask["takes/play"](1, ANSWERING)
    with pytest.raises(ConfigError, match="no take 9; "):
        stage.ask["takes/play"](9, LISTENING)


def test_what_a_bridge_played_can_be_asked_for_and_played_by_osc() -> None:
    start = Settings(answer_s=0.5, lookahead_s=0.05)
    bridge = Bridge(
        *(ScriptedEngine(babble), MemoryPort(), MemoryPort()), settings=start, mode="manual", osc=("127.0.0.1", 0)
    )
    with bridge, Controller(bridge.osc.address if bridge.osc else ("", 0)) as panel:
        panel.say(f"{ROOT}/subscribe")
        bridge.inbox.put((MonotonicClock().now(), NoteOn(pitch=60, velocity=64)))
        bridge.inbox.put((MonotonicClock().now(), NoteOff(pitch=60)))
        panel.say(f"{ROOT}/handover")
        first = said_until(panel, f"{ROOT}/take")
        number, _, count, kept = first[-1][1]
        assert (number, kept) == (1, 0)
        notes = [values for address, values in first if address == f"{ROOT}/note"]
        assert len(notes) == 2 * int(str(count))
        panel.say(f"{ROOT}/takes/notes", 1)
        (_, (_, first_event, events, *flat)) = panel.hear(f"{ROOT}/take/notes")[0]
        assert (first_event, events) == (0, len(notes))
        triples = [flat[i : i + 3] for i in range(0, len(flat), 3)]
        begin_ms = min(int(str(ms)) for _, _, ms in notes)
        told = sorted([int(str(ms)) - begin_ms, pitch, velocity] for pitch, velocity, ms in notes)
        assert [[pytest.approx(ms, abs=1), pitch, velocity] for ms, pitch, velocity in sorted(triples)] == told
        panel.say(f"{ROOT}/takes/play", 1)
        again = [values for _, values in panel.hear(*[f"{ROOT}/note"] * len(notes))]
    assert [values[:2] for values in again] == [triple[1:] for triple in triples]


def said_until(panel: Controller, last: str) -> list[tuple[str, list[object]]]:
    """Return what is said up to a message to an address."""
    said: list[tuple[str, list[object]]] = []
    while not any(address == last for address, _ in said):
        said += messages(panel.receive())
    return said
