"""``musebridge serve``: listen and answer, live."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from musebridge.cli.common import BACKEND, FOLDER, MODEL, NO_OPEN, OSC, PANEL_AT, PRESET, address, say
from musebridge.cli.live import interruptible, journal_of, panel_beside, report
from musebridge.errors import ConfigError

if TYPE_CHECKING:
    from musebridge.bridge.app.osc_server import Address
    from musebridge.bridge.ports.base import InputPort, OutputPort
    from musebridge.bridge.ports.clock import Clock


@click.command()
@click.option(
    "--port",
    default="virtual",
    show_default=True,
    help="virtual, osc (notes by UDP), memory, or part of an existing port's name.",
)
@click.option("--in", "in_name", help="Listen to this existing port instead.")
@click.option("--out", "out_name", help="Play to this existing port instead.")
@OSC
@click.option(
    "--panel",
    is_flag=False,
    flag_value=PANEL_AT,
    metavar="[HOST:PORT]",
    help=f"Show what is heard and planned in the browser, at {PANEL_AT} or there.",
    callback=address,
)
@NO_OPEN
@click.option("--link", is_flag=True, help="Bars follow Ableton Link (pip install 'musebridge[link]').")
@click.option("--record", type=FOLDER, help="Record the session into this folder, as .mid and .jsonl.")
@click.option("--mode", help="call, duet, bars or manual; default the preset's.")
@click.option("--seed", type=click.IntRange(0), help="Random seed; default a new one each time.")
@BACKEND
@PRESET
@MODEL
def serve(
    port: str,
    in_name: str | None,
    out_name: str | None,
    osc: Address | None,
    panel: Address | None,
    no_open: bool,
    link: bool,
    record: Path | None,
    mode: str | None,
    seed: int | None,
    backend: str,
    preset_name: str,
    model: Path | None,
) -> None:
    """Listen to a MIDI port and answer live, until Ctrl-C."""
    from musebridge.bridge.app.bridge import Bridge
    from musebridge.bridge.app.preset import load, save_binds
    from musebridge.bridge.core.settings import check_mode
    from musebridge.bridge.inference.engine import OnnxEngine
    from musebridge.bridge.ports.clock import date_and_time

    preset = load(preset_name, model)
    if mode:
        preset = replace(preset, mode=check_mode(mode))
    engine = OnnxEngine(preset.model)
    log = record / f"musebridge-{date_and_time()}.jsonl" if record else None
    source, target, clock = _ports(in_name or port, out_name or port, backend)
    bridge = Bridge(
        engine,
        source,
        target,
        settings=preset.settings,
        mode=preset.mode,
        seed=seed,
        osc=osc,
        binds=preset.binds,
        save=partial(save_binds, preset),
        clip=preset.clip,
        clip_track=preset.clip_track,
        preset=preset,
        link=link,
        journal=journal_of(log, preset) if log else None,
        clock=clock,
        notice=say,
    )
    with interruptible(bridge.ended), bridge, panel_beside(bridge, panel, opens=not no_open):
        say(f"listening on {bridge.source.name}, answering on {bridge.target.name}, {bridge.osc_name}; Ctrl-C ends")
        bridge.ended.wait()
    report(bridge)


def _ports(in_name: str, out_name: str, backend: str) -> tuple[InputPort, OutputPort, Clock | None]:
    """Return the ports, and the clock that they go by if it is one of their own."""
    from musebridge.bridge.ports import rtmidi
    from musebridge.bridge.ports.base import MemoryPort
    from musebridge.bridge.ports.osc_port import OscInput, OscLine, OscOutput, address_of

    if in_name == out_name == "memory":
        return MemoryPort("memory in"), MemoryPort("memory out"), None
    if address := address_of(in_name):
        if in_name != out_name:
            raise ConfigError("notes by OSC come and go by one port: use --port osc, without --in and --out")
        line = OscLine(address)
        return OscInput(line), OscOutput(line), line.clock
    return *rtmidi.open_pair(in_name, out_name, backend), None
