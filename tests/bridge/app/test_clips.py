"""The answer as a clip: in beats, in Ableton Live by AbletonOSC's namespace, in REAPER by a ReaScript, as a file."""

import json
import runpy
import socket
import sys
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from queue import SimpleQueue
from types import ModuleType
from typing import Any

import mido
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from pythonosc.osc_message import OscMessage
from pythonosc.osc_message_builder import OscMessageBuilder

from musebridge.bridge.app import clips, journal
from musebridge.bridge.app.ableton import Ableton
from musebridge.bridge.app.bridge import Bridge
from musebridge.bridge.app.preset import load
from musebridge.bridge.app.testing import ScriptedEngine
from musebridge.bridge.core.clip import Answered, AnswerRecorder, Clip, ClipNote, Place
from musebridge.bridge.core.commands import HandOver
from musebridge.bridge.core.quantise import Lines
from musebridge.bridge.core.scheduler import Owner, Sent
from musebridge.bridge.core.settings import Settings
from musebridge.bridge.ports.base import MemoryPort
from musebridge.cli import main
from musebridge.errors import ConfigError, PortError
from musebridge.events import NoteOff, NoteOn

from musebridge.vocab import NOTE_OFF, TIME_SHIFT  # isort: skip


def sent(at_s: float, pitch: int, velocity: int = 0) -> Sent:
    return Sent(at_s, at_s + 0.001, NoteOn(pitch=pitch, velocity=velocity) if velocity else NoteOff(pitch=pitch))


def answered(*, bpm: float = 100.0) -> Answered:
    """An answer from bar line 6.0 on: 60 on beat 1, 64 a bit late on beat 1.5, lasting over the next bar line."""
    recorder = AnswerRecorder()
    recorder.begin(Place(6.0, 6.0, bpm, 4.0))
    for event in (sent(6.6, 60, 70), sent(6.9, 60), sent(6.93, 64, 80), sent(9.0, 64)):
        recorder.sent(event)
    return recorder.take()[0]


def test_an_answer_that_keeps_to_beats_has_them_from_its_bar_line_on() -> None:
    clip = answered().clip(bpm=60.0)
    assert [(n.pitch, n.velocity) for n in clip.notes] == [(60, 70), (64, 80)]
    assert [n.start for n in clip.notes] == pytest.approx([1.0, 1.55])
    assert [n.length for n in clip.notes] == pytest.approx([0.5, 3.45])
    assert (clip.length, clip.bpm, clip.bar_beats) == (8.0, 60.0, 4.0)


def test_an_answer_that_keeps_to_none_begins_on_the_bar_line_and_sounds_as_it_did_at_the_sets_tempo() -> None:
    clip = answered(bpm=0.0).clip(bpm=60.0, bar_beats=3.0)
    assert [n.start for n in clip.notes] == pytest.approx([0.0, 0.33])
    assert [n.length for n in clip.notes] == pytest.approx([0.3, 2.07])
    assert (clip.length, clip.bar_beats) == (3.0, 3.0)


def test_notes_are_of_the_answer_in_which_they_begin_and_end_wherever_they_end() -> None:
    recorder = AnswerRecorder()
    recorder.begin(Place(1.0, 1.0, 0.0, 4.0))
    recorder.sent(sent(1.0, 60, 70))
    recorder.begin(Place(2.0, 2.0, 0.0, 4.0))
    recorder.begin(Place(2.0, 2.0, 0.0, 4.0))  # the one before was taken back
    recorder.sent(sent(1.9, 62, 70))  # written before, and sent late
    recorder.sent(sent(2.0, 64, 70))
    recorder.sent(Sent(2.0, 2.0, NoteOn(pitch=30, velocity=9), Owner.PLAYER))
    assert not recorder.take_older()
    recorder.sent(sent(2.1, 60))
    recorder.sent(sent(2.1, 62))
    (older,) = recorder.take_older()
    assert [(n.strike.pitch, n.begin_s, n.end_s) for n in older.notes] == [(60, 1.0, 2.1), (62, 1.9, 2.1)]
    assert [n.strike.pitch for n in recorder.take()[0].notes] == [64]


notes = st.builds(
    ClipNote, st.integers(60, 63), st.floats(0, 15), st.floats(0.02, 3), st.integers(1, 127)
)  # fmt: skip


@given(st.lists(notes, max_size=20), st.sampled_from([2, 3, 4, 6]), st.sampled_from([0.0, 0.4, 1.0]))
def test_on_lines_no_note_is_lost_or_doubled_and_none_overlaps_itself(found, per_beat, strength) -> None:
    free = Clip(tuple(found), 16.0, 120.0, 4.0).quantised(Lines(per_beat=4, strength=0.0))  # in order, and apart
    clip = free.quantised(Lines(per_beat=per_beat, strength=strength))
    assert sorted((n.pitch, n.velocity) for n in clip.notes) == sorted((n.pitch, n.velocity) for n in free.notes)
    for pitch in range(60, 64):
        own = [n for n in clip.notes if n.pitch == pitch]
        assert all(a.start + a.length <= b.start + 1e-9 for a, b in pairwise(own))
    assert all(n.start >= 0 and n.length > 0 and n.start + n.length <= clip.length + 1 / 64 * 4 for n in clip.notes)
    if strength == 1 and len({n.pitch for n in free.notes}) == len(free.notes):
        assert all(abs(n.start * per_beat - round(n.start * per_beat)) < 1e-6 for n in clip.notes)


# Ableton Live


class FakeLive(threading.Thread):
    """A set behind AbletonOSC, by the namespace of its README: a piano and an audio track, two scenes."""

    def __init__(self, *, names_scale: bool = True, loses: int = 0) -> None:
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            self.answers_at = free.getsockname()[1]
        self.port = self.socket.getsockname()[1]
        self.clips: dict[tuple[int, int], dict[str, Any]] = {(0, 0): {"length": 4.0, "notes": []}}
        self.scenes, self.launch, self.loses, self.has_written = 2, 11, loses, threading.Event()
        self.song: dict[str, Any] = {"tempo": 90.0, "signature_numerator": 6, "signature_denominator": 8}
        if names_scale:
            self.song |= {"root_note": 2, "scale_name": "Minor"}

    def run(self) -> None:
        while (datagram := self.socket.recv(65536)) != b"end":
            message = OscMessage(datagram)
            answer = self.answer(message.address, list(message.params))
            if answer is not None:
                for address, values in (("/live/song/beat", [3]), (message.address, answer)):  # a stray comes first
                    builder = OscMessageBuilder(address)
                    for value in values:
                        builder.add_arg(value)
                    self.socket.sendto(builder.build().dgram, ("127.0.0.1", self.answers_at))
        self.socket.close()

    def answer(self, address: str, given: list[Any]) -> list[Any] | None:
        match address.removeprefix("/live/").split("/"):
            case ["song", "get", "track_names"]:
                return ["Piano", "Voice"]
            case ["song", "get", "num_scenes"]:
                return [self.scenes]
            case ["song", "get", "clip_trigger_quantization"]:
                return [self.launch]
            case ["song", "get", name] if name in self.song:
                return [self.song[name]]
            case ["song", "create_scene"]:
                self.scenes += 1
            case ["view", "get", "selected_track"]:
                return [0]
            case ["track", "get", "has_midi_input"]:
                return [given[0], given[0] == 0]
            case ["clip_slot", "get", "has_clip"]:
                return [*given, (given[0], given[1]) in self.clips]
            case ["clip_slot", "create_clip"]:
                self.clips[given[0], given[1]] = {"length": given[2], "notes": []}
            case ["clip", "set", "name"]:
                self.clips[given[0], given[1]]["name"] = given[2]
            case ["clip", "add", "notes"]:
                rows = [tuple(given[i : i + 5]) for i in range(2, len(given), 5)]
                self.clips[given[0], given[1]]["notes"] += rows[self.loses :]
            case ["clip", "get", "notes"]:
                self.has_written.set()
                return [*given, *(value for row in self.clips[given[0], given[1]]["notes"] for value in row)]
        return None

    def connect(self) -> Ableton:
        return Ableton("127.0.0.1", self.port, self.answers_at)


@pytest.fixture
def live(request: pytest.FixtureRequest) -> Iterator[FakeLive]:
    fake = FakeLive(**getattr(request, "param", {}))
    fake.start()
    yield fake
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        end.sendto(b"end", ("127.0.0.1", fake.port))
    fake.join(5)


def test_an_answer_is_written_into_the_next_free_slot_in_the_sets_bars(live: FakeLive) -> None:
    with live.connect() as ableton:
        said = clips.to_live(answered(), None, ableton=ableton)
    assert said == "clip: 2 notes in 2 bars in slot 2 of track 1 of a set at 90 bpm, in D minor"
    clip = live.clips[0, 1]
    assert (clip["name"], clip["length"]) == ("MuseBridge", 6.0)
    assert [(row[0], row[3], row[4]) for row in clip["notes"]] == [(60, 70, False), (64, 80, False)]
    assert [row[1:3] for row in clip["notes"]] == [pytest.approx((1.0, 0.5)), pytest.approx((1.55, 3.45))]


def test_its_notes_fall_on_the_launch_grid_if_asked_where_that_is_finer_than_a_bar(live: FakeLive) -> None:
    with live.connect() as ableton:
        clips.to_live(answered(), None, launch=True, track="Piano", ableton=ableton)
        live.launch = 4  # one bar
        clips.to_live(answered(), None, launch=True, track="1", ableton=ableton)
    assert [row[1] for row in live.clips[0, 1]["notes"]] == pytest.approx([1.0, 1.5])
    assert [row[1] for row in live.clips[0, 2]["notes"]] == pytest.approx([1.0, 1.55])  # in a new scene
    assert live.scenes == 3


@pytest.mark.parametrize("live", [{"names_scale": False}], indirect=True)
def test_an_abletonosc_that_knows_no_scale_does_as_well(live: FakeLive) -> None:
    with live.connect() as ableton:
        assert ableton.read().scale == ""


@pytest.mark.parametrize("live", [{"loses": 1}], indirect=True)
def test_notes_that_do_not_arrive_are_told(live: FakeLive) -> None:
    with live.connect() as ableton, pytest.raises(PortError, match="Live has 1 of the clip's 2 notes"):
        clips.to_live(answered(), None, ableton=ableton)


@pytest.mark.parametrize(
    ("track", "why"), [("Voice", "takes no MIDI"), ("Drums", "no track 'Drums'"), ("9", "no track '9'")]
)
def test_a_track_that_cannot_take_it_is_told(live: FakeLive, track: str, why: str) -> None:
    with live.connect() as ableton, pytest.raises(PortError, match=why):
        ableton.write(answered().clip(), track)


def test_where_live_does_not_answer_one_line_says_so() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        with (
            Ableton("127.0.0.1", silent.getsockname()[1], 0) as ableton,
            pytest.raises(PortError, match="is Live running"),
        ):
            ableton.read()


@pytest.mark.parametrize("first", ["live", "off"])
def test_each_answer_of_a_bridge_becomes_a_clip_or_the_last_one_when_asked(
    live: FakeLive, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def says(tokens) -> int:
        return {72: TIME_SHIFT + 4, TIME_SHIFT + 4: NOTE_OFF + 72}.get(tokens[-1], 72)

    said: SimpleQueue[str] = SimpleQueue()
    monkeypatch.setattr(clips, "Ableton", live.connect)
    quick = Settings(lookahead_s=0.05, answer_s=0.5)
    source, target = MemoryPort("keys"), MemoryPort("voice")
    bridge = Bridge(ScriptedEngine(says), source, target, settings=quick, mode="manual", clip=first, notice=said.put)
    with bridge:
        for message in (NoteOn(pitch=60, velocity=64), NoteOff(pitch=60), HandOver()):
            bridge.inbox.put((bridge._clock.now(), message))
        while said.get(timeout=20) != "listening":
            pass
        if first == "off":
            with pytest.raises(ConfigError, match="one of live, reaper, found 'off'"):
                bridge._clips.ask(None)
            bridge._clips.ask("live")
            while not said.get(timeout=20).startswith("clip:"):
                bridge._clips.ask("live")  # what has not sounded to its end is no answer yet
        else:
            assert said.get(timeout=20).startswith("clip: ")
    assert bridge.failure is None
    played = [event for event in target.events if isinstance(event, NoteOn)]
    assert [row[0] for row in live.clips[0, 1]["notes"]] == [event.pitch for event in played]


# REAPER


class Reaper(ModuleType):
    """REAPER's functions that the ReaScript calls, as a recorder; its project has 120 bpm, and the cursor is at 3 s."""

    def __init__(self, track: str = "(MediaTrack*)0x1") -> None:
        super().__init__("reaper_python")
        self.calls: list[tuple[Any, ...]] = []
        answers: dict[str, Any] = {
            "GetSelectedTrack": lambda *_: track,
            "GetCursorPosition": lambda: 3.0,
            "TimeMap2_timeToQN": lambda _, at_s: at_s * 2,
            "TimeMap2_QNToTime": lambda _, beat: beat / 2,
            "CreateNewMIDIItemInProj": lambda *given: ("(MediaItem*)0x2", *given),
            "GetActiveTake": lambda _: "(MediaItem_Take*)0x3",
            "MIDI_GetPPQPosFromProjQN": lambda _, beat: (beat - 6) * 960,
        }
        for name in (
            "ShowMessageBox",
            "Undo_BeginBlock",
            "Undo_EndBlock",
            "MIDI_InsertNote",
            "MIDI_Sort",
            "UpdateArrange",
        ):
            answers[name] = lambda *_: None
        for name, answer in answers.items():
            setattr(self, f"RPR_{name}", self.recorded(name, answer))

    def recorded(self, name: str, answer: Any) -> Any:
        def call(*given: Any) -> Any:
            self.calls.append((name, *given))
            return answer(*given)

        return call


def test_the_reascript_inserts_the_answer_at_the_edit_cursor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = clips.to_reaper(answered(), Lines(per_beat=2), folder=tmp_path)
    assert str(tmp_path / "musebridge_clip.py") in said
    reaper = Reaper()
    monkeypatch.setitem(sys.modules, "reaper_python", reaper)
    runpy.run_path(str(tmp_path / "musebridge_clip.py"))
    assert ("CreateNewMIDIItemInProj", "(MediaTrack*)0x1", 3.0, 7.0, False) in reaper.calls
    inserted = [call[4:] for call in reaper.calls if call[0] == "MIDI_InsertNote"]
    assert [note[2:] for note in inserted] == [(0, 60, 70, True), (0, 64, 80, True)]
    assert [note[:2] for note in inserted] == [pytest.approx((960, 1440)), pytest.approx((1440, 1440 + 3.45 * 960))]
    assert [call[0] for call in reaper.calls[-3:]] == ["MIDI_Sort", "Undo_EndBlock", "UpdateArrange"]


def test_without_a_selected_track_the_reascript_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips.to_reaper(answered(), None, folder=tmp_path)
    reaper = Reaper("(MediaTrack*)0x0000000000000000")
    monkeypatch.setitem(sys.modules, "reaper_python", reaper)
    runpy.run_path(str(tmp_path / "musebridge_clip.py"))
    assert [call[0] for call in reaper.calls] == ["GetSelectedTrack", "ShowMessageBox"]


# A log, a file, a preset


def log(path: Path, **place: float) -> Path:
    written = journal.Journal(path, seed=1, mode="bars", settings=Settings(), model="none")
    written.answer(Place(**{"begin_s": 6.0, "line_s": 6.0, "bpm": 100.0, "bar_beats": 3.5, **place}))
    for event in (sent(6.6, 60, 70), sent(6.9, 60), sent(6.93, 64, 80), sent(7.5, 64)):
        written.sent(event)
    written.close()
    return path


def test_the_last_answer_of_the_newest_log_is_a_file_in_its_bars(tmp_path: Path) -> None:
    path = log(tmp_path / "session.jsonl")
    done = CliRunner().invoke(main, ["clip", str(tmp_path), "--grid", "16"])
    assert done.exit_code == 0, done.output
    file = mido.MidiFile(path.with_name("session-answer.mid"))
    meta = {message.type: message for message in file.tracks[0] if message.is_meta}
    assert mido.tempo2bpm(meta["set_tempo"].tempo) == pytest.approx(100)
    assert (meta["time_signature"].numerator, meta["time_signature"].denominator) == (7, 8)
    ticks, found = 0, []
    for message in file.tracks[0]:
        ticks += message.time
        if not message.is_meta:
            found.append((ticks / file.ticks_per_beat, message.type, message.note))
    assert found == [(1, "note_on", 60), (1.5, "note_off", 60), (1.5, "note_on", 64), (1.5 + 0.95, "note_off", 64)]


def test_clip_to_reaper_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clips, "to_reaper", lambda *given: clips.__dict__["_size"](given[0].clip()))
    done = CliRunner().invoke(main, ["clip", str(log(tmp_path / "a.jsonl")), "--to", "reaper"])
    assert done.output == "clip: 2 notes in 1 bar\n"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["nowhere.jsonl"], "cannot be read"),
        (["EMPTY"], "has no log"),
        (["LOG", "--grid", "launch"], "--to live"),
        (["LOG", "--grid", "5"], "grid must be one of"),
        (["WRONG"], "is not a session's log"),
    ],
)
def test_what_cannot_be_a_clip_is_told_in_one_line(tmp_path: Path, arguments: list[str], why: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "wrong.jsonl").write_text(json.dumps({"kind": "answer", "begin_s": 1}) + "\n{}\n", encoding="utf-8")
    known = {"EMPTY": tmp_path / "empty", "LOG": log(tmp_path / "a.jsonl"), "WRONG": tmp_path / "wrong.jsonl"}
    done = CliRunner().invoke(main, ["clip", *(str(known.get(word, word)) for word in arguments)])
    assert done.exit_code == 1
    assert why in done.output
    assert "Traceback" not in done.output


def test_a_preset_says_where_its_answers_become_clips(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('description = "mine"\nclip = "live"\nclip_track = 2\n', encoding="utf-8")
    assert (load(str(path)).clip, load(str(path)).clip_track) == ("live", "2")
    path.write_text('description = "mine"\nclip = "tape"\n', encoding="utf-8")
    with pytest.raises(ConfigError, match="clip must be one of off, live, reaper, found 'tape'"):
        load(str(path))
