"""The token stream that the model has read, kept inside its window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from musebridge.bridge.core.recall import Figures
from musebridge.bridge.core.sampling import Logits


class Engine(Protocol):
    """One model with two K/V caches, of which one is in use; knows nothing of music.

    ``capacity`` is how many tokens a cache can hold. The logits belong to the
    caller until the next call that uses the same cache.
    """

    capacity: int

    @property
    def length(self) -> int:
        """How many tokens the cache holds now."""
        ...

    def prefill(self, tokens: Sequence[int]) -> Logits:
        """Read one or more tokens; return the logits after the last, shape (N_TOKENS,)."""
        ...

    def step(self, token: int) -> Logits:
        """Read one token; return the logits after it."""
        ...

    def rollback(self, length: int) -> None:
        """Forget every token after the first ``length``."""
        ...

    def swap(self) -> None:
        """Use the other cache from now on."""
        ...


class Context:
    """A stream of any length over an engine whose window is finite.

    Writing costs nothing: the engine reads afterwards, as much at once as the
    caller has time for. Positions count all tokens ever written.

    Before the window is full, its newer half is read again into the other
    cache, piece by piece while the stream goes on, and the older half is
    forgotten. Where there was no time for that, it happens when the window is full.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._engine.rollback(0)
        self._window: list[int] = []
        self._logits: Logits | None = None
        self._prefetched: list[int] = []  # read, but not written
        self._begin: int | None = None  # where in the window the other cache begins
        self.forgotten = 0
        """How many tokens have left the window."""
        self.figures = Figures()
        """What was struck, also before the window."""

    @property
    def position(self) -> int:
        """How many tokens the stream has."""
        return self.forgotten + len(self._window)

    @property
    def last(self) -> int:
        """The last token."""
        return self._window[-1]

    @property
    def unread(self) -> int:
        """How many tokens the engine has yet to read."""
        return len(self._window) + len(self._prefetched) - self._engine.length

    @property
    def nearly_full(self) -> bool:
        """Whether the window is so full that :meth:`prepare` should be called."""
        return len(self._window) > self._engine.capacity * 7 // 8

    def append(self, tokens: Sequence[int]) -> None:
        """Write tokens; those that were prefetched have been read."""
        if not tokens:
            return
        if list(tokens) == self._prefetched:
            self._prefetched = []
        self._forget_prefetched()
        self.figures.append(self.position, tokens)
        self._window += tokens
        if len(self._window) > self._engine.capacity:
            kept = self._window[-(self._engine.capacity // 2) :]
            self.clear()
            self._window, self.forgotten = kept, self.forgotten - len(kept)

    def read(self, most: int | None = None) -> None:
        """Let the engine read what it has not, or so many tokens of it."""
        if self.unread:
            self._logits = self._read(self._engine.length, most)

    def prefetch(self, tokens: Sequence[int]) -> None:
        """Read tokens that may be written next, after all that is; they do not count before :meth:`append`."""
        if list(tokens) == self._prefetched or self.unread:
            return
        self._forget_prefetched()
        if 0 < len(tokens) <= self._engine.capacity - self._engine.length:
            self._logits = self._feed(tokens)
            self._prefetched = list(tokens)

    def prepare(self, most: int) -> None:
        """Let the other cache read so many tokens of the newer half; once it has them all, go on with it."""
        self._forget_prefetched()
        with self._other_cache():
            if self._begin is None:
                self._begin = len(self._window) - self._engine.capacity // 2
                self._engine.rollback(0)
            logits = self._read(self._begin + self._engine.length, most)
            is_done = self._begin + self._engine.length == len(self._window)
        if is_done:
            self._engine.swap()
            self._forget(self._begin)
            self._logits = logits

    def holds(self, position: int) -> bool:
        """Return whether the stream can be taken back to ``position``."""
        return self.forgotten < position <= self.position

    def rollback(self, position: int) -> None:
        """Forget everything after ``position``, which the window must still hold."""
        keep = position - self.forgotten
        if not self.holds(position):
            raise ValueError(f"position must be in {self.forgotten + 1}..{self.position}, found {position}")
        self._forget_prefetched()
        self.figures.rewind(position)
        del self._window[keep:]
        if keep < self._engine.length:
            self._engine.rollback(keep)
            self._logits = None
        if self._begin is not None and keep > self._begin:
            with self._other_cache():
                self._engine.rollback(min(keep - self._begin, self._engine.length))
        else:
            self._begin = None

    def clear(self) -> None:
        """Forget the whole stream; positions go on."""
        self._prefetched = []
        self._forget(len(self._window))
        self._engine.rollback(0)
        self._logits = None

    def logits(self) -> Logits:
        """Return the logits after the last token, reading what is unread; the caller may overwrite them, once."""
        self._forget_prefetched()
        if not self.unread and self._logits is None:
            self._engine.rollback(len(self._window) - 1)
        self.read()
        assert self._logits is not None
        logits, self._logits = self._logits, None
        return logits

    def _forget_prefetched(self) -> None:
        if self._prefetched:
            self._engine.rollback(len(self._window))
            self._prefetched, self._logits = [], None

    def _read(self, start: int, most: int | None) -> Logits | None:
        tokens = self._window[start:][:most]
        return self._feed(tokens) if tokens else None  # all that was to be read has been taken back

    def _feed(self, tokens: Sequence[int]) -> Logits:
        return self._engine.step(tokens[0]) if len(tokens) == 1 else self._engine.prefill(tokens)

    def _forget(self, count: int) -> None:
        self.forgotten += count
        del self._window[:count]
        self._begin = None

    @contextmanager
    def _other_cache(self) -> Iterator[None]:
        self._engine.swap()
        try:
            yield
        finally:
            self._engine.swap()
