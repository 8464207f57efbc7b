"""The threads together, in real time and without a MIDI system."""

import threading
from collections.abc import Iterator, Sequence

import pytest

from musebridge.bridge.ports import MemoryPort
from musebridge.bridge.scheduler import SILENCE
from musebridge.bridge.server import Bridge
from musebridge.bridge.settings import Settings
from musebridge.bridge.testing import ScriptedEngine
from musebridge.errors import PortError
from musebridge.events import Event, NoteOff, NoteOn
from musebridge.vocab import NOTE_OFF, TIME_SHIFT

QUICK = Settings(silence_s=0.05, answer_s=600, lookahead_s=0.2)
DEADLINE_S = 20


class Ear(MemoryPort):
    """An output that can be waited for, and that can be pulled out."""

    def __init__(self) -> None:
        super().__init__("ear")
        self.heard = threading.Semaphore(0)
        self.gone = False

    def send(self, event: Event) -> None:
        if self.gone:
            raise PortError("ear: is gone")
        super().send(event)
        self.heard.release()

    def wait_for(self, count: int) -> None:
        for _ in range(count):
            assert self.heard.acquire(timeout=DEADLINE_S), "the bridge fell silent"


def trill(tokens: Sequence[int]) -> int:
    """A model that holds 72 and repeats 74 every 20 ms."""
    if 72 not in tokens:
        return 72
    last = [t for t in tokens if t in (74, NOTE_OFF + 74) or t >= TIME_SHIFT][-2:]
    if last[-1] < TIME_SHIFT:
        return TIME_SHIFT
    return NOTE_OFF + 74 if last[0] == 74 else 74


def phrase() -> list[Event]:
    return [NoteOn(pitch=60, velocity=64), NoteOff(pitch=60)]


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
def keyboard() -> MemoryPort:
    return MemoryPort("keyboard")


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine(trill)


@pytest.fixture
def bridge(engine: ScriptedEngine, keyboard: MemoryPort, ear: Ear) -> Iterator[Bridge]:
    bridge = Bridge(engine, keyboard, ear, settings=QUICK, seed=0)
    bridge.start()
    for event in phrase():
        keyboard.send(event)
    yield bridge
    bridge.stop()


def still_sounding(events: Sequence[Event]) -> set[int]:
    sounding: set[int] = set()
    for event in events:
        if isinstance(event, NoteOn):
            sounding.add(event.pitch)
        elif isinstance(event, NoteOff):
            sounding.discard(event.pitch)
    return sounding


def test_stopping_in_the_middle_of_an_answer_leaves_silence(bridge: Bridge, ear: Ear) -> None:
    ear.wait_for(20)
    bridge.stop()
    assert still_sounding(ear.events) == set()
    assert tuple(ear.events[-3:]) == SILENCE


def test_what_was_recorded_is_what_was_sent(bridge: Bridge, ear: Ear) -> None:
    ear.wait_for(20)
    bridge.stop()
    assert [sent.event for sent in bridge.recording.sent] == ear.events
    assert [timed.event for timed in bridge.recording.received] == phrase()
    assert all(sent.actual_s >= sent.due_s for sent in bridge.recording.sent)


def test_the_player_silences_the_model(bridge: Bridge, keyboard: MemoryPort, ear: Ear) -> None:
    ear.wait_for(20)
    keyboard.send(NoteOn(pitch=50, velocity=64))
    for _ in range(1000):
        if not ear.heard.acquire(timeout=1.0):
            break
    assert still_sounding(ear.events) == set()


def test_a_failing_engine_ends_the_answer_and_the_next_phrase_is_answered(
    bridge: Bridge, engine: ScriptedEngine, keyboard: MemoryPort, ear: Ear
) -> None:
    ear.wait_for(20)
    engine.failing = True
    while ear.heard.acquire(timeout=1.0):
        pass
    assert still_sounding(ear.events) == set()
    engine.failing = False
    for event in phrase():
        keyboard.send(event)
    ear.wait_for(20)
    assert bridge.failure is None


def test_an_output_that_is_pulled_out_ends_the_bridge_with_its_reason(bridge: Bridge, ear: Ear) -> None:
    ear.wait_for(5)
    ear.gone = True
    assert bridge.ended.wait(DEADLINE_S)
    bridge.stop()
    assert str(bridge.failure) == "ear: is gone"
