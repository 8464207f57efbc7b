"""The plug-in at the pace of real time, with a bridge beside it: there and back, and what a killed bridge leaves."""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
from pythonosc.osc_message_builder import OscMessageBuilder

from musebridge.benchmarks.jack import pause
from musebridge.benchmarks.lv2host import Host, Midi
from musebridge.benchmarks.measure import Row, row_of
from musebridge.errors import PortError

PERIOD, RATE = 128, 48000
_NOTES_PORT, _OSC_PORT = 19126, 19125
_DEADLINE_BLOCKS = 30 * RATE // PERIOD
_ON, _OFF = bytes([0x90, 60, 100]), bytes([0x80, 60, 64])


class Paced:
    """A host that runs a block each period, by the clock; where the machine was late it catches up."""

    def __init__(self, host: Host) -> None:
        self.host, self._next_s = host, time.monotonic()

    def block(self, *events: tuple[int, bytes]) -> list[Midi]:
        """Run one block when it is time."""
        self._next_s += PERIOD / RATE
        pause(max(0.0, self._next_s - time.monotonic()))
        return self.host.run(PERIOD, *events)

    def until(self, wanted: bytes) -> int:
        """Run blocks until a message comes out; return its frame."""
        for _ in range(_DEADLINE_BLOCKS):
            for frame, data in self.block():
                if data[:2] == wanted[:2]:
                    return frame
        raise PortError(f"{wanted.hex()} never came out of the plug-in")

    def connect(self) -> None:
        """Run blocks until the bridge is there and passes on what is played."""
        with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as asking:
            thru = OscMessageBuilder("/musebridge/param/thru")
            thru.add_arg(1)
            for _ in range(_DEADLINE_BLOCKS):
                self.block()
                if self.host.controls[6]:
                    asking.sendto(thru.build().dgram, ("127.0.0.1", _OSC_PORT))
                    for _ in range(RATE // PERIOD // 4):
                        self.block()
                    return
        raise PortError("the plug-in does not find the bridge")


def rows(binary: Path, *, notes: int, kills: int, seed: int = 0) -> Iterator[Row]:
    """Measure round trips, then kill the bridge again and again.

    Raises:
        PortError: the plug-in is not built, or something never came.
    """
    if not binary.exists():
        raise PortError(f"no plug-in at {binary}; build it with make plugin")
    chance = random.Random(seed)
    with closing(Host(binary, [3, 0, 0, 0, _NOTES_PORT, _OSC_PORT, 0, 0], RATE)) as host:
        paced = Paced(host)
        with _serving():
            paced.connect()
            trips = [_round_trip(paced, chance.randrange(PERIOD)) - PERIOD for _ in range(notes)]
        yield row_of(f"round trip beyond one period of {PERIOD}, of {notes}", "frames", np.array(trips, float))
        yield row_of("kill to note-off", "ms", np.array([_killed_ms(paced) for _ in range(kills)]))


def _round_trip(paced: Paced, offset: int) -> int:
    began = paced.host.frame + offset
    came = paced.block((offset, _ON))
    assert not came
    there = paced.until(_ON) - began
    paced.block((0, _OFF))
    paced.until(_OFF)
    return there


def _killed_ms(paced: Paced) -> float:
    with _serving() as server:
        paced.connect()
        paced.block((0, _ON))
        paced.until(_ON)
        server.kill()
        began_s = time.monotonic()
        paced.until(_OFF)
        return (time.monotonic() - began_s) * 1000


@contextmanager
def _serving() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-u", "-m", "musebridge", "serve", "--mode", "manual"]
    command += ["--port", f"osc:127.0.0.1:{_NOTES_PORT}", "--osc", f"127.0.0.1:{_OSC_PORT}"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert server.stdout
    try:
        if "listening" not in server.stdout.readline():
            raise PortError("the bridge does not start")
        yield server
    finally:
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=60)
