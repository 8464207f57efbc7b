"""Files that are replaced in one step, so who reads one never finds half of it, and a failure leaves the old one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from musebridge.errors import MuseBridgeError, one_line


@contextmanager
def replacing(path: Path, error: type[MuseBridgeError], *also: type[Exception]) -> Iterator[Path]:
    """Give the name of a file beside ``path`` to write, which takes its place if all goes well, and vanishes if not.

    Args:
        path: the file; its folder is made where missing.
        error: to raise where it cannot be written.
        also: what a library raises then, beside ``OSError``.
    """
    failures: tuple[type[Exception], ...] = (OSError, *also)
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except failures as reason:
        raise error(f"{path}: cannot be written ({one_line(reason)}); choose another place") from reason
