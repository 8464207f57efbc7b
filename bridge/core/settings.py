"""What a player can set: one table, for presets, the command line and OSC."""

from __future__ import annotations

from dataclasses import Field, dataclass, field, fields, replace
from typing import Any

from musebridge.bridge.core.harmony import parse_scale
from musebridge.errors import ConfigError

MODES = ("call", "duet", "bars", "manual")
OFF, DETECT = "off", "detect"
"""Words that stand in the place of a scale."""

Value = float | str


def _ranged(default: float, low: float, high: float, unit: str, meaning: str) -> Any:
    return field(default=default, metadata={"low": low, "high": high, "unit": unit, "meaning": meaning})


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
    max_note_s: float = _ranged(10.0, 0.1, 60.0, " s", "longest note of the model")
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
    bpm: float = _ranged(120.0, 20.0, 400.0, "", "tempo of the bars where no clock comes in")
    beats: int = _ranged(4, 1, 16, "", "beats in a bar")
    listen_bars: int = _ranged(4, 1, 64, "", "bars that you play, in bars mode")
    answer_bars: int = _ranged(4, 1, 64, "", "bars that the model answers")
    trigger_key: int = _ranged(-1, -1, 127, "", "a key that hands over instead of sounding; -1 is none")
    trigger_cc: int = _ranged(-1, -1, 127, "", "a controller that hands over at 64 and above; -1 is none")
    trigger_pedal: int = _switch("1 hands over when the sustain pedal rises")
    clock_out: int = _switch("1 sends MIDI clock, from a bar line on, and keeps the bars where it has them")

    def __post_init__(self) -> None:
        for spec in fields(self):
            _check(spec, getattr(self, spec.name))
        if self.low > self.high:
            raise ConfigError(f"low must not be above high, found {self.low} and {self.high}")
        if self.scale not in (OFF, DETECT):
            parse_scale(self.scale)

    @property
    def triggers(self) -> bool:
        """Whether a key, a controller or the pedal hands over."""
        return self.trigger_key >= 0 or self.trigger_cc >= 0 or bool(self.trigger_pedal)

    def with_value(self, name: str, value: Value) -> Settings:
        """Return settings with one parameter changed.

        Raises:
            ConfigError: the name is unknown or the value outside its range.
        """
        specs = {spec.name: spec for spec in fields(self)}
        if name not in specs:
            raise ConfigError(f"unknown parameter {name!r}; known are {', '.join(specs)}")
        if specs[name].type == "int" and isinstance(value, float) and value.is_integer():
            value = int(value)
        changed: dict[str, Any] = {name: value}
        return replace(self, **changed)


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
        if not isinstance(value, str):
            raise ConfigError(f"{spec.name} must be a text, found {value!r}")
        return
    low, high, unit = (spec.metadata[key] for key in ("low", "high", "unit"))
    whole = spec.type == "int"
    fits = isinstance(value, int if whole else int | float) and low <= value <= high  # also refuses NaN
    if not fits:
        found = f"{value:g}" if isinstance(value, int | float) else repr(value)
        raise ConfigError(f"{spec.name} must be {'whole, ' * whole}in {low:g}..{high:g}{unit}, found {found}")
