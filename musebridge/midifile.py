"""Standard MIDI files: read any, write plain ones.

Reading goes through symusic (a C++ parser); tempo changes are honoured and
drums are left out. Files are untrusted: whatever is wrong with one becomes a
:class:`~musebridge.errors.MidiFileError`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from functools import cache
from itertools import product
from pathlib import Path

import mido
import numpy as np
import numpy.typing as npt
from symusic.core import ScoreTick, TrackTick

from musebridge.errors import MidiFileError
from musebridge.events import (
    SOSTENUTO,
    SUSTAIN,
    Control,
    Event,
    Message,
    NoteOff,
    NoteOn,
    Other,
    SongPosition,
    Timed,
    Transport,
)

MAX_DURATION_S = 24 * 3600.0
_TICKS_PER_BEAT, _TEMPO_US = 500, 500_000
"""One tick is one millisecond, so times on the 10 ms grid are written exactly."""
_MIN_LENGTH_S = 1e-4
_HEADER_BYTES, _CHUNK_BYTES, _SMPTE = 14, 8, 0x8000
_MARGIN = bytes(16)
"""symusic trusts the stated length of a few meta events and may look some bytes past the end."""

Floats = npt.NDArray[np.float64]
Ticks = npt.NDArray[np.int64]


def read(path: str | Path) -> list[Timed]:
    """Read the notes, the sustain and the sostenuto pedal of every track that is not drums.

    Returns:
        Events in time order, in seconds from the first note. Where times are
        equal, releases come before pedal moves and these before strikes.

    Raises:
        MidiFileError: the file cannot be read, is damaged, has no notes, has
            drums only, or claims to last longer than a day.
    """
    score = _parse(Path(path))
    melodic = [track for track in score.tracks if not track.is_drum]
    notes = [note for track in melodic for note in [track.notes.numpy()] if len(note["time"])]
    if not notes:
        found = "only drums" if len(melodic) < len(score.tracks) else "no notes"
        raise MidiFileError(f"{path}: holds {found}; choose a file with pitched notes")
    note = {key: np.concatenate([n[key] for n in notes]).astype(np.int64) for key in notes[0]}
    pedal_tick, pedal_moves = _pedal_moves(melodic)
    tempos = _TempoMap(path, score)
    on_s, pedal_s = tempos.seconds(note["time"]), tempos.seconds(pedal_tick)
    # A note of no ticks would otherwise be released before it is struck.
    off_s = np.maximum(tempos.seconds(note["time"] + note["duration"]), on_s + _MIN_LENGTH_S)
    # The parser counts in 32 bits: a tick below 0 was too large.
    went_round = min(note["time"].min(), pedal_tick.min(initial=0)) < 0
    if went_round or max(off_s.max(), pedal_s.max(initial=0.0)) > MAX_DURATION_S:
        raise MidiFileError(f"{path}: claims to last more than {MAX_DURATION_S / 3600:.0f} h; choose a shorter file")
    events: list[Event] = [
        *map(_note_on, note["pitch"].tolist(), note["velocity"].tolist()),
        *map(_note_off, note["pitch"].tolist()),
        *pedal_moves,
    ]
    return _merge(on_s, off_s, pedal_s, events)


def write(path: str | Path, tracks: Mapping[str, Iterable[Timed]]) -> None:
    """Write named tracks of timed events (seconds from the start) as a type 1 file.

    Raises:
        MidiFileError: the file cannot be written.
    """
    file = mido.MidiFile(type=1, ticks_per_beat=_TICKS_PER_BEAT, charset="utf-8")
    for name, events in tracks.items():
        track = mido.MidiTrack([mido.MetaMessage("track_name", name=name)])
        if not file.tracks:
            track.append(mido.MetaMessage("set_tempo", tempo=_TEMPO_US))
        tick = 0
        for timed in events:
            due = max(tick, round(timed.time_s * 1000))
            track.append(to_message(timed.event).copy(time=due - tick))
            tick = due
        file.tracks.append(track)
    try:
        file.save(str(path))
    except OSError as error:
        raise MidiFileError(f"{path}: cannot be written: {error.strerror}; choose another place") from error


def to_message(message: Message) -> mido.Message:
    """Return a message as mido has it."""
    match message:
        case NoteOn(pitch=pitch, velocity=velocity, channel=channel):
            return mido.Message("note_on", note=pitch, velocity=velocity, channel=channel)
        case NoteOff(pitch=pitch, channel=channel):
            return mido.Message("note_off", note=pitch, velocity=64, channel=channel)
        case Control(controller=controller, value=value, channel=channel):
            return mido.Message("control_change", control=controller, value=value, channel=channel)
        case Transport(kind):
            return mido.Message(kind)
        case SongPosition(sixteenths):
            return mido.Message("songpos", pos=sixteenths)
        case Other(data):
            return mido.Message.from_bytes(data)


def from_message(message: mido.Message) -> Message | None:
    """Return what a mido message means, or None for kinds that nobody plays: SysEx, time code, sensing.

    A note-on with velocity 0 is a note-off, as MIDI has it.
    """
    match message.type:
        case "note_on" if message.velocity > 0:
            return NoteOn(pitch=message.note, velocity=message.velocity, channel=message.channel)
        case "note_on" | "note_off":
            return NoteOff(pitch=message.note, channel=message.channel)
        case "control_change":
            return Control(controller=message.control, value=message.value, channel=message.channel)
        case "clock" | "start" | "continue" | "stop":
            return Transport(message.type)
        case "songpos":
            return SongPosition(message.pos)
        case "pitchwheel" | "aftertouch" | "polytouch" | "program_change":
            return Other(bytes(message.bytes()))
        case _:
            return None


def _parse(path: Path) -> ScoreTick:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise MidiFileError(f"{path}: cannot be read: {error.strerror}; check the path") from error
    if not data:
        raise MidiFileError(f"{path}: is empty (0 bytes); choose another file")
    checked = _check_chunks(path, data)
    try:
        return ScoreTick.from_midi(checked + _MARGIN)
    except (RuntimeError, ValueError, MemoryError) as error:
        reason = str(error).removeprefix("MiniMidi: ").removesuffix(": iostream error").replace("Get ", "found ")
        raise MidiFileError(f"{path}: is damaged ({reason}); export it again") from error


def _check_chunks(path: Path, data: bytes) -> bytes:
    """Check that header and chunks are whole; return them with the number of tracks that are there."""
    if data[:4] != b"MThd":
        raise MidiFileError(f"{path}: is not a MIDI file (it begins with {data[:4]!r}); choose another file")
    cut_off = MidiFileError(f"{path}: is cut off after {len(data)} bytes; export it again")
    if len(data) < _HEADER_BYTES:
        raise cut_off
    claimed, division = struct.unpack_from(">HH", data, 10)
    if division == 0 or division & _SMPTE:
        found = "SMPTE frames" if division else "0 ticks per beat"
        raise MidiFileError(f"{path}: counts time in {found}; export it with 1 or more ticks per beat")
    at, tracks = _HEADER_BYTES, 0
    while tracks < claimed and at < len(data):
        if at + _CHUNK_BYTES > len(data):
            raise cut_off
        kind, length = struct.unpack_from(">4sI", data, at)
        at += _CHUNK_BYTES + length
        if at > len(data):
            raise cut_off
        tracks += kind == b"MTrk"
    return data[:10] + struct.pack(">HH", tracks, division) + data[_HEADER_BYTES:at]


class _TempoMap:
    """Ticks to seconds through a score's tempo changes, in double precision."""

    def __init__(self, path: str | Path, score: ScoreTick) -> None:
        changes = {0: 500_000, **{max(0, t.time): t.mspq for t in score.tempos}}
        if min(changes.values()) < 1:
            raise MidiFileError(f"{path}: has a tempo of 0 µs per beat; export it again")
        self._tick = np.array(sorted(changes), dtype=np.int64)
        self._s_per_tick = np.array([changes[t] for t in self._tick]) / (1e6 * score.tpq)
        spans = np.diff(self._tick) * self._s_per_tick[:-1]
        self._start_s = np.concatenate([[0.0], np.cumsum(spans)])

    def seconds(self, ticks: Ticks) -> Floats:
        index = np.searchsorted(self._tick, ticks, side="right") - 1
        index = np.maximum(index, 0)
        return np.asarray(self._start_s[index] + (ticks - self._tick[index]) * self._s_per_tick[index])


def _pedal_moves(tracks: Iterable[TrackTick]) -> tuple[Ticks, list[Control]]:
    """Return the ticks and moves (to 0 or 127) by which a track's pedals really change sides."""
    ticks: list[Ticks] = []
    moves: list[Control] = []
    for control, pedal in product([track.controls.numpy() for track in tracks], (SUSTAIN, SOSTENUTO)):
        is_pedal = control["number"] == pedal
        down = control["value"][is_pedal] >= 64
        changes = np.flatnonzero(np.diff(down, prepend=False))
        ticks.append(control["time"][is_pedal][changes].astype(np.int64))
        moves += [_pedal(pedal, 127 * is_down) for is_down in down[changes].tolist()]
    return np.concatenate(ticks), moves


def _merge(on_s: Floats, off_s: Floats, pedal_s: Floats, events: list[Event]) -> list[Timed]:
    """Return strikes, releases and pedal moves, listed in this order, as one stream."""
    time_s = np.maximum(0.0, np.concatenate([on_s, off_s, pedal_s]) - on_s.min())
    rank = np.repeat([2, 0, 1], [len(on_s), len(off_s), len(pedal_s)])
    order = np.lexsort((rank, time_s))
    return [Timed(at_s, events[i]) for at_s, i in zip(time_s[order].tolist(), order.tolist(), strict=True)]


# Events never change, so the many equal ones of a file can be one object: reading takes half the time.
@cache
def _note_on(pitch: int, velocity: int) -> NoteOn:
    return NoteOn(pitch=pitch, velocity=velocity)


@cache
def _note_off(pitch: int) -> NoteOff:
    return NoteOff(pitch=pitch)


@cache
def _pedal(controller: int, value: int) -> Control:
    return Control(controller=controller, value=value)
