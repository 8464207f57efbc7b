"""Takes: the last answers as they sounded, to play again, keep and hand on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from musebridge.bridge.app.bulletin import News
from musebridge.bridge.app.osc_server import Answerer
from musebridge.bridge.app.threads import Sender
from musebridge.bridge.core.clip import Answered
from musebridge.bridge.core.commands import Command, Panic, Reset, Roll, Stop
from musebridge.bridge.core.osc_news import ROOT
from musebridge.bridge.core.scheduler import Owner, Scheduled
from musebridge.bridge.core.settings import Value
from musebridge.bridge.core.snapshot import Snapshot
from musebridge.errors import ConfigError
from musebridge.events import Message, NoteOff, NoteOn, Timed

MOST, MOST_KEPT = 32, 128
"""Takes that are remembered unasked, and that may be kept beside them."""
CHUNK = 64
"""Events in one message, so that it fits one packet of an ordinary network."""
_LEAD_S = 0.05


@dataclass(frozen=True, slots=True)
class Take:
    """One answer; its events are strikes and ends of notes, in seconds from the first."""

    number: int
    events: tuple[Timed, ...]
    kept: bool = False

    @property
    def news(self) -> News:
        """What subscribers are told of it: number, seconds, notes, and 1 if it is kept."""
        seconds = self.events[-1].time_s if self.events else 0.0
        return "take", (self.number, float(seconds), len(self.events) // 2, int(self.kept))

    def chunks(self) -> list[News]:
        """Return its events as flat whole numbers: when in milliseconds, pitch, and velocity, 0 for an end."""
        told: list[News] = []
        for first in range(0, len(self.events), CHUNK):
            flat: list[Value] = []
            for timed in self.events[first : first + CHUNK]:
                match timed.event:
                    case NoteOn(pitch=pitch, velocity=velocity):
                        flat += [round(timed.time_s * 1000), pitch, velocity]
                    case NoteOff(pitch=pitch):
                        flat += [round(timed.time_s * 1000), pitch, 0]
            told.append(("take/notes", (self.number, first, len(self.events), *flat)))
        return told


class Takes:
    """Remembers the last answers, and answers what OSC asks about them; any thread may call.

    Args:
        sender: plays them again.
        now: the present, in monotonic seconds.
        publish: called with what subscribers are to be told.
    """

    def __init__(self, sender: Sender, now: Callable[[], float], publish: Callable[..., None]) -> None:
        self._sender, self._now, self._publish = sender, now, publish
        self._lock = threading.Lock()
        self._takes: dict[int, Take] = {}
        self._count = 0
        self._plays_until_s = float("-inf")

    def answerers(self) -> Mapping[str, Answerer]:
        """Return what answers each query."""
        return {
            "takes": lambda _, snapshot: [take.news for take in self._all()],
            "takes/notes": lambda number, snapshot: self._of(number).chunks(),
            "takes/play": self._play,
            "takes/keep": self._keep,
            "takes/delete": self._delete,
        }

    def add(self, answered: Answered) -> None:
        """Remember an answer that has sounded; the oldest that is not kept may have to go."""
        with self._lock:
            self._count += 1
            take = self._takes[self._count] = Take(self._count, tuple(answered.timed()))
            oldest = [each.number for each in self._takes.values() if not each.kept][:-MOST]
            for number in oldest:
                del self._takes[number]
        self._tell(take.news)
        for number in oldest:
            self._publish("take/deleted", number)

    def heard(self, message: Message | Command) -> None:
        """Take what the session is told: some of it ends a take that plays."""
        match message:
            case Stop() | Panic() | Reset() | Roll(rolling=False):
                self.end()

    def end(self) -> None:
        """End the take that plays, if one does."""
        if self._now() < self._plays_until_s:
            self._plays_until_s = float("-inf")
            self._sender.cancel(self._now(), Owner.TAKE)

    def _all(self) -> list[Take]:
        with self._lock:
            return list(self._takes.values())

    def _of(self, number: Value | None) -> Take:
        with self._lock:
            if take := self._takes.get(int(number or 0)):
                return take
        raise ConfigError(f"no take {number}; {ROOT}/takes lists those that there are")

    def _play(self, number: Value | None, snapshot: Snapshot) -> Sequence[News]:
        take = self._of(number)
        if snapshot.state == "answering":
            raise ConfigError("the model is answering; stop it before a take is played")
        self.end()
        begin_s = self._now() + _LEAD_S
        self._plays_until_s = begin_s + take.events[-1].time_s + 1
        self._sender.push_all(Scheduled(begin_s + timed.time_s, timed.event, Owner.TAKE) for timed in take.events)
        return []

    def _keep(self, number: Value | None, snapshot: Snapshot) -> Sequence[News]:
        take = self._of(number)
        with self._lock:
            if sum(each.kept for each in self._takes.values()) >= MOST_KEPT:
                raise ConfigError(f"{MOST_KEPT} takes are kept, which is the most; delete one of them")
            take = self._takes[take.number] = replace(take, kept=True)
        self._tell(take.news)
        return []

    def _delete(self, number: Value | None, snapshot: Snapshot) -> Sequence[News]:
        take = self._of(number)
        with self._lock:
            self._takes.pop(take.number, None)
        self._publish("take/deleted", take.number)
        return []

    def _tell(self, news: News) -> None:
        topic, values = news
        self._publish(topic, *values)
