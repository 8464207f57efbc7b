"""Standard MIDI files: read any, as leniently as players do, and write plain ones.

:mod:`musebridge.smf` does it; its :mod:`~musebridge.smf.piece` tells more of a
file than its notes, and its :mod:`~musebridge.smf.append` gives a file back with
a part added.
"""

from __future__ import annotations

from pathlib import Path

from musebridge.events import Timed
from musebridge.smf.piece import open_piece
from musebridge.smf.voices import MAX_DURATION_S
from musebridge.smf.write import write
from musebridge.wire import from_message, to_message

__all__ = ["MAX_DURATION_S", "from_message", "read", "to_message", "write"]


def read(path: str | Path) -> list[Timed]:
    """Read what every part plays that has pitches: its notes, and its sustain and sostenuto pedals.

    Returns:
        Events in time order, in seconds from the first note, as
        :func:`musebridge.smf.voices.events` describes them.

    Raises:
        MidiFileError: nothing in the file can be read, it has no notes, has drums
            only, or claims to last longer than a day.
    """
    return open_piece(path).events
