"""A JACK server to measure under, and a keyboard and recorder at the ports of a bridge."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import IO

from musebridge.bridge.core.scheduler import NoteLedger
from musebridge.bridge.ports.rtmidi import MidiSystem
from musebridge.errors import PortError
from musebridge.events import ALL_SOUND_OFF, Control, Message, NoteOff, NoteOn

DEADLINE_S = 30.0
_CHORD = (43, 50, 55, 59, 62, 67, 71, 74)
_TICK_S = 0.002
_PERIOD = "1024"
"""Long, and the server waits for its clients (-S): a loaded machine without realtime priority misses
periods, and their events are lost."""
pause = threading.Event().wait


class Jack:
    """A JACK server with the dummy driver, which this process and its children use; a context manager.

    Args:
        name: a number is added that no other process uses. There are few, and always the same:
            JACK frees the slot of a killed server only for its namesake.

    Raises:
        PortError: there is no jackd, it does not start, or every name is in use.
    """

    def __init__(self, name: str) -> None:
        if shutil.which("jackd") is None:
            raise PortError("jackd is not installed; install it (Debian: apt-get install jackd2)")
        self.name, self._lock = _reserved(name)
        self._server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Jack:
        environment = {"JACK_DEFAULT_SERVER": self.name, "JACK_NO_AUDIO_RESERVATION": "1", "JACK_NO_START_SERVER": "1"}
        self._before = {name: os.environ.get(name) for name in environment}
        os.environ.update(environment)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.terminate()
            try:
                self._server.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
        self._lock.close()
        for name, value in self._before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

    def start(self) -> None:
        """Start the server, unless it runs, and wait until it answers."""
        if self._server is not None and self._server.poll() is None:
            return
        command = ["jackd", "-n", self.name, "-r", "-S", "-d", "dummy", "-r", "48000", "-p", _PERIOD]
        # Whoever is killed beside it must not leave a server behind, which nobody else can start then.
        bound = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
        self._server = subprocess.Popen([*bound, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        waiting = ["jack_wait", "-s", self.name, "-w", "-t", "10"]
        if subprocess.run(waiting, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=DEADLINE_S).returncode:
            raise PortError(f"jackd does not start; see what this says: {' '.join(command)}")

    def kill(self) -> None:
        """End the server without a chance to say goodbye."""
        assert self._server
        self._server.kill()
        self._server.wait()


def _answers(server: str) -> bool:
    asked = subprocess.run(["jack_wait", "-s", server, "-c"], capture_output=True, text=True, timeout=DEADLINE_S)
    return asked.stdout.startswith("running")


def _reserved(name: str) -> tuple[str, IO[str]]:
    import fcntl  # not on Windows, where there is no JACK to test

    for numbered in (f"{name}{i}" for i in range(3)):
        lock = (Path(tempfile.gettempdir()) / f"{numbered}.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        if not _answers(numbered):  # as one would that whoever started it left behind
            return numbered, lock
        lock.close()
    raise PortError(f"three JACK servers {name} are in use; end what uses them")


class Peer:
    """A keyboard and a recorder at the ports of a bridge."""

    def __init__(self, listens_on: str, plays_on: str) -> None:
        self._recorder, self._keyboard = MidiSystem("jack").pair(plays_on, listens_on)
        self.received: list[Message] = []
        self._ledger = NoteLedger()

    def send(self, message: Message) -> None:
        """Play one message."""
        self._keyboard.send(message)

    def note_ons(self) -> int:
        """Return how many notes were received."""
        return sum(isinstance(message, NoteOn) for message in self.received)

    def play(self) -> None:
        """Play a broken chord, to be answered with many notes at once."""
        for pitch in _CHORD:
            self._keyboard.send(NoteOn(pitch=pitch, velocity=90))
            pause(0.05)
        for pitch in _CHORD:
            self._keyboard.send(NoteOff(pitch=pitch))

    def listen(self, for_s: float) -> None:
        """Take what comes for some time."""
        for _ in range(max(1, round(for_s / _TICK_S))):
            for message in self._recorder.poll():
                self.received.append(message)
                self._ledger.note(message)
                if isinstance(message, Control) and message.controller == ALL_SOUND_OFF:
                    self._ledger = NoteLedger()
            pause(_TICK_S)

    def listen_for(self, notes: int) -> bool:
        """Take what comes until so many notes have; return whether they came in time."""
        for _ in range(round(DEADLINE_S / 0.05)):
            if self.note_ons() >= notes:
                return True
            self.listen(0.05)
        return False

    def sounding(self) -> list[int]:
        """Return the pitches that were started and not ended, as a synthesizer understands it."""
        return self._ledger.pitches()

    def close(self) -> None:
        """Leave."""
        self._recorder.close()
        self._keyboard.close()
