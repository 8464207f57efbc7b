"""Time per step and per prefill: the engine beside torch, transformers, and the memory's bound.

The weights are random; the time does not depend on them. The bound is the time
in which one core reads, once, the bytes that a step must read: every weight
matrix and the filled part of the K/V buffers. The rival of transformers is a
Llama of the same widths, heads and parameters, and its own ``generate``.
"""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from musebridge import vocab
from musebridge.benchmarks.measure import Row, Subjects, in_turns, resident_mb, row_of, seconds
from musebridge.bridge.app.preset import load
from musebridge.bridge.core.answer import Answer
from musebridge.bridge.core.context import Context
from musebridge.bridge.core.settings import Settings
from musebridge.bridge.inference.engine import OnnxEngine
from musebridge.events import NoteOn
from musebridge.export.graph import export
from musebridge.export.quantize import BLOCK
from musebridge.training.models.checkpoint import save_generator
from musebridge.training.models.generator import Generator, GeneratorConfig
from musebridge.vocab import StreamState

SHAPE = GeneratorConfig(n_layers=5, context=2048)
"""15 M parameters: the reference's size in the default's shape."""
PREFILLS = (512, 2047)
RIVAL_TOKENS = 32
_OURS = "int8, 1 thread"
_BYTES_PER_WEIGHT = {"fp32": 4.0, "int8": 1 + 4 / BLOCK}
_BYTES_PER_KEY = {"fp32": 4, "int8": 1}


def rows(shape: GeneratorConfig, *, contexts: Sequence[int], steps: int, sustain_s: float) -> list[Row]:
    """Measure the engine in every precision, with one and two threads, beside its rivals.

    Args:
        shape: of the generator.
        contexts: how many tokens a step follows, each less than the shape's context.
        steps: measured for each subject and context length.
        sustain_s: how long to generate without a pause.
    """
    torch.set_num_threads(1)
    generator = random_generator(shape)
    with tempfile.TemporaryDirectory() as folder:
        engines = dict(build_engines(generator, Path(folder)))
        measured = [row for context in contexts for row in in_turns(steps_of(generator, engines, context), steps)]
        for length in PREFILLS:
            measured += in_turns(prefills(generator, engines, min(length, shape.context - 1)), 20)
        measured += [generate_row(shape, context) for context in contexts] if _has_transformers() else []
        measured += sustained(_OURS, engines[_OURS], sustain_s)
        measured += sustained("the shipped model", OnnxEngine(load("call").model), sustain_s)
        return [*measured, *started()]


def ratios(rows: Sequence[Row], context: int) -> str:
    """Return how a step at ``context`` compares with its rivals and its bound, in one line."""
    p50 = {row.name: row.p50 for row in rows}
    ours = p50[f"step at {context}, {_OURS}"]
    others = {name: p50.get(f"step at {context}, {name}") for name in ("torch eager", "transformers.generate")}
    faster = [f"{p50_ms / ours:.1f} times as fast as {name}" for name, p50_ms in others.items() if p50_ms]
    bound = ours / p50[f"bound at {context}, int8"]
    return f"a step at {context}, {_OURS}: {', '.join(faster)}, {bound:.2f} times the time of reading its bytes"


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


def prefills(generator: Generator, engines: dict[str, OnnxEngine], length: int) -> Subjects:
    """Return what prefills ``length`` tokens into an empty context."""
    tokens = _tokens(length)
    batch_BT = torch.tensor([tokens])
    subjects: Subjects = {f"prefill of {length}, {n}": engine_prefill(e, tokens) for n, e in engines.items()}
    return subjects | {f"prefill of {length}, torch eager": lambda: generator.extend(batch_BT, None)}


def generate_row(shape: GeneratorConfig, context: int) -> Row:
    """Measure a token of ``transformers``: a long ``generate`` less a short one, shared by the tokens between."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocab.N_TOKENS,
        hidden_size=shape.d_model,
        intermediate_size=2 * shape.d_ff // 3,  # its feed-forward has three matrices
        num_hidden_layers=shape.n_layers,
        num_attention_heads=shape.n_heads,
        num_key_value_heads=shape.n_kv_heads,
        max_position_embeddings=shape.context + RIVAL_TOKENS,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = LlamaForCausalLM(config).eval()
    prompt_BT = torch.tensor([_tokens(context)])

    def generate(count: int) -> float:
        return seconds(lambda: model.generate(prompt_BT, max_new_tokens=count, do_sample=False))

    generate(1)
    samples = [(generate(1 + RIVAL_TOKENS) - generate(1)) / RIVAL_TOKENS * 1e3 for _ in range(10)]
    return row_of(f"step at {context}, transformers.generate", "ms", np.array(samples))


def _has_transformers() -> bool:
    return importlib.util.find_spec("transformers") is not None


def sustained(name: str, engine: OnnxEngine, duration_s: float) -> list[Row]:
    """Measure tokens that are sampled one after the other, across window rolls, as an answer is."""
    context, state = Context(engine), StreamState()
    context.append([vocab.BEGIN])
    answer, settings = Answer(context, state, np.random.default_rng(0)), Settings()
    times_s: list[float] = []
    notes = 0

    def write() -> None:
        nonlocal notes
        written = answer.next(settings)
        notes += written is not None and isinstance(written.event, NoteOn)

    while sum(times_s) < duration_s:
        times_s += [seconds(write) for _ in range(100)]
    name = f"{duration_s:g} s of generation, {name}"
    return [
        row_of(f"{name}: token, rolls included", "ms", np.array(times_s) * 1e3),
        row_of(f"{name}: mean note", "ms", np.array([1e3 * sum(times_s) / max(1, notes)])),
        row_of(f"{name}: rate", "tokens/s", np.array([len(times_s) / sum(times_s)])),
    ]


def started() -> list[Row]:
    """Measure ``musebridge serve`` from its start to its being ready, and, on Linux, its memory then."""
    command = [sys.executable, "-m", "musebridge", "serve", "--port", "memory", "--osc", "off"]
    ready_s, resident = [], []
    for _ in range(3):
        start_s = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as bridge:
            assert bridge.stdout
            next(line for line in bridge.stdout if line.startswith("listening"))
            ready_s.append(time.perf_counter() - start_s)
            if sys.platform == "linux":
                resident.append(resident_mb(bridge.pid))
            bridge.send_signal(signal.SIGINT)
    rows = [row_of("serve, ready", "s", np.array(ready_s))]
    return rows + [row_of("serve, memory", "MB", np.array(resident))] * bool(resident)


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
    return int(matrices * _BYTES_PER_WEIGHT[precision]) + _BYTES_PER_KEY[precision] * cached


def read(n_bytes: int) -> Callable[[], object]:
    """Return what reads so many bytes once."""
    x = torch.ones(n_bytes // 4)
    return lambda: torch.dot(x, x)


def _tokens(count: int) -> list[int]:
    tokens: list[int] = np.random.default_rng(0).integers(0, vocab.N_EVENTS, count).tolist()
    return tokens
