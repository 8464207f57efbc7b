"""A discriminator that was trained before: its weights, what its file says about it, and where both are found.

Training leaves its state in a folder, and beside it ``discriminator.safetensors``: the best weights in full, with the
same description as an exported discriminator has. That file is what is shipped; an ``.onnx`` has lost by rounding.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from musebridge.artifact import DiscriminatorInfo
from musebridge.config import build
from musebridge.errors import CheckpointError, ConfigError, ModelError, one_line
from musebridge.training.models import checkpoint
from musebridge.training.models.discriminator import Discriminator, DiscriminatorConfig
from musebridge.training.models.generator import Generator, count_parameters
from musebridge.training.sampling.pairs import Window

FOLDER, FILE = "discriminator", "discriminator.safetensors"


class TrainedDiscriminator(NamedTuple):
    """A discriminator that was trained before, and what its file says about it."""

    discriminator: Discriminator
    info: DiscriminatorInfo

    def was_trained_on(self, generator: Generator) -> bool:
        """Return whether it was taught on this generator's continuations."""
        return self.info.generator == checkpoint.hash_of(generator)[:16]

    def check(self, window: Window) -> None:
        """Refuse to judge windows of other lengths.

        Raises:
            ConfigError: it knows others.
        """
        seed_length, continuation_length = self.info.seed_length, self.info.continuation_length
        if window != Window(seed_length=seed_length, continuation_length=continuation_length):
            raise ConfigError(
                f"the discriminator knows windows of {seed_length} + {continuation_length} tokens; "
                "set seed_length and continuation_length alike"
            )


def described(
    discriminator: Discriminator, generator: Generator, record: dict[str, Any], state: dict[str, Any], where: str
) -> TrainedDiscriminator:
    """Return a discriminator with its description.

    Args:
        discriminator: the best of its training.
        generator, record: whose continuations it was trained on, and how that came to be.
        state: of the training: its ``window``, ``history`` and ``record``.
        where: the folder, for the message.
    """
    window, history = build(Window, state.get("window", {}), where), state.get("history", [])
    info = DiscriminatorInfo(
        context=min(discriminator.config.context, generator.config.context),
        seed_length=window.seed_length,
        continuation_length=window.continuation_length,
        precision="fp32",
        parameters=count_parameters(discriminator),
        corpus=str(record.get("corpus", {}).get("name", "unknown")),
        licence=str(record.get("licence", "unknown")),
        generator=checkpoint.hash_of(generator)[:16],
        validation_auroc=max((row["auroc"] for row in history), default=None),
        record={
            **state.get("record", {}),
            "discriminator": asdict(discriminator.config),
            "history": history,
            "generator": record,
        },
    )
    return TrainedDiscriminator(discriminator.eval(), info)


def save(path: Path, trained: TrainedDiscriminator) -> None:
    """Write a discriminator in full precision.

    Raises:
        CheckpointError: the file cannot be written.
    """
    checkpoint.save_weights(path, trained.discriminator, trained.info.to_metadata())


def load(path: Path) -> TrainedDiscriminator:
    """Return the discriminator of a file, of a training's folder, or of a run.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    found = find(path / FOLDER if (path / FOLDER).is_dir() else path)
    if found is None:
        raise CheckpointError(f"{path}: holds no discriminator; train one with 'train --phase adversarial'")
    return found


def find(path: Path) -> TrainedDiscriminator | None:
    """Return the discriminator of a file, or the best of a training's folder, or None where it is something else.

    Raises:
        CheckpointError: it is damaged, or was not measured yet.
    """
    if not path.is_dir():
        return _of_file(path) if path.suffix == Path(FILE).suffix and path.exists() else None
    state = checkpoint.load_state(path)
    if state is None:
        return _of_file(path / FILE) if (path / FILE).exists() else None
    if not {"shape", "discriminator"} <= state.keys():
        return None
    if not state.get("best"):
        raise CheckpointError(f"{path}: holds no discriminator yet; train on with 'train --phase adversarial'")
    try:
        discriminator = Discriminator(build(DiscriminatorConfig, state["shape"], str(path)))
        discriminator.load_state_dict(state["best"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: is not a discriminator ({one_line(error)})") from error
    generator, record = checkpoint.load(path)
    return described(discriminator.requires_grad_(False), generator, record, state, str(path))


def _of_file(path: Path) -> TrainedDiscriminator | None:
    metadata, weights = checkpoint.load_weights(path)
    if "config" in metadata:  # a generator's
        return None
    try:
        info = DiscriminatorInfo.from_metadata(metadata, str(path))
        discriminator = Discriminator(build(DiscriminatorConfig, info.record["discriminator"], str(path)))
        discriminator.load_state_dict(weights)
    except (ModelError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: is not a discriminator ({one_line(error)})") from error
    return TrainedDiscriminator(discriminator.eval().requires_grad_(False), info)
