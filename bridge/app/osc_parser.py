"""OSC datagrams to requests, by python-osc.

Datagrams are untrusted: whatever is wrong with one is a ``ConfigError``. What
is wrong with a part of a bundle spoils nothing of the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

from pythonosc.osc_message import OscMessage

from musebridge.bridge.core.osc_namespace import (
    KEPT_S,
    MAX_LENGTH,
    MAX_REQUESTS,
    Request,
    addresses_of,
    is_unanswered,
    request_of,
)
from musebridge.errors import ConfigError

IMMEDIATELY = 1
"""The time tag that says so, and that of a message in no bundle."""
_MAX_DEPTH = 8
_BUNDLE, _BUNDLE_HEADER = b"#bundle\0", 16
_FROM_1900_TO_1970_S = 2_208_988_800

# python-osc logs a line for each tag that it does not know, thousands for a malicious datagram.
logging.getLogger().addFilter(lambda record: record.module != "osc_message")


@dataclass(slots=True)
class Reading:
    """What one datagram says.

    Attributes:
        asked: what it asks for, in order, each with its time tag.
        errors: what was not understood.
        has_news: whether something of it is said by bridges alone, or is another program's error: neither is answered.
    """

    asked: list[tuple[int, Request]] = field(default_factory=list)
    errors: list[ConfigError] = field(default_factory=list)
    has_news: bool = False


def parse(datagram: bytes) -> list[Request]:
    """Return what one datagram, a message or a bundle, asks for, in order.

    Raises:
        ConfigError: it is no OSC, or nothing of it is understood.
    """
    reading = read(datagram)
    if reading.errors and not reading.asked:
        raise reading.errors[0]
    return [request for _, request in reading.asked]


def read(datagram: bytes) -> Reading:
    """Read one datagram, a message or a bundle, as far as it can be understood."""
    reading = Reading()
    for tag, part in _messages(datagram):
        if isinstance(part, ConfigError):
            reading.errors.append(part)
        elif is_unanswered(part.address):
            reading.has_news = True
        else:
            _take(reading, tag, part)
    return reading


def delay_s(tag: int, unix_s: float) -> float:
    """Return how long after the moment ``unix_s``, in seconds since 1970, a time tag is kept.

    What is past is due at once, as is what is further ahead than ``KEPT_S``.
    """
    ahead_s = tag / 2**32 - _FROM_1900_TO_1970_S - unix_s
    return ahead_s if 0 < ahead_s <= KEPT_S else 0.0


def _take(reading: Reading, tag: int, message: OscMessage) -> None:
    """Add what a message asks for: one thing for each address that it means, but nothing twice."""
    asked: dict[Request, None] = {}
    arguments = [argument for argument in message.params if argument is not None]  # nil says nothing
    try:
        addresses = addresses_of(message.address)
    except ConfigError as error:
        reading.errors.append(error)
        return
    for address in addresses:
        try:
            request = request_of(address, arguments)
        except ConfigError as error:
            reading.errors.append(error)
        else:
            asked |= {request: None} if request else {}
    room = MAX_REQUESTS - len(reading.asked)
    reading.asked += [(tag, request) for request in asked][:room]
    if len(asked) > room:
        reading.errors.append(ConfigError(f"one datagram may ask for {MAX_REQUESTS} things; send several"))


def _messages(
    datagram: bytes, tag: int = IMMEDIATELY, depth: int = 0
) -> Iterator[tuple[int, OscMessage] | tuple[int, ConfigError]]:
    """Yield the messages of a datagram in order, each with its time tag; what cannot be read is an error instead.

    python-osc's own reading of bundles never ends where one claims a negative size.
    """
    if len(datagram) > MAX_LENGTH or depth > _MAX_DEPTH:
        yield tag, _malformed(f"at most {MAX_LENGTH} bytes and {_MAX_DEPTH} bundles in each other are read")
    elif datagram.startswith(_BUNDLE):
        yield from _parts(datagram, depth)
    elif datagram.startswith(b"/"):
        try:
            yield tag, OscMessage(datagram)
        except Exception as error:  # noqa: BLE001  # python-osc raises many kinds on damaged input
            yield tag, _malformed(str(error) or type(error).__name__)
    else:
        yield tag, _malformed("neither a message nor a bundle")


def _parts(bundle: bytes, depth: int) -> Iterator[tuple[int, OscMessage] | tuple[int, ConfigError]]:
    """Yield the messages of a bundle; nothing is read behind a part of a size that cannot be."""
    at, tag = _BUNDLE_HEADER, int.from_bytes(bundle[len(_BUNDLE) : _BUNDLE_HEADER])
    if len(bundle) < at:
        yield tag, _malformed("a bundle is cut short")
    while at < len(bundle):
        size = int.from_bytes(bundle[at : at + 4], signed=True)
        at += 4
        if not 0 < size <= len(bundle) - at:
            yield tag, _malformed(f"a part of a bundle claims {size} bytes of {max(0, len(bundle) - at)}")
            return
        yield from _messages(bundle[at : at + size], tag, depth + 1)
        at += size


def _malformed(why: str) -> ConfigError:
    return ConfigError(f"not an OSC datagram: {why:.200}")
