"""What is shipped belongs together: model, checkpoint and card."""

from pathlib import Path

import numpy as np
import pytest

from musebridge import midifile, vocab
from musebridge.artifact import ModelInfo
from musebridge.bridge.app import preset
from musebridge.bridge.inference.discriminator import OnnxDiscriminator
from musebridge.bridge.inference.engine import OnnxEngine
from musebridge.training.models import checkpoint

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


# The discriminator


@pytest.fixture(scope="module")
def judge() -> OnnxDiscriminator:
    return OnnxDiscriminator(preset.load("call").discriminator)


def test_the_discriminator_was_trained_against_the_checkpoint(judge: OnnxDiscriminator) -> None:
    generator, record = checkpoint.load_generator(ROOT / "checkpoints" / "maestro-12m.safetensors")
    assert judge.info.generator == checkpoint.hash_of(generator)[:16]
    assert judge.info.record["generator"] == record
    assert judge.info.licence == "CC BY-NC-SA 4.0"
    assert judge.info.record["command"] in CARD
    assert f"{judge.info.validation_auroc:.3f}" in CARD


def test_the_discriminator_takes_music_for_more_real_than_its_tokens_shuffled(judge: OnnxDiscriminator) -> None:
    tokens = np.asarray(vocab.encode(midifile.read(preset.FOLDER / "phrase.mid")), np.int64)
    assert len(tokens) >= 384
    tokens = tokens[:384]
    corrupted = np.random.default_rng(0).permuted(np.tile(tokens[192:], (4, 1)), axis=1)
    window_BT = np.concatenate([np.tile(tokens[:192], (5, 1)), np.concatenate([tokens[None, 192:], corrupted])], 1)
    scores_B = judge.judge(window_BT, 192)
    assert scores_B[0] > scores_B[1:].max()
