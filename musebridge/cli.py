"""The command line: parse, build a config, call one function.

Heavy libraries (torch, onnxruntime, rtmidi, matplotlib) are imported inside the
commands that need them, so ``musebridge --help`` answers at once.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from musebridge import __version__
from musebridge.errors import ConfigError, MuseBridgeError, ReplayError

if TYPE_CHECKING:
    from musebridge.benchmarks.measure import Row
    from musebridge.benchmarks.study import Trial
    from musebridge.bridge.journal import Journal
    from musebridge.bridge.ports import InputPort, OutputPort
    from musebridge.bridge.preset import Preset
    from musebridge.bridge.server import Bridge
    from musebridge.events import Timed
    from musebridge.training import pretrain

console = Console(highlight=False)
FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)
PRESET = click.option("--preset", "preset_name", default="call", show_default=True, help="A name, or a .toml file.")
MODEL = click.option("--model", type=FILE, help="Another .onnx model than the preset's.")
SEED = click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the randomness.")
BACKEND = click.option(
    "--backend", type=click.Choice(["auto", "jack", "alsa", "coremidi", "winmm"]), default="auto", show_default=True
)
OSC = click.option("--osc", default="127.0.0.1:9123", show_default=True, metavar="HOST:PORT", help="Or off.")
_EXTRA_OF = {
    "torch": "train",
    "sklearn": "train",
    "safetensors": "train",
    "onnxruntime": "cpu",
    "onnx": "export",
    "muspy": "evaluate",
    "aalink": "link",
}


class _Group(click.Group):
    """A command group that reports a user's mistake as one line, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except MuseBridgeError as error:
            raise click.ClickException(str(error)) from error
        except ModuleNotFoundError as error:
            extra = _EXTRA_OF.get((error.name or "").partition(".")[0])
            if extra is None:
                raise
            raise click.ClickException(
                f"{error.name} is not installed; install it with: pip install 'musebridge[{extra}]'"
            ) from error


@click.group(cls=_Group)
@click.version_option(__version__)
def main() -> None:
    """Play a phrase, and a transformer answers as live MIDI."""


@main.command()
@click.option("--port", default="virtual", show_default=True, help="virtual, memory, or part of a port's name.")
@click.option("--in", "in_name", help="Another existing port to listen to.")
@click.option("--out", "out_name", help="Another existing port to play to.")
@OSC
@click.option("--link", is_flag=True, help="Bars follow Ableton Link (pip install 'musebridge[link]').")
@click.option("--record", type=FOLDER, help="Write the session here as .mid and .jsonl.")
@click.option("--mode", help="call, duet, bars or manual; default the preset's.")
@click.option("--seed", type=click.IntRange(0), help="Of the randomness; default a fresh one.")
@BACKEND
@PRESET
@MODEL
def serve(
    port: str,
    in_name: str | None,
    out_name: str | None,
    osc: str,
    link: bool,
    record: Path | None,
    mode: str | None,
    seed: int | None,
    backend: str,
    preset_name: str,
    model: Path | None,
) -> None:
    """Listen to a MIDI port and answer live, until Ctrl-C."""
    from musebridge.bridge.clock import date_and_time
    from musebridge.bridge.engine import OnnxEngine
    from musebridge.bridge.server import Bridge
    from musebridge.bridge.settings import MODES

    preset = _preset(preset_name, model)
    if mode and mode not in MODES:
        raise ConfigError(f"mode must be one of {', '.join(MODES)}, found {mode!r}")
    preset = replace(preset, mode=mode or preset.mode)
    address = _address(osc)
    engine = OnnxEngine(preset.model)
    log = record / f"musebridge-{date_and_time()}.jsonl" if record else None
    bridge = Bridge(
        engine,
        *_ports(in_name or port, out_name or port, backend),
        settings=preset.settings,
        mode=preset.mode,
        seed=seed,
        osc=address,
        link=link,
        journal=_journal(log, preset) if log else None,
        notice=_say,
    )
    with _interruptible(bridge.ended), bridge:
        _say(f"listening on {bridge.source.name}, answering on {bridge.target.name}, {bridge.osc_name}; Ctrl-C ends")
        bridge.ended.wait()
    _report(bridge)


@main.command()
@click.option("--seconds", type=click.FloatRange(1, 600), default=15.0, show_default=True, help="Longest answer.")
@click.option("--phrase", type=FILE, help="A .mid to play instead of the bundled performance.")
@click.option("--phrase-seconds", type=click.FloatRange(1, 600), default=8.0, show_default=True)
@click.option("-o", "--out", type=FOLDER, default=Path("out"), show_default=True, help="Where .mid and .png go.")
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
    """Hear and see it: a built-in performer plays a phrase, the bridge answers."""
    from musebridge.bridge.demo import PHRASE, Demo
    from musebridge.bridge.engine import OnnxEngine
    from musebridge.roll import roll_lines, save_roll

    preset = _preset(preset_name, model)
    preset = replace(preset, settings=preset.settings.with_value("answer_s", seconds), mode="call")
    show = Demo(
        OnnxEngine(preset.model),
        phrase or PHRASE,
        phrase_s=phrase_seconds,
        settings=preset.settings,
        port=port,
        seed=seed,
        journal=_journal(out / "demo.jsonl", preset),
        notice=_say,
    )
    columns = min(88, console.width - 1)
    low = 21 + (88 - columns) // 2
    with _interruptible(show.bridge.ended), show:
        _say(f"the performer plays into {show.bridge.source.name}, the answer leaves {show.bridge.target.name}")
        while not show.over and not show.bridge.ended.wait(0.1):
            console.print(roll_lines(show.bridge.stats.sounding(), low=low, high=low + columns - 1))
    picture = out / "demo.png"
    tracks = _report(show.bridge)
    save_roll(picture, tracks, title="MuseBridge demo")
    _say(f"wrote {picture}")


@main.command("continue")
@click.argument("seed_file", metavar="SEED.mid", type=FILE)
@click.option("-o", "--out", required=True, type=FILE, help="The .mid to write: seed and continuation, two tracks.")
@click.option("--seconds", type=click.FloatRange(0.1, 3600), default=20.0, show_default=True)
@click.option("--opening", "opening_s", type=click.FloatRange(0.1), help="Seconds of the seed to take; default all.")
@click.option("--roll", type=FILE, help="Draw a piano roll of both into this .png.")
@SEED
@PRESET
@MODEL
def continue_(
    seed_file: Path,
    out: Path,
    seconds: float,
    opening_s: float | None,
    roll: Path | None,
    seed: int,
    preset_name: str,
    model: Path | None,
) -> None:
    """Continue a MIDI file."""
    import numpy as np
    from rich.progress import Progress

    from musebridge import midifile
    from musebridge.bridge.continuation import continue_piece, opening
    from musebridge.bridge.engine import OnnxEngine

    preset = _preset(preset_name, model)
    events = midifile.read(seed_file)
    if opening_s:
        events = opening(events, opening_s)
    with Progress(console=console) as bar:
        task = bar.add_task("Writing music", total=seconds)
        written = continue_piece(
            OnnxEngine(preset.model),
            events,
            seconds=seconds,
            settings=preset.settings,
            rng=np.random.default_rng(seed),
            on_progress=lambda done_s: bar.update(task, completed=done_s),
        )
    parts = {"seed": events, "continuation": written}
    midifile.write(out, parts)
    if roll:
        from musebridge.roll import save_roll

        save_roll(roll, parts, title=seed_file.stem)
    _say(f"wrote {out}: {seconds:g} s, {len(written) // 2} notes, follow {seed_file.name}")


@main.command()
@click.argument("log", type=FILE)
@click.option("-o", "--out", type=FILE, help="Write the session's music to this .mid as well.")
@PRESET
@MODEL
def replay(log: Path, out: Path | None, preset_name: str, model: Path | None) -> None:
    """Play a recorded session again on its own time; does it come out the same?"""
    from musebridge import midifile
    from musebridge.bridge import journal
    from musebridge.bridge.engine import OnnxEngine

    preset = _preset(preset_name, model)
    now, then = journal.replay(log, OnnxEngine(preset.model), model=_fingerprint(preset.model))
    if now != then:
        first = next((i for i, pair in enumerate(zip(now, then, strict=False)) if pair[0] != pair[1]), len(then))
        raise ReplayError(f"{log}: differs from message {first + 1} of {len(then)} on; was the program the same?")
    _say(f"{log}: {len(now)} messages, every one the same and at the same time")
    if out:
        midifile.write(out, journal.tracks(log))
        _say(f"wrote {out}")


@main.command()
@BACKEND
def ports(backend: str) -> None:
    """List the MIDI system and its ports."""
    from musebridge.bridge import midi

    found = midi.list_ports(backend)
    _say(f"MIDI system: {found.backend}")
    for title, names in (("to listen to", found.inputs), ("to play to", found.outputs)):
        _say(f"ports {title}: {', '.join(names) or 'none'}")


@main.command()
@OSC
@BACKEND
@PRESET
@MODEL
@click.pass_context
def doctor(context: click.Context, osc: str, backend: str, preset_name: str, model: Path | None) -> None:
    """Can this machine play? Says what to do where it cannot."""
    from musebridge.bridge import doctor
    from musebridge.bridge.clock import MonotonicClock

    can_play = True
    for finding in doctor.examine(_preset(preset_name, model), backend, _address(osc), MonotonicClock()):
        can_play &= finding.ok
        _say(f"{'ok' if finding.ok else 'problem':8} {finding.name:10} {finding.says}")
    context.exit(0 if can_play else 1)


@main.command()
def presets() -> None:
    """List the presets and where they are."""
    from musebridge.bridge import preset

    for name in preset.names():
        _say(f"{name:12} {preset.load(name).description}")
    _say(f"in {preset.FOLDER}, your own in {preset.USER_FOLDER}")


@main.command()
@click.argument("midi_dir", type=FOLDER)
@click.option("-o", "--out", required=True, type=FOLDER, help="The corpus folder to write.")
@click.option("--licence", default="", help="Licence of the MIDI files; models trained on them carry it.")
@click.option("--workers", type=click.IntRange(1), help="Processes; default one a core.")
def prepare(midi_dir: Path, out: Path, licence: str, workers: int | None) -> None:
    """Turn a folder of MIDI files into a packed token corpus."""
    from rich.progress import Progress
    from rich.table import Table

    from musebridge.training import prepare as corpora

    with Progress(console=console) as bar:
        task = bar.add_task("Reading MIDI", total=len(corpora.find_midi(midi_dir)))
        done = partial(bar.advance, task)
        card: Any = corpora.prepare(midi_dir, out, licence=licence, workers=workers, on_piece=lambda _: done())
    table = Table("split", "files", "notes", "tokens", "hours", title=str(out))
    for split, row in card["splits"].items():
        table.add_row(split, *(f"{row[k]:,}" for k in ("files", "notes", "tokens")), f"{row['hours']:.2f}")
    console.print(table)
    for skip in card["skipped"]:
        _say(f"skipped {skip['file']}: {skip['reason']}")


@main.command()
@click.argument("corpus_dir", metavar="CORPUS", type=FOLDER)
@click.option("--run", "run_dir", required=True, type=FOLDER, help="Folder of the run; it resumes by itself.")
@click.option("--budget", required=True, help="How long: tokens (40M) or training time (90s, 100m, 2h).")
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
@click.option("--tensorboard", is_flag=True, help="Write TensorBoard events into the run's folder.")
@click.option("--compile/--no-compile", default=True, show_default=True, help="Compile the training step.")
def train(
    corpus_dir: Path,
    run_dir: Path,
    budget: str,
    phase: str,
    config_file: Path | None,
    mix: tuple[tuple[Path, float], ...],
    init: Path | None,
    tensorboard: bool,
    compile: bool,
) -> None:
    """Train the generator on a prepared corpus."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from musebridge.config import build, read_toml
    from musebridge.training import board, checkpoint, corpus, models
    from musebridge.training.pretrain import PretrainConfig, Pretraining

    tables = read_toml(config_file) if config_file else {}
    if phase == "adversarial":
        if mix or tensorboard or init is None:
            raise ConfigError("--phase adversarial needs --init, and knows neither --mix nor --tensorboard")
        _fine_tune(corpus_dir, run_dir, _budget(budget), tables, init, compile)
        return
    if unknown := set(tables) - {"generator", phase}:
        raise ConfigError(f"{config_file}: unknown table {sorted(unknown)[0]!r}; known are generator and {phase}")
    table = tables.get(phase, {})
    config = build(PretrainConfig, {**table, **_budget(budget)} if isinstance(table, dict) else table, phase)
    base = models.table_of(checkpoint.load_generator(init)[0].config) if init else {}
    table = tables.get("generator", {})
    shape = models.shape_from({**base, **table} if isinstance(table, dict) else table, "generator")
    mixed = [(corpus.load(folder), share) for folder, share in mix]
    run = Pretraining(corpus.load(corpus_dir), run_dir, shape, config, mixed=mixed, init=init, compile=compile)
    console.quiet = not run.peers.leads  # of the processes that torchrun started, one talks
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("left"))
    with (
        Progress(*columns, TimeRemainingColumn(), console=console) as bar,
        board.opened(run_dir, wanted=tensorboard and run.peers.leads) as curves,
    ):
        task = bar.add_task("", total=1.0)

        def on_step(progress: pretrain.Progress) -> None:
            bar.update(task, completed=run.fraction, description=_train_line(progress))
            curves.step(progress)

        def on_validation(progress: pretrain.Progress) -> None:
            _say(f"{_train_line(progress)}  validation {progress.validation_nll:.4f}")
            curves.validation(progress)

        run.run(_command_line(), on_step, on_validation)
    _say(f"{run_dir}: {run.progress.tokens:,} tokens, validation NLL {run.progress.validation_nll:.4f}")


def _fine_tune(
    corpus_dir: Path, run_dir: Path, budget: dict[str, float], tables: dict[str, Any], init: Path, compile: bool
) -> None:
    """Run phase 2; say how well the discriminator hears, and what each measurement found."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from musebridge.training import adversarial, corpus

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("left"))
    with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task("", total=1.0)

        def tell(stage: str, share: float) -> None:
            bar.update(task, completed=share, description=stage)

        run = adversarial.begin(corpus.load(corpus_dir), run_dir, init, tables, budget, compile=compile, on_stage=tell)
        if run.lessons.history:
            found = run.lessons.report()
            _say(
                f"the discriminator on {found.pairs} pairs of {found.pieces} held-out pieces: AUROC {found.auroc}, "
                f"macro-F1 {found.macro_f1}, MCC {found.mcc}"
            )
        run.run(
            _command_line(),
            lambda p: tell(f"step {p.step:,}  loss {p.loss:.3f}  NLL {p.nll:.3f}", run.fraction),
            lambda row: _say(
                f"step {row['step']:,}: judge {row['judge_auroc']:.3f}, NLL {row['nll']:.4f}, "
                f"distinct-4 {row['distinct_4']:.3f}{', the best so far' if row['taken'] else ''}"
            ),
        )
    _say(f"{run_dir}: the weights of step {run.best_row['step']:,}, judge {run.best_row['judge_auroc']:.3f}")


@main.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("corpus_dir", metavar="CORPUS", type=FOLDER)
@click.option("-o", "--out", required=True, type=FOLDER, help="Folder of the report.")
@click.option("--split", type=click.Choice(["validation", "test"]), default="validation", show_default=True)
@click.option("--warm", type=click.IntRange(0), help="Context that is not scored; default half the model's.")
@click.option("--limit", type=click.IntRange(1), help="Score about this many tokens; default the whole split.")
@click.option("--continuations", type=click.IntRange(0), default=0, help="Sample this many; are they copies?")
@click.option("--noise-study", type=click.IntRange(0), default=0, metavar="WINDOWS", help="See below.")
def evaluate(
    checkpoint: Path,
    corpus_dir: Path,
    out: Path,
    split: str,
    warm: int | None,
    limit: int | None,
    continuations: int,
    noise_study: int,
) -> None:
    """Measure a trained generator's likelihood and write a report.

    With --noise-study, CHECKPOINT is a discriminator's folder (the folder "discriminator" in an adversarial run):
    from how much noise on velocities and time shifts does it hear that so many real windows were tampered with?
    """
    from rich.progress import Progress

    from musebridge.training import corpus, evaluate

    if noise_study:
        _noise_study(checkpoint, corpus_dir, out, split, noise_study)
        return
    with Progress(console=console) as bar:
        task = bar.add_task("Scoring", total=1)
        measured = partial(bar.update, task)
        evaluation = evaluate.evaluate(
            checkpoint,
            corpus.load(corpus_dir),
            split=split,
            warm=warm,
            limit=limit,
            continuations=continuations,
            on_progress=lambda share: measured(completed=share),
        )
    page = evaluate.write_report(evaluation, out, _command_line())
    for name, scored in evaluation.splits.items():
        _say(f"{name}: {scored.per_token:.4f} nats per token, {scored.per_note:.3f} per note")
    _say(f"wrote {page}")


def _noise_study(folder: Path, corpus_dir: Path, out: Path, split: str, windows: int) -> None:
    from rich.progress import Progress

    from musebridge.training import corpus, noise
    from musebridge.training.samples import Window

    with Progress(console=console) as bar:
        task = bar.add_task("Listening", total=1)
        measured = partial(bar.update, task)
        rows = []
        for row in noise.study(
            folder,
            corpus.load(corpus_dir),
            split=split,
            windows=windows,
            window=Window(),
            on_progress=lambda share: measured(completed=share),
        ):
            _say(
                f"{row.name}: AUROC of the discriminator {row.discriminator.auroc}, of a fresh judge {row.fresh.auroc}"
            )
            rows.append(row)
    _say(f"wrote {noise.write_study(rows, out, _command_line())}")


@main.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=FILE, help="The .onnx file to write.")
@click.option("--precision", type=click.Choice(["fp32", "fp16", "int8"]), default="int8", show_default=True)
@click.option("--corpus", "corpus_dir", type=FOLDER, help="Measure what the precision costs on this corpus.")
def export(checkpoint: Path, out: Path, precision: str, corpus_dir: Path | None) -> None:
    """Turn a trained generator into one ONNX file; checks parity before it writes."""
    from rich.progress import Progress

    from musebridge.export import graph

    with Progress(console=console) as bar:
        task = bar.add_task("Exporting and checking", total=1)
        measured = partial(bar.update, task)
        info = graph.export(
            checkpoint, out, precision=precision, corpus=corpus_dir, on_progress=lambda share: measured(completed=share)
        )
        measured(completed=1)
    _say(f"wrote {out}: {info.parameters:,} parameters, {info.precision}, {out.stat().st_size / 1e6:.1f} MB")


@main.group()
def bench() -> None:
    """Measure this machine: each figure beside a peer or a limit."""


JSON = click.option("--json", "json_file", type=FILE, help="Write the rows there too.")


@bench.command("engine")
@click.option("--steps", type=click.IntRange(1), default=300, show_default=True, help="Steps for each subject.")
@click.option(
    "--context",
    "contexts",
    type=click.IntRange(1, 2047),
    multiple=True,
    default=(128, 512, 1024, 2000),
    show_default=True,
    help="Tokens that a step follows.",
)
@click.option("--sustain", type=click.FloatRange(0), default=60.0, show_default=True, help="Seconds of generation.")
@JSON
def bench_engine(steps: int, contexts: tuple[int, ...], sustain: float, json_file: Path | None) -> None:
    """Time per step and prefill: the engine, its rivals, and the memory's bound."""
    from musebridge.benchmarks import engine

    rows = engine.rows(engine.SHAPE, contexts=contexts, steps=steps, sustain_s=sustain)
    _tell_rows(rows, json_file)
    for context in contexts:
        _say(engine.ratios(rows, context))


@bench.command("train")
@click.option("--steps", type=click.IntRange(1), default=10, show_default=True, help="Steps for each subject.")
@click.option("--batch", type=click.IntRange(1), default=8, show_default=True, help="Windows a step.")
@click.option("--context", type=click.IntRange(2), default=1024, show_default=True, help="Tokens a window.")
@JSON
def bench_train(steps: int, batch: int, context: int, json_file: Path | None) -> None:
    """Time per training step: compiled, plain eager, and the matrix products alone."""
    from musebridge.benchmarks import train
    from musebridge.training.generator import GeneratorConfig

    rows = train.rows(GeneratorConfig(context=context), batch=batch, steps=steps)
    _tell_rows(rows, json_file)
    p50 = {row.name: row.p50 for row in rows}
    ours = p50[train.OURS]
    _say(
        f"{batch * context / ours * 1e3:,.0f} tokens/s, {p50[train.PLAIN] / ours:.2f} times plain eager, "
        f"{p50[train.BOUND] / ours:.0%} of the FLOPs that matrix products reach"
    )


@bench.command("kill")
@click.option("--times", type=click.IntRange(1), default=200, show_default=True)
@SEED
@click.pass_context
def bench_kill(context: click.Context, times: int, seed: int) -> None:
    """End a playing bridge at random moments; does a note hang, or the program? Wants jackd."""
    from rich.progress import Progress

    from musebridge.benchmarks import kill

    done = []
    with Progress(console=console) as bar:
        for trial in bar.track(kill.trials(times, seed), total=times, description="Killing"):
            done.append(trial)
            if not trial.good:
                _say(f"{trial}")
    console.print(kill.table(done))
    context.exit(0 if all(trial.good for trial in done) else 1)


@bench.command("adversarial")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("corpus_dir", metavar="CORPUS", type=FOLDER)
@click.option("--seeds", type=click.IntRange(1), default=128, show_default=True, help="Continued at once.")
@click.option("--batch", type=click.IntRange(1), default=4, show_default=True, help="Seeds of an update.")
@click.option("--seeded", type=click.IntRange(1), default=192, show_default=True, help="Tokens of a seed.")
@click.option("--continued", type=click.IntRange(1), default=192, show_default=True, help="Tokens of a continuation.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Measurements of each.")
@JSON
def bench_adversarial(
    checkpoint: Path,
    corpus_dir: Path,
    seeds: int,
    batch: int,
    seeded: int,
    continued: int,
    rounds: int,
    json_file: Path | None,
) -> None:
    """Time of sampling and of a generator's update: the parallel mode beside the faithful one."""
    from musebridge.benchmarks import adversarial

    rows = adversarial.rows_of(
        checkpoint, corpus_dir, seeds=seeds, seeded=seeded, length=continued, update_batch=batch, rounds=rounds
    )
    _tell_rows(rows, json_file)
    p50 = {row.name: row.p50 for row in rows}
    _say(
        f"sampling is {p50[adversarial.OURS] / p50[adversarial.NAIVE]:.1f} times as fast as with a concatenated cache, "
        f"a parallel update {p50[adversarial.FAITHFUL] / p50[adversarial.PARALLEL]:.1f} times as fast as a faithful one"
    )


PARTS = ("play", "sender", "rolls")


@bench.command("live")
@click.option("--part", "parts", type=click.Choice(PARTS), multiple=True, default=PARTS, help="Default all.")
@click.option("--cycles", type=click.IntRange(1), default=150, show_default=True, help="Hand-overs of each kind.")
@click.option("--events", type=click.IntRange(1), default=10_000, show_default=True, help="From each kind of sender.")
@click.option("--minutes", type=click.FloatRange(0.1), default=10.0, show_default=True, help="Of generation.")
@MODEL
@JSON
def bench_live(
    parts: tuple[str, ...], cycles: int, events: int, minutes: float, model: Path | None, json_file: Path | None
) -> None:
    """Hand-over, interruption and jitter, with real ports under a JACK server of its own."""
    from musebridge.benchmarks import live, rolls, sender
    from musebridge.benchmarks.kill import Jack

    model = _preset("call", model).model
    measured: list[Row] = []
    with Jack("musebridge-bench"):
        if "play" in parts:
            measured += live.rows(model, cycles=cycles, hoarded=(cycles + 1) // 2)
        if "sender" in parts:
            measured += sender.rows(model, events)
    if "rolls" in parts:
        measured += [rolls.row(model, minutes=minutes, slowness=slowness) for slowness in (1, 4)]
    _tell_rows(measured, json_file)


@bench.command("soak")
@click.option("--hours", type=click.FloatRange(0), default=2.0, show_default=True, help="Of virtual time.")
@click.option("--minutes", type=click.FloatRange(0), default=0.0, show_default=True, help="Of real time, under JACK.")
@JSON
def bench_soak(hours: float, minutes: float, json_file: Path | None) -> None:
    """Play at random for hours: does a note stay, does one end late, does the memory grow?"""
    from musebridge.benchmarks import soak
    from musebridge.benchmarks.kill import Jack

    rows = soak.simulated(hours) if hours else []
    if minutes:
        with Jack("musebridge-soak"):
            rows += soak.real(minutes)
    _tell_rows(rows, json_file)


@bench.command("fuzz")
@click.option("--datagrams", type=click.IntRange(1), default=100_000, show_default=True, help="Malformed OSC.")
@click.option("--noise", type=click.IntRange(1), default=1_000_000, show_default=True, help="Bytes of MIDI.")
@JSON
def bench_fuzz(datagrams: int, noise: int, json_file: Path | None) -> None:
    """Send what nobody should send; the bridge must stand it."""
    from musebridge.benchmarks import fuzz

    _tell_rows(list(fuzz.rows(datagrams, noise)), json_file)


STUDY = click.option(
    "-o", "--out", type=FOLDER, default=Path("docs/study"), show_default=True, help="Where trials and tables go."
)
CORPUS = click.argument("corpus_dir", metavar="CORPUS", type=FOLDER)


@bench.command("ablation")
@CORPUS
@click.option("--width", type=click.IntRange(128), default=256, show_default=True, help="Of both generators.")
@click.option("--tokens", type=click.IntRange(1), default=500_000, show_default=True, help="Of each training.")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True)
@STUDY
def bench_ablation(corpus_dir: Path, width: int, tokens: int, seeds: int, out: Path) -> None:
    """Train the reference and the default generator alike; compare them."""
    from musebridge.benchmarks import study

    _study(study.ablation(width, tokens, seeds), corpus_dir, out, out / "ablation.md", study.ablation_page)


@bench.command("scaling")
@CORPUS
@click.option("--width", "widths", type=click.IntRange(128), multiple=True, default=(256, 512, 768), show_default=True)
@click.option("--flops", "budgets", type=float, multiple=True, default=(2e13, 8e13), show_default=True)
@STUDY
def bench_scaling(corpus_dir: Path, widths: tuple[int, ...], budgets: tuple[float, ...], out: Path) -> None:
    """Train several sizes with the same arithmetic; which is best?"""
    from musebridge.benchmarks import study

    _study(study.scaling(widths, budgets), corpus_dir, out, out / "scaling.md", study.scaling_page)


def _study(
    trials: list[Trial], corpus_dir: Path, out: Path, page: Path, write_page: Callable[[list[dict[str, Any]], str], str]
) -> None:
    from musebridge.benchmarks import study
    from musebridge.training import corpus

    rows = []
    for row in study.run(trials, corpus.load(corpus_dir), out):
        _say(f"{row['name']}, width {row['width']}, seed {row['seed']}: NLL {row['nll']:.4f}, {row['seconds']:.0f} s")
        rows.append(row)
    page.write_text(write_page(rows, _command_line()), encoding="utf-8")
    _say(f"wrote {page}")


def _tell_rows(rows: list[Row], json_file: Path | None) -> None:
    from musebridge.benchmarks import measure

    measure.show(rows, console)
    if json_file:
        measure.write(rows, json_file)


def _command_line() -> str:
    return shlex.join(["musebridge", *sys.argv[1:]])


def _say(text: str) -> None:
    console.print(text, markup=False, soft_wrap=True)


def _preset(name: str, model: Path | None) -> Preset:
    from musebridge.bridge import preset

    chosen = preset.load(name)
    return replace(chosen, model=model) if model else chosen


def _ports(in_name: str, out_name: str, backend: str) -> tuple[InputPort, OutputPort]:
    from musebridge.bridge import midi
    from musebridge.bridge.ports import MemoryPort

    if in_name == out_name == "memory":
        return MemoryPort("memory in"), MemoryPort("memory out")
    return midi.open_pair(in_name, out_name, backend)


def _journal(path: Path, preset: Preset) -> Callable[[int], Journal]:
    """Return what opens a session's log, once its seed is known."""
    from musebridge.bridge.journal import Journal

    return lambda seed: Journal(
        path, seed=seed, mode=preset.mode, settings=preset.settings, model=_fingerprint(preset.model)
    )


def _fingerprint(model: Path) -> str:
    return hashlib.sha256(model.read_bytes()).hexdigest()[:16]


def _report(bridge: Bridge) -> dict[str, list[Timed]]:
    """Say what happened, and write the log's music beside it; fail if the bridge did not end of its own will."""
    from musebridge import midifile
    from musebridge.bridge import journal

    tracks: dict[str, list[Timed]] = {}
    if bridge.journal:
        tracks = journal.tracks(bridge.journal.path)
        midi = bridge.journal.path.with_suffix(".mid")
        midifile.write(midi, tracks)
        _say(f"wrote {midi}")
        _say(f"wrote {bridge.journal.path}")
    _say(bridge.stats.summary())
    if bridge.failure:
        raise MuseBridgeError(f"the bridge had to end: {bridge.failure}")
    return tracks


@contextmanager
def _interruptible(ended: threading.Event) -> Iterator[None]:
    """Let Ctrl-C and a polite kill set ``ended`` instead of raising in the middle of something."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = [signal.signal(number, lambda *_: ended.set()) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, previous, strict=True):
            signal.signal(number, handler)


def _address(text: str) -> tuple[str, int] | None:
    """Parse ``HOST:PORT``; ``off`` is None."""
    if text == "off":
        return None
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(f"osc must be HOST:PORT (127.0.0.1:9123) or off, found {text!r}")
    return host, int(port)


def _budget(text: str) -> dict[str, float]:
    """Parse ``40M`` into tokens and ``90s``, ``100m``, ``2h`` into seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kMGsmh])", text.strip())
    if not match:
        raise ConfigError(f"budget must be tokens (500k, 40M, 1G) or time (90s, 100m, 2h), found {text!r}")
    amount, unit = float(match[1]), match[2]
    scale = {"k": 1e3, "M": 1e6, "G": 1e9, "s": 1.0, "m": 60.0, "h": 3600.0}[unit]
    return {"tokens": int(amount * scale)} if unit in "kMG" else {"seconds": amount * scale}


def _train_line(progress: pretrain.Progress) -> str:
    rate = progress.tokens / max(progress.seconds, 1e-9)
    return f"step {progress.step:,}  {progress.tokens / 1e6:.1f} M tokens  {rate:,.0f}/s  NLL {progress.train_nll:.3f}"
