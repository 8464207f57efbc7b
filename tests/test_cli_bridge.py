"""The commands that play: what a user does, and what a user does wrong."""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import mido
import onnx
import pytest
from click.testing import CliRunner, Result
from smf_bytes import chords, metre, name, off, on, program, smf, tempo, track

from musebridge import midifile, vocab
from musebridge.bridge.app import preset
from musebridge.bridge.app.preset import load, names
from musebridge.bridge.core.commands import Bind
from musebridge.bridge.core.settings import MODES
from musebridge.bridge.ports.midi_library import MidiLibrary
from musebridge.cli import main
from musebridge.errors import ConfigError
from musebridge.events import NoteOff, NoteOn, Timed
from musebridge.smf.piece import open_piece

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


def moves(events: mido.MidiTrack) -> list[tuple[int, mido.Message]]:
    """Return (tick, message) of each note-on and note-off."""
    ticks = itertools.accumulate(message.time for message in events)
    return [(tick, message) for tick, message in zip(ticks, events, strict=True) if message.type.startswith("note")]


def test_continue_adds_a_track_to_its_seed_and_draws_both(tmp_path: Path) -> None:
    out, roll = tmp_path / "out.mid", tmp_path / "out.png"
    result = run("continue", PHRASE, "-o", out, "--seconds", 5, "--roll", roll, "--seed", 7)
    assert result.exit_code == 0, result.output
    assert roll.read_bytes().startswith(b"\x89PNG")
    seed = open_piece(PHRASE)
    assert PHRASE.read_bytes()[14:] in out.read_bytes()
    continuation = mido.MidiFile(out).tracks[-1]
    assert continuation.name == "continuation"
    notes = moves(continuation)
    onsets = [tick for tick, message in notes if message.type == "note_on"]
    assert len(notes) // 2 == len(onsets) >= 5
    assert onsets[0] >= seed.end
    end_s = seed.tempos.second(sum(message.time for message in continuation))
    assert end_s - seed.tempos.second(seed.end) == pytest.approx(5.0, abs=0.002)
    assert f"wrote {out}: 5 s, {len(onsets)} notes, follow phrase.mid from " in result.output


def test_continue_takes_the_opening_of_a_seed_if_asked(tmp_path: Path) -> None:
    out = tmp_path / "out.mid"
    assert run("continue", PHRASE, "-o", out, "--seconds", 2, "--opening", 3).exit_code == 0
    seed = open_piece(PHRASE)
    *kept, continuation = mido.MidiFile(out).tracks
    cut_s = seed.start_s + 3
    last = max(sum(message.time for message in part) for part in kept)
    assert cut_s < seed.tempos.second(last) < cut_s + 2.002  # what sounded there goes on
    begin = next(tick for tick, message in moves(continuation) if message.type == "note_on")
    assert cut_s - 0.5 < seed.tempos.second(begin) < cut_s + 2


@pytest.fixture
def song(tmp_path: Path) -> Path:
    """Two bars of 3/4 at 100, a flute and a kit."""
    conductor = track((0, tempo(600_000)), (0, metre(3, 2)))
    flute = track((0, name("Flute")), (0, program(73)), *chords(12))
    kit = track((0, name("Kit")), (0, on(36, channel=9)), (60, off(36, channel=9)))
    path = tmp_path / "song.mid"
    path.write_bytes(smf(conductor, flute, kit))
    return path


def test_continue_says_what_it_read(song: Path, tmp_path: Path) -> None:
    song.write_bytes(song.read_bytes()[:-1])
    lines = run("continue", song, "-o", tmp_path / "out.mid", "--seconds", 1).output.splitlines()
    assert (
        "song.mid: read track 2 Flute (channel 1, 12 notes); left out as drums: track 3 Kit (channel 10, 1 note)"
        in lines
    )
    assert "song.mid: mended: 1 track that is cut off" in lines


@pytest.mark.parametrize(("asked", "bars"), [(["--bars", 4], 4), (["--preset", "four-bars"], 4), (["--bars", 1], 1)])
def test_continue_lasts_whole_bars_of_the_seed_if_asked(
    song: Path, tmp_path: Path, asked: list[object], bars: int
) -> None:
    out = tmp_path / "out.mid"
    assert run("continue", song, "-o", out, *asked).exit_code == 0
    continuation = mido.MidiFile(out).tracks[-1]
    assert sum(message.time for message in continuation) == 12 * 240 + bars * 3 * 480
    assert all(2880 <= tick <= 2880 + bars * 1440 for tick, _ in moves(continuation))


def test_continue_lasts_as_long_as_the_preset_answers(song: Path, tmp_path: Path) -> None:
    preset = tmp_path / "brief.toml"
    preset.write_text('description = "x"\n[settings]\nanswer_s = 3.0\nsilence_s = 2.0\ntrigger_key = 21\nchannel = 5\n')
    result = run("continue", song, "-o", tmp_path / "out.mid", "--preset", preset)
    continuation = mido.MidiFile(tmp_path / "out.mid").tracks[-1]
    assert sum(message.time for message in continuation) == 2880 + 3 / 0.6 * 480
    assert {message.channel for _, message in moves(continuation)} == {4}
    assert "preset brief: for a file, silence_s, trigger_key have no meaning" in result.output


def test_continue_keeps_to_the_seeds_key_and_range_where_the_preset_does(tmp_path: Path) -> None:
    major = [48, 50, 52, 53, 55, 57, 59, 60]
    scale = [move for pitch in [*major, 48, 52, 55, 60] * 3 for move in ((0, on(pitch)), (240, off(pitch)))]
    (tmp_path / "c.mid").write_bytes(smf(track(*scale)))
    for candidates in (1, 2):
        out = tmp_path / f"{candidates}.mid"
        result = run(
            "continue", tmp_path / "c.mid", "-o", out, "--preset", "bass", "--bars", 8, "--candidates", candidates
        )
        assert result.exit_code == 0, result.output
        pitches = [message.note for _, message in moves(mido.MidiFile(out).tracks[-1])]
        assert len(pitches) > 8
        assert {pitch % 12 for pitch in pitches} <= {0, 2, 4, 5, 7, 9, 11}
        assert all(36 <= pitch <= 48 for pitch in pitches)


def test_continue_follows_one_track_and_may_write_the_continuation_alone(song: Path, tmp_path: Path) -> None:
    whole, alone = tmp_path / "whole.mid", tmp_path / "alone.mid"
    for out, options in ((whole, []), (alone, ["--only"])):
        assert run("continue", song, "-o", out, "--seconds", 3, "--track", "flute", *options).exit_code == 0
    assert [len(mido.MidiFile(path).tracks) for path in (whole, alone)] == [4, 2]
    assert moves(mido.MidiFile(alone).tracks[1]) == moves(mido.MidiFile(whole).tracks[-1])
    assert {message.type for message in mido.MidiFile(alone).tracks[0]} == {
        "set_tempo",
        "time_signature",
        "end_of_track",
    }
    assert "has no track 'tuba'" in refused(run("continue", song, "-o", whole, "--track", "tuba"))


def test_the_seed_is_never_written_over_by_any_name_unless_told_to(song: Path, tmp_path: Path) -> None:
    before = song.read_bytes()
    (tmp_path / "soft.mid").symlink_to(song)
    (tmp_path / "hard.mid").hardlink_to(song)
    (tmp_path / "sub").mkdir()
    for same in (song, tmp_path / "soft.mid", tmp_path / "hard.mid", tmp_path / "sub" / ".." / "song.mid"):
        assert "is the seed itself; choose another place, or give --force" in refused(run("continue", song, "-o", same))
        assert "is the seed itself" in refused(run("continue", song, "-o", tmp_path / "out.mid", "--roll", same))
    assert song.read_bytes() == before
    assert run("continue", song, "-o", song, "--seconds", 1, "--force").exit_code == 0
    assert len(mido.MidiFile(song).tracks) == 4


def test_two_ways_to_say_how_long_are_one_clear_line(song: Path, tmp_path: Path) -> None:
    line = refused(run("continue", song, "-o", tmp_path / "out.mid", "--bars", 2, "--seconds", 2))
    assert line == "Error: --bars and --seconds both say how long; give one of them"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a file system that takes any bytes as a name")
def test_a_name_that_no_terminal_can_show_is_shown_as_an_escape(song: Path, tmp_path: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mid"))
    song.rename(odd)
    result = run("continue", odd, "-o", tmp_path / "out.mid", "--seconds", 1, "--roll", tmp_path / "out.png")
    assert result.exit_code == 0, result.output
    assert "follow caf" in result.output


@pytest.mark.skipif(sys.platform == "win32", reason="starts a process with a path of its own")
def test_continue_needs_no_torch() -> None:
    script = "import sys; sys.modules['torch'] = None; from musebridge.cli import main; main(sys.argv[1:])"
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.mid"
        command = [sys.executable, "-c", script, "continue", str(PHRASE), "-o", str(out), "--seconds", "1"]
        subprocess.run(command, check=True, capture_output=True, timeout=DEADLINE_S)
        assert out.exists()


def test_continue_is_reproducible_and_another_seed_is_another_continuation(tmp_path: Path) -> None:
    for letter, seed in (("a", 7), ("b", 7), ("c", 8)):
        assert run("continue", PHRASE, "-o", tmp_path / letter, "--seconds", 3, "--seed", seed).exit_code == 0
    first, second, third = ((tmp_path / letter).read_bytes() for letter in "abc")
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
    "truncated": (lambda path: path.write_bytes(PHRASE.read_bytes()[:12]), "is cut off after 12 bytes"),
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
