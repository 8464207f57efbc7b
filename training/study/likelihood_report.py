"""How good a generator is: its likelihood on data it has not seen, as a report.

Likelihood is measured with warm context and on whole splits (see
``musebridge.training.metrics.likelihood``); the same number of training tokens, spread over
the split, shows how far the generator has come to know its corpus by heart.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from musebridge.errors import CorpusError
from musebridge.report import report_in, table
from musebridge.training.compute.precision import product_type
from musebridge.training.data.corpus import Corpus
from musebridge.training.metrics.distances import DistributionDistances, distribution_distances
from musebridge.training.metrics.likelihood import Likelihood, likelihood
from musebridge.training.metrics.memorisation import longest_runs
from musebridge.training.models import checkpoint
from musebridge.training.models.generator import Generator
from musebridge.training.models.registry import AnyGenerator
from musebridge.training.sampling.sampler import sample_continuations
from musebridge.training.study.plots import axes_of

_BATCH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """A generator's record and what each split costs it."""

    record: dict[str, Any]
    history: list[dict[str, float]]
    warm: int
    splits: dict[str, Likelihood]
    copied: dict[str, list[int]]
    """Longest run shared with the training data, for each continuation and for each real one."""
    distances: dict[str, DistributionDistances]
    """How like the real continuations the model's are, and, as the limit, other real music."""


def evaluate(
    path: Path,
    corpus: Corpus,
    *,
    split: str = "validation",
    warm: int | None = None,
    limit: int | None = None,
    continuations: int = 0,
    on_progress: Callable[[float], None] = lambda _: None,
) -> Evaluation:
    """Measure a generator on a split, on as much of the training data, and for what it has by heart.

    Args:
        path: a run folder, or the weights in it.
        corpus: packed tokens.
        split: ``validation`` or ``test``.
        warm: context that is read but not scored; default half the generator's.
        limit: score about this many tokens; default the whole split.
        continuations: sample this many, and see how long a run they copy from the training data.
        on_progress: called with the share that is done, 0..1.

    Raises:
        CheckpointError: the weights cannot be read, or continuations are asked of a reference generator.
        CorpusError: the split is too short, or ``warm`` leaves nothing to score.
    """
    generator: AnyGenerator
    # Only one of the default kind can be sampled.
    generator, record = (checkpoint.load if continuations else checkpoint.load_generator)(path)
    context = generator.config.context
    warm = context // 2 if warm is None else warm
    if not 0 <= warm < context:
        raise CorpusError(f"warm must be in 0..{context - 1}, found {warm}")
    if len(corpus.splits[split]) <= context:
        raise CorpusError(f"{corpus.folder}: {split} has {len(corpus.splits[split])} tokens, {context + 1} are needed")
    splits = _likelihoods(generator, corpus, split, warm, limit, on_progress)
    state = checkpoint.load_state(path) if path.is_dir() else None
    history = state["history"] if state else []
    copied: dict[str, list[int]] = {}
    distances: dict[str, DistributionDistances] = {}
    if isinstance(generator, Generator) and continuations:
        copied, distances = _continued(generator, corpus, split, continuations)
    return Evaluation(
        record=record,
        history=history,
        warm=warm,
        splits=splits,
        copied=copied,
        distances=distances,
    )


def _likelihoods(
    generator: AnyGenerator,
    corpus: Corpus,
    split: str,
    warm: int,
    limit: int | None,
    on_progress: Callable[[float], None],
) -> dict[str, Likelihood]:
    """Score a split, and as many tokens of the training data."""
    tokens = corpus.splits
    unseen = likelihood(
        generator, tokens[split], warm=warm, limit=limit, on_progress=lambda share: on_progress(share / 2)
    )
    seen = likelihood(
        generator,
        tokens["train"],
        warm=warm,
        limit=unseen.tokens,
        on_progress=lambda share: on_progress(0.5 + share / 2),
    )
    return {split: unseen, "train": seen}


def _continued(
    generator: Generator, corpus: Corpus, split: str, count: int
) -> tuple[dict[str, list[int]], dict[str, DistributionDistances]]:
    """Continue seeds from all over a split; return the longest copied runs, and how like the real music they are."""
    half = generator.config.context // 2
    tokens = corpus.splits[split]
    starts = np.linspace(0, len(tokens) - 2 * half, count).astype(np.int64)
    windows = np.stack([tokens[s : s + 2 * half].astype(np.int64) for s in starts])
    seeds, real = windows[:, :half], windows[:, half:]
    rng = torch.Generator().manual_seed(0)
    written = np.concatenate(
        [
            sample_continuations(generator, batch_BT, half, rng, dtype=product_type(batch_BT.device)).numpy()
            for batch_BT in torch.split(torch.from_numpy(seeds), _BATCH)
        ]
    )
    runs = longest_runs(corpus.splits["train"], [*written, *real])
    copied = {"the model": runs[:count], "the real continuation": runs[count:]}
    return copied, distribution_distances([*real], {"the model": [*written], "other real music (the seeds)": [*seeds]})


def write_report(evaluation: Evaluation, folder: Path, command: str) -> Path:
    """Write ``report.md``, its pictures, and ``report.json`` with every number.

    Raises:
        ReportError: the folder cannot be written.
    """
    page = folder / "report.md"
    with report_in(folder):
        (folder / "report.json").write_text(json.dumps(_numbers(evaluation, command), indent=2) + "\n", "utf-8")
        _draw_positions(evaluation, folder / "position.png")
        if evaluation.history:
            _draw_history(evaluation.history, folder / "loss.png")
        page.write_text(_page(evaluation, command), "utf-8")
    return page


def _numbers(evaluation: Evaluation, command: str) -> dict[str, Any]:
    return {
        "command": command,
        "record": evaluation.record,
        "warm": evaluation.warm,
        "longest_copied_runs": evaluation.copied,
        "likeness": {name: asdict(found) for name, found in evaluation.distances.items()},
        "splits": {
            name: {
                "tokens": scored.tokens,
                "notes": scored.notes,
                "seconds": scored.seconds,
                "nll_per_token": scored.per_token,
                "nll_per_note": scored.per_note,
                "nll_per_second": scored.per_second,
                "by_kind": scored.by_kind,
                "by_position": [round(nats, 4) for nats in scored.by_position_T.tolist()],
            }
            for name, scored in evaluation.splits.items()
        },
    }


def _page(evaluation: Evaluation, command: str) -> str:
    kinds = list(next(iter(evaluation.splits.values())).by_kind)
    rows = [
        (
            *(name, f"{s.tokens:,}", f"{s.per_token:.4f}", f"{s.per_note:.3f}", f"{s.per_second:.2f}"),
            *(f"{nats:.3f}" for nats in s.by_kind.values()),
        )
        for name, s in evaluation.splits.items()
    ]
    unseen, seen = evaluation.splits.values()
    return "\n".join(
        [
            "# Likelihood",
            "",
            f"`{command}`",
            "",
            f"Nats, with at least {evaluation.warm} tokens of warm context.",
            "",
            *table(("split", "tokens scored", "per token", "per note", "per second", *kinds), rows, numbers=True),
            "",
            f"Overfit gap (unseen minus train): {unseen.per_token - seen.per_token:+.4f} nats per token.",
            *_copied_lines(evaluation.copied),
            *_distance_lines(evaluation.distances),
            "",
            "![Cost against context position](position.png)",
            *(["", "![Cost against tokens of training](loss.png)"] if evaluation.history else []),
            "",
        ]
    )


def _copied_lines(copied: dict[str, list[int]]) -> list[str]:
    if not copied:
        return []
    rows = []
    for name, runs in copied.items():
        p50, p99 = np.percentile(runs, [50, 99])
        rows.append((name, str(len(runs)), f"{p50:.0f}", f"{p99:.0f}", str(max(runs))))
    head = "longest run of pitch steps shared with train, of", "continuations", "median", "p99", "most"
    return ["", *table(head, rows, numbers=True)]


def _distance_lines(found: dict[str, DistributionDistances]) -> list[str]:
    if not found:
        return []
    distances = [(name, f"{x.frechet:.2f}", f"{x.mmd:.4f}", f"{x.overlap:.3f}") for name, x in found.items()]
    means = [(name, f"{x.distinct4:.3f}", *(f"{mean:.3g}" for mean in x.means.values())) for name, x in found.items()]
    head = "how far from the real continuations", "Fréchet distance", "MMD", "overlapping area"
    scalars = next(iter(found.values())).means
    return [
        *("", *table(head, distances, numbers=True)),
        *("", *table(("means", "distinct-4", *scalars), means, numbers=True)),
    ]


def _draw_positions(evaluation: Evaluation, path: Path) -> None:
    figure, axes = axes_of("tokens of context before", "nats per token")
    for name, scored in evaluation.splits.items():
        width = max(1, len(scored.by_position_T) // 64)
        usable = len(scored.by_position_T) // width * width
        axes.plot(range(0, usable, width), scored.by_position_T[:usable].reshape(-1, width).mean(1), label=name)
    axes.legend()
    figure.savefig(path)


def _draw_history(history: list[dict[str, float]], path: Path) -> None:
    figure, axes = axes_of("million tokens of training", "nats per token")
    millions = [row["tokens"] / 1e6 for row in history]
    axes.plot(millions, [row["train_nll"] for row in history], label="train (moving average, augmented)")
    axes.plot(millions, [row["validation_nll"] for row in history], label="validation", marker="o")
    axes.legend()
    figure.savefig(path)
