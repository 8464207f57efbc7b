"""Small studies that chose the recipe and the size: what a short training reaches, setting by setting.

Every trial trains from random weights with the same windows, and is scored on
the same sample of the validation split. A finished trial is one line of
``trials.jsonl``, so a study that is interrupted goes on where it was.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from musebridge.benchmarks.train import step_flops
from musebridge.errors import ConfigError
from musebridge.report import table
from musebridge.training.data.corpus import Corpus
from musebridge.training.models.generator import GeneratorConfig, count_parameters
from musebridge.training.models.reference import ReferenceConfig
from musebridge.training.models.registry import Shape, create
from musebridge.training.pretraining.trainer import SCORED_WHILE_TRAINING, PretrainConfig, Pretraining

CONTEXT, BATCH = 512, 8
_BASE = PretrainConfig(tokens=1, batch=BATCH, warmup_steps=20)
_ADAMW = replace(_BASE, optimizer="adamw", adam_lr=1e-3)
_TRIALS = "trials.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One training of a study."""

    name: str
    shape: Shape
    config: PretrainConfig


def ablation(width: int, tokens: int, seeds: int) -> list[Trial]:
    """Return trials of the reference and the default generator, of equal parameters and tokens, by both optimizers.

    Args:
        width: of both; the reference's own is 512.
        tokens: of each training.
        seeds: trainings of each kind.
    """
    reference = ReferenceConfig(d_model=width, n_heads=max(1, width // 64), d_ff=2 * width, context=CONTEXT)
    default = _of_size(count_parameters(create(reference)), width)
    still = replace(reference, dropout=0.0)
    kinds: list[tuple[str, Shape, PretrainConfig]] = [
        ("reference, AdamW", reference, _ADAMW),
        ("reference without dropout, AdamW", still, _ADAMW),
        ("reference without dropout, Muon", still, _BASE),
        ("default, AdamW", default, _ADAMW),
        ("default, Muon", default, _BASE),
    ]
    return [
        Trial(name=name, shape=shape, config=replace(config, tokens=tokens, seed=seed))
        for seed in range(seeds)
        for name, shape, config in kinds
    ]


def scaling(widths: Iterable[int], budgets: Iterable[float]) -> list[Trial]:
    """Return trials of generators of several widths, each with the same arithmetic (Hoffmann et al. 2022).

    Args:
        widths: multiples of 128.
        budgets: in FLOPs.
    """
    shapes = [_default(width) for width in widths]
    return [
        Trial(name=f"{flops:.1e} FLOPs", shape=shape, config=replace(_BASE, tokens=_affordable(shape, flops)))
        for flops in budgets
        for shape in shapes
    ]


def run(trials: list[Trial], corpus: Corpus, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the result of each trial, from the folder where it is there, else from training."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _TRIALS
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    done = {_key(row): row for row in map(json.loads, lines)}
    for trial in trials:
        row = {
            "name": trial.name,
            "width": trial.shape.d_model,
            "tokens": trial.config.tokens,
            "seed": trial.config.seed,
            "corpus": corpus.sha256,
        }
        if _key(row) not in done:
            row |= _measure(trial, corpus)
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        yield done.get(_key(row), row)


def ablation_page(rows: list[dict[str, Any]], command: str) -> str:
    """Return a table of each kind's mean over its seeds, and how far apart they lie."""
    made = []
    for name in dict.fromkeys(row["name"] for row in rows):
        mine = [row for row in rows if row["name"] == name]
        nlls = [row["nll"] for row in mine]
        deviation = f"{np.std(nlls, ddof=1):.4f}" if len(nlls) > 1 else ""
        made.append((name, f"{mine[0]['parameters']:,}", f"{np.mean(nlls):.4f}", deviation, str(len(nlls))))
    head = "", "parameters", "NLL, mean", "standard deviation", "seeds"
    return "\n".join([*_head("Ablation", command), *table(head, made, numbers=True), ""])


def scaling_page(rows: list[dict[str, Any]], command: str) -> str:
    """Return a table of what each size reaches with each budget."""
    made = [
        (row["name"], str(row["width"]), f"{row['parameters']:,}", f"{row['tokens'] / 1e6:.2f}", f"{row['nll']:.4f}")
        for row in rows
    ]
    head = "budget", "width", "parameters", "million tokens", "NLL"
    return "\n".join([*_head("Scaling", command), *table(head, made, numbers=True), ""])


def _head(title: str, command: str) -> list[str]:
    return [
        f"# {title}",
        "",
        f"`{command}`",
        "",
        f"Nats per token on {SCORED_WHILE_TRAINING:,} tokens of the validation split, at least {CONTEXT // 2} of warm "
        f"context; windows of {CONTEXT}, {BATCH * CONTEXT:,} tokens a step.",
        "",
    ]


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("name", "width", "tokens", "seed", "corpus"))


def _measure(trial: Trial, corpus: Corpus) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        # Compiled, dropout takes twice as long on a CPU.
        drops = isinstance(trial.shape, ReferenceConfig) and trial.shape.dropout > 0
        training = Pretraining(corpus, Path(folder), trial.shape, trial.config, compile=not drops)
        while training.fraction < 1:
            training.step()
        training.validate()
    return {
        "parameters": count_parameters(training.generator),
        "nll": training.progress.validation_nll,
        "train_nll": training.progress.train_nll,
        "seconds": training.progress.seconds,
    }


def _default(width: int, d_ff: int | None = None) -> GeneratorConfig:
    if width < 128 or width % 128:
        raise ConfigError(f"width must be a multiple of 128, found {width}")
    heads = width // 128
    kv_heads = heads // 2 if heads % 2 == 0 else heads
    return GeneratorConfig(d_model=width, n_heads=heads, n_kv_heads=kv_heads, d_ff=d_ff or 4 * width, context=CONTEXT)


def _of_size(parameters: int, width: int) -> GeneratorConfig:
    """Return the default shape whose feed-forward width brings it nearest to so many parameters."""
    candidates = [_default(width, d_ff) for d_ff in range(width, 8 * width, 32)]
    return min(candidates, key=lambda shape: abs(count_parameters(create(shape)) - parameters))


def _affordable(shape: GeneratorConfig, flops: float) -> int:
    """Return how many tokens of training this much arithmetic is."""
    steps = flops / step_flops(shape, BATCH, count_parameters(create(shape)))
    return max(1, round(steps)) * BATCH * CONTEXT
