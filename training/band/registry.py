"""The kinds of system that a band can be, by the name that recipes use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import nn

from musebridge.config import build
from musebridge.errors import CheckpointError, ConfigError
from musebridge.training.band.adversary import GanTraining, MuseGanSystem
from musebridge.training.band.frames import FramesConfig, FramesTraining, FrameSystem
from musebridge.training.band.image import ImageConfig, ImageSystem, ImageTraining
from musebridge.training.band.likelihood import LikelihoodBand, LikelihoodTraining
from musebridge.training.band.musegan import MuseGanConfig
from musebridge.training.band.network import BandConfig
from musebridge.training.band.system import System
from musebridge.training.models.checkpoint import load_weights

WEIGHTS = "band.safetensors"
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


def load(path: Path) -> tuple[nn.Module, dict[str, Any], dict[str, Any]]:
    """Return the player that a run folder of ``musebridge train --phase band`` holds, its config and its record.

    Raises:
        CheckpointError: it is missing, damaged or of another kind.
    """
    path = path / WEIGHTS if path.is_dir() else path
    metadata, weights = load_weights(path)
    try:
        table, record = json.loads(metadata["config"]), json.loads(metadata["record"])
        player = create(table["system"], table.get("training", {})).player
        player.load_state_dict(weights)
    except (KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{path}: is no system of a band; train one with 'musebridge train --phase band'"
        ) from error
    return player.eval(), table, record
