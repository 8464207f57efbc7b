"""``musebridge prepare``: MIDI files to a corpus."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from musebridge.cli.common import FOLDER, console, progress, say

if TYPE_CHECKING:
    pass


@click.command()
@click.argument("midi_dir", type=FOLDER)
@click.option("-o", "--out", required=True, type=FOLDER, help="The corpus folder to write.")
@click.option("--licence", default="", help="Licence of the MIDI files, passed on to models trained on them.")
@click.option("--workers", type=click.IntRange(1), help="Processes; default one for each core.")
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
    for mend in card["mended"]:
        say(f"mended {mend['file']}: {mend['what']}")
    strangers = [skip for skip in card["skipped"] if skip["reason"] == corpora.NOT_NAMED]
    for skip in card["skipped"]:
        if skip not in strangers:
            say(f"skipped {skip['file']}: {skip['reason']}")
    if strangers:
        kinds = Counter(Path(skip["file"]).suffix or "no suffix" for skip in strangers)
        told = ", ".join(f"{n} of {kind}" for kind, n in kinds.most_common(9))
        say(f"passed over {len(strangers)} files not named {', '.join(corpora.SUFFIXES)}: {told}")
    used = sum(row["files"] for row in card["splits"].values())
    say(f"{card['found']} files found: {used} used, {len(card['skipped'])} passed over, {len(card['mended'])} mended")
