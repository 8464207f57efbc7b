"""TOML tables to frozen dataclasses, with errors a user can act on."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import fields
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

from musebridge.errors import ConfigError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")

RENAMED = {
    "seeded": "seed_length",
    "continued": "continuation_length",
    "parts": "grad_accumulation",
    "judged": "eval_pairs",
    "anchor": "ce_weight",
    "anchor_context": "ce_context",
    "anchor_batch": "ce_batch",
    "sharpness": "beta",
    "n": "samples_per_seed",
    "feedback": "jacobi_iterations",
    "faithful": "sequential",
    "touch": "velocity_shift",
    "optimiser": "optimizer",
    "optimisers": "optimizers",
    "remembered": "replay_buffer",
    "spoilt": "corrupted",
    "Share": "FollowSharedBeats",
}
"""Names that were changed, old → new: TOML files, states of runs, checkpoints and logs still load with the old ones."""


def renamed(table: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """Return a table with its old names replaced by those of the ``known`` ones that they have become.

    Raises:
        ConfigError: the table has both.
    """
    now: dict[str, Any] = {}
    for key, value in table.items():
        new = RENAMED[key] if key not in known and RENAMED.get(key) in known else key
        if new != key and new in table:
            raise ConfigError(f"{key} is now called {new}; give one of them")
        now[new] = value
    return now


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigError: it cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as TOML: {error}") from error


def build(cls: type[T], table: dict[str, Any], where: str) -> T:
    """Build the dataclass ``cls`` from a TOML table; missing keys keep their defaults, old names are understood.

    Raises:
        ConfigError: ``table`` is none, a key is unknown, its value has another
            type, or ``cls`` refuses it; the message begins with ``where``.
    """
    if not isinstance(table, dict):
        raise ConfigError(f"{where}: must be a table of keys and values, found {table!r}")
    types = get_type_hints(cls)
    names = {field.name for field in fields(cls)}
    try:
        table = renamed(table, names)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    for key, value in table.items():
        if key not in names:
            raise ConfigError(f"{where}: unknown key {key!r}; known are {', '.join(sorted(names))}")
        if not _fits(value, types[key]):
            raise ConfigError(f"{where}: {key} must be {_name(types[key])}, found {value!r}")
    try:
        return cls(**table)
    except TypeError as error:
        raise ConfigError(f"{where}: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def at_least(config: DataclassInstance, low: float, *names: str) -> None:
    """Raise a ConfigError unless the fields of these names are ``low`` or more."""
    for name in names:
        if not getattr(config, name) >= low:  # which no NaN is
            raise ConfigError(f"{name} must be at least {low}, found {getattr(config, name)}")


def more_than(config: DataclassInstance, low: float, *names: str) -> None:
    """Raise a ConfigError unless the fields of these names are more than ``low``."""
    for name in names:
        if not getattr(config, name) > low:
            raise ConfigError(f"{name} must be more than {low}, found {getattr(config, name)}")


def _fits(value: object, kind: Any) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if isinstance(kind, UnionType):
        return any(_fits(value, one) for one in get_args(kind))
    return isinstance(value, get_origin(kind) or kind)


def _name(kind: Any) -> str:
    if isinstance(kind, UnionType):
        return " or ".join(_name(one) for one in get_args(kind))
    return {float: "a number", int: "a whole number", str: "a text", bool: "true or false"}.get(kind, "a table")
