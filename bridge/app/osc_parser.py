"""OSC datagrams to requests, by python-osc.

Datagrams are untrusted: whatever is wrong with one is a ``ConfigError``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from pythonosc.osc_message import OscMessage

from musebridge.bridge.core.osc_namespace import Request, request_of
from musebridge.errors import ConfigError

_MAX_LENGTH = 4096
"""Far more than any message here needs; python-osc takes seconds for some of the longest datagrams."""
_MAX_DEPTH = 8
_BUNDLE, _BUNDLE_HEADER = b"#bundle\0", 16

# python-osc logs a line for each tag that it does not know, thousands for a malicious datagram.
logging.getLogger().addFilter(lambda record: record.module != "osc_message")


def parse(datagram: bytes) -> list[Request]:
    """Return what one datagram, a message or a bundle, asks for, in order.

    Raises:
        ConfigError: it is no OSC, or an address or argument is not in the table.
    """
    try:
        messages = list(_messages(datagram))
    except Exception as error:  # python-osc raises many kinds on damaged input
        raise ConfigError(f"not an OSC datagram: {str(error) or type(error).__name__:.200}") from error
    requests = (request_of(message.address, list(message.params)) for message in messages)
    return [request for request in requests if request is not None]


def _messages(datagram: bytes, depth: int = 0) -> Iterator[OscMessage]:
    """Yield the messages of a datagram in order; what the time tags of bundles ask for is not known here.

    python-osc's own reading of bundles never ends where one claims a negative size.
    """
    if len(datagram) > _MAX_LENGTH or depth > _MAX_DEPTH:
        raise ValueError(f"at most {_MAX_LENGTH} bytes and {_MAX_DEPTH} bundles in each other are read")
    if not datagram.startswith(_BUNDLE):
        if not datagram.startswith(b"/"):
            raise ValueError("neither a message nor a bundle")
        yield OscMessage(datagram)
        return
    at = _BUNDLE_HEADER
    if len(datagram) < at:
        raise ValueError("a bundle is cut short")
    while at < len(datagram):
        size = int.from_bytes(datagram[at : at + 4], signed=True)
        at += 4
        if not 0 < size <= len(datagram) - at:
            raise ValueError(f"a part of a bundle claims {size} bytes of {max(0, len(datagram) - at)}")
        yield from _messages(datagram[at : at + size], depth + 1)
        at += size
