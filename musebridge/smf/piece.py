"""A MIDI file as music: what sounds, who plays, where it begins and ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from musebridge.errors import MidiFileError
from musebridge.events import Timed
from musebridge.smf.columns import NOTE_ON, Columns, columns
from musebridge.smf.container import Smf, load
from musebridge.smf.notes import Notes, pair
from musebridge.smf.parts import Part, chosen, drums, instruments, parts
from musebridge.smf.repairs import Repairs, describe
from musebridge.smf.timing import Bars, Bools, TempoMap
from musebridge.smf.track import Ints
from musebridge.smf.voices import MAX_DURATION_S, events

_MOST_BYTES = 64 << 20
"""A container may hold samples beside the music."""
_MOST_NOTES = 1_000_000
_MOST_NAMED = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A MIDI file, read.

    Attributes:
        smf: header and tracks, to be written again.
        messages: all channel messages.
        tempos, bars: its time.
        parts: all that play.
        chosen: those that were read, the one with most notes first.
        events: what they play, in seconds from their first note.
        start_s: when that note comes, in seconds of the file.
        end: the tick at which the last note of the whole file ends, by its length.
        notes: of the whole file.
        grouped_channels: those that are one instrument, as MPE has it.
        repairs: what was mended.
    """

    smf: Smf
    messages: Columns
    tempos: TempoMap
    bars: Bars | None
    parts: Sequence[Part]
    chosen: Sequence[Part]
    events: list[Timed]
    start_s: float
    end: int
    notes: Notes
    grouped_channels: frozenset[int]
    repairs: Repairs

    @property
    def notes_read(self) -> int:
        """How many notes the chosen parts have."""
        return sum(part.notes for part in self.chosen)

    @property
    def end_s(self) -> float:
        """When the last note ends, in seconds from the first note that was read."""
        return self.tempos.second(self.end) - self.start_s

    def report(self) -> list[str]:
        """Return what was read, in one line, and what was mended, in another where anything was."""
        chosen = set(self.chosen)
        left_out = [part for part in self.parts if part not in chosen]
        told = [f"read {_listed([part for part in self.parts if part in chosen])}"]
        for what, is_drums in (("left out", False), ("left out as drums", True)):
            if some := [part for part in left_out if part.is_drums is is_drums]:
                told.append(f"{what}: {_listed(some)}")
        lines = ["; ".join(told)]
        return lines + ([f"mended: {describe(self.repairs)}"] if self.repairs else [])


def _listed(parts: Sequence[Part]) -> str:
    rest = len(parts) - _MOST_NAMED
    return ", ".join(map(str, parts[:_MOST_NAMED])) + (f" and {rest} more" if rest > 0 else "")


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a file of a size that music has.

    Raises:
        MidiFileError: it cannot be read, is none, or is too large.
    """
    try:
        if path.exists() and not path.is_file():
            raise MidiFileError(f"{path}: is not a file; give a MIDI file")
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise MidiFileError(f"{path}: is {size >> 20} MiB long; choose a file of at most {_MOST_BYTES >> 20} MiB")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise MidiFileError(f"{path}: cannot be read: {reason}; check the path") from error


def open_piece(path: str | Path, track: str | None = None) -> Piece:
    """Read a MIDI file as leniently as players do.

    Args:
        path: of the file.
        track: number or name of what is to be read; default all that has pitches.

    Raises:
        MidiFileError: nothing in it can be read, it holds no pitched notes, or
            claims to last longer than a day.
    """
    data = read_bytes(Path(path))
    with naming(path):
        return parse_piece(data, track)


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Begin the message of a MidiFileError with the path of the file that it is about."""
    try:
        yield
    except MidiFileError as error:
        raise MidiFileError(f"{path}: {error}") from error


def parse_piece(data: bytes, track: str | None = None) -> Piece:
    """Read the bytes of a MIDI file; see :func:`open_piece`. Messages lack the path."""
    smf = load(data)
    repairs = smf.repairs.copy()
    messages = columns(smf)
    struck = int(np.count_nonzero(messages.kind == NOTE_ON))
    if struck > _MOST_NOTES:
        raise MidiFileError(f"holds {struck:,} notes; choose a file of at most {_MOST_NOTES:,}")
    notes = pair(smf, messages, repairs)
    tempos = TempoMap(smf, repairs)
    bars = None if TempoMap.is_smpte(smf) else Bars(smf, repairs)
    instrument = instruments(smf, messages, notes)
    is_drums = drums(smf, messages, notes, instrument, tempos)
    found = parts(smf, messages, notes, instrument, is_drums)
    wanted = set(chosen([part for part, _ in found], track))
    read = notes[np.sort(np.concatenate([rows for part, rows in found if part in wanted]))]
    end = _end(smf, notes, is_drums)
    # Ticks add up beyond what is music before times do.
    if tempos.second(end) > MAX_DURATION_S:
        raise MidiFileError(f"claims to last more than {MAX_DURATION_S / 3600:.0f} h; choose a shorter file")
    playing = np.unique(notes.track << 4 | instrument[notes.track, notes.channel])
    timed, start_s = events(read, messages, instrument, tempos, playing=playing)
    return Piece(
        smf=smf,
        messages=messages,
        tempos=tempos,
        bars=bars,
        parts=[part for part, _ in found],
        chosen=sorted((part for part, _ in found if part in wanted), key=lambda part: -part.notes),
        events=timed,
        start_s=start_s,
        end=end,
        notes=notes,
        grouped_channels=frozenset(_grouped(instrument)),
        repairs=+repairs,
    )


def _grouped(instrument: Ints) -> set[int]:
    masters = set(instrument[instrument != np.arange(16)].tolist())
    return masters | set(np.flatnonzero((instrument != np.arange(16)).any(axis=0)).tolist())


def _end(smf: Smf, notes: Notes, is_drums: Bools) -> int:
    """Return when the last note ends; a stroke on a drum, which nobody need release, lasts a beat at most."""
    stroke = notes.off if smf.division >= 0x8000 else np.minimum(notes.off, notes.on + smf.division)
    return int(np.where(is_drums, stroke, notes.off).max(initial=0))
