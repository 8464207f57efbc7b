"""What the bridge keeps of what it heard: figures, pulse and pitch classes, beside how the players went on.

Pieces of the validation split are cut after their first seconds and continued as by ``musebridge continue --opening``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from musebridge import vocab
from musebridge.bridge.app.preset import Preset
from musebridge.bridge.core.continuation import continue_piece, cut, opening
from musebridge.bridge.inference.engine import OnnxEngine
from musebridge.errors import CorpusError
from musebridge.events import Timed
from musebridge.training.data import corpus
from musebridge.training.metrics.bootstrap import ClusterBootstrap, Estimate, estimate
from musebridge.training.metrics.features import Notes, notes_of
from musebridge.training.metrics.memory import Memory, memory

Array = npt.NDArray[np.float64]

SLICE_S = 10.0
PLAYERS = "players"
_GOALS = (
    ("figures taken up in the first slice", "figures", 1, False),
    ("pulse kept over two slices, as a share of the players'", "pulse", 2, True),
    ("pitch classes kept over two slices, as a share of the players'", "pitch_classes", 2, True),
    ("notes in loops, all slices", "loops", None, False),
)
"""What is told in a line: its name, the measure, over how many slices, and whether beside the players' as a share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A measure of one who plays, in one slice; the figures of the seam have no slice."""

    measure: str
    who: str
    slice: int | None
    mean: Estimate
    beyond_players: Estimate


class Bench:
    """Pieces, how their players went on, and how the bridge does with each preset.

    Args:
        presets: of different names.
        corpus_dir: a prepared corpus.
        pieces: how many, of the validation split.
        opening_s: how much of each the bridge hears.
        slices: of :data:`SLICE_S`, to write and measure.
        on_progress: called with the share that is done, 0..1.

    Raises:
        CorpusError: the split has too few pieces that are long enough.
    """

    def __init__(
        self,
        presets: Sequence[Preset],
        corpus_dir: Path,
        *,
        pieces: int,
        opening_s: float,
        slices: int,
        on_progress: Callable[[float], None] = lambda _: None,
    ) -> None:
        seconds = slices * SLICE_S
        chosen = _pieces(corpus_dir, opening_s + seconds, pieces)
        self.slices, self._bootstrap = slices, ClusterBootstrap(np.arange(pieces))
        streams = {PLAYERS: [_notes(cut(events, opening_s + seconds)) for events in chosen]}
        for i, preset in enumerate(presets):
            engine, written = OnnxEngine(preset.model), streams.setdefault(preset.name, [])
            for n, events in enumerate(chosen):
                seed, rng = opening(events, opening_s), np.random.default_rng(n)
                more = continue_piece(engine, seed, seconds=seconds, settings=preset.settings, rng=rng)
                written.append(_notes([*cut(events, opening_s), *more]))
                on_progress((i + (n + 1) / pieces) / len(presets))
        self.measured = {who: memory(music, opening_s, slices, SLICE_S) for who, music in streams.items()}

    def cells(self) -> list[Cell]:
        """Return every measure of everyone in every slice."""
        return [
            Cell(
                measure=field.name,
                who=who,
                slice=None if value.ndim == 1 else s,
                mean=estimate(self._bootstrap.mean(column_N)),
                beyond_players=estimate(self._bootstrap.mean(column_N) - self._bootstrap.mean(players_N)),
            )
            for field in fields(Memory)
            for who, measured in self.measured.items()
            for value, players in [(getattr(measured, field.name), getattr(self.measured[PLAYERS], field.name))]
            for s, (column_N, players_N) in enumerate(zip(_columns(value), _columns(players), strict=True))
        ]

    def lines(self) -> list[str]:
        """Return what a listener hears first, with 95 % intervals over pieces."""
        told = []
        for name, measure, slices, as_share in _GOALS:
            mean_R = {who: self._over(measured, measure, slices) for who, measured in self.measured.items()}
            for who, value_R in mean_R.items():
                share_R = np.divide(
                    value_R, mean_R[PLAYERS], out=np.full_like(value_R, np.nan), where=mean_R[PLAYERS] != 0
                )
                told.append(f"{name}, {who}: {estimate(share_R if as_share else value_R)}")
        return told

    def _over(self, measured: Memory, measure: str, slices: int | None) -> Array:
        """Return the mean of a measure over its first slices, for each draw of pieces."""
        columns = _columns(getattr(measured, measure))[:slices]
        return np.asarray(np.mean([self._bootstrap.mean(column_N) for column_N in columns], 0))


def show(cells: Sequence[Cell], slices: int, console: Console) -> None:
    """Print a table: means, marked where the interval of the difference from the players leaves out 0."""
    spans = [f"{k * SLICE_S:g}-{(k + 1) * SLICE_S:g} s" for k in range(slices)]
    table = Table("", "who", *spans, caption="* not as the players: 95 % interval over pieces")
    rows: dict[tuple[str, str], list[str]] = {}
    for cell in cells:
        beyond = cell.beyond_players
        mark = "*" if beyond.low > 0 or beyond.high < 0 else ""
        rows.setdefault((cell.measure, cell.who), []).append(f"{cell.mean.value:.3f}{mark}")
    for (measure, who), values in rows.items():
        table.add_row(measure.replace("_", " "), who, *values)
    if not console.is_terminal:
        console.width = max(console.width, 120)
    console.print(table)


def write(cells: Sequence[Cell], path: Path) -> None:
    """Write the cells as JSON."""
    path.write_text(json.dumps([asdict(cell) for cell in cells], indent=1) + "\n", encoding="utf-8")


def _columns(value: Array) -> list[Array]:
    """Return a measure slice by slice."""
    return [value] if value.ndim == 1 else [*value.T]


def _pieces(corpus_dir: Path, least_s: float, count: int) -> list[list[Timed]]:
    """Return pieces that are long enough, in an order that is always the same."""
    tokens = corpus.load(corpus_dir).splits["validation"]
    bounds = [*np.flatnonzero(tokens == vocab.BEGIN).tolist(), len(tokens)]
    order = np.random.default_rng(0).permutation(len(bounds) - 1)
    spans = [*pairwise(bounds)]
    found: list[list[Timed]] = []
    for i in order:
        events = [*vocab.decode(tokens[slice(*spans[i])].tolist())]
        if events and events[-1].time_s >= least_s:
            found.append(events)
        if len(found) == count:
            return found
    raise CorpusError(f"{corpus_dir}: {len(found)} validation pieces of {least_s:g} s, {count} needed")


def _notes(events: Sequence[Timed]) -> Notes:
    return notes_of(np.array(vocab.encode(events)))
