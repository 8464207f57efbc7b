"""What a player can set: one table, for presets, the command line and OSC."""

from __future__ import annotations

import math
import re
from dataclasses import Field, dataclass, field, fields, replace
from functools import cache
from typing import Any

from musebridge.bridge.core.harmony import parse_scale
from musebridge.bridge.core.quantise import Lines
from musebridge.errors import ConfigError

MODES = ("call", "duet", "bars", "manual")
OFF, DETECT = "off", "detect"
"""Words that stand in the place of a scale."""
GRIDS = (OFF, "8", "12", "16", "24")
POLARITIES = ("normal", "reversed")
ALL_CHANNELS = "all"
_DENOMINATORS = (2, 4, 8, 16)

Value = float | str


def _ranged(default: float, low: float, high: float, unit: str, meaning: str) -> Any:
    metadata = {"low": low, "high": high, "unit": unit, "meaning": meaning, "whole": isinstance(default, int)}
    return field(default=default, metadata=metadata)


def _switch(meaning: str) -> Any:
    return _ranged(0, 0, 1, "", meaning)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The parameters of a session; each number has a range and a unit.

    Raises:
        ConfigError: a value is outside its range, or ``scale`` names none.
    """

    temperature: float = _ranged(1.0, 0.05, 3.0, "", "how daring the model is; 1 is as trained")
    top_p: float = _ranged(1.0, 0.05, 1.0, "", "share of the likeliest tokens that may be chosen")
    min_p: float = _ranged(0.0, 0.0, 1.0, "", "least likelihood of a token, as a share of the likeliest one's")
    recall: float = _ranged(1.0, 0.0, 3.0, "", "how much figures that return go on as before; 1 is as fitted, 0 is off")
    silence_s: float = _ranged(0.6, 0.05, 30.0, " s", "silence after which the model answers")
    answer_s: float = _ranged(
        20.0, 0.5, 3600.0, " s", "longest answer; in duet, how long it goes on after your last note"
    )
    lookahead_s: float = _ranged(0.5, 0.05, 5.0, " s", "how far ahead of the music the model writes")
    max_note_s: float = _ranged(
        10.0, 0.1, 60.0, " s", "longest note of the model; a key of yours that says nothing for so long counts as up"
    )
    scale: str = field(
        default=OFF, metadata={"meaning": "what the model's notes keep to: 'D minor', 'detect' for your key, or 'off'"}
    )
    low: int = _ranged(0, 0, 127, "", "lowest pitch that the model sounds; 60 is middle C")
    high: int = _ranged(127, 0, 127, "", "highest pitch that the model sounds")
    polyphony: int = _ranged(32, 1, 32, "", "most notes of the model at once")
    density: float = _ranged(60.0, 1.0, 60.0, "/s", "most notes of the model in a second")
    loudness: float = _ranged(1.0, 0.1, 3.0, "", "factor on the model's velocities")
    transpose: int = _ranged(0, -36, 36, "", "semitones by which the model sounds higher")
    channel: int = _ranged(1, 1, 16, "", "MIDI channel of the model")
    thru: int = _switch("1 passes what you play on to the output")
    in_channels: str = field(
        default="1-9, 11-16",
        metadata={"meaning": "MIDI channels that you are heard on, such as '1, 3-5' or 'all'; drums are on 10"},
    )
    bpm: float = _ranged(120.0, 20.0, 400.0, "", "tempo of the bars where no clock comes in")
    beats: int | str = _ranged(4, 1, 16, "", "quarter notes in a bar, or a metre such as 3/4, 6/8 or 7/8")
    listen_bars: int = _ranged(4, 1, 64, "", "bars that you play, in bars mode")
    answer_bars: int = _ranged(4, 1, 64, "", "bars that the model answers")
    grid: int | str = field(
        default=OFF,
        metadata={"meaning": "what the answer's notes fall on in bars: 8ths, 16ths, 12 or 24 for triplets, or 'off'"},
    )
    grid_strength: float = _ranged(100.0, 0.0, 100.0, " %", "how far notes move towards the grid")
    trigger_key: int = _ranged(-1, -1, 127, "", "a key that hands over instead of sounding; -1 is none")
    trigger_cc: int = _ranged(-1, -1, 127, "", "a controller that hands over at 64 and above; -1 is none")
    trigger_pedal: int = _switch("1 hands over when the sustain pedal rises")
    pedal_polarity: str = field(
        default="normal", metadata={"meaning": "'reversed' for a sustain pedal that sends 127 while it is up"}
    )
    offset_ms: float = _ranged(
        0.0, 0.0, 500.0, " ms", "how much earlier the model plays, for a synthesiser that is late"
    )
    clock_out: int = _switch("1 sends MIDI clock, from a bar line on, and keeps the bars where it has them")

    def __post_init__(self) -> None:
        for spec in fields(self):
            _check(spec, getattr(self, spec.name))
        if self.low > self.high:
            raise ConfigError(f"low must not be above high, found {self.low} and {self.high}")
        if self.scale not in (OFF, DETECT):
            parse_scale(self.scale)
        if self.pedal_polarity not in POLARITIES:
            raise ConfigError(f"pedal_polarity must be {' or '.join(POLARITIES)}, found {self.pedal_polarity!r}")
        parse_channels(self.in_channels)
        if str(self.grid) not in GRIDS:
            raise ConfigError(f"grid must be one of {', '.join(GRIDS)}, found {self.grid!r}")

    @property
    def triggers(self) -> bool:
        """Whether a key, a controller or the pedal hands over."""
        return self.trigger_key >= 0 or self.trigger_cc >= 0 or bool(self.trigger_pedal)

    @property
    def bar_beats(self) -> float:
        """Quarter notes in a bar: 3 for 6/8."""
        return parse_metre(self.beats) if isinstance(self.beats, str) else self.beats

    @property
    def lines(self) -> Lines | None:
        """What an answer that keeps to the beats falls on; None if on no grid."""
        if self.grid == OFF:
            return None
        return Lines(per_beat=int(self.grid) / 4, strength=self.grid_strength / 100, bar_beats=self.bar_beats)

    @property
    def channels(self) -> frozenset[int]:
        """The channels, from 0, that the player is heard on."""
        return parse_channels(self.in_channels)

    def with_value(self, name: str, value: Value) -> Settings:
        """Return settings with one parameter changed; of a whole number the nearest is taken.

        Raises:
            ConfigError: the name is unknown or the value outside its range.
        """
        specs = {spec.name: spec for spec in fields(self)}
        if name not in specs:
            raise ConfigError(f"unknown parameter {name!r}; known are {', '.join(specs)}")
        changed: dict[str, Any] = {name: _rounded(specs[name], value)}
        return replace(self, **changed)


def value_at(name: str, share: float) -> Value:
    """Return the value at a share, 0..1, of the range of a parameter that has one."""
    spec = Settings.__dataclass_fields__[name]
    low, high = spec.metadata["low"], spec.metadata["high"]
    return _rounded(spec, float(low + share * (high - low)))


def _rounded(spec: Field[Any], value: Value) -> Value:
    """Return the nearest whole number where one is meant, halves going up; and a number as the text that one is."""
    if isinstance(value, float) and spec.metadata.get("whole") and math.isfinite(value):
        return math.floor(value + 0.5)
    if "low" not in spec.metadata and isinstance(value, int | float):
        return f"{value:g}"
    return value


@cache
def parse_metre(text: str) -> float:
    """Return how many quarter notes a bar of a metre has: 3.5 for ``7/8``; a number alone counts quarters.

    Raises:
        ConfigError: it is no metre.
    """
    found = re.fullmatch(r"\s*(\d{1,2})\s*(?:/\s*(\d{1,2})\s*)?", text)
    count, unit = (int(found[1]), int(found[2] or 4)) if found else (0, 0)
    if unit not in _DENOMINATORS or not 1 <= count * 4 / unit <= 16:
        raise ConfigError(f"beats must be in 1..16, or a metre such as 3/4, 6/8 or 7/8, found {text!r}")
    return count * 4 / unit


@cache
def parse_channels(text: str) -> frozenset[int]:
    """Return the channels, from 0, that a list names: ``1, 3-5``, or ``all``.

    Raises:
        ConfigError: it is no list of channels.
    """
    if text.strip().lower() == ALL_CHANNELS:
        return frozenset(range(16))
    channels: set[int] = set()
    for part in re.split(r"[,\s]+", re.sub(r"\s*-\s*", "-", text.strip())):
        found = re.fullmatch(r"(\d{1,2})(?:-(\d{1,2}))?", part)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
        if not 1 <= first <= last <= 16:
            raise ConfigError(f"in_channels must be channels in 1..16, such as '1, 3-5', or 'all', found {text!r}")
        channels |= set(range(first - 1, last))
    return frozenset(channels)


def check_mode(mode: str) -> str:
    """Return a mode that there is.

    Raises:
        ConfigError: there is no such mode.
    """
    if mode not in MODES:
        raise ConfigError(f"mode must be one of {', '.join(MODES)}, found {mode!r}")
    return mode


def _check(spec: Field[Any], value: object) -> None:
    if "low" not in spec.metadata:
        if not isinstance(value, str) and "int" not in str(spec.type):
            raise ConfigError(f"{spec.name} must be a text, found {value!r}")
        return
    if isinstance(value, str) and "str" in str(spec.type):
        parse_metre(value)
        return
    low, high, unit = (spec.metadata[key] for key in ("low", "high", "unit"))
    whole = spec.metadata["whole"]
    fits = isinstance(value, int if whole else int | float) and low <= value <= high  # also refuses NaN
    if not fits:
        found = f"{value:g}" if isinstance(value, int | float) else repr(value)
        raise ConfigError(f"{spec.name} must be {'whole, ' * whole}in {low:g}..{high:g}{unit}, found {found}")
