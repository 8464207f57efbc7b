"""The benchmarks run, measure what they name, and take up a study where it ended. What they find is not judged here."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch.utils.flop_counter import FlopCounterMode

from musebridge.benchmarks import engine, measure, recall, study, train
from musebridge.bridge.core.recall import LONGEST
from musebridge.cli import main
from musebridge.errors import ConfigError
from musebridge.export.graph import export
from musebridge.training.data import corpus
from musebridge.training.models.checkpoint import save_generator, save_state
from musebridge.training.models.discriminator import Discriminator, DiscriminatorConfig
from musebridge.training.models.generator import Generator, GeneratorConfig, count_parameters
from musebridge.training.models.registry import create

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),  # torch.compile's own
]


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compile nothing, here and in the processes that measure: it takes longer than these few steps."""
    monkeypatch.setenv("TORCH_COMPILE_DISABLE", "1")
    with torch.compiler.set_stance("force_eager"):
        yield


TINY = GeneratorConfig(n_layers=1, d_model=32, n_heads=2, n_kv_heads=1, d_ff=64, context=16)


# Measuring


def test_subjects_are_measured_in_turns():
    calls: list[str] = []
    rows = measure.in_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 20)
    assert [(row.name, row.unit, row.n) for row in rows] == [("a", "ms", 20), ("b", "ms", 20)]
    assert calls == (["a"] * 20 + ["b"] * 20) * 2
    assert all(0 <= row.p50 <= row.p95 <= row.p99 <= row.max for row in rows)


def test_rows_are_percentiles_and_can_be_written(tmp_path):
    row = measure.row_of("x", "ms", np.arange(101.0))
    assert (row.p50, row.p95, row.p99, row.max) == (50.0, 95.0, 99.0, 100.0)
    measure.write([row], tmp_path / "rows.json")
    assert json.loads((tmp_path / "rows.json").read_text()) == [
        {"name": "x", "unit": "ms", "n": 101, "p50": 50.0, "p95": 95.0, "p99": 99.0, "max": 100.0}
    ]


# Training steps


def test_the_arithmetic_of_a_step_is_that_which_torch_counts():
    generator = Generator(TINY)
    with FlopCounterMode(display=False) as counter:
        generator(torch.zeros((2, 16), dtype=torch.int64)).sum().backward()
    T, D = TINY.context, TINY.d_model
    attention = 3 * 2 * 2 * 2 * T * T * D  # both products, whole; the backward pass counts twice
    matrices = counter.get_total_flops() - _counted_attention(counter)
    assert train.step_flops(TINY, 2, count_parameters(generator)) == matrices + attention / 2


def _counted_attention(counter: FlopCounterMode) -> int:
    return sum(n for op, n in counter.get_flop_counts()["Global"].items() if "scaled_dot" in str(op))


@pytest.mark.usefixtures("eager")
def test_every_way_to_train_is_measured_beside_the_bound():
    rows = train.rows(TINY, batch=2, steps=2)
    assert [row.name for row in rows] == [train.OURS, train.PLAIN_KEPT, train.PLAIN, train.BOUND]
    assert all(row.p50 > 0 and row.n == 2 for row in rows)


# Fine-tuning


@pytest.mark.usefixtures("eager")
def test_sampling_and_both_modes_of_an_update_are_measured(small_corpus, tmp_path):
    torch.manual_seed(0)
    generator = Generator(TINY)
    torch.nn.init.normal_(generator.head.weight)
    save_generator(tmp_path / "g.safetensors", generator, {})
    sizes = ["--seeds", "4", "--batch", "2", "--seed-length", "6", "--continuation-length", "5", "--rounds", "1"]
    files = [str(tmp_path / "g.safetensors"), str(small_corpus), "--json", str(tmp_path / "rows.json")]
    result = CliRunner().invoke(main, ["bench", "adversarial", *files, *sizes])
    assert result.exit_code == 0, result.output
    assert re.search(r"sampling is \d+\.\d times as fast .*, a parallel update \d+\.\d times", result.output)
    rows = {row["name"]: row["p50"] for row in json.loads((tmp_path / "rows.json").read_text())}
    assert rows["gradient, parallel with 4 Jacobi iterations and sequential"] == pytest.approx(1, abs=1e-3)


# Studies


def test_the_ablation_compares_generators_of_equal_size_and_tokens():
    trials = study.ablation(128, 5000, seeds=2)
    assert len(trials) == 10
    assert {trial.config.tokens for trial in trials} == {5000}
    assert {trial.config.seed for trial in trials} == {0, 1}
    sizes = [count_parameters(create(trial.shape)) for trial in trials]
    assert max(sizes) < 1.02 * min(sizes)


def test_the_scaling_study_gives_every_size_the_same_arithmetic():
    trials = study.scaling([128, 256], [1e12, 4e12])
    assert [trial.shape.d_model for trial in trials] == [128, 256, 128, 256]
    spent = [
        train.step_flops(trial.shape, study.BATCH, count_parameters(create(trial.shape)))
        * trial.config.tokens
        / (study.BATCH * study.CONTEXT)
        for trial in trials
    ]
    assert spent == pytest.approx([1e12, 1e12, 4e12, 4e12], rel=0.1)


def test_a_width_that_makes_no_heads_is_refused():
    with pytest.raises(ConfigError, match="width must be a multiple of 128, found 200"):
        study.scaling([200], [1e12])


@pytest.mark.usefixtures("eager")
def test_a_study_trains_once_and_writes_its_table(small_corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "CONTEXT", 32)
    monkeypatch.setattr(study, "BATCH", 2)
    trials = study.scaling([128], [1e10])
    rows = list(study.run(trials, corpus.load(small_corpus), tmp_path))
    assert rows[0]["nll"] < 6
    monkeypatch.setattr(study, "_measure", lambda trial, corpus: pytest.fail("it was trained already"))
    assert list(study.run(trials, corpus.load(small_corpus), tmp_path)) == rows
    page = study.scaling_page(rows, "musebridge bench scaling")
    assert f"| 1.0e+10 FLOPs | 128 | {rows[0]['parameters']:,} |" in page
    twice = study.ablation_page([{**rows[0], "nll": nll} for nll in (3.0, 4.0)], "musebridge bench ablation")
    assert "| 3.5000 | 0.7071 | 2 |" in twice


# The command


@pytest.mark.usefixtures("eager")
def test_bench_train_tells_the_ratios(tmp_path, monkeypatch):
    whole = train.rows
    monkeypatch.setattr(train, "rows", lambda shape, batch, steps: whole(TINY, batch=2, steps=steps))
    result = CliRunner().invoke(main, ["bench", "train", "--steps", "1", "--json", str(tmp_path / "rows.json")])
    assert result.exit_code == 0, result.output
    assert re.search(r"tokens/s, \d+\.\d\d times plain eager, \d+% of the FLOPs", result.output)
    assert len(json.loads((tmp_path / "rows.json").read_text())) == 4


def test_the_engine_is_measured_beside_its_rivals(monkeypatch):
    monkeypatch.setattr(engine, "PREFILLS", (5,))
    shape = GeneratorConfig(n_layers=1, d_model=64, n_heads=2, n_kv_heads=1, d_ff=64, context=32)
    rows = {row.name: row for row in engine.rows(shape, contexts=(9,), steps=2, sustain_s=0.05)}
    subjects = [f"{precision}, {threads}" for precision in ("fp32", "int8") for threads in ("1 thread", "2 threads")]
    for what in ("step at 9", "prefill of 5"):
        assert {f"{what}, {subject}" for subject in [*subjects, "torch eager"]} <= set(rows)
    for who in ("int8, 1 thread", "the shipped model"):
        assert rows[f"0.05 s of generation, {who}: token, rolls included"].n % 100 == 0
        assert rows[f"0.05 s of generation, {who}: rate"].p50 > 0
        assert rows[f"0.05 s of generation, {who}: mean note"].p50 > 0
    assert re.fullmatch(
        r"a step at 9, int8, 1 thread: \d+\.\d times as fast as torch eager.*, \d+\.\d\d times the time .*",
        engine.ratios(list(rows.values()), 9),
    )
    assert 20 < rows["serve, memory"].p50 < 300
    assert rows["serve, ready"].p50 > 0


def test_a_token_of_transformers_is_measured():
    pytest.importorskip("transformers", reason="the rival of the engine benchmark needs: pip install transformers")
    shape = GeneratorConfig(n_layers=1, d_model=64, n_heads=2, n_kv_heads=1, d_ff=96, context=32)
    assert engine.generate_row(shape, 9).n == 10


# Candidates


def test_candidates_are_timed_and_judged_by_their_beginnings(tmp_path, small_corpus):
    """A discriminator that never learned anything, and a generator likewise."""
    shape = DiscriminatorConfig(n_layers=1, d_model=32, n_heads=2, n_kv_heads=1, d_ff=64, context=64, hidden=16)
    torch.manual_seed(0)
    weights = Discriminator(shape).state_dict()
    window = {"seeded": 16, "continued": 16}
    state = {"shape": asdict(shape), "window": window, "discriminator": weights, "best": weights, "history": []}
    save_state(tmp_path, state)
    save_generator(tmp_path / "generator.safetensors", Generator(replace(TINY, context=64)).eval(), {})
    command = ["bench", "candidates", tmp_path, small_corpus, "--seeds", 20, "--candidates", 2, "--rounds", 1]
    done = CliRunner().invoke(main, [*map(str, command), "--json", str(tmp_path / "rows.json")])
    assert done.exit_code == 0, done.output
    timed = {row["name"] for row in json.loads((tmp_path / "rows.json").read_text())}
    assert {"one candidate", "2 candidates, side by side", "2 candidates of 4 tokens, verdict included"} < timed
    told = re.findall(r"^the (.*): AUROC of a fresh classifier (\S+) \[", done.output, re.MULTILINE)
    assert [name for name, _ in told] == ["first candidate", *(f"best by its first {n} tokens" for n in (4, 8, 16))]
    assert all(0 <= float(auroc) <= 1 for _, auroc in told)


# Answers


def test_answers_are_set_beside_players_and_other_real_music(tmp_path, small_corpus):
    save_generator(tmp_path / "generator.safetensors", engine.random_generator(replace(TINY, context=64)), {})
    export(tmp_path, tmp_path / "m.onnx", precision="int8")
    command = ["bench", "answers", small_corpus, "--model", tmp_path / "m.onnx", "--seeds", 6, "--tokens", 32]
    done = CliRunner().invoke(main, [*map(str, command), "--json", str(tmp_path / "rows.json")])
    assert done.exit_code == 0, done.output
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["name"].removeprefix("length of a note, ") for row in rows] == [
        "players",
        "the bridge",
        "other real music",
    ]
    assert all(row["n"] > 0 for row in rows)
    shares = re.findall(
        r"^notes of (.*): (\S+)% beyond 3 s, (\S+)% beyond 5 s, (\S+)% beyond", done.output, re.MULTILINE
    )
    assert [who for who, *_ in shares] == ["players", "the bridge", "other real music"]
    assert all(100 >= float(three) >= float(five) >= float(ten) for _, three, five, ten in shares)
    told = re.findall(r"^(.*): Fréchet distance (\S+), MMD", done.output, re.MULTILINE)
    assert [who for who, _ in told] == ["the bridge", "other real music"]


# Memory


def test_what_the_bridge_keeps_is_set_beside_what_players_keep(tmp_path, small_corpus):
    save_generator(tmp_path / "generator.safetensors", engine.random_generator(replace(TINY, context=64)), {})
    export(tmp_path, tmp_path / "m.onnx", precision="int8")
    (tmp_path / "daring.toml").write_text('description = "."\n[settings]\ntemperature = 2.0\n')
    command = ["bench", "memory", small_corpus, "--model", tmp_path / "m.onnx", "--pieces", 2, "--opening", 4]
    options = [
        "--slices",
        1,
        "--preset",
        "call",
        "--preset",
        tmp_path / "daring.toml",
        "--json",
        tmp_path / "cells.json",
    ]
    done = CliRunner().invoke(main, [*map(str, command + options)])
    assert done.exit_code == 0, done.output
    cells = json.loads((tmp_path / "cells.json").read_text())
    assert {cell["who"] for cell in cells} == {"players", "call", "daring"}
    assert all(cell["beyond_players"]["value"] == 0 for cell in cells if cell["who"] == "players")
    players = {cell["measure"]: cell["mean"]["value"] for cell in cells if cell["who"] == "players"}
    assert players["longest_note_s"] == pytest.approx(0.15, abs=0.011)
    assert players["longest_silence_s"] == pytest.approx(0.05, abs=0.011)
    assert 0.5 < players["figures"] <= 1
    told = re.findall(r"^(\S.*), (players|call|daring): (\S+) \[", done.output, re.MULTILINE)
    assert [who for _, who, _ in told] == ["players", "call", "daring"] * 4
    assert float(told[0][2]) == pytest.approx(players["figures"], abs=5e-4)


def test_pieces_too_short_to_be_continued_are_refused(tmp_path, small_corpus):
    done = CliRunner().invoke(main, ["bench", "memory", str(small_corpus)])
    assert done.exit_code == 1
    assert done.output.endswith("0 validation pieces of 80 s, 24 needed\n")


# Recall


def test_the_strengths_that_music_was_drawn_with_are_found_again():
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 4, (20_000, 2, 128)) * (rng.random((20_000, 2, 128)) < 0.05)
    lengths[:, 1][lengths[:, 1] == 1] = 0
    drawn_from = np.zeros((2, LONGEST + 1))
    drawn_from[0, 1:4], drawn_from[1, 2:4] = (0.5, 1.0, 1.5), (-1.0, 2.0)
    log_p = rng.normal(size=(20_000, 128))
    unknown = recall.Notes(
        log_p_NP=log_p - np.logaddexp.reduce(log_p, 1, keepdims=True),
        length_NKP=lengths.astype(np.int8),
        pitch_N=np.zeros(20_000, np.int64),
        piece_N=np.zeros(20_000, np.int64),
    )
    pitches = (unknown.recalled(drawn_from) + rng.gumbel(size=log_p.shape)).argmax(1)
    np.testing.assert_allclose(recall.fit(replace(unknown, pitch_N=pitches)), drawn_from, atol=0.15)


def test_recall_is_fitted_and_measured_on_other_pieces(tmp_path, small_corpus):
    save_generator(tmp_path / "generator.safetensors", engine.random_generator(TINY), {})
    command = ["bench", "recall", tmp_path, small_corpus, "--pieces", 2, "--json", tmp_path / "rows.json"]
    done = CliRunner().invoke(main, [*map(str, command)])
    assert done.exit_code == 0, done.output
    told = re.search(r"(\d+) notes of 2 pieces: (\S+) nats a struck pitch; less by (\S+) \[", done.output)
    assert told is not None
    assert float(told[3]) > 0.5  # broken chords return, and a random generator does not know it
    assert [
        len(line.split(",")) for line in re.findall("^strengths, (?:exact|by interval): (.*)$", done.output, re.M)
    ] == [LONGEST + 1] * 2
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [(row["name"], row["unit"]) for row in rows] == [("recall, a note", "ms"), ("recall, another token", "ms")]
    assert rows[0]["n"] == 240
