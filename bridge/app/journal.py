"""A log of all that a session was told, from which it can be played again, exactly.

A session is a function of what comes in, when it is let work, and what its
outbox answers; the journal keeps these, one JSON object a line::

    {"kind": "begin", "seed": 7, "mode": "call", "settings": {…}, "model": "…"}
    {"kind": "heard", "at_s": 12.5, "bytes": [144, 60, 66]}
    {"kind": "command", "at_s": 14.0, "name": "SetMode", "values": {"mode": "duet"}}
    {"kind": "work", "at_s": 14.1}
    {"kind": "abandon", "at_s": 14.2}                 the model failed
    {"kind": "dropped", "count": 3}                   what withdraw and cancel answered
    {"kind": "answer", "begin_s": 14.1, …}            an answer begins: a Place
    {"kind": "pushed", "due_s": 14.2, "bytes": […]}   what the session wrote
    {"kind": "sent", "at_s": 14.2, "due_s": 14.2, "owner": "model", "bytes": [144, 64, 70]}
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import mido
import numpy as np

from musebridge import wire
from musebridge.bridge.core.clip import Answered, AnswerRecorder, Place
from musebridge.bridge.core.commands import Command
from musebridge.bridge.core.context import Engine
from musebridge.bridge.core.scheduler import Outbox, Owner, Scheduled, Sent
from musebridge.bridge.core.session import Session
from musebridge.bridge.core.settings import MODES, Settings
from musebridge.config import RENAMED, build
from musebridge.errors import ConfigError, ReplayError
from musebridge.events import Event, Message, NoteOff, NoteOn, Timed
from musebridge.smf.write import write

_BEFORE = {"recall": 0.0}
"""Settings of a log that does not tell them: it was written before there were any."""
_COMMANDS = {kind.__name__: kind for kind in get_args(Command)}


class Journal:
    """Writes a log as it happens; threads may write at once.

    Raises:
        ReplayError: the file cannot be written.
    """

    def __init__(self, path: Path, *, seed: int, mode: str, settings: Settings, model: str) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("w", encoding="utf-8")
        except OSError as error:
            raise ReplayError(f"{path}: cannot be written: {error.strerror}; choose another folder") from error
        self.path, self._lock = path, threading.Lock()
        self._take: Take | None = None
        self._takes = 0
        self._write("begin", seed=seed, mode=mode, settings=asdict(settings), model=model)

    @property
    def is_taking(self) -> bool:
        """Whether a take has begun that has not ended."""
        return self._take is not None

    def begin_take(self) -> None:
        """Keep what is heard and sent from now on, besides the log."""
        with self._lock:
            self._take = Take()
            self._takes += 1

    def end_take(self) -> Path:
        """Write the take as a .mid beside the log; return its path.

        Raises:
            MidiFileError: the file cannot be written.
        """
        with self._lock:
            take, self._take = self._take, None
        path = self.path.with_name(f"{self.path.stem}-take{self._takes}.mid")
        write(path, take.tracks() if take else {})
        return path

    def heard(self, now_s: float, message: Message | Command) -> None:
        """Take down what the session received."""
        self._add("player", now_s, message)
        if isinstance(message, Command):
            self._write("command", at_s=now_s, name=type(message).__name__, values=asdict(message))
        else:
            self._write("heard", at_s=now_s, bytes=wire.to_message(message).bytes())

    def worked(self, now_s: float) -> None:
        """Take down that the session was let work."""
        self._write("work", at_s=now_s)

    def answer(self, place: Place) -> None:
        """Take down that an answer begins."""
        self._write("answer", **asdict(place))

    def abandoned(self, now_s: float) -> None:
        """Take down that the session began anew after a failure."""
        self._write("abandon", at_s=now_s)

    def pushed(self, scheduled: Scheduled) -> None:
        """Take down what the session wrote."""
        self._write("pushed", due_s=scheduled.due_s, bytes=wire.to_message(scheduled.event).bytes())

    def dropped(self, count: int) -> None:
        """Take down what the outbox answered."""
        self._write("dropped", count=count)

    def sent(self, sent: Sent) -> None:
        """Take down what left."""
        if sent.owner is Owner.MODEL:
            self._add("model", sent.actual_s, sent.event)
        data = wire.to_message(sent.event).bytes()
        self._write("sent", at_s=sent.actual_s, due_s=sent.due_s, owner=sent.owner.value, bytes=data)

    def close(self) -> None:
        """Write no more."""
        with self._lock:
            self._file.close()

    def _add(self, part: str, time_s: float, message: Message | Command) -> None:
        with self._lock:
            if self._take is not None:
                self._take.add(part, time_s, message)

    def _write(self, kind: str, **values: Any) -> None:
        with self._lock:
            if not self._file.closed:
                self._file.write(json.dumps({"kind": kind, **values}) + "\n")


class Take:
    """Music from one moment on: what was heard and what the model sent, each note whole."""

    def __init__(self) -> None:
        self._parts: dict[str, list[Timed]] = {"player": [], "model": []}
        self._open = {part: Counter[NoteOff]() for part in self._parts}

    def add(self, part: str, time_s: float, message: Message | Command) -> None:
        """Take one event of a part; the end of a note that began before is left out."""
        match message:
            case NoteOn(pitch=pitch, channel=channel):
                self._open[part][NoteOff(pitch=pitch, channel=channel)] += 1
            case NoteOff() if self._open[part][message] > 0:
                self._open[part][message] -= 1
            case NoteOff():
                return
        if isinstance(message, Event):
            self._parts[part].append(Timed(time_s, message))

    def tracks(self) -> dict[str, list[Timed]]:
        """Return each part in seconds from the first event of all; what still sounds ends with the last."""
        times_s = [timed.time_s for part in self._parts.values() for timed in part] or [0.0]
        start_s, end_s = min(times_s), max(times_s)
        whole = {
            name: [*part, *(Timed(end_s, release) for release in self._open[name].elements())]
            for name, part in self._parts.items()
        }
        return {name: [Timed(t.time_s - start_s, t.event) for t in part] for name, part in whole.items()}


class JournalledOutbox:
    """An outbox that tells a journal what it answers."""

    def __init__(self, outbox: Outbox, journal: Journal) -> None:
        self._outbox, self._journal = outbox, journal
        self.panic = outbox.panic

    def push(self, scheduled: Scheduled) -> None:
        """Take one message."""
        self._journal.pushed(scheduled)
        self._outbox.push(scheduled)

    def release(self, scheduled: Scheduled) -> None:
        """Take a note-off of the model that nothing may withdraw."""
        self._journal.pushed(scheduled)
        self._outbox.release(scheduled)

    def withdraw(self) -> int:
        """Drop what the model had that was not handed out; return how many."""
        return self._told(self._outbox.withdraw())

    def cancel(self, now_s: float) -> int:
        """Withdraw, and release what the model has sounding; return how many were dropped."""
        return self._told(self._outbox.cancel(now_s))

    def _told(self, count: int) -> int:
        self._journal.dropped(count)
        return count


Written = list[tuple[float, Message]]


def replay(path: Path, engine: Engine, *, model: str) -> tuple[Written, Written]:
    """Play a log again on its own time.

    Args:
        path: what a :class:`Journal` wrote; its last line may be cut off.
        engine: the model that played.
        model: how that model is named in the log.

    Returns:
        What the session wrote now, and what the log says that it wrote then, with due times.

    Raises:
        ReplayError: it is no log, or of another model.
    """
    try:
        begin, *rest = _rows(path)
        if begin["model"] != model:
            raise ReplayError(f"{path}: was played by the model {begin['model']}; give that with --model")
        settings = build(Settings, {**_BEFORE, **begin["settings"]}, str(path))
        mode = begin["mode"]
        if mode not in MODES:
            raise ReplayError(f"{path}: has no mode {mode!r}")
        outbox = _Answers([row["count"] for row in rest if row["kind"] == "dropped"])
        session = Session(engine, outbox, settings, mode=mode, rng=np.random.default_rng(begin["seed"]))
        for row in rest:
            _again(session, row)
        then = [(row["due_s"], _message(row["bytes"])) for row in rest if row["kind"] == "pushed"]
    except (KeyError, TypeError, ValueError) as error:
        raise ReplayError(f"{path}: is not a session's log ({error!r}); give the .jsonl that --record wrote") from error
    return outbox.written, then


def _again(session: Session, row: dict[str, Any]) -> None:
    match row["kind"]:
        case "heard":
            message: Message | Command = _message(row["bytes"])
        case "command":
            message = _COMMANDS[RENAMED.get(row["name"], row["name"])](**row["values"])
        case "work":
            session.work(row["at_s"])
            return
        case "abandon":
            session.abandon(row["at_s"])
            return
        case _:
            return
    with suppress(ConfigError):  # it was refused then as well
        session.receive(row["at_s"], message)


class _Answers:
    """An outbox that answers what the log says, and keeps what it is given."""

    def __init__(self, dropped: list[int]) -> None:
        self._dropped = iter(dropped)
        self.written: Written = []

    def push(self, scheduled: Scheduled) -> None:
        self.written.append((scheduled.due_s, scheduled.event))

    def release(self, scheduled: Scheduled) -> None:
        self.written.append((scheduled.due_s, scheduled.event))

    def withdraw(self) -> int:
        return next(self._dropped, 0)

    def cancel(self, now_s: float) -> int:
        return next(self._dropped, 0)

    def panic(self, now_s: float) -> None:
        pass


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ReplayError(f"{path}: cannot be read: {error}") from error
    for number, line in enumerate(lines):
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            if number < len(lines) - 1:
                raise


def _message(data: list[int]) -> Message:
    message = wire.from_message(mido.Message.from_bytes(data))
    if message is None:
        raise ValueError(f"nobody plays {data}")
    return message


def tracks(path: Path) -> dict[str, list[Timed]]:
    """Return what a log says was heard and what the model sent, in seconds from the first of both.

    Raises:
        ReplayError: it is no log.
    """
    take = Take()
    for row in _rows(path):
        kind = row.get("kind")
        if kind == "heard" or (kind == "sent" and row["owner"] == Owner.MODEL.value):
            take.add("player" if kind == "heard" else "model", row["at_s"], _message(row["bytes"]))
    return take.tracks()


def answers(path: Path) -> list[Answered]:
    """Return the answers that a log has, as they sounded, oldest first.

    Raises:
        ReplayError: it is no log.
    """
    recorder = AnswerRecorder()
    try:
        for row in _rows(path):
            kind = row.pop("kind")
            if kind == "answer":
                recorder.begin(Place(**row))
            elif kind == "sent":
                owner = Owner(row["owner"])
                recorder.sent(Sent(row["due_s"], row["at_s"], _message(row["bytes"]), owner))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ReplayError(f"{path}: is not a session's log ({error!r}); give the .jsonl that --record wrote") from error
    return recorder.take()
