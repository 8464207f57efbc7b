"""The presets as a running bridge offers them: to list, to take, and to save how it is set as another one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict

from musebridge.bridge.app.bulletin import News
from musebridge.bridge.app.osc_server import Answerer
from musebridge.bridge.app.preset import Preset, check_name, load, names, save_as
from musebridge.bridge.app.threads import Asked, Outcomes
from musebridge.bridge.core.commands import SetMode, SetParameter
from musebridge.bridge.core.learn import by_name
from musebridge.bridge.core.settings import Settings, Value
from musebridge.bridge.core.snapshot import Snapshot
from musebridge.errors import ConfigError, MuseBridgeError


def steps(now: Settings, wanted: Settings) -> list[SetParameter]:
    """Return what sets ``wanted``, in an order in which each holds against the others: the highest before the lowest.

    Raises:
        ConfigError: there is no such order.
    """
    before, done = asdict(now), list[SetParameter]()
    left = {name: value for name, value in asdict(wanted).items() if value != before[name]}
    while left:
        for name, value in left.items():
            with suppress(ConfigError):
                now = now.with_value(name, value)
                done.append(SetParameter(name, value))
                break
        else:
            raise ConfigError(f"{', '.join(left)} cannot be set one after the other")
        del left[name]
    return done


class Shelf:
    """Answers what OSC asks about presets.

    Args:
        preset: that the bridge began with.
        ask: called with what the session is to do, in one go.
        publish: called with what subscribers are to be told.
        on_error: called with what the session refused.
    """

    def __init__(
        self,
        preset: Preset,
        ask: Callable[[Asked], None],
        publish: Callable[..., None],
        on_error: Callable[[MuseBridgeError], None],
    ) -> None:
        self._preset, self._ask, self._publish, self._on_error = preset, ask, publish, on_error

    def answerers(self) -> Mapping[str, Answerer]:
        """Return what answers each query."""
        return {"presets": self._list, "presets/load": self._load, "presets/save": self._save}

    def _list(self, _: Value | None, snapshot: Snapshot) -> Sequence[News]:
        """Return every preset that can be read, those of the user included."""
        rows: list[News] = []
        for name in names():
            try:
                rows.append(("preset", (name, load(name).description)))
            except MuseBridgeError as error:
                rows.append(("preset", (name, f"cannot be read: {error}")))
        return rows

    def _load(self, name: Value | None, snapshot: Snapshot) -> Sequence[News]:
        preset = load(_known(str(name)))
        wanted = steps(snapshot.settings, preset.settings)
        self._ask(Asked([SetMode(preset.mode), *wanted], self._tell))
        return []

    def _tell(self, outcomes: Outcomes) -> None:
        for request, done in outcomes:
            if isinstance(done, MuseBridgeError):
                self._on_error(done)
            elif isinstance(request, SetParameter):
                self._publish(f"param/{request.name}", request.value)

    def _save(self, name: Value | None, snapshot: Snapshot) -> Sequence[News]:
        saved = save_as(str(name), self._preset, snapshot.mode, snapshot.settings, by_name(snapshot.bound).values())
        self._publish("preset", saved.name, saved.description)
        return []


def _known(name: str) -> str:
    """Return a name that is one of a preset, and no path.

    Raises:
        ConfigError: it is no name, or there is no preset of it.
    """
    if check_name(name) not in names():
        raise ConfigError(f"no preset {name!r:.40}; known are {', '.join(names())}")
    return name
