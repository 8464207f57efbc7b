"""What OSC can say: the namespace, and messages to requests.

One table, :data:`INCOMING`, drives what is understood and ``docs/osc.md``.
Triggers take no argument, or a number or a truth value, and act at 0.5 and
above, since controllers send 0 on release. Messages are untrusted: whatever
is wrong with one is a ``ConfigError``.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from musebridge.bridge.core.commands import Command, HandOver, Panic, Reset, Retry, Roll, SetMode, SetParameter, Stop
from musebridge.bridge.core.settings import MODES, Settings, Value
from musebridge.errors import ConfigError
from musebridge.events import Message, NoteOff, NoteOn

ROOT = "/musebridge"
HEARTBEAT_S = 2.0

SPECS = {spec.name: spec.metadata for spec in fields(Settings)}


@dataclass(frozen=True, slots=True)
class Query:
    """What the server sees to itself: ``get``, ``refresh``, ``capabilities``, ``(un)subscribe`` or ``record``."""

    what: str
    argument: Value | None = None


Request = Message | Command | Query


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the namespace.

    Attributes:
        address: with ``<name>``, ``<channel>`` and ``<pitch>`` for what varies.
        takes: the argument, for people.
        does: for people.
        parse: address parts that vary and arguments -> what it asks for, or None.
    """

    address: str
    takes: str
    does: str
    parse: Callable[[Sequence[str], list[Any]], Request | None]

    @property
    def pattern(self) -> re.Pattern[str]:
        """What the address matches."""
        return re.compile(re.sub(r"<\w+>", "([^/]{1,32})", self.address))


def _trigger(command: Command) -> Callable[[Sequence[str], list[Any]], Request | None]:
    return lambda _, arguments: command if _number(arguments or [1.0]) >= 0.5 else None


def _parameter(parts: Sequence[str], arguments: list[Any]) -> SetParameter:
    is_text = len(arguments) == 1 and isinstance(arguments[0], str)
    value: Value = arguments[0] if is_text else _number(arguments)
    Settings().with_value(parts[0], value)  # refuses unknown names and values out of range
    return SetParameter(parts[0], value)


def _normalised(parts: Sequence[str], arguments: list[Any]) -> SetParameter:
    share = _number(arguments)
    if parts[0] not in _ranged():
        raise ConfigError(f"no parameter {parts[0]!r} with a range; known are {', '.join(_ranged())}")
    if not 0 <= share <= 1:
        raise ConfigError(f"{parts[0]} must be in 0..1 here, found {share:g}")
    return SetParameter(parts[0], denormalise(parts[0], share))


def denormalise(name: str, share: float) -> Value:
    """Return the value at ``share`` of a parameter's range."""
    low, high = float(SPECS[name]["low"]), float(SPECS[name]["high"])
    value = low + share * (high - low)
    return round(value) if isinstance(Settings.__dataclass_fields__[name].default, int) else value


def _ranged() -> list[str]:
    return [name for name, spec in SPECS.items() if "low" in spec]


def _get(parts: Sequence[str], arguments: list[Any]) -> Query:
    if parts[0] not in SPECS:
        raise ConfigError(f"unknown parameter {parts[0]!r}; known are {', '.join(SPECS)}")
    return Query("get", parts[0])


def _mode(_: Sequence[str], arguments: list[Any]) -> SetMode:
    if len(arguments) != 1 or arguments[0] not in MODES:
        raise ConfigError(f"mode must be one of {', '.join(MODES)}, found {reprlib.repr(arguments)}")
    return SetMode(arguments[0])


def _news_for_port(what: str) -> Callable[[Sequence[str], list[Any]], Query]:
    def parse(_: Sequence[str], arguments: list[Any]) -> Query:
        port = _number(arguments) if arguments else None
        if port is not None and not 1 <= port <= 65535:
            raise ConfigError(f"port must be in 1..65535, found {port:g}")
        return Query(what, port)

    return parse


def _record(_: Sequence[str], arguments: list[Any]) -> Query:
    return Query("record", _number(arguments) >= 0.5 if arguments else None)


def _note(parts: Sequence[str], arguments: list[Any]) -> Message:
    channel, pitch = (int(part) if part.isdecimal() else -1 for part in parts)
    velocity = _number(arguments)
    if not (0 <= channel <= 15 and 0 <= pitch <= 127 and 0 <= velocity <= 127):
        raise ConfigError(f"a note is /vkb_midi/0..15/note/0..127 with 0..127, found {velocity:g}")
    if velocity < 1:
        return NoteOff(pitch=pitch, channel=channel)
    return NoteOn(pitch=pitch, velocity=int(velocity), channel=channel)


def _tempo(_: Sequence[str], arguments: list[Any]) -> SetParameter:
    return _parameter(["bpm"], arguments)


def _playing(_: Sequence[str], arguments: list[Any]) -> Roll:
    return PLAY if _number(arguments) >= 0.5 else STOP


def _asking(what: str) -> Callable[[Sequence[str], list[Any]], Request]:
    return lambda *_: Query(what)


_ONE_OR_NONE = "nothing, or ≥ 0.5"
PLAY, STOP = Roll(rolling=True), Roll(rolling=False)
INCOMING = (
    Entry(f"{ROOT}/handover", _ONE_OR_NONE, "the model answers now", _trigger(HandOver())),
    Entry(f"{ROOT}/stop", _ONE_OR_NONE, "the answer ends", _trigger(Stop())),
    Entry(
        f"{ROOT}/retry", _ONE_OR_NONE, "the last answer is taken back and the phrase answered anew", _trigger(Retry())
    ),
    Entry(f"{ROOT}/panic", _ONE_OR_NONE, "pedal up, All Notes Off, All Sound Off on every channel", _trigger(Panic())),
    Entry(f"{ROOT}/reset", _ONE_OR_NONE, "all that was played is forgotten", _trigger(Reset())),
    Entry(
        f"{ROOT}/record",
        "nothing, or a number",
        "≥ 0.5: a take begins; less: it ends, and is written beside the session's log; nothing: the other of the two",
        _record,
    ),
    Entry(f"{ROOT}/mode", "a text", f"sets the mode: {', '.join(MODES)}", _mode),
    Entry(f"{ROOT}/param/<name>", "a number, or a text", "sets a parameter in its own unit", _parameter),
    Entry(f"{ROOT}/norm/<name>", "0 to 1", "sets a parameter as a share of its range", _normalised),
    Entry(f"{ROOT}/get/<name>", "nothing", f"is answered with {ROOT}/param/<name>", _get),
    Entry(f"{ROOT}/refresh", "nothing", "is answered with every parameter, mode and state", _asking("refresh")),
    Entry(f"{ROOT}/capabilities", "nothing", "is answered with the version and the modes", _asking("capabilities")),
    Entry(
        f"{ROOT}/subscribe",
        "nothing, or a port",
        "news and answers go to the sender, or to that port, for a minute; ask again to go on",
        _news_for_port("subscribe"),
    ),
    Entry(f"{ROOT}/unsubscribe", "nothing, or a port", "no more news there", _news_for_port("unsubscribe")),
    Entry(
        "/vkb_midi/<channel>/note/<pitch>", "a velocity, 0 ends", "plays a note to the model (REAPER, Bitwig)", _note
    ),
    Entry(
        "/play", _ONE_OR_NONE, "the DAW's transport starts: without a clock, bars are counted from here", _trigger(PLAY)
    ),
    Entry("/stop", _ONE_OR_NONE, "the DAW's transport stops: the answer ends", _trigger(STOP)),
    Entry("/transport_play", _ONE_OR_NONE, "as /play (Ardour)", _trigger(PLAY)),
    Entry("/transport_stop", _ONE_OR_NONE, "as /stop (Ardour)", _trigger(STOP)),
    Entry("/midi_panic", _ONE_OR_NONE, f"as {ROOT}/panic (Ardour)", _trigger(Panic())),
    Entry("/tempo/raw", "beats a minute", f"as {ROOT}/param/bpm (REAPER)", _tempo),
    Entry("/live/song/get/tempo", "beats a minute", "as /tempo/raw (AbletonOSC)", _tempo),
    Entry("/live/song/get/is_playing", "0 or 1", "as /play or /stop (AbletonOSC)", _playing),
)
OUTGOING = (
    (f"{ROOT}/state", "listening, answering, interrupted or stopped"),
    (f"{ROOT}/mode", "the mode, when it changes"),
    (f"{ROOT}/key", "the key of the phrase, such as D minor, when the model begins; empty if there is none"),
    (f"{ROOT}/chord", "the chord that the player holds, such as Am7/G; empty if it has no name"),
    (f"{ROOT}/beat", "beat of the bar, bar (both from 1) and tempo, at each beat of the clock or of the bars"),
    (f"{ROOT}/note", "pitch and velocity of each note of the model; 0 ends it"),
    (f"{ROOT}/record", "1 when a take begins; 0 and its file when it was written"),
    (
        f"{ROOT}/stats",
        f"every {HEARTBEAT_S:g} s: notes heard, notes played, median and p99 of lateness in milliseconds",
    ),
    (f"{ROOT}/heartbeat", f"every {HEARTBEAT_S:g} s: seconds since the start"),
    (
        f"{ROOT}/error",
        "what was wrong with a datagram, to its sender; a port that is gone or a model that failed, to subscribers",
    ),
)


_PATTERNS = [(entry.pattern, entry) for entry in INCOMING]


def request_of(address: str, arguments: list[Any]) -> Request | None:
    """Return what a message asks for, or None where it asks for nothing.

    Raises:
        ConfigError: the address or an argument is not in the table.
    """
    for pattern, entry in _PATTERNS:
        if found := pattern.fullmatch(address):
            try:
                return entry.parse(found.groups(), arguments)
            except ConfigError as error:
                raise ConfigError(f"{address}: {error}") from error
    raise ConfigError(f"unknown address {address!r:.80}; docs/osc.md lists those that are known")


def _number(arguments: list[Any]) -> float:
    if len(arguments) != 1 or not isinstance(arguments[0], bool | int | float):
        raise ConfigError(f"takes one number, found {reprlib.repr(arguments)}")
    return float(arguments[0])


def document() -> str:
    """Return the namespace as a page, which is ``docs/osc.md``."""
    lines = [
        "# OSC",
        "",
        "`musebridge serve` listens on 127.0.0.1:9123 (`--osc HOST:PORT`, `--osc off`). This page is made from",
        "the table in `bridge/core/osc_namespace.py` that also drives it:",
        "`python -m musebridge.bridge.core.osc_namespace > docs/osc.md`.",
        "",
        "## What it understands",
        "",
        "| address | takes | does |",
        "|---|---|---|",
        *(f"| `{entry.address}` | {entry.takes} | {entry.does} |" for entry in INCOMING),
        "",
        "What cannot be understood is answered with `/musebridge/error`.",
        "",
        "## Parameters",
        "",
        "| name | range | at first | meaning |",
        "|---|---|---|---|",
        *(f"| `{name}` | {_range(spec)} | {_default(name)} | {spec['meaning']} |" for name, spec in SPECS.items()),
        "",
        "## What subscribers are told",
        "",
        "| address | says |",
        "|---|---|",
        *(f"| `{address}` | {says} |" for address, says in OUTGOING),
        "",
    ]
    return "\n".join(lines)


def _range(spec: Any) -> str:
    return f"{spec['low']:g} to {spec['high']:g}{spec['unit']}" if "low" in spec else "a text"


def _default(name: str) -> Value:
    default: Value = getattr(Settings(), name)
    return default


if __name__ == "__main__":
    print(document(), end="")  # noqa: T201  # this is its output
