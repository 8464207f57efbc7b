"""A machine without any MIDI system plays through Pure Data: the patch, headless, and ``serve --port osc``."""

import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pythonosc.osc_message import OscMessage

from musebridge.bridge.ports.osc_wire import write

PLUGIN = Path(__file__).parents[3] / "bridge" / "plugin"
PATIENCE_S = 30
THERE, GONE = (-1, 1), (-1, 0)
VANILLA = {
    *("inlet", "outlet", "loadbang", "delay", "f", "sel", "route", "list", "netsend", "change", "t", "metro", "random"),
    *("oscformat", "oscparse", "unpack", "pack", "expr", "pipe", "max", "array", "tabread", "tabwrite", "s", ">", "+"),
    *("-", "until", "mod", "spigot", "notein", "ctlin", "bendin", "noteout", "ctlout", "musebridge"),
}
HARNESS = """\
#N canvas 0 50 450 300 12;
#X obj 20 20 musebridge {wire};
#X obj 20 0 netreceive -u {to_pd};
#X obj 20 60 list prepend send;
#X obj 20 80 list trim;
#X obj 20 120 netsend -u;
#X obj 120 60 loadbang;
#X msg 120 90 connect 127.0.0.1 {from_pd};
#X obj 220 60 t b b;
#X msg 220 90 0;
#X obj 60 40 list prepend -1;
#X connect 0 0 2 0;
#X connect 1 0 0 0;
#X connect 2 0 3 0;
#X connect 3 0 4 0;
#X connect 5 0 7 0;
#X connect 7 1 6 0;
#X connect 6 0 4 0;
#X connect 7 0 8 0;
#X connect 8 0 2 0;
#X connect 0 1 9 0;
#X connect 9 0 2 0;
"""


def udp() -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.bind(("127.0.0.1", 0))
    bound.settimeout(PATIENCE_S)
    return bound


def free_port() -> int:
    with closing(udp()) as bound:
        return bound.getsockname()[1]


class Pd:
    """Pure Data with the patch, without sound and MIDI: what is played to it, and what it plays."""

    def __init__(self, folder: Path, wire: int) -> None:
        self._ear, self._mouth, self._port = udp(), udp(), free_port()
        patch = folder / "harness.pd"
        patch.write_text(HARNESS.format(wire=wire, to_pd=self._port, from_pd=self._ear.getsockname()[1]))
        command = ["pd", "-nogui", "-noaudio", "-nomidi", "-stderr", "-path", str(PLUGIN), str(patch)]
        self._pd = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            assert self.heard() == (0,)  # it is loaded
        except BaseException:
            self.close()
            raise

    def play(self, *message: object) -> None:
        """Give a message to the patch, such as ``note 1 60 64``."""
        self._mouth.sendto(f"{' '.join(map(str, message))};\n".encode(), ("127.0.0.1", self._port))

    def heard(self) -> tuple[int, ...]:
        """Wait for the next message that the patch plays."""
        return tuple(int(float(byte)) for byte in self._ear.recv(4096).decode().rstrip(";\n").split())

    def close(self) -> bytes:
        """End it; return what it complained of."""
        self._pd.terminate()
        _, complaints = self._pd.communicate(timeout=PATIENCE_S)
        self._ear.close()
        self._mouth.close()
        return complaints


@pytest.fixture
def wire() -> Iterator[socket.socket]:
    """A bridge's end of the wire."""
    with closing(udp()) as bound:
        yield bound


@pytest.fixture
def pd(tmp_path: Path, wire: socket.socket) -> Iterator[Pd]:
    if shutil.which("pd") is None:
        pytest.skip("the patch needs Pure Data; Debian and Ubuntu: sudo apt install puredata-core")
    running = Pd(tmp_path, wire.getsockname()[1])
    yield running
    assert running.close() == b""


def said(wire: socket.socket) -> tuple[str, list[float], tuple[str, int]]:
    """Return what the patch says next that is no hello, and who says it."""
    while True:
        datagram, sender = wire.recvfrom(4096)
        message = OscMessage(datagram)
        name = message.address.removeprefix("/musebridge/wire/")
        if name != "hello":
            return name, message.params, sender


@pytest.mark.parametrize("patch", ["musebridge.pd", "musebridge-keys.pd"])
def test_a_patch_has_vanilla_objects_alone(patch: str) -> None:
    lines = (PLUGIN / patch).read_text(encoding="utf-8").split(";\n")
    assert {line.split()[4] for line in lines if line.startswith("#X obj")} <= VANILLA


def test_what_is_played_is_numbered_on_the_wire(pd: Pd, wire: socket.socket) -> None:
    assert said(wire)[:2] == ("bye", [])  # of a patch that was here before
    pd.play("note", 1, 60, 64)
    pd.play("control", 2, 64, 127)
    pd.play("bend", 1, -5)
    pd.play("midi", 192, 3)
    assert [said(wire)[:2] for _ in range(4)] == [
        ("note", [0, -1, 1, 60, 64]),
        ("control", [1, -1, 2, 64, 127]),
        ("bend", [2, -1, 1, -5]),
        ("midi", [3, -1, 192, 3]),
    ]


def test_late_doubled_and_lost_messages_leave_nothing_wrong_and_silence_ends_what_sounds(
    pd: Pd, wire: socket.socket
) -> None:
    *_, patch = said(wire)

    def say(name: str, *numbers: float) -> None:
        wire.sendto(write(name, *numbers), patch)

    say("hello", 1, 77)
    for message in ((0, -1.0, 0.0, 144, 60, 64), (0, -1.0, 0.0, 144, 60, 64), (2, -1.0, 0.0, 128, 60, 0)):
        say("midi", *message)
    say("midi", 1, -1.0, 0.0, 144, 60, 9)  # overtaken by the end of its note
    say("midi", 3, -1.0, 0.0, 144, 62, 64)
    say("midi", 5, -1.0, 0.0, 145, 65, 70)
    say("held", 5, 128 + 65)  # message 4, which ended 62, was lost
    expected = [THERE, (144, 60, 64), (128, 60, 0), (144, 62, 64), (145, 65, 70), (128, 62, 0), (129, 65, 0), GONE]
    assert [pd.heard() for _ in range(8)] == expected


def test_what_has_to_wait_sounds_in_order(pd: Pd, wire: socket.socket) -> None:
    *_, patch = said(wire)
    wire.sendto(write("hello", 1, 5), patch)
    for message in ((0, -1.0, 30.0, 144, 64, 64), (1, -1.0, 10.0, 144, 60, 64), (2, -1.0, 20.0, 144, 62, 64)):
        wire.sendto(write("midi", *message), patch)
    assert pd.heard() == THERE
    assert [pd.heard()[1] for _ in range(3)] == [60, 62, 64]


def test_without_a_midi_system_serve_answers_through_a_patch_that_stays_and_leaves_no_note(
    pd: Pd, wire: socket.socket
) -> None:
    port = wire.getsockname()[1]
    wire.close()
    command = [sys.executable, "-m", "musebridge", "serve", "--osc", "off", "--port", f"osc:127.0.0.1:{port}"]
    for end in (signal.SIGINT, signal.SIGKILL, signal.SIGINT):  # politely, killed, and started again after that
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as bridge:
            try:
                assert bridge.stdout is not None
                assert "listening" in bridge.stdout.readline()
                assert pd.heard() == THERE
                for pitch in (60, 64, 67):
                    pd.play("note", 1, pitch, 70)
                    pd.play("note", 1, pitch, 0)
                struck, sounding = 0, set[tuple[int, int]]()
                while (heard := pd.heard()) != GONE:
                    status, pitch, velocity = heard
                    if status >> 4 == 9 and velocity:
                        struck += 1
                        sounding.add((status & 15, pitch))
                        if struck == 8:
                            bridge.send_signal(end)
                    elif status >> 4 in (8, 9):
                        sounding.discard((status & 15, pitch))
                assert not sounding
                bridge.communicate(timeout=PATIENCE_S)
                assert bridge.returncode == (0 if end == signal.SIGINT else -end)
            finally:
                bridge.kill()  # where it has not ended, the test failed
