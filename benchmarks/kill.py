"""End a bridge that plays, at random moments; does it leave a note sounding, or freeze?

The bridge is ``musebridge serve`` in a process of its own, its listener another
client of a real JACK server with the dummy driver. The bridge is interrupted,
terminated, struck by an exception in its session's thread, or its JACK server
is killed under it and started again; then it has to play on.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import mido
import numpy as np
from rich.table import Table

from musebridge.benchmarks.measure import seconds
from musebridge.bridge.core.scheduler import NoteLedger, silence
from musebridge.bridge.ports.backends import CLIENT
from musebridge.bridge.ports.jack_watch import JackWatch
from musebridge.bridge.ports.rtmidi import MidiSystem
from musebridge.errors import PortError
from musebridge.events import ALL_SOUND_OFF, Control, Message, NoteOff, NoteOn
from musebridge.midifile import from_message

KINDS = ("SIGINT", "SIGTERM", "exception", "JACK killed")
DEADLINE_S = 30.0
_LATEST_S = 1.5
_CHORD = (43, 50, 55, 59, 62, 67, 71, 74)
_TICK_S = 0.002
_PERIOD = "1024"
"""Long, and the server waits for its clients (-S): a loaded machine without realtime priority misses
periods, and their events are lost."""
_PRESET = 'description = "answers at once"\n[settings]\nsilence_s = 0.05\nanswer_s = 600\n'
_SERVE = """
import signal
from musebridge.bridge.inference.engine import OnnxEngine
from musebridge.cli import main

def strike(*_):
    def step(*_):
        raise RuntimeError("struck")
    OnnxEngine.step = OnnxEngine.prefill = step

signal.signal(signal.SIGUSR1, strike)
main()
"""
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
        self.name, self._lock = _reserved(name)
        self._server: subprocess.Popen[bytes] | None = None
        if shutil.which("jackd") is None:
            raise PortError("jackd is not installed; install it (Debian: apt-get install jackd2)")

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
        self._server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        waiting = ["jack_wait", "-s", self.name, "-w", "-t", "10"]
        if subprocess.run(waiting, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=DEADLINE_S).returncode:
            raise PortError(f"jackd does not start; see what this says: {' '.join(command)}")

    def kill(self) -> None:
        """End the server without a chance to say goodbye."""
        assert self._server
        self._server.kill()
        self._server.wait()


def _reserved(name: str) -> tuple[str, IO[str]]:
    import fcntl  # not on Windows, where there is no JACK to test

    for numbered in (f"{name}{i}" for i in range(3)):
        lock = (Path(tempfile.gettempdir()) / f"{numbered}.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
        else:
            return numbered, lock
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


class Serving:
    """``musebridge serve`` in a process of its own; a context manager."""

    def __init__(self, preset: Path) -> None:
        self._record = preset.with_suffix("")
        shutil.rmtree(self._record, ignore_errors=True)
        options = ["--backend", "jack", "--osc", "off", "--preset", str(preset), "--record", str(self._record)]
        command = [sys.executable, "-c", _SERVE, "serve", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert self.process.stdout
        words = self.process.stdout.readline().replace(",", "").split()
        if words[:2] != ["listening", "on"]:
            raise PortError(f"the bridge does not start: {' '.join(words)}{self.process.stdout.read()}")
        self._ports = words[2], words[5]

    def __enter__(self) -> Serving:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def peer(self) -> Peer:
        """Return a peer at its ports, once they are there; it must not take their names before."""
        watch = JackWatch()
        try:
            for _ in range(round(DEADLINE_S / 0.1)):
                if (there := watch.ports(CLIENT)).issuperset(self._ports):
                    return Peer(*self._ports)
                pause(0.1)
        finally:
            watch.close()
        raise PortError(f"after {DEADLINE_S:g} s the ports {self._ports} are not there, but {there or 'none'}")

    def end(self, number: signal.Signals) -> float | None:
        """Send a signal; return in how many seconds the process ended, or None if it did not."""
        self.process.send_signal(number)
        try:
            return seconds(lambda: self.process.communicate(timeout=DEADLINE_S))
        except subprocess.TimeoutExpired:
            return None

    def unended(self) -> list[int]:
        """Return the pitches that by its own log the bridge started and did not end."""
        (log,) = self._record.glob("*.jsonl")
        ledger = NoteLedger()
        for line in log.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if row["kind"] == "sent" and (message := from_message(mido.Message.from_bytes(row["bytes"]))):
                ledger.note(message)
        return ledger.pitches()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One end, and how it went.

    Attributes:
        kind: one of ``KINDS``.
        after_s: how long after the first note of the answer.
        sounded: how many notes sounded at that moment.
        left: how many sounded on at the very end.
        unended: how many had no note-off, by the log of the bridge.
        end_s: how long the process took to end, or None if it froze.
        fault: what went wrong besides, or nothing.
    """

    kind: str
    after_s: float
    sounded: int
    left: int
    unended: int
    end_s: float | None
    fault: str

    @property
    def good(self) -> bool:
        """Whether nothing went wrong."""
        return self.left == self.unended == 0 and self.end_s is not None and not self.fault


def trials(times: int, seed: int) -> Iterator[Trial]:
    """Try every kind in turn, ``times`` times in all."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder, Jack("musebridge-kill") as jack:
        preset = Path(folder) / "kill.toml"
        preset.write_text(_PRESET, encoding="utf-8")
        for i in range(times):
            yield _tried(preset, jack, KINDS[i % len(KINDS)], rng.uniform(0, _LATEST_S))


def _tried(preset: Path, jack: Jack, kind: str, after_s: float) -> Trial:
    """Try once; what cannot be tried to its end is a fault, and no end of all trials."""
    try:
        jack.start()
        with Serving(preset) as serving:
            return _trial(serving, jack, kind, after_s)
    except PortError as error:
        return Trial(kind=kind, after_s=after_s, sounded=0, left=0, unended=0, end_s=None, fault=str(error))


def _trial(serving: Serving, jack: Jack, kind: str, after_s: float) -> Trial:
    peer, faults = serving.peer(), []
    try:
        faults += _answered(peer)
        peer.listen(after_s)
        sounded = len(peer.sounding())
        if kind == "JACK killed":
            jack.kill()
            peer.close()
            jack.start()
            peer = serving.peer()
            faults += _resumed(peer)
        end_s = serving.end({"SIGTERM": signal.SIGTERM, "exception": signal.SIGUSR1}.get(kind, signal.SIGINT))
        peer.listen(0.1)
        code = serving.process.poll()
        if code != (kind == "exception"):
            faults.append(f"exit code {code}")
        return Trial(
            kind=kind,
            after_s=after_s,
            sounded=sounded,
            left=len(peer.sounding()),
            unended=len(serving.unended()),
            end_s=end_s,
            fault="; ".join(faults),
        )
    finally:
        peer.close()


def _answered(peer: Peer) -> list[str]:
    peer.play()
    return [] if peer.listen_for(1) else ["no answer"]


def _resumed(peer: Peer) -> list[str]:
    """Return what is wrong with a bridge whose server came back."""
    peer.listen(1.0)
    faults = [] if peer.received == silence(range(16)) else ["not silenced at first"]
    return faults + _answered(peer)


def table(done: list[Trial]) -> Table:
    """Return the outcomes of each kind."""
    result = Table("", "times", "sounded", "left", "no note-off", "froze", "faults", "end s", "most")
    result.columns[0].no_wrap = True
    for kind in KINDS:
        tried = [trial for trial in done if trial.kind == kind]
        ends_s = [trial.end_s for trial in tried if trial.end_s is not None]
        if tried:
            result.add_row(
                kind,
                str(len(tried)),
                f"{np.mean([trial.sounded for trial in tried]):.1f}",
                str(sum(trial.left for trial in tried)),
                str(sum(trial.unended for trial in tried)),
                str(len(tried) - len(ends_s)),
                str(sum(bool(trial.fault) for trial in tried)),
                *(f"{most:.2f}" for most in (np.percentile(ends_s, [50, 100]) if ends_s else ())),
            )
    return result
