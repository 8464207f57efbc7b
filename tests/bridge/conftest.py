"""A private JACK server: real MIDI ports without sound hardware."""

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

_NAME = "musebridge-test"
"""One fixed name: JACK frees the slot of a server that was killed only for its namesake."""


@pytest.fixture(scope="session")
def jack_server() -> Iterator[str]:
    """The name of a running JACK server with the dummy driver."""
    if shutil.which("jackd") is None:
        pytest.skip("real MIDI needs JACK: install jackd2")
    environment = {
        "JACK_DEFAULT_SERVER": _NAME,
        "JACK_NO_AUDIO_RESERVATION": "1",
        "JACK_NO_START_SERVER": "1",
    }
    os.environ.update(environment)
    server = subprocess.Popen(
        ["jackd", "-n", _NAME, "-r", "-d", "dummy", "-r", "48000", "-p", "128"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        subprocess.run(["jack_wait", "-s", _NAME, "-w", "-t", "10"], check=True, stdout=subprocess.DEVNULL)
        yield _NAME
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        for name in environment:
            del os.environ[name]
