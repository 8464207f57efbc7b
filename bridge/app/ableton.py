"""Ableton Live through AbletonOSC: what a set says of itself, and a clip written into it.

AbletonOSC listens on port 11000 and answers on 11001 of whoever asks; its README
has the namespace. What it answers is not trusted.
"""

from __future__ import annotations

import math
import socket
from dataclasses import dataclass
from typing import Any

from pythonosc.osc_message import OscMessage
from pythonosc.osc_message_builder import OscMessageBuilder

from musebridge.bridge.core.clip import Clip
from musebridge.bridge.core.harmony import NAMES
from musebridge.errors import PortError

PORT, ANSWER_PORT = 11000, 11001
_PATIENCE_S, _ATTEMPTS = 0.5, 3
_NOTES_AT_ONCE = 32
_MOST_SLOTS, _MOST_STRAYS = 1000, 256
_LAUNCH_PER_BEAT = {5: 0.5, 6: 0.75, 7: 1.0, 8: 1.5, 9: 2.0, 10: 3.0, 11: 4.0, 12: 6.0, 13: 8.0}
"""Lines in a beat, by the number of a launch quantisation that is finer than a bar: from half notes to 1/32."""


@dataclass(frozen=True, slots=True)
class LiveSet:
    """What a set says of itself; ``scale`` is empty where it names none, ``per_beat`` 0 where it launches on bars."""

    bpm: float
    bar_beats: float
    scale: str
    launch_per_beat: float


class Ableton:
    """A set in Ableton Live; use it as a context manager.

    Args:
        host: where Live runs.
        port, answer_port: where AbletonOSC listens, and where it answers.

    Raises:
        PortError: another program listens where AbletonOSC answers.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = PORT, answer_port: int = ANSWER_PORT) -> None:
        self._where = host, port
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.settimeout(_PATIENCE_S)
        try:
            self._socket.bind(("127.0.0.1" if host in ("127.0.0.1", "localhost") else "", answer_port))
        except OSError as error:
            self._socket.close()
            raise PortError(
                f"AbletonOSC answers on UDP port {answer_port}, which cannot be listened to: {error.strerror}; "
                "end the other program that uses it"
            ) from error

    def __enter__(self) -> Ableton:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def read(self) -> LiveSet:
        """Return what the set says of itself.

        Raises:
            PortError: nobody answers, or with something else.
        """
        bpm = self._number("/live/song/get/tempo")
        count, unit = (self._number(f"/live/song/get/signature_{name}") for name in ("numerator", "denominator"))
        launch = int(self._number("/live/song/get/clip_trigger_quantization"))
        if not (20 <= bpm <= 999 and 1 <= count <= 99 and unit in (1, 2, 4, 8, 16)):
            raise PortError(f"AbletonOSC says that the set has {bpm:g} bpm and a metre of {count:g}/{unit:g}")
        return LiveSet(bpm, count * 4 / unit, self._scale(), _LAUNCH_PER_BEAT.get(launch, 0.0))

    def write(self, clip: Clip, track: str = "", name: str = "MuseBridge") -> tuple[int, int]:
        """Write a clip into the next free slot of a track, or of a new scene; return the track and the slot, from 0.

        Args:
            clip: what to write.
            track: its name, or its number from 1; empty for the one that is selected.
            name: of the clip.

        Raises:
            PortError: there is no such MIDI track, nobody answers, or the notes did not all arrive.
        """
        where = self._track(track)
        slot = self._free_slot(where)
        self._send("/live/clip_slot/create_clip", where, slot, clip.length)
        if not self._ask("/live/clip_slot/get/has_clip", where, slot)[-1:][0]:
            raise PortError(f"Live made no clip in slot {slot + 1} of track {where + 1}")
        self._send("/live/clip/set/name", where, slot, name)
        for i in range(0, len(clip.notes), _NOTES_AT_ONCE):
            notes = clip.notes[i : i + _NOTES_AT_ONCE]
            rows = [(note.pitch, note.start, note.length, note.velocity, False) for note in notes]
            self._send("/live/clip/add/notes", where, slot, *(value for row in rows for value in row))
        written = (len(self._ask("/live/clip/get/notes", where, slot)) - 2) // 5
        if written != len(clip.notes):
            raise PortError(f"Live has {written} of the clip's {len(clip.notes)} notes; delete the clip and try again")
        return where, slot

    def _track(self, track: str) -> int:
        """Return the number, from 0, of a MIDI track."""
        names = [str(name) for name in self._ask("/live/song/get/track_names")]
        if not track:
            where = int(self._number("/live/view/get/selected_track"))
        elif track in names:
            where = names.index(track)
        else:
            where = int(track) - 1 if track.isdecimal() else -1
        if not 0 <= where < len(names):
            raise PortError(f"the set has no track {track!r}; it has {', '.join(names)}")
        if not self._number("/live/track/get/has_midi_input", where):
            raise PortError(f"track {where + 1}, {names[where]}, takes no MIDI; choose another with --track")
        return where

    def _free_slot(self, track: int) -> int:
        scenes = int(self._number("/live/song/get/num_scenes"))
        for slot in range(min(scenes, _MOST_SLOTS)):
            if not self._number("/live/clip_slot/get/has_clip", track, slot):
                return slot
        self._send("/live/song/create_scene", -1)
        if self._number("/live/song/get/num_scenes") <= scenes:
            raise PortError(f"track {track + 1} has no free slot, and Live made no scene more")
        return scenes

    def _scale(self) -> str:
        """Return the set's scale, such as D minor; older ones of AbletonOSC name none."""
        try:
            root, name = int(self._number("/live/song/get/root_note")), self._ask("/live/song/get/scale_name")
        except PortError:
            return ""
        return f"{NAMES[root % 12]} {str(name[0]).lower()}" if name else ""

    def _number(self, address: str, *arguments: int) -> float:
        value = (self._ask(address, *arguments) or [None])[-1]
        if not isinstance(value, bool | int | float) or not math.isfinite(value):
            raise PortError(f"AbletonOSC answered {address} with {value!r:.40}")
        return float(value)

    def _ask(self, address: str, *arguments: int) -> list[Any]:
        """Return what is answered to a question, which begins with the question's arguments."""
        for _ in range(_ATTEMPTS):
            self._send(address, *arguments)
            for _ in range(_MOST_STRAYS):
                try:
                    message = OscMessage(self._socket.recv(65536))
                except OSError:  # nothing comes, or nobody listens there
                    break
                except Exception:  # noqa: BLE001  # python-osc raises many kinds on damaged input
                    continue
                values = list(message.params)
                if message.address == address and values[: len(arguments)] == list(arguments):
                    return values
        raise PortError(
            f"AbletonOSC does not answer {address} at {self._where[0]}:{self._where[1]}; "
            "is Live running, and AbletonOSC its control surface?"
        )

    def _send(self, address: str, *arguments: Any) -> None:
        builder = OscMessageBuilder(address)
        for argument in arguments:
            builder.add_arg(argument)
        try:
            self._socket.sendto(builder.build().dgram, self._where)
        except OSError as error:
            raise PortError(f"AbletonOSC at {self._where[0]}: {error.strerror or error}") from error
