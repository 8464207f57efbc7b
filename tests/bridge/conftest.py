"""A private JACK server: real MIDI ports without sound hardware."""

import shutil
from collections.abc import Iterator

import pytest

from musebridge.benchmarks.jack import Jack


@pytest.fixture(scope="session")
def jack_server() -> Iterator[str]:
    """The name of a running JACK server with the dummy driver."""
    if shutil.which("jackd") is None:
        pytest.skip("real MIDI needs JACK: install jackd2")
    with Jack("musebridge-suite") as server:
        yield server.name
