"""Presets by OSC: what a running bridge offers, takes and saves."""

from dataclasses import replace
from pathlib import Path

import pytest
from controller import Controller

from musebridge.bridge.app import preset as presets
from musebridge.bridge.app.bridge import Bridge
from musebridge.bridge.app.preset import Preset, load
from musebridge.bridge.app.shelf import steps
from musebridge.bridge.app.testing import ScriptedEngine, babble
from musebridge.bridge.core.commands import Bind, SetParameter
from musebridge.bridge.core.osc_news import ROOT
from musebridge.bridge.core.settings import Settings
from musebridge.bridge.ports.base import MemoryPort


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user's presets are."""
    monkeypatch.setattr(presets, "USER_FOLDER", tmp_path / "presets")
    return tmp_path / "presets"


def playing(preset: Preset, binds: tuple[Bind, ...] = ()) -> Bridge:
    return Bridge(
        *(ScriptedEngine(babble), MemoryPort(), MemoryPort()),
        settings=preset.settings,
        mode=preset.mode,
        osc=("127.0.0.1", 0),
        binds=binds,
        preset=preset,
    )


def listening_to(bridge: Bridge) -> Controller:
    assert bridge.osc
    controller = Controller(bridge.osc.address)
    controller.say(f"{ROOT}/subscribe")
    controller.answers()
    return controller


def test_every_preset_is_listed_and_one_that_cannot_be_read_says_so(folder: Path) -> None:
    folder.mkdir()
    (folder / "broken.toml").write_text("description = ")
    with playing(load("call")) as bridge, listening_to(bridge) as panel:
        panel.say(f"{ROOT}/presets")
        told = dict(values for _, values in panel.hear(*[f"{ROOT}/preset"] * len(presets.names())))
    assert str(told.pop("broken")).startswith("cannot be read: ")
    assert told == {name: load(name).description for name in presets.names() if name != "broken"}


def test_a_preset_is_taken_with_its_mode_and_everybody_is_told_each_value(folder: Path) -> None:
    with playing(load("call")) as bridge, listening_to(bridge) as panel:
        wanted = steps(load("call").settings, load("duet").settings)
        panel.say(f"{ROOT}/presets/load", "duet")
        told = panel.hear(f"{ROOT}/mode", *(f"{ROOT}/param/{step.name}" for step in wanted))
        assert told[0] == (f"{ROOT}/mode", ["duet"])
        told = [(address, [pytest.approx(value)]) for address, (value,) in told[1:]]
        assert [(f"{ROOT}/param/{step.name}", [step.value]) for step in wanted] == told
        panel.say(f"{ROOT}/get/scale")
        assert panel.hear(f"{ROOT}/param/scale") == [(f"{ROOT}/param/scale", ["detect"])]
        assert bridge.snapshot.settings == load("duet").settings


def test_how_the_bridge_is_set_is_saved_with_its_controllers_and_can_be_taken_again(folder: Path) -> None:
    bind = Bind("density", 21, 5)
    with playing(load("bass"), (bind,)) as bridge, listening_to(bridge) as panel:
        panel.say(f"{ROOT}/param/transpose", 3)
        panel.say(f"{ROOT}/mode", "duet")
        panel.say(f"{ROOT}/presets/save", "My bass 2")
        description = f"{load('bass').description} (saved)"
        assert panel.hear(f"{ROOT}/preset") == [(f"{ROOT}/preset", ["My bass 2", description])]
        saved = load("My bass 2")
        assert saved.path == folder / "My bass 2.toml"
        assert (saved.mode, saved.settings, saved.binds) == ("duet", bridge.snapshot.settings, (bind,))
        assert saved.model == load("bass").model
        panel.say(f"{ROOT}/param/transpose", 5)
        panel.say(f"{ROOT}/presets/load", "My bass 2")
        assert panel.hear(f"{ROOT}/param/transpose") == [(f"{ROOT}/param/transpose", [3])]


def test_an_older_preset_of_the_name_is_kept_beside_the_new_one(folder: Path) -> None:
    presets.save_as("mine", load("call"), "call", Settings(density=5), ())
    presets.save_as("mine", load("mine"), "call", Settings(density=6), ())
    assert load("mine").settings.density == 6
    assert "density = 5" in (folder / "mine.toml.old").read_text()
    assert sorted(path.name for path in folder.iterdir()) == ["mine.toml", "mine.toml.old"]
    assert load("mine").description == f"{load('call').description} (saved)"


@pytest.mark.parametrize("name", ["../evil", "a/b", "a\\b", "", ".hidden", "x.toml", "a\nb", "C:x", "end.", "x" * 65])
def test_a_name_that_is_a_path_or_none_is_refused(folder: Path, name: str) -> None:
    with playing(load("call")) as bridge, listening_to(bridge) as panel:
        for address in ("save", "load"):
            panel.say(f"{ROOT}/presets/{address}", name)
            ((_, (complaint,)),) = panel.hear(f"{ROOT}/error")
            assert str(complaint).startswith("a preset's name is up to 64 letters, ")
    assert not folder.exists()


@pytest.mark.parametrize(
    ("address", "arguments", "complaint"),
    [
        ("presets/load", ("nobody",), "no preset 'nobody'; known are "),
        ("presets/load", (), f"{ROOT}/presets/load: takes a name, found none"),
        ("presets/save", (7,), f"{ROOT}/presets/save: takes a name, found 7"),
    ],
)
def test_what_names_no_preset_is_refused(
    folder: Path, address: str, arguments: tuple[object, ...], complaint: str
) -> None:
    with playing(load("call")) as bridge, listening_to(bridge) as panel:
        panel.say(f"{ROOT}/{address}", *arguments)
        ((_, (found,)),) = panel.hear(f"{ROOT}/error")
        assert str(found).startswith(complaint)


def test_the_highest_pitch_rises_before_the_lowest_does() -> None:
    now, wanted = Settings(low=20, high=40), Settings(low=60, high=80)
    assert steps(now, wanted) == [SetParameter("high", 80), SetParameter("low", 60)]
    assert steps(wanted, now) == [SetParameter("low", 20), SetParameter("high", 40)]
    assert steps(now, replace(now)) == []
