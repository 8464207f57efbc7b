"""``musebridge bench ablation`` and ``scaling``: what a generator's shape is worth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from musebridge.cli.common import CORPUS, FOLDER, command_line, say

if TYPE_CHECKING:
    from musebridge.benchmarks.study import Trial

STUDY = click.option(
    "-o", "--out", type=FOLDER, default=Path("out/study"), show_default=True, help="Folder for trials and tables."
)


@click.command("ablation")
@CORPUS
@click.option("--width", type=click.IntRange(128), default=256, show_default=True, help="Width of both generators.")
@click.option("--tokens", type=click.IntRange(1), default=500_000, show_default=True, help="Tokens in each training.")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True)
@STUDY
def bench_ablation(corpus_dir: Path, width: int, tokens: int, seeds: int, out: Path) -> None:
    """Train the reference and the default generator alike, and compare them."""
    from musebridge.benchmarks import study

    _study(study.ablation(width, tokens, seeds), corpus_dir, out / "ablation.md", study.ablation_page)


@click.command("scaling")
@CORPUS
@click.option("--width", "widths", type=click.IntRange(128), multiple=True, default=(256, 512, 768), show_default=True)
@click.option("--flops", "budgets", type=float, multiple=True, default=(2e13, 8e13), show_default=True)
@STUDY
def bench_scaling(corpus_dir: Path, widths: tuple[int, ...], budgets: tuple[float, ...], out: Path) -> None:
    """Train several sizes with the same arithmetic, and compare them."""
    from musebridge.benchmarks import study

    _study(study.scaling(widths, budgets), corpus_dir, out / "scaling.md", study.scaling_page)


def _study(
    trials: list[Trial], corpus_dir: Path, page: Path, write_page: Callable[[list[dict[str, Any]], str], str]
) -> None:
    from musebridge.benchmarks import study
    from musebridge.training.data import corpus

    rows = []
    for row in study.run(trials, corpus.load(corpus_dir), page.parent):
        say(f"{row['name']}, width {row['width']}, seed {row['seed']}: NLL {row['nll']:.4f}, {row['seconds']:.0f} s")
        rows.append(row)
    page.write_text(write_page(rows, command_line()), encoding="utf-8")
    say(f"wrote {page}")
