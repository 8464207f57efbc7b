"""The commands that say what there is to play with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from musebridge.cli.common import BACKEND, MODEL, OSC, PRESET, say

if TYPE_CHECKING:
    from musebridge.bridge.app.osc_server import Address


@click.command()
@BACKEND
def ports(backend: str) -> None:
    """List the MIDI system and its ports."""
    from musebridge.bridge.ports import rtmidi

    found = rtmidi.list_ports(backend)
    say(f"MIDI system: {found.backend}")
    for title, names in (("to listen to", found.inputs), ("to play to", found.outputs)):
        say(f"ports {title}: {', '.join(names) or 'none'}")


@click.command()
@OSC
@BACKEND
@PRESET
@MODEL
@click.pass_context
def doctor(context: click.Context, osc: Address | None, backend: str, preset_name: str, model: Path | None) -> None:
    """Can this machine play? Says what to do where it cannot."""
    from musebridge.bridge.app import doctor
    from musebridge.bridge.app.preset import load
    from musebridge.bridge.ports.clock import MonotonicClock

    can_play = True
    for finding in doctor.examine(load(preset_name, model), backend, osc, MonotonicClock()):
        can_play &= finding.ok
        say(f"{'ok' if finding.ok else 'problem':8} {finding.name:10} {finding.says}")
    context.exit(0 if can_play else 1)


@click.command()
def presets() -> None:
    """List the presets and where they are."""
    from musebridge.bridge.app import preset

    for name in preset.names():
        say(f"{name:12} {preset.load(name).description}")
    say(f"in {preset.FOLDER}, your own in {preset.USER_FOLDER}")
