"""MIDI learn: which controller moves which parameter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from musebridge.bridge.core.commands import Bind, SetParameter
from musebridge.bridge.core.settings import Settings, value_at
from musebridge.errors import ConfigError
from musebridge.events import ALL_SOUND_OFF, Control
from musebridge.vocab import CONTROLLERS

Key = tuple[int, int]
"""Channel, from 0, and controller."""
FREE = -1
"""In the place of a controller: none moves the parameter any more."""
_MOVED = 4
"""A controller that is moved goes as far as this from where it stood; one that flickers where it stands does not."""


@dataclass(slots=True)
class Bindings:
    """Controllers that move parameters, and the parameter that waits for one.

    A controller moves one parameter, and a parameter has one controller: the latest binding holds.

    Attributes:
        bound: channel and controller → the parameter; never changed, but replaced.
        wanted: the parameter that the next controller is bound to, or "".
    """

    bound: Mapping[Key, str] = field(default_factory=dict)
    wanted: str = ""
    _values: dict[Key, int] = field(default_factory=dict)
    _before: dict[Key, int] = field(default_factory=dict)
    _told: Mapping[Key, str] = field(default_factory=dict)

    def learn(self, name: str) -> None:
        """Wait for a controller that moves; an empty name waits no longer.

        Raises:
            ConfigError: there is no such parameter, or it has no range.
        """
        self.wanted = name and _checked(name)
        self._before = dict(self._values)

    def unlearn(self, name: str) -> None:
        """Free the controller of a parameter, if it has one."""
        self.bound = {key: other for key, other in self.bound.items() if other != name}

    def bind(self, bind: Bind) -> None:
        """Bind a controller, or free it.

        Raises:
            ConfigError: there is no such parameter, controller or channel.
        """
        if not (0 <= bind.controller < ALL_SOUND_OFF and 1 <= bind.channel <= 16):
            raise ConfigError(f"a controller is 0..119 on channel 1..16, found {bind.controller} on {bind.channel}")
        key = bind.channel - 1, bind.controller
        others = {other: name for other, name in self.bound.items() if other != key and name != bind.name}
        self.bound = {**others, key: _checked(bind.name)} if bind.name else others

    def learnt(self, control: Control) -> Bind | None:
        """Take a controller; return how it was bound if it is the one that was waited for.

        The pedals that the model hears stay pedals: who plays meanwhile uses them.
        """
        key = control.channel, control.controller
        self._values[key] = control.value
        if not self.wanted or control.controller in CONTROLLERS or control.controller >= ALL_SOUND_OFF:
            return None
        if abs(control.value - self._before.setdefault(key, control.value)) < _MOVED:
            return None
        bind = Bind(self.wanted, control.controller, control.channel + 1)
        self.bind(bind)
        self.wanted = ""
        return bind

    def moved(self, control: Control) -> SetParameter | None:
        """Return what a controller sets, or None if it is bound to nothing."""
        name = self.bound.get((control.channel, control.controller))
        return SetParameter(name, value_at(name, control.value / 127)) if name else None

    def changes(self) -> list[Bind]:
        """Return what is bound that was not when this was last asked for, and what is ``FREE`` by now."""
        before, now = (by_name(bound) for bound in (self._told, self.bound))
        self._told = self.bound
        freed = [Bind(name, FREE, 0) for name in before if name not in now]
        return freed + [bind for name, bind in now.items() if before.get(name) != bind]


def by_name(bound: Mapping[Key, str]) -> dict[str, Bind]:
    """Return the parameters that have a controller, with it."""
    return {name: Bind(name, controller, channel + 1) for (channel, controller), name in bound.items()}


def _checked(name: str) -> str:
    specs = Settings.__dataclass_fields__
    ranged = [known for known, spec in specs.items() if "low" in spec.metadata]
    if name not in ranged:
        raise ConfigError(f"no parameter {name!r} with a range; known are {', '.join(ranged)}")
    return name
