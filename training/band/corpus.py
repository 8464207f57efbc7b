"""Canvases of a folder of MIDI files: pieces, windows of four bars, splits by tune and a filter by licence."""

from __future__ import annotations

import csv
import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from musebridge.band.families import BASS, DRUMS, FAMILIES
from musebridge.band.layout import BAR, BARS, COLUMNS, PITCHES, STEPS, WIDTH, Cells, cells, leads
from musebridge.band.reading import read
from musebridge.errors import CorpusError, MuseBridgeError

INDEX = "index.tsv"
SPLITS = ("train", "validation", "test")
PITCHED = tuple(family for family in FAMILIES if family != DRUMS)


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """One file.

    Attributes:
        name: its path within the folder.
        group: versions of one tune have the same.
        split: one of ``SPLITS``.
        code: its cells, see :mod:`musebridge.band.layout`, (S, WIDTH).
        bars: (N,), the steps of its bars of 4/4, ascending.
    """

    name: str
    group: str
    split: str
    code: Cells
    bars: npt.NDArray[np.int64]

    def windows(self) -> npt.NDArray[np.int64]:
        """Return at which steps four bars of 4/4 begin that follow each other, (N,)."""
        if len(self.bars) < BARS:
            return self.bars[:0]
        starts, ends = self.bars[: -(BARS - 1)], self.bars[BARS - 1 :]
        return np.asarray(starts[(ends - starts == STEPS - BAR) & (starts + STEPS <= len(self.code))])


def read_pieces(
    folder: Path,
    sources: Sequence[str],
    splits: Sequence[str] = SPLITS,
    on_progress: Callable[[float], None] = lambda _: None,
) -> list[Piece]:
    """Read the files of a folder that are of some sources and splits.

    Args:
        folder: of MIDI files. Where it has an ``index.tsv`` (columns file, tune_group, split), that says what
            there is; elsewhere each file is a tune, and a hash of its name says its split, 80/10/10.
        sources: beginnings of paths within it, such as ``clear/``; one with ``-`` before it is left out.
        on_progress: called with the share that is done, 0..1.

    Raises:
        CorpusError: no file fits, none has bars of 4/4, or none has drums and bass.
    """
    listed = [row for row in _listed(folder) if row[2] in splits and _is_of(row[0], sources)]
    if not listed:
        raise CorpusError(f"{folder}: has no file of {', '.join(sources) or 'any source'} in {', '.join(splits)}")
    pieces = []
    for i, (name, group, split) in enumerate(listed):
        if piece := _piece(folder, name, group, split):
            pieces.append(piece)
        on_progress((i + 1) / len(listed))
    if not any(len(piece.windows()) for piece in pieces):
        raise CorpusError(f"{folder}: no file has four bars of 4/4 in a row, which a band learns from")
    for family in (DRUMS, BASS):
        if not any(piece.code[:, COLUMNS[family]].any() for piece in pieces):
            raise CorpusError(
                f"{folder}: no file has {family}; a band learns from files with drums, bass and one part more"
            )
    return pieces


def _piece(folder: Path, name: str, group: str, split: str) -> Piece | None:
    try:
        canvas, _ = read(folder / name)
    except MuseBridgeError as error:
        warnings.warn(f"{error}; left out", stacklevel=2)
        return None
    bars = [begin for begin, end, metre in canvas.header.bars(canvas.end) if metre.beats == 4 and end - begin == BAR]
    length = -(-canvas.end // BAR) * BAR
    return Piece(name, group, split, cells(canvas, length), np.array(bars, np.int64))


def _is_of(name: str, sources: Sequence[str]) -> bool:
    wanted = [source for source in sources if not source.startswith("-")]
    unwanted = [source[1:] for source in sources if source.startswith("-")]
    return (not wanted or any(map(name.startswith, wanted))) and not any(map(name.startswith, unwanted))


def _listed(folder: Path) -> list[tuple[str, str, str]]:
    if (folder / INDEX).exists():
        with (folder / INDEX).open(encoding="utf-8", newline="") as file:
            return [(row["file"], row["tune_group"], row["split"]) for row in csv.DictReader(file, delimiter="\t")]
    names = sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix.lower() in (".mid", ".midi")
    )
    return [(name, name, _split_of(name)) for name in names]


def _split_of(name: str) -> str:
    tenth = hashlib.sha256(name.encode()).digest()[0] * 10 // 256
    return SPLITS[max(0, tenth - 7)]


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """Four bars each of some pieces.

    Attributes:
        code: (N, STEPS, WIDTH) cells.
        lead: (N,), the row in ``FAMILIES`` of the part that is the player's.
        piece: (N,), of which piece each is.
    """

    code: Cells
    lead: npt.NDArray[np.int64]
    piece: npt.NDArray[np.int64]


def transposed(code: Cells, semitones: int) -> Cells:
    """Return cells with all but the drums moved by some semitones, each family within its range by octaves."""
    if not semitones:
        return code
    moved = np.zeros_like(code)
    moved[:, COLUMNS[DRUMS]] = code[:, COLUMNS[DRUMS]]
    for family in PITCHED:
        own, width = COLUMNS[family], len(PITCHES[family])
        place = np.arange(width) + semitones
        place = np.where(place < 0, place + 12, np.where(place >= width, place - 12, place))
        # What an octave brings onto a cell that plays already is one with it.
        for source in np.argsort(
            (np.arange(width) + semitones < 0) | (np.arange(width) + semitones >= width), kind="stable"
        )[::-1]:
            column = code[:, own.start + source]
            if column.any():
                target = moved[:, own.start + place[source]]
                moved[:, own.start + place[source]] = np.where(column, column, target)
    return moved


class Sampler:
    """Draws windows of pieces at random: each window is as likely as another."""

    def __init__(self, pieces: Sequence[Piece], seed: int) -> None:
        self._pieces = pieces
        self._places = [(i, start) for i, piece in enumerate(pieces) for start in piece.windows().tolist()]
        self._rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        return len(self._places)

    def draw(self, size: int, *, transpose: bool = True) -> Windows:
        """Return some windows, each in a key of its own."""
        chosen = self._rng.integers(len(self._places), size=size)
        code = np.empty((size, STEPS, WIDTH), np.uint8)
        rows = np.empty((2, size), np.int64)
        for row, place in enumerate(chosen.tolist()):
            of, start = self._places[place]
            shift = int(self._rng.integers(-5, 7)) if transpose else 0
            code[row] = transposed(self._pieces[of].code[start : start + STEPS], shift)
            rows[:, row] = leads(code[row]), of
        return Windows(code, rows[0], rows[1])
