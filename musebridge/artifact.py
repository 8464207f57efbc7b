"""What an exported model says about itself, and why one is refused.

An exported model is one ``.onnx`` file; its metadata holds its ``kind`` and the
fields of :class:`ModelInfo` or :class:`DiscriminatorInfo` as text, each under
``musebridge.<field>``.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Self

from musebridge import vocab
from musebridge.errors import ModelError

PRECISIONS = ("fp32", "fp16", "int8")
_PREFIX = "musebridge."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Info:
    """What every kind of model states.

    Attributes:
        vocabulary: fingerprint of the token vocabulary; another one is refused.
        context: tokens that it can read at most.
        precision: of the weights, one of ``PRECISIONS``.
        parameters: how many it has.
        corpus, licence: what it learned from, and the licence that comes with it.
        record: how the weights came to be, as training wrote it.
    """

    kind: ClassVar[str]
    vocabulary: str = vocab.FINGERPRINT
    context: int
    precision: str
    parameters: int
    corpus: str
    licence: str
    record: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.vocabulary != vocab.FINGERPRINT:
            raise ModelError(
                f"has vocabulary {self.vocabulary!r}, this program {vocab.FINGERPRINT!r}; export it with this version"
            )
        for f in fields(self):
            is_good, wanted = _WANTED.get(f.name) or _WANTED[str(f.type)]
            value = getattr(self, f.name)
            if not is_good(value):
                raise ModelError(f"metadata {f.name} must be {wanted}, found {value!r}; export it again")

    def to_metadata(self) -> dict[str, str]:
        """Return the fields as the texts that an ONNX file carries."""
        texts = {_key(f): _to_text(getattr(self, f.name)) for f in fields(self)}
        return {_PREFIX + "kind": self.kind, **texts}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], where: str) -> Self:
        """Read what :meth:`to_metadata` wrote.

        Args:
            metadata: all metadata of the file; other keys are left alone.
            where: the file, for the message.

        Raises:
            ModelError: the model is of another kind or vocabulary, or a field is missing or impossible.
        """
        # The first generators were exported before there was another kind.
        kind = metadata.get(_PREFIX + "kind", ModelInfo.kind if _PREFIX + "n_layers" in metadata else cls.kind)
        if kind != cls.kind:
            raise ModelError(f"{where}: is a {kind}, here a {cls.kind} is needed; make one with 'musebridge export'")
        missing = [f.name for f in fields(cls) if _key(f) not in metadata]
        if missing:
            raise ModelError(
                f"{where}: is not a MuseBridge model (its metadata lacks {', '.join(missing)}); "
                "make one with 'musebridge export'"
            )
        try:
            return cls(**{f.name: _from_text(f.name, str(f.type), metadata[_key(f)]) for f in fields(cls)})
        except ModelError as error:
            raise ModelError(f"{where}: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo(_Info):
    """The identity of an exported generator; what the engine needs and what its card states.

    Attributes:
        n_layers, n_kv_heads, d_head: shape of the K/V buffers, which hold ``context`` positions.
        validation_nll: nats per token of the trained generator, as training measured it.
        nll_change: validation NLL of this file minus that of the generator in fp32,
            in nats per token, over the same tokens; None where it was not measured.
    """

    kind: ClassVar[str] = "generator"
    n_layers: int
    n_kv_heads: int
    d_head: int
    validation_nll: float | None = None
    nll_change: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscriminatorInfo(_Info):
    """The identity of an exported discriminator.

    Attributes:
        seed_length, continuation_length: tokens of the seed and of the continuation that it was trained to judge.
        generator: a hash of the weights of the generator whose hints it hears, which are in the file as well.
        validation_auroc: how well it told that generator's continuations from real ones, as training measured it.
    """

    kind: ClassVar[str] = "discriminator"
    seed_length: int = field(metadata={"key": "seeded"})
    continuation_length: int = field(metadata={"key": "continued"})
    generator: str
    validation_auroc: float | None = None


def fingerprint(model: Path) -> str:
    """Return what tells an exported model from every other."""
    return hashlib.sha256(model.read_bytes()).hexdigest()[:16]


def _key(of: Field[Any]) -> str:
    """Return a field's key in the file, which stays as the first release had it."""
    return _PREFIX + str(of.metadata.get("key", of.name))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_finite_or_none(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value))


_WANTED: dict[str, tuple[Callable[[object], bool], str]] = {
    "precision": (lambda value: value in PRECISIONS, f"one of {', '.join(PRECISIONS)}"),
    "int": (_is_count, "a whole number from 1"),
    "str": (lambda value: isinstance(value, str), "a text"),
    "float | None": (_is_finite_or_none, "a finite number or null"),
    "dict[str, Any]": (lambda value: isinstance(value, dict), "a table"),
}
"""What a field may be, by its name or else by its type."""


def _to_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _from_text(name: str, type_: str, text: str) -> Any:
    if type_ == "str":
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        raise ModelError(f"metadata {name} cannot be read, found {text[:40]!r}; export it again") from error
