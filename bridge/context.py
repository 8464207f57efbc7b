"""The token stream that the model has read, kept inside its window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from musebridge.bridge.sampling import Logits


class Engine(Protocol):
    """One model and its K/V cache; knows nothing of music.

    ``capacity`` is how many tokens the cache holds, ``length`` how many it
    holds now. The logits belong to the caller until the next call.
    """

    capacity: int
    length: int

    def prefill(self, tokens: Sequence[int]) -> Logits:
        """Read one or more tokens; return the logits after the last, shape (N_TOKENS,)."""
        ...

    def step(self, token: int) -> Logits:
        """Read one token; return the logits after it."""
        ...

    def rollback(self, length: int) -> None:
        """Forget every token after the first ``length``."""
        ...


class Context:
    """A stream of any length over an engine whose window is finite.

    Positions count all tokens ever written. When the window is full, its newer
    half is read again into an empty cache and the older half is forgotten.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._engine.rollback(0)
        self._window: list[int] = []
        self._forgotten = 0
        self._logits: Logits | None = None

    @property
    def position(self) -> int:
        """How many tokens the stream has."""
        return self._forgotten + len(self._window)

    def append(self, tokens: Sequence[int]) -> None:
        """Let the engine read tokens that follow the stream."""
        if not tokens:
            return
        self._window += tokens
        if len(self._window) > self._engine.capacity:
            self._roll()
        elif len(tokens) == 1:
            self._logits = self._engine.step(tokens[0])
        else:
            self._logits = self._engine.prefill(tokens)

    def holds(self, position: int) -> bool:
        """Return whether the stream can be taken back to ``position``."""
        return self._forgotten < position <= self.position

    def rollback(self, position: int) -> None:
        """Forget everything after ``position``, which the window must still hold."""
        keep = position - self._forgotten
        if not self.holds(position):
            raise ValueError(f"position must be in {self._forgotten + 1}..{self.position}, found {position}")
        if keep < len(self._window):
            del self._window[keep:]
            self._engine.rollback(keep)
            self._logits = None

    def logits(self) -> Logits:
        """Return the logits after the last token; the caller may overwrite them, once."""
        if self._logits is None:
            self._engine.rollback(len(self._window) - 1)
            self._logits = self._engine.step(self._window[-1])
        logits, self._logits = self._logits, None
        return logits

    def _roll(self) -> None:
        keep = self._engine.capacity // 2
        self._forgotten += len(self._window) - keep
        self._window = self._window[-keep:]
        self._engine.rollback(0)
        self._logits = self._engine.prefill(self._window)
