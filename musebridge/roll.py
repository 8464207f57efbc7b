"""Piano rolls: a picture of what was played, and a line of a live one for the terminal."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PatchCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from rich.text import Text

from musebridge.errors import PictureError
from musebridge.events import SUSTAIN, Control, NoteOff, NoteOn, Timed

COLOURS = ("#57b8ff", "#ffb454", "#7ee2a8", "#ff7a90", "#c79bff")
"""One for each part, in turn."""
_PAPER, _BLACK_KEYS, _OCTAVES, _SEMITONES, _INK = "#12161f", "#0d1018", "#39435a", "#1a202d", "#c9d3e6"
_IS_BLACK_KEY = {1, 3, 6, 8, 10}
_MARGIN_PITCHES, _NOTE_HEIGHT, _PEDAL_HEIGHT, _PEDAL_LANE = 3, 0.84, 0.4, 0.7
_FAINTEST, _SOFT, _LOUD = 0.35, 20, 108
_INCHES_PER_S, _INCHES_LEAST, _INCHES_MOST, _DPI = 0.35, 12.0, 40.0, 150

PLAYER_STYLE, MODEL_STYLE = COLOURS[0], COLOURS[1]
_CELLS = {"player": ("█", PLAYER_STYLE), "model": ("▓", MODEL_STYLE)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One note as it is drawn: from when to when, which pitch, how loud."""

    start_s: float
    end_s: float
    pitch: int
    velocity: int


def bars(events: Sequence[Timed], end_s: float) -> list[Bar]:
    """Return a part's notes; a re-strike ends the earlier note, ``end_s`` those that are still open."""
    done: list[Bar] = []
    struck: dict[int, tuple[float, int]] = {}

    def lift(pitch: int, at_s: float) -> None:
        if pitch in struck:
            start_s, velocity = struck.pop(pitch)
            done.append(Bar(start_s=start_s, end_s=at_s, pitch=pitch, velocity=velocity))

    for timed in events:
        match timed.event:
            case NoteOn(pitch=pitch, velocity=velocity):
                lift(pitch, timed.time_s)
                struck[pitch] = (timed.time_s, velocity)
            case NoteOff(pitch=pitch):
                lift(pitch, timed.time_s)
    for pitch in sorted(struck):
        lift(pitch, end_s)
    return done


def pedal_spans(events: Sequence[Timed], end_s: float) -> Iterator[tuple[float, float]]:
    """Yield from when to when a part holds the sustain pedal down."""
    down_s: float | None = None
    for timed in events:
        match timed.event:
            case Control(controller=controller, value=value) if controller == SUSTAIN:
                if value < 64 and down_s is not None:
                    yield down_s, timed.time_s
                    down_s = None
                elif value >= 64 and down_s is None:
                    down_s = timed.time_s
    if down_s is not None:
        yield down_s, end_s


def save_roll(path: str | Path, parts: Mapping[str, Sequence[Timed]], title: str = "") -> None:
    """Draw parts (times in seconds from one origin) as a piano roll into a PNG.

    Each part has its colour, a louder note a stronger one. A dashed line marks
    where the last part begins, a bar under the notes where a pedal is down.

    Raises:
        PictureError: the file cannot be written.
    """
    figure = _figure(parts, title)
    with warnings.catch_warnings():
        # A title in a script that the font lacks shows boxes; that is no reason to alarm anyone.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        try:
            figure.savefig(path, format="png", facecolor=_PAPER)
        except OSError as error:
            raise PictureError(f"{path}: cannot be written: {error.strerror}; choose another place") from error


def roll_lines(sounding: Mapping[int, str], low: int, high: int) -> Text:
    """Return one line of a live piano roll: a column for each pitch ``low`` ... ``high``.

    Args:
        sounding: who plays each sounding pitch, ``player`` or ``model``.
        low, high: the lowest and highest pitch that are shown.
    """
    line = Text(no_wrap=True, overflow="crop")
    for pitch in range(low, high + 1):
        empty = ("│" if pitch % 12 == 0 else "·", "dim")
        cell, style = _CELLS[sounding[pitch]] if pitch in sounding else empty
        line.append(cell, style)
    return line


def _figure(parts: Mapping[str, Sequence[Timed]], title: str) -> Figure:
    end_s = max((timed.time_s for events in parts.values() for timed in events), default=0.0) or 1.0
    drawn = {name: bars(events, end_s) for name, events in parts.items()}
    pitches = [bar.pitch for part in drawn.values() for bar in part] or [60]
    low, high = max(0, min(pitches) - _MARGIN_PITCHES), min(127, max(pitches) + _MARGIN_PITCHES)
    width = float(np.clip(end_s * _INCHES_PER_S, _INCHES_LEAST, _INCHES_MOST))
    figure = Figure(figsize=(width, 2.2 + 0.075 * (high - low + 8)), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    pedals = {name: spans for name, events in parts.items() if (spans := list(pedal_spans(events, end_s)))}
    _draw_keys(axes, low, high, lanes=len(pedals))
    colours = dict(zip(parts, itertools.cycle(COLOURS), strict=False))
    for name, part in drawn.items():
        _draw_notes(axes, part, colours[name])
    for lane, (name, spans) in enumerate(pedals.items(), 1):
        _draw_pedal(axes, spans, low - 0.5 - lane * _PEDAL_LANE, colours[name])
    _draw_start(axes, list(drawn.values()))
    axes.set_xlim(0.0, end_s)
    _dress(axes, colours, title)
    return figure


def _draw_keys(axes: Axes, low: int, high: int, *, lanes: int) -> None:
    """Draw the keyboard's rows and octaves, with room for the pedals' lanes below."""
    axes.set_facecolor(_PAPER)
    axes.set_ylim(low - 0.5 - (lanes + 1) * _PEDAL_LANE, high + 0.5)
    for pitch in range(low, high + 1):
        if pitch % 12 in _IS_BLACK_KEY:
            axes.axhspan(pitch - 0.5, pitch + 0.5, color=_BLACK_KEYS, linewidth=0, zorder=0)
    octaves = [pitch for pitch in range(low, high + 1) if pitch % 12 == 0]
    labels = {low - 0.5 - (lanes + 1) / 2 * _PEDAL_LANE: "pedal"} if lanes else {}
    labels |= {pitch: f"C{pitch // 12 - 1}" for pitch in octaves}
    axes.set_yticks(list(labels), list(labels.values()))
    for pitch in octaves:
        axes.axhline(pitch - 0.5, color=_OCTAVES, linewidth=0.8, zorder=1)


def _draw_notes(axes: Axes, part: Sequence[Bar], colour: str) -> None:
    boxes = [Rectangle((b.start_s, b.pitch - _NOTE_HEIGHT / 2), b.end_s - b.start_s, _NOTE_HEIGHT) for b in part]
    shades = [(*to_rgb(colour), np.interp(b.velocity, [_SOFT, _LOUD], [_FAINTEST, 1.0])) for b in part]
    axes.add_collection(PatchCollection(boxes, facecolors=shades, edgecolors=_PAPER, linewidths=0.4, zorder=3))


def _draw_pedal(axes: Axes, spans: Sequence[tuple[float, float]], lane: float, colour: str) -> None:
    widths = [(start_s, end_s - start_s) for start_s, end_s in spans]
    height = (lane - _PEDAL_HEIGHT / 2, _PEDAL_HEIGHT)
    axes.broken_barh(widths, height, facecolors=colour, alpha=0.6, linewidth=0, zorder=2)


def _draw_start(axes: Axes, drawn: Sequence[Sequence[Bar]]) -> None:
    """Mark where the last part begins, if it follows another."""
    if len(drawn) > 1 and drawn[-1]:
        axes.axvline(min(bar.start_s for bar in drawn[-1]), color=_INK, linewidth=1.1, linestyle=(0, (4, 3)), zorder=4)


def _dress(axes: Axes, colours: Mapping[str, str], title: str) -> None:
    axes.set_xlabel("seconds", color=_INK)
    axes.set_title(title, color=_INK, loc="left", fontsize=13, pad=10, parse_math=False)
    axes.tick_params(colors=_INK, length=0, labelsize=9)
    axes.grid(axis="x", color=_SEMITONES, linewidth=0.8, zorder=0)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)
    handles = [Patch(color=colour, label=name) for name, colour in colours.items()]
    axes.legend(
        handles=handles,
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=max(1, len(handles)),
        frameon=False,
        labelcolor=_INK,
        handlelength=1.0,
        handleheight=1.0,
    )
