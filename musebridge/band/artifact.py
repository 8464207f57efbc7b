"""What an exported band says about itself, and why one is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from musebridge.band.families import FAMILIES, STEPS_PER_BEAT
from musebridge.band.layout import PITCHES, STEPS
from musebridge.errors import ModelError

_PREFIX = "musebridge."
KIND = "band"


@dataclass(frozen=True, slots=True, kw_only=True)
class BandInfo:
    """The identity of an exported band.

    Attributes:
        families: those that it plays.
        hears: whether it is given the player's part.
        noise: how many numbers of noise it takes; 0 is none.
        is_sampled: whether what it plays is drawn from its logits, or the likeliest is taken.
        monophonic: families that begin one note at a time.
        corpus, licence: what it learned from, and the licence that comes with it.
    """

    families: tuple[str, ...]
    hears: bool
    noise: int
    is_sampled: bool
    monophonic: tuple[str, ...]
    corpus: str
    licence: str

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], where: str) -> Self:
        """Read the metadata of a file.

        Raises:
            ModelError: the model is of another kind, or of another canvas than this program's.
        """
        kind = metadata.get(_PREFIX + "kind", "generator" if _PREFIX + "n_layers" in metadata else "foreign model")
        if kind != KIND:
            raise ModelError(f"{where}: is a {kind}, here a band is needed; make one with 'musebridge export'")
        try:
            told = {key: json.loads(metadata[_PREFIX + key]) for key in _TABLES}
            _check_canvas(told)
            return cls(
                families=tuple(told["families"]),
                hears=bool(told["condition_pitches"]),
                noise=int(told["noise"]),
                is_sampled=told["sampling"] == "sample",
                monophonic=tuple(told["monophonic"]),
                corpus=metadata.get(_PREFIX + "corpus", ""),
                licence=metadata.get(_PREFIX + "licence", ""),
            )
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise ModelError(f"{where}: its metadata cannot be read ({error}); export it again") from error


_TABLES = ("families", "pitches", "condition_pitches", "noise", "steps", "steps_per_beat", "sampling", "monophonic")
_MOST_NOISE = 1 << 16


def _check_canvas(told: Mapping[str, object]) -> None:
    """Refuse a model of other families, pitches or resolution than those of this program's canvas."""
    wanted = {"steps": STEPS, "steps_per_beat": STEPS_PER_BEAT}
    for key, value in wanted.items():
        if told[key] != value:
            raise ValueError(f"{key} is {told[key]}, this program's is {value}")
    families, pitches, noise = told["families"], told["pitches"], told["noise"]
    if not isinstance(families, list) or not families or not set(families) <= set(FAMILIES):
        raise ValueError(f"families are {families!r}, known are {', '.join(FAMILIES)}")
    if not isinstance(pitches, dict) or any(pitches.get(f) != list(PITCHES[f]) for f in families):
        raise ValueError("its pitches are not this program's")
    if not isinstance(noise, int) or not 0 <= noise <= _MOST_NOISE:
        raise ValueError(f"noise is {noise!r}")
