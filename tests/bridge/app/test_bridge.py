"""The threads together, in real time and without a MIDI system."""

import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue

import mido
import pytest

from musebridge.bridge.app.bridge import Bridge
from musebridge.bridge.app.journal import Journal, Take, replay, tracks
from musebridge.bridge.app.testing import ScriptedEngine
from musebridge.bridge.core.commands import Bind, FollowSharedBeats, HandOver, Retry, SetMode, SetParameter
from musebridge.bridge.core.echo import LOOP
from musebridge.bridge.core.scheduler import silence
from musebridge.bridge.core.settings import Settings
from musebridge.bridge.ports.base import MemoryPort
from musebridge.bridge.ports.clock import MonotonicClock
from musebridge.errors import ConfigError, PortError
from musebridge.events import Control, Message, NoteOff, NoteOn, Other
from musebridge.vocab import NOTE_OFF, TIME_SHIFT
from musebridge.wire import to_message

QUICK = Settings(silence_s=0.05, answer_s=600, lookahead_s=0.2)
DEADLINE_S = 20


class Ear(MemoryPort):
    """An output that can be waited for, and that can be pulled out."""

    def __init__(self) -> None:
        super().__init__("ear")
        self.heard = threading.Semaphore(0)
        self.gone = False

    def send(self, event: Message) -> None:
        if self.gone:
            raise PortError("ear: is gone")
        super().send(event)
        self.heard.release()

    def reconnect(self) -> bool:
        return not self.gone

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


def phrase() -> list[Message]:
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
def bridge(engine: ScriptedEngine, keyboard: MemoryPort, ear: Ear, tmp_path: Path) -> Iterator[Bridge]:
    bridge = Bridge(engine, keyboard, ear, settings=QUICK, seed=0, journal=lambda seed: log_in(tmp_path, seed))
    bridge.start()
    for event in phrase():
        keyboard.send(event)
    yield bridge
    bridge.stop()


def log_in(folder: Path, seed: int) -> Journal:
    return Journal(folder / "log.jsonl", seed=seed, mode="call", settings=QUICK, model="trill")


def still_sounding(events: Sequence[Message]) -> set[int]:
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
    assert ear.events[-4:] == silence([0])


def test_the_log_holds_what_was_heard_and_sent_and_can_be_replayed(bridge: Bridge, ear: Ear, tmp_path: Path) -> None:
    ear.wait_for(20)
    bridge.stop()
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    sent = [row for row in rows if row["kind"] == "sent"]
    assert [row["bytes"] for row in sent] == [to_message(event).bytes() for event in ear.events]
    assert all(row["at_s"] >= row["due_s"] for row in sent)
    assert [row["bytes"] for row in rows if row["kind"] == "heard"] == [to_message(e).bytes() for e in phrase()]
    now, then = replay(tmp_path / "log.jsonl", ScriptedEngine(trill), model="trill")
    assert now == then
    assert len(now) >= 20
    music = tracks(tmp_path / "log.jsonl")
    assert [timed.event for timed in music["player"]] == phrase()
    notes = [e for e in ear.events if isinstance(e, NoteOn | NoteOff)]
    assert [timed.event for timed in music["model"]] == notes


def test_a_session_with_interruptions_failures_and_commands_can_be_replayed(
    bridge: Bridge, engine: ScriptedEngine, keyboard: MemoryPort, ear: Ear, tmp_path: Path
) -> None:
    ear.wait_for(20)
    refused, bound = SetParameter("transpose", 99), Bind("transpose", 5, 1)
    for command in (SetMode("duet"), SetParameter("transpose", 3), refused, bound, HandOver()):
        bridge.inbox.put((MonotonicClock().now(), command))
    ear.wait_for(20)
    for event in [*phrase(), Control(controller=5, value=90), NoteOn(pitch=72, velocity=5)]:
        keyboard.send(event)
    ear.wait_for(20)
    bridge.inbox.put((MonotonicClock().now(), Retry()))
    ear.wait_for(10)
    bridge.stop()
    now, then = replay(tmp_path / "log.jsonl", ScriptedEngine(trill), model="trill")
    assert now == then
    assert len(now) >= 70


def test_a_take_is_written_at_once_with_whole_notes_and_the_log_goes_on(
    bridge: Bridge, keyboard: MemoryPort, ear: Ear, tmp_path: Path
) -> None:
    ear.wait_for(3)  # 72 sounds, and was struck before the take
    bridge.record(None)
    ear.wait_for(20)
    keyboard.send(NoteOn(pitch=50, velocity=64))  # is held when the take ends
    while still_sounding(ear.events):
        ear.wait_for(1)
    bridge.record(False)
    bridge.record(False)
    (take,) = tmp_path.glob("*.mid")
    assert take.name == "log-take1.mid"
    player, model = mido.MidiFile(take).tracks
    assert [(m.type, m.note) for m in player if not m.is_meta] == [("note_on", 50), ("note_off", 50)]
    trilled = [(m.type, m.note) for m in model if not m.is_meta]
    assert len(trilled) >= 18
    assert trilled == [("note_on", 74), ("note_off", 74)] * (len(trilled) // 2)
    bridge.record(True)
    bridge.stop()
    assert (tmp_path / "log-take2.mid").is_file()
    now, then = replay(tmp_path / "log.jsonl", ScriptedEngine(trill), model="trill")
    assert now == then


def test_a_log_that_has_the_old_name_of_a_command_is_replayed(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    journal = Journal(log, seed=0, mode="bars", settings=Settings(), model="trill")
    journal.heard(0.0, FollowSharedBeats(90.0))
    journal.close()
    text = log.read_text(encoding="utf-8")
    assert text.count("FollowSharedBeats") == 1
    log.write_text(text.replace("FollowSharedBeats", "Share"), encoding="utf-8")
    assert replay(log, ScriptedEngine(trill), model="trill") == ([], [])


def test_a_take_has_an_end_for_each_of_two_strikes_of_one_key() -> None:
    take, (strike, lift) = Take(), phrase()
    for time_s, event in [(5.0, lift), (6.0, strike), (6.2, strike), (6.3, lift), (6.5, strike), (6.7, lift)]:
        take.add("player", time_s, event)
    times = [(round(t.time_s, 6), t.event) for t in take.tracks()["player"]]
    assert times == [(0.0, strike), (0.2, strike), (0.3, lift), (0.5, strike), (0.7, lift), (0.7, lift)]


def test_a_take_needs_a_folder(engine: ScriptedEngine, keyboard: MemoryPort, ear: Ear) -> None:
    with (
        Bridge(engine, keyboard, ear, settings=QUICK) as bridge,
        pytest.raises(ConfigError, match=r"there is no folder to record into; start with --record DIR"),
    ):
        bridge.record(True)


def test_what_the_player_plays_is_passed_on_if_asked(ear: Ear, engine: ScriptedEngine) -> None:
    keyboard = MemoryPort("keyboard")
    with Bridge(engine, keyboard, ear, settings=replace(QUICK, thru=1), mode="manual", seed=0) as bridge:
        played = [*phrase(), Other(bytes([0xE0, 1, 2])), Control(controller=1, value=9)]
        for message in played * 2:  # at once, and equal: no echoes
            keyboard.send(message)
        ear.wait_for(8)
        assert ear.events == played * 2
        assert bridge.stats.heard == 2


class Loop(Ear):
    """An output that a DAW sends back to the input, louder and on another channel."""

    def __init__(self, keyboard: MemoryPort) -> None:
        super().__init__()
        self._keyboard = keyboard

    def send(self, event: Message) -> None:
        super().send(event)
        match event:
            case NoteOn(pitch=pitch):
                self._keyboard.send(NoteOn(pitch=pitch, velocity=100, channel=2))
            case NoteOff(pitch=pitch):
                self._keyboard.send(NoteOff(pitch=pitch, channel=2))


def test_a_loop_through_the_daw_is_told_once_and_the_answer_goes_on(engine: ScriptedEngine) -> None:
    keyboard, notices = MemoryPort("keyboard"), list[str]()
    loop = Loop(keyboard)
    with Bridge(engine, keyboard, loop, settings=QUICK, seed=0, notice=notices.append) as bridge:
        for message in phrase():
            keyboard.send(message)
        loop.wait_for(100)
        assert bridge.failure is None
    assert [notice for notice in notices if "DAW" in notice] == [LOOP]
    assert notices.count("answering") < 20


def test_a_flood_of_bends_pressure_and_controllers_passes_in_order_and_the_phrase_is_answered(
    ear: Ear, engine: ScriptedEngine
) -> None:
    keyboard, (strike, lift) = MemoryPort("keyboard"), phrase()
    flood: list[Message] = []
    for value in range(128):  # each once: what has just left would be taken for an echo
        flood += [
            Other(bytes(data)) for data in ([0xE2, 0, value], [0xE2, 64, value], [0xD2, value], [0xA2, 60, value])
        ]
        flood += [Control(controller=number, value=value, channel=2) for number in (1, 7, 11, 67, 74, 122)]
    played = [strike, *flood, lift]
    with Bridge(engine, keyboard, ear, settings=replace(QUICK, thru=1), seed=0) as bridge:
        for message in played:
            keyboard.send(message)
        ear.wait_for(len(played) + 1)
        assert ear.events[: len(played)] == played
        assert ear.events[len(played)] == NoteOn(pitch=72, velocity=66)
        assert bridge.stats.heard == 1


class Sleeper:
    """A clock of a computer that may have stood still."""

    def __init__(self) -> None:
        self.slept_s = 0.0

    def now(self) -> float:
        return MonotonicClock().now() + self.slept_s


@pytest.mark.parametrize("mode", ["call", "bars"])
def test_after_a_stall_what_is_overdue_is_left_out_and_the_answer_goes_on(engine: ScriptedEngine, mode: str) -> None:
    keyboard, ear, clock = MemoryPort("keyboard"), Ear(), Sleeper()
    late_s: list[float] = []
    settings = replace(QUICK, lookahead_s=2.0, bpm=400, listen_bars=1, answer_bars=64)
    with Bridge(engine, keyboard, ear, settings=settings, mode=mode, seed=0, clock=clock) as bridge:
        on_sent = bridge._sender._on_sent
        bridge._sender._on_sent = lambda sent: (
            on_sent(sent),
            late_s.append((sent.actual_s - sent.due_s) * isinstance(sent.event, NoteOn)),
        )
        for event in phrase():
            keyboard.send(event)
        ear.wait_for(20)
        late_s.clear()
        clock.slept_s = 5.0
        ear.wait_for(20)
        assert max(late_s) < 1.0
    assert still_sounding(ear.events) == set()


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


def test_an_output_that_is_pulled_out_ends_the_answer_and_is_played_on_when_it_is_back(
    engine: ScriptedEngine, keyboard: MemoryPort, ear: Ear
) -> None:
    news: SimpleQueue[str] = SimpleQueue()
    with Bridge(engine, keyboard, ear, settings=QUICK, seed=0, notice=news.put) as bridge:
        for round_ in range(2):
            for event in phrase():
                keyboard.send(event)
            assert news.get(timeout=DEADLINE_S) == "answering", round_
            ear.wait_for(5)
            ear.gone = True
            assert news.get(timeout=DEADLINE_S) == "ear is gone; the bridge plays on when it is back"
            assert news.get(timeout=DEADLINE_S) == "stopped"
            ear.gone = False
            assert news.get(timeout=DEADLINE_S) == "ear is back"
    assert bridge.failure is None
    assert bridge.stats.sounding() == {}
