"""``musebridge train``: both phases of training, and the systems of a band."""

from __future__ import annotations

import math
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from musebridge.cli.common import CORPUS, FILE, FOLDER, command_line, console, say, stages, trained_discriminator_of
from musebridge.errors import ConfigError

if TYPE_CHECKING:
    from musebridge.training.pretraining import trainer


def _budget(context: click.Context, option: click.Parameter, text: str) -> dict[str, float]:
    """Parse ``40M`` into tokens and ``90s``, ``100m``, ``2h`` into seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kMGsmh])", text.strip())
    if not match:
        raise ConfigError(f"budget must be tokens (500k, 40M, 1G) or time (90s, 100m, 2h), found {text!r}")
    amount, unit = float(match[1]), match[2]
    scale = {"k": 1e3, "M": 1e6, "G": 1e9, "s": 1.0, "m": 60.0, "h": 3600.0}[unit]
    return {"tokens": int(amount * scale)} if unit in "kMG" else {"seconds": amount * scale}


@click.command()
@CORPUS
@click.option("--run", "run_dir", required=True, type=FOLDER, help="Folder of the run; the same command resumes it.")
@click.option(
    "--budget", required=True, help="How long: tokens (40M) or training time (90s, 100m, 2h).", callback=_budget
)
@click.option("--phase", type=click.Choice(["pretrain", "adversarial", "band"]), default="pretrain", show_default=True)
@click.option("--config", "config_file", type=FILE, help="TOML; see training/recipes for the tables of each phase.")
@click.option(
    "--mix",
    type=(FOLDER, click.FloatRange(0, 1, min_open=True, max_open=True)),
    metavar="CORPUS SHARE",
    multiple=True,
    help="Take this share of the windows from another corpus; may be repeated.",
)
@click.option("--init", type=click.Path(path_type=Path), help="Begin with these weights instead of random ones.")
@click.option(
    "--discriminator",
    "trained",
    type=click.Path(path_type=Path),
    help="Take this discriminator as it is, or, if trained on another generator than --init, train it further: a run, "
    "its discriminator.safetensors, or an exported .onnx, whose weights are rounded.",
)
@click.option("--tensorboard", is_flag=True, help="Write TensorBoard events into the run's folder.")
@click.option(
    "--compile/--no-compile", default=None, help="Compile training steps and sampling; default where a C++ compiler is."
)
def train(
    corpus_dir: Path,
    run_dir: Path,
    budget: dict[str, float],
    phase: str,
    config_file: Path | None,
    mix: tuple[tuple[Path, float], ...],
    init: Path | None,
    trained: Path | None,
    tensorboard: bool,
    compile: bool | None,
) -> None:
    """Train the generator on a prepared corpus."""
    from musebridge.config import read_toml
    from musebridge.training.compute import malloc
    from musebridge.training.compute.compiler import can_compile, cxx

    compiles = can_compile() if compile is None else compile
    if compile is None and not compiles:
        say(f"no C++ compiler ({cxx()}) is here: training goes on without compiling, more slowly")
    malloc.keep_freed()
    tables = read_toml(config_file) if config_file else {}
    if phase == "adversarial":
        if mix or tensorboard or init is None:
            raise ConfigError("--phase adversarial needs --init, and knows neither --mix nor --tensorboard")
        _fine_tune(corpus_dir, run_dir, budget, tables, init, trained, compiles)
        return
    if phase == "band":
        if mix or tensorboard or init or trained:
            raise ConfigError("--phase band knows neither --mix, --tensorboard, --init nor --discriminator")
        _train_band(corpus_dir, run_dir, budget, tables)
        return
    if trained:
        raise ConfigError("--discriminator is for --phase adversarial")
    if unknown := set(tables) - {"generator", phase}:
        raise ConfigError(f"{config_file}: unknown table {sorted(unknown)[0]!r}; known are generator and {phase}")
    _pretrain(corpus_dir, run_dir, budget, tables, mix, init, tensorboard, compiles)


def _pretrain(
    corpus_dir: Path,
    run_dir: Path,
    budget: dict[str, float],
    tables: dict[str, Any],
    mix: tuple[tuple[Path, float], ...],
    init: Path | None,
    with_tensorboard: bool,
    compile: bool,
) -> None:
    """Run phase 1; say what each validation found."""
    from musebridge.training.data import corpus
    from musebridge.training.pretraining import tensorboard, trainer

    mixed = [(corpus.load(folder), share) for folder, share in mix]
    run = trainer.begin(corpus.load(corpus_dir), run_dir, tables, budget, mixed=mixed, init=init, compile=compile)
    console.quiet = not run.distributed.is_main  # of the processes that torchrun started, one talks
    with (
        stages() as show,
        _ended_between_steps(show) as tell,
        tensorboard.opened(run_dir, wanted=with_tensorboard and run.distributed.is_main) as curves,
    ):

        def on_step(progress: trainer.Progress) -> None:
            tell(_line(progress), run.fraction)
            curves.step(progress)

        def on_validation(progress: trainer.Progress) -> None:
            say(f"{_line(progress)}  validation {progress.validation_nll:.4f}")
            curves.validation(progress)

        run.run(command_line(), on_step, on_validation)
    say(f"{run_dir}: {run.progress.tokens:,} tokens, validation NLL {run.progress.validation_nll:.4f}")


def _train_band(folder: Path, run_dir: Path, budget: dict[str, float], tables: dict[str, Any]) -> None:
    """Train a system of a band on a folder of MIDI files, for the steps of its recipe or until the budget ends."""
    from musebridge.training.band.trainer import BandTrainer

    if "seconds" not in budget:
        raise ConfigError("--phase band has its steps in the recipe; give --budget as time (90s, 100m, 2h)")
    with stages() as show, _ended_between_steps(show) as tell:
        run = BandTrainer(folder, run_dir, tables, lambda share: tell("reading", share))
        run.train(
            budget["seconds"],
            lambda step, figures: tell(
                f"step {step:,}  " + "  ".join(f"{k} {v:.3f}" for k, v in figures.items()), step / run.config.steps
            ),
        )
    say(f"{run_dir}: {run.step:,} steps of {run.config.steps:,}")


def _line(progress: trainer.Progress) -> str:
    return (
        f"step {progress.step:,}  {progress.tokens / 1e6:.1f} M tokens  "
        f"{progress.tokens_per_s:,.0f}/s  NLL {progress.train_nll:.3f}"
    )


def _fine_tune(
    corpus_dir: Path,
    run_dir: Path,
    budget: dict[str, float],
    tables: dict[str, Any],
    init: Path,
    trained: Path | None,
    compile: bool,
) -> None:
    """Run phase 2; say how good the discriminator is, and what each measurement found."""
    from musebridge.training.adversarial import trainer
    from musebridge.training.data import corpus

    with stages() as show, _ended_between_steps(show) as tell:
        run = trainer.begin(
            corpus.load(corpus_dir),
            run_dir,
            init,
            tables,
            budget,
            command=command_line(),
            trained=trained_discriminator_of(trained) if trained else None,
            compile=compile,
        )
        run.prepare(tell)
        if run.prepared.discriminator_trainer.history:
            found = run.prepared.discriminator_trainer.report()
            say(
                f"the discriminator on {found.pairs} pairs of {found.pieces} held-out pieces: AUROC {found.auroc}, "
                f"macro-F1 {found.macro_f1}, MCC {found.mcc}"
            )
        if run.prepared.critic_trainer:
            # By the weights that are kept.
            explained = max(row["explained"] for row in run.prepared.critic_trainer.history)
            say(f"the critic explains {explained:.0%} of the verdicts' variance")
        run.run(
            lambda p: tell(f"step {p.step:,}  loss {p.loss:.4f}", run.fraction),
            lambda row: say(_measured(row)),
        )
    say(f"{run_dir}: the weights of step {run.best_row['step']:,}, two-sample AUROC {run.best_row['judge_auroc']:.3f}")


def _measured(row: dict[str, float]) -> str:
    """Return a measurement of phase 2 as a line; before the first step it has neither loss nor verdict."""
    figures = (("two-sample AUROC", "judge_auroc", 3), ("NLL", "nll", 4), ("distinct-4", "distinct_4", 3))
    means = (("loss", "loss", 4), ("verdict", "verdict", 2))
    known = [f"{name} {row[key]:.{digits}f}" for name, key, digits in figures + means if math.isfinite(row[key])]
    return f"step {row['step']:,}: {', '.join(known)}{', taken' if row['taken'] else ''}"


@contextmanager
def _ended_between_steps(show: Callable[[str, float], None]) -> Iterator[Callable[[str, float], None]]:
    """Let Ctrl-C and SIGTERM end a training where it tells of its progress, so what is saved is of whole steps.

    Asked twice, it ends at once. What is ignored, as Ctrl-C is by what runs in the background, stays so.
    """
    asked: list[int] = []

    def ask(number: int, frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    def tell(stage: str, share: float) -> None:
        show(stage, share)
        if asked:
            raise KeyboardInterrupt

    heeded = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
    before = [signal.signal(number, ask) for number in heeded]
    try:
        yield tell
    finally:
        for number, handler in zip(heeded, before, strict=True):
            signal.signal(number, handler)
