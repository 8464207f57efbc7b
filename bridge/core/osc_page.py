"""The page about OSC, made from the table that drives it: ``python -m musebridge.bridge.core.osc_page``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from musebridge.bridge.core import osc_namespace
from musebridge.bridge.core.osc_namespace import INCOMING, SPECS
from musebridge.bridge.core.osc_news import OUTGOING
from musebridge.bridge.core.osc_wire_page import FROM_BRIDGE, FROM_PEER, WIRE
from musebridge.bridge.core.settings import Settings, Value

_PAGE = """# OSC

This page lists every OSC address and parameter of MuseBridge. `musebridge serve` listens on 127.0.0.1:9123
(`--osc HOST:PORT`, `--osc [::1]:9123` for IPv6, `--osc off`). The page is made
from the table in `bridge/core/osc_namespace.py` that also drives it:
`python -m musebridge.bridge.core.osc_page > docs/osc.md`.

## What it understands

{incoming}

- **Numbers** may be of any type that OSC has for them, truth values (`T`, `F`), or texts such as `0.8`, `12`, `true`
  and `F`. A parameter that is a whole number takes the nearest one. What is not finite, and blobs, are refused. Only
  the first argument counts.
- **Patterns** mean every address that they match: `*`, `?`, `[a-c]`, `[!a-c]` and `{{low,high}}`, each within one part
  of the address. `/musebridge/get/*` asks for all parameters, `/vkb_midi/1/note/{{60,64,67}}` plays a chord. A pattern
  has at most {LONGEST_PATTERN} characters, {MOST_WILDCARDS} of them wild, and means at most {MOST_MATCHES} addresses.
- **Bundles** are done in order with nothing in between, bundles in bundles as well. What is not understood spoils
  nothing of the rest. A datagram has at most {MAX_LENGTH} bytes and asks for at most {MAX_REQUESTS} things.
- **Time tags** within the next {KEPT_S:g} s are kept, by the clock of this machine. A bundle whose tag is past, further
  ahead or *immediately* is done at once: a sender that plans further ahead has another clock.
- **Answers** come in the order of what was asked, and see all that was asked before. What cannot be understood or done
  is answered with one `/musebridge/error` for each datagram.
- **Moments** are whole milliseconds since the bridge began. What is planned and heard comes 30 times a second at
  most, behind a `/musebridge/time`.
- **Learnt controllers** are music no longer, and are not passed on. A controller is learnt once it moves by 4 or more,
  so one that flickers is not; it then moves one parameter. The pedals that the model hears stay pedals. What was learnt
  is in the table `[controllers]` of your preset; a bundled preset is first copied to your folder, which
  `musebridge presets` names.
- **Nothing talks for ever**: news and errors that come in are not answered, the bridge's own port cannot subscribe, and
  mode and takes of another bridge are not followed. An address is sent at most {ERRORS_PER_S:g} errors a second
  ({MOST_ERRORS:g} at once) and, beyond one answer for each datagram, {EXTRAS_PER_S:g} answers a second
  ({MOST_EXTRAS:g} at once).

## Parameters

{parameters}

## What subscribers are told

{outgoing}
"""


def document() -> str:
    """Return the namespace as a page, which is ``docs/osc.md``."""
    incoming = [(f"`{entry.address}`", entry.takes, entry.does) for entry in INCOMING]
    parameters = [(f"`{name}`", _range(spec), _default(name), spec["meaning"]) for name, spec in SPECS.items()]
    page = _PAGE.format(
        incoming=_table(("address", "takes", "does"), incoming),
        parameters=_table(("name", "range", "at first", "meaning"), parameters),
        outgoing=_table(("address", "says"), [(f"`{address}`", says) for address, says in OUTGOING]),
        **{name: value for name, value in vars(osc_namespace).items() if name.isupper()},
    )
    return page + WIRE.format(from_peer=_wire_table(FROM_PEER), from_bridge=_wire_table(FROM_BRIDGE))


def _table(head: Sequence[str], rows: Sequence[Sequence[Value]]) -> str:
    lines = [f"| {' | '.join(map(str, row))} |" for row in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


def _wire_table(rows: Sequence[tuple[str, str, str]]) -> str:
    return _table(("address", "arguments", "means"), [(f"`{name}`", takes, means) for name, takes, means in rows])


def _range(spec: Any) -> str:
    return f"{spec['low']:g} to {spec['high']:g}{spec['unit']}" if "low" in spec else "a text"


def _default(name: str) -> Value:
    default: Value = getattr(Settings(), name)
    return default


if __name__ == "__main__":
    print(document(), end="")  # noqa: T201  # this is its output
