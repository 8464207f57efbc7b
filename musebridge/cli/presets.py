"""``musebridge presets``: list the presets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from musebridge.cli.common import say

if TYPE_CHECKING:
    pass


@click.command()
def presets() -> None:
    """List the presets, and say where they are."""
    from musebridge.bridge.app import preset

    for name in preset.names():
        say(f"{name:12} {preset.load(name).description}")
    say(f"in {preset.FOLDER}, your own in {preset.USER_FOLDER}")
