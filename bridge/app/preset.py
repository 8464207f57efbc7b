"""Presets: a model, a mode and settings under one name."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import click

from musebridge.bridge.app.clips import TARGETS
from musebridge.bridge.core.commands import Bind
from musebridge.bridge.core.learn import Bindings, by_name
from musebridge.bridge.core.settings import Settings, check_mode
from musebridge.config import build, read_toml
from musebridge.errors import ConfigError
from musebridge.files import replacing

FOLDER = Path(str(resources.files("musebridge.presets")))
USER_FOLDER = Path(click.get_app_dir("musebridge")) / "presets"
"""Where users keep their own, in the platform's place for configuration; one hides a bundled one of its name."""
MODEL = "maestro-12m.onnx"
BAND = FOLDER / "band.onnx"
"""The bundled band."""
_NAME = re.compile(r"\w[\w .+()-]{0,63}")
_SAVED = " (saved)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """How to play; ``model`` is a file beside the preset, or a bundled one."""

    name: str
    description: str
    model: Path
    mode: str
    settings: Settings
    path: Path
    binds: tuple[Bind, ...] = ()
    """Controllers that move parameters."""
    clip: str = "off"
    """Where each answer is written as a clip: ``off``, ``live`` or ``reaper``."""
    clip_track: str = ""
    """The track in Live, by name or by number from 1; empty is the selected one."""

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
    clip: str = "off"
    clip_track: str | int = ""
    settings: dict[str, Any] = field(default_factory=dict)
    controllers: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_mode(self.mode)
        if self.clip not in TARGETS:
            raise ConfigError(f"clip must be one of {', '.join(TARGETS)}, found {self.clip!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Controller:
    """What moves a parameter, in a preset's file."""

    controller: int
    channel: int


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
        path=path,
        clip=table.clip,
        clip_track=str(table.clip_track),
        binds=tuple(_binds(table.controllers, str(path))),
    )


def _binds(controllers: dict[str, Any], where: str) -> Iterator[Bind]:
    bindings = Bindings()
    for name, table in controllers.items():
        found = build(_Controller, table, f"{where}: {name}")
        try:
            bindings.bind(Bind(name, found.controller, found.channel))
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error
    yield from by_name(bindings.bound).values()


_MODEL_LINE = re.compile(r"^model[ \t]*=[^\n]*\n", re.MULTILINE)
_CONTROLLERS_TABLE = re.compile(r"^[ \t]*\[controllers\][^\n]*\n(?:(?:[ \t]*\w+[ \t]*=[^\n]*)?\n)*", re.MULTILINE)


def save_binds(preset: Preset, binds: Iterable[Bind]) -> Path:
    """Write which controllers move which parameters into the user's preset; return its file.

    The rest of the file stays as it is. A bundled preset stays too: a copy with the controllers hides it.

    Raises:
        ConfigError: the file cannot be written, or only by hand.
    """
    is_bundled = preset.path.resolve().parent == FOLDER.resolve()
    path = USER_FOLDER / preset.path.name if is_bundled else preset.path
    source = path if path.is_file() else preset.path
    wanted = {bind.name: {"controller": bind.controller, "channel": bind.channel} for bind in binds}
    rest = {key: value for key, value in read_toml(source).items() if key != "controllers"}
    text = _CONTROLLERS_TABLE.sub("", f"{source.read_text(encoding='utf-8')}\n").rstrip() + "\n"
    text += "".join(_controller_rows(wanted))
    if not _says(text, {**rest, "controllers": wanted} if wanted else rest):
        raise ConfigError(f"{source}: has controllers in a form of its own; write them as a table [controllers]")
    return _write(path, text, "controllers are not saved")


def save_copy(preset: Preset, name: str, model: str) -> Path:
    """Write a preset as another of the user's, with another model; return its file.

    Args:
        preset: to copy.
        name: of the copy; an older one of that name is replaced.
        model: the file's name, in the user's folder.

    Raises:
        ConfigError: the file cannot be written, or only by hand.
    """
    source = preset.path.read_text(encoding="utf-8")
    text = f'model = "{model}"\n' + _MODEL_LINE.sub("", source)
    if not _says(text, {**read_toml(preset.path), "model": model}):
        raise ConfigError(f'{preset.path}: names its model in a form of its own; write model = "NAME.onnx" on a line')
    return _write(USER_FOLDER / f"{name}.toml", text, "the preset is not saved")


def _write(path: Path, text: str, loss: str) -> Path:
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}; {loss}") from error
    return path


def check_name(name: str) -> str:
    """Return the name of a preset.

    Raises:
        ConfigError: it is none: too long, or it might lead to another folder.
    """
    if not _NAME.fullmatch(name) or name.endswith((".toml", ".", " ")):
        raise ConfigError(f"a preset's name is up to 64 letters, digits, spaces, and any of .+-()_, found {name!r:.70}")
    return name


def save_as(name: str, preset: Preset, mode: str, settings: Settings, binds: Iterable[Bind]) -> Preset:
    """Write a preset of the user's: like another one, but with this mode, these settings and controllers.

    One of the user's that has the name already becomes ``NAME.toml.old``.

    Raises:
        ConfigError: the name is none, or the file cannot be written.
    """
    path = USER_FOLDER / f"{check_name(name)}.toml"
    is_bundled = preset.model.resolve().parent == FOLDER.resolve()
    about: dict[str, str] = {
        "description": f"{preset.description.removesuffix(_SAVED)}{_SAVED}",
        "model": preset.model.name if is_bundled else str(preset.model.resolve()),
        "mode": mode,
        "clip": preset.clip,
        "clip_track": preset.clip_track,
    }
    set_to: dict[str, Any] = asdict(settings)
    wanted = {bind.name: {"controller": bind.controller, "channel": bind.channel} for bind in binds}
    text = "".join([*_rows(about), "\n[settings]\n", *_rows(set_to), *_controller_rows(wanted)])
    if not _says(text, {**about, "settings": set_to, **({"controllers": wanted} if wanted else {})}):
        raise ConfigError("a text among the settings cannot be written to a preset")
    with replacing(path, ConfigError) as half:
        half.write_text(text, encoding="utf-8")
        if path.is_file():
            path.replace(path.with_name(f"{path.name}.old"))
    return load(name)


def _rows(values: dict[str, Any]) -> list[str]:
    return [f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in values.items()]


def _controller_rows(wanted: dict[str, dict[str, int]]) -> list[str]:
    rows = [f"{name} = {{ {', '.join(f'{key} = {n}' for key, n in at.items())} }}\n" for name, at in wanted.items()]
    return ["\n[controllers]\n", *rows] if rows else []


def _says(text: str, wanted: dict[str, Any]) -> bool:
    try:
        return tomllib.loads(text) == wanted
    except tomllib.TOMLDecodeError:
        return False
