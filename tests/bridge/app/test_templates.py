"""What the OSC templates send is understood, and what they show is told."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pythonosc.osc_message_builder import OscMessageBuilder

from musebridge.bridge.app.osc_parser import parse
from musebridge.bridge.core.osc_namespace import INCOMING, SPECS, Request
from musebridge.bridge.core.osc_news import OUTGOING

DOCS = Path(__file__).parents[3] / "docs"
SESSION = json.loads((DOCS / "templates" / "musebridge.json").read_text(encoding="utf-8"))
WIDGETS = {widget["id"]: widget for widget in SESSION["content"]["widgets"]}
REAPER = (DOCS / "templates" / "MuseBridge.ReaperOSC").read_text(encoding="utf-8")


def asked(address: str, *arguments: object) -> list[Request]:
    builder = OscMessageBuilder(address)
    for argument in arguments:
        builder.add_arg(argument)
    return parse(builder.build().dgram)


def sent_by(widget: dict) -> Iterator[tuple[str, object]]:
    """Yield the addresses and values that a widget can send, at its ends."""
    match widget["type"]:
        case "button":
            yield from ((widget["address"], value) for value in (widget["on"], widget["off"]))
        case "switch":
            yield from ((widget["address"], value) for value in widget["values"])
        case "fader" | "knob":
            yield from ((widget["address"], float(end)) for end in widget["range"].values())
        case "input":
            yield widget["address"], widget["default"]


@pytest.mark.parametrize("name", WIDGETS)
def test_what_a_widget_sends_is_understood(name: str) -> None:
    widget = WIDGETS[name]
    if widget["type"] == "text":
        assert widget["bypass"], "it only shows"
        assert widget["address"] in {"", *(address for address, _ in OUTGOING)}
        return
    for address, value in sent_by(widget):
        asked(address, value)
    for address in re.findall(r"send\('([^']+)'\)", widget.get("onValue", "")):
        assert asked(address)


def test_the_session_has_what_is_turned_while_playing() -> None:
    triggers = {"handover", "stop", "retry", "panic", "reset", "record", "mode"}
    assert triggers <= set(WIDGETS)
    assert {"temperature", "density", "scale", "low", "high", "channel", "bpm"} <= set(WIDGETS) & set(SPECS)


def test_what_reaper_sends_is_understood() -> None:
    lines = [line.split() for line in REAPER.splitlines() if line and not line.startswith(("#", "DEVICE_"))]
    values = {"t": 1.0, "f": 96.0}
    for action, pattern in lines:
        kind, _, address = pattern.partition("/")
        assert asked(f"/{address}", values[kind]), action
    assert [action for action, _ in lines] == ["PLAY", "STOP", "TEMPO"]


KNOWN = {re.sub(r"<\w+>", "<>", address) for address in [*(entry.address for entry in INCOMING), *dict(OUTGOING)]}


@pytest.mark.parametrize("page", ["templates/README.md", "daw.md"])
def test_every_address_in_the_guides_is_known(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.findall(
        r"(?<![\w.:/])/(?:musebridge|vkb_midi|transport_|live/song/get|tempo|play|stop|midi_panic)[\w/<>]*", text
    )
    assert found
    for address in found:
        name = re.sub(r"<\w+>", "<>", address)
        setting = re.sub(rf"/({'|'.join(SPECS)})$", "/<>", name)
        assert {name, setting} & KNOWN, address
