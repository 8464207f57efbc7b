"""What other threads may know of a session: its parameters at one moment, never to change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from musebridge.bridge.core.learn import Key
from musebridge.bridge.core.settings import Settings, Value
from musebridge.events import (
    ALL_NOTES_OFF,
    ALL_SOUND_OFF,
    SUSTAIN,
    Control,
    Message,
    NoteOff,
    NoteOn,
    SongPosition,
    Transport,
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How a session is set and what it is doing.

    Attributes:
        state: ``listening``, ``answering``, ``interrupted``, ``stopped`` or ``paused``.
        bound: channel, from 0, and controller → the parameter that it moves.
    """

    settings: Settings
    mode: str
    state: str
    bound: Mapping[Key, str] = field(default_factory=dict)

    def values(self) -> dict[str, Value]:
        """Return every parameter, ``mode`` and ``state`` by name."""
        return {**asdict(self.settings), "mode": self.mode, "state": self.state}

    def triggers(self, message: Message) -> bool:
        """Return whether a message hands over, or ends what handed over, instead of being music."""
        match message:
            case NoteOn(pitch=pitch) | NoteOff(pitch=pitch):
                return pitch == self.settings.trigger_key
            case Control(controller=controller):
                return controller == self.settings.trigger_cc
        return False

    def passes_on(self, message: Message) -> bool:
        """Return whether what the player sent goes to the output as well.

        The end of a note, of all notes or of the pedal always may: the output knows whether
        its beginning did, which may have been before a setting changed.
        """
        match message:
            case NoteOff():
                return True
            case Control(controller=number, value=0) if number == SUSTAIN:
                return True
            case Control(controller=number) if number in (ALL_NOTES_OFF, ALL_SOUND_OFF):
                return True
            case Transport() | SongPosition():
                return False
            case Control(controller=number, channel=channel) if (channel, number) in self.bound:
                return False
        return bool(self.settings.thru) and not self.triggers(message)
