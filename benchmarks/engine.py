"""Time per step and per prefill: the engine beside torch, and beside the memory bound.

The weights are random; the time does not depend on them. The bound is the time
in which one core reads, once, the bytes that a step must read: every weight
matrix and the filled part of the K/V buffers.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from musebridge import vocab
from musebridge.benchmarks.measure import Row, Subjects, in_turns
from musebridge.bridge.engine import OnnxEngine
from musebridge.export.graph import export
from musebridge.export.quantize import BLOCK
from musebridge.training.checkpoint import save_generator
from musebridge.training.generator import Generator, GeneratorConfig

PREFILL = 512
_BYTES_PER_WEIGHT = {"fp32": 4.0, "int8": 1 + 4 / BLOCK}


def rows(shape: GeneratorConfig, *, contexts: Sequence[int], steps: int) -> list[Row]:
    """Measure the engine in every precision, with one and two threads, beside torch.

    Args:
        shape: of the generator.
        contexts: how many tokens a step follows, each less than the shape's context.
        steps: measured for each subject and context length.
    """
    torch.set_num_threads(1)
    generator = random_generator(shape)
    with tempfile.TemporaryDirectory() as folder:
        engines = dict(build_engines(generator, Path(folder)))
        measured = [row for context in contexts for row in in_turns(steps_of(generator, engines, context), steps)]
        return measured + in_turns(prefills(generator, engines), 20)


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


def steps_of(generator: Generator, engines: dict[str, OnnxEngine], context: int) -> Subjects:
    """Return what steps at the end of ``context`` tokens, and the bounds."""
    subjects: Subjects = {f"step at {context}, {n}": engine_step(e, context) for n, e in engines.items()}
    subjects[f"step at {context}, torch eager"] = torch_step(generator, context)
    for precision in _BYTES_PER_WEIGHT:
        subjects[f"bound at {context}, {precision}"] = read(step_bytes(generator, precision, context))
    return subjects


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


def _tokens(count: int) -> list[int]:
    tokens: list[int] = np.random.default_rng(0).integers(0, vocab.N_EVENTS, count).tolist()
    return tokens
