"""What an exported model says about itself, and why one is refused.

An exported model is one ``.onnx`` file; its metadata holds the fields of
:class:`ModelInfo` as text, each under ``musebridge.<field>``.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from musebridge import vocab
from musebridge.errors import ModelError

PRECISIONS = ("fp32", "fp16", "int8")
_PREFIX = "musebridge."
_COUNTS = ("context", "n_layers", "n_kv_heads", "d_head", "parameters")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """The identity of an exported model; what the engine needs and what its card states.

    Attributes:
        vocabulary: fingerprint of the token vocabulary; another one is refused.
        context: positions that the K/V buffers hold.
        n_layers, n_kv_heads, d_head: shape of these buffers.
        precision: of the weights, one of ``PRECISIONS``.
        parameters: how many the generator was trained with.
        corpus, licence: what it learned from, and the licence that comes with it.
        validation_nll: nats per token of the trained generator, as training measured it.
        nll_change: validation NLL of this file minus that of the generator in fp32,
            in nats per token, over the same tokens; None where it was not measured.
        record: how the weights came to be, as training wrote it.
    """

    vocabulary: str = vocab.FINGERPRINT
    context: int
    n_layers: int
    n_kv_heads: int
    d_head: int
    precision: str
    parameters: int
    corpus: str
    licence: str
    validation_nll: float | None = None
    nll_change: float | None = None
    record: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.vocabulary != vocab.FINGERPRINT:
            raise ModelError(
                f"has vocabulary {self.vocabulary!r}, this program {vocab.FINGERPRINT!r}; export it with this version"
            )
        for name in _COUNTS:
            _check(name, getattr(self, name), _is_count, "a whole number from 1")
        for name in ("corpus", "licence"):
            _check(name, getattr(self, name), lambda value: isinstance(value, str), "a text")
        for name in ("validation_nll", "nll_change"):
            _check(name, getattr(self, name), _is_finite_or_none, "a finite number or null")
        _check("precision", self.precision, lambda value: value in PRECISIONS, f"one of {', '.join(PRECISIONS)}")
        _check("record", self.record, lambda value: isinstance(value, dict), "a table")

    def to_metadata(self) -> dict[str, str]:
        """Return the fields as the texts that an ONNX file carries."""
        return {_PREFIX + f.name: _to_text(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], where: str) -> ModelInfo:
        """Read what :meth:`to_metadata` wrote.

        Args:
            metadata: all metadata of the file; other keys are left alone.
            where: the file, for the message.

        Raises:
            ModelError: a field is missing or impossible, or the vocabulary is another.
        """
        missing = [f.name for f in fields(cls) if _PREFIX + f.name not in metadata]
        if missing:
            raise ModelError(
                f"{where}: is not a MuseBridge model (its metadata lacks {', '.join(missing)}); "
                "make one with 'musebridge export'"
            )
        try:
            return cls(**{f.name: _from_text(f.name, metadata[_PREFIX + f.name]) for f in fields(cls)})
        except ModelError as error:
            raise ModelError(f"{where}: {error}") from error


_TEXTS = ("vocabulary", "precision", "corpus", "licence")


def fingerprint(model: Path) -> str:
    """Return what tells an exported model from every other."""
    return hashlib.sha256(model.read_bytes()).hexdigest()[:16]


def _to_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _from_text(name: str, text: str) -> Any:
    if name in _TEXTS:
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        raise ModelError(f"metadata {name} cannot be read, found {text[:40]!r}; export it again") from error


def _check(name: str, value: object, is_good: Any, wanted: str) -> None:
    if not is_good(value):
        raise ModelError(f"metadata {name} must be {wanted}, found {value!r}; export it again")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_finite_or_none(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value))
