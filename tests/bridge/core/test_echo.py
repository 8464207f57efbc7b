"""What was sent is not heard as a player when it comes back."""

from musebridge.bridge.core.echo import WINDOW_S, EchoFilter
from musebridge.events import Control, NoteOff, NoteOn


def test_what_left_a_moment_ago_is_an_echo_once() -> None:
    echoes = EchoFilter()
    note = NoteOn(pitch=60, velocity=66)
    echoes.sent(1.0, note)
    assert echoes.is_echo(1.02, note)
    assert not echoes.is_echo(1.02, note)


def test_other_messages_and_later_ones_are_none() -> None:
    echoes = EchoFilter()
    for message in (NoteOn(pitch=60, velocity=66), NoteOff(pitch=64), Control(controller=64, value=0)):
        echoes.sent(1.0, message)
    assert not echoes.is_echo(1.0, NoteOn(pitch=60, velocity=67))
    assert not echoes.is_echo(1.0, NoteOn(pitch=60, velocity=66, channel=1))
    assert not echoes.is_echo(1.0, NoteOff(pitch=60))
    assert echoes.is_echo(1.0, Control(controller=64, value=0))
    assert not echoes.is_echo(1.001 + WINDOW_S, NoteOn(pitch=60, velocity=66))
