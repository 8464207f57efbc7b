"""Curves of a run for TensorBoard, which is an optional extra."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from musebridge.errors import ConfigError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from musebridge.training.pretraining.trainer import Progress

FOLDER = "tensorboard"


class Curves(Protocol):
    """Where the figures of a run go."""

    def step(self, progress: Progress) -> None:
        """An optimizer step was taken."""

    def validation(self, progress: Progress) -> None:
        """The generator was validated."""


@contextmanager
def opened(run_dir: Path, *, wanted: bool) -> Iterator[Curves]:
    """Give curves that are written into the run's folder, or that nobody reads.

    Raises:
        ConfigError: they are wanted, and TensorBoard is not installed.
    """
    if not wanted:
        yield _Unseen()
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError("--tensorboard needs TensorBoard: pip install tensorboard") from error
    with SummaryWriter(str(run_dir / FOLDER)) as writer:
        yield _Events(writer)


class _Unseen:
    def step(self, progress: Progress) -> None:
        pass

    def validation(self, progress: Progress) -> None:
        pass


class _Events:
    def __init__(self, writer: SummaryWriter) -> None:
        self._writer = writer

    def step(self, progress: Progress) -> None:
        self._add("train/nll", progress.train_nll, progress)
        self._add("train/tokens_per_s", progress.tokens_per_s, progress)

    def validation(self, progress: Progress) -> None:
        self._add("validation/nll", progress.validation_nll, progress)

    def _add(self, name: str, value: float, progress: Progress) -> None:
        self._writer.add_scalar(name, value, progress.tokens)
