"""The commands that play: what a user does, and what a user does wrong."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mido
import onnx
import pytest
from click.testing import CliRunner, Result

from musebridge import midifile, vocab
from musebridge.bridge.app import preset
from musebridge.bridge.app.preset import load, names
from musebridge.bridge.core.commands import Bind
from musebridge.bridge.core.settings import MODES
from musebridge.bridge.ports.midi_library import MidiLibrary
from musebridge.cli import main
from musebridge.errors import ConfigError
from musebridge.events import NoteOff, NoteOn, Timed

DEADLINE_S = 60
PHRASE = preset.FOLDER / "phrase.mid"
MODEL = preset.load("call").model


ON_LINUX = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="being without MIDI needs Linux; elsewhere the system has it built in"
)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def refused(result: Result) -> str:
    """Assert that a command failed as a user's mistake should; return its one line."""
    assert result.exit_code != 0
    assert isinstance(result.exception, SystemExit), result.exception
    (line,) = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    assert "Traceback" not in result.output
    return line


def test_continue_writes_seed_and_continuation_and_draws_them(tmp_path: Path) -> None:
    out, roll = tmp_path / "out.mid", tmp_path / "out.png"
    result = run("continue", PHRASE, "-o", out, "--seconds", 5, "--roll", roll, "--seed", 7)
    assert result.exit_code == 0, result.output
    assert roll.read_bytes().startswith(b"\x89PNG")
    seed_end_s = midifile.read(PHRASE)[-1].time_s
    continuation = mido.MidiFile(out).tracks[1]
    assert continuation.name == "continuation"
    onsets = [m for m in continuation if m.type == "note_on"]
    assert len(onsets) >= 5
    assert len(onsets) == sum(m.type == "note_off" for m in continuation)
    ticks = sum(m.time for m in continuation)
    assert ticks / 1000 <= seed_end_s + 5.001
    assert next(m.time for m in continuation if m.type == "note_on") / 1000 >= seed_end_s - 0.011


def test_continue_takes_the_opening_of_a_seed_if_asked(tmp_path: Path) -> None:
    out = tmp_path / "out.mid"
    assert run("continue", PHRASE, "-o", out, "--seconds", 2, "--opening", 3).exit_code == 0
    seed, continuation = (track for track in mido.MidiFile(out).tracks if track.name)
    assert 2.5 < sum(m.time for m in seed) / 1000 <= 3.01
    assert 2.9 < next(m.time for m in continuation if m.type == "note_on") / 1000 < 5.01


def test_continue_is_reproducible_and_another_seed_is_another_continuation(tmp_path: Path) -> None:
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        assert run("continue", PHRASE, "-o", tmp_path / name, "--seconds", 3, "--seed", seed).exit_code == 0
    first, second, third = ((tmp_path / name).read_bytes() for name in "abc")
    assert first == second
    assert first != third


def drums_only(path: Path) -> None:
    file = mido.MidiFile()
    hits = [mido.Message(kind, channel=9, note=36, velocity=64, time=10) for kind in ("note_on", "note_off")]
    file.tracks.append(mido.MidiTrack(hits))
    file.save(path)


BAD_SEEDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "cannot be read: No such file"),
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "text": (lambda path: path.write_text("Dear Mr. Bach,\n" * 20), "is not a MIDI file"),
    "truncated": (lambda path: path.write_bytes(PHRASE.read_bytes()[:900]), "is cut off after 900 bytes"),
    "drums": (drums_only, "holds only drums"),
}


@pytest.mark.parametrize("kind", BAD_SEEDS)
def test_a_bad_seed_is_one_clear_line(tmp_path: Path, kind: str) -> None:
    make, complaint = BAD_SEEDS[kind]
    seed, out = tmp_path / "seed.mid", tmp_path / "out.mid"
    make(seed)
    line = refused(run("continue", seed, "-o", out))
    assert str(seed) in line
    assert complaint in line
    assert not out.exists()


def test_a_model_that_is_not_onnx_is_one_clear_line(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_text("I am a model.")
    assert str(model) in refused(run("continue", PHRASE, "-o", tmp_path / "o.mid", "--model", model))
    assert "missing.onnx" in refused(run("serve", "--port", "memory", "--model", tmp_path / "missing.onnx"))


def test_a_model_of_another_vocabulary_is_one_clear_line(tmp_path: Path) -> None:
    model = onnx.load(str(MODEL))
    (entry,) = [entry for entry in model.metadata_props if entry.value == vocab.FINGERPRINT]
    entry.value = "another"
    onnx.save(model, str(tmp_path / "other.onnx"))
    line = refused(run("continue", PHRASE, "-o", tmp_path / "out.mid", "--model", tmp_path / "other.onnx"))
    assert "has vocabulary 'another'" in line


def test_an_unknown_preset_and_a_wrong_one_are_one_clear_line(tmp_path: Path) -> None:
    assert "no preset 'jazz'; known are bass, call, " in refused(run("serve", "--preset", "jazz"))
    wrong = tmp_path / "wrong.toml"
    wrong.write_text('description = "x"\nmodel = "m.onnx"\n[settings]\ntemperature = 99\n')
    assert "temperature must be in 0.05..3, found 99" in refused(run("serve", "--preset", wrong))
    wrong.write_text('description = "x"\nmodel = "m.onnx"\nmode = "karaoke"\n')
    assert "mode must be one of call, duet, bars, manual, found 'karaoke'" in refused(run("serve", "--preset", wrong))


def test_an_osc_address_in_use_or_unreadable_is_one_clear_line() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        assert "Address already in use" in refused(run("serve", "--port", "memory", "--osc", f"127.0.0.1:{port}"))
    for unreadable in ("nine", "::1:9123", "[::1]", "[::1]:99999"):
        assert "osc must be HOST:PORT" in refused(run("serve", "--port", "memory", "--osc", unreadable))


def test_an_osc_address_may_be_the_loopback_of_ipv6() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as taken:
        try:
            taken.bind(("::1", 0))
        except OSError as error:
            pytest.skip(f"IPv6 is switched off: {error}")
        address = f"[::1]:{taken.getsockname()[1]}"
        assert f"OSC {address}: Address already in use" in refused(run("serve", "--port", "memory", "--osc", address))


@ON_LINUX
def test_no_midi_system_at_all_is_one_clear_line() -> None:
    nowhere = {**os.environ, "JACK_DEFAULT_SERVER": "nowhere", "JACK_NO_START_SERVER": "1"}
    for command in (
        ["serve", "--backend", "jack"],
        ["ports", "--backend", "jack"],
        ["serve", "--port", "Steinway", "--backend", "jack"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "musebridge", *command], env=nowhere, capture_output=True, text=True
        )
        assert done.returncode != 0
        assert done.stderr.startswith("Error: no MIDI system answers (")
        assert len(done.stderr.splitlines()) == 1
        assert "--port memory" in done.stderr


@ON_LINUX
def test_without_a_midi_system_the_doctor_says_of_each_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("MidiInAlsa::initialize: error creating ALSA sequencer client object.")

    library = MidiLibrary(name="python-rtmidi", apis={"jack": 1, "alsa": 2}, input=refuse, output=refuse)
    monkeypatch.setattr("musebridge.bridge.ports.midi_library.load", lambda name: library)
    monkeypatch.setenv("JACK_DEFAULT_SERVER", "nowhere")
    result = run("doctor", "--osc", "off")
    assert result.exit_code == 1
    problems = [line for line in result.output.splitlines() if line.startswith("problem  MIDI")]
    assert "JACK: " in problems[0]
    assert "ALSA: its sequencer is not there; load it (sudo modprobe snd-seq)" in problems[1]
    assert len(problems) == 2
    assert "loop-back" not in result.output
    assert "MidiInAlsa" not in result.output, "what a library says is not for a musician"


@ON_LINUX
def test_the_doctor_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JACK_DEFAULT_SERVER", "nowhere")
    monkeypatch.setattr("musebridge.bridge.app.preset.USER_FOLDER", tmp_path)
    monkeypatch.setattr("musebridge.bridge.app.doctor.NEEDED_TOKENS_S", 10**9)
    (tmp_path / "mine.toml").write_text('description = "My own"\n[settings]\nlow = 400\n')
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        address = "{}:{}".format(*other.getsockname())
        result = run("doctor", "--backend", "jack", "--osc", address)
    assert result.exit_code == 1
    midi, model, speed, osc, presets = result.output.splitlines()
    assert midi.startswith("problem  MIDI       no MIDI system answers (")
    assert model.startswith("ok       model      maestro-12m.onnx loads: ")
    assert speed.startswith("problem  speed      ")
    assert "tokens/s, 1000000000 are needed; end other programs" in speed
    assert f"problem  OSC        OSC {address}: Address already in use; choose another with --osc HOST:PORT" == osc
    assert presets.startswith("problem  presets    ")
    assert "low must be whole, in 0..127, found 400" in presets


def test_the_doctor_misses_the_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "musebridge.bridge.inference.engine", raising=False)
    result = run("doctor", "--osc", "off")
    assert "onnxruntime is not installed; install it with: pip install onnxruntime" in result.output
    assert result.exit_code == 1


def test_serve_on_a_memory_port_ends_cleanly_and_says_what_it_did(tmp_path: Path) -> None:
    command = ["serve", "--port", "memory", "--osc", "off", "--record", str(tmp_path)]
    with subprocess.Popen([sys.executable, "-m", "musebridge", *command], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "listening on memory in" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0
    assert "heard 0 notes, played 0" in output
    assert len(list(tmp_path.glob("*.mid"))) == len(list(tmp_path.glob("*.jsonl"))) == 1


def test_a_signal_that_interrupts_what_sets_or_awaits_the_end_still_ends_it() -> None:
    script = """
import signal, threading
from musebridge.cli.live import interruptible
ended = threading.Event()
with interruptible(ended):
    with ended._cond:  # held within set() and wait(), where a signal may come as well
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
    assert ended.wait(10)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=DEADLINE_S)


def test_the_demo_without_a_midi_system_writes_music_and_its_picture(tmp_path: Path) -> None:
    arguments = ["--port", "memory", "--phrase-seconds", 1, "--seconds", 2, "-o", tmp_path]
    result = run("demo", *arguments)
    assert result.exit_code == 0, result.output
    names = [track.name for track in mido.MidiFile(tmp_path / "demo.mid").tracks]
    assert names == ["player", "model"]
    assert all(any(m.type == "note_on" for m in t) for t in mido.MidiFile(tmp_path / "demo.mid").tracks)
    assert (tmp_path / "demo.png").read_bytes().startswith(b"\x89PNG")
    log, music = tmp_path / "demo.jsonl", tmp_path / "again.mid"
    result = run("replay", log, "-o", music)
    assert result.exit_code == 0, result.output
    assert "messages, every one the same and at the same time" in result.output
    assert music.read_bytes() == (tmp_path / "demo.mid").read_bytes()


def test_a_log_that_comes_out_otherwise_is_one_line(tmp_path: Path) -> None:
    log = tmp_path / "demo.jsonl"
    run("demo", "--port", "memory", "--phrase-seconds", 1, "--seconds", 1, "-o", tmp_path)
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    index, row = next((i, row) for i, row in enumerate(rows) if row["kind"] == "pushed")
    rows[index] = row | {"due_s": row["due_s"] + 0.01}
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "differs from message 1 of" in refused(run("replay", log))


def test_a_log_from_before_recall_is_played_again_without_it(tmp_path: Path) -> None:
    log, preset = tmp_path / "demo.jsonl", tmp_path / "plain.toml"
    preset.write_text('description = "."\n[settings]\nrecall = 0\n')
    run("demo", "--preset", preset, "--port", "memory", "--phrase-seconds", 2, "--seconds", 3, "-o", tmp_path)
    begin, *rest = log.read_text().splitlines(keepends=True)
    told = json.loads(begin)
    del told["settings"]["recall"]
    log.write_text(json.dumps(told) + "\n" + "".join(rest))
    assert "messages, every one the same and at the same time" in run("replay", log).output


@pytest.mark.parametrize("text", ["", "{}", "[1]\n[2]", '{"kind": "begin"}', "music\nmusic\n"])
def test_what_is_no_log_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "log.jsonl").write_text(text)
    assert "is not a session's log" in refused(run("replay", tmp_path / "log.jsonl"))


def test_users_keep_presets_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("musebridge.bridge.app.preset.USER_FOLDER", tmp_path)
    (tmp_path / "mine.toml").write_text('description = "My own"\n[settings]\nlow = 40\n')
    (tmp_path / "call.toml").write_text('description = "My call"\n')
    output = run("presets").output
    assert "mine         My own" in output
    assert "call         My call" in output
    assert load("mine").model.is_file()
    assert load("mine").settings.low == 40


COMMENTED = """# My preset
description = "My own"  # for Sundays

[settings]
low = 40 # E2
"""


def test_controllers_are_saved_and_the_rest_of_the_preset_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(COMMENTED)
    first, second = Bind("low", 74, 1), Bind("density", 11, 16)
    assert preset.save_binds(load(str(path)), [first]) == path
    assert path.read_text() == COMMENTED + "\n[controllers]\nlow = { controller = 74, channel = 1 }\n"
    path.write_text(path.read_text() + "# the end\n")
    preset.save_binds(load(str(path)), [first, second])
    assert load(str(path)).binds == (first, second)
    assert load(str(path)).settings.low == 40
    preset.save_binds(load(str(path)), [])
    assert path.read_text() == COMMENTED + "\n# the end\n"


def test_controllers_between_other_tables_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('description = "x"\n[controllers]\nlow = { controller = 1, channel = 1 }\n[settings]\nlow = 40\n')
    preset.save_binds(load(str(path)), [Bind("high", 2, 3)])
    assert load(str(path)).binds == (Bind("high", 2, 3),)
    assert load(str(path)).settings.low == 40


def test_controllers_in_a_form_that_cannot_be_edited_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('description = "x"\ncontrollers = { low = { controller = 1, channel = 1 } }\n')
    before = path.read_text()
    with pytest.raises(ConfigError, match="has controllers in a form of its own"):
        preset.save_binds(load(str(path)), [Bind("high", 2, 3)])
    assert path.read_text() == before


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("low = 74", "low: must be a table of keys and values, found 74"),
        ("low = { controller = 74 }", "low: .*channel"),
        ("low = { controller = 174, channel = 1 }", r"a controller is 0\.\.119 on channel 1\.\.16, found 174 on 1"),
        ("volume = { controller = 74, channel = 1 }", "no parameter 'volume' with a range"),
    ],
)
def test_controllers_that_cannot_be_are_one_clear_line(tmp_path: Path, row: str, complaint: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'description = "x"\n[controllers]\n{row}\n')
    with pytest.raises(ConfigError, match=f"mine.toml: {complaint}"):
        load(str(path))


@pytest.mark.parametrize("name", names())
def test_every_bundled_preset_can_be_played(name: str) -> None:
    preset = load(name)
    assert preset.model.is_file()
    assert preset.mode in MODES


def test_presets_are_listed_with_what_they_do() -> None:
    output = run("presets").output
    assert "call         You play, pause, and the model answers" in output
    assert "nocturne     Slow and soft" in output
    assert MODEL.is_file()


def test_a_missing_runtime_names_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "musebridge.bridge.inference.engine", raising=False)
    line = refused(run("serve", "--port", "memory"))
    assert line == "Error: onnxruntime is not installed; install it with: pip install onnxruntime"


def test_link_without_its_extra_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aalink", None)
    line = refused(run("serve", "--port", "memory", "--osc", "off", "--link"))
    assert line == "Error: aalink is not installed; install it with: pip install 'musebridge[link]'"


def test_a_recording_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    events = [Timed(0.0, NoteOn(pitch=60, velocity=64)), Timed(1.0, NoteOff(pitch=60))]
    midifile.write(tmp_path / "ok.mid", {"a": events})
    line = refused(run("continue", tmp_path / "ok.mid", "-o", tmp_path / "no" / "where.mid", "--seconds", 1))
    assert "cannot be written" in line
