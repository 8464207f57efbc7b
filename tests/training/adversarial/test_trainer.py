"""Phase 2: it can be stopped anywhere, keeps what was best by other figures than its own, and refuses nonsense."""

from __future__ import annotations

import json
import math
import shutil
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from musebridge.config import RENAMED, build, read_toml
from musebridge.errors import CheckpointError, ConfigError, CorpusError
from musebridge.export.discriminator import export
from musebridge.training.adversarial import critic_trainer, objectives
from musebridge.training.adversarial.config import OBJECTIVES, AdversarialConfig
from musebridge.training.adversarial.discriminator_trainer import corrupted
from musebridge.training.adversarial.pair_trainer import DiscriminatorTraining
from musebridge.training.adversarial.trainer import Adversarial
from musebridge.training.compute.precision import product_type
from musebridge.training.data import corpus
from musebridge.training.metrics.classification import auroc
from musebridge.training.metrics.two_sample import cross_validated_scores
from musebridge.training.models import checkpoint
from musebridge.training.models.critic import Critic
from musebridge.training.models.discriminator import Discriminator, DiscriminatorConfig
from musebridge.training.models.generator import Generator, GeneratorConfig
from musebridge.training.models.reference import ReferenceConfig, ReferenceGenerator
from musebridge.training.models.token_features import branched_token_features, token_features
from musebridge.training.sampling import best_of_n

pytestmark = pytest.mark.usefixtures("one_thread")

GENERATOR = GeneratorConfig(n_layers=1, d_model=16, n_heads=2, n_kv_heads=1, d_ff=16, context=24)
SHAPE = DiscriminatorConfig(n_layers=1, d_model=16, n_heads=2, n_kv_heads=1, d_ff=16, context=24, hidden=8)
TRAINING = DiscriminatorTraining(batch=4, corrupted=0.5, warmup_steps=1, validate_steps=4)
CONFIG = AdversarialConfig(
    tokens=6 * 4 * 12, seed_length=8, continuation_length=12, pairs=32, held_out=24, eval_pairs=16, batch=4,
    samples_per_seed=2, ce_context=23, ce_batch=1, lr=1e-3, patience=0, validate_s=1e9, save_s=1e9, nll_rise=9.0,
    distinct=0.0, warmup_steps=1,
)  # fmt: skip
STEPS = 6
COMMAND = "musebridge train --phase adversarial"
RECIPES = Path(__file__).parents[3] / "training" / "recipes"


@pytest.fixture(scope="module")
def init(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("init") / checkpoint.WEIGHTS
    torch.manual_seed(0)
    generator = Generator(GENERATOR)
    for weight in generator.parameters():
        torch.nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
    checkpoint.save_generator(path, generator, {"command": "musebridge train"})
    return path


def music(folder: Path) -> corpus.Corpus:
    """The small corpus, with enough pieces to validate on."""
    loaded = corpus.load(folder)
    return replace(loaded, splits=loaded.splits | {"validation": loaded.splits["train"]})


def begin(folder: Path, init: Path, run_dir: Path, config: AdversarialConfig = CONFIG) -> Adversarial:
    return prepared(Adversarial(music(folder), run_dir, init, SHAPE, TRAINING, config, command=COMMAND, compile=False))


def prepared(training: Adversarial, on_stage=lambda stage, share: None) -> Adversarial:
    training.prepare(on_stage)
    return training


def run(training: Adversarial, stop_after: int | None = None) -> list[float]:
    losses: list[float] = []

    def on_step(progress) -> None:
        losses.append(progress.loss)
        if progress.step == stop_after:
            raise KeyboardInterrupt

    training.run(on_step, lambda row: None)
    return losses


def test_its_discriminator_can_be_exported(small_corpus, init, tmp_path):
    training = begin(small_corpus, init, tmp_path)
    info = export(tmp_path / "discriminator", tmp_path / "d.onnx", precision="fp32")
    assert (info.seed_length, info.continuation_length) == (8, 12)
    assert info.validation_auroc == max(row["auroc"] for row in training.prepared.discriminator_trainer.history)
    assert (info.record["command"], info.record["pairs"]) == (COMMAND, 32)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(small_corpus, init, tmp_path, objective):
    config = replace(CONFIG, objective=objective)
    losses = run(begin(small_corpus, init, tmp_path / "whole", config))
    assert len(losses) == STEPS
    with pytest.raises(KeyboardInterrupt):
        run(begin(small_corpus, init, tmp_path / "halves", config), stop_after=2)
    assert run(begin(small_corpus, init, tmp_path / "halves", config)) == losses[2:]
    whole, halves = (checkpoint.load_state(tmp_path / name) for name in ("whole", "halves"))
    assert all(torch.equal(halves["generator"][name], weight) for name, weight in whole["generator"].items())
    assert torch.equal(halves["replay_buffer"], whole["replay_buffer"])


def test_a_run_with_the_old_names_in_its_files_goes_on(small_corpus, init, tmp_path):
    losses = run(begin(small_corpus, init, tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        run(begin(small_corpus, init, tmp_path / "old"), stop_after=2)
    for folder in (tmp_path / "old", tmp_path / "old" / "discriminator"):
        state = checkpoint.load_state(folder)
        assert {"optimizers"} <= state.keys()
        checkpoint.save_state(folder, with_old_names(state))
    for card in (tmp_path / "old" / "samples").glob("*/samples.json"):
        told = json.loads(card.read_text())
        assert {"seed_length", "continuation_length"} <= told.keys()
        card.write_text(json.dumps(with_old_names(told)))
    assert run(begin(small_corpus, init, tmp_path / "old")) == losses[2:]


def with_old_names(table: dict[str, Any]) -> dict[str, Any]:
    old = {new: old for old, new in RENAMED.items()}
    return {old.get(key, key): with_old_names(value) if key == "window" else value for key, value in table.items()}


def test_a_configuration_with_the_old_names_is_the_same():
    old = {
        "seeded": 8, "continued": 12, "judged": 16, "batch": 4, "parts": 2, "anchor": 0.5, "anchor_context": 23,
        "anchor_batch": 1, "faithful": True, "feedback": 1, "sharpness": 0.1, "n": 2, "tokens": 1,
    }  # fmt: skip
    new = AdversarialConfig(
        seed_length=8, continuation_length=12, eval_pairs=16, batch=4, grad_accumulation=2, ce_weight=0.5,
        ce_context=23, ce_batch=1, sequential=True, jacobi_iterations=1, beta=0.1, samples_per_seed=2, tokens=1,
    )  # fmt: skip
    assert build(AdversarialConfig, old, "adversarial") == new
    assert build(DiscriminatorTraining, {"spoilt": 0.5}, "discrimination") == DiscriminatorTraining(corrupted=0.5)


def test_a_step_in_parts_is_the_step_of_the_whole(small_corpus, init, tmp_path):
    """Where nothing is drawn and nobody is taught."""
    whole, parts = (replace(CONFIG, objective="ddo", discriminator_lr=0.0, grad_accumulation=parts) for parts in (1, 4))
    losses, gradients = [], []
    for config in whole, parts:
        training = begin(small_corpus, init, tmp_path / str(config.grad_accumulation), config)
        training.step()
        losses.append(training.progress.loss)
        moments = (training.optimizer.state[weight]["exp_avg"].flatten() for weight in training.generator.parameters())
        gradients.append(torch.cat([*moments]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    # Of all weights together: the smallest gradients are mostly the rounding of products.
    assert torch.dist(*gradients) < 0.02 * torch.linalg.norm(gradients[0])


def test_parts_of_a_step_are_written_anew(small_corpus, init, tmp_path, monkeypatch):
    """The same noise for every part would be one part many times over."""
    config = replace(CONFIG, objective="policy_gradient", grad_accumulation=4, samples_per_seed=2)
    training, rows = begin(small_corpus, init, tmp_path, config), []
    noise = best_of_n.gumbel_noise
    monkeypatch.setattr(best_of_n, "gumbel_noise", lambda *asked: rows.append(noise(*asked)) or rows[-1])
    training.step()
    assert len(rows) == 4
    assert len({tuple(row_BTV[0, 0].tolist()) for row_BTV in rows}) == 4


def test_it_begins_with_samples_and_a_discriminator_that_are_kept(small_corpus, init, tmp_path, monkeypatch):
    told: list[tuple[str, float]] = []
    training = Adversarial(music(small_corpus), tmp_path, init, SHAPE, TRAINING, CONFIG, command=COMMAND, compile=False)
    assert not any(tmp_path.iterdir())
    training.prepare(lambda stage, share: told.append((stage, share)))
    assert told[:2] == [("sampling train continuations", 1.0), ("sampling validation continuations", 1.0)]
    assert told[2:] == [("training the discriminator", (i + 1) / 8) for i in range(8)]
    assert [row["step"] for row in training.prepared.discriminator_trainer.history] == [4, 8]
    assert not set(training.prepared.discriminator_trainer.choosing.piece_N) & set(
        training.prepared.discriminator_trainer.reported.piece_N
    )
    monkeypatch.setattr(
        "musebridge.training.sampling.pairs.sample_with_token_features", lambda *_, **__: pytest.fail("again")
    )
    again = begin(small_corpus, init, tmp_path)
    assert again.prepared.discriminator_trainer.history == training.prepared.discriminator_trainer.history


def test_what_is_corrupted_is_real_music_in_another_order_or_after_another_seed():
    real_NT = np.arange(40 * 192).reshape(40, 192)
    wrong_NT = corrupted(real_NT, 40, np.random.default_rng(0))
    of = [set(row_T // 192) for row_T in wrong_NT]
    others = [i for i in range(40) if of[i] == {(i - 1) % 40}]
    reordered = [i for i in range(40) if of[i] == {i}]
    assert sorted(others + reordered) == list(range(40))
    assert all((wrong_NT[i] == real_NT[i - 1]).all() for i in others)
    assert all((np.sort(wrong_NT[i]) == real_NT[i]).all() for i in reordered)
    assert not (wrong_NT == real_NT).all(1).any()
    kept = {sum(np.diff(wrong_NT[i]) == 1) for i in reordered}
    assert min(kept) < 20 < 160 < max(kept)  # from single tokens to long blocks


def test_a_step_learns_from_corrupted_music_and_what_the_generator_thinks_of_it(small_corpus, init, tmp_path):
    heard: list[tuple[torch.Tensor, torch.Tensor]] = []

    def loss(discriminator, window_MT, features_MTF, seed_length):
        heard.append((window_MT, features_MTF))
        return discriminator(window_MT, features_MTF, seed_length).whole_B.mean()

    trainer = begin(small_corpus, init, tmp_path).prepared.discriminator_trainer
    trainer.loss = loss
    at = np.arange(4)
    trainer._loss(at)
    window_MT, features_MTF = heard[0]
    pairs = trainer.train[at]
    changed_M = (window_MT.numpy() != pairs.windows).any(1)
    assert changed_M.tolist() == [False] * 4 + [True, True, False, False]
    assert (window_MT[:, :8].numpy() == np.tile(pairs.seed_NT, (2, 1))).all()
    expected_MTF = token_features(trainer._frozen, window_MT)
    torch.testing.assert_close(features_MTF, expected_MTF, atol=0.02, rtol=0.01)  # most were kept in float16


def test_a_critic_guesses_the_verdict_from_what_it_has_heard_so_far(small_corpus, init, tmp_path):
    config = replace(CONFIG, objective="actor_critic", pairs=64, held_out=48)
    trainer = replace(TRAINING, passes=6, validate_steps=24)
    given = music(small_corpus), tmp_path, init, SHAPE, trainer, config
    training = prepared(Adversarial(*given, command=COMMAND, compile=False))
    assert training.models.critic_trainer is not None
    explained = [row["explained"] for row in training.models.critic_trainer.history]
    assert len(explained) == 4
    assert explained[0] < explained[-1] < 1  # so few steps: it has not found the verdicts' mean yet
    window_MT = torch.randint(0, 388, (4, 20))
    changed_MT = window_MT.clone()
    changed_MT[:, 14:] = torch.randint(0, 388, (4, 6))
    judge, frozen = training.models.critic_trainer.critic, training.frozen
    value_MC, changed_MC = (judge(tokens, token_features(frozen, tokens), 8) for tokens in (window_MT, changed_MT))
    assert value_MC.shape == (4, 13)
    torch.testing.assert_close(changed_MC[:, :7], value_MC[:, :7])  # 8 of the seed and 6 more are the same
    assert not torch.isclose(changed_MC[:, 7:], value_MC[:, 7:]).any()


def test_a_critic_begins_with_what_the_discriminator_would_say_if_it_heard_no_later_token():
    torch.manual_seed(0)
    discriminator = Discriminator(SHAPE).eval()
    judge = Discriminator(replace(SHAPE, causal=True)).eval()
    judge.load_state_dict(discriminator.state_dict())
    model = Critic(discriminator).eval()
    window_BT, features_BTF = torch.randint(0, 388, (3, 20)), torch.rand(3, 20, 3)
    value_BC = model(window_BT, features_BTF, 8)
    token_BC = judge(window_BT, features_BTF, 7).token_BC
    assert value_BC.shape == (3, 13)
    torch.testing.assert_close(value_BC[:, -1], judge(window_BT, features_BTF, 8).whole_B)
    torch.testing.assert_close(value_BC[:, 0], token_BC[:, 0])
    third_B = judge(window_BT[:, :12], features_BTF[:, :12], 8).whole_B / 3 + token_BC[:, 4] * 2 / 3
    torch.testing.assert_close(value_BC[:, 4], third_B)


def test_a_critic_is_asked_to_foresee_the_verdict_and_what_it_will_guess_a_token_later():
    def guess(window_BT: torch.Tensor, features_BTF: torch.Tensor, seed_length: int) -> torch.Tensor:
        return value_BC

    value_BC = torch.tensor([[0.0, 1.0, 3.0]], requires_grad=True)
    critic_trainer._loss(guess, torch.zeros(1, 2), torch.zeros(1, 2, 3), torch.tensor([2.0]), 1).backward()
    verdict_C = 2 * (value_BC.detach() - 2) / 3
    later_C = critic_trainer._STEADY * 2 * torch.tensor([[0.0 - 1.0, 1.0 - 3.0, 0.0]]) / 2
    torch.testing.assert_close(value_BC.grad, verdict_C + later_C)


def test_an_interrupted_critic_goes_on_with_the_verdicts_it_had(small_corpus, init, tmp_path, monkeypatch):
    config = replace(CONFIG, objective="actor_critic")
    trainer = replace(TRAINING, passes=2)

    def stop(stage: str, share: float) -> None:
        if stage == "training the critic" and share > 0.5:
            raise KeyboardInterrupt

    def begun() -> Adversarial:
        given = music(small_corpus), tmp_path, init, SHAPE, trainer, config
        return Adversarial(*given, command=COMMAND, compile=False)

    with pytest.raises(KeyboardInterrupt):
        prepared(begun(), stop)
    monkeypatch.setattr(critic_trainer, "_verdicts", lambda discriminator, pairs: pytest.fail("asked again"))
    training = prepared(begun())
    assert training.models.critic_trainer is not None
    assert training.models.critic_trainer.has_ended


def test_a_critic_of_another_discriminator_is_begun_anew(small_corpus, init, tmp_path):
    config = replace(CONFIG, objective="actor_critic")
    first = begin(small_corpus, init, tmp_path, config)
    other = begin(small_corpus, init, tmp_path / "other", replace(config, seed=1))
    shutil.rmtree(tmp_path / "discriminator")
    shutil.copytree(tmp_path / "other" / "discriminator", tmp_path / "discriminator")
    again = begin(small_corpus, init, tmp_path, config)
    assert again.models.critic_trainer is not None
    assert first.models.critic_trainer is not None
    expected_N = critic_trainer._verdicts(other.discriminator, again.train)
    np.testing.assert_allclose(again.models.critic_trainer.verdict_N, expected_N, atol=1e-3)
    assert not np.allclose(again.models.critic_trainer.verdict_N, first.models.critic_trainer.verdict_N, atol=1e-2)


def test_the_actor_critic_learns_of_kept_continuations_what_the_discriminator_says_of_each(
    small_corpus, init, tmp_path
):
    training = begin(small_corpus, init, tmp_path, replace(CONFIG, objective="actor_critic", batch=12, pairs=32))
    inner, given = training.objective.loss, list[tuple]()

    def loss(*asked):
        given.append(asked)
        return inner(*asked)

    training.objective.loss = loss
    for _ in range(3):
        training.step()
    window_MT = torch.cat([window_BT for _, _, window_BT, *_ in given])
    assert torch.equal(window_MT[32:], window_MT[:4])  # the next pass
    written_NT = np.concatenate([training.train.seed_NT, training.train.fake_NT], 1)
    assert (window_MT[:32].numpy() == written_NT).all()
    verdict_M = torch.cat([verdict_B for *_, verdict_B, _, _ in given])
    torch.testing.assert_close(
        verdict_M, training.models.scorer(*torch.tensor_split(window_MT, [8], 1)), atol=0.02, rtol=0.02
    )
    assert verdict_M[:32].std() > 0.02  # so that the line above can fail


def test_progress_tells_how_real_what_was_written_seemed(small_corpus, init, tmp_path):
    training = begin(small_corpus, init, tmp_path, replace(CONFIG, objective="best_of_n", discriminator_lr=0.0))
    seen: list[torch.Tensor] = []
    inner = training.models.scorer

    def score(seed_BT: torch.Tensor, written_MC: torch.Tensor) -> torch.Tensor:
        seen.append(inner(seed_BT, written_MC))
        return seen[-1]

    training.models = replace(training.models, scorer=score)
    assert math.isnan(training.progress.verdict)
    training.step()
    training.step()
    first, second = (verdict_M.mean().item() for verdict_M in seen)
    assert training.progress.verdict == pytest.approx(0.95 * first + 0.05 * second)


def test_the_first_candidate_is_what_phase_1_left(small_corpus, init, tmp_path):
    training = begin(small_corpus, init, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(training, stop_after=2)
    assert [row["step"] for row in training.history] == [0]
    before, shipped = load_file(init), load_file(tmp_path / checkpoint.WEIGHTS)
    assert all(torch.equal(shipped[name], weight.bfloat16()) for name, weight in before.items())
    assert not torch.equal(training.generator.head.weight, training.frozen.head.weight)


def measured(training: Adversarial, rows: list[tuple[float, float, float]], monkeypatch) -> list[bool]:
    """Let measurements give these figures of NLL, distinct-4 and judge; return which were taken."""
    figures = iter(rows)
    monkeypatch.setattr(
        training.selector,
        "measure",
        lambda _: dict(zip(("nll", "distinct_4", "judge_auroc"), next(figures), strict=True)),
    )
    run(training)
    return [bool(row["taken"]) for row in training.history]


@pytest.mark.parametrize(
    ("rows", "taken"),
    [
        ([(2, 1, 0.8), (2, 1, 0.7), (2, 1, 0.75), (2, 1, 0.72)], [True, True, False, False]),  # patience is over
        ([(2, 1, 0.7), (2, 1, 0.709), (2, 1, 0.711), (2, 1, 0.72)], [True, True, False, False]),  # chance once
        ([(2, 1, 0.8), (2.2, 1, 0.6)], [True, False]),  # no musician any more
        ([(2, 1, 0.8), (2, 0.8, 0.6)], [True, False]),  # always the same
    ],
)
def test_checkpoints_are_chosen_by_metric_and_overshoot_ends_the_run(
    small_corpus, init, tmp_path, monkeypatch, rows, taken
):
    config = replace(CONFIG, patience=2, validate_s=0.0, nll_rise=0.05, distinct=0.95)
    training = begin(small_corpus, init, tmp_path, config)
    assert measured(training, rows, monkeypatch) == taken
    assert training.has_ended
    assert begin(small_corpus, init, tmp_path, config).has_ended


def test_a_discriminator_that_is_too_good_waits(small_corpus, init, tmp_path):
    training = begin(small_corpus, init, tmp_path, replace(CONFIG, pause_above=0.0))
    before = {name: weight.clone() for name, weight in training.discriminator.state_dict().items()}
    run(training)
    assert training.progress.paused == STEPS
    assert all(torch.equal(weight, before[name]) for name, weight in training.discriminator.state_dict().items())


def test_a_discriminator_that_learns_no_more_is_not_asked_either(small_corpus, init, tmp_path):
    training = begin(small_corpus, init, tmp_path, replace(CONFIG, discriminator_lr=0.0))
    before = {name: weight.clone() for name, weight in training.discriminator.state_dict().items()}
    training.models = replace(training.models, scorer=None)  # so asking it would fail
    run(training)
    assert training.progress.step == STEPS
    assert all(torch.equal(weight, before[name]) for name, weight in training.discriminator.state_dict().items())


def test_a_run_of_another_objective_is_refused(small_corpus, init, tmp_path):
    run(begin(small_corpus, init, tmp_path))
    with pytest.raises(CheckpointError, match="holds another run; choose another --run folder"):
        begin(small_corpus, init, tmp_path, replace(CONFIG, objective="ddo"))


def test_a_corpus_of_too_few_pieces_to_validate_on_is_refused(small_corpus, init, tmp_path):
    with pytest.raises(CorpusError, match="validation has 2 pieces, 4 are needed"):
        Adversarial(
            corpus.load(small_corpus), tmp_path / "run", init, SHAPE, TRAINING, CONFIG, command=COMMAND, compile=False
        )
    assert not (tmp_path / "run").exists()


def test_a_reference_generator_is_refused(small_corpus, tmp_path):
    shape = ReferenceConfig(n_layers=1, d_model=16, n_heads=2, d_ff=16, context=24)
    checkpoint.save_generator(tmp_path / "r.safetensors", ReferenceGenerator(shape), {})
    with pytest.raises(CheckpointError, match="only the default kind can be"):
        begin(small_corpus, tmp_path / "r.safetensors", tmp_path / "run")


def test_windows_that_do_not_fit_are_refused_before_anything_is_sampled(small_corpus, init, tmp_path):
    with pytest.raises(ConfigError, match="must fit 24 tokens of context, found 25 and 23"):
        begin(small_corpus, init, tmp_path / "run", replace(CONFIG, continuation_length=17))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seconds": 5.0}, "give the budget either as tokens or as seconds, more than 0"),
        ({"objective": "dpo", "samples_per_seed": 1}, "samples_per_seed must be at least 2 for dpo, found 1"),
        ({"objective": "wgan"}, f"objective must be one of {', '.join(OBJECTIVES)}, found 'wgan'"),
        ({"batch": 0}, "batch must be at least 1, found 0"),
        ({"jacobi_iterations": -1}, "jacobi_iterations must be at least 0, found -1"),
        ({"temperature": 0.0}, "temperature must be more than 0, found 0.0"),
        ({"replay": 1.5}, "replay must be in 0..1, found 1.5"),
        ({"ema": 1.0}, "ema must be less than 1, found 1.0"),
    ],
)
def test_a_setting_outside_its_range_is_one_line(change, message):
    with pytest.raises(ConfigError) as caught:
        replace(CONFIG, **change)
    assert str(caught.value) == message


# Objectives


def test_ddo_raises_the_ratio_of_real_music_and_lowers_its_own():
    torch.manual_seed(0)
    frozen = Generator(GENERATOR).requires_grad_(False)
    generator = Generator(GENERATOR)
    window_MT = torch.randint(0, 388, (8, 20))
    assert objectives.ddo_loss(generator, frozen, window_MT, 8, 0.5).item() == pytest.approx(2 * np.log(2), abs=1e-5)
    optimizer = torch.optim.Adam(generator.parameters(), 0.01)
    for _ in range(20):
        optimizer.zero_grad()
        objectives.ddo_loss(generator, frozen, window_MT, 8, 0.5).backward()
        optimizer.step()
    with torch.no_grad():
        ratio_M = objectives.log_likelihood(generator, window_MT, 8) - objectives.log_likelihood(frozen, window_MT, 8)
    assert ratio_M[:4].min() > 0 > ratio_M[4:].max()


def test_dpo_brings_likelihood_ratios_into_the_order_of_the_ranking():
    torch.manual_seed(0)
    frozen = Generator(GENERATOR).requires_grad_(False)
    generator = Generator(GENERATOR)
    window_BNT = torch.randint(0, 388, (2, 4, 20))
    unmoved = np.log([4, 3, 2]).mean()  # of 4 one is first, of 3 one is next
    assert objectives.dpo_loss(generator, frozen, window_BNT, 8, 0.5).item() == pytest.approx(unmoved, abs=1e-5)
    optimizer = torch.optim.Adam(generator.parameters(), 0.01)
    for _ in range(20):
        optimizer.zero_grad()
        objectives.dpo_loss(generator, frozen, window_BNT, 8, 0.5).backward()
        optimizer.step()
    window_MT = window_BNT.flatten(0, 1)
    with torch.no_grad():
        ratio_M = objectives.log_likelihood(generator, window_MT, 8) - objectives.log_likelihood(frozen, window_MT, 8)
    assert (ratio_M.view(2, 4).diff(dim=1) < 0).all()


def test_the_actor_critic_ends_where_verdict_and_divergence_balance_whatever_the_critic_expects():
    torch.manual_seed(0)
    frozen = Generator(GENERATOR).requires_grad_(False)
    generator = deepcopy(frozen).requires_grad_(True)
    seed_T, wanted, count = torch.randint(0, 388, (8,)), 60, 4096
    with torch.no_grad():
        before_V = frozen(seed_T[None])[0, -1, :388].softmax(-1)
    written_N = torch.searchsorted(before_V.cumsum(0), (torch.arange(count) + 0.5) / count).clamp(max=387)
    window_NT = torch.cat([seed_T.expand(count, -1), written_N[:, None]], 1)
    with torch.no_grad():
        features_NTF = token_features(frozen, window_NT)

    class Expecting(Critic):
        def forward(self, window_BT, features_BTF, seed_length):
            return torch.tensor([1.0, 7.0]).expand(len(window_BT), -1)  # the guess after the last token is not asked

    given = Expecting(Discriminator(SHAPE)), window_NT, features_NTF, 3.0 * (written_N == wanted), 8, 1.0
    optimizer = torch.optim.Adam(generator.parameters(), 0.006)
    for _ in range(70):
        optimizer.zero_grad()
        objectives.actor_critic_loss(generator, *given).backward()
        optimizer.step()
    with torch.no_grad():
        after_V = generator(seed_T[None])[0, -1, :388].softmax(-1)
    tilted_V = before_V * torch.where(torch.arange(388) == wanted, np.exp(3.0), 1.0)
    assert before_V[wanted] < 0.01
    assert after_V[wanted].item() == pytest.approx((tilted_V / tilted_V.sum())[wanted].item(), rel=0.1)


def test_the_policy_gradient_ends_where_score_and_divergence_balance():
    """At a weight of 1 that is where the frozen distribution is tilted by the exponential of the score."""
    torch.manual_seed(0)
    frozen = Generator(GENERATOR).requires_grad_(False)
    generator = deepcopy(frozen).requires_grad_(True)
    wanted, seed_NT = 60, torch.randint(0, 388, (512, 8))
    with torch.no_grad():
        before_V = frozen(seed_NT[:1])[0, -1, :388].softmax(-1)
    optimizer = torch.optim.Adam(generator.parameters(), 0.003)
    for _ in range(150):
        with torch.no_grad():
            written_N1 = generator(seed_NT[:1])[0, -1, :388].softmax(-1).multinomial(512, replacement=True)[:, None]
        features_NTF = branched_token_features(frozen, seed_NT[:1], written_N1)
        ahead_N = objectives.leave_one_out_advantage(4.0 * (wanted == written_N1.T))[0]
        optimizer.zero_grad()
        objectives.policy_gradient_loss(generator, seed_NT[:1], written_N1, features_NTF, ahead_N, 1.0).backward()
        optimizer.step()
    tilted_V = before_V * torch.where(torch.arange(388) == wanted, np.exp(4.0), 1.0)
    with torch.no_grad():
        after_V = generator(seed_NT[:1])[0, -1, :388].softmax(-1)
    assert before_V[wanted] < 0.01
    assert after_V[wanted].item() == pytest.approx((tilted_V / tilted_V.sum())[wanted].item(), rel=0.25)


def test_a_continuation_is_compared_with_the_others_of_its_seed():
    """With itself among them the comparison, and so what is learnt, would be smaller the fewer there are."""
    ahead_BN = objectives.leave_one_out_advantage(torch.tensor([[1.0, 2.0, 6.0], [0.0, 0.0, 3.0]]))
    torch.testing.assert_close(ahead_BN, torch.tensor([[-3.0, -1.5, 4.5], [-1.5, -1.5, 3.0]]))


def test_candidates_are_scored_and_ranked(init):
    generator, _ = checkpoint.load_generator(init)
    seed_BT = torch.randint(0, 388, (3, 5), generator=torch.Generator().manual_seed(1))
    rng = torch.Generator().manual_seed(2)
    score = lambda seed_BT, written_MC: written_MC.double().mean(1)  # noqa: E731
    window_BNT, score_BN = best_of_n.scored(generator, score, seed_BT, 6, 4, rng)
    best_BNT = best_of_n.ranked(window_BNT, score_BN)[..., 5:]
    noise_NTV = best_of_n.gumbel_noise(12, 6, torch.Generator().manual_seed(2))
    dtype = product_type(seed_BT.device)
    all_BNT = objectives.sample(generator, seed_BT.repeat_interleave(4, 0), noise_NTV, dtype=dtype).view(3, 4, 6)
    by_score = all_BNT.double().mean(2).sort(1, descending=True).values
    assert torch.equal(best_BNT.double().mean(2), by_score)
    assert torch.equal(window_BNT[..., 5:], all_BNT)
    assert torch.equal(window_BNT[..., :5], seed_BT[:, None].expand(-1, 4, -1))


# What chooses


def test_a_fresh_judge_is_scored_on_pieces_it_does_not_know():
    rng = np.random.default_rng(0)
    piece_N = np.repeat(np.arange(20), 5)
    by_heart_NF = np.eye(20)[piece_N]  # names the piece: nothing that carries over to another
    assert auroc(*cross_validated_scores(by_heart_NF, by_heart_NF + 1e-3 * rng.normal(size=(100, 20)), piece_N)) < 0.75
    assert auroc(*cross_validated_scores(rng.normal(size=(100, 2)) + 2, rng.normal(size=(100, 2)), piece_N)) > 0.95


# Recipes


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("adversarial*.toml")), ids=lambda path: path.stem)
def test_a_recipe_can_be_run(recipe):
    tables = read_toml(recipe)
    build(AdversarialConfig, {**tables.pop("adversarial"), "tokens": 1}, str(recipe))
    build(DiscriminatorConfig, tables.pop("discriminator", {}), str(recipe))
    build(DiscriminatorTraining, tables.pop("discrimination", {}), str(recipe))
    assert tables == {}
