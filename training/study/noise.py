"""The noise study of earlier work: how much noise does it take until a classifier detects it?

Uniform noise is put on the velocities, or on the time shifts, of real
continuations. Two classifiers tell them from the untouched ones: the discriminator,
which was never trained on noise, and a fresh one that is trained to detect just
this noise and scored on other pieces. Real music against real music is the
control: it must be at chance. Where it is asked for, two transformers are trained
on other music to detect each noise as well: one as it should be, and one that
attends over the batch, as that of the earlier work did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from musebridge import vocab
from musebridge.errors import CorpusError
from musebridge.report import report_in, table
from musebridge.training.adversarial import trained_discriminator
from musebridge.training.adversarial.discriminator_trainer import verdicts
from musebridge.training.compute.precision import autocast
from musebridge.training.data.corpus import Corpus
from musebridge.training.data.tokens import Tokens
from musebridge.training.metrics.classification import (
    ClassificationMetrics,
    Scores,
    best_threshold,
    classification_metrics,
)
from musebridge.training.metrics.two_sample import cross_validated_scores
from musebridge.training.models import checkpoint
from musebridge.training.models.token_features import statistics, token_features
from musebridge.training.sampling.pairs import Window, starts_within_pieces
from musebridge.training.study.plots import axes_of
from musebridge.training.study.token_transformer import fit, scores

VELOCITY_BINS, SHIFT_STEPS = (1, 2, 4), (2, 5, 10)
_AT_ONCE, _FEWEST = 32, 8
_TAUGHT_ON = 8192
_RANGES = {
    "VELOCITY": (vocab.VELOCITY, vocab.BEGIN),
    "TIME_SHIFT": (vocab.TIME_SHIFT, vocab.VELOCITY),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseRow:
    """How well each classifier detects one noise; ``kind`` is empty for the control.

    ``taught`` and ``mistaken`` are the transformers, the latter with the mistake of earlier work.
    """

    kind: str
    width: int
    discriminator: ClassificationMetrics
    fresh: ClassificationMetrics
    taught: ClassificationMetrics | None = None
    mistaken: ClassificationMetrics | None = None

    @property
    def name(self) -> str:
        """What was done to the music."""
        if not self.kind:
            return "nothing (real against real)"
        unit = f"{self.width * 10} ms" if self.kind == "TIME_SHIFT" else f"{self.width} of 32 bins"
        return f"{self.kind} ±{unit}"


def with_noise(tokens: Tokens, kind: str, width: int, rng: np.random.Generator) -> Tokens:
    """Return tokens in which those of a kind are moved evenly by up to ``width``, within the range of the kind."""
    low, high = _RANGES[kind]
    moved = np.clip(tokens + rng.integers(-width, width + 1, tokens.shape), low, high - 1)
    return np.where((tokens >= low) & (tokens < high), moved, tokens)


def jittered(tokens: Tokens, most: int, rng: np.random.Generator) -> Tokens:
    """Return tokens in which every note begins and ends up to ``most`` steps earlier or later, each on its own.

    Notes that were struck together are so no longer, so there may be more tokens than before, or a few fewer.
    """
    moved, step, velocity = [], 0, -1
    for token in tokens.tolist():
        if token >= vocab.VELOCITY:
            velocity = token
        elif token >= vocab.TIME_SHIFT:
            step += token - vocab.TIME_SHIFT + 1
        else:
            moved.append((max(0, step + int(rng.integers(-most, most + 1))), token, velocity))
    out: list[int] = []
    now, said = 0, -1
    for at, token, velocity in sorted(moved, key=lambda event: event[0]):
        out += vocab.shift_tokens(at - now)
        if token < vocab.NOTE_OFF and velocity not in (said, -1):  # -1: as loud as what came before these tokens
            out.append(velocity)
            said = velocity
        out.append(token)
        now = at
    return np.array(out, np.int64)


def study(
    folder: Path,
    corpus: Corpus,
    *,
    split: str,
    windows: int,
    window: Window,
    transformer_steps: int = 0,
    on_progress: Callable[[float], None] = lambda _: None,
) -> Iterator[NoiseRow]:
    """Yield how well each noise is detected, the control first.

    Args:
        folder: of a discriminator and of the generator that hints to it.
        corpus: packed tokens.
        split: of the corpus.
        windows: how many to classify.
        window: lengths of seed and continuation.
        transformer_steps: steps that the two transformers are trained on each noise, on the train split; 0 for none.
        on_progress: called with the share that is done, 0..1.

    Raises:
        CheckpointError: the folder holds no discriminator.
        CorpusError: the split has too few windows.
    """
    rng = np.random.default_rng(0)
    real_NT, piece_N = _windows(corpus, split, window, windows)
    train_NT = _windows(corpus, "train", window, _TAUGHT_ON)[0] if transformer_steps else real_NT[:0]
    scorer = _Scorer(folder, window.seed_length)
    untouched = scorer.measure(real_NT)
    order = np.argsort(piece_N, kind="stable")[: 2 * (len(piece_N) // 2)]
    one, other = order[::2], order[1::2]  # neighbours: mostly of the same piece
    yield _row("", 0, untouched.at(one), untouched.at(other), piece_N[one])
    noises = [("VELOCITY", width) for width in VELOCITY_BINS] + [("TIME_SHIFT", width) for width in SHIFT_STEPS]
    for i, (kind, width) in enumerate(noises):

        def noised(window_NT: Tokens, kind: str = kind, width: int = width) -> Tokens:
            part_NT = with_noise(window_NT[:, window.seed_length :], kind, width, rng)
            return np.concatenate([window_NT[:, : window.seed_length], part_NT], 1)

        noised_NT = noised(real_NT)
        row = _row(kind, width, untouched, scorer.measure(noised_NT), piece_N)
        if transformer_steps:
            of_train, of_split = (train_NT, noised(train_NT)), (real_NT, noised_NT)
            taught, mistaken = _by_transformers(of_train, of_split, piece_N, window.seed_length, transformer_steps)
            row = replace(row, taught=taught, mistaken=mistaken)
        yield row
        on_progress((i + 1) / len(noises))


def _by_transformers(
    of_train: tuple[Tokens, Tokens], of_split: tuple[Tokens, Tokens], piece_N: Tokens, seed_length: int, steps: int
) -> list[ClassificationMetrics]:
    """Return how well a transformer tells windows from noised ones: over time, and over the batch by mistake."""
    measured = []
    for over_batch in (False, True):
        model = fit(*of_train, seed_length, over_batch=over_batch, steps=steps)
        measured.append(_metrics(*scores(model, *of_split, seed_length), piece_N))
    return measured


def _windows(corpus: Corpus, split: str, window: Window, count: int) -> tuple[Tokens, Tokens]:
    """Return windows of a split, (N, T), and the piece of each, (N,)."""
    tokens = corpus.splits[split]
    starts = starts_within_pieces(tokens, window.length, seed=0)[:count]
    if len(starts) < _FEWEST:
        raise CorpusError(f"{corpus.folder}: {split} has {len(starts)} windows, {_FEWEST} are needed")
    window_NT = np.stack([tokens[s : s + window.length] for s in starts]).astype(np.int64)
    return window_NT, np.cumsum(tokens == vocab.BEGIN)[starts]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """What the classifiers read of some windows: verdicts of the discriminator, figures for the fresh classifier."""

    verdict_N: Scores
    figures_NF: Scores

    def at(self, chosen: npt.NDArray[np.int64]) -> _Measured:
        return _Measured(verdict_N=self.verdict_N[chosen], figures_NF=self.figures_NF[chosen])


class _Scorer:
    def __init__(self, folder: Path, seed_length: int) -> None:
        self._discriminator, self._seed_length = trained_discriminator.load(folder).discriminator, seed_length
        self._generator = checkpoint.load_generator(folder)[0]

    @torch.no_grad()
    def measure(self, window_NT: Tokens) -> _Measured:
        window_MT = torch.from_numpy(window_NT)
        with autocast(window_MT.device):
            features_MTF = torch.cat(
                [token_features(self._generator, part_BT) for part_BT in torch.split(window_MT, _AT_ONCE)]
            )
        figures = statistics(window_MT[:, self._seed_length :], features_MTF[:, self._seed_length :])
        return _Measured(
            verdict_N=verdicts(self._discriminator, window_MT, features_MTF, self._seed_length),
            figures_NF=figures.double().numpy(),
        )


def _row(kind: str, width: int, real: _Measured, noised: _Measured, piece_N: Tokens) -> NoiseRow:
    return NoiseRow(
        kind=kind,
        width=width,
        discriminator=_metrics(real.verdict_N, noised.verdict_N, piece_N),
        fresh=_metrics(*cross_validated_scores(real.figures_NF, noised.figures_NF, piece_N), piece_N),
    )


def _metrics(real_N: Scores, noised_N: Scores, piece_N: Tokens) -> ClassificationMetrics:
    """Measure scores on half of the pieces; the other half chooses the threshold."""
    chooses = piece_N % 2 == 0
    threshold = best_threshold(real_N[chooses], noised_N[chooses])
    return classification_metrics(real_N[~chooses], noised_N[~chooses], piece_N[~chooses], threshold=threshold)


def write_study(rows: list[NoiseRow], folder: Path, command: str) -> Path:
    """Write ``noise.md`` and ``noise.png``.

    Raises:
        ReportError: the folder cannot be written.
    """
    page = folder / "noise.md"
    with report_in(folder):
        for kind in _RANGES:
            _draw([row for row in rows if row.kind in ("", kind)], kind, folder / f"noise-{kind.lower()}.png")
        page.write_text(_page(rows, command), "utf-8")
    return page


def _page(rows: list[NoiseRow], command: str) -> str:
    first = rows[-1].fresh
    lines = [
        "# How much noise is detected?",
        "",
        f"`{command}`",
        "",
        f"Real continuations against the same ones with noise: {first.pairs} of {first.pieces} pieces, with 95 %",
        "intervals whose bootstrap draws pieces. The discriminator was never trained on noise; the fresh",
        "classifier was.",
        "",
        *_table(rows, {"discriminator": lambda row: row.discriminator, "fresh classifier": lambda row: row.fresh}),
    ]
    if rows[-1].taught:
        lines += [
            "",
            "Two transformers on tokens were trained on each noise. One attends over time; the other over the batch,",
            "as in the work that reported F1 0.55 of one class for its discriminator, where to give always that class",
            "scores 0.667:",
            "",
            *_table(rows[1:], {"over time": lambda row: row.taught, "over the batch": lambda row: row.mistaken}),
        ]
    return "\n".join([*lines, "", *(f"![{kind}](noise-{kind.lower()}.png)" for kind in _RANGES), ""])


def _table(rows: list[NoiseRow], judges: dict[str, Callable[[NoiseRow], ClassificationMetrics | None]]) -> list[str]:
    head = ["noise", *(f"{name} {figure}" for name in judges for figure in ("AUROC", "macro-F1", "MCC"))]
    made = []
    for row in rows:
        measured = [metrics for of in judges.values() if (metrics := of(row))]
        made.append((row.name, *(str(figure) for m in measured for figure in (m.auroc, m.macro_f1, m.mcc))))
    return table(head, made)


def _draw(rows: list[NoiseRow], kind: str, path: Path) -> None:
    figure, axes = axes_of(f"{kind}: noise up to ± tokens", "AUROC")
    for name, measured in (
        ("the discriminator", {row.width: row.discriminator for row in rows}),
        ("a fresh classifier", {row.width: row.fresh for row in rows}),
        ("a transformer trained on it", {row.width: row.taught for row in rows if row.taught}),
        ("the same, over the batch", {row.width: row.mistaken for row in rows if row.mistaken}),
    ):
        if not measured:
            continue
        values = np.array([s.auroc.value for s in measured.values()])
        reach = np.abs(np.array([[s.auroc.low, s.auroc.high] for s in measured.values()]).T - values)
        axes.errorbar([*measured], values, reach, marker="o", capsize=4, label=name)
    axes.axhline(0.5, color="grey", linewidth=1)
    axes.legend()
    figure.savefig(path)
