"""What a band plays to a canvas: four bars at a time, where a family is silent."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from musebridge.band.artifact import BandInfo
from musebridge.band.canvas import Canvas
from musebridge.band.families import DRUMS, FAMILIES
from musebridge.band.layout import BAR, BARS, COLUMNS, PITCHES, STEPS, Cells, cells, condition, leads, to_family_planes
from musebridge.band.planes import GridNotes, to_notes
from musebridge.band.sampling import sample
from musebridge.bridge.core.chart import Chart, Chord, lean

Floats = npt.NDArray[np.float32]
LEAN = 2.0
"""Nats by which tones of a chord are likelier than others."""


class Band(Protocol):
    """What gives logits; see ``bridge/inference/band.py``."""

    info: BandInfo

    def logits(self, condition: Floats, noise: Floats) -> dict[str, tuple[Floats, Floats]]:
        """Return logits and velocities of each family."""
        ...


def play(
    band: Band,
    heard: Floats,
    rng: np.random.Generator,
    *,
    chords: Sequence[Chord | None] = (),
    families: Collection[str] = FAMILIES,
    temperature: float = 1.0,
) -> Cells:
    """Draw four bars, (STEPS, WIDTH).

    Args:
        band: what plays.
        heard: the player's part, as :func:`condition` gives it.
        rng: what is drawn from.
        chords: that of each step, to which all but drums lean; none where empty.
        families: those that shall play.
        temperature: logits are divided by it.
    """
    noise = rng.standard_normal(band.info.noise).astype(np.float32)
    outputs = {f: out for f, out in band.logits(heard, noise).items() if f in families}
    if chords:
        outputs = {f: out if f == DRUMS else (_leant(out[0], f, chords), out[1]) for f, out in outputs.items()}
    if not outputs:
        return cells_of_silence()
    drawn_from = rng if band.info.is_sampled else None
    return sample(outputs, drawn_from, temperature=temperature, monophonic=band.info.monophonic)


def cells_of_silence() -> Cells:
    """Return four bars of nothing."""
    return np.zeros((STEPS, COLUMNS[FAMILIES[-1]].stop), np.uint8)


def _leant(logits: Floats, family: str, chords: Sequence[Chord | None]) -> Floats:
    pitches = np.array(PITCHES[family])
    bias = np.stack([lean(chord, LEAN, pitches) for chord in chords])
    return np.concatenate([logits[:1], logits[1:] + bias]).astype(np.float32)


def accompany(
    canvas: Canvas,
    band: Band,
    rng: np.random.Generator,
    *,
    chart: Chart | None = None,
    families: Collection[str] = FAMILIES,
    temperature: float = 1.0,
) -> GridNotes:
    """Return what a band adds to a canvas, ``voice`` being the row in ``FAMILIES``.

    A family plays in the bars of 4/4 in which it has nothing to play itself; bars of other metres stay as they are.

    Raises:
        ConfigError: the chart is not in 4/4.
    """
    lines = [line for line, after, _ in canvas.header.bars(canvas.end) if after - line == BAR]
    code = cells(canvas, (lines[-1] if lines else 0) + STEPS)
    found = [GridNotes.none()]
    for first in _windows(lines):
        window = code[first : first + STEPS]
        chords = _chords(chart, first // BAR) if chart else ()
        heard = condition(window, leads(window)) if band.info.hears else condition(window, -1)
        drawn = play(band, heard, rng, chords=chords, families=families, temperature=temperature)
        _leave_out(drawn, window, [first + BAR * bar in set(lines) for bar in range(BARS)])
        notes = to_notes(to_family_planes(drawn))
        found.append(GridNotes(notes.voice, notes.step + first, notes.length, notes.pitch, notes.velocity))
    columns = (np.concatenate([getattr(notes, name) for notes in found]) for name in GridNotes.__slots__)
    return GridNotes(*columns).in_order()


def _windows(lines: Sequence[int]) -> list[int]:
    """Return where windows begin that cover all bars, without covering one twice."""
    found: list[int] = []
    for line in lines:
        if not found or line >= found[-1] + STEPS:
            found.append(line)
    return found


def _chords(chart: Chart, bar: int) -> list[Chord | None]:
    return [chord for i in range(BARS) for chord in chart.steps(bar + i, BAR)]


def _leave_out(drawn: Cells, window: Cells, is_bar: Sequence[bool]) -> None:
    """Silence what is drawn where a family plays already, or where no bar of 4/4 is."""
    for bar, is_whole in enumerate(is_bar):
        steps = slice(bar * BAR, (bar + 1) * BAR)
        for family in FAMILIES:
            if not is_whole or window[steps, COLUMNS[family]].any():
                drawn[steps, COLUMNS[family]] = 0


def jam(
    band: Band,
    bars: int,
    rng: np.random.Generator,
    *,
    chart: Chart | None = None,
    families: Collection[str] = FAMILIES,
    temperature: float = 1.0,
) -> GridNotes:
    """Return bars of 4/4 from noise, ``voice`` being the row in ``FAMILIES``."""
    found = []
    nothing = condition(cells_of_silence(), -1)
    for first in range(0, bars, BARS):
        chords = _chords(chart, first) if chart else ()
        drawn = play(band, nothing, rng, chords=chords, families=families, temperature=temperature)
        found.append(drawn)
    return to_notes(to_family_planes(np.concatenate(found)[: bars * BAR]))
