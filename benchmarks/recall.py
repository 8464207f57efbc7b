"""What recall is worth, and how strong it should be: fitted on real music that the generator reads.

Of each note of validation pieces it is known what the generator thought of every pitch, given that a note is struck,
and which pitches the notes before call to mind. Strengths make the real pitches the likeliest, a convex problem;
they are told for all pieces, and what they gain is measured on the half of the pieces that they were not fitted on.

Names end in their shape: N notes; P pitches; K kinds of match; L lengths of a match.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.table import Table
from scipy.optimize import minimize

from musebridge import vocab
from musebridge.benchmarks.measure import Row, row_of, seconds
from musebridge.bridge.core import sampling
from musebridge.bridge.core.recall import KINDS, LONGEST, Figures, matches
from musebridge.errors import CorpusError
from musebridge.training.compute.precision import autocast
from musebridge.training.data import corpus
from musebridge.training.metrics.bootstrap import ClusterBootstrap, estimate
from musebridge.training.models import checkpoint
from musebridge.training.models.registry import AnyGenerator

Array = npt.NDArray[np.float64]

_RIDGE = 1e-4
"""Holds strengths back that hang on few notes."""
_TIMED = 10
"""Pieces on which recall is timed."""
_FITTED_KL = np.ones((len(KINDS), LONGEST + 1), bool)
_FITTED_KL[0, 0] = _FITTED_KL[1, :2] = False  # no match, no weight


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """Notes of real music, and what was thought of them.

    Attributes:
        log_p_NP: the generator's log-likelihoods of all pitches, given that a note is struck.
        length_NKP: see :func:`musebridge.bridge.core.recall.matches`.
        pitch_N: what was struck.
        piece_N: where.
    """

    log_p_NP: Array
    length_NKP: npt.NDArray[np.int8]
    pitch_N: npt.NDArray[np.int64]
    piece_N: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.pitch_N)

    def __getitem__(self, chosen_N: npt.NDArray[np.bool_]) -> Notes:
        return Notes(
            log_p_NP=self.log_p_NP[chosen_N],
            length_NKP=self.length_NKP[chosen_N],
            pitch_N=self.pitch_N[chosen_N],
            piece_N=self.piece_N[chosen_N],
        )

    def recalled(self, strength_KL: Array) -> Array:
        """Return the log-likelihoods of all pitches with these strengths, (N, P)."""
        weight_NP = sum(strength_L[self.length_NKP[:, kind]] for kind, strength_L in enumerate(strength_KL))
        log_p_NP = self.log_p_NP + weight_NP
        return np.asarray(log_p_NP - np.logaddexp.reduce(log_p_NP, 1, keepdims=True))

    def of_struck(self, value_NP: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the value of the pitch that was struck, (N,)."""
        return np.asarray(value_NP[np.arange(len(self)), self.pitch_N])


def fit(notes: Notes) -> Array:
    """Return the strengths that make the struck pitches the likeliest, in nats, (K, L)."""

    def cost(fitted: Array) -> tuple[float, Array]:
        strength_KL = _strengths(fitted)
        log_p_NP = notes.recalled(strength_KL)
        expected_KL = _sums(notes.length_NKP, np.exp(log_p_NP))
        struck_NP = np.zeros_like(log_p_NP)
        struck_NP[np.arange(len(notes)), notes.pitch_N] = 1
        slope_KL = (expected_KL - _sums(notes.length_NKP, struck_NP)) / len(notes) + 2 * _RIDGE * strength_KL
        nats = -notes.of_struck(log_p_NP).mean() + _RIDGE * (strength_KL**2).sum()
        return float(nats), slope_KL[_FITTED_KL]

    return _strengths(minimize(cost, np.zeros(_FITTED_KL.sum()), jac=True, method="L-BFGS-B").x)


def _strengths(fitted: Array) -> Array:
    strength_KL = np.zeros(_FITTED_KL.shape)
    strength_KL[_FITTED_KL] = fitted
    return strength_KL


def _sums(length_NKP: npt.NDArray[np.int8], value_NP: Array) -> Array:
    """Return the sum of a value over all pitches that follow a match of each kind and length, (K, L)."""
    return np.stack(
        [np.bincount(length_NKP[:, kind].ravel(), value_NP.ravel(), LONGEST + 1) for kind in range(len(KINDS))]
    )


class Bench:
    """Notes of validation pieces, strengths fitted on them, and what these gain.

    Args:
        path: of the generator's checkpoint.
        corpus_dir: a prepared corpus.
        pieces: how many, of the validation split.
        windows: of each piece, a context long; the second half of each counts.
        on_progress: called with the share that is done, 0..1.

    Raises:
        CorpusError: the split has too few pieces that are longer than the context.
    """

    def __init__(
        self,
        path: Path,
        corpus_dir: Path,
        *,
        pieces: int,
        windows: int,
        on_progress: Callable[[float], None] = lambda _: None,
    ) -> None:
        generator, _ = checkpoint.load_generator(path)
        tokens = corpus.load(corpus_dir).splits["validation"]
        found = [piece for piece in _pieces(tokens) if len(piece) > generator.config.context][:pieces]
        if len(found) < pieces:
            raise CorpusError(f"{corpus_dir}: {len(found)} validation pieces longer than the context, {pieces} needed")
        parts = []
        for i, piece_T in enumerate(found):
            parts.append(_read(generator, piece_T, i, windows))
            on_progress((i + 1) / pieces)
        self._timed = found[:_TIMED]
        self.notes = Notes(
            log_p_NP=np.concatenate([part.log_p_NP for part in parts]),
            length_NKP=np.concatenate([part.length_NKP for part in parts]),
            pitch_N=np.concatenate([part.pitch_N for part in parts]),
            piece_N=np.concatenate([part.piece_N for part in parts]),
        )
        self.strength_KL = fit(self.notes)
        is_odd_N = self.notes.piece_N % 2 == 1
        self.recalled_NP = np.empty_like(self.notes.log_p_NP)
        for half_N in (is_odd_N, ~is_odd_N):
            self.recalled_NP[half_N] = self.notes[half_N].recalled(fit(self.notes[~half_N]))
        self.gain_N = self.notes.of_struck(self.recalled_NP - self.notes.log_p_NP)

    def lines(self) -> Iterator[str]:
        """Yield what recall gains, and the strengths."""
        cost_N = -self.notes.of_struck(self.notes.log_p_NP)
        draws = ClusterBootstrap(self.notes.piece_N)
        yield (
            f"{len(self.notes)} notes of {draws.pieces} pieces: {cost_N.mean():.4f} nats a struck pitch; "
            f"less by {estimate(draws.mean(self.gain_N))} with strengths from the other half of the pieces"
        )
        for kind, strength_L in zip(KINDS, self.strength_KL, strict=True):
            yield f"strengths, {kind}: {', '.join(f'{strength:.2f}' for strength in strength_L)}"

    def table(self) -> Table:
        """Return how often what a match calls to mind follows, and what the generator thinks of it."""
        table = Table("last pitches that came before", "share", "the same follows", "generator", "recall", "gain, nats")
        for kind, name in enumerate(KINDS):
            longest_N = self.notes.length_NKP[:, kind].max(1)
            for length in range(1 + kind, LONGEST + 1):
                chosen_N = longest_N == length
                if not chosen_N.any():
                    continue
                called_NP = self.notes.length_NKP[chosen_N, kind] == length
                follows = self.notes[chosen_N].of_struck(called_NP).mean()
                before, after = (
                    (np.exp(log_p_NP[chosen_N]) * called_NP).sum(1).mean()
                    for log_p_NP in (self.notes.log_p_NP, self.recalled_NP)
                )
                figures = (chosen_N.mean(), follows, before, after, self.gain_N[chosen_N].mean())
                table.add_row(f"{name}, {length}{'+' * (length == LONGEST)}", *(f"{x:.3f}" for x in figures))
        return table

    def times(self) -> list[Row]:
        """Return how long recall takes for a note and for another token, in milliseconds."""
        logits_V = np.zeros(vocab.N_TOKENS, np.float32)
        taken_s: dict[bool, list[float]] = {True: [], False: []}
        for piece_T in self._timed:
            figures = Figures()
            for position, token in enumerate(piece_T.tolist()):

                def recall(figures: Figures = figures, position: int = position, token: int = token) -> None:
                    figures.append(position, [token])
                    sampling.favour(logits_V, figures.weights())

                taken_s[token < vocab.NOTE_OFF].append(seconds(recall))
        return [
            row_of(f"recall, {what}", "ms", np.array(taken_s[is_note]) * 1e3)
            for what, is_note in (("a note", True), ("another token", False))
        ]


def _pieces(tokens: npt.NDArray[np.uint16]) -> list[npt.NDArray[np.int64]]:
    """Return the pieces of a split, in an order that is always the same."""
    parts = np.split(tokens.astype(np.int64), np.flatnonzero(tokens == vocab.BEGIN))[1:]
    return [parts[i] for i in np.random.default_rng(1).permutation(len(parts))]


@torch.inference_mode()
def _read(generator: AnyGenerator, piece_T: npt.NDArray[np.int64], piece: int, windows: int) -> Notes:
    """Return the notes in the second half of windows that are spread over a piece."""
    context = generator.config.context
    starts = np.unique(np.linspace(0, len(piece_T) - context - 1, windows).astype(np.int64))
    warm, is_note_T = context // 2, piece_T < vocab.NOTE_OFF
    log_p, places = [], []
    for start in starts:
        window_BT = torch.from_numpy(piece_T[start : start + context])[None]
        with autocast(window_BT.device):
            logits_TV = generator(window_BT)[0]
        scored_T = np.flatnonzero(is_note_T[start + warm + 1 : start + context + 1]) + warm
        log_p.append(torch.log_softmax(logits_TV[scored_T, : vocab.NOTE_OFF], -1).double().numpy())
        places.append(scored_T + start + 1)
    place_N, pitches = np.concatenate(places), piece_T[is_note_T].astype(np.int16)
    count_N = np.cumsum(is_note_T)[place_N] - 1
    return Notes(
        log_p_NP=np.concatenate(log_p),
        length_NKP=np.stack([matches(pitches[:count]) for count in count_N]),
        pitch_N=piece_T[place_N],
        piece_N=np.full(len(place_N), piece),
    )
