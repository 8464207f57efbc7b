"""``musebridge doctor``: can this machine play?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from musebridge.cli.common import BACKEND, MODEL, OSC, PRESET, say

if TYPE_CHECKING:
    from musebridge.bridge.app.osc_server import Address


@click.command()
@OSC
@BACKEND
@PRESET
@MODEL
@click.option(
    "--latency",
    nargs=2,
    metavar="IN OUT",
    help="Only measure how long a note takes from the output OUT through a cable, or a DAW, to the input IN.",
)
@click.pass_context
def doctor(
    context: click.Context,
    osc: Address | None,
    backend: str,
    preset_name: str,
    model: Path | None,
    latency: tuple[str, str] | None,
) -> None:
    """Check whether this machine can play, and say what to do if it cannot."""
    from musebridge.bridge.app import doctor
    from musebridge.bridge.app.preset import load
    from musebridge.bridge.ports.clock import MonotonicClock

    clock = MonotonicClock()
    findings = (
        [doctor.latency(backend, *latency, clock)]
        if latency
        else doctor.examine(load(preset_name, model), backend, osc, clock)
    )
    can_play = True
    for finding in findings:
        can_play &= finding.ok
        say(f"{'ok' if finding.ok else 'problem':8} {finding.name:10} {finding.says}")
    context.exit(0 if can_play else 1)
