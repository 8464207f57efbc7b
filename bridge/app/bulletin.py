"""What changes often, for those who draw it: the plan, and what the player plays.

News pile up here, at the price of one ``put``, or of nothing where nobody listens. They
leave thirty times a second at most, in batches that begin with the bridge's time.
"""

from __future__ import annotations

from contextlib import suppress
from queue import Empty, SimpleQueue

from musebridge.bridge.core.commands import Command
from musebridge.bridge.core.scheduler import Outbox, Owner, Scheduled
from musebridge.bridge.core.settings import Value
from musebridge.events import SUSTAIN, Control, Message, NoteOff, NoteOn

BATCH_S = 1 / 30
BATCH_LENGTH = 32
"""Messages of one batch, so that it fits one packet of an ordinary network."""
News = tuple[str, tuple[Value, ...]]


class Bulletin:
    """News that wait for the next batch; any thread may add some.

    Args:
        start_s: moments are told in whole milliseconds from here on.
    """

    def __init__(self, start_s: float) -> None:
        self.is_wanted = False
        """Whether anybody listens."""
        self._start_s = self._told_s = start_s
        self._news: SimpleQueue[News] = SimpleQueue()

    def ms(self, at_s: float) -> int:
        """Return a moment in milliseconds since the start."""
        return round((at_s - self._start_s) * 1000)

    def planned(self, scheduled: Scheduled) -> None:
        """Take a note of the model, or its end, that is going to be sent."""
        if self.is_wanted and scheduled.owner is Owner.MODEL:
            self._note("plan", scheduled.due_s, scheduled.event)

    def withdrawn(self) -> None:
        """Take that what was planned and not sent is not going to be."""
        if self.is_wanted:
            self._news.put(("withdrawn", ()))

    def heard(self, at_s: float, message: Message | Command) -> None:
        """Take what the player did."""
        if not self.is_wanted:
            return
        if isinstance(message, Control) and message.controller == SUSTAIN:
            self._news.put(("pedal", (self.ms(at_s), message.value)))
        else:
            self._note("heard", at_s, message)

    def batches(self, now_s: float) -> list[list[News]]:
        """Return what there is to tell by now, if it is time for that again."""
        if now_s - self._told_s < BATCH_S or self._news.empty():
            return []
        self._told_s, news = now_s, list[News]()
        with suppress(Empty):
            while True:
                fresh = self._news.get_nowait()
                if fresh[0] == "withdrawn":  # nobody needs to see a plan that is void already
                    news = [item for item in news if item[0] != "plan"]
                news.append(fresh)
        clock = ("time", (self.ms(now_s),))
        return [[clock, *news[i : i + BATCH_LENGTH]] for i in range(0, len(news), BATCH_LENGTH)]

    def _note(self, topic: str, at_s: float, event: Message | Command) -> None:
        match event:
            case NoteOn(pitch=pitch, velocity=velocity):
                self._news.put((topic, (self.ms(at_s), pitch, velocity)))
            case NoteOff(pitch=pitch):
                self._news.put((topic, (self.ms(at_s), pitch, 0)))


class ToldOutbox:
    """An outbox whose plan is told to a bulletin."""

    def __init__(self, outbox: Outbox, bulletin: Bulletin) -> None:
        self._outbox, self._bulletin = outbox, bulletin

    def push(self, scheduled: Scheduled) -> None:
        """Take one message."""
        self._outbox.push(scheduled)
        self._bulletin.planned(scheduled)

    def release(self, scheduled: Scheduled) -> None:
        """Take a note-off of the model that nothing may withdraw."""
        self._outbox.release(scheduled)
        self._bulletin.planned(scheduled)

    def withdraw(self) -> int:
        """Drop what the model had that was not handed out; return how many."""
        return self._dropped(self._outbox.withdraw())

    def cancel(self, now_s: float) -> int:
        """Withdraw, and release what the model has sounding; return how many were dropped."""
        return self._dropped(self._outbox.cancel(now_s))

    def panic(self, now_s: float) -> None:
        """Silence every channel by every means MIDI has."""
        self._outbox.panic(now_s)
        self._bulletin.withdrawn()

    def _dropped(self, count: int) -> int:
        if count:
            self._bulletin.withdrawn()
        return count
