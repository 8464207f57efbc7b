"""``musebridge demo``: a bundled performance plays, the model answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from musebridge.cli.common import FILE, FOLDER, MODEL, PRESET, SEED, console, say
from musebridge.cli.live import interruptible, journal_of, report

if TYPE_CHECKING:
    pass


@click.command()
@click.option("--seconds", type=click.FloatRange(1, 600), default=15.0, show_default=True, help="Longest answer.")
@click.option("--phrase", type=FILE, help="A .mid to play instead of the bundled performance.")
@click.option(
    "--phrase-seconds",
    type=click.FloatRange(1, 600),
    default=8.0,
    show_default=True,
    help="Seconds of the phrase to play.",
)
@click.option(
    "-o", "--out", type=FOLDER, default=Path("out"), show_default=True, help="Folder for the .mid and the .png."
)
@click.option("--port", type=click.Choice(["auto", "virtual", "memory"]), default="auto", show_default=True)
@SEED
@PRESET
@MODEL
def demo(
    seconds: float,
    phrase: Path | None,
    phrase_seconds: float,
    out: Path,
    port: str,
    seed: int,
    preset_name: str,
    model: Path | None,
) -> None:
    """Hear and see it: a built-in performer plays a phrase, and the bridge answers."""
    from musebridge.bridge.app.demo import PHRASE, Demo
    from musebridge.bridge.app.preset import load
    from musebridge.bridge.inference.engine import OnnxEngine
    from musebridge.roll import roll_lines, save_roll

    preset = load(preset_name, model)
    preset = replace(preset, settings=preset.settings.with_value("answer_s", seconds), mode="call")
    show = Demo(
        OnnxEngine(preset.model),
        phrase or PHRASE,
        phrase_s=phrase_seconds,
        settings=preset.settings,
        port=port,
        seed=seed,
        journal=journal_of(out / "demo.jsonl", preset),
        notice=say,
    )
    columns = min(88, console.width - 1)
    low = 21 + (88 - columns) // 2
    with interruptible(show.bridge.ended), show:
        say(f"the performer plays into {show.bridge.source.name}, the answer leaves {show.bridge.target.name}")
        while not show.over and not show.bridge.ended.wait(0.1):
            console.print(roll_lines(show.bridge.stats.sounding(), low=low, high=low + columns - 1))
    picture = out / "demo.png"
    tracks = report(show.bridge)
    save_roll(picture, tracks, title="MuseBridge demo")
    say(f"wrote {picture}")
    say("play with it in your browser, without any MIDI system: musebridge serve --port memory --panel")
