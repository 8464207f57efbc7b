"""``musebridge panel``: the page in the browser, for a bridge that runs already."""

from __future__ import annotations

import asyncio
import signal
import sys
import webbrowser
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from musebridge.cli.common import NO_OPEN, PANEL_AT, address, say
from musebridge.errors import ConfigError

if TYPE_CHECKING:
    from musebridge.bridge.app.osc_server import Address


@click.command()
@click.option(
    "--bridge",
    default="127.0.0.1:9123",
    show_default=True,
    metavar="HOST:PORT",
    help="Where the bridge listens for OSC.",
    callback=address,
)
@click.option(
    "--panel",
    "page",
    default=PANEL_AT,
    show_default=True,
    metavar="HOST:PORT",
    help="Where the page is to be; beyond this machine its address has a token.",
    callback=address,
)
@NO_OPEN
def panel(bridge: Address | None, page: Address | None, no_open: bool) -> None:
    """See in the browser what a bridge heard and is going to play, until Ctrl-C."""
    if bridge is None or page is None:
        raise ConfigError("a panel needs an address of its own and the bridge's OSC; neither can be off")
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(page, bridge, opens=not no_open))


async def _serve(page: Address, osc: Address, *, opens: bool) -> None:
    from musebridge.bridge.panel.server import Panel

    ended = asyncio.Event()
    if sys.platform != "win32":
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with Panel(page, osc) as server:
        say(f"panel: {server.url}")
        if server.token:
            _draw_code(server.url)
        if opens:
            await asyncio.to_thread(webbrowser.open, server.url)
        await ended.wait()


def _draw_code(url: str) -> None:
    """Draw an address for the camera of a tablet."""
    import segno

    segno.make(url).terminal(compact=True)
