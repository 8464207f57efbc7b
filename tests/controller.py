"""A program that speaks OSC with a bridge, for tests."""

import socket

from pythonosc.osc_packet import OscPacket

from musebridge.benchmarks.fuzz import message
from musebridge.bridge.app.osc_server import Address
from musebridge.bridge.core.osc_news import ROOT

DEADLINE_S = 20


def messages(datagram: bytes) -> list[tuple[str, list[object]]]:
    """What a datagram says, a bundle's messages in order."""
    return [(timed.message.address, timed.message.params) for timed in OscPacket(datagram).messages]


class Controller:
    """A program that speaks OSC to a server; use it as a context manager."""

    def __init__(self, server: Address, port: int = 0) -> None:
        self._server = server
        self._socket = socket.socket(socket.AF_INET6 if ":" in server[0] else socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("::1" if ":" in server[0] else "127.0.0.1", port))
        self._socket.settimeout(DEADLINE_S)
        self.port = self._socket.getsockname()[1]

    def __enter__(self) -> "Controller":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, datagram: bytes) -> None:
        self._socket.sendto(datagram, self._server)

    def say(self, address: str, *arguments: object) -> None:
        self.send(message(address, *arguments))

    def receive(self, seconds: float = DEADLINE_S) -> bytes:
        self._socket.settimeout(seconds)
        return self._socket.recv(65_535)

    def hear(self, *addresses: str) -> list[tuple[str, list[object]]]:
        """Wait for messages, one of each address, and return them."""
        heard: list[tuple[str, list[object]]] = []
        while len(heard) < len(addresses):
            heard += [(address, values) for address, values in messages(self.receive()) if address in addresses]
        return heard

    def answers(self) -> list[tuple[str, list[object]]]:
        """Return all that comes before the answer to a question that is asked now."""
        self.say(f"{ROOT}/capabilities")
        heard: list[tuple[str, list[object]]] = []
        while not heard or heard[-1][0] != f"{ROOT}/capabilities":
            heard += messages(self.receive())
        return heard[:-1]

    def listen_until_silence(self) -> None:
        for _ in range(10_000):
            self.receive(2)
