"""A small transformer that reads notes, one after another, and says how real they are.

It is the second of the classifiers (``musebridge.training.study.classifiers``). It reads what the
tokens of a window sound like, and nothing else: pitch, touch, the time and the step
since the note before, the length, and how many notes sound. Read as notes, music is
four times as short as in tokens, and lengths need not be inferred from far-off
releases, so it learns from few windows what a transformer on tokens does not.

Tensor names end in their shape: B windows, S notes, A attributes of a note, D width.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musebridge import vocab
from musebridge.training.compute.optimizers import optimizers_of, set_rates, take_step
from musebridge.training.metrics.classification import Scores
from musebridge.training.metrics.features import notes_of
from musebridge.training.models.generator import Block, GeneratorConfig, norm, rope_table

Ids = npt.NDArray[np.int64]

BEFORE, AFTER = 24, 72
"""How many notes of the seed, and then of the continuation, are read; what is missing is silence."""
_TIME_EDGES = np.unique(np.rint(np.geomspace(1, 1000, 40)))
"""Steps of 10 ms from which the next class of times begins: exact up to 80 ms, then as wide as an ear allows."""
_WIDEST, _MOST = 24, 24
"""Steps in semitones, and notes that sound, beyond which no difference is heard."""
_CLASSES = (vocab.N_PITCHES, vocab.N_VELOCITY_BINS, len(_TIME_EDGES) + 1, len(_TIME_EDGES) + 1, 2 * _WIDEST + 1, _MOST)
_AT_ONCE = 128
_RANDOMNESS = threading.Lock()


def small(d_model: int) -> GeneratorConfig:
    """Return the shape of blocks for notes, two layers of this width."""
    return GeneratorConfig(
        n_layers=2, d_model=d_model, n_heads=4, n_kv_heads=4, d_ff=2 * d_model, context=BEFORE + AFTER
    )


_SHAPE = small(96)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerTraining:
    """How the transformer is trained.

    Attributes:
        steps: of training; the learning rates rise over a tenth of them and then fall linearly to zero.
        batch: windows a step, half of them real.
        muon_lr, adam_lr, weight_decay: as in pre-training.
        transpose: windows by up to so many semitones.
        shape: of the transformer's blocks.
    """

    steps: int = 500
    batch: int = 64
    muon_lr: float = 0.01
    adam_lr: float = 2e-3
    weight_decay: float = 0.1
    transpose: int = 5
    shape: GeneratorConfig = _SHAPE


def note_features(window_T: Ids, seed_length: int) -> Ids:
    """Return the notes of a window as classes of their attributes, shape (BEFORE + AFTER, 6); silence is -1."""
    notes = notes_of(window_T)
    onset_N, length_N = (np.rint(x * vocab.STEPS_PER_S) for x in (notes.onset_s_N, notes.length_s_N))
    sounding_N = [((onset_N[:i] + length_N[:i]) > onset_N[i]).sum() for i in range(len(notes))]
    table_NA = np.stack(
        [
            notes.pitch_N,
            notes.velocity_N * vocab.N_VELOCITY_BINS // 128,
            np.searchsorted(_TIME_EDGES, np.diff(onset_N, prepend=0), side="right"),
            np.searchsorted(_TIME_EDGES, length_N, side="right"),
            np.clip(np.diff(notes.pitch_N, prepend=notes.pitch_N[:1]), -_WIDEST, _WIDEST) + _WIDEST,
            np.minimum(sounding_N, _MOST - 1),
        ],
        1,
    ).astype(np.int64)
    first = int((window_T[:seed_length] < vocab.NOTE_OFF).sum())
    before_NA, after_NA = table_NA[:first][-BEFORE:], table_NA[first:][:AFTER]
    return np.pad(
        np.concatenate([before_NA, after_NA]),
        ((BEFORE - len(before_NA), AFTER - len(after_NA)), (0, 0)),
        constant_values=-1,
    )


class NoteTransformer(nn.Module):
    """Notes to the logit that what follows the seed is real."""

    cos: Tensor
    sin: Tensor

    def __init__(self, shape: GeneratorConfig) -> None:
        super().__init__()
        self.attributes = nn.ModuleList(nn.Embedding(1 + classes, shape.d_model) for classes in _CLASSES)
        self.blocks = nn.ModuleList(Block(shape, causal=False) for _ in range(shape.n_layers))
        self.hidden = nn.Linear(2 * shape.d_model, shape.d_model)
        self.verdict = nn.Linear(shape.d_model, 1)
        cos, sin = rope_table(shape)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, notes_BSA: Tensor) -> Tensor:
        """Return a logit for each window, (B,)."""
        x_BSD = sum(table(notes_BSA[..., a] + 1) for a, table in enumerate(self.attributes))
        x_BSD = alone_BSD = norm(x_BSD)
        for block in self.blocks:
            x_BSD, _ = block(x_BSD, self.cos, self.sin, None)
        sounds_BS1 = (notes_BSA[:, BEFORE:, :1] >= 0).to(x_BSD.dtype)
        count_B1 = sounds_BS1.sum(1).clamp(min=1)
        both_BSD = torch.cat([alone_BSD, norm(x_BSD)], -1)[:, BEFORE:]
        pooled_BD = (both_BSD * sounds_BS1).sum(1) / count_B1
        logit_B1: Tensor = self.verdict(F.relu(self.hidden(pooled_BD)))
        return logit_B1[:, 0].float()


def fit(
    notes_MSA: Ids,
    is_real_M: npt.NDArray[np.bool_],
    on_progress: Callable[[float], None],
    training: TransformerTraining,
) -> Callable[[Ids], Scores]:
    """Train a transformer from random weights; return what tells how real others are.

    Args:
        notes_MSA: windows as :func:`note_features` has them.
        is_real_M: which of them are real; each step reads as many real ones as others.
        on_progress: called with the share that is done, 0..1.
        training: how to train.
    """
    rng = np.random.default_rng(0)
    model = _untrained(training.shape)
    optimizers = optimizers_of(model, model.blocks, training.muon_lr, training.adam_lr, training.weight_decay)
    classes = [np.flatnonzero(is_real_M), np.flatnonzero(~is_real_M)]
    label_B = torch.tensor([1.0, 0.0]).repeat_interleave(training.batch // 2)
    for step in range(training.steps):
        rise, fall = min(1.0, 10 * (step + 1) / training.steps), 1 - step / training.steps
        set_rates(optimizers, rise * fall)
        chosen = np.concatenate([rng.choice(members, training.batch // 2) for members in classes])
        notes_BSA = torch.from_numpy(_transposed(notes_MSA[chosen], rng, training.transpose))
        loss = F.binary_cross_entropy_with_logits(model(notes_BSA), label_B)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        take_step(model, optimizers, clip=1.0)
        on_progress((step + 1) / training.steps)
    return lambda others_NSA: _scores(model, others_NSA)


def _untrained(shape: GeneratorConfig) -> NoteTransformer:
    """Return a transformer with always the same weights; others are made side by side, so torch's state is locked."""
    with _RANDOMNESS, torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return NoteTransformer(shape)


def _transposed(notes_BSA: Ids, rng: np.random.Generator, most: int) -> Ids:
    """Return windows in other keys, each moved as a whole, and no further than its pitches allow."""
    moved_BSA = notes_BSA.copy()
    pitch_BS = moved_BSA[..., 0]
    sounds_BS = pitch_BS >= 0
    low_B = np.where(sounds_BS, pitch_BS, 127).min(1)
    semitones_B = np.clip(rng.integers(-most, most + 1, len(pitch_BS)), -low_B, 127 - pitch_BS.max(1))
    pitch_BS += np.where(sounds_BS, semitones_B[:, None], 0)
    return moved_BSA


@torch.inference_mode()
def _scores(model: NoteTransformer, notes_NSA: Ids) -> Scores:
    parts = [model(part_BSA).double() for part_BSA in torch.split(torch.from_numpy(notes_NSA), _AT_ONCE)]
    return np.asarray(torch.cat(parts).numpy())
