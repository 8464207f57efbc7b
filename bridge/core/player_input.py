"""What the player does: of all that keyboards send, the keys and pedals that really moved.

A keyboard may say a thing twice or not at all. It repeats "pedal up", its pedal
flickers at rest, a cable swallows the end of a note, an octave button sends that
end for another key, a DAW's panic lifts keys that nobody holds. Here it becomes a
picture of keys and pedals for each channel, and only what changes it is passed on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from musebridge.bridge.core.settings import Settings
from musebridge.events import (
    ALL_NOTES_OFF,
    ALL_SOUND_OFF,
    RESET_CONTROLLERS,
    SOSTENUTO,
    SUSTAIN,
    Control,
    Event,
    Message,
    NoteOff,
    NoteOn,
    Other,
)

_DOWN, _RISEN = 64, 48
"""A controller is on from 64, and off again below 48."""
_UP_SHARE = 3 / 8
"""A pedal is down from the middle of its way on, and up again below this share of it."""
_NARROWEST = 24
"""A way shorter than this is flicker."""
_PRESSURE = 0xA0
ENDING = frozenset({ALL_SOUND_OFF, *range(ALL_NOTES_OFF, 128)})
"""Controllers that end the notes of their channel."""


@dataclass(slots=True)
class Pedal:
    """A controller as a switch that flicker does not move.

    Its way is what it was seen to go, so a pedal that goes from 30 to 70 is
    understood; one that begins above the middle is taken to be down, unless it rises
    from there.
    """

    is_down: bool = False
    _first: int | None = None
    _low: int = 127
    _high: int = 0
    _rise: int = 0

    def move(self, value: int) -> bool:
        """Take a value, 0..127; return whether the pedal went down or up by it."""
        self._first = value if self._first is None else self._first
        self._low, self._high = min(self._low, value), max(self._high, value)
        self._rise = max(self._rise, value - self._low)
        rests_here = self._low < _DOWN or (self._low == self._first and self._rise >= _NARROWEST)
        low = self._low if rests_here else 0
        way = max(self._high, _DOWN, low + _NARROWEST) - low
        was_down = self.is_down
        self.is_down = value >= low + way * (_UP_SHARE if was_down else 0.5)
        return self.is_down != was_down


@dataclass(slots=True)
class Switch:
    """A controller that hands over where it crosses the middle, and must fall well below it before it can again."""

    is_down: bool = False

    def rises(self, value: int) -> bool:
        """Take a value, 0..127; return whether it crossed the middle upwards."""
        was_down = self.is_down
        self.is_down = value >= (_RISEN if was_down else _DOWN)
        return self.is_down and not was_down


@dataclass(slots=True)
class PlayerInput:
    """The player's keys and pedals, by channel, and what changes them.

    Attributes:
        keys: channel and pitch of each key that is down → when it was last heard of.
        doubtful: channel and pitch of each key that counts as up though nothing said so.
    """

    keys: dict[tuple[int, int], float] = field(default_factory=dict)
    doubtful: set[tuple[int, int]] = field(default_factory=set)
    _pedals: dict[tuple[int, int], Pedal] = field(default_factory=dict)
    _pedals_s: dict[tuple[int, int], float] = field(default_factory=dict)
    _switches: dict[tuple[int, int], Switch] = field(default_factory=dict)
    _triggered: set[tuple[int, int]] = field(default_factory=set)

    def take(self, now_s: float, message: Message, settings: Settings) -> list[Event]:
        """Return what a message changes: of a pedal only its going down, as 127, and up, as 0."""
        match message:
            case NoteOn(channel=channel) if channel in settings.channels:
                self.keys[channel, message.pitch] = now_s
                self.doubtful.discard((channel, message.pitch))
                return [message]
            case NoteOff(pitch=pitch, channel=channel):
                self.doubtful.discard((channel, pitch))
                return [message] if self.keys.pop((channel, pitch), None) is not None else []
            case Control(controller=number) if number in (SUSTAIN, SOSTENUTO):
                return list(self._pedal(now_s, message, settings))
            case Control(controller=number, channel=channel) if number == RESET_CONTROLLERS:
                return list(self._lift_pedals(channel))
            case Control(controller=number, channel=channel) if number in ENDING:
                return [*self._lift_keys(channel), *self._lift_pedals(channel)]
            case Other(data) if len(data) == 3 and data[0] & 0xF0 == _PRESSURE:
                key = data[0] & 0x0F, data[1]
                if key in self.keys:
                    self.keys[key] = now_s
        return []

    def hands_over(self, message: Message, settings: Settings) -> bool | None:
        """Return whether a message hands over; None if it is no trigger's, and so may be music.

        Of a key it is where it goes down: what went down as music ends as music, whatever was set meanwhile.
        """
        match message:
            case NoteOn(pitch=pitch, channel=channel):
                if pitch != settings.trigger_key:
                    self._triggered.discard((channel, pitch))
                    return None
                if (channel, pitch) in self._triggered:
                    return False
                self._triggered.add((channel, pitch))
                return True
            case NoteOff(pitch=pitch, channel=channel) if (channel, pitch) in self._triggered:
                self._triggered.discard((channel, pitch))
                return False
            case Control(controller=number, value=value, channel=channel):
                rises = self._switches.setdefault((channel, number), Switch()).rises(value)
                if number == settings.trigger_cc:
                    return rises
        return None

    def pedal_rises(self, message: Message, settings: Settings) -> bool:
        """Return whether a message, before it is taken, lets the sustain pedal rise.

        One that was never heard of may be down: its first word is believed, but while a key is held.
        """
        if not isinstance(message, Control) or message.controller != SUSTAIN:
            return False
        pedal = self._pedals.get((message.channel, SUSTAIN))
        if pedal is None:
            return _upright(message, settings) == 0 and not self.keys
        moved = replace(pedal)
        return pedal.is_down and moved.move(_upright(message, settings))

    def clear(self) -> list[Event]:
        """Return what lifts every key and pedal."""
        self._triggered.clear()
        return [event for channel in range(16) for event in (*self._lift_keys(channel), *self._lift_pedals(channel))]

    def forget_pedals(self) -> list[Event]:
        """Return what lifts every pedal, and learn anew how they move."""
        events = [event for channel in range(16) for event in self._lift_pedals(channel)]
        self._pedals.clear()
        return events

    def lost(self, now_s: float, patience_s: float) -> list[Event]:
        """Return the ends of keys and pedals that nothing was heard of for so long, which then are up."""
        keys = [key for key, heard_s in self.keys.items() if heard_s + patience_s <= now_s]
        for key in keys:
            del self.keys[key]
        self.doubtful.update(keys)
        pedals = [pedal for pedal, heard_s in self._pedals_s.items() if heard_s + patience_s <= now_s]
        ends: list[Event] = [NoteOff(pitch=pitch, channel=channel) for channel, pitch in keys]
        return ends + [up for pedal in pedals for up in self._raise(*pedal)]

    def next_lost_s(self, patience_s: float) -> float | None:
        """Return when :meth:`lost` has something to return if nothing is heard, or None."""
        moments = [*self.keys.values(), *self._pedals_s.values()]
        return min(moments) + patience_s if moments else None

    def _pedal(self, now_s: float, control: Control, settings: Settings) -> Iterator[Event]:
        key = control.channel, control.controller
        if control.channel not in settings.channels and key not in self._pedals_s:
            return
        pedal = self._pedals.setdefault(key, Pedal())
        if pedal.move(_upright(control, settings)):
            if not pedal.is_down:
                yield from self._raise(*key)
            elif not self._is_down(control.controller):
                yield Control(controller=control.controller, value=127, channel=control.channel)
        if pedal.is_down:
            self._pedals_s[key] = now_s

    def _is_down(self, number: int) -> bool:
        return any(pedal == number for _, pedal in self._pedals_s)

    def _raise(self, channel: int, number: int) -> Iterator[Event]:
        """Take a pedal to be up; whoever has several has them up when the last one is."""
        if self._pedals_s.pop((channel, number), None) is None:
            return
        self._pedals[channel, number].is_down = False
        if not self._is_down(number):
            yield Control(controller=number, value=0, channel=channel)

    def _lift_keys(self, channel: int) -> Iterator[Event]:
        self.doubtful -= {key for key in self.doubtful if key[0] == channel}
        for key in [key for key in self.keys if key[0] == channel]:
            del self.keys[key]
            yield NoteOff(pitch=key[1], channel=channel)

    def _lift_pedals(self, channel: int) -> Iterator[Event]:
        for number in (SOSTENUTO, SUSTAIN):
            yield from self._raise(channel, number)


def _upright(control: Control, settings: Settings) -> int:
    """Return a pedal's value as one of normal polarity would send it."""
    is_reversed = control.controller == SUSTAIN and settings.pedal_polarity == "reversed"
    return 127 - control.value if is_reversed else control.value
