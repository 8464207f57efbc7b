"""What was mended, passed over or left out while a file was read, with counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

_KINDS = {
    "wrapped": ("taken out of a RIFF container", ""),
    "before": ("{n} byte before the header passed over", "{n} bytes before the header passed over"),
    "header": ("a header of another length or type than the standard's", ""),
    "type 2": ("type 2 read as type 1", ""),
    "count": ("a wrong number of tracks in the header", ""),
    "length": ("{n} track of a wrong length", "{n} tracks of a wrong length"),
    "cut": ("{n} track that is cut off", "{n} tracks that are cut off"),
    "no end": ("{n} track without its end", "{n} tracks without their end"),
    "behind": ("{n} byte outside the tracks passed over", "{n} bytes outside the tracks passed over"),
    "tracks": ("{n} track too many left out", "{n} tracks too many left out"),
    "delta": ("{n} time of more than four bytes", "{n} times of more than four bytes"),
    "clipped": ("{n} value above 127 clipped", "{n} values above 127 clipped"),
    "dropped": (
        "{n} event whose key, program or controller is above 127 left out",
        "{n} events whose key, program or controller is above 127 left out",
    ),
    "running": ("{n} running status behind a SysEx carried on", "{n} running statuses behind a SysEx carried on"),
    "status": ("{n} undefined status byte passed over", "{n} undefined status bytes passed over"),
    "bytes": ("{n} byte of no meaning passed over", "{n} bytes of no meaning passed over"),
    "sysex": ("{n} SysEx of a wrong length", "{n} SysEx of a wrong length"),
    "escaped": ("{n} message taken out of an escape", "{n} messages taken out of escapes"),
    "tempo": ("{n} tempo of no meaning passed over", "{n} tempos of no meaning passed over"),
    "metre": ("{n} time signature of no meaning passed over", "{n} time signatures of no meaning passed over"),
    "lost": (
        "{n} note without a note-off ended at the key's next strike or the track's end",
        "{n} notes without a note-off ended at the key's next strike or the track's end",
    ),
    "silenced": ("{n} note ended by All Notes Off", "{n} notes ended by All Notes Off"),
}
"""How one repair of each kind is told, and how several are, in the order of telling."""

Repairs = Counter[str]
"""How often each kind of repair was needed."""


def describe(repairs: Mapping[str, int]) -> str:
    """Return one line that names every repair, or nothing where none was needed."""
    told = [
        ((several if n > 1 else "") or one, n) for kind, (one, several) in _KINDS.items() if (n := repairs.get(kind, 0))
    ]
    return ", ".join(wording.format(n=f"{n:,}") for wording, n in told)
