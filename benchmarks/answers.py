"""How like real music is what the bridge writes, as it is set: judged by features, and by how long notes last.

The settings' constraints and the care that no note is forgotten change what a generator writes, which is all that an
evaluation of the generator tells of. The limit is what other real music, the seeds, is like.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from musebridge import vocab
from musebridge.benchmarks.measure import Row, row_of
from musebridge.bridge.app.preset import Preset
from musebridge.bridge.core.candidates import Candidates
from musebridge.bridge.core.continuation import read
from musebridge.bridge.inference.engine import OnnxEngine
from musebridge.errors import CorpusError
from musebridge.training.data import corpus
from musebridge.training.data.tokens import AnyTokens
from musebridge.training.metrics.distances import distribution_distances
from musebridge.training.metrics.features import notes_of
from musebridge.training.sampling.pairs import starts_within_pieces

_LONG_S = (3.0, 5.0, 9.9)
"""Lengths beyond which notes are counted; the bridge ends each after 10 s."""
REAL, OURS, LIMIT = "players", "the bridge", "other real music"


class Bench:
    """Seeds from the validation split, how players went on, and how the bridge does.

    Args:
        preset: its model and settings.
        corpus_dir: a prepared corpus.
        seeds: how many.
        length: of seeds and of what follows, in tokens.
        on_progress: called with the share that is done, 0..1.

    Raises:
        CorpusError: the split has too few windows.
    """

    def __init__(
        self,
        preset: Preset,
        corpus_dir: Path,
        *,
        seeds: int,
        length: int,
        on_progress: Callable[[float], None] = lambda _: None,
    ) -> None:
        engine, tokens = OnnxEngine(preset.model), corpus.load(corpus_dir).splits["validation"]
        starts = starts_within_pieces(tokens, 2 * length, seed=0)[:seeds]
        if len(starts) < seeds:
            raise CorpusError(f"{corpus_dir}: {len(starts)} validation windows of {2 * length} tokens, {seeds} needed")
        self.music: dict[str, list[AnyTokens]] = {REAL: [], OURS: [], LIMIT: []}
        for n, start in enumerate(starts):
            seed_T, real_T = tokens[start:][:length], tokens[start:][length : 2 * length]
            stream = Candidates(engine, *read([*vocab.decode(seed_T.tolist())]), np.random.default_rng(n), 1)
            (candidate,) = stream.write(length, preset.settings)
            written = real_T, np.array(candidate.tokens), seed_T
            for music, window_T in zip(self.music.values(), written, strict=True):
                music.append(window_T)
            on_progress((n + 1) / seeds)

    def rows(self) -> list[Row]:
        """Return how long notes last."""
        return [row_of(f"length of a note, {who}", "s", self._lengths(who)) for who in self.music]

    def lines(self) -> Iterator[str]:
        """Yield what share of notes is long, and how like the players' each set is."""
        for who in self.music:
            longer = [f"{(self._lengths(who) > s).mean():.2%} beyond {s:g} s" for s in _LONG_S]
            yield f"notes of {who}: {', '.join(longer)}"
        real, *others = self.music.items()
        for who, like in distribution_distances(real[1], dict(others)).items():
            means = ", ".join(f"{feature} {mean:.3g}" for feature, mean in like.means.items())
            yield (
                f"{who}: Fréchet distance {like.frechet:.2f}, MMD {like.mmd:.4f}, overlapping area {like.overlap:.3f}; "
                f"{means}"
            )

    def _lengths(self, who: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.concatenate([notes_of(window_T).length_s_N for window_T in self.music[who]])
