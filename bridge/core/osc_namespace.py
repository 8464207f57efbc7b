"""What OSC can say: the namespace, and messages to requests.

One table, :data:`INCOMING`, drives what is understood and ``docs/osc.md``, by
``osc_page``.
Triggers take no argument, or a number or a truth value, and act at 0.5 and
above, since controllers send 0 on release. Messages are untrusted: whatever
is wrong with one is a ``ConfigError``. Whether a parameter's value fits is
for the session to say, which knows the others.
"""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from itertools import islice, product
from typing import Any

from musebridge.bridge.core.commands import (
    Command,
    HandOver,
    Learn,
    Panic,
    Pause,
    Reset,
    Retry,
    Roll,
    SetMode,
    SetParameter,
    Stop,
    Unlearn,
)
from musebridge.bridge.core.osc_news import OUTGOING, ROOT
from musebridge.bridge.core.osc_pattern import is_pattern, matches
from musebridge.bridge.core.settings import MODES, Settings, Value, value_at
from musebridge.errors import ConfigError
from musebridge.events import Message, NoteOff, NoteOn

KEPT_S = 10.0
"""A time tag so far ahead is kept; one further ahead is of a clock that is wrong."""
MAX_LENGTH, MAX_REQUESTS = 4096, 256
"""Bytes of a datagram, far more than any message here needs: python-osc takes seconds for some of the longest ones.
And things that it may ask for."""
LONGEST_PATTERN, MOST_WILDCARDS, MOST_MATCHES = 128, 16, 128
MOST_ERRORS, ERRORS_PER_S, MOST_EXTRAS, EXTRAS_PER_S = 32, 8, 512, 128
"""What one address is sent, at once and in the long run: errors, and answers beyond the first to each datagram."""

SPECS = {spec.name: spec.metadata for spec in fields(Settings)}


@dataclass(frozen=True, slots=True)
class Query:
    """What the server sees to itself: ``get``, ``refresh``, ``parameters``, ``(un)subscribe``, ``record`` and so on."""

    what: str
    argument: Value | None = None


Request = Message | Command | Query


NAMES = tuple(SPECS)
RANGED = tuple(name for name, spec in SPECS.items() if "low" in spec)
_CHANNELS, _PITCHES = (tuple(map(str, range(most + 1))) for most in (16, 127))
Parse = Callable[[Sequence[str], Any], Request | None]


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the namespace.

    Attributes:
        address: with ``<name>``, ``<channel>`` and ``<pitch>`` for what varies.
        takes: the argument, for people.
        does: for people.
        parse: address parts that vary, and the argument or None -> what it asks for, or None.
        values: of each part that varies.
    """

    address: str
    takes: str
    does: str
    parse: Parse
    values: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def addresses(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield each address of this line, and its parts that vary."""
        for parts in product(*self.values.values()):
            left = iter(parts)
            yield re.sub(r"<\w+>", lambda _: next(left), self.address), parts  # noqa: B023  # called at once


def _number(argument: Any) -> float:
    """Return the number that an argument is, or says as a text.

    Raises:
        ConfigError: it is none, or not finite.
    """
    value = _said(argument) if isinstance(argument, str) else argument
    if not isinstance(value, bool | int | float) or not math.isfinite(value):
        found = "none" if argument is None else reprlib.repr(argument)
        raise ConfigError(f"takes one number, found {found}")
    return float(value)


def _said(text: str) -> float | None:
    words = {"true": 1.0, "t": 1.0, "false": 0.0, "f": 0.0}
    with suppress(ValueError):
        return words.get(text.strip().lower()) if "_" in text or text.strip()[:1].isalpha() else float(text)
    return None


def _trigger(command: Command) -> Parse:
    return lambda _, argument: command if argument is None or _number(argument) >= 0.5 else None


def _for_name(command: Callable[[str], Command]) -> Parse:
    return lambda parts, argument: _trigger(command(parts[0]))(parts, argument)


def _pause(_: Sequence[str], argument: Any) -> Pause:
    return Pause(argument is None or _number(argument) >= 0.5)


def _parameter(parts: Sequence[str], argument: Any) -> SetParameter:
    """Return what is set: a text that says no number stays one, for the session to judge."""
    (name,) = parts
    is_text = isinstance(argument, str) and (name not in RANGED or _said(argument) is None)
    return SetParameter(name, argument if is_text else _number(argument))


def _normalised(parts: Sequence[str], argument: Any) -> SetParameter:
    (name,) = parts
    share = _number(argument)
    if not 0 <= share <= 1:
        raise ConfigError(f"{name} must be in 0..1 here, found {share:g}")
    return SetParameter(name, value_at(name, share))


def _get(parts: Sequence[str], argument: Any) -> Query:
    return Query("get", parts[0])


def _mode(_: Sequence[str], argument: Any) -> SetMode:
    if not isinstance(argument, str):
        raise ConfigError(f"mode must be one of {', '.join(MODES)}, found {reprlib.repr(argument)}")
    return SetMode(argument)


def _news_for_port(what: str) -> Parse:
    def parse(_: Sequence[str], argument: Any) -> Query:
        port = None if argument is None else _number(argument)
        if port is not None and not 1 <= port <= 65535:
            raise ConfigError(f"port must be in 1..65535, found {port:g}")
        return Query(what, port)

    return parse


def _record(_: Sequence[str], argument: Any) -> Query:
    return Query("record", None if argument is None else _number(argument) >= 0.5)


def _clip(_: Sequence[str], argument: Any) -> Query | None:
    if isinstance(argument, str):
        return Query("clip", argument)
    return Query("clip") if argument is None or _number(argument) >= 0.5 else None


def _named(what: str) -> Parse:
    def parse(_: Sequence[str], argument: Any) -> Query:
        if not isinstance(argument, str):
            raise ConfigError(f"takes a name, found {'none' if argument is None else reprlib.repr(argument)}")
        return Query(what, argument)

    return parse


def _numbered(what: str) -> Parse:
    return lambda _, argument: Query(what, round(_number(argument)))


def _note(parts: Sequence[str], argument: Any) -> Message:
    channel, pitch = max(0, int(parts[0]) - 1), int(parts[1])
    velocity = _number(argument)
    if not 0 <= velocity <= 127:
        raise ConfigError(f"a velocity is in 0..127, found {velocity:g}")
    if velocity < 1:
        return NoteOff(pitch=pitch, channel=channel)
    return NoteOn(pitch=pitch, velocity=int(velocity), channel=channel)


def _tempo(_: Sequence[str], argument: Any) -> SetParameter:
    return SetParameter("bpm", _number(argument))


def _playing(_: Sequence[str], argument: Any) -> Roll:
    return PLAY if _number(argument) >= 0.5 else STOP


def _asking(what: str) -> Parse:
    """Return a parser of what takes no argument; a text is an answer of ours that comes back."""
    return lambda _, argument: None if isinstance(argument, str) else Query(what)


_ONE_OR_NONE = "nothing, or ≥ 0.5"
PLAY, STOP = Roll(rolling=True), Roll(rolling=False)
_TAKES = {
    "notes": f"is answered with {ROOT}/take/notes, as many as it takes",
    "play": "plays an answer again, until stop, panic, reset or the model's next answer",
    "keep": "the answer is kept until the bridge ends, however many follow",
    "delete": "the answer is forgotten",
}
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
    Entry(
        f"{ROOT}/clip",
        "nothing, ≥ 0.5, or live or reaper",
        "the last answer that has sounded becomes a clip there; without a name where the preset's clip says",
        _clip,
    ),
    Entry(f"{ROOT}/pause", "nothing, or a number", "nothing or ≥ 0.5: the model is held; less: it plays on", _pause),
    Entry(f"{ROOT}/mode", "a text", f"sets the mode: {', '.join(MODES)}", _mode),
    Entry(
        f"{ROOT}/param/<name>", "a number, or a text", "sets a parameter in its own unit", _parameter, {"name": NAMES}
    ),
    Entry(f"{ROOT}/norm/<name>", "0 to 1", "sets a parameter as a share of its range", _normalised, {"name": RANGED}),
    Entry(f"{ROOT}/get/<name>", "nothing", f"is answered with {ROOT}/param/<name>", _get, {"name": NAMES}),
    Entry(
        f"{ROOT}/learn/<name>",
        _ONE_OR_NONE,
        "the controller that is moved next, on any channel, moves this parameter from then on; saved in your preset",
        _for_name(Learn),
        {"name": RANGED},
    ),
    Entry(f"{ROOT}/learn", _ONE_OR_NONE, "no controller is waited for any longer", _trigger(Learn(""))),
    Entry(
        f"{ROOT}/unlearn/<name>",
        _ONE_OR_NONE,
        "the parameter's controller is free",
        _for_name(Unlearn),
        {"name": RANGED},
    ),
    Entry(
        f"{ROOT}/refresh",
        "nothing",
        "is answered with every parameter, mode, state and learnt controller",
        _asking("refresh"),
    ),
    Entry(f"{ROOT}/capabilities", "nothing", "is answered with the version and the modes", _asking("capabilities")),
    Entry(
        f"{ROOT}/parameters",
        "nothing",
        f"is answered with a {ROOT}/parameter for each: name, type (number, whole, switch or text), low, high, "
        "at first, unit and meaning; a text has 0 for low and high",
        _asking("parameters"),
    ),
    Entry(f"{ROOT}/presets", "nothing", f"is answered with a {ROOT}/preset for each", _asking("presets")),
    Entry(
        f"{ROOT}/presets/load",
        "a name",
        "takes mode and parameters of a preset; the model and learnt controllers stay",
        _named("presets/load"),
    ),
    Entry(
        f"{ROOT}/presets/save",
        "a name",
        "saves mode, parameters and learnt controllers as a preset of yours; an older one of the name becomes NAME.old",
        _named("presets/save"),
    ),
    Entry(f"{ROOT}/takes", "nothing", f"is answered with a {ROOT}/take for each", _asking("takes")),
    *(Entry(f"{ROOT}/takes/{what}", "its number", does, _numbered(f"takes/{what}")) for what, does in _TAKES.items()),
    Entry(f"{ROOT}/ports", "nothing", f"is answered with a {ROOT}/port for the input and the output", _asking("ports")),
    Entry(
        f"{ROOT}/subscribe",
        "nothing, or a port",
        "news and answers go to the sender, or to that port, for a minute; ask again to go on",
        _news_for_port("subscribe"),
    ),
    Entry(f"{ROOT}/unsubscribe", "nothing, or a port", "no more news there", _news_for_port("unsubscribe")),
    Entry(
        "/vkb_midi/<channel>/note/<pitch>",
        "a velocity, 0 ends",
        "plays a note to the model; channels are 1 to 16, as for Bitwig (DrivenByMoss), and 0, which is the first of "
        "surfaces for REAPER, is 1",
        _note,
        {"channel": _CHANNELS, "pitch": _PITCHES},
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


NEWS = frozenset(address for address, _ in OUTGOING) - {entry.address for entry in INCOMING}
"""What only a bridge says: who sends it back is a mirror, or another bridge."""
_ADDRESSES = {address: (entry, parts) for entry in INCOMING for address, parts in entry.addresses()}


def _tree_of(addresses: Sequence[str]) -> dict[str, Any]:
    """Return the addresses as dicts in dicts, one level for each part; an address itself is under ``""``."""
    tree: dict[str, Any] = {}
    for address in addresses:
        below = tree
        for part in address.split("/")[1:]:
            below = below.setdefault(part, {})
        below[""] = address
    return tree


_TREE = _tree_of(list(_ADDRESSES))


def is_unanswered(address: str) -> bool:
    """Return whether a message is news or an error, of ours or of another program: an answer might be answered."""
    return address in NEWS or address.endswith("/error")


def request_of(address: str, arguments: Sequence[Any]) -> Request | None:
    """Return what a message to a known address asks for, or None where it asks for nothing.

    Only the first argument counts.

    Raises:
        ConfigError: the argument is not what the address takes.
    """
    entry, parts = _ADDRESSES[address]
    try:
        return entry.parse(parts, arguments[0] if arguments else None)
    except ConfigError as error:
        raise ConfigError(f"{address}: {error}") from error


def addresses_of(address: str) -> list[str]:
    """Return the known addresses that a message's address, or its pattern, means.

    Raises:
        ConfigError: there are none, or too many.
    """
    if not is_pattern(address):
        if address not in _ADDRESSES:
            raise ConfigError(_unknown(address))
        return [address]
    if len(address) > LONGEST_PATTERN or sum(map(address.count, "*?[{")) > MOST_WILDCARDS:
        most = f"{LONGEST_PATTERN} characters, {MOST_WILDCARDS} of them wild"
        raise ConfigError(f"a pattern has at most {most}, found {address!r:.80}")
    found = list(islice(_walk(_TREE, address.split("/")[1:]), MOST_MATCHES + 1))
    if not 1 <= len(found) <= MOST_MATCHES:
        count = f"more than {MOST_MATCHES} addresses" if found else "no address"
        raise ConfigError(f"pattern {address!r:.80} means {count}; docs/osc.md lists those that are known")
    return found


def _walk(tree: dict[str, Any], parts: Sequence[str]) -> Iterator[str]:
    if not parts:
        if "" in tree:
            yield tree[""]
        return
    for name, below in tree.items():
        if name and matches(parts[0], name):
            yield from _walk(below, parts[1:])


def _unknown(address: str) -> str:
    """Say what is unknown about an address: all of it, or what stands where the table has a choice."""
    for entry in INCOMING:
        shape = re.sub(r"<\w+>", "([^/]+)", entry.address)
        if entry.values and (found := re.fullmatch(shape, address)):
            for (what, values), part in zip(entry.values.items(), found.groups(), strict=True):
                if part not in values:
                    known = f"{values[0]} to {values[-1]}" if values[0].isdecimal() else ", ".join(values)
                    return f"{entry.address}: no {what} {part!r:.40}; known are {known}"
    return f"unknown address {address!r:.80}; docs/osc.md lists those that are known"
