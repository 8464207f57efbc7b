"""The wire codec: messages as events, and as the bytes of MIDI that mido knows."""

from __future__ import annotations

import mido

from musebridge.events import Control, Message, NoteOff, NoteOn, Other, SongPosition, Transport


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
