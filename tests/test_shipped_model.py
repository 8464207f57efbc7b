"""What is shipped belongs together: model, checkpoint and card."""

from pathlib import Path

import pytest

from musebridge.artifact import ModelInfo
from musebridge.bridge import preset
from musebridge.bridge.engine import OnnxEngine
from musebridge.training import checkpoint

ROOT = Path(__file__).parent.parent
CARD = (ROOT / "docs" / "model-card.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def info() -> ModelInfo:
    return OnnxEngine(preset.load("call").model).info


def test_the_model_was_exported_from_the_checkpoint_beside_it(info: ModelInfo) -> None:
    _, record = checkpoint.load_generator(ROOT / "checkpoints" / "maestro-12m.safetensors")
    assert info.record == record
    assert record["command"].startswith("musebridge train ")


def test_the_model_says_what_it_was_trained_on_and_under_which_licence(info: ModelInfo) -> None:
    assert (info.corpus, info.licence) == ("maestro-v3.0.0", "CC BY-NC-SA 4.0")


def test_the_model_predicts_unseen_music_as_well_as_it_was_promised(info: ModelInfo) -> None:
    assert info.validation_nll is not None
    assert info.validation_nll <= 2.05
    assert info.nll_change is not None
    assert info.nll_change <= 0.01


def test_the_card_states_the_models_own_numbers(info: ModelInfo) -> None:
    assert f"{info.validation_nll:.4f}" in CARD
    assert f"{info.nll_change:+.5f}" in CARD
    assert f"{info.parameters:,}" in CARD
    assert info.record["command"] in CARD
