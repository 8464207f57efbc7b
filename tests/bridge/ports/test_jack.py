"""The bridge as its users run it: its own process, real virtual ports, a separate client."""

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musebridge import wire
from musebridge.bridge.app.threads import KEEP_S, POLL_S
from musebridge.bridge.ports import backends
from musebridge.bridge.ports import rtmidi as midi
from musebridge.bridge.ports.midi_library import MidiLibrary
from musebridge.errors import PortError

pytestmark = [
    pytest.mark.xdist_group("jack"),  # one server for all of them, and nothing else plays beside it
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="real MIDI ports through JACK need Linux"),
]

C = TypeVar("C")
DEADLINE_S = 60
NOTE_ON, NOTE_OFF = 0x90, 0x80
DOCTOR = [sys.executable, "-m", "musebridge", "doctor"]
PHRASE = [(60, 0.15), (64, 0.15), (67, 0.15), (72, 0.3)]


def let_in(make: Callable[[Any, str], C], api: Any, name: str) -> C:
    """Return a client of a JACK server, which may be too busy to let one in at once."""
    for _ in range(DEADLINE_S):
        try:
            return make(api, name)
        except Exception as error:  # noqa: BLE001  # the libraries' own error types share no base but this
            refusal = error
            threading.Event().wait(1)
    raise refusal


class Client:
    """A keyboard and a recorder, in another process than the bridge."""

    def __init__(self, library: MidiLibrary) -> None:
        self._pause = threading.Event()
        self.received: list[list[int]] = []
        ports = midi.list_ports("jack")
        self._out = let_in(library.output, library.apis["jack"], "keyboard")
        self._out.open_port(next(i for i, name in enumerate(ports.outputs) if _is_bridge(name, "in")), "out")
        self._in = let_in(library.input, library.apis["jack"], "recorder")
        self._in.ignore_types(False, False, False)
        self._in.open_port(next(i for i, name in enumerate(ports.inputs) if _is_bridge(name, "out")), "in")

    def send(self, *messages: Sequence[int]) -> None:
        for message in messages:
            self._out.send_message(message)

    def strike(self, pitch: int) -> None:
        self.send([NOTE_ON, pitch, 80])

    def play(self, phrase: Sequence[tuple[int, float]]) -> None:
        for pitch, seconds in phrase:
            self.strike(pitch)
            self._pause.wait(seconds)
            self.send([NOTE_OFF, pitch, 64])

    def listen(self, seconds: float) -> None:
        """Take what comes for some time."""
        for _ in range(max(1, round(seconds / POLL_S))):
            while (message := self._in.get_message()) is not None:
                self.received.append(message[0])
            self._pause.wait(POLL_S)

    def listen_for_notes(self, count: int) -> None:
        self.listen_until(lambda: self.note_ons() >= count)

    def listen_until(self, condition: Callable[[], bool]) -> None:
        for _ in range(DEADLINE_S * 10):
            if condition():
                return
            self.listen(0.1)
        raise AssertionError(f"waited {DEADLINE_S} s; received {self.received}")

    def unplug(self) -> None:
        self._out.close_port()

    def note_ons(self) -> int:
        return sum(message[0] & 0xF0 == NOTE_ON and message[2] > 0 for message in self.received)

    def close(self) -> None:
        for port in (self._in, self._out):
            port.close_port()
            port.delete()


def _is_bridge(name: str, port: str) -> bool:
    client, _, port_name = name.partition(":")
    return client.startswith("MuseBridge") and port_name == port


def still_sounding(messages: Sequence[Sequence[int]]) -> set[int]:
    sounding: set[int] = set()
    for status, *data in messages:
        if status & 0xF0 == NOTE_ON and data[1] > 0:
            sounding.add(data[0])
        elif status & 0xF0 in (NOTE_ON, NOTE_OFF):
            sounding.discard(data[0])
    return sounding


class Served:
    """``musebridge serve`` as a process of its own."""

    def __init__(self, record: Path, *options: str) -> None:
        command = [sys.executable, "-m", "musebridge", "serve", "--osc", "off", "--seed", "1", "--record", str(record)]
        self.record = record
        self.process = subprocess.Popen(
            [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self.process.stdout is not None
        self.greeting = self.process.stdout.readline()

    def end(self, number: signal.Signals) -> str:
        self.process.send_signal(number)
        output, _ = self.process.communicate(timeout=DEADLINE_S)
        return output

    def sent(self) -> list[list[int]]:
        """What the bridge says that it sent."""
        (log,) = self.record.glob("*.jsonl")
        rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        return [row["bytes"] for row in rows if row["kind"] == "sent"]


@pytest.fixture
def served(backend: str, tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path / "record", "--port", "virtual", "--backend", backend)
    yield served
    if served.process.poll() is None:
        served.end(signal.SIGTERM)  # JACK waits long for a client that was killed


@pytest.fixture
def client(served: Served, library: MidiLibrary) -> Iterator[Client]:
    assert "listening on MuseBridge:in" in served.greeting
    client = Client(library)
    yield client
    client.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_phrase_is_answered_and_a_signal_in_the_answer_leaves_no_note_sounding(
    served: Served, client: Client, number: signal.Signals
) -> None:
    client.play(PHRASE)
    client.listen_for_notes(8)
    output = served.end(number)
    client.listen_until(lambda: client.received == served.sent())
    assert served.process.returncode == 0, output
    assert still_sounding(client.received) == set()
    assert client.received[-3:] == [[0xB0, 64, 0], [0xB0, 123, 0], [0xB0, 120, 0]]


def test_the_player_silences_the_model(served: Served, client: Client) -> None:
    client.play(PHRASE)
    client.listen_for_notes(4)
    client.strike(48)
    client.listen_until(lambda: not still_sounding(client.received))
    client.listen(0.5)
    answered = len(client.received)
    client.listen(1.0)
    assert len(client.received) == answered, "the model played while a key was held"
    served.end(signal.SIGINT)


def test_system_exclusive_time_code_and_sensing_do_not_disturb(served: Served, client: Client) -> None:
    noise = [
        [0xF0, *range(128), *range(128), 0xF7],
        [0xFE],
        [0xF1, 0],
        [0xF6],
        [0xF3, 1],
        [0xE0, 0, 64],
        [0xB0, 67, 127],
    ]
    client.strike(60)
    client.send(*noise * 50)
    client.send([NOTE_OFF, 60, 64])
    client.listen_for_notes(1)
    assert "heard 1 notes" in served.end(signal.SIGINT)
    (log,) = served.record.glob("*.jsonl")
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    heard = [row["bytes"] for row in rows if row["kind"] == "heard"]
    assert heard == [[NOTE_ON, 60, 80], *noise[-2:] * 50, [NOTE_OFF, 60, 64]]


@given(st.lists(st.integers(0, 255), max_size=6))
def test_whatever_bytes_a_device_sends_are_a_message_or_nothing(data: list[int]) -> None:
    message = backends.decode(data)
    assert message is None or wire.to_message(message).bytes()[0] & 0xF0 in {data[0] & 0xF0, NOTE_OFF}


def test_a_player_who_vanishes_with_a_key_held_is_answered(served: Served, client: Client) -> None:
    client.strike(60)
    client.listen(2 * KEEP_S)  # the bridge looks who is there
    client.unplug()
    client.listen_for_notes(1)
    assert "heard 1 notes" in served.end(signal.SIGINT)


def test_a_port_whose_name_is_no_utf8_is_only_a_port(served: Served, client: Client) -> None:
    jack = pytest.importorskip("jack")
    stranger, lib = jack.Client("stage", no_start_server=True), jack._lib
    stranger.set_process_callback(lambda frames: None)
    port = lib.jack_port_register(stranger._ptr, b"pianoforte n\xba 2", b"8 bit raw midi", lib.JackPortIsOutput, 0)
    stranger.activate()
    assert lib.jack_connect(stranger._ptr, lib.jack_port_name(port), b"MuseBridge:in") == 0
    client.listen(4 * KEEP_S)  # it is looked at
    client.play(PHRASE)
    client.listen_for_notes(1)
    stranger.close()


def test_other_programs_see_in_and_out_of_the_client_musebridge(served: Served) -> None:
    ports = midi.list_ports("jack")
    assert [name for name in ports.outputs if _is_bridge(name, "in")]
    assert [name for name in ports.inputs if _is_bridge(name, "out")]


def test_a_port_is_found_by_a_part_of_its_name_and_played_through(jack_server: str, tmp_path: Path) -> None:
    keyboard, synth = midi.open_pair("virtual", "virtual", "jack")  # stands for another program with ports of its own
    try:
        names = [midi.list_ports("jack").inputs[0], midi.list_ports("jack").outputs[0]]
        served = Served(tmp_path, "--in", names[0].upper(), "--out", names[1], "--backend", "jack")
        assert f"listening on {names[0]}, answering on {names[1]}" in served.greeting
        assert "heard 0 notes" in served.end(signal.SIGINT)
    finally:
        keyboard.close()
        synth.close()


def test_an_unknown_port_is_one_line_with_what_there_is(jack_server: str) -> None:
    with pytest.raises(PortError, match=r"no MIDI port matches 'Steinway'; found .*; see 'musebridge ports'"):
        midi.MidiSystem("jack").input("Steinway")


def test_the_ports_command_lists_a_running_bridge(served: Served) -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "musebridge", "ports"], capture_output=True, text=True, check=True
    ).stdout
    assert "MIDI system: jack" in listed
    assert "MuseBridge:in" in listed


def test_the_doctor_finds_that_this_machine_can_play(backend: str, library: MidiLibrary) -> None:
    done = subprocess.run([*DOCTOR, "--backend", backend, "--osc", "127.0.0.1:0"], capture_output=True, text=True)
    found = {line.split()[1]: line for line in done.stdout.splitlines()}
    assert list(found) == ["MIDI", "loop-back", "model", "speed", "OSC", "presets"]
    assert found["MIDI"].startswith(f"ok       MIDI       jack answers, through {library}; ")
    assert found["loop-back"].startswith("ok       loop-back  20 notes came back, median ")
    assert found["model"].endswith("int8, CPUExecutionProvider")
    assert done.returncode == any(line.startswith("problem") for line in found.values()), done.stdout


def measured_latency(backend: str, source: str, target: str) -> subprocess.CompletedProcess[str]:
    """Ask the doctor, and again where a busy server lets no client in."""
    for _ in range(DEADLINE_S):
        command = [*DOCTOR, "--backend", backend, "--latency", source, target]
        done = subprocess.run(command, capture_output=True, text=True)
        if "JACK: " not in done.stdout:
            break
    return done


def test_the_doctor_measures_how_long_a_note_takes_through_a_cable(backend: str) -> None:
    system = midi.MidiSystem(backend)
    source, target = system.pair("virtual", "virtual")  # with a cable between them: what enters leaves
    cable = threading.Event()

    def pass_on() -> None:
        while not cable.wait(POLL_S):
            for message in source.poll():
                target.send(message)

    thread = threading.Thread(target=pass_on)
    thread.start()
    try:
        done = measured_latency(backend, target.name, source.name)
    finally:
        cable.set()
        thread.join()
        for port in (source, target):
            port.close()
    assert done.returncode == 0, done.stdout
    took = re.fullmatch(
        r"ok       latency    20 notes took (\S+) ms from .*; offset_ms = (\d+) plays .*\n", done.stdout
    )
    assert took, done.stdout
    assert float(took[1]) > 0


def test_the_doctor_says_where_no_note_came_back(backend: str) -> None:
    keyboard, synth = midi.open_pair("virtual", "virtual", backend)
    try:
        done = measured_latency(backend, synth.name, keyboard.name)
    finally:
        keyboard.close()
        synth.close()
    assert done.returncode == 1
    assert re.match(r"problem  latency    a note sent to .* did not come back on .*; check the cable", done.stdout)


def test_the_demo_plays_through_real_ports(jack_server: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "musebridge", "demo", "--phrase-seconds", "2", "--seconds", "3"]
    done = subprocess.run(
        [*command, "--port", "virtual", "-o", str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert "the performer plays into MuseBridge:in" in done.stdout
    rows = [json.loads(line) for line in (tmp_path / "demo.jsonl").read_text(encoding="utf-8").splitlines()]
    for kind in ("heard", "sent"):
        assert [row for row in rows if row["kind"] == kind and row["bytes"][0] == NOTE_ON], kind
    assert (tmp_path / "demo.png").read_bytes().startswith(b"\x89PNG")


def test_the_demo_plays_into_its_own_bridge_and_not_into_another(
    served: Served, client: Client, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "musebridge", "demo", "--phrase-seconds", "1", "--seconds", "1"]
    subprocess.run([*command, "--port", "virtual", "-o", str(tmp_path / "demo")], capture_output=True, check=True)
    client.listen(0.1)
    assert client.received == []
    assert "heard 0 notes" in served.end(signal.SIGINT)
