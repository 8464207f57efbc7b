"""``musebridge ports``: list the MIDI ports."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from musebridge.cli.common import BACKEND, say

if TYPE_CHECKING:
    pass


@click.command()
@BACKEND
def ports(backend: str) -> None:
    """List the MIDI system and its ports."""
    from musebridge.bridge.ports import rtmidi

    found = rtmidi.list_ports(backend)
    say(f"MIDI system: {found.backend}, through {found.library}")
    for title, names in (("to listen to", found.inputs), ("to play to", found.outputs)):
        say(f"ports {title}: {', '.join(names) or 'none'}")
