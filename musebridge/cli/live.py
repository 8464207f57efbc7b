"""What the commands share that open a bridge: its log, its end, and what to say of it."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from musebridge.cli.common import say
from musebridge.errors import ConfigError, MuseBridgeError

if TYPE_CHECKING:
    from musebridge.bridge.app.bridge import Bridge
    from musebridge.bridge.app.journal import Journal
    from musebridge.bridge.app.osc_server import Address
    from musebridge.bridge.app.preset import Preset
    from musebridge.events import Timed


def journal_of(path: Path, preset: Preset) -> Callable[[int], Journal]:
    """Return what opens a session's log, once its seed is known."""
    from musebridge.artifact import fingerprint
    from musebridge.bridge.app.journal import Journal

    return lambda seed: Journal(
        path, seed=seed, mode=preset.mode, settings=preset.settings, model=fingerprint(preset.model)
    )


def report(bridge: Bridge) -> dict[str, list[Timed]]:
    """Say what happened, and write the log's music beside it; fail if the bridge did not end of its own will."""
    from musebridge import midifile
    from musebridge.bridge.app import journal

    tracks: dict[str, list[Timed]] = {}
    if bridge.journal:
        tracks = journal.tracks(bridge.journal.path)
        midi = bridge.journal.path.with_suffix(".mid")
        midifile.write(midi, tracks)
        say(f"wrote {midi}")
        say(f"wrote {bridge.journal.path}")
    say(bridge.stats.summary())
    if bridge.failure:
        raise MuseBridgeError(f"the bridge had to end: {bridge.failure}")
    return tracks


@contextmanager
def interruptible(ended: threading.Event) -> Iterator[None]:
    """Let Ctrl-C and a polite kill set ``ended`` instead of raising in the middle of something."""
    # A signal may interrupt the thread that holds the event's own lock, so another one sets it.
    asked: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def pass_on() -> None:
        if asked.get():
            ended.set()

    messenger = threading.Thread(target=pass_on, name="signals", daemon=True)
    messenger.start()
    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = [signal.signal(number, lambda *_: asked.put(True)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, previous, strict=True):
            signal.signal(number, handler)
        asked.put(False)
        messenger.join()


@contextmanager
def panel_beside(bridge: Bridge, page: Address | None, *, opens: bool) -> Iterator[None]:
    """Run a panel for a bridge in a process of its own, if one is wanted; the bridge plays on without it."""
    if page is None:
        yield
        return
    from musebridge.bridge.app.osc_server import address_text

    if bridge.osc is None:
        raise ConfigError("the panel speaks OSC with the bridge; leave out --osc off")
    places = ["--bridge", address_text(bridge.osc.address), "--panel", address_text(page)]
    command = [sys.executable, "-m", "musebridge", "panel", *places, "--beside", *(() if opens else ("--no-open",))]
    # Ctrl-C is for the bridge, which then ends the panel. However the bridge ends, the panel sees its pipe close.
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=os.name == "posix") as process:
        try:
            yield
        finally:
            process.terminate()
