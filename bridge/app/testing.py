"""Stand-ins for what a test should not wait for: time that jumps, a model that is told what to say."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from musebridge.bridge.core.commands import Command
from musebridge.bridge.core.sampling import Logits
from musebridge.bridge.core.scheduler import Owner, Scheduled, Scheduler, Sent
from musebridge.bridge.core.session import Session
from musebridge.errors import ConfigError, EngineError
from musebridge.events import Message, NoteOff, NoteOn
from musebridge.vocab import N_EVENTS, N_TOKENS


class ScriptedEngine:
    """An engine whose next token is all but certain: ``says(tokens so far)``.

    Args:
        says: the next token, given all tokens that were read.
        capacity: of the pretended cache.
    """

    def __init__(self, says: Callable[[Sequence[int]], int], capacity: int = 1024) -> None:
        self._says = says
        self.capacity = capacity
        self.tokens: list[int] = []
        self._other: list[int] = []
        self.failing = False
        """Set it, and every call raises :class:`EngineError`."""

    @property
    def length(self) -> int:
        """How many tokens are in the pretended cache."""
        return len(self.tokens)

    def prefill(self, tokens: Sequence[int]) -> Logits:
        """Read tokens; return logits with one high peak."""
        if self.failing:
            raise EngineError("scripted failure")
        if not tokens or self.length + len(tokens) > self.capacity:
            raise ValueError(f"1..{self.capacity - self.length} tokens fit, found {len(tokens)}")
        self.tokens += tokens
        logits_V = np.zeros(N_TOKENS, np.float32)
        logits_V[self._says(self.tokens)] = 100.0
        return logits_V

    def step(self, token: int) -> Logits:
        """Read one token; return logits with one high peak."""
        return self.prefill([token])

    def rollback(self, length: int) -> None:
        """Forget all but the first ``length`` tokens."""
        del self.tokens[length:]

    def swap(self) -> None:
        """Use the other pretended cache."""
        self.tokens, self._other = self._other, self.tokens


def babble(tokens: Sequence[int]) -> int:
    """Say anything at all, but always the same after the same."""
    return hash(tuple(tokens[-3:])) % N_EVENTS


class Witness:
    """Takes down what is sent: what sounds, whose it is, and what should never happen."""

    def __init__(self) -> None:
        self.sounding: dict[tuple[int, int], Owner] = {}
        """Channel and pitch of each note, and who struck it."""
        self.wrongs: list[str] = []

    def take(self, sent: Iterable[Sent | Scheduled]) -> None:
        """Take down what was sent next."""
        for item in sent:
            match item.event:
                case NoteOn(pitch=pitch, channel=channel):
                    self._check((channel, pitch) not in self.sounding, "struck twice", item)
                    self.sounding[channel, pitch] = item.owner
                case NoteOff(pitch=pitch, channel=channel):
                    owner = self.sounding.pop((channel, pitch), None)
                    self._check(owner is not None, "released in silence", item)
                    self._check(owner in (None, item.owner), "released by another than who struck it", item)

    def _check(self, is_right: bool, wrong: str, item: Sent | Scheduled) -> None:
        if not is_right:
            self.wrongs.append(f"{item.event}: {wrong}")


def simulate(
    session: Session,
    scheduler: Scheduler,
    script: Iterable[tuple[float, Message | Command]],
    *,
    until_s: float,
    now_s: float = 0.0,
) -> list[Sent]:
    """Run a session on virtual time against a script; return all that was sent, and when.

    The session works as if the engine took no time, each event is sent at the
    moment it is due, and at equal times what is due goes out before the script
    goes on. What is passed on, refused or fails is dealt with as the bridge's threads do.
    """
    sent: list[Sent] = []
    inputs = deque(sorted(script, key=lambda item: item[0]))
    while now_s < until_s:
        for _ in range(100_000):
            wake_s = session.wake_s()
            if wake_s is None or wake_s > now_s:
                break
            _attempt(session, now_s, lambda: session.work(now_s))  # noqa: B023  # called at once
        sent += [Sent(item.due_s, max(now_s, item.due_s), item.event, item.owner) for item in scheduler.pop_due(now_s)]
        if inputs and inputs[0][0] <= now_s:
            _, message = inputs.popleft()
            if not isinstance(message, Command) and session.passes_on(message):
                scheduler.push(Scheduled(now_s, message, Owner.PLAYER))
            _attempt(session, now_s, lambda: session.receive(now_s, message))  # noqa: B023
            continue
        moments = [until_s, session.wake_s(), scheduler.next_due(), inputs[0][0] if inputs else None]
        now_s = max(now_s, min(moment for moment in moments if moment is not None))
    return sent


def _attempt(session: Session, now_s: float, act: Callable[[], None]) -> None:
    try:
        act()
    except ConfigError:
        pass
    except EngineError:
        session.abandon(now_s)
