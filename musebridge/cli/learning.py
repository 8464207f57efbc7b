"""The commands that learn: from MIDI files to a model that can be played."""

from __future__ import annotations

import math
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from musebridge.cli.common import CHECKPOINT, CORPUS, FILE, FOLDER, command_line, console, progress, say
from musebridge.errors import ConfigError

if TYPE_CHECKING:
    from musebridge.training.adversarial.discriminator_trainer import TrainedDiscriminator
    from musebridge.training.pretraining import trainer


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
@click.option("--run", "run_dir", required=True, type=FOLDER, help="Folder of the run; it resumes by itself.")
@click.option(
    "--budget", required=True, help="How long: tokens (40M) or training time (90s, 100m, 2h).", callback=_budget
)
@click.option("--phase", type=click.Choice(["pretrain", "adversarial"]), default="pretrain", show_default=True)
@click.option("--config", "config_file", type=FILE, help="TOML; see training/recipes for the tables of each phase.")
@click.option(
    "--mix",
    type=(FOLDER, click.FloatRange(0, 1, min_open=True, max_open=True)),
    metavar="CORPUS SHARE",
    multiple=True,
    help="Take this share of the windows from another corpus; may be given again.",
)
@click.option("--init", type=click.Path(path_type=Path), help="Begin with these weights instead of random ones.")
@click.option(
    "--discriminator",
    "trained",
    type=FILE,
    help="Take this exported discriminator as it is, or, if it knows another generator than --init, train it further.",
)
@click.option("--tensorboard", is_flag=True, help="Write TensorBoard events into the run's folder.")
@click.option("--compile/--no-compile", default=True, show_default=True, help="Compile training steps and sampling.")
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
    compile: bool,
) -> None:
    """Train the generator on a prepared corpus."""
    from musebridge.config import read_toml
    from musebridge.training.compute import malloc

    malloc.keep_freed()
    tables = read_toml(config_file) if config_file else {}
    if phase == "adversarial":
        if mix or tensorboard or init is None:
            raise ConfigError("--phase adversarial needs --init, and knows neither --mix nor --tensorboard")
        _fine_tune(corpus_dir, run_dir, budget, tables, init, trained, compile)
        return
    if trained:
        raise ConfigError("--discriminator is for --phase adversarial")
    if unknown := set(tables) - {"generator", phase}:
        raise ConfigError(f"{config_file}: unknown table {sorted(unknown)[0]!r}; known are generator and {phase}")
    _pretrain(corpus_dir, run_dir, budget, tables, mix, init, tensorboard, compile)


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
        _stages() as show,
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
    """Run phase 2; say how well the discriminator hears, and what each measurement found."""
    from musebridge.training.adversarial import trainer
    from musebridge.training.data import corpus

    if trained:
        from musebridge.export.discriminator import read_back

    with _stages() as show, _ended_between_steps(show) as tell:
        run = trainer.begin(
            corpus.load(corpus_dir),
            run_dir,
            init,
            tables,
            budget,
            command=command_line(),
            trained=read_back(trained) if trained else None,
            compile=compile,
            on_stage=tell,
        )
        if run.discriminator_trainer.history:
            found = run.discriminator_trainer.report()
            say(
                f"the discriminator on {found.pairs} pairs of {found.pieces} held-out pieces: AUROC {found.auroc}, "
                f"macro-F1 {found.macro_f1}, MCC {found.mcc}"
            )
        if run.models.critic_trainer:
            explained = max(
                row["explained"] for row in run.models.critic_trainer.history
            )  # by the weights that are kept
            say(f"the critic explains {explained:.0%} of the verdicts' variance")
        run.run(
            lambda p: tell(f"step {p.step:,}  loss {p.loss:.4f}", run.fraction),
            lambda row: say(_measured(row)),
        )
    say(f"{run_dir}: the weights of step {run.best_row['step']:,}, judge {run.best_row['judge_auroc']:.3f}")


def _measured(row: dict[str, float]) -> str:
    """Return a measurement of phase 2 as a line; before the first step it has neither loss nor verdict."""
    figures = (("judge", "judge_auroc", 3), ("NLL", "nll", 4), ("distinct-4", "distinct_4", 3))
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


@contextmanager
def _stages() -> Iterator[Callable[[str, float], None]]:
    """Show a bar with the time that passed and is left; give what names the stage and its share, 0..1."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("left"))
    with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda stage, share: bar.update(task, completed=share, description=stage)


@click.command()
@CHECKPOINT
@CORPUS
@click.option("-o", "--out", required=True, type=FOLDER, help="Folder of the report.")
@click.option("--split", type=click.Choice(["validation", "test"]), default="validation", show_default=True)
@click.option("--warm", type=click.IntRange(0), help="Context that is not scored; default half the model's.")
@click.option("--limit", type=click.IntRange(1), help="Score about this many tokens; default the whole split.")
@click.option("--continuations", type=click.IntRange(0), default=0, help="Sample this many; are they copies?")
@click.option("--noise-study", type=click.IntRange(0), default=0, metavar="WINDOWS", help="See below.")
@click.option(
    "--noise-lessons", type=click.IntRange(0), default=0, metavar="STEPS", help="Of two transformers, see below."
)
def evaluate(
    checkpoint: Path,
    corpus_dir: Path,
    out: Path,
    split: str,
    warm: int | None,
    limit: int | None,
    continuations: int,
    noise_study: int,
    noise_lessons: int,
) -> None:
    """Measure a trained generator's likelihood and write a report.

    With --noise-study, CHECKPOINT is a discriminator's folder (the folder "discriminator" in an adversarial run):
    from how much noise on velocities and time shifts does it hear that so many real windows were tampered with?
    With --noise-lessons, two transformers are taught each noise as well: one attends over time, the other over
    the batch, which was the mistake of earlier work.
    """
    from musebridge.training.data import corpus
    from musebridge.training.study import likelihood_report

    if noise_study:
        _noise_study(checkpoint, corpus_dir, out, split, noise_study, noise_lessons)
        return
    if noise_lessons:
        raise ConfigError("--noise-lessons needs --noise-study")
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

    with progress("Listening") as move:
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
            say(f"{row.name}: AUROC of the discriminator {row.discriminator.auroc}, of a fresh judge {row.fresh.auroc}")
            rows.append(row)
    say(f"wrote {noise.write_study(rows, out, command_line())}")


@click.command()
@CHECKPOINT
@CORPUS
@click.option("-o", "--out", required=True, type=FOLDER, help="Folder of the report; samples are kept there too.")
@click.option("--against", required=True, type=click.Path(path_type=Path), help="The pre-trained generator.")
@click.option("--rival", "rivals", multiple=True, metavar="NAME=CHECKPOINT", help="Another to beat; may be repeated.")
@click.option(
    "--discriminator",
    type=click.Path(exists=True, path_type=Path),
    help='Pick the best by this one: the folder "discriminator" of a run, or an exported file.',
)
@click.option("--candidates", type=click.IntRange(2), default=8, show_default=True, help="Of which it picks one.")
@click.option("--sweep", type=click.IntRange(0), default=0, metavar="WINDOWS", help="Seeds for each sampler setting.")
@click.option("--windows", type=click.IntRange(4), default=1024, show_default=True, help="Seeds to continue.")
@click.option("--samplings", type=click.IntRange(1), default=1, show_default=True, help="Continuations of each seed.")
@click.option("--split", type=click.Choice(["validation", "test"]), default="validation", show_default=True)
@click.option(
    "--limit", type=click.IntRange(1), help="Score the likelihood of so many tokens; default the whole split."
)
@click.option(
    "--seed-length",
    "--seeded",
    "seed_length",
    type=click.IntRange(1),
    default=192,
    show_default=True,
    help="Tokens of a seed.",
)
@click.option(
    "--continuation-length",
    "--continued",
    "continuation_length",
    type=click.IntRange(8),
    default=192,
    show_default=True,
    help="Tokens of a continuation.",
)
@click.option(
    "--lessons", type=click.IntRange(1), default=500, show_default=True, help="Steps of the judge's training."
)
def compare(
    checkpoint: Path,
    corpus_dir: Path,
    out: Path,
    against: Path,
    rivals: tuple[str, ...],
    discriminator: Path | None,
    candidates: int,
    sweep: int,
    windows: int,
    samplings: int,
    split: str,
    limit: int | None,
    seed_length: int,
    continuation_length: int,
    lessons: int,
) -> None:
    """Does a fine-tuned generator beat the pre-trained one? Judges that took no part in any training say.

    All continue the same seeds of pieces that chose nothing. With --sweep, the pre-trained one also plays at its best
    sampler setting, found with so many seeds of other pieces for each setting at first, and twice as many for the
    better half. An interrupted comparison keeps its samples.
    """
    from musebridge.training.data import corpus
    from musebridge.training.sampling.pairs import Window
    from musebridge.training.study import protocol
    from musebridge.training.study.comparison_report import claims, write_report
    from musebridge.training.study.note_transformer import TransformerTraining

    plan = protocol.Plan(
        fine_tuned=checkpoint,
        pretrained=against,
        rivals=_named(rivals),
        discriminator=_judge(discriminator),
        candidates=candidates,
        sweep=sweep,
        windows=windows,
        samplings=samplings,
        split=split,
        limit=limit,
        window=Window(seed_length=seed_length, continuation_length=continuation_length),
        training=TransformerTraining(steps=lessons),
    )
    with _stages() as tell:
        findings = protocol.run(plan, corpus.load(corpus_dir), out, command_line(), on_stage=tell)
    page = write_report(findings, out)
    for claim in claims(findings):
        say(f"{claim.verdict:12} {claim.claim}: {claim.measured or '–'} (wanted {claim.wanted})")
    say(f"wrote {page}")


def _judge(path: Path | None) -> Path | TrainedDiscriminator | None:
    """Read back a discriminator that was exported; a folder stays one."""
    if path is None or path.is_dir():
        return path
    from musebridge.export.discriminator import read_back

    return read_back(path)


def _named(pairs: tuple[str, ...]) -> dict[str, Path]:
    """Parse ``NAME=CHECKPOINT``."""
    named = {}
    for pair in pairs:
        name, equals, path = pair.partition("=")
        if not (name and equals and path) or name in named:
            raise ConfigError(f"rival must be NAME=CHECKPOINT, each name once, found {pair!r}")
        named[name] = Path(path)
    return named


@click.command()
@CHECKPOINT
@click.option("-o", "--out", required=True, type=FILE, help="The .onnx file to write.")
@click.option("--precision", type=click.Choice(["fp32", "fp16", "int8"]), default="int8", show_default=True)
@click.option("--corpus", "corpus_dir", type=FOLDER, help="Measure on it what the precision costs a generator.")
def export(checkpoint: Path, out: Path, precision: str, corpus_dir: Path | None) -> None:
    """Turn a trained generator into one ONNX file; checks parity before it writes.

    CHECKPOINT may be a discriminator's folder as well (the folder "discriminator" in an adversarial run).
    """
    from musebridge.artifact import DiscriminatorInfo, ModelInfo
    from musebridge.export import discriminator, graph

    with progress("Exporting and checking") as move:
        info: ModelInfo | DiscriminatorInfo
        if discriminator.is_discriminator(checkpoint):
            if corpus_dir:
                raise ConfigError(f"--corpus measures a generator's likelihood; {checkpoint} holds a discriminator")
            info = discriminator.export(checkpoint, out, precision=precision)
        else:
            info = graph.export(checkpoint, out, precision=precision, corpus=corpus_dir, on_progress=move)
        move(1)
    say(f"wrote {out}: {info.parameters:,} parameters, {info.precision}, {out.stat().st_size / 1e6:.1f} MB")
