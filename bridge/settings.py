"""What a player can set: one table, for presets, the command line and OSC."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace

from musebridge.errors import ConfigError

MODES = ("call", "manual")


def _ranged(default: float, low: float, high: float, unit: str, meaning: str) -> float:
    meta = {"low": low, "high": high, "unit": unit, "meaning": meaning}
    value: float = field(default=default, metadata=meta)
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The parameters of a session; each has a range and a unit.

    Raises:
        ConfigError: a value is outside its range.
    """

    temperature: float = _ranged(1.0, 0.05, 3.0, "", "how daring the model is; 1 is as trained")
    top_p: float = _ranged(0.98, 0.05, 1.0, "", "share of the likeliest tokens that may be chosen")
    min_p: float = _ranged(0.0, 0.0, 1.0, "", "least likelihood of a token, as a share of the likeliest one's")
    silence_s: float = _ranged(0.6, 0.05, 30.0, " s", "silence after which the model answers")
    answer_s: float = _ranged(20.0, 0.5, 3600.0, " s", "longest answer")
    lookahead_s: float = _ranged(0.5, 0.05, 5.0, " s", "how far ahead of the music the model writes")
    max_note_s: float = _ranged(10.0, 0.1, 60.0, " s", "longest note of the model")

    def __post_init__(self) -> None:
        for spec in fields(self):
            low, high, value = spec.metadata["low"], spec.metadata["high"], getattr(self, spec.name)
            if not low <= value <= high:  # also refuses NaN
                raise ConfigError(f"{spec.name} must be in {low:g}..{high:g}{spec.metadata['unit']}, found {value:g}")

    def with_value(self, name: str, value: float) -> Settings:
        """Return settings with one parameter changed.

        Raises:
            ConfigError: the name is unknown or the value outside its range.
        """
        names = [spec.name for spec in fields(self)]
        if name not in names:
            raise ConfigError(f"unknown parameter {name!r}; known are {', '.join(names)}")
        return replace(self, **{name: value})
