"""``musebridge evaluate``: a report on a generator's likelihood."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from musebridge.cli.common import CHECKPOINT, CORPUS, FOLDER, command_line, progress, say
from musebridge.errors import ConfigError

if TYPE_CHECKING:
    pass


@click.command()
@CHECKPOINT
@CORPUS
@click.option("-o", "--out", required=True, type=FOLDER, help="Folder for the report.")
@click.option("--split", type=click.Choice(["validation", "test"]), default="validation", show_default=True)
@click.option(
    "--warm", type=click.IntRange(0), help="Tokens of context before scoring begins; default half the model's."
)
@click.option("--limit", type=click.IntRange(1), help="Score about this many tokens; default the whole split.")
@click.option(
    "--continuations", type=click.IntRange(0), default=0, help="Sample this many, and compare them with real music."
)
@click.option(
    "--noise-study",
    type=click.IntRange(0),
    default=0,
    metavar="WINDOWS",
    help="Study noise on this many windows; see above.",
)
@click.option(
    "--noise-steps",
    "--noise-lessons",
    "noise_steps",
    type=click.IntRange(0),
    default=0,
    metavar="STEPS",
    help="Training steps of two transformers; see above.",
)
@click.option(
    "--bands",
    is_flag=True,
    help="CHECKPOINT is a band's run, or a folder of such; the corpus is a folder of MIDI files.",
)
@click.option("--sources", default="", help="With --bands: beginnings of paths, as in a recipe; separated by commas.")
def evaluate(
    checkpoint: Path,
    corpus_dir: Path,
    out: Path,
    split: str,
    warm: int | None,
    limit: int | None,
    continuations: int,
    noise_study: int,
    noise_steps: int,
    bands: bool,
    sources: str,
) -> None:
    """Measure a trained generator's likelihood and write a report.

    With --noise-study, CHECKPOINT is a discriminator's folder (the folder "discriminator" in an adversarial run):
    how much noise on the velocities and time shifts of real windows does it take for the discriminator to notice?
    With --noise-steps, two transformers are also trained on each noise: one attends over time, the other over
    the batch, which was the mistake of earlier work.
    """
    from musebridge.training.data import corpus
    from musebridge.training.study import likelihood_report

    if bands:
        _bands(checkpoint, corpus_dir, out, split, sources)
        return
    if noise_study:
        _noise_study(checkpoint, corpus_dir, out, split, noise_study, noise_steps)
        return
    if noise_steps:
        raise ConfigError("--noise-steps needs --noise-study")
    with progress("Scoring") as move:
        evaluation = likelihood_report.evaluate(
            checkpoint,
            corpus.load(corpus_dir),
            split=split,
            warm=warm,
            limit=limit,
            continuations=continuations,
            on_progress=move,
        )
    page = likelihood_report.write_report(evaluation, out, command_line())
    for name, scored in evaluation.splits.items():
        say(f"{name}: {scored.per_token:.4f} nats per token, {scored.per_note:.3f} per note")
    say(f"wrote {page}")


def _noise_study(folder: Path, corpus_dir: Path, out: Path, split: str, windows: int, transformer_steps: int) -> None:
    from musebridge.training.data import corpus
    from musebridge.training.sampling.pairs import Window
    from musebridge.training.study import noise

    with progress("Scoring") as move:
        rows = []
        for row in noise.study(
            folder,
            corpus.load(corpus_dir),
            split=split,
            windows=windows,
            window=Window(),
            transformer_steps=transformer_steps,
            on_progress=move,
        ):
            say(
                f"{row.name}: AUROC of the discriminator {row.discriminator.auroc}, "
                f"of a classifier trained on it {row.fresh.auroc}"
            )
            rows.append(row)
    say(f"wrote {noise.write_study(rows, out, command_line())}")


def _bands(checkpoint: Path, folder: Path, out: Path, split: str, sources: str) -> None:
    from musebridge.errors import CheckpointError
    from musebridge.training.band import leaderboard
    from musebridge.training.band.corpus import read_pieces
    from musebridge.training.band.musegan import MuseGan
    from musebridge.training.band.network import BandNetwork
    from musebridge.training.band.registry import WEIGHTS, load

    runs = (
        [checkpoint] if (checkpoint / WEIGHTS).exists() else sorted(p.parent for p in checkpoint.glob(f"*/{WEIGHTS}"))
    )
    loaded = {run.name: load(run)[0] for run in runs}
    players = {
        name: leaderboard.network_player(p) for name, p in loaded.items() if isinstance(p, BandNetwork | MuseGan)
    }
    if not players:
        raise CheckpointError(f"{checkpoint}: holds no band; train one with 'musebridge train --phase band'")
    with progress("Reading") as move:
        pieces = read_pieces(folder, [s for s in sources.split(",") if s], [split], move)
    found = leaderboard.table(leaderboard.board(leaderboard.bars_of(pieces), players))
    out.mkdir(parents=True, exist_ok=True)
    (out / "bands.md").write_text(f"`{command_line()}`\n\n{found}", encoding="utf-8")
    say(f"wrote {out / 'bands.md'}")
