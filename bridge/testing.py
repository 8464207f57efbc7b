"""Stand-ins for what a test should not wait for: time that jumps, a model that is told what to say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from musebridge.bridge.commands import Command
from musebridge.bridge.sampling import Logits
from musebridge.bridge.scheduler import Scheduler, Sent
from musebridge.bridge.session import Session
from musebridge.errors import EngineError
from musebridge.events import Message
from musebridge.vocab import N_TOKENS


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
        self.tokens += tokens
        if len(self.tokens) > self.capacity:
            raise ValueError(f"the cache holds {self.capacity} tokens, found {len(self.tokens)}")
        logits_V = np.zeros(N_TOKENS, np.float32)
        logits_V[self._says(self.tokens)] = 100.0
        return logits_V

    def step(self, token: int) -> Logits:
        """Read one token; return logits with one high peak."""
        return self.prefill([token])

    def rollback(self, length: int) -> None:
        """Forget all but the first ``length`` tokens."""
        del self.tokens[length:]


def simulate(
    session: Session, scheduler: Scheduler, script: Iterable[tuple[float, Message | Command]], *, until_s: float
) -> list[Sent]:
    """Run a session on virtual time against a script; return all that was sent, and when.

    The session works as if the engine took no time, each event is sent at the
    moment it is due, and at equal times what is due goes out before the script
    goes on.
    """
    sent: list[Sent] = []
    inputs = sorted(script, key=lambda item: item[0])
    now_s = 0.0
    while now_s < until_s:
        for _ in range(100_000):
            wake_s = session.wake_s()
            if wake_s is None or wake_s > now_s:
                break
            session.work(now_s)
        sent += [Sent(item.due_s, max(now_s, item.due_s), item.event, item.owner) for item in scheduler.pop_due(now_s)]
        if inputs and inputs[0][0] <= now_s:
            session.receive(now_s, inputs.pop(0)[1])
            continue
        moments = [until_s, session.wake_s(), scheduler.next_due(), inputs[0][0] if inputs else None]
        now_s = max(now_s, min(moment for moment in moments if moment is not None))
    return sent
