"""What tests of several parts need: small pieces of music, and a corpus made of them."""

from __future__ import annotations

import csv
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

# Where several tests run at once, each with all cores for itself would only wait for the others.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings

from musebridge import midifile
from musebridge.events import NoteOff, NoteOn, Timed

# A slow machine must not fail a test, and a test that passed must pass again.
settings.register_profile(
    "project", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], max_examples=100
)
settings.load_profile("project")

MakePiece = Callable[..., list[Timed]]


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Train on one thread: for models this small a second only costs time."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def make_piece() -> MakePiece:
    """Return a maker of pieces: broken chords, so regular that a tiny model can learn them."""

    def make(seed: int, notes: int = 120) -> list[Timed]:
        rng = random.Random(seed)
        events: list[Timed] = []
        for i in range(notes):
            if i % 8 == 0:
                root, velocity = rng.choice([48, 53, 55, 60]), rng.choice([50, 66, 82])
            pitch = root + (0, 4, 7, 12)[i % 4]
            events.append(Timed(i * 0.2, NoteOn(pitch=pitch, velocity=velocity)))
            events.append(Timed(i * 0.2 + 0.15, NoteOff(pitch=pitch)))
        return events

    return make


@pytest.fixture(scope="session")
def midi_tree(tmp_path_factory: pytest.TempPathFactory, make_piece: MakePiece) -> Path:
    """A folder like MAESTRO's: six pieces to train on, two to validate, and the csv that says so."""
    folder = tmp_path_factory.mktemp("midi")
    rows = [("midi_filename", "split")]
    for i in range(8):
        split = "validation" if i >= 6 else "train"
        path = folder / "2024" / f"piece{i}.mid"
        path.parent.mkdir(exist_ok=True)
        midifile.write(path, {"piano": make_piece(i)})
        rows.append((f"2024/{path.name}", split))
    with (folder / "maestro-tiny.csv").open("w", newline="", encoding="utf-8") as sheet:
        csv.writer(sheet).writerows(rows)
    return folder


@pytest.fixture(scope="session")
def small_corpus(tmp_path_factory: pytest.TempPathFactory, midi_tree: Path) -> Path:
    """``midi_tree``, prepared."""
    from musebridge.training.data import prepare

    folder = tmp_path_factory.mktemp("prepared") / "corpus"
    prepare.prepare(midi_tree, folder, workers=1)
    return folder


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in words what was not run, and what would make it run."""
    reasons = Counter(_reason(report) for report in terminalreporter.stats.get("skipped", []))
    terminalreporter.section("not run here" if reasons else "everything was run")
    for reason, count in reasons.most_common():
        terminalreporter.line(f"{count} test{'s' * (count > 1)}: {reason}")


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Return why a test was skipped; of the file and the line beside it nobody asked."""
    return str(report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr).removeprefix("Skipped: ")
