"""Messages on the wire: each event has its bytes, and they mean it again."""

from __future__ import annotations

import mido
import pytest

from musebridge import wire
from musebridge.events import Control, NoteOff, NoteOn, Other, SongPosition, Transport


@pytest.mark.parametrize(
    ("event", "data"),
    [
        (NoteOn(pitch=60, velocity=100, channel=3), [0x93, 60, 100]),
        (NoteOff(pitch=60, channel=15), [0x8F, 60, 64]),
        (Control(controller=64, value=127, channel=1), [0xB1, 64, 127]),
    ],
)
def test_an_event_and_its_message_are_one_to_one(event, data):
    message = wire.to_message(event)
    assert message.bytes() == data
    assert wire.from_message(message) == event


def test_a_message_of_velocity_0_is_a_release():
    assert wire.from_message(mido.Message("note_on", note=60, velocity=0)) == NoteOff(pitch=60)


@pytest.mark.parametrize(
    ("message", "data"),
    [
        (Transport("clock"), [0xF8]),
        (Transport("start"), [0xFA]),
        (Transport("continue"), [0xFB]),
        (Transport("stop"), [0xFC]),
        (SongPosition(16383), [0xF2, 0x7F, 0x7F]),
        (Other(bytes([0xE3, 0, 64])), [0xE3, 0, 64]),
        (Other(bytes([0xA0, 60, 1])), [0xA0, 60, 1]),
        (Other(bytes([0xD0, 5])), [0xD0, 5]),
        (Other(bytes([0xCF, 7])), [0xCF, 7]),
    ],
)
def test_what_is_not_music_comes_and_goes_unchanged(message, data):
    assert wire.to_message(message).bytes() == data
    assert wire.from_message(mido.Message.from_bytes(data)) == message


@pytest.mark.parametrize("kind", ["active_sensing", "sysex", "quarter_frame"])
def test_other_messages_are_not_played(kind):
    assert wire.from_message(mido.Message(kind)) is None
