"""A MIDI file given back as it is, with a track for each family of a band."""

from __future__ import annotations

import numpy as np

from musebridge.band.canvas import Canvas, Header, Voice
from musebridge.band.families import DRUM_CHANNEL, FAMILIES
from musebridge.band.planes import GridNotes
from musebridge.band.writing import tracks
from musebridge.errors import MidiFileError
from musebridge.smf.append import file_of
from musebridge.smf.columns import columns
from musebridge.smf.container import MOST_TRACKS, load
from musebridge.smf.track import encode

_PROGRAMS = {"drums": 0, "bass": 33, "guitar": 26, "piano": 0, "strings": 48}
VOICES = tuple(
    Voice(
        name=family,
        program=_PROGRAMS[family],
        channel=DRUM_CHANNEL if family == "drums" else i,
        is_drums=family == "drums",
    )
    for i, family in enumerate(FAMILIES)
)
"""The instruments that a band plays."""


def added(data: bytes, header: Header, notes: GridNotes) -> bytes:
    """Return a file's own tracks, and one for each family that has notes, on channels that the file leaves free.

    Args:
        data: the file.
        header: of its canvas.
        notes: with rows of ``FAMILIES`` as voices.

    Raises:
        MidiFileError: it has as many tracks as a file can have, or too few free channels. The message lacks the path.
    """
    smf = load(data)
    playing = sorted(set(notes.voice.tolist()))
    if len(smf.tracks) + len(playing) > MOST_TRACKS:
        raise MidiFileError(f"has {len(smf.tracks)} tracks, and no file can have more than {MOST_TRACKS}")
    free = [channel for channel in range(16) if channel not in {*columns(smf).channel.tolist(), DRUM_CHANNEL}]
    pitched = [row for row in playing if FAMILIES[row] != "drums"]
    if len(free) < len(pitched):
        raise MidiFileError(f"leaves {len(free)} channels free, the band needs {len(pitched)}; give fewer --parts")
    channel = {**dict(zip(pitched, free, strict=False)), FAMILIES.index("drums"): DRUM_CHANNEL}
    voices = tuple(
        Voice(name=voice.name, program=voice.program, channel=channel.get(row, 0), is_drums=voice.is_drums)
        for row, voice in enumerate(VOICES)
    )
    scale = header.resolution // smf.division
    own = Canvas(Header(resolution=header.resolution, voices=voices), notes)
    new = [encode([(tick // scale, event) for tick, event in tracks(own)[row]], 0) for row in playing]
    return file_of(smf, [*(track.body for track in smf.tracks), *new])


def told(notes: GridNotes) -> str:
    """Return how many notes each family plays."""
    counts = np.bincount(notes.voice, minlength=len(FAMILIES)).tolist()
    return ", ".join(f"{family} {count}" for family, count in zip(FAMILIES, counts, strict=True) if count) or "nothing"
