"""``musebridge replay``: play a recorded session again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from musebridge.cli.common import FILE, MODEL, PRESET, say
from musebridge.errors import ReplayError

if TYPE_CHECKING:
    pass


@click.command()
@click.argument("log", type=FILE)
@click.option("-o", "--out", type=FILE, help="Also write the session's music to this .mid.")
@PRESET
@MODEL
def replay(log: Path, out: Path | None, preset_name: str, model: Path | None) -> None:
    """Replay a recorded session on its own time, and check that it comes out the same."""
    from musebridge import midifile
    from musebridge.artifact import fingerprint
    from musebridge.bridge.app import journal
    from musebridge.bridge.app.preset import load
    from musebridge.bridge.inference.engine import OnnxEngine

    played = load(preset_name, model).model
    now, then = journal.replay(log, OnnxEngine(played), model=fingerprint(played))
    if now != then:
        first = next((i for i, pair in enumerate(zip(now, then, strict=False)) if pair[0] != pair[1]), len(then))
        raise ReplayError(f"{log}: differs from message {first + 1} of {len(then)} on; was the program the same?")
    say(f"{log}: {len(now)} messages, every one the same and at the same time")
    if out:
        midifile.write(out, journal.tracks(log))
        say(f"wrote {out}")
