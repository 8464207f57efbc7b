"""Presets: a model, a mode and settings under one name."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import click

from musebridge.bridge.core.settings import Settings, check_mode
from musebridge.config import build, read_toml
from musebridge.errors import ConfigError

FOLDER = Path(str(resources.files("musebridge.presets")))
USER_FOLDER = Path(click.get_app_dir("musebridge")) / "presets"
"""Where users keep their own, in the platform's place for configuration; one hides a bundled one of its name."""
MODEL = "maestro-12m.onnx"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """How to play; ``model`` is a file beside the preset, or a bundled one."""

    name: str
    description: str
    model: Path
    mode: str
    settings: Settings

    @property
    def discriminator(self) -> Path:
        """The discriminator that goes with the model: ``NAME.discriminator.onnx`` beside ``NAME.onnx``."""
        return self.model.with_suffix(".discriminator.onnx")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    """The keys of a preset's file."""

    description: str
    model: str = MODEL
    mode: str = "call"
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_mode(self.mode)


def names() -> list[str]:
    """Return the names of the presets, the user's own included."""
    return sorted({path.stem for folder in (FOLDER, USER_FOLDER) for path in folder.glob("*.toml")})


def _path_of(name: str) -> Path:
    if name.endswith(".toml"):
        return Path(name)
    own = USER_FOLDER / f"{name}.toml"
    return own if own.is_file() else FOLDER / f"{name}.toml"


def load(name: str, model: Path | None = None) -> Preset:
    """Read a preset by its name, or by the path of its .toml.

    Args:
        name: of the preset, or its path.
        model: to play instead of the preset's.

    Raises:
        ConfigError: there is none, or a key or value in it is wrong.
    """
    path = _path_of(name)
    if not path.is_file():
        raise ConfigError(f"no preset {name!r}; known are {', '.join(names())}, or give a .toml file")
    table = build(_Table, read_toml(path), str(path))
    beside = path.parent / table.model
    return Preset(
        name=path.stem,
        description=table.description,
        model=model or (beside if beside.is_file() else FOLDER / table.model),
        mode=table.mode,
        settings=build(Settings, table.settings, str(path)),
    )
