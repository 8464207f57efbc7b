"""``musebridge learn`` from files to a preset that plays."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from smf_bytes import chords, smf, track

from musebridge.bridge.app import preset
from musebridge.cli import main

torch = pytest.importorskip("torch", reason="training needs: pip install -e '.[train]'")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    from musebridge.training.models.checkpoint import save_generator
    from musebridge.training.models.generator import Generator, GeneratorConfig

    torch.manual_seed(0)
    shape = GeneratorConfig(n_layers=1, d_model=64, n_heads=4, n_kv_heads=2, d_ff=96, context=512)
    save_generator(tmp_path / "tiny.safetensors", Generator(shape), {})
    return tmp_path / "tiny.safetensors"


def test_takes_become_a_preset(tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preset, "USER_FOLDER", tmp_path / "presets")
    take, broken = tmp_path / "takes" / "a.mid", tmp_path / "takes" / "b.mid"
    take.parent.mkdir()
    take.write_bytes(smf(track(*chords(900))))
    broken.write_bytes(b"no music")
    asked = ["learn", str(take.parent), "--checkpoint", str(checkpoint), "--steps", "2", "--preset", "nocturne"]
    result = CliRunner().invoke(main, [*asked, "--name", "mine"])
    assert result.exit_code == 0, result.output
    assert "passed over b.mid: " in result.output
    assert "held-out tenth: " in result.output
    mine, base = preset.load("mine"), preset.load("nocturne")
    assert mine.model == tmp_path / "presets" / "mine.onnx"
    assert mine.model.is_file()
    assert (mine.mode, mine.settings, mine.description) == (base.mode, base.settings, base.description)
    again = CliRunner().invoke(main, [*asked, "--name", "mine"])
    assert again.exit_code != 0
    assert "there is a preset 'mine'" in again.output + repr(again.exception)


def test_too_little_music_is_one_line(tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preset, "USER_FOLDER", tmp_path / "presets")
    (tmp_path / "a.mid").write_bytes(smf(track(*chords(8))))
    result = CliRunner().invoke(
        main, ["learn", str(tmp_path / "a.mid"), "--checkpoint", str(checkpoint), "--name", "x"]
    )
    assert result.exit_code != 0
    assert "too little music" in result.output + repr(result.exception)
    assert not (tmp_path / "presets").exists()
