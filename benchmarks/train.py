"""Time per training step: compiled, beside the plain eager loop, and beside the matrix products alone.

All subjects train the same shape on random tokens, with products of the type that
``musebridge.training.compute.precision`` chooses, each in a process of its own, as how
freed memory is kept is a matter of processes. The bound is the time in which this
machine does a step's arithmetic as one large matrix product; the share of it that a step reaches is its model FLOPs
utilisation (Chowdhery et al. 2022, "PaLM").
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from musebridge import vocab
from musebridge.benchmarks.measure import Row, elsewhere, in_turns
from musebridge.training.compute import malloc
from musebridge.training.compute.precision import product_type
from musebridge.training.data.corpus import Corpus
from musebridge.training.models.generator import Generator, GeneratorConfig, count_parameters
from musebridge.training.pretraining.trainer import PretrainConfig, Pretraining

OURS, PLAIN, BOUND = "compiled, Muon, memory kept", "plain eager, AdamW", "matrix products alone"
PLAIN_KEPT = "plain eager, AdamW, memory kept"
_SIDE = 4096


def rows(shape: GeneratorConfig, *, batch: int, steps: int) -> list[Row]:
    """Measure ``steps`` optimizer steps of ``batch`` windows for each subject.

    Returns:
        A row for each; their unit is milliseconds a step.
    """
    ours = PretrainConfig(tokens=1_000_000_000_000, batch=batch)
    plain = replace(ours, optimizer="adamw")
    flops = step_flops(shape, batch, count_parameters(Generator(shape)))
    with ExitStack() as stack:
        subjects = {
            OURS: stack.enter_context(elsewhere(_steps, shape, ours, True, True)),
            PLAIN_KEPT: stack.enter_context(elsewhere(_steps, shape, plain, False, True)),
            PLAIN: stack.enter_context(elsewhere(_steps, shape, plain, False, False)),
            BOUND: _products(flops, torch.device("cuda" if torch.cuda.is_available() else "cpu")),
        }
        return in_turns(subjects, steps, turn=2)  # of seconds each: the machine changes meanwhile


@contextmanager
def _steps(shape: GeneratorConfig, config: PretrainConfig, compile: bool, keep: bool) -> Iterator[Callable[[], object]]:
    """Give what takes a step of training."""
    if keep:
        malloc.keep_freed()
    with tempfile.TemporaryDirectory() as folder:
        corpus = _noise(Path(folder), 4 * config.batch * (shape.context + 1))
        yield Pretraining(corpus, Path(folder), shape, config, compile=compile).step


def ratios(rows: Sequence[Row], tokens: int) -> str:
    """Return how a step of so many tokens compares with its rival and its bound, in one line."""
    p50 = {row.name: row.p50 for row in rows}
    ours = p50[OURS]
    return (
        f"{tokens / ours * 1e3:,.0f} tokens/s, {p50[PLAIN] / ours:.2f} times plain eager, "
        f"{p50[BOUND] / ours:.0%} of the FLOPs that matrix products reach"
    )


def step_flops(shape: GeneratorConfig, batch: int, parameters: int) -> float:
    """Return the arithmetic of one step, forward and backward: matrices, and causal attention."""
    matrices = parameters - vocab.N_TOKENS * shape.d_model  # the embedding is looked up
    attention = shape.n_layers * shape.d_model * shape.context  # 2 products, of which causality leaves half
    return 6.0 * (matrices + attention) * batch * shape.context


def _noise(folder: Path, count: int) -> Corpus:
    tokens = np.random.default_rng(0).integers(0, vocab.N_EVENTS, count).astype(np.uint16)
    card: dict[str, object] = {"name": "noise", "sha256": "", "licence": ""}
    return Corpus(folder=folder, card=card, splits={"train": tokens, "validation": tokens})


def _products(flops: float, device: torch.device) -> Callable[[], object]:
    """Return what does this much arithmetic in large matrix products."""
    columns = max(1, round(flops / (2 * _SIDE * _SIDE)))
    dtype = product_type(device)
    a = torch.randn(_SIDE, _SIDE, dtype=dtype, device=device)
    b = torch.randn(_SIDE, columns, dtype=dtype, device=device)

    def multiply() -> None:
        (a @ b)[0, 0].item()  # waits for a GPU

    return multiply
