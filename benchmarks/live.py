"""The bridge as it is played, under JACK: how soon it answers and falls silent, and how punctual it is.

The bridge is a process of its own with real ports and the shipped model; this
process is its player and recorder. What is measured are the bridge's own times,
from its journal: JACK adds up to a period on the way in and on the way out.
"""

from __future__ import annotations

import json
import math
import random
import tempfile
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from musebridge import midifile, vocab
from musebridge.benchmarks.jack import Peer
from musebridge.benchmarks.measure import Row, row_of
from musebridge.bridge.app.bridge import Bridge
from musebridge.bridge.app.demo import PHRASE
from musebridge.bridge.app.journal import Journal
from musebridge.bridge.core import performer, session
from musebridge.bridge.core.commands import SetMode
from musebridge.bridge.core.continuation import opening
from musebridge.bridge.core.sampling import Logits
from musebridge.bridge.core.settings import Settings
from musebridge.bridge.inference.engine import OnnxEngine
from musebridge.bridge.ports.clock import MonotonicClock
from musebridge.bridge.ports.rtmidi import VIRTUAL, MidiSystem
from musebridge.events import Control, NoteOff, NoteOn

SEED_S = 60.0
SILENCE_S = 0.2
SILENCE, CONTROLLER = "hand-over after silence", "hand-over by controller"
HOARDED = "hand-over by controller, seed read then"
_NOTE_ON, _NOTE_OFF = 0x90, 0x80
TRIGGER = 20
"""A controller."""
_SHORT_S = 0.05
_MOST_WAIT_S = 2.0
"""A model that rests for longer is interrupted without having played."""


# The bridge's process


class Hoarder:
    """An engine that, while it is idle, reads nothing: all is read when the answer begins.

    Args:
        engine: reads in the end.
    """

    def __init__(self, engine: OnnxEngine) -> None:
        self._engine, self.capacity = engine, engine.capacity
        self._tokens: list[int] = []
        self._others: list[int] = []
        self.hoards = self.idle = False

    @property
    def length(self) -> int:
        """How many tokens it pretends to have read."""
        return len(self._tokens)

    def prefill(self, tokens: Sequence[int]) -> Logits:
        """Take tokens; read them, and all before them that was not, unless it is idle."""
        self._tokens += tokens
        if self.hoards and self.idle:
            return np.zeros(vocab.N_TOKENS, np.float32)
        return self._engine.prefill(self._tokens[self._engine.length :])

    def step(self, token: int) -> Logits:
        """Take one token."""
        if self._engine.length == self.length:
            self._tokens.append(token)
            return self._engine.step(token)
        return self.prefill([token])

    def rollback(self, length: int) -> None:
        """Forget every token from ``length`` on."""
        del self._tokens[length:]
        self._engine.rollback(min(length, self._engine.length))

    def swap(self) -> None:
        """Use the other cache."""
        self._engine.swap()
        self._tokens, self._others = self._others, self._tokens

    def rest(self) -> None:
        """Be idle, and have everything to read again, if it hoards."""
        self.idle = True
        if self.hoards:
            self._engine.rollback(0)


def _bridge(pipe: Connection, model: Path, log: Path) -> None:
    """Be the bridge's process: obey commands; at None end, and tell when answers began and whether it hoarded then."""
    # A late note is not to move the rest, so that due times stay those that the model asked for.
    performer._LATE_S = math.inf
    clock, engine = MonotonicClock(), Hoarder(OnnxEngine(model))
    began: list[tuple[float, bool]] = []

    def notice(state: str) -> None:
        if state == "answering":
            began.append((clock.now(), engine.hoards))
            engine.idle = False
        else:
            engine.rest()

    settings = Settings(silence_s=SILENCE_S, answer_s=3600, trigger_cc=TRIGGER)

    def journal(seed: int) -> Journal:
        return Journal(log, seed=seed, mode="manual", settings=settings, model="")

    ports = MidiSystem("jack").pair(VIRTUAL, VIRTUAL)
    with Bridge(engine, *ports, settings=settings, mode="manual", seed=0, journal=journal, notice=notice) as bridge:
        pipe.send([port.name for port in ports])
        while (order := pipe.recv()) is not None:
            if order == "hoard":
                engine.hoards = True
                session.PREFETCHED_S = 0.0  # as if nothing were read before it is asked for
            else:
                bridge.inbox.put((clock.now(), order))
    pipe.send(began)


# The player's process


def rows(model: Path, *, cycles: int, hoarded: int, seed_s: float = SEED_S) -> list[Row]:
    """Measure hand-overs and interruptions; needs a JACK server.

    Args:
        model: to play with.
        cycles: how often the model is let answer and is interrupted.
        hoarded: how often again, with nothing read before the answer.
        seed_s: how much the player plays before the first answer.

    Returns:
        A row for each kind of answer of which one at least had a note.
    """
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.jsonl"
        began = _play(model, log, cycles, hoarded, seed_s)
        record = Record.of(log)
    parts: dict[str, list[float]] = {SILENCE: [], CONTROLLER: [], HOARDED: []}
    for (_, hoards), (late_s, is_silence) in zip(began, record.hand_overs([at_s for at_s, _ in began]), strict=True):
        parts[HOARDED if hoards else SILENCE if is_silence else CONTROLLER].append(late_s)
    parts["interruption"] = list(record.interruptions_s())
    measured = {name: [x for x in late_s if not math.isnan(x)] for name, late_s in parts.items()}
    return [row_of(name, "ms", 1e3 * np.array(late_s)) for name, late_s in measured.items() if late_s]


def _play(model: Path, log: Path, cycles: int, hoarded: int, seed_s: float) -> list[tuple[float, bool]]:
    """Play to a bridge; return when each of its answers began, and whether it had read nothing by then."""
    ours, theirs = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=_bridge, args=(theirs, model, log))
    process.start()
    client = Peer(*ours.recv())
    _play_seed(client, seed_s)
    ours.send(SetMode("call"))
    chance = random.Random(0)
    for i in range(2 * cycles + hoarded):
        if i == 2 * cycles:
            ours.send("hoard")
        _cycle(client, chance, by_hand=i >= cycles)
    ours.send(None)
    began: list[tuple[float, bool]] = ours.recv()
    process.join()
    client.close()
    return began


def _play_seed(client: Peer, seed_s: float) -> None:
    clock = MonotonicClock()
    start_s = clock.now()
    for timed in opening(midifile.read(PHRASE), seed_s):
        client.listen(start_s + timed.time_s - clock.now())
        client.send(timed.event)


def _cycle(client: Peer, chance: random.Random, *, by_hand: bool) -> None:
    """Strike a key, which may interrupt; hand over, or be silent; let the model answer for a moment."""
    pitch = chance.randrange(48, 84)
    client.send(NoteOn(pitch=pitch, velocity=70))
    client.listen(_SHORT_S)
    client.send(NoteOff(pitch=pitch))
    if by_hand:
        client.listen(_SHORT_S)
        client.send(Control(controller=TRIGGER, value=127))
    heard = client.note_ons()
    for _ in range(round(_MOST_WAIT_S / 0.01)):
        client.listen(0.01)
        if client.note_ons() > heard:
            break
    client.listen(chance.uniform(0.0, 0.15))


# What the journal says


@dataclass(frozen=True, slots=True)
class Record:
    """A journal's rows by kind: what was heard, and what the model sent."""

    heard: list[dict[str, Any]]
    sent: list[dict[str, Any]]

    @classmethod
    def of(cls, log: Path) -> Record:
        """Read a journal."""
        parsed = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
        heard = [row for row in parsed if row["kind"] == "heard"]
        return cls(heard, [row for row in parsed if row["kind"] == "sent" and row["owner"] == "model"])

    def hand_overs(self, began_s: list[float]) -> Iterator[tuple[float, bool]]:
        """Yield for each answer how late its first note was, in seconds, and whether a silence was its trigger.

        That is the time from the trigger to the note, less the rest that the model asked for. The trigger is the
        controller, or the end of the silence. NaN if the model played nothing.

        Args:
            began_s: when the answers were begun to be written.
        """
        for at_s, until_s in zip(began_s, [*began_s[1:], math.inf], strict=True):
            trigger = self.heard[bisect_left(self.heard, at_s, key=_at_s) - 1]
            is_silence = trigger["bytes"][0] & 0xF0 == _NOTE_OFF
            trigger_s = trigger["at_s"] + SILENCE_S * is_silence
            asked_s = max(trigger_s, at_s) if is_silence else trigger_s
            sent = self.sent[bisect_left(self.sent, at_s, key=_at_s) : bisect_left(self.sent, until_s, key=_at_s)]
            first = next((row for row in sent if row["bytes"][0] & 0xF0 == _NOTE_ON), None)
            late_s = first["at_s"] - trigger_s - (first["due_s"] - asked_s) if first else math.nan
            yield late_s, is_silence

    def interruptions_s(self) -> Iterator[float]:
        """Yield the time from each note of the player that cut notes off to the last note-off of these."""
        for row in self.heard:
            if row["bytes"][0] & 0xF0 == _NOTE_ON:
                first = bisect_left(self.sent, row["at_s"], key=_at_s)
                cut = [sent["at_s"] for sent in self.sent[first : first + 64] if sent["due_s"] == row["at_s"]]
                if cut:
                    yield max(cut) - row["at_s"]


_at_s: Callable[[dict[str, Any]], float] = lambda row: row["at_s"]  # noqa: E731
