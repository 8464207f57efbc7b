"""What training leaves behind: a resumable state, and a generator to use.

A run folder holds ``state.pt`` (everything that an exact resume needs) and
``generator.safetensors`` (weights and how they came to be). Both are read
without unpickling objects, and both are replaced in one step, so a run that is
killed while it saves keeps its previous checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from musebridge import vocab
from musebridge.config import RENAMED, renamed
from musebridge.errors import CheckpointError, one_line
from musebridge.files import replacing
from musebridge.training.models.generator import Generator
from musebridge.training.models.registry import AnyGenerator, create, shape_from, table_of

STATE, WEIGHTS = "state.pt", "generator.safetensors"


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Write the resumable state of a run (tensors and plain values).

    Raises:
        CheckpointError: the folder cannot be written.
    """
    with replacing(folder / STATE, CheckpointError, RuntimeError) as partial:
        torch.save(state, partial)


def load_state(folder: Path) -> dict[str, Any] | None:
    """Return the state of a run, or None where there is none yet.

    Raises:
        CheckpointError: the file is damaged.
    """
    path = folder / STATE
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds, and advises to trust the file
        raise CheckpointError(f"{path}: is damaged; remove it to start the run anew") from error
    return renamed(state, RENAMED.values()) if isinstance(state, dict) else state


def save_generator(
    path: Path, generator: AnyGenerator, record: dict[str, Any], dtype: torch.dtype = torch.float32
) -> None:
    """Write weights, shape and training record as safetensors; figures that are not finite become null.

    Raises:
        CheckpointError: the file cannot be written.
    """
    metadata = {
        "vocabulary": vocab.FINGERPRINT,
        "config": json.dumps(table_of(generator.config)),
        "record": json.dumps(_finite(record), allow_nan=False),
    }
    save_weights(path, generator, metadata, dtype)


def save_weights(path: Path, model: nn.Module, metadata: dict[str, str], dtype: torch.dtype = torch.float32) -> None:
    """Write a model's weights and texts about it as safetensors.

    Raises:
        CheckpointError: the file cannot be written.
    """
    weights = {name: w.detach().to("cpu", dtype).contiguous() for name, w in model.state_dict().items()}
    with replacing(path, CheckpointError, SafetensorError) as partial:
        save_file(weights, partial, metadata)


def _finite(record: Any) -> Any:
    """Return a record with None where a figure is not finite: JSON cannot say it, and NaN is no equal of itself."""
    if isinstance(record, dict):
        return {key: _finite(value) for key, value in record.items()}
    if isinstance(record, list | tuple):
        return [_finite(value) for value in record]
    return None if isinstance(record, float) and not math.isfinite(record) else record


def load_generator(path: Path) -> tuple[AnyGenerator, dict[str, Any]]:
    """Read a generator (float32) and its training record; a run folder will do.

    Raises:
        CheckpointError: the file is missing, damaged, of another vocabulary or shape.
    """
    path = path / WEIGHTS if path.is_dir() else path
    metadata, weights = load_weights(path)
    if metadata.get("vocabulary") != vocab.FINGERPRINT:
        raise CheckpointError(f"{path}: was trained on another vocabulary; train it again")
    try:
        generator = create(shape_from(json.loads(metadata["config"]), str(path)))
        generator.load_state_dict(weights)
        record: dict[str, Any] = json.loads(metadata["record"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: its weights do not fit its description: {one_line(error)}") from error
    return generator.eval(), record


def load_weights(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Read what :func:`save_weights` wrote, in float32.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            return file.metadata() or {}, {name: file.get_tensor(name).float() for name in names}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: is not a checkpoint ({error}); train one with 'musebridge train'") from error


def hash_of(*models: nn.Module, also: bytes = b"") -> str:
    """Return a hash of weights, whatever file they were in, and of what else is told."""
    digest = hashlib.sha256(also)
    for model in models:
        for weight in model.state_dict().values():
            digest.update(weight.float().cpu().numpy().tobytes())
    return digest.hexdigest()


def load(path: Path) -> tuple[Generator, dict[str, Any]]:
    """Return a generator of the default kind and its record.

    Raises:
        CheckpointError: it cannot be read, or is of another kind.
    """
    generator, record = load_generator(path)
    if not isinstance(generator, Generator):
        raise CheckpointError(f"{path}: is a reference generator; only the default kind can be used here")
    return generator.requires_grad_(False), record
