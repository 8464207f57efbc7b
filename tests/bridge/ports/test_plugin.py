"""The LV2 plug-in between a host that runs it block by block and the other end of its wire."""

import os
import random
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pythonosc.osc_message import OscMessage

from musebridge.benchmarks.lv2host import Host, Midi
from musebridge.bridge.ports.osc_wire import ROUND_S, Hello, Played, Song, read, write
from musebridge.events import NoteOn

RATE, DEADLINE_S = 48000, 20
ON, OFF, MARK = bytes([0x90, 60, 100]), bytes([0x80, 60, 64]), bytes([0xC0, 1])
SOURCE = Path(__file__).parents[3] / "bridge/plugin/musebridge.c"
pause = threading.Event().wait


@pytest.fixture(scope="session")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plug-in, built; or the one that MUSEBRIDGE_PLUGIN names, which may watch its own memory."""
    if given := os.environ.get("MUSEBRIDGE_PLUGIN"):
        return Path(given)
    compiler = shutil.which("cc")
    if compiler is None or not Path("/usr/include/lv2/core/lv2.h").exists():
        pytest.skip("the plug-in wants a C compiler and LV2's headers; Debian and Ubuntu: sudo apt install gcc lv2-dev")
    built = tmp_path_factory.mktemp("plugin") / "musebridge.so"
    flags = ["-std=c11", "-D_DEFAULT_SOURCE", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-pthread"]
    subprocess.run([compiler, *flags, "-o", built, SOURCE, "-lm"], check=True)
    return built


class Far:
    """The far end of the wire: a socket where the bridge would be."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(DEADLINE_S)
        self.port: int = self._socket.getsockname()[1]
        self._seq = 0

    def hears(self, kind: type) -> object:
        """Wait for a message of a kind."""
        while True:
            datagram, self._plugin = self._socket.recvfrom(65_535)
            if isinstance(said := read(datagram), kind):
                return said

    def hears_text(self) -> OscMessage:
        """Wait for a command."""
        return OscMessage(self._socket.recv(65_535))

    def says(self, name: str, *numbers: float) -> None:
        self._socket.sendto(write(name, *numbers), self._plugin)

    def throws(self, datagram: bytes) -> None:
        self._socket.sendto(datagram, self._plugin)

    def plays(self, message: bytes, frame: float) -> None:
        """Play a message that is due at a frame; a negative one is now."""
        due_ms = frame / RATE * 1000 % (1000 * ROUND_S) if frame >= 0 else -1.0
        self._seq += 1
        self.says("midi", self._seq, float(due_ms), 0.0, *message)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def far() -> Iterator[Far]:
    with closing(Far()) as far:
        yield far


@pytest.fixture
def commands() -> Iterator[Far]:
    with closing(Far()) as far:
        yield far


@pytest.fixture
def host(binary: Path, far: Far, commands: Far) -> Iterator[Host]:
    """The plug-in in a host, connected."""
    with closing(Host(binary, [-1, 0, 0, 0, far.port, commands.port, 0, 0])) as host:
        host.run(128)
        far.hears(Hello)
        connect(host, far)
        yield host


def connect(host: Host, far: Far, run: int = 1) -> None:
    far.says("hello", 1, run)
    host.run_until(lambda _: host.controls[6] == 1, lambda: pause(0.0005), 1)


def arrived(host: Host, far: Far) -> list[Midi]:
    """Run frame by frame until all that was said has arrived; return what came out."""
    far.plays(MARK, -1)
    came = host.run_until(lambda came: any(data == MARK for _, data in came), lambda: pause(0.0005), 1)
    return [(frame, data) for frame, data in came if data != MARK]


def test_what_is_played_has_its_frame_and_a_song_its_bar(host: Host, far: Far) -> None:
    began = host.frame
    song = {"bar": 2.0, "barBeat": 3.0, "beatsPerMinute": 90.0, "beatsPerBar": 6.0, "beatUnit": 8.0, "speed": 1.0}
    host.run(128, (100, ON), (120, song))
    played, told = far.hears(Played), far.hears(Song)
    assert isinstance(played, Played)
    assert isinstance(told, Song)
    assert played.message == NoteOn(pitch=60, velocity=100)
    assert played.clock_s == pytest.approx((began + 100) / RATE, abs=1e-6)
    assert (told.playing, told.bar, told.beat, told.bpm, told.bar_beats) == (True, 2, 1.5, 45.0, 3.0)
    assert told.clock_s == pytest.approx((began + 120) / RATE, abs=1e-6)


@pytest.mark.parametrize("begun", [0, round(ROUND_S * RATE) - 5000])
def test_what_is_known_in_time_sounds_on_its_frame_in_blocks_of_any_size(host: Host, far: Far, begun: int) -> None:
    if begun:
        host.run(begun - host.frame)
        connect(host, far)
    chance, due = random.Random(1), host.frame + 9000
    frames = sorted(chance.sample(range(due, due + 3000), 40))
    for i, frame in enumerate(frames):
        far.plays(bytes([0x90 if i % 2 == 0 else 0x80, 60, 64]), frame)
    arrived(host, far)
    assert host.frame < due
    came: list[int] = []
    while host.frame < due + 3000:
        came += [frame for frame, _ in host.run(chance.randrange(1, 300))]
    assert came == frames


def test_what_went_through_the_bridge_is_one_period_later_to_the_frame(host: Host, far: Far) -> None:
    period = 14_400  # long: until it has arrived, the host goes on by single frames
    host.run(period)
    for offset in (4000, 4321, period - 1):
        host.run(period, (offset, ON))
        at = host.frame - period + offset
        far.says("hello", 1, 1)
        far.hears(Played)
        far.plays(ON, at)
        assert arrived(host, far) == []
        assert host.run(period) == [(at + period, ON)]
    assert host.controls[7] == 0


def test_the_end_of_a_note_never_comes_before_its_beginning(host: Host, far: Far) -> None:
    far.plays(ON, host.frame + 4000)
    far.plays(OFF, host.frame + 3000)
    arrived(host, far)
    assert [data for _, data in host.run(8000)] == [ON, OFF]


def test_a_lost_end_is_made_up_for(host: Host, far: Far) -> None:
    far.plays(ON, -1)
    assert [data for _, data in arrived(host, far)] == [ON]
    far.says("held", 99)
    assert host.run_until(bool, lambda: pause(0.0005), 16)[0][1] == OFF


def test_late_and_doubled_messages_change_nothing(host: Host, far: Far) -> None:
    far.says("midi", 9, -1, 0, *ON)
    far.says("midi", 10, -1, 0, *OFF)
    far.says("midi", 9, -1, 0, *ON)
    far.says("midi", 10, -1, 0, *OFF)
    far.says("midi", 20, -1, 0, 0xC0, 1)
    came = host.run_until(lambda came: came[-1:] != [] and came[-1][1][0] == 0xC0, lambda: pause(0.0005), 16)
    assert [data for _, data in came] == [ON, OFF, bytes([0xC0, 1])]


@pytest.mark.parametrize("end", ["silence", "bye", "another run"])
def test_a_bridge_that_is_gone_leaves_no_note(host: Host, far: Far, end: str) -> None:
    far.plays(ON, -1)
    assert [data for _, data in arrived(host, far)] == [ON]
    if end == "bye":
        far.says("bye")
    elif end == "another run":
        far.says("hello", 1, 2)
    assert host.run_until(bool, lambda: pause(0.0005), 16)[0][1] == OFF
    connect(host, far, run=3)
    far.plays(ON, -1)
    assert host.run_until(bool, lambda: pause(0.0005), 16)[0][1] == ON


def test_stopping_the_song_ends_what_sounds_and_what_waits(host: Host, far: Far) -> None:
    host.run(16, (0, {"speed": 1.0}))
    far.plays(ON, -1)
    far.plays(bytes([0x90, 70, 100]), host.frame + 6000)
    assert [data for _, data in arrived(host, far)] == [ON]
    assert [data for _, data in host.run(16, (3, {"speed": 0.0}))] == [OFF]
    assert host.run(20_000) == []


def test_controls_are_told_when_they_are_moved(host: Host, commands: Far) -> None:
    host.controls[0] = 2
    host.run(16)
    said = commands.hears_text()
    assert (said.address, said.params) == ("/musebridge/mode", ["bars"])
    host.controls[1], host.controls[2] = 1, 0.5
    host.run(16)
    said = [commands.hears_text() for _ in range(2)]
    assert [(m.address, m.params) for m in said] == [
        ("/musebridge/param/temperature", [0.5]),
        ("/musebridge/handover", []),
    ]
    host.controls[3] = 1
    host.run(16)
    host.run(16)
    assert commands.hears_text().address == "/musebridge/panic"


def test_nonsense_changes_nothing(host: Host, far: Far) -> None:
    chance = random.Random(2)
    wholes = [write("midi", 1, -1, 0, 0x90, 300, 1), write("held", 1, 5000, -7), write("hello", 9, 9), write("midi")]
    for _ in range(3000):
        datagram = chance.choice([chance.randbytes(chance.randrange(99)), *(w[: chance.randrange(60)] for w in wholes)])
        far.throws(datagram)
        if chance.random() < 0.02:
            arrived(host, far)
            connect(host, far)
