"""``musebridge prepare``: MIDI files to a corpus."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from musebridge.cli.common import FOLDER, console, progress, say

if TYPE_CHECKING:
    pass


@click.command()
@click.argument("midi_dir", type=FOLDER)
@click.option("-o", "--out", required=True, type=FOLDER, help="The corpus folder to write.")
@click.option("--licence", default="", help="Licence of the MIDI files; models trained on them carry it.")
@click.option("--workers", type=click.IntRange(1), help="Processes; default one a core.")
def prepare(midi_dir: Path, out: Path, licence: str, workers: int | None) -> None:
    """Turn a folder of MIDI files into a packed token corpus."""
    from rich.table import Table

    from musebridge.training.data import prepare as corpora

    with progress("Reading MIDI") as move:
        card: Any = corpora.prepare(midi_dir, out, licence=licence, workers=workers, on_progress=move)
    table = Table("split", "files", "notes", "tokens", "hours", title=str(out))
    for split, row in card["splits"].items():
        table.add_row(split, *(f"{row[k]:,}" for k in ("files", "notes", "tokens")), f"{row['hours']:.2f}")
    console.print(table)
    for skip in card["skipped"]:
        say(f"skipped {skip['file']}: {skip['reason']}")
