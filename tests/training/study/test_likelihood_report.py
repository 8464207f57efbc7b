"""The report on a generator."""

import json
from dataclasses import replace

import pytest
import torch

from musebridge.errors import CorpusError
from musebridge.training.data import corpus
from musebridge.training.models import checkpoint
from musebridge.training.models.generator import Generator, GeneratorConfig
from musebridge.training.study.likelihood_report import evaluate, write_report

SHAPE = GeneratorConfig(n_layers=1, d_model=8, n_heads=1, n_kv_heads=1, d_ff=8, context=16)


@pytest.fixture
def run(tmp_path):
    torch.manual_seed(0)
    generator = Generator(SHAPE)
    torch.nn.init.normal_(generator.head.weight, std=0.1)
    checkpoint.save_generator(tmp_path / checkpoint.WEIGHTS, generator, {"command": "musebridge train"})
    return tmp_path


def test_the_report_holds_every_number_and_its_pictures(run, small_corpus):
    history = [{"tokens": 1e6 * i, "train_nll": 3.0 / i, "validation_nll": 3.1 / i} for i in (1, 2)]
    checkpoint.save_state(run, {"history": history})
    evaluation = evaluate(run, corpus.load(small_corpus), limit=200, continuations=5)
    page = write_report(evaluation, run / "report", "musebridge evaluate …")
    unseen, seen = evaluation.splits["validation"], evaluation.splits["train"]
    text = page.read_text("utf-8")
    assert f"| validation | {unseen.tokens:,} | {unseen.per_token:.4f} | {unseen.per_note:.3f} |" in text
    assert f"(unseen minus train): {unseen.per_token - seen.per_token:+.4f}" in text
    assert "at least 8 tokens of warm context" in text
    numbers = json.loads((run / "report" / "report.json").read_text("utf-8"))
    assert numbers["splits"]["validation"]["nll_per_second"] == unseen.per_second
    assert len(numbers["splits"]["train"]["by_position"]) == SHAPE.context
    runs = evaluation.copied["the model"]
    assert f"| the model | 5 | {sorted(runs)[2]} |" in text
    assert len(numbers["longest_copied_runs"]["the real continuation"]) == 5
    alike = evaluation.distances["the model"]
    assert f"| the model | {alike.frechet:.2f} | {alike.mmd:.4f} | {alike.overlap:.3f} |" in text
    assert numbers["likeness"]["the model"]["distinct4"] == alike.distinct4
    assert numbers["record"] == {"command": "musebridge train"}
    for name in ("position.png", "loss.png"):
        assert f"]({name})" in text
        assert (run / "report" / name).read_bytes().startswith(b"\x89PNG")


def test_a_report_on_weights_alone_has_no_loss_curve(run, small_corpus):
    evaluation = evaluate(run / checkpoint.WEIGHTS, corpus.load(small_corpus), limit=100)
    page = write_report(evaluation, run / "report", "")
    assert "loss.png" not in page.read_text("utf-8")
    assert not (run / "report" / "loss.png").exists()


def test_what_cannot_be_scored_is_one_line(run, small_corpus):
    tokens = corpus.load(small_corpus)
    with pytest.raises(CorpusError, match=r"^warm must be in 0\.\.15, found 16$"):
        evaluate(run, tokens, warm=16)
    untested = replace(tokens, splits={**tokens.splits, "test": tokens.splits["train"][:0]})
    with pytest.raises(CorpusError, match="test has 0 tokens, 17 are needed"):
        evaluate(run, untested, split="test")
