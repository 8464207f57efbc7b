"""The kinds of system that a band can be, by the name that recipes use."""

from __future__ import annotations

from typing import Any

from musebridge.config import build
from musebridge.errors import ConfigError
from musebridge.training.band.adversary import GanTraining, MuseGanSystem
from musebridge.training.band.frames import FramesConfig, FramesTraining, FrameSystem
from musebridge.training.band.image import ImageConfig, ImageSystem, ImageTraining
from musebridge.training.band.likelihood import LikelihoodBand, LikelihoodTraining
from musebridge.training.band.musegan import MuseGanConfig
from musebridge.training.band.network import BandConfig
from musebridge.training.band.system import System

_KINDS: dict[str, tuple[type[System], Any, Any]] = {
    "likelihood": (LikelihoodBand, BandConfig, LikelihoodTraining),
    "musegan": (MuseGanSystem, MuseGanConfig, GanTraining),
    "frames": (FrameSystem, FramesConfig, FramesTraining),
    "image": (ImageSystem, ImageConfig, ImageTraining),
}


def create(system: dict[str, Any], training: dict[str, Any]) -> System:
    """Return an untrained system of the ``kind`` that its table names.

    Raises:
        ConfigError: the kind or a key is unknown, or a value does not fit.
    """
    kind = system.get("kind")
    if kind not in _KINDS:
        raise ConfigError(f"system: kind must be one of {', '.join(_KINDS)}, found {kind!r}")
    cls, shape, how = _KINDS[kind]
    rest = {key: value for key, value in system.items() if key != "kind"}
    made: System = cls(build(shape, rest, "system"), build(how, training, "training"))
    return made
