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

    Writing costs nothing: the engine reads afterwards, as much at once as the
    caller has time for. Positions count all tokens ever written. When the window
    is full, its newer half is read again into an empty cache and the older half
    is forgotten.
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

    @property
    def unread(self) -> int:
        """How many tokens the engine has yet to read."""
        return len(self._window) - self._engine.length

    @property
    def half(self) -> int:
        """How many tokens are left when the window has become full."""
        return self._engine.capacity // 2

    def append(self, tokens: Sequence[int], *, room: int = 0) -> None:
        """Write tokens, and have the window hold ``room`` more."""
        self._window += tokens
        if len(self._window) + room > self._engine.capacity:
            self._roll()

    def read(self, most: int | None = None) -> None:
        """Let the engine read what it has not, or so many tokens of it."""
        start = self._engine.length
        tokens = self._window[start:][:most]
        if len(tokens) == 1:
            self._logits = self._engine.step(tokens[0])
        elif tokens:
            self._logits = self._engine.prefill(tokens)

    def holds(self, position: int) -> bool:
        """Return whether the stream can be taken back to ``position``."""
        return self._forgotten < position <= self.position

    def rollback(self, position: int) -> None:
        """Forget everything after ``position``, which the window must still hold."""
        keep = position - self._forgotten
        if not self.holds(position):
            raise ValueError(f"position must be in {self._forgotten + 1}..{self.position}, found {position}")
        del self._window[keep:]
        if keep < self._engine.length:
            self._engine.rollback(keep)
            self._logits = None

    def logits(self) -> Logits:
        """Return the logits after the last token, reading what is unread; the caller may overwrite them, once."""
        if not self.unread and self._logits is None:
            self._engine.rollback(len(self._window) - 1)
        self.read()
        assert self._logits is not None
        logits, self._logits = self._logits, None
        return logits

    def _roll(self) -> None:
        self._forgotten += len(self._window) - self.half
        self._window = self._window[-self.half :]
        self._engine.rollback(0)
        self._logits = None
