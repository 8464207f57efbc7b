"""End a bridge that plays, at random moments; does it leave a note sounding, or freeze?

The bridge is ``musebridge serve`` in a process of its own, its listener another
client of a real JACK server with the dummy driver. The bridge is interrupted,
terminated, struck by an exception in its session's thread, or its JACK server
is killed under it and started again; then it has to play on.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mido
import numpy as np
from rich.table import Table

from musebridge.benchmarks.jack import DEADLINE_S, Jack, Peer, pause
from musebridge.benchmarks.measure import seconds
from musebridge.bridge.core.scheduler import NoteLedger, silence
from musebridge.bridge.ports.backends import CLIENT
from musebridge.bridge.ports.jack_watch import JackWatch
from musebridge.errors import PortError
from musebridge.wire import from_message

KINDS = ("SIGINT", "SIGTERM", "exception", "JACK killed")
_LATEST_S = 1.5
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
