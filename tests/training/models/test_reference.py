"""The reference generator: what the default one is measured against."""

import math
from dataclasses import replace

import pytest
import torch

from musebridge.errors import CheckpointError, ConfigError
from musebridge.export import graph
from musebridge.training.data import corpus
from musebridge.training.models import checkpoint
from musebridge.training.models.generator import GeneratorConfig, count_parameters
from musebridge.training.models.reference import ReferenceConfig, ReferenceGenerator
from musebridge.training.models.registry import create, shape_from, table_of
from musebridge.training.pretraining.trainer import PretrainConfig, Pretraining

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = ReferenceConfig(n_layers=2, d_model=16, n_heads=2, d_ff=32, context=24)


def test_it_has_the_size_that_was_published():
    assert 12.9e6 < count_parameters(ReferenceGenerator(ReferenceConfig())) < 13.2e6


def test_no_token_sees_what_comes_after_it():
    generator = ReferenceGenerator(TINY).eval()
    tokens_BT = torch.randint(0, 388, (1, 24), generator=torch.Generator().manual_seed(0))
    changed_BT = tokens_BT.clone()
    changed_BT[0, 10] = (changed_BT[0, 10] + 1) % 388
    before_BTV, after_BTV = generator(tokens_BT), generator(changed_BT)
    torch.testing.assert_close(after_BTV[:, :10], before_BTV[:, :10])
    assert not torch.allclose(after_BTV[:, 10:], before_BTV[:, 10:])


def test_positions_are_the_sinusoids_of_the_paper():
    position_TD = ReferenceGenerator(TINY).position_TD
    for t, i in ((0, 0), (5, 0), (7, 3), (23, 7)):
        angle = t / 10_000 ** (2 * i / 16)
        assert position_TD[t, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-5)
        assert position_TD[t, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-5)


def test_it_trains_resumes_and_is_read_again(small_corpus, tmp_path):
    config = PretrainConfig(tokens=30 * 4 * 24, batch=4, warmup_steps=5)
    training = Pretraining(corpus.load(small_corpus), tmp_path, TINY, config, compile=False)
    training.run("musebridge train", lambda progress: None, lambda progress: None)
    assert training.progress.validation_nll < math.log(389) - 0.5
    generator, _ = checkpoint.load_generator(tmp_path)
    assert generator.config == TINY
    assert Pretraining(corpus.load(small_corpus), tmp_path, TINY, config, compile=False).fraction == 1.0


def test_it_is_not_exported(tmp_path):
    checkpoint.save_generator(tmp_path / checkpoint.WEIGHTS, ReferenceGenerator(TINY), {})
    with pytest.raises(CheckpointError, match="is a reference generator; only the default kind can be used here"):
        graph.export(tmp_path, tmp_path / "model.onnx", precision="fp32")


@pytest.mark.parametrize("shape", [TINY, GeneratorConfig(n_layers=1, d_model=8, n_heads=1, n_kv_heads=1, d_ff=8)])
def test_a_shape_and_its_table_are_the_same(shape):
    assert shape_from(table_of(shape), "here") == shape
    assert create(shape).config == shape


def test_a_table_without_a_kind_is_the_default_and_an_unknown_kind_is_one_line():
    assert shape_from({"d_ff": 64}, "here") == GeneratorConfig(d_ff=64)
    with pytest.raises(ConfigError, match="here: kind must be one of default, reference, found 'gpt'"):
        shape_from({"kind": "gpt"}, "here")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dropout": 1.0}, "generator dropout must be at least 0 and less than 1, found 1.0"),
        ({"n_layers": 0}, "n_layers must be at least 1, found 0"),
        ({"d_model": 15}, "generator d_model must be even and a multiple of n_heads, found 15 and 2"),
    ],
)
def test_a_size_outside_its_range_is_one_line(change, message):
    with pytest.raises(ConfigError) as caught:
        replace(TINY, **change)
    assert str(caught.value) == message
