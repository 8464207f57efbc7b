from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from musebridge import vocab
from musebridge.errors import CorpusError, ModelError
from musebridge.export import parity
from musebridge.export.graph import export
from musebridge.training.models.checkpoint import save_generator
from musebridge.training.models.generator import Generator

TOKENS = np.random.default_rng(2).integers(0, vocab.N_EVENTS, 2000).astype(np.uint16)


@pytest.fixture
def exported(tmp_path: Path, generator: Generator) -> Path:
    save_generator(tmp_path / "generator.safetensors", generator, {})
    export(tmp_path, tmp_path / "m.onnx", precision="fp32", corpus=None)
    return tmp_path / "m.onnx"


def test_every_failure_is_told_at_once(exported: Path, generator: Generator) -> None:
    with torch.no_grad():
        generator.blocks[1].down.weight += 0.05
    with pytest.raises(ModelError) as caught:
        parity.check(generator, exported)
    message = str(caught.value)
    for name in ("single steps", "steps after a rollback", "mixed chunks"):
        assert f"{name}: a logit is off by" in message
        assert f"{name}: mean divergence is" in message
    assert "\n" not in message


def test_logits_that_are_no_numbers_never_pass() -> None:
    right_TV = np.zeros((2, vocab.N_TOKENS), np.float32)
    found_TV = np.full_like(right_TV, np.nan)
    assert len(list(parity._differences("steps", found_TV, right_TV, parity.TOLERANCES["int8"]))) == 2


def test_the_full_precision_file_has_the_generators_nll(exported: Path, generator: Generator) -> None:
    shares: list[float] = []
    assert abs(parity.nll_change(generator, exported, TOKENS, limit=600, on_progress=shares.append)) < 1e-5
    assert shares == [0.25, 0.5, 0.75, 1.0]


def test_a_worse_nll_is_refused(exported: Path, generator: Generator) -> None:
    confident = Generator(generator.config).eval()
    confident.load_state_dict(generator.state_dict())
    torch.nn.init.zeros_(confident.head.weight)  # on noise, a guess that knows nothing is best
    with pytest.raises(ModelError, match=r"validation NLL is \+0\.\d+ nats per token worse.*nothing was written"):
        parity.nll_change(confident, exported, TOKENS, limit=600)


def test_windows_cover_the_split_evenly() -> None:
    windows = parity._windows(np.arange(1000, dtype=np.uint16), 100, limit=200)
    assert [(w[0], len(w)) for w in windows] == [(0, 101), (299, 101), (599, 101), (899, 101)]


def test_too_short_a_split_is_refused(exported: Path, generator: Generator) -> None:
    with pytest.raises(CorpusError, match="has 300 tokens, a window needs 301"):
        parity.nll_change(generator, exported, TOKENS[:300])
