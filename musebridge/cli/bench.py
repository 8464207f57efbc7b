"""``musebridge bench``: what this machine can do, each figure beside a peer or a limit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from musebridge.cli.bench_study import bench_ablation, bench_scaling
from musebridge.cli.common import (
    CHECKPOINT,
    CORPUS,
    FILE,
    FOLDER,
    MODEL,
    PRESET,
    SEED,
    console,
    progress,
    say,
)

if TYPE_CHECKING:
    from musebridge.benchmarks.measure import Row

JSON = click.option("--json", "json_file", type=FILE, help="Also write the results to this file.")
PARTS = ("play", "sender", "rolls")


@click.group(commands=(bench_ablation, bench_scaling))
def bench() -> None:
    """Measure this machine; each figure is compared with another program or a limit."""


@bench.command("engine")
@click.option("--steps", type=click.IntRange(1), default=300, show_default=True, help="Measured steps of each program.")
@click.option(
    "--context",
    "contexts",
    type=click.IntRange(1, 2047),
    multiple=True,
    default=(128, 512, 1024, 2000),
    show_default=True,
    help="Tokens already in the context.",
)
@click.option(
    "--sustain", type=click.FloatRange(0), default=60.0, show_default=True, help="Seconds to generate without a pause."
)
@JSON
def bench_engine(steps: int, contexts: tuple[int, ...], sustain: float, json_file: Path | None) -> None:
    """Time a step and a prefill of the engine, beside torch, transformers and the limit of memory speed."""
    from musebridge.benchmarks import engine

    rows = engine.rows(engine.SHAPE, contexts=contexts, steps=steps, sustain_s=sustain)
    _tell(rows, json_file)
    for context in contexts:
        say(engine.ratios(rows, context))


@bench.command("train")
@click.option("--steps", type=click.IntRange(1), default=10, show_default=True, help="Measured steps of each program.")
@click.option("--batch", type=click.IntRange(1), default=8, show_default=True, help="Windows in a step.")
@click.option("--context", type=click.IntRange(2), default=1024, show_default=True, help="Tokens in a window.")
@JSON
def bench_train(steps: int, batch: int, context: int, json_file: Path | None) -> None:
    """Time a training step: compiled, plain eager, and its matrix products alone."""
    from musebridge.benchmarks import train
    from musebridge.training.models.generator import GeneratorConfig

    rows = train.rows(GeneratorConfig(context=context), batch=batch, steps=steps)
    _tell(rows, json_file)
    say(train.ratios(rows, batch * context))


@bench.command("kill")
@click.option("--times", type=click.IntRange(1), default=200, show_default=True)
@SEED
@click.pass_context
def bench_kill(context: click.Context, times: int, seed: int) -> None:
    """Kill a playing bridge at random moments: does a note or the program hang? Needs jackd."""
    from musebridge.benchmarks import kill

    done: list[kill.Trial] = []
    with progress("Killing") as move:
        for trial in kill.trials(times, seed):
            done.append(trial)
            move(len(done) / times)
            if not trial.good:
                say(f"{trial}")
    console.print(kill.table(done))
    context.exit(0 if all(trial.good for trial in done) else 1)


@bench.command("ardour")
@click.option(
    "--plugin", type=FOLDER, default=Path("build/musebridge.lv2"), show_default=True, help="The built plug-in."
)
@click.option("--cycles", type=click.IntRange(0), default=1000, show_default=True, help="Starts, jumps and stops.")
def bench_ardour(plugin: Path, cycles: int) -> None:
    """Play through the plug-in in a track of Ardour, headless. Needs Ardour, and make plugin."""
    from musebridge.benchmarks import ardour

    for line in ardour.measure(plugin, cycles):
        say(line)


@bench.command("plugin")
@click.option(
    "--plugin", type=FOLDER, default=Path("build/musebridge.lv2"), show_default=True, help="The built plug-in."
)
@click.option("--notes", type=click.IntRange(1), default=500, show_default=True, help="Notes that go there and back.")
@click.option("--kills", type=click.IntRange(1), default=20, show_default=True, help="Bridges to kill.")
@JSON
def bench_plugin(plugin: Path, notes: int, kills: int, json_file: Path | None) -> None:
    """Time the way through the LV2 plug-in, and how soon it ends the notes of a bridge that is killed."""
    from musebridge.benchmarks import plugin as measured

    _tell(list(measured.rows(plugin / "musebridge.so", notes=notes, kills=kills)), json_file)


@bench.command("adversarial")
@CHECKPOINT
@CORPUS
@click.option("--seeds", type=click.IntRange(1), default=128, show_default=True, help="Seeds to continue at once.")
@click.option("--batch", type=click.IntRange(1), default=4, show_default=True, help="Seeds in an update.")
@click.option(
    "--seed-length",
    "--seeded",
    "seed_length",
    type=click.IntRange(1),
    default=192,
    show_default=True,
    help="Tokens in a seed.",
)
@click.option(
    "--continuation-length",
    "--continued",
    "continuation_length",
    type=click.IntRange(1),
    default=192,
    show_default=True,
    help="Tokens in a continuation.",
)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Measurements of each mode.")
@JSON
def bench_adversarial(
    checkpoint: Path,
    corpus_dir: Path,
    seeds: int,
    batch: int,
    seed_length: int,
    continuation_length: int,
    rounds: int,
    json_file: Path | None,
) -> None:
    """Time sampling and a generator's update, in parallel and sequential mode."""
    from musebridge.benchmarks import adversarial

    rows = adversarial.rows_of(
        checkpoint,
        corpus_dir,
        seeds=seeds,
        seed_length=seed_length,
        length=continuation_length,
        update_batch=batch,
        rounds=rounds,
    )
    _tell(rows, json_file)
    say(adversarial.ratios(rows))


@bench.command("candidates")
@click.argument("folder", metavar="DISCRIMINATOR", type=FOLDER)
@CORPUS
@click.option("--seeds", type=click.IntRange(1), default=200, show_default=True, help="From the validation split.")
@click.option(
    "--candidates", "count", type=click.IntRange(2, 16), default=4, show_default=True, help="Candidates for each seed."
)
@click.option(
    "--rounds", type=click.IntRange(1), default=10, show_default=True, help="How often each time is measured."
)
@JSON
def bench_candidates(
    folder: Path, corpus_dir: Path, seeds: int, count: int, rounds: int, json_file: Path | None
) -> None:
    """Measure what choosing among candidates costs and gains; DISCRIMINATOR is a folder in an adversarial run."""
    from musebridge.benchmarks import candidates

    measured = candidates.Bench(folder, corpus_dir, seeds=seeds, count=count)
    _tell(measured.times(rounds), json_file)
    with progress("Choosing") as move:
        choices = [*measured.choices(move)]
    for line in candidates.lines(choices):
        say(line)


@bench.command("answers")
@CORPUS
@click.option("--seeds", type=click.IntRange(2), default=128, show_default=True, help="From the validation split.")
@click.option(
    "--tokens",
    type=click.IntRange(8, 1024),
    default=1024,
    show_default=True,
    help="Tokens in the seed, and in the answer.",
)
@PRESET
@MODEL
@JSON
def bench_answers(
    corpus_dir: Path, seeds: int, tokens: int, preset_name: str, model: Path | None, json_file: Path | None
) -> None:
    """Compare what the bridge writes with real music, under a preset."""
    from musebridge.benchmarks import answers
    from musebridge.bridge.app.preset import load

    preset = load(preset_name, model)
    with progress("Answering") as move:
        measured = answers.Bench(preset, corpus_dir, seeds=seeds, length=tokens, on_progress=move)
    _tell(measured.rows(), json_file)
    for line in measured.lines():
        say(line)


@bench.command("memory")
@CORPUS
@click.option("--pieces", type=click.IntRange(2), default=24, show_default=True, help="From the validation split.")
@click.option(
    "--opening",
    "opening_s",
    type=click.FloatRange(1),
    default=20.0,
    show_default=True,
    help="Seconds of each piece to continue.",
)
@click.option("--slices", type=click.IntRange(1), default=6, show_default=True, help="Slices of 10 s to write.")
@click.option(
    "--preset",
    "preset_names",
    multiple=True,
    default=("call",),
    show_default=True,
    help="A name, or a .toml file; may be repeated.",
)
@MODEL
@JSON
def bench_memory(
    corpus_dir: Path,
    pieces: int,
    opening_s: float,
    slices: int,
    preset_names: tuple[str, ...],
    model: Path | None,
    json_file: Path | None,
) -> None:
    """Measure what an answer keeps of the phrase, under each preset, beside how the players went on."""
    from musebridge.benchmarks import memory
    from musebridge.bridge.app.preset import load

    presets = [load(name, model) for name in preset_names]
    with progress("Playing") as move:
        measured = memory.Bench(
            presets, corpus_dir, pieces=pieces, opening_s=opening_s, slices=slices, on_progress=move
        )
    cells = measured.cells()
    memory.show(cells, slices, console)
    if json_file:
        memory.write(cells, json_file)
    for line in measured.lines():
        say(line)


@bench.command("recall")
@CHECKPOINT
@CORPUS
@click.option("--pieces", type=click.IntRange(2), default=60, show_default=True, help="From the validation split.")
@click.option("--windows", type=click.IntRange(1), default=2, show_default=True, help="Windows of each piece.")
@JSON
def bench_recall(checkpoint: Path, corpus_dir: Path, pieces: int, windows: int, json_file: Path | None) -> None:
    """Fit how strongly recalled figures are favoured, and measure the gain on other pieces."""
    from musebridge.benchmarks import recall

    with progress("Reading") as move:
        measured = recall.Bench(checkpoint, corpus_dir, pieces=pieces, windows=windows, on_progress=move)
    console.print(measured.table())
    for line in measured.lines():
        say(line)
    _tell(measured.times(), json_file)


@bench.command("live")
@click.option(
    "--part", "parts", type=click.Choice(PARTS), multiple=True, default=PARTS, help="What to measure; all by default."
)
@click.option(
    "--cycles", type=click.IntRange(1), default=150, show_default=True, help="Hand-overs of each kind to measure."
)
@click.option(
    "--events", type=click.IntRange(1), default=10_000, show_default=True, help="Events to send by each kind of sender."
)
@click.option("--minutes", type=click.FloatRange(0.1), default=10.0, show_default=True, help="Minutes to generate.")
@MODEL
@JSON
def bench_live(
    parts: tuple[str, ...], cycles: int, events: int, minutes: float, model: Path | None, json_file: Path | None
) -> None:
    """Time hand-over, interruption and jitter on real ports, under a JACK server of its own."""
    from musebridge.benchmarks import live, rolls, sender
    from musebridge.benchmarks.jack import Jack
    from musebridge.bridge.app.preset import load

    model = load("call", model).model
    measured: list[Row] = []
    with Jack("musebridge-bench"):
        if "play" in parts:
            measured += live.rows(model, cycles=cycles, hoarded=(cycles + 1) // 2)
        if "sender" in parts:
            measured += sender.rows(model, events)
    if "rolls" in parts:
        measured += [rolls.row(model, minutes=minutes, slowness=slowness) for slowness in (1, 4)]
    _tell(measured, json_file)


@bench.command("soak")
@click.option("--hours", type=click.FloatRange(0), default=2.0, show_default=True, help="Hours of virtual time.")
@click.option(
    "--minutes", type=click.FloatRange(0), default=0.0, show_default=True, help="Minutes of real time, under JACK."
)
@JSON
def bench_soak(hours: float, minutes: float, json_file: Path | None) -> None:
    """Play at random for hours: does a note hang or end late, does memory grow?"""
    from musebridge.benchmarks import soak
    from musebridge.benchmarks.jack import Jack

    rows = soak.simulated(hours) if hours else []
    if minutes:
        with Jack("musebridge-soak"):
            rows += soak.real(minutes)
    _tell(rows, json_file)


@bench.command("fuzz")
@click.option(
    "--datagrams", type=click.IntRange(1), default=100_000, show_default=True, help="Malformed OSC datagrams to send."
)
@click.option(
    "--noise", type=click.IntRange(1), default=1_000_000, show_default=True, help="Random bytes of MIDI to send."
)
@JSON
def bench_fuzz(datagrams: int, noise: int, json_file: Path | None) -> None:
    """Send malformed OSC and random MIDI; the bridge must keep playing."""
    from musebridge.benchmarks import fuzz

    _tell(list(fuzz.rows(datagrams, noise)), json_file)


def _tell(rows: list[Row], json_file: Path | None) -> None:
    from musebridge.benchmarks import measure

    measure.show(rows, console)
    if json_file:
        measure.write(rows, json_file)
