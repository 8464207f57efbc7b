"""Phase 1: it learns, it can be stopped anywhere, and it refuses what it cannot do before it begins."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from musebridge.errors import CheckpointError, ConfigError, CorpusError
from musebridge.training import checkpoint, corpus, prepare
from musebridge.training.generator import Generator, GeneratorConfig
from musebridge.training.pretrain import PretrainConfig, Pretraining, Progress, learning_rate_factor

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = GeneratorConfig(n_layers=1, d_model=32, n_heads=2, n_kv_heads=1, d_ff=64, context=32)
STEP_TOKENS = 4 * 32
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
    batch = corpus.Windows.batch
    monkeypatch.setattr(corpus.Windows, "batch", lambda self, *which: asked.append(which) or batch(self, *which))
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


def test_each_optimiser_has_its_peak_and_its_share_of_the_weights(small_corpus, tmp_path):
    training = begin(small_corpus, tmp_path, replace(CONFIG, tokens=4 * STEP_TOKENS, warmup_steps=4))
    with pytest.raises(Interruption):
        run(training, stop_after=1)
    groups = [optimiser.param_groups[0] for optimiser in training.optimisers]
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


def test_weights_of_another_shape_are_no_beginning(finished, small_corpus, tmp_path):
    with pytest.raises(CheckpointError, match="has another shape than this run"):
        Pretraining(
            corpus.load(small_corpus), tmp_path, replace(SHAPE, d_ff=32), CONFIG, init=finished[2], compile=False
        )


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


@pytest.mark.parametrize("lost", ["shape", "generator", "optimisers", "progress", "history"])
def test_a_state_that_lacks_a_part_is_one_line(finished, small_corpus, tmp_path, lost):
    state = checkpoint.load_state(finished[2])
    checkpoint.save_state(tmp_path, {key: value for key, value in state.items() if key != lost})
    with pytest.raises(
        CheckpointError, match=rf"is not the state of a run \('{lost}'\); remove it to start the run anew$"
    ):
        begin(small_corpus, tmp_path)


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
