"""The panel's server: one port for the page and its socket, and who may have them.

Each text frame of the socket is a JSON array of OSC messages, both ways::

    [["/musebridge/state", "listening"], ["/musebridge/plan", 1500, 60, 72]]

Pages are untrusted: a foreign origin, another name of this machine (DNS rebinding), a
frame that is no messages, a page too many or one that never reads gets one line and goes.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import math
import re
import secrets
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from http import HTTPStatus
from importlib import resources
from ipaddress import ip_address
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from musebridge.bridge.panel.osc_link import ROOT, OscLink, Said
from musebridge.errors import PortError
from musebridge.events import NoteOff, NoteOn, Timed
from musebridge.smf.write import encoded

MOST_PAGES, MOST_MESSAGES, MOST_BYTES, MOST_WAITING = 16, 64, 16_384, 512
"""Pages at once; messages and bytes of a frame; frames that may wait for a page that does not read."""
REFUSED = 1008
"""WebSocket's code for what is against the rules."""
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_TAKE = re.compile(r"takes/([0-9]{1,9})\.mid")
_PAGE = resources.files("musebridge.bridge.panel") / "page"


class Panel:
    """Serves the page, and passes on between its sockets and the bridge; an asynchronous context manager.

    Args:
        address: host and port to serve on; port 0 takes a free one.
        bridge: host and port of the bridge's OSC.

    Raises:
        PortError: the address is taken or cannot be bound.
    """

    def __init__(self, address: tuple[str, int], bridge: tuple[str, int]) -> None:
        self._host, self._port = address
        self.token = "" if is_loopback(self._host) else secrets.token_urlsafe(12)
        """What a page's address must say, beyond loopback."""
        self._link = OscLink(bridge, self._tell)
        self._pages: dict[ServerConnection, asyncio.Queue[str]] = {}
        self._stack = AsyncExitStack()

    @property
    def url(self) -> str:
        """The page's address."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}/{f'?token={self.token}' * bool(self.token)}"

    async def __aenter__(self) -> Panel:
        try:
            server: Server = await self._stack.enter_async_context(self._serve())
        except OSError as error:
            where = f"{self._host}:{self._port}"
            raise PortError(f"panel {where}: {error.strerror}; choose another with --panel HOST:PORT") from error
        self._port = next(iter(server.sockets)).getsockname()[1]
        self._line = asyncio.create_task(self._link.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._line.cancel()
        with suppress(asyncio.CancelledError):
            await self._line
        await self._stack.aclose()

    def _serve(self) -> AbstractAsyncContextManager[Server]:
        return serve(
            self._attend, self._host, self._port, process_request=self._answer, max_size=MOST_BYTES, compression=None
        )

    # Who may come in

    async def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """Return a file or a refusal; None lets the socket open."""
        url = urlsplit(request.path)
        host, origin = (_said_once(request.headers, name) for name in ("Host", "Origin"))
        if not self._is_ours(host):
            return _response(HTTPStatus.MISDIRECTED_REQUEST, "open the panel by the address that it printed")
        name = url.path.removeprefix("/") or "index.html"
        take = _TAKE.fullmatch(name)
        if (take or name in ("index.html", "socket")) and not self._knows_token(url.query):
            return _response(HTTPStatus.FORBIDDEN, "the address lacks the token that the panel printed")
        if take:
            return await self._take(int(take[1]))
        if name != "socket":
            return _file(name)
        if "Origin" in request.headers and origin not in (f"http://{host}", f"https://{host}"):
            return _response(HTTPStatus.FORBIDDEN, f"a page of {origin[:80]} may not speak to the bridge")
        return None

    async def _take(self, number: int) -> Response:
        """Return a take as a MIDI file."""
        try:
            flat = await self._link.notes_of(number)
        except TimeoutError:
            return _response(HTTPStatus.NOT_FOUND, f"the bridge has no take {number}")
        return _response(HTTPStatus.OK, midi_of(flat), "audio/midi")

    def _is_ours(self, host: str) -> bool:
        """Return whether a page was asked for by an address of numbers or as localhost, which nobody can rebind."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
            ip_address(name)
        except ValueError:
            return name in ("localhost", self._host)
        return True

    def _knows_token(self, query: str) -> bool:
        (given, *_) = parse_qs(query).get("token", [""])
        return hmac.compare_digest(given.encode(), self.token.encode())

    # Pages

    async def _attend(self, page: ServerConnection) -> None:
        """Serve one page as long as it is there."""
        if len(self._pages) >= MOST_PAGES:
            await page.close(REFUSED, f"{MOST_PAGES} pages are open, which is the most; close one of them")
            return
        waiting = self._pages[page] = asyncio.Queue(MOST_WAITING)
        waiting.put_nowait(json.dumps([["/panel/bridge", int(self._link.is_there)], *self._link.memory.all()]))
        writing = asyncio.create_task(_write(page, waiting))
        try:
            async for frame in page:
                self._pass_on(messages(frame))
        except ValueError as error:
            await page.close(REFUSED, f"{error!s:.100}")
        except ConnectionClosed:
            pass
        finally:
            writing.cancel()
            self._pages.pop(page, None)

    def _pass_on(self, said: Sequence[Said]) -> None:
        """Say to the bridge what a page said, and ask what became of each parameter."""
        self._link.send(said)
        parts = [str(address).split("/") for address, *_ in said]
        names = dict.fromkeys(part[3] for part in parts if len(part) == 4 and part[2] in ("param", "norm"))
        self._link.send([[f"{ROOT}/get/{name}"] for name in names])

    def _tell(self, said: Sequence[Said]) -> None:
        """Tell every page; one that has let too much wait is dropped."""
        if not self._pages:
            return
        frame = json.dumps([[_plain(value) for value in message] for message in said])
        for page, waiting in list(self._pages.items()):
            try:
                waiting.put_nowait(frame)
            except asyncio.QueueFull:
                del self._pages[page]
                page.transport.abort()  # a polite end would wait for it to read


async def _write(page: ServerConnection, waiting: asyncio.Queue[str]) -> None:
    with suppress(ConnectionClosed):
        while True:
            await page.send(await waiting.get())


def messages(frame: str | bytes) -> list[Said]:
    """Return the messages that a frame holds.

    Raises:
        ValueError: it holds something else, or too many.
    """
    try:
        found = json.loads(frame) if isinstance(frame, str) else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(map(_is_message, found)):
        raise ValueError('a frame is [["/address", number or text, ...], ...] in JSON')
    if len(found) > MOST_MESSAGES:
        raise ValueError(f"a frame has at most {MOST_MESSAGES} messages, found {len(found)}")
    return found


def midi_of(flat: Sequence[float]) -> bytes:
    """Return a MIDI file of events as flat numbers: when in milliseconds, pitch, and velocity, 0 for an end."""
    rows = [map(int, flat[i : i + 3]) for i in range(0, len(flat), 3)]
    events: list[Timed] = []
    for ms, pitch, velocity in rows:
        event = NoteOn(pitch=pitch, velocity=velocity) if velocity else NoteOff(pitch=pitch)
        events.append(Timed(ms / 1000, event))
    return encoded({"model": events})


def _is_message(found: object) -> bool:
    match found:
        case [str(address), *values] if address.startswith("/") and address.isascii():
            return all(map(_is_value, values))
    return False


def _is_value(value: object) -> bool:
    if isinstance(value, int | float):
        return math.isfinite(value) and abs(value) < 2**31
    return isinstance(value, str)


def _plain(value: object) -> object:
    return value if isinstance(value, int | float | str) else str(value)


def _said_once(headers: Headers, name: str) -> str:
    """Return a header's value; nothing where it is missing, or said twice to hide one behind the other."""
    values = headers.get_all(name)
    return values[0] if len(values) == 1 else ""


def _file(name: str) -> Response:
    suffix = f".{name.rpartition('.')[2]}"
    file = _PAGE / name
    if suffix not in TYPES or not set(name) <= _NAME or not file.is_file():
        return _response(HTTPStatus.NOT_FOUND, "no such page")
    return _response(HTTPStatus.OK, file.read_bytes(), TYPES[suffix])


_NAME = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")


def _response(status: HTTPStatus, body: str | bytes, kind: str = "text/plain; charset=utf-8") -> Response:
    data = f"{body}\n".encode() if isinstance(body, str) else body
    about = {"Content-Type": kind, "Content-Length": str(len(data)), "Connection": "close"}
    return Response(status.value, status.phrase, Headers(_HEADERS | about), data)


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
