"""The kinds of generator that can be trained, by the name that configs and checkpoints use."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from musebridge.config import build
from musebridge.errors import ConfigError
from musebridge.training.models.generator import Generator, GeneratorConfig
from musebridge.training.models.reference import ReferenceConfig, ReferenceGenerator

Shape = GeneratorConfig | ReferenceConfig
AnyGenerator = Generator | ReferenceGenerator
_SHAPES: dict[str, type[Shape]] = {"default": GeneratorConfig, "reference": ReferenceConfig}


def shape_from(table: dict[str, Any], where: str) -> Shape:
    """Build a shape from a table; its ``kind`` is ``default`` where it is missing.

    Raises:
        ConfigError: the kind or a key is unknown, or a value does not fit.
    """
    if not isinstance(table, dict):
        return build(GeneratorConfig, table, where)  # refuses it
    kind = table.get("kind", "default")
    if kind not in _SHAPES:
        raise ConfigError(f"{where}: kind must be one of {', '.join(_SHAPES)}, found {kind!r}")
    return build(_SHAPES[kind], {key: value for key, value in table.items() if key != "kind"}, where)


def table_of(shape: Shape) -> dict[str, Any]:
    """Return the table that :func:`shape_from` reads."""
    kind = next(name for name, cls in _SHAPES.items() if isinstance(shape, cls))
    return {"kind": kind, **asdict(shape)}


def create(shape: Shape) -> AnyGenerator:
    """Return an untrained generator of this shape."""
    return Generator(shape) if isinstance(shape, GeneratorConfig) else ReferenceGenerator(shape)
