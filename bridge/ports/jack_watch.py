"""Whether a MIDI system lives, and who is connected: what RtMidi does not tell."""

from __future__ import annotations

import threading
from typing import Any

from musebridge.errors import PortError

NO_SERVER = "JACK: no server runs; start one (qjackctl, or: jackd -d alsa), or with PipeWire: pw-jack musebridge …"
LONGEST_PERIOD_S = 0.25
"""8,192 frames at 44.1 kHz are 0.19 s."""
_HANG_S = 2.0
"""Without realtime priority a server stands still for half a second beside busy programs, and goes on. One that
hangs is no danger before some 2,340 messages were sent to it."""
_TICK_S = 0.005


class ServerMonitor:
    """Of a MIDI system that is part of the operating system: it does not die, and tells nothing."""

    @property
    def dead(self) -> bool:
        """Whether the system has ended; then nothing of it may be called but closing."""
        return False

    def runs(self) -> bool:
        """Return whether the system works; may wait a period for that."""
        return True

    def ports(self, client: str) -> set[str]:
        """Return the full names of the ports of clients whose names begin so, as far as is known."""
        return set()

    def peers(self, port: str) -> set[str] | None:
        """Return who is connected to one of our ports, or None if that is not known."""
        return None

    def close(self) -> None:
        """Look no more; further calls do nothing."""


class JackWatch(ServerMonitor):
    """A JACK client without ports, beside those of RtMidi.

    A JACK server that dies raises nothing in RtMidi: ports look open, and after
    some 2,340 messages ``send_message`` never returns and holds the GIL. JACK
    tells this client of the end within milliseconds. A server that hangs tells
    nothing, but its time stands still.

    Raises:
        PortError: no server answers, or libjack is not installed.
    """

    def __init__(self) -> None:
        try:
            import jack  # it looks for libjack at once
        except OSError as error:
            raise PortError(
                "JACK: it is not installed; Debian and Ubuntu: sudo apt install jackd2, Fedora: sudo dnf install "
                "jack-audio-connection-kit"
            ) from error
        jack.set_error_function(lambda _: None)  # the exception says it
        jack.set_info_function(lambda _: None)
        self._jack = jack
        self._ended = threading.Event()
        try:
            self._client = jack.Client("MuseBridge-watch", no_start_server=True)
        except jack.JackError as error:
            raise PortError(NO_SERVER) from error
        self._client.set_shutdown_callback(lambda status, reason: self._ended.set())
        try:
            self._client.activate()  # without it PipeWire's time stands still
        except jack.JackError as error:
            self.close()
            raise PortError("JACK: its server is too busy to take a client; try again, or restart it") from error

    @property
    def dead(self) -> bool:
        """Whether the server has ended."""
        return self._ended.is_set()

    def runs(self) -> bool:
        """Return whether the server begins a new period; one that stands still for long hangs."""
        frame = self._client.last_frame_time
        for _ in range(round(_HANG_S / _TICK_S)):
            if self.dead or self._client.last_frame_time != frame:
                break
            self._ended.wait(_TICK_S)
        return not self.dead and bool(self._client.last_frame_time != frame)

    def ports(self, client: str) -> set[str]:
        """Return the full names of the MIDI ports of clients whose names begin so."""
        lib, is_midi = self._jack._lib, self._jack._MIDI
        return self._names(lib.jack_get_ports(self._client._ptr, f"^{client}".encode(), is_midi, 0))

    def peers(self, port: str) -> set[str]:
        """Return the names of the ports that one of our ports is connected to."""
        lib, client = self._jack._lib, self._client._ptr
        ours = lib.jack_port_by_name(client, port.encode())
        return self._names(lib.jack_port_get_all_connections(client, ours)) if ours else set()

    def _names(self, pointers: Any) -> set[str]:
        """Return names that libjack lists: any bytes, which the library's own calls take for UTF-8, and raise."""
        if not pointers:
            return set()  # there are none, or the server died just now
        ffi, names = self._jack._ffi, list[str]()
        listed = ffi.gc(pointers, self._jack._lib.jack_free)
        while listed[len(names)]:
            names.append(ffi.string(listed[len(names)]).decode(errors="surrogateescape"))
        return set(names)

    def close(self) -> None:
        """Close the client."""
        self._client.close()
