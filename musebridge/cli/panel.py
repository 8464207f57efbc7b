"""``musebridge panel``: the page in the browser, for a bridge that runs already."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
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
@click.option("--beside", is_flag=True, hidden=True, help="End with who started it, whose pipe is the standard input.")
@NO_OPEN
def panel(bridge: Address | None, page: Address | None, beside: bool, no_open: bool) -> None:
    """See in the browser what a bridge heard and is going to play, until Ctrl-C."""
    if bridge is None or page is None:
        raise ConfigError("a panel needs an address of its own and the bridge's OSC; neither can be off")
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(page, bridge, opens=not no_open, is_beside=beside))


async def _serve(page: Address, osc: Address, *, opens: bool, is_beside: bool) -> None:
    from musebridge.bridge.panel.server import Panel

    ended, loop = asyncio.Event(), asyncio.get_running_loop()
    if is_beside:
        threading.Thread(target=_end_with_input, args=(loop, ended), daemon=True).start()
    if sys.platform != "win32":
        loop.add_signal_handler(signal.SIGTERM, ended.set)
    async with Panel(page, osc) as server:
        say(f"panel: {server.url}")
        if server.token:
            _draw_code(server.url)
        if opens:
            await asyncio.to_thread(webbrowser.open, server.url)
        await ended.wait()


def _end_with_input(loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
    """Wait until the standard input is closed, which a process that is killed does as well."""
    while os.read(0, 4096):
        pass
    with suppress(RuntimeError):  # the loop is closed: it has ended already
        loop.call_soon_threadsafe(ended.set)


def _draw_code(url: str) -> None:
    """Draw an address for the camera of a tablet."""
    import segno

    segno.make(url).terminal(compact=True)
