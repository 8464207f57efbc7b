"""What was learnt is saved, by a thread that may wait for a disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue

from musebridge.bridge.app.threads import Worker
from musebridge.bridge.core.commands import Bind
from musebridge.bridge.core.learn import FREE
from musebridge.errors import MuseBridgeError

_PATIENCE_S = 0.1


class Saver(Worker):
    """Saves which controllers move which parameters whenever that changes.

    Args:
        save: writes all of them.
        binds: what is saved already.
        on_error: called with why they cannot be written.
        on_failure: called if the thread cannot go on.
    """

    def __init__(
        self,
        save: Callable[[Sequence[Bind]], object],
        binds: Sequence[Bind],
        on_error: Callable[[MuseBridgeError], None],
        on_failure: Callable[[str, Exception], None],
    ) -> None:
        super().__init__("saver", on_failure)
        self._save, self._on_error = save, on_error
        self._saved = {bind.name: bind for bind in binds}
        self._learnt: SimpleQueue[Bind] = SimpleQueue()

    def learnt(self, bind: Bind) -> None:
        """Take what was bound, or is ``FREE``; may be called from any thread."""
        self._learnt.put(bind)

    def turn(self) -> None:
        """Save what was learnt, or wait for something."""
        with suppress(Empty):
            self._take(self._learnt.get(timeout=_PATIENCE_S))

    def stop(self) -> None:
        """End the thread, and save what is left."""
        super().stop()
        with suppress(Empty):
            self._take(self._learnt.get_nowait())

    def _take(self, bind: Bind) -> None:
        """Take one bind and all that came with it, and save them at once."""
        now = dict(self._saved)
        with suppress(Empty):
            while True:
                now = {name: other for name, other in now.items() if name != bind.name}
                now |= {} if bind.controller == FREE else {bind.name: bind}
                bind = self._learnt.get_nowait()
        if now != self._saved:
            self._saved = now
            try:
                self._save(list(now.values()))
            except MuseBridgeError as error:
                self._on_error(error)
