"""The bridge with a built-in performer: hear and see it without a keyboard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from musebridge import midifile
from musebridge.bridge.app.bridge import Bridge
from musebridge.bridge.app.journal import Journal
from musebridge.bridge.app.preset import FOLDER
from musebridge.bridge.app.threads import Sender
from musebridge.bridge.core.context import Engine
from musebridge.bridge.core.continuation import opening
from musebridge.bridge.core.scheduler import Scheduled
from musebridge.bridge.core.settings import Settings
from musebridge.bridge.ports import rtmidi
from musebridge.bridge.ports.base import InputPort, MemoryPort, OutputPort
from musebridge.bridge.ports.clock import MonotonicClock
from musebridge.errors import PortError

PHRASE = FOLDER / "phrase.mid"
_COUNT_IN_S, _FADE_S = 0.3, 1.5


class Demo:
    """A bridge, and a performer that plays a phrase into it; use it as a context manager.

    The performer sends like the bridge does: its phrase is a schedule.

    Args:
        engine: the model.
        phrase: a MIDI file; the notes that begin in its first ``phrase_s`` seconds are played.
        settings: of the bridge; ``answer_s`` is how long the answer lasts.
        port: ``virtual`` takes real ports, ``memory`` none, ``auto`` what there is.
        seed: of the model's randomness.
        journal: given the seed, returns where to log the session.
        notice: called with each change of state, in one line.
    """

    def __init__(
        self,
        engine: Engine,
        phrase: Path,
        *,
        phrase_s: float,
        settings: Settings,
        port: str,
        seed: int,
        journal: Callable[[int], Journal],
        notice: Callable[[str], None],
    ) -> None:
        self._clock = MonotonicClock()
        self._phrase = opening(midifile.read(phrase), phrase_s)
        source, target, self._keyboard = _route(port)
        self.bridge = Bridge(
            engine, source, target, settings=settings, seed=seed, journal=journal, clock=self._clock, notice=notice
        )
        self._performer = Sender(self._keyboard, self._clock, lambda _: None, self.bridge.fail)
        self._length_s = self._phrase[-1].time_s + settings.silence_s + settings.answer_s + _FADE_S
        self._end_s = float("inf")

    @property
    def over(self) -> bool:
        """Whether phrase and answer have had their time."""
        return self._clock.now() >= self._end_s

    def __enter__(self) -> Demo:
        self.bridge.start()
        start_s = self._clock.now() + _COUNT_IN_S
        self._end_s = start_s + self._length_s
        for timed in self._phrase:
            self._performer.push(Scheduled(start_s + timed.time_s, timed.event))
        self._performer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._performer.finish()
        self.bridge.stop()
        self._keyboard.close()


def _route(port: str) -> tuple[InputPort, OutputPort, OutputPort]:
    """Return the bridge's input and output, and the performer's output into it."""
    if port != "memory":
        try:
            return rtmidi.MidiSystem().loop()
        except PortError:
            if port == "virtual":
                raise
    keyboard = MemoryPort("memory in")
    return keyboard, MemoryPort("memory out"), keyboard
