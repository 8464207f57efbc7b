"""The panel's line to the bridge: OSC over UDP, and what the bridge said last."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress

from pythonosc.osc_message_builder import BuildError, OscMessageBuilder
from pythonosc.osc_packet import OscPacket, ParseError

Said = list[str | float]
"""An address and its arguments."""

ROOT = "/musebridge"
LOOKS_S, DOUBT_S, LOST_S = 1.0, 2.5, 5.0
"""So often the panel looks after its line. A bridge that is silent for longer than its heartbeat is asked for a sign,
which fails at once where it is gone; without one it is taken to be gone in the end."""
ANSWER_S = 2.0
"""So long a take's notes are waited for."""
_SUBSCRIBED_S = 20.0
_ASKED_AT_FIRST = ("subscribe", "capabilities", "parameters", "refresh", "ports", "presets", "takes")
_STATES = ("state", "mode", "key", "chord", "learning", "record", "capabilities", "beat", "stats")
_STATES_BY_NAME = ("parameter", "learnt", "port", "preset", "take")


class Memory:
    """What a page must be told that comes later: of each thing the latest."""

    def __init__(self) -> None:
        self._latest: dict[tuple[str | float, ...], Said] = {}

    def keep(self, said: Said) -> None:
        """Take a message of the bridge, if it says how things are."""
        address = str(said[0])
        topic = address.removeprefix(f"{ROOT}/")
        if topic in _STATES or topic.startswith("param/"):
            self._latest[address,] = said
        elif topic == "take/deleted" and len(said) > 1:
            self._latest.pop((f"{ROOT}/take", said[1]), None)
        elif topic in _STATES_BY_NAME and len(said) > 1:
            self._latest[address, said[1]] = said

    def all(self) -> list[Said]:
        """Return the latest of all that was kept, in the order in which it first came."""
        return list(self._latest.values())

    def clear(self) -> None:
        """Forget: another bridge has other parameters."""
        self._latest.clear()


class OscLink(asyncio.DatagramProtocol):
    """Subscribes to a bridge that may start late, end and come back.

    Args:
        bridge: host and port of its OSC.
        tell: called with the messages of each datagram, and with ``/panel/bridge 0`` or ``1`` when it goes or comes.
    """

    def __init__(self, bridge: tuple[str, int], tell: Callable[[Sequence[Said]], None]) -> None:
        self._bridge, self._tell = bridge, tell
        self.memory = Memory()
        self.is_there = False
        """Whether the bridge was heard of lately."""
        self._transport: asyncio.DatagramTransport | None = None
        self._heard_s = self._subscribed_s = float("-inf")
        self._started_s = 0.0
        self._wanted: dict[int, tuple[dict[int, list[float]], asyncio.Future[list[float]]]] = {}

    async def run(self) -> None:
        """Keep the line up until cancelled."""
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in self._bridge[0] else socket.AF_INET
        transport, _ = await loop.create_datagram_endpoint(lambda: self, remote_addr=self._bridge, family=family)
        try:
            while True:
                self._look_after(loop.time())
                await asyncio.sleep(LOOKS_S)
        finally:
            self.send([[f"{ROOT}/unsubscribe"]])
            transport.close()

    def send(self, messages: Sequence[Said]) -> None:
        """Say something to the bridge.

        Raises:
            ValueError: an argument is nothing that OSC can say.
        """
        for address, *arguments in messages:
            builder = OscMessageBuilder(str(address))
            try:
                for argument in arguments:
                    builder.add_arg(argument)
                datagram = builder.build().dgram
            except (BuildError, OverflowError) as error:
                raise ValueError(str(error)) from error
            if self._transport and not self._transport.is_closing():
                self._transport.sendto(datagram)

    async def notes_of(self, take: int) -> list[float]:
        """Return a take's events as flat numbers: when in milliseconds, pitch, and velocity, 0 for an end.

        Raises:
            TimeoutError: the bridge does not know it, or is gone.
        """
        if take not in self._wanted:
            self._wanted[take] = {}, asyncio.get_running_loop().create_future()
        future = self._wanted[take][1]
        self.send([[f"{ROOT}/takes/notes", take]])
        try:
            return await asyncio.wait_for(asyncio.shield(future), ANSWER_S)
        finally:
            self._wanted.pop(take, None)

    def _collect(self, values: Said) -> None:
        """Take one part of a take's events; the last one that was missing makes it whole."""
        take, first, events, *flat = (int(value) for value in values)
        if take not in self._wanted:
            return
        parts, future = self._wanted[take]
        parts[first] = [float(value) for value in flat]
        if sum(map(len, parts.values())) == 3 * events and not future.done():
            future.set_result([value for at in sorted(parts) for value in parts[at]])

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]  # as asyncio has it
        """Take the socket."""
        self._transport = transport

    def datagram_received(self, data: bytes, addr: object) -> None:
        """Pass on what the bridge says."""
        with suppress(ParseError):
            said: list[Said] = [[each.message.address, *each.message.params] for each in OscPacket(data).messages]
            self._take(said)

    def error_received(self, exc: Exception) -> None:
        """Nobody listens there: the bridge is gone, or not there yet."""
        self._set_there(False)

    def _take(self, said: list[Said]) -> None:
        self._heard_s = asyncio.get_running_loop().time()
        self._set_there(True)
        for message in said:
            self.memory.keep(message)
        self._tell(said)
        for address, *values in said:
            if address == f"{ROOT}/heartbeat" and isinstance(values[0], int | float):
                self._note_start(float(values[0]))
            if address == f"{ROOT}/take/notes":
                self._collect(values)

    def _note_start(self, since_start_s: float) -> None:
        """Ask for everything if this is another bridge than before: it has begun anew between two heartbeats."""
        if since_start_s < self._started_s:
            self._subscribe(self._heard_s)
        self._started_s = since_start_s

    def _look_after(self, now_s: float) -> None:
        if now_s - self._heard_s > LOST_S:
            self._set_there(False)
        if not self.is_there:
            self._subscribe(now_s)
        elif now_s - self._heard_s > DOUBT_S:
            self.send([[f"{ROOT}/capabilities"]])
        elif now_s - self._subscribed_s > _SUBSCRIBED_S:
            self._subscribed_s = now_s
            self.send([[f"{ROOT}/subscribe"]])

    def _subscribe(self, now_s: float) -> None:
        self._subscribed_s = now_s
        self.send([[f"{ROOT}/{question}"] for question in _ASKED_AT_FIRST])

    def _set_there(self, is_there: bool) -> None:
        if is_there != self.is_there:
            self.is_there = is_there
            self.memory.clear()
            self._tell([["/panel/bridge", int(is_there)]])
