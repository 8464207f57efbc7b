"""``musebridge clip``: the last answer of a recorded session, into the DAW."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from musebridge.cli.common import say
from musebridge.errors import ConfigError, ReplayError


@click.command()
@click.argument("log", type=click.Path(path_type=Path))
@click.option(
    "--to", "target", type=click.Choice(["live", "reaper", "file"]), default="file", show_default=True, help="Where to."
)
@click.option("--track", default="", help="In Live, the track by name or number; default the selected one.")
@click.option(
    "--grid",
    default="off",
    show_default=True,
    help="Notes fall on 8, 12, 16 or 24 to a whole note, on Live's launch grid (launch), or stay (off).",
)
@click.option("--grid-strength", type=click.FloatRange(0, 100), default=100.0, show_default=True, help="In per cent.")
@click.option("--bpm", type=click.FloatRange(20, 400), help="Tempo of the file, where the answer kept to none.")
@click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), help="The file; default beside the log.")
def clip(
    log: Path, target: str, track: str, grid: str, grid_strength: float, bpm: float | None, out: Path | None
) -> None:
    """Write a recorded session's last answer as a clip.

    LOG is what `musebridge serve --record` wrote, or its folder: then the newest.
    """
    from musebridge import midifile
    from musebridge.bridge.app import journal
    from musebridge.bridge.app.clips import writer_to
    from musebridge.bridge.core.settings import Settings

    launch = grid == "launch"
    if launch and target != "live":
        raise ConfigError("--grid launch is Live's launch grid; give --to live, or 8, 12, 16 or 24")
    settings = replace(Settings(), grid="off" if launch else grid, grid_strength=grid_strength)
    path = _newest(log) if log.is_dir() else log
    answers = journal.answers(path)
    if not answers:
        raise ReplayError(f"{path}: has no answer; play a phrase and let the model answer")
    if write := writer_to(target, track, launch=launch):
        say(write(answers[-1], settings.lines))
        return
    made = answers[-1].clip(bpm or 0.0)
    lines = replace(settings.lines, bar_beats=made.bar_beats) if settings.lines else None
    made, out = made.quantised(lines), out or path.with_name(f"{path.stem}-answer.mid")
    midifile.write(out, {"answer": made.timed()}, bpm=made.bpm, bar_beats=made.bar_beats)
    say(f"wrote {out}: {len(made.notes)} notes, bars of {made.bar_beats:g} beats at {made.bpm:g} bpm")


def _newest(folder: Path) -> Path:
    logs = sorted(folder.glob("*.jsonl"), key=lambda path: (path.stat().st_mtime, path.name))
    if not logs:
        raise ReplayError(f"{folder}: has no log; record one with musebridge serve --record {folder}")
    return logs[-1]
