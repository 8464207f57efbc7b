"""Which MIDI library and which MIDI system are asked, and what a musician is told where there is none."""

from __future__ import annotations

import pytest

from musebridge.bridge.ports import backends, midi_library
from musebridge.bridge.ports.midi_library import MidiLibrary
from musebridge.errors import PortError


@pytest.mark.parametrize(
    ("backend", "parsed"),
    [
        ("auto", (None, "auto")),
        ("jack", (None, "jack")),
        ("auto/jack", (None, "jack")),
        ("supriya-midi", ("supriya-midi", "auto")),
        ("python-rtmidi/alsa", ("python-rtmidi", "alsa")),
    ],
)
def test_a_backend_names_a_library_and_a_system(backend: str, parsed: tuple[str | None, str]) -> None:
    assert backends.parse_backend(backend) == parsed


@pytest.mark.parametrize("backend", ["", "oss", "jack/alsa", "portmidi/jack", "python-rtmidi/", "a/b/c"])
def test_another_backend_is_refused_with_those_that_there_are(backend: str) -> None:
    with pytest.raises(PortError, match=r"backend must be auto, jack, .* python-rtmidi or supriya-midi .* found"):
        backends.parse_backend(backend)


def test_a_system_that_the_computer_cannot_have_is_refused_with_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    library = MidiLibrary(
        name="python-rtmidi", apis={"jack": 1, "alsa": 2}, input=lambda *_: None, output=lambda *_: None
    )
    monkeypatch.setattr(midi_library, "load", lambda name: library)
    with pytest.raises(PortError, match="winmm is not available on this computer; it has jack and alsa"):
        backends.candidates("winmm")


def fail_with(error: ImportError) -> object:
    def load() -> MidiLibrary:
        raise error

    return load


@pytest.fixture
def loaders(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What loads each library, to be replaced; nothing that was loaded before is remembered."""
    replaced: dict[str, object] = {}
    monkeypatch.setattr(midi_library, "_LOADERS", replaced)
    monkeypatch.setattr(midi_library, "_load", midi_library._load.__wrapped__)
    return replaced


def test_a_missing_library_is_one_line_that_says_how_to_install_it(loaders: dict[str, object]) -> None:
    loaders.update({name: fail_with(ModuleNotFoundError("No module named 'x'")) for name in midi_library.NAMES})
    with pytest.raises(PortError, match=r"pip install python-rtmidi.*pip install supriya-midi"):
        midi_library.load()
    with pytest.raises(PortError, match=r"^supriya-midi is not installed \(pip install supriya-midi\)$"):
        midi_library.load("supriya-midi")


def test_a_computer_without_libasound_is_told_which_package_has_it(loaders: dict[str, object]) -> None:
    error = ImportError("libasound.so.2: cannot open shared object file: No such file or directory")
    loaders.update({name: fail_with(error) for name in midi_library.NAMES})
    with pytest.raises(PortError, match="sudo apt install libasound2"):
        midi_library.load()


def test_the_second_library_serves_where_the_first_is_missing(loaders: dict[str, object]) -> None:
    second = MidiLibrary(name="supriya-midi", apis={}, input=lambda *_: None, output=lambda *_: None)
    loaders.update({"python-rtmidi": fail_with(ModuleNotFoundError()), "supriya-midi": lambda: second})
    assert midi_library.load() is second
