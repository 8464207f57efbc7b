"""Ports that are lost and come back, and players and listeners who leave, at a real JACK server."""

import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from musebridge.benchmarks import kill
from musebridge.bridge.core.scheduler import silence
from musebridge.bridge.ports.jack_watch import LONGEST_PERIOD_S
from musebridge.bridge.ports.rtmidi import VIRTUAL, MidiSystem, RtMidiInput
from musebridge.errors import PortError
from musebridge.events import SUSTAIN, Control, Message, NoteOff, NoteOn

pytestmark = [
    pytest.mark.xdist_group("jack"),  # one server for all of them, and nothing else plays beside it
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="real MIDI ports through JACK need Linux"),
]

DEADLINE_S = 20
C, E = NoteOn(pitch=60, velocity=64), NoteOn(pitch=64, velocity=64)
SILENCE = silence(range(16))
PEDAL = Control(controller=SUSTAIN, value=127)


@pytest.fixture
def bridge(backend: str) -> MidiSystem:
    """The bridge's side."""
    return MidiSystem(backend)


@pytest.fixture
def other(backend: str) -> MidiSystem:
    """Another program's side."""
    return MidiSystem(backend)


def until(condition: Callable[[], object]) -> None:
    for _ in range(DEADLINE_S * 100):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError(f"waited {DEADLINE_S} s")


def heard(port: RtMidiInput, count: int) -> list[Message]:
    messages: list[Message] = []
    until(lambda: messages.extend(port.poll()) or len(messages) >= count)
    return messages


def test_the_input_loses_nothing_of_a_panic_of_2048_messages(bridge: MidiSystem, other: MidiSystem) -> None:
    source = bridge.input(VIRTUAL)
    keyboard = other.output(source.name)
    panic = [NoteOff(pitch=pitch, channel=channel) for channel in range(16) for pitch in range(128)]
    for part in range(0, len(panic), 256):  # JACK itself holds 16 kB a period
        for message in panic[part : part + 256]:
            keyboard.send(message)
        threading.Event().wait(LONGEST_PERIOD_S)
    assert heard(source, len(panic)) == panic
    for port in (source, keyboard):
        port.close()


def test_the_keys_and_the_pedal_of_a_player_who_vanishes_are_lifted(bridge: MidiSystem, other: MidiSystem) -> None:
    source = bridge.input(VIRTUAL)
    keyboard = other.output(source.name)
    assert source.reconnect()
    for message in (C, E, PEDAL, NoteOff(pitch=60)):
        keyboard.send(message)
    assert heard(source, 4) == [C, E, PEDAL, NoteOff(pitch=60)]
    keyboard.close()
    assert source.reconnect(), "a virtual port is there without a player"
    assert source.poll() == [NoteOff(pitch=64), Control(controller=SUSTAIN, value=0)]
    assert source.reconnect()
    assert source.poll() == []
    source.close()


def test_a_listener_after_another_first_hears_silence(bridge: MidiSystem, other: MidiSystem, backend: str) -> None:
    target = bridge.output(VIRTUAL)
    first = other.input(target.name)
    assert target.reconnect()
    target.send(C)
    assert heard(first, 1) == [C]
    second = MidiSystem(backend).input(target.name)
    assert target.reconnect()
    first.close()
    assert target.reconnect()
    target.send(E)
    assert heard(second, len(SILENCE) + 1) == [*SILENCE, E]
    second.close()
    target.close()


def test_a_port_that_comes_back_is_found_by_its_name(bridge: MidiSystem, other: MidiSystem, backend: str) -> None:
    keyboard, synth = other.pair(VIRTUAL, VIRTUAL)
    source, target = bridge.pair(synth.name, keyboard.name)
    for port in (source, target):
        assert port.reconnect()
    synth.send(C)
    assert heard(source, 1) == [C]
    keyboard.close()
    synth.close()
    assert not source.reconnect()
    assert source.poll() == [NoteOff(pitch=60)]
    assert not target.reconnect()
    with pytest.raises(PortError, match="is gone"):
        target.send(E)
    keyboard, synth = MidiSystem(backend).pair(VIRTUAL, VIRTUAL)
    for port in (source, target):
        assert port.reconnect()
    synth.send(E)
    assert heard(source, 1) == [E]
    target.send(C)
    assert heard(keyboard, len(SILENCE) + 1) == [*SILENCE, C]
    for port in (source, target, keyboard, synth):
        port.close()


DEAD_SERVER = """
import sys
import threading

from musebridge.benchmarks.jack import Jack
from musebridge.bridge.ports.rtmidi import VIRTUAL, MidiSystem
from musebridge.errors import PortError
from musebridge.events import NoteOn

with Jack("musebridge-dead") as jack:
    system = MidiSystem(sys.argv[1])
    source, target = system.pair(VIRTUAL, VIRTUAL)
    names = source.name, target.name
    jack.kill()
    while not system.monitor.dead:
        threading.Event().wait(0.001)
    refused = 0
    for _ in range(5000):
        try:
            target.send(NoteOn(pitch=60, velocity=64))
        except PortError:
            refused += 1
    print(refused, source.reconnect(), target.reconnect(), source.reconnect())
    jack.start()
    make, failures = system.client, iter([PortError("too busy")])
    def client(kind):
        for failure in failures:
            raise failure
        return make(kind)
    system.client = client
    print(source.reconnect(), target.reconnect(), source.reconnect(), (source.name, target.name) == names)
    source.close()
    target.close()
"""


def test_a_dead_server_freezes_nobody_and_its_ports_come_back_with_it(backend: str) -> None:
    done = subprocess.run([sys.executable, "-c", DEAD_SERVER, backend], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["5000 False False False", "False True True True"], done.stderr


@pytest.mark.usefixtures("jack_server")
def test_killed_at_any_moment_the_bridge_leaves_no_note_and_survives_its_server() -> None:
    command = [sys.executable, "-m", "musebridge", "bench", "kill", "--times", "4", "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    for kind in kill.KINDS:
        assert kind in done.stdout
