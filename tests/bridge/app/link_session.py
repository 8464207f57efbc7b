"""A bridge and another program that share Link; run it where the network is theirs alone.

``python link_session.py FOLDER`` writes the bridge's log there, and on what beat of the other
program's each moment is: ``{"bpm": …, "time_s": …, "beat": …}``.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import aalink
from pythonosc.osc_message import OscMessage
from pythonosc.osc_message_builder import OscMessageBuilder

BPM, DEADLINE_S = 197.0, 60
BRIDGE = ("127.0.0.1", 9123)


async def join() -> aalink.Link:
    link = aalink.Link(BPM)
    link.quantum, link.enabled = 4, True
    return link


def reading(link: aalink.Link) -> tuple[float, float, float]:
    """Return how long reading took, when it was, and the beat."""
    before_s, beat, after_s = time.monotonic(), link.beat, time.monotonic()
    return after_s - before_s, (before_s + after_s) / 2, beat


class Surface:
    """Speaks OSC to the bridge."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(DEADLINE_S)

    def say(self, address: str, *arguments: object) -> None:
        builder = OscMessageBuilder(address)
        for argument in arguments:
            builder.add_arg(argument)
        self._socket.sendto(builder.build().dgram, BRIDGE)

    def hear(self, address: str) -> list[object]:
        while True:
            heard = OscMessage(self._socket.recv(4096))
            if heard.address == address:
                return heard.params


def main(folder: Path) -> None:
    link, surface = asyncio.run(join()), Surface()
    command = ["serve", "--port", "memory", "--link", "--mode", "bars", "--seed", "1", "--record", str(folder)]
    bridge = subprocess.Popen([sys.executable, "-m", "musebridge", *command], stdout=subprocess.PIPE, text=True)
    assert bridge.stdout
    assert "listening" in bridge.stdout.readline()
    for bars in ("listen_bars", "answer_bars"):
        surface.say(f"/musebridge/param/{bars}", 1)
    surface.say("/musebridge/subscribe")
    surface.hear("/musebridge/beat")  # the two have met; who came much later has taken the other's tempo
    for pitch in (60, 64, 67):
        for velocity in (80, 0):
            surface.say(f"/vkb_midi/0/note/{pitch}", velocity)
    surface.hear("/musebridge/note")
    _, time_s, beat = min(reading(link) for _ in range(100))
    (folder / "link.json").write_text(json.dumps({"bpm": link.tempo, "time_s": time_s, "beat": beat}))
    bridge.send_signal(signal.SIGINT)
    bridge.communicate(timeout=DEADLINE_S)
    sys.exit(bridge.returncode)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
