"""MIDI learn: which controller moves which parameter."""

from __future__ import annotations

from dataclasses import dataclass, field

from musebridge.bridge.core.commands import Bind, SetParameter
from musebridge.bridge.core.settings import Settings, value_at
from musebridge.errors import ConfigError
from musebridge.events import ALL_SOUND_OFF, Control

_MOVED = 4
"""A controller that is moved goes further than one that flickers where it stands."""


@dataclass(slots=True)
class Bindings:
    """Controllers that move parameters, and the parameter that waits for one.

    Attributes:
        bound: channel, from 0, and controller → the parameter.
        wanted: the parameter that the next controller is bound to, or "".
    """

    bound: dict[tuple[int, int], str] = field(default_factory=dict)
    wanted: str = ""
    _values: dict[tuple[int, int], int] = field(default_factory=dict)
    _before: dict[tuple[int, int], int] = field(default_factory=dict)

    def learn(self, name: str) -> None:
        """Wait for a controller that moves.

        Raises:
            ConfigError: there is no such parameter, or it has no range.
        """
        self.wanted = _checked(name)
        self._before = dict(self._values)

    def bind(self, bind: Bind) -> None:
        """Bind a controller, or free it.

        Raises:
            ConfigError: there is no such parameter, controller or channel.
        """
        if not (0 <= bind.controller < ALL_SOUND_OFF and 1 <= bind.channel <= 16):
            raise ConfigError(f"a controller is 0..119 on channel 1..16, found {bind.controller} on {bind.channel}")
        key = bind.channel - 1, bind.controller
        if _checked(bind.name):
            self.bound[key] = bind.name
        else:
            self.bound.pop(key, None)

    def learnt(self, control: Control) -> Bind | None:
        """Take a controller; return how it was bound if it is the one that was waited for."""
        key = control.channel, control.controller
        self._values[key] = control.value
        before = self._before.get(key)
        is_moved = before is None or abs(control.value - before) >= _MOVED
        if not self.wanted or control.controller >= ALL_SOUND_OFF or not is_moved:
            return None
        self.bound = {other: name for other, name in self.bound.items() if name != self.wanted}
        bind = Bind(self.wanted, control.controller, control.channel + 1)
        self.bind(bind)
        self.wanted = ""
        return bind

    def moved(self, control: Control) -> SetParameter | None:
        """Return what a controller sets, or None if it is bound to nothing."""
        name = self.bound.get((control.channel, control.controller))
        return SetParameter(name, value_at(name, control.value / 127)) if name else None


def _checked(name: str) -> str:
    fields = Settings.__dataclass_fields__
    if name and (name not in fields or "low" not in fields[name].metadata):
        ranged = ", ".join(known for known, spec in fields.items() if "low" in spec.metadata)
        raise ConfigError(f"no parameter {name!r} with a range; known are {ranged}")
    return name
