"""Answers become clips: where they are written, and the thread that does it while the bridge plays."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib import resources
from pathlib import Path
from queue import Empty, SimpleQueue

import click

from musebridge.bridge.app.ableton import Ableton
from musebridge.bridge.app.threads import Worker
from musebridge.bridge.core.clip import Answered, AnswerRecorder, Clip, Place
from musebridge.bridge.core.quantise import Lines
from musebridge.bridge.core.scheduler import Sent
from musebridge.errors import ConfigError, MuseBridgeError, PortError
from musebridge.files import replacing

TARGETS = ("off", "live", "reaper")
REAPER_FOLDER = Path(click.get_app_dir("musebridge")) / "reaper"
"""Where the ReaScript is, and the clip that it inserts."""
_PATIENCE_S = 0.1
_AFTER_S = 0.2

Write = Callable[[Answered, Lines | None], str]
"""Writes an answer as a clip, on lines if there are any; returns what to say of it."""


def to_live(
    answered: Answered, lines: Lines | None, *, track: str = "", launch: bool = False, ableton: Ableton | None = None
) -> str:
    """Write an answer into the next free slot of a track of the set that is open in Live.

    Args:
        answered: the answer.
        lines: what its notes fall on.
        track: its name, or its number from 1; empty for the one that is selected.
        launch: notes fall on the set's launch quantisation instead, where that is finer than a bar.
        ableton: an open connection; None opens one.

    Raises:
        PortError: Live does not answer, or has no such track.
    """
    if ableton is None:
        with Ableton() as opened:
            return to_live(answered, lines, track=track, launch=launch, ableton=opened)
    live = ableton.read()
    if launch:
        lines = Lines(per_beat=live.launch_per_beat) if live.launch_per_beat else None
    clip = _on(answered.clip(live.bpm, live.bar_beats), lines)
    where, slot = ableton.write(clip, track)
    scale = f", in {live.scale}" if live.scale else ""
    return f"{_size(clip)} in slot {slot + 1} of track {where + 1} of a set at {live.bpm:g} bpm{scale}"


def to_reaper(answered: Answered, lines: Lines | None, *, folder: Path = REAPER_FOLDER) -> str:
    """Put an answer where the ReaScript finds it, and the ReaScript beside it.

    Raises:
        PortError: the folder cannot be written.
    """
    clip = _on(answered.clip(), lines)
    script = folder / "musebridge_clip.py"
    source = resources.files("musebridge.bridge.plugin") / "reaper_clip.py"
    for path, text in (
        (folder / "musebridge-clip.json", json.dumps(clip.as_table(), indent=1)),
        (script, source.read_text(encoding="utf-8")),
    ):
        with replacing(path, PortError) as half:
            half.write_text(text, encoding="utf-8")
    return f"{_size(clip)} for REAPER; run {script} there"


def writer_to(target: str, track: str = "", *, launch: bool = False) -> Write | None:
    """Return what writes answers to one of :data:`TARGETS`; None is off."""
    if target == "live":
        return partial(to_live, track=track, launch=launch)
    return to_reaper if target == "reaper" else None


class ClipWriter(Worker):
    """Writes answers as clips, each once it has sounded or when asked; a thread, since DAWs and disks make it wait.

    Args:
        target: where each answer goes: one of :data:`TARGETS`.
        track: the track there; empty is the selected one.
        lines: what notes fall on, asked for each time.
        now: the present, in monotonic seconds.
        lookahead_s: how far ahead the model writes, asked for each time.
        notice: called with what was written.
        on_error: called with why one could not be.
        on_answer: called with each answer once it has sounded.
        on_failure: called if the thread cannot go on.
    """

    def __init__(
        self,
        target: str,
        track: str,
        *,
        lines: Callable[[], Lines | None],
        now: Callable[[], float],
        lookahead_s: Callable[[], float],
        notice: Callable[[str], None],
        on_error: Callable[[MuseBridgeError], None],
        on_failure: Callable[[str, Exception], None],
        on_answer: Callable[[Answered], None] = lambda answered: None,
    ) -> None:
        super().__init__("clips", on_failure)
        self._target, self._track = target, track
        self._lines, self._now, self._lookahead_s = lines, now, lookahead_s
        self._notice, self._on_error, self._on_answer = notice, on_error, on_answer
        self._news: SimpleQueue[Place | Sent | float | str] = SimpleQueue()
        self._recorder, self._over_s = AnswerRecorder(), 0.0
        self._latest: Answered | None = None

    def tell(self, news: Place | Sent | float) -> None:
        """Take that an answer begins, what was sent, or when an answer was written to its end; from any thread."""
        self._news.put(news)

    def ask(self, target: str | None) -> None:
        """Let the last answer that has sounded be written, to a target or where each goes; from any thread.

        Raises:
            ConfigError: there is no such target, or none was chosen.
        """
        target = target or self._target
        if target not in TARGETS[1:]:
            raise ConfigError(f"clip must be one of {', '.join(TARGETS[1:])}, found {target!r:.40}")
        self._news.put(target)

    def turn(self) -> None:
        """Hear what is new, and write what has sounded."""
        with suppress(Empty):
            self._hear(self._news.get(timeout=_PATIENCE_S))
        self._write_all(self._recorder.take_older())
        if 0 < self._over_s < self._now() and self._recorder.is_silent:
            self._over_s = 0.0
            self._write_all(self._recorder.take())

    def stop(self) -> None:
        """End the thread, and write what is left."""
        super().stop()
        while not self._news.empty():
            self._hear(self._news.get())
        self._write_all(self._recorder.take())

    def _hear(self, news: Place | Sent | float | str) -> None:
        match news:
            case str():
                self._write_to(news, self._latest)
            case Place():
                self._recorder.begin(news)
                self._over_s = 0.0
            case Sent():
                self._recorder.sent(news)
            case _:
                self._over_s = news + self._lookahead_s() + _AFTER_S

    def _write_all(self, answers: list[Answered]) -> None:
        for answered in answers:
            self._latest = answered
            self._on_answer(answered)
            self._write_to(self._target, answered)

    def _write_to(self, target: str, answered: Answered | None) -> None:
        write = writer_to(target, self._track)
        try:
            if answered is None:
                raise ConfigError("no answer has sounded yet that could be a clip")
            if write:
                self._notice(write(answered, self._lines()))
        except MuseBridgeError as error:
            self._on_error(error)


def _on(clip: Clip, lines: Lines | None) -> Clip:
    return (
        clip
        if lines is None
        else clip.quantised(Lines(per_beat=lines.per_beat, strength=lines.strength, bar_beats=clip.bar_beats))
    )


def _size(clip: Clip) -> str:
    bars = clip.length / clip.bar_beats
    return f"clip: {len(clip.notes)} notes in {bars:g} bar{'s' * (bars != 1)}"
