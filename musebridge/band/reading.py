"""A MIDI file to a canvas, with nothing of its notes lost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from musebridge.band.canvas import LEAST_RESOLUTION, METRE, TEMPO_US, UNITS, Canvas, Header, Metre, Tempo, Voice
from musebridge.band.families import DRUM_CHANNEL, STEPS_PER_BEAT
from musebridge.band.planes import GridNotes, Ints
from musebridge.errors import MidiFileError
from musebridge.smf.columns import Columns, columns
from musebridge.smf.container import Smf, load
from musebridge.smf.notes import Notes, pair
from musebridge.smf.parts import Setting, drums, instruments, ports_of
from musebridge.smf.piece import naming, read_bytes
from musebridge.smf.timing import TempoMap
from musebridge.smf.track import TEMPO, TIME_SIGNATURE
from musebridge.vocab import velocity_bin

MOST_STEPS = 1 << 20
"""Twelve hours at 120 beats a minute."""
_MOST_NOTES, _MOST_LAYERS = 1_000_000, 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounding:
    """What the grid cost.

    Attributes:
        strikes_ms: (N,), how far each strike was moved, later being positive.
        lengthened: how many notes were shorter than half a step, and are a step long now.
        in_layers: how many notes have a voice of their own, since theirs sounded at their pitch already.
    """

    strikes_ms: npt.NDArray[np.float64]
    lengthened: int
    in_layers: int


def read(path: str | Path) -> tuple[Canvas, Rounding]:
    """Read a MIDI file as a canvas.

    Raises:
        MidiFileError: nothing in it can be read, it holds no notes, counts frames
            instead of beats, or is too long.
    """
    data = read_bytes(Path(path))
    with naming(path):
        return read_canvas(data)


def read_canvas(data: bytes) -> tuple[Canvas, Rounding]:
    """Read the bytes of a MIDI file; see :func:`read`. Messages lack the path."""
    smf = load(data)
    if TempoMap.is_smpte(smf):
        raise MidiFileError("counts time in SMPTE frames, which make no beats; export it with ticks per beat")
    messages, repairs = columns(smf), smf.repairs.copy()
    notes = pair(smf, messages, repairs)
    if not 0 < len(notes) <= _MOST_NOTES:
        raise MidiFileError(f"holds {len(notes):,} notes; choose a file of 1 to {_MOST_NOTES:,}")
    header = _header(smf)
    on, off = (header.step(ticks * (header.resolution // smf.division)) for ticks in (notes.on, notes.off))
    if int(off.max()) > MOST_STEPS:
        raise MidiFileError(f"claims to last {int(off.max()) // STEPS_PER_BEAT:,} beats; choose a shorter file")
    of_note, voices = _voices(smf, messages, notes, TempoMap(smf, repairs))
    bins = np.array([velocity_bin(velocity) for velocity in range(128)])[notes.velocity]
    grid = GridNotes(of_note, on, np.maximum(1, off - on), notes.pitch, bins)
    layers, of_layer = _in_layers(grid)
    moved_s = header.seconds(header.tick(on)) - header.seconds(notes.on * (header.resolution // smf.division))
    return (
        Canvas(replace(header, voices=tuple(voices[i] for i in of_layer)), layers),
        Rounding(
            strikes_ms=1e3 * moved_s,
            lengthened=int(np.count_nonzero(off <= on)),
            in_layers=len(notes) - int(np.isin(layers.voice, np.unique(of_layer, return_index=True)[1]).sum()),
        ),
    )


def _header(smf: Smf) -> Header:
    """Return resolution, tempos and metres of a file; a resolution too coarse for the grid is made finer."""
    scale = -(-LEAST_RESOLUTION // smf.division)
    tempos, metres = {0: TEMPO_US}, {0: METRE}
    for track in smf.tracks:
        for tick, contents in track.others.metas(TEMPO):
            if us_per_beat := int.from_bytes(contents[:3], "big") * (len(contents) >= 3):
                tempos[tick * scale] = us_per_beat
        for tick, contents in track.others.metas(TIME_SIGNATURE):
            if len(contents) >= 2 and contents[0] and contents[1] < len(UNITS):
                metres[tick * scale] = (contents[0], 1 << contents[1])
    return Header(
        resolution=smf.division * scale,
        tempos=tuple(Tempo(tick, us_per_beat) for tick, us_per_beat in sorted(tempos.items())),
        metres=tuple(Metre(tick, *metre) for tick, metre in sorted(metres.items())),
    )


def _voices(smf: Smf, messages: Columns, notes: Notes, tempos: TempoMap) -> tuple[Ints, list[Voice]]:
    """Return which voice each note is of, (N,), and the voices, in the order of their tracks.

    A voice is what one track plays with one program of one instrument.
    """
    ports, instrument = ports_of(smf), instruments(smf, messages, notes)
    is_drums = drums(smf, messages, notes, instrument, tempos)
    setting = Setting(messages, ports)
    line = notes.track << 4 | notes.channel
    programs = np.zeros(len(notes), np.int64)
    for one in np.unique(line).tolist():
        rows = np.flatnonzero(line == one)
        programs[rows] = setting.programs(one >> 4, one & 15, notes.on[rows])
    key = np.stack([notes.track, instrument[notes.track, notes.channel], is_drums, np.maximum(0, programs)])
    found, of_note = np.unique(key, axis=1, return_inverse=True)
    free = next((channel for channel in range(16) if channel not in {*found[1].tolist(), DRUM_CHANNEL}), 0)
    voices = [
        Voice(
            name=smf.tracks[track].name(),
            program=program,
            # Channel 10 is for drums alone here, and drums for channel 10, whatever else a file has asked for.
            channel=DRUM_CHANNEL if is_kit else free if channel == DRUM_CHANNEL else channel,
            port=int(ports[track]),
            is_drums=bool(is_kit),
        )
        for track, channel, is_kit, program in found.T.tolist()
    ]
    return of_note.reshape(-1), voices


def _in_layers(notes: GridNotes) -> tuple[GridNotes, list[int]]:
    """Return notes with as many voices as keep those of one pitch apart, in order, and whose layer each voice is."""
    order = np.lexsort((notes.step, notes.pitch, notes.voice))
    voice, pitch, step, end = (column[order] for column in (notes.voice, notes.pitch, notes.step, notes.end))
    key = voice * 128 + pitch
    crowded = np.unique(key[1:][(key[1:] == key[:-1]) & (step[1:] < end[:-1])])
    layer = np.zeros(len(notes), np.int64)
    for rows in (np.flatnonzero(key == one) for one in crowded.tolist()):
        layer[order[rows]] = _apart(step[rows].tolist(), end[rows].tolist())
    found, of_note = np.unique(np.stack([notes.voice, layer]), axis=1, return_inverse=True)
    apart = GridNotes(of_note.reshape(-1), notes.step, notes.length, notes.pitch, notes.velocity)
    return apart.in_order(), found[0].tolist()


def _apart(steps: list[int], ends: list[int]) -> list[int]:
    """Return for each of some notes, by their steps, the first layer that is free then."""
    free_from: list[int] = []
    layers = []
    for step, end in zip(steps, ends, strict=True):
        layer = next((i for i, free in enumerate(free_from) if free <= step), len(free_from))
        if layer == _MOST_LAYERS:
            raise MidiFileError(f"strikes one key more than {_MOST_LAYERS} times at once; choose another file")
        free_from[layer : layer + 1] = [end]
        layers.append(layer)
    return layers
