"""The evaluation protocol: what is like real music is found to be, noise is not, and what is told chose nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from musebridge import vocab
from musebridge.errors import ConfigError, CorpusError
from musebridge.training.data import corpus
from musebridge.training.metrics.bootstrap import Estimate
from musebridge.training.models.checkpoint import WEIGHTS, save_generator
from musebridge.training.models.generator import Generator, GeneratorConfig
from musebridge.training.sampling.pairs import Window
from musebridge.training.sampling.sampler import Truncation
from musebridge.training.study import note_transformer, protocol, sweep, systems
from musebridge.training.study.classifiers import classifiers, shorter
from musebridge.training.study.comparison import FRECHET, MMD, OVERLAP, compare
from musebridge.training.study.comparison_report import claims, write_report
from musebridge.training.study.note_transformer import TransformerTraining
from musebridge.training.study.protocol import Plan
from musebridge.training.study.systems import Music, System, WindowSet, real_music

pytestmark = pytest.mark.usefixtures("one_thread")

TRAINING = TransformerTraining(steps=30, batch=16, shape=note_transformer.small(16))
WINDOW = Window(seed_length=12, continuation_length=24)
SHAPE = GeneratorConfig(n_layers=1, d_model=16, n_heads=2, n_kv_heads=1, d_ff=16, context=40)


def windows(rng: np.random.Generator, count: int, *, spread: int = 12) -> np.ndarray:
    """Return windows of ten notes whose pitches lie within ``spread``."""
    pitch = rng.integers(60, 60 + spread, (count, 9))
    velocity = vocab.VELOCITY + rng.integers(10, 20, (count, 9))
    shift = vocab.TIME_SHIFT + rng.integers(3, 20, (count, 9))
    return np.stack([velocity, pitch, shift, pitch + vocab.NOTE_OFF], -1).reshape(count, -1)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def music(rng) -> Music:
    def part(count: int, first: int) -> WindowSet:
        return WindowSet(window_NT=windows(rng, count), piece_N=first + np.arange(count) // 8)

    return Music(choosing=part(16, 100), reported=part(96, 0), more=part(40, 200), window=WINDOW)


@pytest.fixture
def tokens(small_corpus) -> np.ndarray:
    return corpus.load(small_corpus).splits["train"]


def a_generator(seed: int) -> Generator:
    torch.manual_seed(seed)
    generator = Generator(SHAPE)
    torch.nn.init.normal_(generator.head.weight, std=0.3)
    return generator.eval().requires_grad_(False)


# What is measured


def test_real_music_is_told_by_no_judge_noise_by_each_and_gains_have_the_right_sign(music, rng):
    noise = rng.integers(0, vocab.N_EVENTS, (96, 24))
    narrow, same = (windows(rng, 96, spread=spread)[:, WINDOW.seed_length :] for spread in (3, 12))
    found = compare(
        {"narrow": [narrow], "the same": [same], "noise": [noise]},
        music,
        windows(rng, 50).flatten().astype(np.uint16),
        classifiers(TRAINING),
        classifiers(shorter(TRAINING, 0.2)),
        resamples=100,
    )
    first, same_, noisy = found.standings.values()
    trees, transformer = found.judges
    for judge in found.judges:
        assert noisy.figures[judge].value > 0.95
        assert 0.35 < same_.figures[judge].value < 0.65
        assert noisy.lead[judge].low > 0.2
    assert same_.gains[trees].low > 0.1
    for what in (FRECHET, MMD, OVERLAP):
        assert same_.gains[what].low > 0
        assert noisy.lead[what].low > 0
        assert first.gains[what] == Estimate(value=0.0, low=0.0, high=0.0)
    assert first.figures[trees].value > 0.8
    assert same_.distinct4 > first.distinct4
    assert found.controls["real against real"].keys() == {trees, transformer}
    for judge in found.judges:
        assert 0.35 < found.controls["real against real"][judge].value < 0.65
        assert 0.3 < found.controls["shuffled labels"][judge].value < 0.7


def test_several_samplings_are_means_of_each(music, rng):
    parts = [windows(rng, 96)[:, WINDOW.seed_length :] for _ in range(4)]
    train = windows(rng, 50).flatten().astype(np.uint16)
    found = compare(
        {"a": parts[:2], "b": parts[2:]},
        music,
        train,
        classifiers(TRAINING)[:1],
        classifiers(TRAINING)[:1],
        resamples=50,
    )
    for standing in found.standings.values():
        assert standing.figures["boosted trees"].value == pytest.approx(np.mean(standing.aurocs["boosted trees"]))
        assert len(set(standing.aurocs["boosted trees"])) == 2


def test_what_is_said_of_a_system_does_not_depend_on_the_others(music, rng):
    narrow, same, *relatives = (windows(rng, 96, spread=x)[:, WINDOW.seed_length :] for x in (3, 12, 11, 13))
    train = windows(rng, 50).flatten().astype(np.uint16)
    both = {"narrow": [narrow], "the same": [same]}
    more = {**both, **{str(i): [relative_NT] for i, relative_NT in enumerate(relatives)}}
    kinds = classifiers(TRAINING), classifiers(shorter(TRAINING, 0.2))
    of_two, of_four = (compare(written, music, train, *kinds, resamples=50).standings for written in (both, more))
    for name in both:
        assert of_two[name].figures == of_four[name].figures


# Real music and systems


def test_what_is_reported_is_of_other_pieces_than_what_chooses(tokens):
    found = real_music(tokens, WINDOW, 20)
    assert len(found.reported) == 20
    assert not set(found.reported.piece_N) & set(found.choosing.piece_N)
    every = real_music(tokens, WINDOW, 10**6)
    assert len(found.more) == len(every.choosing) + len(every.reported) - 20
    assert len(every.reported) > 20
    assert set(real_music(tokens, WINDOW, 3).reported.piece_N) == {1, 3, 5}


def test_too_few_pieces_are_one_line(tokens):
    with pytest.raises(CorpusError, match="2 even pieces of 36 tokens or more are needed; prepare longer pieces"):
        real_music(tokens[:100], WINDOW, 4)


def test_what_was_sampled_is_not_sampled_again_and_of_another_system_it_is(tokens, tmp_path, monkeypatch):
    part = real_music(tokens, WINDOW, 10).reported
    system = System(name="one", generator=a_generator(0))
    whole = system.continuations(part, WINDOW, tmp_path / "whole", shard=4)
    assert (system.continuations(part[:4], WINDOW, tmp_path / "parts", shard=4) == whole[:4]).all()
    asked: list[int] = []
    sampled = systems.sample_continuations

    def counted(generator, seed_BT, *rest, **more):
        asked.append(len(seed_BT))
        return sampled(generator, seed_BT, *rest, **more)

    monkeypatch.setattr(systems, "sample_continuations", counted)
    assert (system.continuations(part, WINDOW, tmp_path / "parts", shard=4) == whole).all()
    assert sorted(asked) == [2, 4]
    system.continuations(part, WINDOW, tmp_path / "parts", shard=4)
    assert sorted(asked) == [2, 4]
    for other in (
        replace(system, generator=a_generator(1)),
        replace(system, truncation=Truncation(temperature=0.5)),
    ):
        assert (other.continuations(part, WINDOW, tmp_path / "parts", shard=4) != whole).any()
    assert (system.continuations(part, WINDOW, tmp_path / "parts", shard=4, seed=1) != whole).any()
    assert len(asked) == 2 + 3 * 3


def test_the_sweep_finds_the_setting_that_is_like_real_music(tokens, tmp_path):
    """The "real" music is the generator's own, at one of the settings."""
    part = real_music(tokens, WINDOW, 1).choosing
    plain = System(name="plain", generator=a_generator(0))
    true, wrong = Truncation(temperature=0.3), (Truncation(temperature=2.0), Truncation(temperature=5.0))
    own = replace(plain, truncation=true).continuations(part, WINDOW, tmp_path / "own", seed=7)
    part = replace(part, window_NT=np.concatenate([part.window_NT[:, : WINDOW.seed_length], own], 1))
    grid = (*wrong, true, Truncation(temperature=1.5))
    tried = sweep.sweep(plain, part, WINDOW, tmp_path / "sweep", first=16, grid=grid)
    assert tried[0].truncation == true
    assert [row.windows for row in tried] == [32, 32, 16, 16]
    assert {row.truncation for row in tried} == set(grid)


# From end to end


@pytest.fixture
def plan(tmp_path) -> Plan:
    for i, name in enumerate(("pretrained", "fine", "rival")):
        save_generator(tmp_path / name / WEIGHTS, a_generator(i), {})
    return Plan(
        fine_tuned=tmp_path / "fine",
        pretrained=tmp_path / "pretrained",
        rivals={"more of the same": tmp_path / "rival" / WEIGHTS},
        windows=24,
        sweep=4,
        limit=200,
        window=WINDOW,
        training=TransformerTraining(steps=4, batch=4, shape=note_transformer.small(16)),
    )


@pytest.fixture
def music_corpus(small_corpus):
    """Six pieces to hold out."""
    found = corpus.load(small_corpus)
    return replace(found, splits={**found.splits, "validation": found.splits["train"]})


def test_the_report_holds_every_line_of_the_protocol(plan, music_corpus, tmp_path, monkeypatch):
    chose: list[int] = []
    searched = sweep.sweep
    monkeypatch.setattr(sweep, "GRID", sweep.GRID[:3])

    def spied(plain, part, *rest, **more):
        chose.extend(part.piece_N.tolist())
        return searched(plain, part, *rest, grid=sweep.GRID, **more)

    monkeypatch.setattr(protocol, "sweep", spied)
    findings = protocol.run(plan, music_corpus, tmp_path / "out", "musebridge compare …")
    reported = real_music(music_corpus.splits["validation"], WINDOW, 24).reported
    assert set(chose).isdisjoint(reported.piece_N)
    page = write_report(findings, tmp_path / "out")
    text = page.read_text("utf-8")
    for claim in claims(findings):
        assert f"| {claim.claim} | {claim.wanted} | {claim.measured} | {claim.verdict} |" in text
    by_claim = {claim.claim: claim for claim in claims(findings)}
    assert by_claim["the discriminator against pre-trained, AUROC"].verdict == "not measured"
    assert [*findings.models] == ["pre-trained", "fine-tuned", "more of the same", findings.rivals[0]]
    for name in ("judges.png", "frechet.png"):
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "out" / "comparison.json").exists()
    assert {"likelihood", "looking for copies", "training the transformer: fine-tuned"} <= findings.seconds.keys()


def test_a_second_run_samples_nothing(plan, music_corpus, tmp_path, monkeypatch):
    plan = replace(plan, sweep=0)
    first = protocol.run(plan, music_corpus, tmp_path / "out", "")
    monkeypatch.setattr(systems, "sample_continuations", None)
    second = protocol.run(plan, music_corpus, tmp_path / "out", "")
    assert second.comparison == first.comparison


def test_a_generator_beside_itself_gains_nothing(plan, music_corpus, tmp_path):
    plan = replace(plan, fine_tuned=plan.pretrained, rivals={}, sweep=0)
    findings = protocol.run(plan, music_corpus, tmp_path / "out", "")
    first, second = findings.comparison.standings.values()
    nothing = Estimate(value=0.0, low=0.0, high=0.0)
    assert set(second.gains.values()) == {nothing}
    assert first.figures == second.figures
    verdicts = {claim.claim: claim.verdict for claim in claims(findings)}
    assert verdicts["judged by boosted trees: fall of AUROC"] == "fail"
    assert verdicts["rise of NLL, nats per token"] == "pass"


def test_windows_that_do_not_fit_are_one_line(plan, music_corpus, tmp_path):
    with pytest.raises(ConfigError, match="seeds and continuations must fit 40 tokens of context, found 48"):
        protocol.run(replace(plan, window=Window(seed_length=24, continuation_length=24)), music_corpus, tmp_path, "")


def test_a_rival_needs_a_name_of_its_own():
    with pytest.raises(ConfigError, match="a rival needs another name than 'pre-trained'"):
        Plan(fine_tuned=Path(), pretrained=Path(), rivals={"pre-trained": Path()})
