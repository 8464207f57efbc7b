"""A canvas as a picture and back: a PNG in which time goes to the right, three steps a pixel, and pitch upwards.

One pixel's red, green and blue are three steps of one pitch, so four bars of 4/4
at twelve steps a beat, 192 steps, are 64 pixels wide, and eight octaves 96 high.
A note is as bright as it is loud, and twice as bright where it begins.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from musebridge.band.canvas import Canvas, Header, Metre, Tempo, Voice
from musebridge.band.families import PITCHES
from musebridge.band.planes import Bytes, GridNotes, Planes, to_notes
from musebridge.errors import PictureError, one_line
from musebridge.files import replacing

CHANNELS = 3
PHRASE_STEPS = 192
"""Four bars; a picture is as many of them wide as there is music."""
LOWEST, ROWS = 12, 96
"""The eight octaves from C0; a canvas that plays outside of them is drawn with all pitches."""
_ONSET, _PER_BIN, _FAINTEST = 128, 4, 3
_KEY = "musebridge"
_MOST_PIXELS, _MOST_TEXT = 1 << 26, 1 << 20


def shades(planes: Planes) -> Bytes:
    """Return planes as brightness, (V, P, S): 0 is silence, 3..127 hold, 131..255 an onset, each by 4 a bin."""
    brightness = planes.velocity * _PER_BIN + _FAINTEST
    brightness[~(planes.onset | planes.hold)] = 0
    brightness[planes.onset] += _ONSET
    return brightness.swapaxes(1, 2)


def unshaded(brightness: Bytes) -> Planes:
    """Return the planes of a brightness; :func:`shades` inverts it."""
    of_step = brightness.swapaxes(1, 2)
    onset = of_step >= _ONSET
    return Planes(onset, (of_step > 0) & ~onset, of_step % _ONSET // _PER_BIN)


def pack(brightness: Bytes) -> Bytes:
    """Return rows of steps (..., P, S) as rows of pixels (..., P, S / 3, 3); nothing is moved."""
    return brightness.reshape(*brightness.shape[:-1], -1, CHANNELS)


def unpack(pixels: Bytes) -> Bytes:
    """Return rows of pixels (..., P, W, 3) as rows of steps (..., P, 3 W)."""
    return pixels.reshape(*pixels.shape[:-2], -1)


def write(path: str | Path, canvas: Canvas) -> None:
    """Draw a canvas, a band of rows for each voice; its header goes into the file as text.

    Raises:
        PictureError: the canvas is too long, or the file cannot be written.
    """
    voices = len(canvas.header.voices)
    inside = (canvas.notes.pitch >= LOWEST) & (canvas.notes.pitch < LOWEST + ROWS)
    lowest, rows = (LOWEST, ROWS) if inside.all() else (0, PITCHES)
    steps = max(1, -(-canvas.end // PHRASE_STEPS)) * PHRASE_STEPS
    text = json.dumps({"lowest": lowest, "rows": rows, **asdict(canvas.header)})
    if voices * rows * steps // CHANNELS > _MOST_PIXELS or len(text) > _MOST_TEXT:
        raise PictureError(f"{path}: {voices} voices of {steps:,} steps are too much for a picture; choose less music")
    rolls = [shades(canvas.voice(row, 0, steps))[0, lowest : lowest + rows] for row in range(voices)]
    pixels = pack(np.concatenate([roll[::-1] for roll in rolls] or [np.zeros((rows, steps), np.uint8)]))
    told = PngImagePlugin.PngInfo()
    told.add_text(_KEY, text, zip=True)
    with replacing(Path(path), PictureError) as partial:
        Image.fromarray(pixels).save(partial, format="PNG", pnginfo=told)


def read(path: str | Path) -> Canvas:
    """Read a picture that :func:`write` drew.

    Raises:
        PictureError: it is no such picture.
    """
    pixels, text = _opened(path)
    try:
        header, lowest, rows = _header(json.loads(text))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PictureError(f"{path}: its header cannot be read ({one_line(error)}); write it again") from error
    height, width = max(1, len(header.voices)) * rows, pixels.shape[1]
    if pixels.shape != (height, width, CHANNELS):
        raise PictureError(f"{path}: is {pixels.shape[0]} pixels high, its header says {height}; write it again")
    drawn = unpack(pixels).reshape(-1, rows, width * CHANNELS)[: len(header.voices), ::-1]
    found = [GridNotes.none()]
    for row, roll in enumerate(drawn):
        whole = np.zeros((1, PITCHES, roll.shape[1]), np.uint8)
        whole[0, lowest : lowest + rows] = roll
        notes = to_notes(unshaded(whole))
        found.append(GridNotes(notes.voice + row, notes.step, notes.length, notes.pitch, notes.velocity))
    columns = (np.concatenate([getattr(notes, name) for notes in found]) for name in GridNotes.__slots__)
    return Canvas(header, GridNotes(*columns))


def _opened(path: str | Path) -> tuple[Bytes, str]:
    """Return the pixels of a PNG and the text of its header."""
    try:
        with warnings.catch_warnings(), Image.open(path, formats=["PNG"]) as image:
            warnings.simplefilter("ignore")
            if image.width * image.height > _MOST_PIXELS:
                raise PictureError(f"{path}: is {image.width} × {image.height} pixels; choose a smaller picture")
            image.load()
            text = image.info.get(_KEY)
            if not isinstance(text, str) or image.mode != "RGB":
                raise PictureError(f"{path}: is not a picture of a canvas (it has no header of music); choose another")
            return np.asarray(image), text
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise PictureError(f"{path}: cannot be read ({one_line(error)}); check the path") from error


def _header(told: Mapping[str, Any]) -> tuple[Header, int, int]:
    lowest, rows = int(told["lowest"]), int(told["rows"])
    if (lowest, rows) not in ((LOWEST, ROWS), (0, PITCHES)):
        raise ValueError(f"pitches {lowest} to {lowest + rows - 1}")
    header = Header(
        resolution=int(told["resolution"]),
        tempos=tuple(Tempo(int(t["tick"]), int(t["us_per_beat"])) for t in told["tempos"]),
        metres=tuple(Metre(int(m["tick"]), int(m["count"]), int(m["unit"])) for m in told["metres"]),
        voices=tuple(Voice(**{**voice, "name": str(voice["name"])}) for voice in told["voices"]),
    )
    return header, lowest, rows
