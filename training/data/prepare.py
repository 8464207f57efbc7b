"""A folder of MIDI files → a packed token corpus (see ``musebridge.training.data.corpus``)."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from musebridge import vocab
from musebridge.errors import CorpusError, MidiFileError
from musebridge.smf.piece import open_piece
from musebridge.smf.repairs import Repairs, describe
from musebridge.training.data.corpus import CARD, SPLITS
from musebridge.training.data.tokens import PackedTokens as Tokens

SUFFIXES = (".mid", ".midi", ".kar", ".rmi", ".smf")
"""Names of MIDI files end so, in whatever case."""
NOT_NAMED = f"is not named as a MIDI file ({', '.join(SUFFIXES)})"
_MAESTRO_CSV, _MAESTRO_LICENCE = "maestro-*.csv", "CC BY-NC-SA 4.0"
_VALIDATION_SHARE, _TEST_SHARE = 0.1, 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One file, read: its tokens, or the reason why it was skipped.

    Attributes:
        name: its path in the folder, in characters that can be written.
        tokens: of its notes, behind a BEGIN; long rests are cut short.
        notes, seconds: how many, and how long they last, rests included.
        repairs: what was mended in it.
        skipped: why it is of no use.
    """

    name: str
    tokens: Tokens | None
    notes: int = 0
    seconds: float = 0.0
    repairs: Repairs = field(default_factory=Repairs)
    skipped: str = ""


def prepare(
    midi_dir: Path,
    out_dir: Path,
    *,
    licence: str = "",
    workers: int | None = None,
    on_progress: Callable[[float], None] = lambda _: None,
) -> dict[str, object]:
    """Tokenise every MIDI file under ``midi_dir`` into the corpus ``out_dir``.

    MAESTRO is known by its csv, which gives the official split. Without one, a
    tenth of the pieces each become validation and test, chosen by a hash of
    their path. The result does not depend on the number of workers.

    Args:
        midi_dir: a folder, searched recursively for files that are named as in :data:`SUFFIXES`.
        out_dir: made where missing; an older corpus there is replaced.
        licence: of the MIDI files; a model trained on them carries it. MAESTRO's is known.
        workers: processes; default one a core.
        on_progress: called with the share that is done, 0..1.

    Returns:
        The card, as written to ``corpus.json``: every file of the folder is counted
        in a split or listed with the reason why it was passed over.

    Raises:
        CorpusError: ``midi_dir`` holds no MIDI file that can be used, its csv
            is damaged, or ``out_dir`` cannot be written.
    """
    paths, skipped = find_midi(midi_dir, out_dir)
    splits = split_of(midi_dir, paths)
    packing = _Packing(skipped)
    for i, (path, piece) in enumerate(zip(paths, _read_all(midi_dir, paths, workers), strict=True)):
        on_progress((i + 1) / len(paths))
        packing.add(piece, splits[path])
    if not any(packing.packed.values()):
        reason = next(skip["reason"] for skip in skipped if skip["reason"] != NOT_NAMED)
        raise CorpusError(f"{midi_dir}: none of {len(paths)} MIDI files could be used: {reason}")
    sheets = sorted(midi_dir.glob(_MAESTRO_CSV))
    name = sheets[0].stem if sheets else midi_dir.resolve().name
    licence = licence or (_MAESTRO_LICENCE if sheets else "unknown; ask the owner of the MIDI files")
    return _write(out_dir, packing.packed, {"name": name_of(Path(name)), "licence": licence, **packing.counts()})


class _Packing:
    """What was read so far: tokens and counts of each split, what was repaired, and what was passed over.

    Args:
        skipped: files that were passed over already, with the reason; more are added.
    """

    def __init__(self, skipped: list[dict[str, str]]) -> None:
        self.packed: dict[str, list[Tokens]] = {split: [] for split in SPLITS}
        self._rows = {split: {"files": 0, "tokens": 0, "notes": 0, "hours": 0.0} for split in SPLITS}
        self._skipped, self._mended = skipped, list[dict[str, str]]()
        self._repairs: Repairs = Repairs()
        self._seen: dict[bytes, str] = {}

    def add(self, piece: Piece, split: str) -> None:
        """Take a piece into its split, or note why it is passed over."""
        reason = piece.skipped or _duplicate(piece, self._seen)
        if piece.tokens is None or reason:
            self._skipped.append({"file": piece.name, "reason": reason})
            return
        self.packed[split].append(piece.tokens)
        row = self._rows[split]
        row["files"] += 1
        row["tokens"] += len(piece.tokens)
        row["notes"] += piece.notes
        row["hours"] += piece.seconds / 3600
        self._repairs += piece.repairs
        if piece.repairs:
            self._mended.append({"file": piece.name, "what": describe(piece.repairs)})

    def counts(self) -> dict[str, object]:
        """Return what the card says: each file is counted in a split or listed."""
        return {
            "found": len(self._skipped) + sum(int(row["files"]) for row in self._rows.values()),
            "splits": self._rows,
            "skipped": sorted(self._skipped, key=lambda skip: skip["file"]),
            "mended": self._mended,
            "repairs": dict(sorted(self._repairs.items())),
        }


def find_midi(midi_dir: Path, out_dir: Path) -> tuple[list[Path], list[dict[str, str]]]:
    """Return every MIDI file below a folder, sorted by path, and all else there is with the reason to pass it over.

    Lists of files that come with a collection, and what lies in ``out_dir``, are neither.

    Raises:
        CorpusError: it is no folder, or holds no MIDI file.
    """
    if not midi_dir.is_dir():
        raise CorpusError(f"{midi_dir}: is not a folder; give the folder that holds the MIDI files")
    paths: list[Path] = []
    skipped: list[dict[str, str]] = []

    def skip(path: Path, reason: str) -> None:
        skipped.append({"file": name_of(path.relative_to(midi_dir)), "reason": reason})

    def cannot_open(error: OSError) -> None:
        skip(Path(error.filename), f"cannot be read: {error.strerror}")

    sheets = set(midi_dir.glob(_MAESTRO_CSV))
    for folder, subfolders, names in os.walk(midi_dir, onerror=cannot_open):
        here = Path(folder)
        subfolders[:] = [name for name in subfolders if (here / name).resolve() != out_dir.resolve()]
        for path in (here / name for name in names):
            if path in sheets:
                continue
            if path.suffix.lower() in SUFFIXES:
                paths.append(path)
            else:
                skip(path, NOT_NAMED)
    if not paths:
        named = f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
        raise CorpusError(f"{midi_dir}: holds no {named} file; give the folder that holds them")
    return sorted(paths), skipped


def name_of(path: Path) -> str:
    """Return a path so that it can be printed and written, whatever the bytes of its name on disk."""
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")


def split_of(midi_dir: Path, paths: Iterable[Path]) -> dict[Path, str]:
    """Return each file's split: MAESTRO's own where its csv lies in the folder.

    Raises:
        CorpusError: the csv is damaged.
    """
    official: dict[str, str] = {}
    for sheet in sorted(midi_dir.glob(_MAESTRO_CSV)):
        official |= _read_sheet(sheet)
    names = {path: path.relative_to(midi_dir).as_posix() for path in paths}
    return {path: official.get(name) or _hashed_split(name) for path, name in names.items()}


def _read_sheet(sheet: Path) -> dict[str, str]:
    try:
        with sheet.open(newline="", encoding="utf-8") as rows:
            splits = {row["midi_filename"]: row["split"] for row in csv.DictReader(rows)}
    except (OSError, UnicodeDecodeError, csv.Error, KeyError) as error:
        raise CorpusError(f"{sheet}: is not MAESTRO's list of files ({error!r}); copy it anew or remove it") from error
    if strange := set(splits.values()) - set(SPLITS):
        found = sorted(map(str, strange))[0]
        raise CorpusError(f"{sheet}: split must be one of {', '.join(SPLITS)}, found {found!r}; copy it anew")
    return splits


def _hashed_split(name: str) -> str:
    share = int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:4], "big") / 2**32
    if share < _VALIDATION_SHARE:
        return "validation"
    return "test" if share < _VALIDATION_SHARE + _TEST_SHARE else "train"


def _read_all(midi_dir: Path, paths: list[Path], workers: int | None) -> Iterator[Piece]:
    # Forking a process that has threads, as torch's, is unsafe.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(read_piece, paths, [midi_dir] * len(paths), chunksize=4)


def read_piece(path: Path, root: Path) -> Piece:
    """Read and tokenise one file; a bad file comes back as skipped, never raises."""
    name = name_of(path.relative_to(root))
    try:
        piece = open_piece(path)
    except MidiFileError as error:
        return Piece(name=name, tokens=None, skipped=str(error).removeprefix(f"{path}: "))
    tokens, _ = vocab.shorten_rests([vocab.BEGIN, *vocab.encode(piece.events)])
    return Piece(
        name=name,
        tokens=np.array(tokens, dtype=np.uint16),
        notes=piece.notes_read,
        seconds=piece.events[-1].time_s,
        repairs=piece.repairs,
    )


def _duplicate(piece: Piece, seen: dict[bytes, str]) -> str:
    if piece.tokens is None:
        return ""
    first = seen.setdefault(hashlib.sha256(piece.tokens.tobytes()).digest(), piece.name)
    return "" if first == piece.name else f"has the same notes as {first}"


def _write(out_dir: Path, packed: dict[str, list[Tokens]], card: dict[str, object]) -> dict[str, object]:
    splits = {split: np.concatenate([np.empty(0, np.uint16), *pieces]) for split, pieces in packed.items()}
    digest = hashlib.sha256(b"".join(tokens.tobytes() for tokens in splits.values()))
    card = {**card, "vocabulary": vocab.FINGERPRINT, "sha256": digest.hexdigest()}
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        for split, tokens in splits.items():
            np.save(out_dir / f"{split}.npy", tokens)
        (out_dir / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise CorpusError(f"{out_dir}: cannot be written: {error.strerror}; choose another place") from error
    return card
