"""Time per step and per prefill: the engine beside torch, and beside the memory bound.

Run it with ``python benchmarks/bench_engine.py``. All subjects are measured in
turns, so a busy moment of the machine falls on all of them. The weights are
random; the time does not depend on them.

The bound is the time in which one core reads, once, the bytes that a step must
read: every weight matrix and the filled part of the K/V buffers.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from musebridge import vocab
from musebridge.bridge.engine import OnnxEngine
from musebridge.export.graph import export
from musebridge.export.quantize import BLOCK
from musebridge.training.checkpoint import save_generator
from musebridge.training.generator import Generator, GeneratorConfig

PREFILL = 512
_BYTES_PER_WEIGHT = {"fp32": 4.0, "int8": 1 + 4 / BLOCK}
_TURN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Percentiles of one measured thing."""

    name: str
    unit: str
    n: int
    p50: float
    p95: float
    p99: float
    max: float


Subjects = dict[str, Callable[[], object]]


@click.command()
@click.option("--steps", default=300, show_default=True, help="Steps measured for each subject and context length.")
@click.option(
    "--context",
    "contexts",
    multiple=True,
    type=click.IntRange(1, GeneratorConfig().context - 1),
    default=(128, 512, 1000),
    show_default=True,
    help="Tokens that a step follows; may be given several times.",
)
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the rows there too.")
def main(steps: int, contexts: tuple[int, ...], json_file: Path | None) -> None:
    """Measure the engine in every precision, with one and two threads, beside torch."""
    torch.set_num_threads(1)
    generator = random_generator(GeneratorConfig())
    with tempfile.TemporaryDirectory() as folder:
        engines = dict(build_engines(generator, Path(folder)))
        rows = [row for context in contexts for row in step_rows(generator, engines, context, steps)]
        rows += [percentiles(name, samples) for name, samples in in_turns(prefills(generator, engines), 20).items()]
    show(rows)
    if json_file:
        json_file.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")


def random_generator(config: GeneratorConfig) -> Generator:
    """Return a generator in which no weight is left at its initial zero."""
    torch.manual_seed(0)
    generator = Generator(config).eval().requires_grad_(False)
    for weight in generator.parameters():
        if not weight.any():
            torch.nn.init.normal_(weight, std=0.5 * weight.shape[1] ** -0.5)
    return generator


def build_engines(generator: Generator, folder: Path) -> Iterator[tuple[str, OnnxEngine]]:
    """Yield named engines: each precision with one thread and with two."""
    save_generator(folder / "generator.safetensors", generator, {})
    for precision in _BYTES_PER_WEIGHT:
        path = folder / f"{precision}.onnx"
        export(folder, path, precision=precision)
        for threads in (1, 2):
            yield f"{precision}, {threads} thread{'s' * (threads > 1)}", OnnxEngine(path, threads=threads)


def step_rows(generator: Generator, engines: dict[str, OnnxEngine], context: int, steps: int) -> Iterator[Row]:
    """Yield a row for each subject that steps at the end of ``context`` tokens."""
    subjects: Subjects = {f"step at {context}, {n}": engine_step(e, context) for n, e in engines.items()}
    subjects[f"step at {context}, torch eager"] = torch_step(generator, context)
    for precision in _BYTES_PER_WEIGHT:
        subjects[f"bound at {context}, {precision}"] = read(step_bytes(generator, precision, context))
    for name, samples in in_turns(subjects, steps).items():
        yield percentiles(name, samples)


def prefills(generator: Generator, engines: dict[str, OnnxEngine]) -> Subjects:
    """Return what prefills 512 tokens into an empty context."""
    tokens = _tokens(PREFILL)

    batch_BT = torch.tensor([tokens])
    subjects: Subjects = {f"prefill of {PREFILL}, {n}": engine_prefill(e, tokens) for n, e in engines.items()}
    return subjects | {f"prefill of {PREFILL}, torch eager": lambda: generator.extend(batch_BT, None)}


def engine_prefill(engine: OnnxEngine, tokens: list[int]) -> Callable[[], object]:
    """Return a prefill that always begins with an empty context."""

    def prefill() -> None:
        engine.rollback(0)
        engine.prefill(tokens)

    return prefill


def engine_step(engine: OnnxEngine, context: int) -> Callable[[], object]:
    """Return a step that always follows the same ``context`` tokens."""
    tokens = _tokens(context)

    def step() -> None:
        if engine.length != context:  # another length was measured last
            engine.rollback(0)
            engine.prefill(tokens)
        engine.step(0)
        engine.rollback(context)

    return step


def torch_step(generator: Generator, context: int) -> Callable[[], object]:
    """Return the same for torch, with its keys and values cached."""
    _, cache = generator.extend(torch.tensor([_tokens(context)]), None)
    token_BT = torch.zeros((1, 1), dtype=torch.int64)
    return lambda: generator.extend(token_BT, cache)


def step_bytes(generator: Generator, precision: str, context: int) -> int:
    """Return the bytes that a step must read: matrices, and keys and values."""
    config = generator.config
    matrices = sum(w.numel() for w in generator.parameters()) - generator.embedding.weight.numel()
    cached = 2 * config.n_layers * config.n_kv_heads * config.d_head * context
    return int(matrices * _BYTES_PER_WEIGHT[precision]) + 4 * cached


def read(n_bytes: int) -> Callable[[], object]:
    """Return what reads so many bytes once."""
    x = torch.ones(n_bytes // 4)
    return lambda: torch.dot(x, x)


def in_turns(subjects: Subjects, count: int) -> dict[str, list[float]]:
    """Call every subject ``count`` times, a few times each turn; return seconds by name."""
    samples: dict[str, list[float]] = {name: [] for name in subjects}
    while len(next(iter(samples.values()))) < count:
        for name, call in subjects.items():
            call()  # bring its memory back into the cache
            samples[name] += [_seconds(call) for _ in range(min(_TURN, count))]
    return samples


def _seconds(call: Callable[[], object]) -> float:
    start_s = time.perf_counter()
    call()
    return time.perf_counter() - start_s


def percentiles(name: str, samples_s: list[float]) -> Row:
    """Return the row of a measured thing, in milliseconds."""
    p50, p95, p99, most = (float(x) for x in np.percentile(np.array(samples_s) * 1e3, [50, 95, 99, 100]))
    return Row(name=name, unit="ms", n=len(samples_s), p50=p50, p95=p95, p99=p99, max=most)


def show(rows: list[Row]) -> None:
    """Print the rows as a table."""
    table = Table("", "n", "p50", "p95", "p99", "max", title="milliseconds")
    table.columns[0].no_wrap = True
    for row in rows:
        table.add_row(row.name, str(row.n), *(f"{x:.3f}" for x in (row.p50, row.p95, row.p99, row.max)))
    Console().print(table)


def _tokens(count: int) -> list[int]:
    tokens: list[int] = np.random.default_rng(0).integers(0, vocab.N_EVENTS, count).tolist()
    return tokens


if __name__ == "__main__":
    main()
