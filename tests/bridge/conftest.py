"""A private JACK server, so real MIDI ports without sound hardware, and each library that can speak to it."""

import shutil
from collections.abc import Iterator

import pytest

from musebridge.benchmarks.jack import Jack
from musebridge.bridge.ports import midi_library
from musebridge.bridge.ports.midi_library import MidiLibrary
from musebridge.errors import PortError


@pytest.fixture(scope="session")
def jack_server() -> Iterator[str]:
    """The name of a running JACK server with the dummy driver."""
    if shutil.which("jackd") is None:
        pytest.skip("real MIDI ports need a JACK server; Debian and Ubuntu: sudo apt install jackd2")
    with Jack("musebridge-suite") as server:
        yield server.name


@pytest.fixture(params=midi_library.NAMES)
def library(request: pytest.FixtureRequest) -> MidiLibrary:
    """Each MIDI library that is installed."""
    try:
        return midi_library.load(request.param)
    except PortError as error:
        pytest.skip(str(error))


@pytest.fixture
def backend(jack_server: str, library: MidiLibrary) -> str:
    """The JACK server, through each MIDI library."""
    return f"{library.name}/jack"
