"""OSC over UDP: datagrams to commands.

The namespace is ``/musebridge``; the table below is all of it. Triggers take no
argument, or a number or a truth value, and act at 0.5 and above, since
controllers send 0 on release. Datagrams are untrusted: whatever is wrong with
one is counted and answered with ``/musebridge/error``.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pythonosc.osc_message import OscMessage
from pythonosc.osc_message_builder import OscMessageBuilder
from pythonosc.osc_packet import OscPacket

from musebridge.bridge.clock import Clock
from musebridge.bridge.commands import Command, HandOver, Panic, Reset, SetParameter, Stop
from musebridge.bridge.loop import Inbox, Worker
from musebridge.bridge.settings import Settings
from musebridge.errors import ConfigError, PortError

ROOT = "/musebridge"
TRIGGERS: dict[str, Command] = {
    f"{ROOT}/handover": HandOver(),
    f"{ROOT}/stop": Stop(),
    f"{ROOT}/panic": Panic(),
    f"{ROOT}/reset": Reset(),
}
PARAMETER = f"{ROOT}/param/"
_MAX_DATAGRAM = 65_535
_WAIT_S = 0.1


def parse(datagram: bytes) -> list[Command]:
    """Return the commands of one datagram, a message or a bundle, in order.

    Raises:
        ConfigError: it is no OSC, or an address or argument is not in the table.
    """
    try:
        messages = [timed.message for timed in OscPacket(datagram).messages]
    except Exception as error:  # python-osc raises many kinds on damaged input
        raise ConfigError(f"not an OSC datagram: {error}") from error
    return [command for message in messages for command in _commands(message)]


def _commands(message: OscMessage) -> list[Command]:
    address, arguments = message.address, list(message.params)
    if address in TRIGGERS:
        return [TRIGGERS[address]] if _number(address, arguments or [1.0]) >= 0.5 else []
    if address.startswith(PARAMETER):
        name, value = address.removeprefix(PARAMETER), _number(address, arguments)
        Settings().with_value(name, value)  # refuses unknown names and values out of range
        return [SetParameter(name, value)]
    raise ConfigError(f"unknown address {address}; known are {', '.join(TRIGGERS)} and {PARAMETER}<name>")


def _number(address: str, arguments: list[Any]) -> float:
    if len(arguments) != 1 or not isinstance(arguments[0], bool | int | float):
        raise ConfigError(f"{address} takes one number, found {arguments!r:.80}")
    return float(arguments[0])


class OscServer(Worker):
    """Listens on a UDP port and puts commands into the inbox.

    Raises:
        PortError: the address is taken or cannot be bound.
    """

    def __init__(
        self,
        address: tuple[str, int],
        clock: Clock,
        inbox: Inbox,
        on_failure: Callable[[str, Exception], None],
    ) -> None:
        super().__init__("osc", on_failure)
        self._clock, self._inbox = clock, inbox
        self.malformed = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.settimeout(_WAIT_S)
        try:
            self._socket.bind(address)
        except OSError as error:
            self._socket.close()
            host, port = address
            raise PortError(f"OSC {host}:{port}: {error.strerror}; choose another with --osc HOST:PORT") from error
        self.address: tuple[str, int] = self._socket.getsockname()

    def turn(self) -> None:
        """Take one datagram, or wait a moment for one."""
        try:
            datagram, sender = self._socket.recvfrom(_MAX_DATAGRAM)
        except TimeoutError:
            return
        except ConnectionError:  # Windows: an earlier reply found nobody
            return
        now_s = self._clock.now()
        try:
            for command in parse(datagram):
                self._inbox.put((now_s, command))
        except ConfigError as error:
            self.malformed += 1
            self._reply(sender, str(error))

    def stop(self) -> None:
        """End the thread and give the port back."""
        super().stop()
        self._socket.close()

    def _reply(self, sender: tuple[str, int], text: str) -> None:
        builder = OscMessageBuilder(f"{ROOT}/error")
        builder.add_arg(text)
        with suppress(OSError):  # nobody may be there to be told
            self._socket.sendto(builder.build().dgram, sender)
