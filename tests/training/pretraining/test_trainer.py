"""Phase 1: it learns, it can be stopped anywhere, and it refuses what it cannot do before it begins."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from musebridge.config import build, read_toml
from musebridge.errors import CheckpointError, ConfigError, CorpusError
from musebridge.training.data import corpus, prepare
from musebridge.training.metrics.likelihood import nll
from musebridge.training.models import checkpoint
from musebridge.training.models.generator import Generator, GeneratorConfig
from musebridge.training.models.registry import shape_from
from musebridge.training.pretraining.trainer import PretrainConfig, Pretraining, Progress, learning_rate_factor

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = GeneratorConfig(n_layers=1, d_model=32, n_heads=2, n_kv_heads=1, d_ff=64, context=32)
STEP_TOKENS = 4 * 32
RECIPES = Path(__file__).parents[3] / "training" / "recipes"
CONFIG = PretrainConfig(tokens=60 * STEP_TOKENS, batch=4, warmup_steps=5, transpose=2)


class Interruption(Exception):  # noqa: N818  # it stands for Ctrl-C, which is no error either
    """Somebody stops the run."""


def begin(folder: Path, run_dir: Path, config: PretrainConfig = CONFIG, shape: GeneratorConfig = SHAPE) -> Pretraining:
    return Pretraining(corpus.load(folder), run_dir, shape, config, compile=False)


def run(training: Pretraining, stop_after: int | None = None) -> list[float]:
    """Train; return the running loss after each step."""
    losses: list[float] = []

    def on_step(progress: Progress) -> None:
        losses.append(progress.train_nll)
        if progress.step == stop_after:
            raise Interruption

    training.run("musebridge train", on_step, lambda progress: None)
    return losses


@pytest.fixture(scope="module")
def finished(small_corpus, tmp_path_factory) -> tuple[Pretraining, list[float], Path]:
    """A run that nobody disturbed."""
    run_dir = tmp_path_factory.mktemp("runs") / "finished"
    training = begin(small_corpus, run_dir)
    return training, run(training), run_dir


def test_the_loss_falls_from_knowing_nothing(finished):
    training, losses, _ = finished
    assert losses[0] == pytest.approx(math.log(389), abs=1e-4)
    assert losses == sorted(losses, reverse=True)
    assert training.progress.validation_nll < losses[0] - 2


def test_the_budget_is_met_to_the_step(finished):
    training, losses, _ = finished
    assert len(losses) == 60
    assert (training.progress.step, training.progress.tokens) == (60, 60 * STEP_TOKENS)
    assert training.fraction == 1.0


def test_the_weights_carry_how_they_came_to_be(finished, small_corpus):
    training, _, run_dir = finished
    with safe_open(run_dir / checkpoint.WEIGHTS, framework="pt") as file:
        record = json.loads(file.metadata()["record"])
    assert record == {
        "command": "musebridge train",
        "corpus": {"name": "maestro-tiny", "sha256": corpus.load(small_corpus).sha256},
        "mixed": [],
        "licence": "CC BY-NC-SA 4.0",
        "parameters": 2 * 389 * 32 + 2 * 32 * 32 + 2 * 32 * 16 + 2 * 32 * 64,
        "pretrain": asdict(CONFIG),
        **asdict(training.progress),
        "warm_context": 16,
        "history": training.history,
        "init": None,
        "torch": torch.__version__,
    }


def test_the_weights_are_those_that_were_validated(finished, small_corpus):
    training, _, run_dir = finished
    generator, record = checkpoint.load_generator(run_dir)
    for name, weight in training.generator.state_dict().items():
        assert torch.equal(generator.state_dict()[name], weight)
    assert record["validation_nll"] == training.progress.validation_nll == training.history[-1]["validation_nll"]


@pytest.mark.parametrize("stop_after", [1, 13])
def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(finished, small_corpus, tmp_path, stop_after):
    _, losses, undisturbed = finished
    before = begin(small_corpus, tmp_path)
    with pytest.raises(Interruption):
        run(before, stop_after)
    resumed = begin(small_corpus, tmp_path)
    assert resumed.progress.step == stop_after
    assert run(resumed) == losses[stop_after:]
    expected, found = load_file(undisturbed / checkpoint.WEIGHTS), load_file(tmp_path / checkpoint.WEIGHTS)
    assert {name: torch.equal(found[name], weight) for name, weight in expected.items()} == dict.fromkeys(
        expected, True
    )


def test_every_step_takes_the_next_windows_also_after_an_interruption(small_corpus, tmp_path, monkeypatch):
    asked: list[tuple[int, int]] = []
    batch = corpus.Mixture.batch
    monkeypatch.setattr(corpus.Mixture, "batch", lambda self, *which: asked.append(which) or batch(self, *which))
    config = replace(CONFIG, tokens=4 * STEP_TOKENS)
    with pytest.raises(Interruption):
        run(begin(small_corpus, tmp_path, config), stop_after=2)
    run(begin(small_corpus, tmp_path, config))
    assert asked == [(0, 4), (4, 4), (8, 4), (12, 4)]


def test_a_finished_run_is_not_trained_further(finished, small_corpus):
    _, _, run_dir = finished
    weights = load_file(run_dir / checkpoint.WEIGHTS)
    again = begin(small_corpus, run_dir)
    assert run(again) == []
    assert all(torch.equal(weights[name], weight) for name, weight in load_file(run_dir / checkpoint.WEIGHTS).items())


def test_a_larger_budget_goes_on_from_a_finished_run(small_corpus, tmp_path):
    run(begin(small_corpus, tmp_path, replace(CONFIG, tokens=2 * STEP_TOKENS)))
    longer = begin(small_corpus, tmp_path, replace(CONFIG, tokens=5 * STEP_TOKENS))
    assert longer.fraction == pytest.approx(0.4)
    assert len(run(longer)) == 3


def test_every_validation_is_reported_and_kept(small_corpus, tmp_path):
    training, seen = begin(small_corpus, tmp_path, replace(CONFIG, tokens=3 * STEP_TOKENS, validate_s=0.0)), []
    training.run("musebridge train", lambda p: None, lambda p: seen.append((p.step, p.validation_nll)))
    assert [step for step, _ in seen] == [1, 2, 3, 3]
    assert [(row["step"], row["validation_nll"]) for row in training.history] == seen


def test_the_run_is_saved_on_its_way(small_corpus, tmp_path):
    steps: list[int] = []

    def on_step(progress: Progress) -> None:
        state = checkpoint.load_state(tmp_path)
        steps.append(state["progress"]["step"] if state else 0)

    config = replace(CONFIG, tokens=4 * STEP_TOKENS, save_s=0.0)
    begin(small_corpus, tmp_path, config).run("musebridge train", on_step, lambda p: None)
    assert steps == [0, 1, 2, 3]


def test_a_budget_in_seconds_ends_by_training_time(small_corpus, tmp_path):
    training = begin(small_corpus, tmp_path, replace(CONFIG, tokens=0, seconds=100.0))
    training.progress.seconds = 99.999999
    assert len(run(training)) == 1
    assert training.progress.seconds > 100.0


# Schedule


@pytest.mark.parametrize(
    ("step", "fraction", "factor"),
    [
        (0, 0.0, 0.1),
        (4, 0.0, 0.5),
        (9, 0.1, 1.0),
        (500, 0.6, 1.0),
        (500, 0.7, 0.75),
        (500, 0.8, 0.5),
        (500, 1.0, 0.0),
        (500, 1.1, 0.0),
        (4, 0.8, 0.25),
    ],
)
def test_the_learning_rate_rises_stays_and_falls(step, fraction, factor):
    config = PretrainConfig(tokens=1, warmup_steps=10, decay=0.4)
    assert learning_rate_factor(config, step, fraction) == pytest.approx(factor)


def test_no_warmup_begins_at_the_peak():
    assert learning_rate_factor(PretrainConfig(tokens=1, warmup_steps=0), 0, 0.0) == 1.0


def test_each_optimizer_has_its_peak_and_its_share_of_the_weights(small_corpus, tmp_path):
    training = begin(small_corpus, tmp_path, replace(CONFIG, tokens=4 * STEP_TOKENS, warmup_steps=4))
    with pytest.raises(Interruption):
        run(training, stop_after=1)
    groups = [optimizer.param_groups[0] for optimizer in training.optimizers]
    assert [group["lr"] for group in groups] == pytest.approx([0.02 / 4, 3e-3 / 4])
    trained = [id(weight) for group in groups for weight in group["params"]]
    assert sorted(trained) == sorted(map(id, training.generator.parameters()))


def test_a_run_can_begin_with_the_weights_of_another(finished, small_corpus, tmp_path):
    weights = finished[2] / checkpoint.WEIGHTS
    known, record = checkpoint.load_generator(weights)
    half = replace(SHAPE, context=SHAPE.context // 2)
    training = Pretraining(corpus.load(small_corpus), tmp_path, half, CONFIG, init=weights, compile=False)
    for name, weight in known.state_dict().items():
        assert torch.equal(training.generator.state_dict()[name], weight)
    assert training.progress.step == 0
    training.save("musebridge train --init")
    assert begin(small_corpus, tmp_path, shape=half).record("")["init"] == record


def test_weights_of_fewer_layers_are_a_beginning(finished, small_corpus, tmp_path):
    deeper = replace(SHAPE, n_layers=3)
    training = Pretraining(corpus.load(small_corpus), tmp_path, deeper, CONFIG, init=finished[2], compile=False)
    before, validation = checkpoint.load_generator(finished[2])[0], corpus.load(small_corpus).splits["validation"]
    assert nll(training.generator.eval(), validation, warm=16) == nll(before, validation, warm=16)
    run(training)
    assert [bool(block.down.weight.any()) for block in training.generator.blocks] == [True] * 3


@pytest.mark.parametrize("change", [{"n_layers": 2, "d_ff": 32}, {"n_layers": 2, "n_kv_heads": 2}, {"d_ff": 32}])
def test_weights_of_another_shape_are_no_beginning(finished, small_corpus, tmp_path, change):
    with pytest.raises(CheckpointError) as caught:
        Pretraining(
            corpus.load(small_corpus), tmp_path, replace(SHAPE, **change), CONFIG, init=finished[2], compile=False
        )
    assert str(caught.value) == f"{finished[2]}: has another shape than this run: {SHAPE}"


def test_weights_of_more_layers_are_no_beginning(finished, small_corpus, tmp_path):
    deeper = begin(small_corpus, tmp_path / "deeper", shape=replace(SHAPE, n_layers=2))
    deeper.save("musebridge train")
    with pytest.raises(CheckpointError, match=r"has another shape than this run: GeneratorConfig\(n_layers=2"):
        Pretraining(corpus.load(small_corpus), tmp_path, SHAPE, CONFIG, init=tmp_path / "deeper", compile=False)


def test_adamw_trains_the_matrices_too_if_asked(small_corpus, tmp_path):
    training = begin(small_corpus, tmp_path, replace(CONFIG, optimizer="adamw", adam_lr=0.01))
    rest, matrices = training.optimizers[0].param_groups
    assert (rest["weight_decay"], matrices["weight_decay"]) == (0.0, CONFIG.weight_decay)
    assert sorted(id(w) for w in rest["params"] + matrices["params"]) == sorted(
        map(id, training.generator.parameters())
    )
    assert run(training)[-1] < 5


# The average of the weights


def test_the_average_follows_the_weights_and_is_what_is_saved(small_corpus, tmp_path):
    config = replace(CONFIG, tokens=3 * STEP_TOKENS, ema=0.75)
    training = begin(small_corpus, tmp_path, config)
    expected = [weight.detach().clone() for weight in training.generator.parameters()]

    def on_step(progress: Progress) -> None:
        for mean, weight in zip(expected, training.generator.parameters(), strict=True):
            mean.mul_(0.75).add_(weight.detach(), alpha=0.25)

    training.run("musebridge train", on_step, lambda progress: None)
    saved, record = checkpoint.load_generator(tmp_path)
    for mean, weight in zip(expected, saved.parameters(), strict=True):
        torch.testing.assert_close(weight, mean, rtol=2**-8, atol=1e-6)
    assert not torch.equal(saved.embedding.weight, training.generator.embedding.weight)
    assert record["validation_nll"] == nll(saved, corpus.load(small_corpus).splits["validation"], warm=16)


def test_an_interrupted_run_goes_on_with_its_average(small_corpus, tmp_path):
    config = replace(CONFIG, tokens=6 * STEP_TOKENS, ema=0.9)
    run(begin(small_corpus, tmp_path / "whole", config))
    with pytest.raises(Interruption):
        run(begin(small_corpus, tmp_path / "halves", config), stop_after=3)
    run(begin(small_corpus, tmp_path / "halves", config))
    whole, halves = (load_file(tmp_path / name / checkpoint.WEIGHTS) for name in ("whole", "halves"))
    assert all(torch.equal(halves[name], weight) for name, weight in whole.items())


# The end before the budget's


def judged(training: Pretraining, nlls: list[float], monkeypatch) -> list[Tensor]:
    """Let validations give these figures; return the first weight at each."""
    seen: list[Tensor] = []

    def measure(generator: Generator, tokens: object, *, warm: int, limit: int | None) -> float:
        seen.append(generator.embedding.weight.detach().clone())
        return nlls[len(seen) - 1]

    monkeypatch.setattr("musebridge.training.pretraining.trainer.nll", measure)
    run(training)
    return seen


PATIENT = replace(CONFIG, patience=2, validate_s=0.0)


def test_a_run_that_stalls_ends_with_its_best_weights(small_corpus, tmp_path, monkeypatch):
    training = begin(small_corpus, tmp_path, PATIENT)
    seen = judged(training, [5.0, 3.0, 4.0, 3.5, 3.6, 3.3], monkeypatch)
    assert training.progress.step == 4
    assert len(seen) == 6  # four on the way, one at the end, and the whole split with the best weights
    assert torch.equal(seen[-1], seen[1].bfloat16().float())
    assert torch.equal(load_file(tmp_path / checkpoint.WEIGHTS)["embedding.weight"].float(), seen[-1])


def test_patience_survives_an_interruption(small_corpus, tmp_path, monkeypatch):
    first = begin(small_corpus, tmp_path, PATIENT)
    with pytest.raises(IndexError):  # the figures end: an interruption inside the third validation
        judged(first, [3.0, 4.0], monkeypatch)
    again = begin(small_corpus, tmp_path, PATIENT)
    assert torch.equal(again.best["embedding.weight"], first.best["embedding.weight"])
    seen = judged(again, [4.0, 4.0, 4.0], monkeypatch)
    assert again.progress.step == 4
    assert torch.equal(seen[-1], first.best["embedding.weight"].bfloat16().float())


def test_a_run_that_improves_goes_on_to_its_budget(small_corpus, tmp_path, monkeypatch):
    training = begin(small_corpus, tmp_path, replace(PATIENT, tokens=5 * STEP_TOKENS))
    judged(training, [5.0, 4.9, 4.9, 4.8, 4.7, 4.6, 4.65], monkeypatch)
    assert training.progress.step == 5
    assert training.progress.validation_nll == 4.65


# Several corpora


def test_other_corpora_are_mixed_in_and_recorded(small_corpus, tmp_path):
    loaded = corpus.load(small_corpus)
    high = replace(
        loaded,
        card=loaded.card | {"name": "other", "sha256": "0" * 64, "licence": "CC0"},
        splits=loaded.splits | {"train": np.full(500, 127, np.uint16)},
    )
    config = replace(CONFIG, transpose=0, tokens=2 * STEP_TOKENS)
    training = Pretraining(loaded, tmp_path, SHAPE, config, mixed=[(high, 0.25)], compile=False)
    drawn = training.windows.batch(0, 2000)
    assert (drawn == 127).all(1).mean() == pytest.approx(0.25, abs=0.03)
    assert training.record("")["mixed"] == [{"name": "other", "sha256": "0" * 64, "share": 0.25, "licence": "CC0"}]
    run(training)
    with pytest.raises(CheckpointError, match="holds a run of another shape or corpus"):
        begin(small_corpus, tmp_path, config)


def test_shares_that_leave_nothing_for_the_corpus_are_refused(small_corpus, tmp_path):
    loaded = corpus.load(small_corpus)
    with pytest.raises(CorpusError, match="shares of the corpora must each be more than 0"):
        Pretraining(loaded, tmp_path, SHAPE, CONFIG, mixed=[(loaded, 0.5), (loaded, 0.5)], compile=False)


# Refusals


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": 0}, "give the budget either as tokens or as seconds, more than 0"),
        ({"seconds": 5.0}, "give the budget either as tokens or as seconds, more than 0"),
        ({"seconds": float("nan"), "tokens": 0}, "give the budget either as tokens or as seconds, more than 0"),
        ({"batch": 0}, "batch must be at least 1, found 0"),
        ({"decay": 0.0}, "decay must be more than 0 and at most 1, found 0.0"),
        ({"decay": 1.5}, "decay must be more than 0 and at most 1, found 1.5"),
        ({"ema": 1.0}, "ema must be less than 1, found 1.0"),
        ({"patience": -1}, "patience must be at least 0, found -1"),
        ({"optimizer": "sgd"}, "optimizer must be one of muon, adamw, found 'sgd'"),
        ({"clip": 0.0}, "clip must be more than 0, found 0.0"),
        ({"transpose": -1}, "transpose must be in 0..12, found -1"),
        ({"muon_lr": -0.1}, "muon_lr must be at least 0, found -0.1"),
        ({"adam_lr": float("nan")}, "adam_lr must be at least 0, found nan"),
        ({"seed": -1}, "seed must be at least 0, found -1"),
    ],
)
def test_a_setting_outside_its_range_is_one_line(change, message):
    with pytest.raises(ConfigError) as caught:
        replace(CONFIG, **change)
    assert str(caught.value) == message


def test_another_shape_in_the_folder_is_refused(finished, small_corpus):
    with pytest.raises(CheckpointError, match=r"holds a run of another shape or corpus; choose another --run folder$"):
        begin(small_corpus, finished[2], shape=replace(SHAPE, d_ff=32))


def test_another_corpus_in_the_folder_is_refused(finished, midi_tree, tmp_path):
    (tmp_path / "midi").mkdir()
    for path in (midi_tree / "2024").iterdir():
        (tmp_path / "midi" / f"other {path.name}").write_bytes(path.read_bytes())
    prepare.prepare(tmp_path / "midi", tmp_path / "corpus", workers=1)
    with pytest.raises(CheckpointError, match=r"holds a run of another shape or corpus; choose another --run folder$"):
        begin(tmp_path / "corpus", finished[2])


def test_a_damaged_state_is_refused_and_kept(small_corpus, tmp_path):
    (tmp_path / checkpoint.STATE).write_bytes(b"rubbish")
    with pytest.raises(CheckpointError, match=r"is damaged; remove it to start the run anew$"):
        begin(small_corpus, tmp_path)
    assert (tmp_path / checkpoint.STATE).read_bytes() == b"rubbish"


@pytest.mark.parametrize("lost", ["shape", "generator", "optimizers", "progress", "history", "best", "averaged"])
def test_a_state_that_lacks_a_part_is_one_line(finished, small_corpus, tmp_path, lost):
    state = checkpoint.load_state(finished[2])
    checkpoint.save_state(tmp_path, {key: value for key, value in state.items() if key != lost})
    config = replace(CONFIG, ema=0.5)
    with pytest.raises(
        CheckpointError, match=rf"is not the state of a run \('{lost}'\); remove it to start the run anew$"
    ):
        begin(small_corpus, tmp_path, config)


def test_weights_of_another_size_in_a_state_are_one_line(finished, small_corpus, tmp_path):
    state = checkpoint.load_state(finished[2])
    state["generator"] = Generator(replace(SHAPE, d_ff=32)).state_dict()
    checkpoint.save_state(tmp_path, state)
    with pytest.raises(CheckpointError, match="is not the state of a run") as caught:
        begin(small_corpus, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_training_split_that_gives_no_two_windows_is_refused_before_training(small_corpus, tmp_path):
    loaded = corpus.load(small_corpus)
    short = replace(loaded, splits=loaded.splits | {"train": loaded.splits["train"][:65]})
    with pytest.raises(CorpusError, match=r"has 65 tokens; windows of 33 need at least 66$"):
        Pretraining(short, tmp_path, SHAPE, CONFIG, compile=False)


def test_a_validation_split_that_cannot_be_scored_is_refused_before_training(small_corpus, tmp_path):
    with pytest.raises(
        CorpusError, match=r"validation has \d+ tokens, a context of 1200 needs more; prepare more files$"
    ):
        begin(small_corpus, tmp_path, shape=replace(SHAPE, context=1200))


# Recipes


@pytest.mark.parametrize(
    "recipe",
    sorted({*RECIPES.glob("*.toml")} - {*RECIPES.glob("adversarial*.toml")} - {*RECIPES.glob("band-*.toml")}),
    ids=lambda path: path.stem,
)
def test_a_recipe_can_be_trained(recipe):
    tables = read_toml(recipe)
    shape = shape_from(tables.pop("generator"), str(recipe))
    config = build(PretrainConfig, {**tables.pop("pretrain"), "tokens": 1}, str(recipe))
    assert tables == {}
    assert (shape.context, config.batch) != (0, 0)
