"""What reports are made of: a folder that can be written, and Markdown tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from musebridge.errors import ReportError, one_line


@contextmanager
def report_in(folder: Path) -> Iterator[None]:
    """Make the folder of a report that is written within.

    Raises:
        ReportError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise ReportError(f"{folder}: cannot be written ({one_line(error)}); choose another place") from error


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = False) -> list[str]:
    """Return the lines of a Markdown table; ``numbers``: all columns but the first are set to the right."""
    rule = ["---", *(["---:" if numbers else "---"] * (len(head) - 1))]
    return [_line(head), f"|{'|'.join(rule)}|", *(_line(row) for row in rows)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
