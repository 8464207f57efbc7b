"""``prepare`` and ``train`` at the command line: what they say, and one line for each mistake."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from musebridge.cli import main
from musebridge.training.models.checkpoint import load_generator, load_state, save_generator

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = """
[generator]
n_layers = 1
d_model = 32
n_heads = 2
n_kv_heads = 1
d_ff = 64
context = 32

[pretrain]
batch = 4
warmup_steps = 2
"""


def call(*arguments: object):
    return CliRunner().invoke(main, [str(a) for a in arguments])


def complaint(*arguments: object) -> str:
    """Run a command that must fail as a user's mistake does; return its one line."""
    result = call(*arguments)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    head, line = result.stderr.rstrip("\n").split("Error: ")
    assert head == ""
    assert "\n" not in line
    return line


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


# Good days


def test_prepare_and_train_end_to_end(midi_tree, tmp_path, config):
    result = call("prepare", midi_tree, "-o", tmp_path / "corpus", "--workers", 1)
    assert result.exit_code == 0, result.output
    assert [line.split()[1::2] for line in result.output.splitlines() if "train" in line][-1][1] == "6"
    train = ("train", tmp_path / "corpus", "--run", tmp_path / "run", "--config", config, "--no-compile")
    result = call(*train, "--budget", "1k")
    assert result.exit_code == 0, result.output
    assert f"{tmp_path / 'run'}: 1,024 tokens, validation NLL " in result.output
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["generator.safetensors", "state.pt"]
    result = call(*train, "--budget", "2k")
    assert f"{tmp_path / 'run'}: 2,048 tokens, validation NLL " in result.output


ENDED_IN_STEP_4 = """
import signal, sys
from musebridge.cli import main
from musebridge.training.pretraining.trainer import Pretraining

optimize = Pretraining._optimize
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background job has not

def optimize_and_end(self):
    if self.progress.step == 3:
        signal.raise_signal(int(sys.argv[1]))
    return optimize(self)

Pretraining._optimize = optimize_and_end
main(sys.argv[2:])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_ended_training_goes_on_after_its_last_whole_step(small_corpus, tmp_path, config, number):
    """Both ways of ending it leave the curve of a training that nobody ended."""
    config.write_text(config.read_text("utf-8") + "validate_s = 0.001\n", encoding="utf-8")
    train = ("train", small_corpus, "--config", config, "--no-compile", "--budget", "12k", "--run")
    ended = [sys.executable, "-c", ENDED_IN_STEP_4, str(int(number)), *map(str, train), str(tmp_path / "ended")]
    process = subprocess.run(ended, capture_output=True, text=True, check=False)
    assert process.returncode == 1
    assert process.stderr.strip() == "Aborted!"
    assert load_state(tmp_path / "ended")["progress"]["step"] == 4
    for name in ("ended", "whole"):
        assert call(*train, tmp_path / name).exit_code == 0
    ended, whole = (load_generator(tmp_path / name)[0].state_dict() for name in ("ended", "whole"))
    assert all(torch.equal(weight, whole[key]) for key, weight in ended.items())


def test_train_mixes_corpora_and_draws_curves(small_corpus, tmp_path, config):
    train = ("train", small_corpus, "--run", tmp_path, "--config", config, "--no-compile", "--budget", "1k")
    result = call(*train, "--mix", small_corpus, 0.25, "--tensorboard")
    assert result.exit_code == 0, result.output
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    curve = events.Scalars("train/nll")
    assert [point.step for point in curve] == [128 * i for i in range(1, 9)]
    assert curve[-1].value < curve[0].value
    assert [point.step for point in events.Scalars("validation/nll")] == [1024]


def test_tensorboard_that_is_not_installed_is_one_line(small_corpus, tmp_path, config, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    train = ("train", small_corpus, "--run", tmp_path, "--config", config, "--no-compile", "--budget", "1k")
    assert complaint(*train, "--tensorboard") == "--tensorboard needs TensorBoard: pip install tensorboard"


ADVERSARIAL = """
[adversarial]
seed_length = 8
continuation_length = 12
pairs = 16
held_out = 16
eval_pairs = 8
batch = 4
ce_context = 31
ce_batch = 1

[discrimination]
batch = 4
"""


@pytest.fixture
def pretrained(small_corpus, tmp_path, config):
    """A corpus with pieces enough to validate on, and a generator that was trained on it for a moment."""
    card = json.loads((small_corpus / "corpus.json").read_text("utf-8"))
    card["splits"]["validation"] = card["splits"]["train"]
    (tmp_path / "music").mkdir()
    (tmp_path / "music" / "corpus.json").write_text(json.dumps(card), "utf-8")
    for split in ("train", "validation", "test"):
        source = small_corpus / f"{'train' if split == 'validation' else split}.npy"
        (tmp_path / "music" / f"{split}.npy").write_bytes(source.read_bytes())
    train = ("train", tmp_path / "music", "--run", tmp_path / "pretrained", "--config", config, "--no-compile")
    assert call(*train, "--budget", "1k").exit_code == 0
    config.write_text(ADVERSARIAL, encoding="utf-8")
    return (
        *("train", tmp_path / "music", "--run", tmp_path / "fine", "--config", config, "--no-compile"),
        *("--phase", "adversarial", "--init", tmp_path / "pretrained", "--budget", "0.2k"),
    )


def test_fine_tuning_tells_what_the_discriminator_hears_and_keeps_the_best_weights(pretrained, tmp_path):
    result = call(*pretrained)
    assert result.exit_code == 0, result.output
    assert re.search(r"the discriminator on \d+ pairs of 3 held-out pieces: AUROC \d\.\d{3} \[", result.output)
    assert re.search(r"step 0: two-sample AUROC \d\.\d{3}, NLL \d\.\d{4}, distinct-4 \d\.\d{3}, taken", result.output)
    assert f"{tmp_path / 'fine'}: the weights of step " in result.output
    assert (tmp_path / "fine" / "generator.safetensors").exists()
    again = call(*pretrained)  # over already: nothing is sampled or trained
    assert again.output.splitlines()[-1] == result.output.splitlines()[-1]


@pytest.fixture
def with_discriminator(pretrained, tmp_path):
    """What a fine-tuning says of its discriminator, and the command of another that takes that one."""
    said = call(*pretrained).output
    exported = tmp_path / "d.onnx"
    assert call("export", tmp_path / "fine" / "discriminator", "-o", exported, "--precision", "fp32").exit_code == 0
    command = [*pretrained, "--discriminator", exported]
    command[command.index(tmp_path / "fine")] = tmp_path / "again"
    return re.search(r"the discriminator on .*", said)[0], command


def test_fine_tuning_takes_a_discriminator_that_was_exported(with_discriminator, tmp_path):
    said, command = with_discriminator
    for _ in ("begun", "resumed"):
        result = call(*command)
        assert result.exit_code == 0, result.output
        assert said in result.output
    trained, taken = (load_state(tmp_path / run / "discriminator") for run in ("fine", "again"))
    assert taken["record"]["command"] == trained["record"]["command"]
    assert len(taken["history"]) == 1
    call("export", tmp_path / "fine" / "discriminator", "-o", command[-1], "--precision", "int8")
    assert complaint(*command) == f"{tmp_path / 'again' / 'discriminator'}: holds another discriminator; " + (
        "choose another --run folder"
    )


@pytest.mark.parametrize("path", ["fine", "fine/discriminator", "fine/discriminator/discriminator.safetensors"])
def test_fine_tuning_takes_a_discriminator_that_another_run_left(with_discriminator, tmp_path, path):
    """All its weights, those too that no exported file has."""
    said, command = with_discriminator
    result = call(*command[:-1], tmp_path / path)
    assert result.exit_code == 0, result.output
    assert said in result.output
    trained, taken = (load_state(tmp_path / run / "discriminator")["best"] for run in ("fine", "again"))
    assert all(torch.equal(weight, taken[name]) for name, weight in trained.items())


@pytest.mark.parametrize(("objective", "is_sampled"), [("policy_gradient", False), ("ddo", True)])
def test_who_takes_a_discriminator_and_writes_anew_has_nothing_sampled_before(
    with_discriminator, config, tmp_path, objective, is_sampled
):
    _, command = with_discriminator
    lines = ADVERSARIAL.replace("[adversarial]\n", f"[adversarial]\nobjective = '{objective}'\ndiscriminator_lr = 0\n")
    config.write_text(lines, encoding="utf-8")
    assert call(*command).exit_code == 0
    assert (tmp_path / "again" / "samples" / "train").exists() == is_sampled
    assert (tmp_path / "again" / "samples" / "validation").exists()


def test_a_discriminator_that_was_taken_stays_as_it_is_when_there_is_more_to_learn_from(
    with_discriminator, config, tmp_path
):
    _, command = with_discriminator
    call(*command)
    before = load_state(tmp_path / "again" / "discriminator")
    (tmp_path / "again" / "state.pt").unlink()
    config.write_text(ADVERSARIAL.replace("pairs = 16", "pairs = 24"), encoding="utf-8")
    assert call(*command).exit_code == 0
    after = load_state(tmp_path / "again" / "discriminator")
    assert after["step"] == before["step"] > 0
    assert all(torch.equal(weight, after["discriminator"][name]) for name, weight in before["discriminator"].items())


def test_a_discriminator_of_something_else_is_one_line(with_discriminator, config, tmp_path):
    _, command = with_discriminator
    config.write_text(ADVERSARIAL.replace("seed_length = 8", "seed_length = 6"), encoding="utf-8")
    assert complaint(*command).startswith("the discriminator knows windows of 8 + 12 tokens")
    config.write_text(ADVERSARIAL + "[discriminator]\nhidden = 7", encoding="utf-8")
    assert complaint(*command).startswith("a discriminator that is given has a shape")


def test_a_discriminator_of_another_generator_is_taught_on(with_discriminator, pretrained, config, tmp_path):
    _, command = with_discriminator
    generator, record = load_generator(tmp_path / "pretrained")
    generator.head.weight.data += 0.1
    save_generator(tmp_path / "fine" / "generator.safetensors", generator, record)
    command[command.index("--init") + 1] = tmp_path / "fine"
    config.write_text(ADVERSARIAL + "muon_lr = 0\nadam_lr = 0", encoding="utf-8")  # so it ends where it began
    assert call(*command).exit_code == 0
    first, second = (load_state(tmp_path / run / "discriminator") for run in ("fine", "again"))
    assert second["step"] == first["step"] > 0
    assert second["record"]["init"]["command"] == first["record"]["command"]
    blocks = [name for name in first["best"] if name.startswith("blocks.")]
    assert blocks
    assert all(torch.equal(first["best"][name], second["best"][name]) for name in blocks)
    assert call(*command).exit_code == 0  # taken up again
    third = [*pretrained]
    third[third.index(tmp_path / "fine")] = tmp_path / "third"
    assert call(*third).exit_code == 0
    call("export", tmp_path / "third" / "discriminator", "-o", command[-1], "--precision", "fp32")
    assert complaint(*command).endswith("again/discriminator: holds another discriminator; choose another --run folder")


def test_a_discriminator_may_begin_to_learn_when_a_run_is_taken_up_again(with_discriminator, config, tmp_path):
    _, command = with_discriminator
    lines = ADVERSARIAL.replace(
        "[adversarial]\n", "[adversarial]\nobjective = 'policy_gradient'\ndiscriminator_lr = {}\n"
    )
    for lr, budget in ((0, "0.1k"), (1e-3, "0.2k")):
        config.write_text(lines.format(lr), encoding="utf-8")
        command[command.index("--budget") + 1] = budget
        assert call(*command).exit_code == 0
    state = load_state(tmp_path / "again")
    assert state["replay_buffer"].shape == (16, 12)
    assert any(
        not torch.equal(weight, state["discriminator"][name])
        for name, weight in load_state(tmp_path / "again" / "discriminator")["best"].items()
    )


def test_only_fine_tuning_takes_a_discriminator(small_corpus, config, tmp_path):
    train = ("train", small_corpus, "--run", tmp_path / "run", "--budget", "1k", "--config", config)
    assert complaint(*train, "--discriminator", config) == "--discriminator is for --phase adversarial"


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("[pretrain]\nbatch = 4", "unknown table 'pretrain'; known are adversarial, discriminator, discrimination"),
        (
            "[adversarial]\nobjective = 'wgan'",
            "adversarial: objective must be one of gumbel, ddo, best_of_n, dpo, policy_gradient",
        ),
        (
            "[adversarial]\nbatch = 16\ngrad_accumulation = 3",
            "adversarial: grad_accumulation must divide batch, found 3 and 16",
        ),
        ("[discriminator]\nhidden = 0", "discriminator: hidden must be at least 1, found 0"),
        ("[discrimination]\nr1 = -1", "discrimination: r1 must be at least 0, found -1"),
        ("[discrimination]\nbatch = 1", "discrimination: batch must be at least 2, found 1"),
        ("adversarial = 3", "adversarial: must be a table of keys and values, found 3"),
    ],
)
def test_a_mistake_in_the_config_of_fine_tuning_is_one_line(pretrained, config, tmp_path, toml, message):
    config.write_text(toml, encoding="utf-8")
    assert complaint(*pretrained).startswith(message)
    assert not (tmp_path / "fine").exists()


def test_fine_tuning_needs_weights_to_begin_with(small_corpus, tmp_path):
    line = complaint("train", small_corpus, "--run", tmp_path / "run", "--budget", "1k", "--phase", "adversarial")
    assert line == "--phase adversarial needs --init, and knows neither --mix nor --tensorboard"


def test_compare_says_what_holds_and_keeps_its_samples(pretrained, tmp_path):
    assert call(*pretrained).exit_code == 0
    compare = (
        *("compare", tmp_path / "fine", tmp_path / "music", "--against", tmp_path / "pretrained"),
        *("-o", tmp_path / "report", "--rival", f"itself={tmp_path / 'pretrained'}", "--windows", 16),
        *("--discriminator", tmp_path / "fine" / "discriminator", "--candidates", 2, "--sweep", 2),
        *("--seed-length", 8, "--continuation-length", 12, "--classifier-steps", 2, "--limit", 100),
    )
    result = call(*compare)
    assert result.exit_code == 0, result.output
    numbers = json.loads((tmp_path / "report" / "comparison.json").read_text("utf-8"))
    assert not [claim for claim in numbers["claims"] if claim["verdict"] == "not measured"]
    for claim in numbers["claims"]:
        assert (
            f"{claim['verdict']:12} {claim['claim']}: {claim['measured']} (wanted {claim['wanted']})" in result.output
        )
    assert f"wrote {tmp_path / 'report' / 'comparison.md'}" in result.output
    names = ["pre-trained", "fine-tuned", "itself", numbers["rivals"][0], "pre-trained, best of 2"]
    assert [*numbers["models"]] == names
    assert numbers["models"]["itself"]["sha256"] == numbers["models"]["pre-trained"]["sha256"]
    when = {path: path.stat().st_mtime_ns for path in (tmp_path / "report" / "samples").rglob("*.npy")}
    assert len(when) > len(names)
    assert call(*compare).output.splitlines()[-5:] == result.output.splitlines()[-5:]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "report" / "samples").rglob("*.npy")} == when


def test_a_discriminator_picks_for_the_system_that_it_was_taught_on(pretrained, tmp_path):
    assert call(*pretrained).exit_code == 0
    result = call(
        *("compare", tmp_path / "pretrained", tmp_path / "music", "--against", tmp_path / "fine"),
        *(
            "-o",
            tmp_path / "report",
            "--windows",
            16,
            "--seed-length",
            8,
            "--continuation-length",
            12,
            "--classifier-steps",
            2,
        ),
        *("--discriminator", tmp_path / "fine" / "discriminator", "--candidates", 2, "--limit", 100),
    )
    assert result.exit_code == 0, result.output
    numbers = json.loads((tmp_path / "report" / "comparison.json").read_text("utf-8"))
    assert [*numbers["models"]] == ["pre-trained", "fine-tuned", "fine-tuned, best of 2"]
    assert len({model["sha256"] for model in numbers["models"].values()}) == 2
    assert numbers["models"]["fine-tuned, best of 2"]["sha256"] == numbers["models"]["fine-tuned"]["sha256"]
    claims = {claim["claim"]: claim["measured"] for claim in numbers["claims"]}
    assert "the discriminator against fine-tuned, AUROC" in claims
    lead = numbers["comparison"]["standings"]["fine-tuned, best of 2"]["lead"]["boosted trees"]
    gain = "{:.3f} [{:.3f}, {:.3f}]".format(*(-lead[name] for name in ("value", "high", "low")))
    assert claims["fine-tuned, best of 2: boosted trees: fall of AUROC"] == gain


def test_an_exported_discriminator_picks_what_its_folder_does(pretrained, tmp_path):
    assert call(*pretrained).exit_code == 0
    judge = tmp_path / "judge.onnx"
    exported = call("export", tmp_path / "fine" / "discriminator", "-o", judge, "--precision", "fp32")
    assert exported.exit_code == 0, exported.output
    compare = (
        *("compare", tmp_path / "fine", tmp_path / "music", "--against", tmp_path / "pretrained"),
        *(
            "-o",
            tmp_path / "report",
            "--windows",
            16,
            "--seed-length",
            8,
            "--continuation-length",
            12,
            "--classifier-steps",
            2,
        ),
        *("--candidates", 2, "--limit", 100, "--discriminator"),
    )
    told = [call(*compare, found).output for found in (tmp_path / "fine" / "discriminator", judge)]
    assert told[0] == told[1]
    assert "pre-trained, best of 2" in told[0]
    others = [tmp_path / "fine" if x == tmp_path / "pretrained" else x for x in compare]
    line = complaint(*others, judge)
    assert line == "the discriminator was taught on another generator than those that are compared"


def test_prepare_names_what_it_skipped(midi_tree, tmp_path):
    (tmp_path / "midi").mkdir()
    for i, path in enumerate(sorted((midi_tree / "2024").iterdir())):
        (tmp_path / "midi" / f"{i}.mid").write_bytes(path.read_bytes())
    (tmp_path / "midi" / "[odd] name.mid").write_text("no music")
    result = call("prepare", tmp_path / "midi", "-o", tmp_path / "corpus", "--workers", 1)
    assert result.exit_code == 0, result.output
    assert "skipped [odd] name.mid: is not a MIDI file (it begins with b'no m'); choose another file" in result.output


def test_help_imports_no_heavy_library():
    script = (
        "import sys\n"
        "from musebridge.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "print('heavy:', sorted({'torch', 'onnxruntime', 'onnx', 'matplotlib', 'rtmidi'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "heavy: []"
    for command in ("prepare", "train", "serve", "continue"):
        assert f"\n  {command} " in done.stdout


def test_both_phases_run_where_no_library_for_playing_is_installed(pretrained, config, tmp_path):
    script = (
        "import runpy, sys\n"
        "missing = ('mido', 'symusic', 'rtmidi', 'pythonosc', 'jack', 'onnxruntime', 'onnx', 'matplotlib')\n"
        "sys.modules.update(dict.fromkeys(missing))\n"
        "runpy.run_module('musebridge', run_name='__main__')\n"
    )
    config.with_name("pretrain.toml").write_text(CONFIG, encoding="utf-8")
    first = ("train", tmp_path / "music", "--run", tmp_path / "first", "--config", config.with_name("pretrain.toml"))
    for command in ((*first, "--no-compile", "--budget", "1k"), pretrained):
        done = subprocess.run(
            [sys.executable, "-c", script, *map(str, command)],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    for run in ("first", "fine"):
        assert (tmp_path / run / "generator.safetensors").exists()


# Mistakes


@pytest.mark.parametrize("budget", ["soon", "5", "-3M", "1.5", "3 M", "2d"])
def test_a_budget_that_is_none_is_one_line(small_corpus, tmp_path, budget):
    assert complaint("train", small_corpus, "--run", tmp_path / "run", f"--budget={budget}") == (
        f"budget must be tokens (500k, 40M, 1G) or time (90s, 100m, 2h), found '{budget}'"
    )


def test_a_budget_of_nothing_is_one_line(small_corpus, tmp_path):
    assert complaint("train", small_corpus, "--run", tmp_path / "run", "--budget", "0k") == (
        "pretrain: give the budget either as tokens or as seconds, more than 0"
    )


@pytest.mark.parametrize("rival", ["more", "=a", "more="])
def test_a_rival_that_is_none_is_one_line(small_corpus, tmp_path, rival):
    line = complaint("compare", tmp_path, small_corpus, "-o", tmp_path / "out", "--against", tmp_path, "--rival", rival)
    assert line == f"rival must be NAME=CHECKPOINT, each name once, found '{rival}'"


def test_a_missing_midi_folder_is_one_line(tmp_path):
    assert complaint("prepare", tmp_path / "none", "-o", tmp_path / "out") == (
        f"{tmp_path / 'none'}: is not a folder; give the folder that holds the MIDI files"
    )


def test_a_folder_without_midi_is_one_line(tmp_path):
    assert complaint("prepare", tmp_path, "-o", tmp_path / "out") == (
        f"{tmp_path}: holds no .mid, .midi, .kar, .rmi or .smf file; give the folder that holds them"
    )


def test_a_missing_corpus_is_one_line(tmp_path):
    line = complaint("train", tmp_path / "none", "--run", tmp_path / "run", "--budget", "1k")
    assert line.startswith(f"{tmp_path / 'none'}: is not a corpus (")
    assert line.endswith("; make one with 'musebridge prepare'")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("[generator]\ncolour = 1", "generator: unknown key 'colour'; known are "),
        ("[pretrain]\nbatch = 'big'", "pretrain: batch must be a whole number, found 'big'"),
        ("[pretrain]\nbatch = 0", "pretrain: batch must be at least 1, found 0"),
        ("[generator]\nd_model = 30", "generator: generator d_model must be a multiple of 2 × n_heads, found 30 and 4"),
        ("pretrain = 3", "pretrain: must be a table of keys and values, found 3"),
        ("generator = 3", "generator: must be a table of keys and values, found 3"),
        ("[adversarial]\nx = 1", "{path}: unknown table 'adversarial'; known are generator and pretrain"),
        ("[generator", "{path}: cannot be read as TOML: "),
    ],
)
def test_a_mistake_in_the_config_is_one_line(small_corpus, tmp_path, toml, message):
    path = tmp_path / "bad.toml"
    path.write_text(toml, encoding="utf-8")
    line = complaint("train", small_corpus, "--run", tmp_path / "run", "--budget", "1k", "--config", path)
    assert line.startswith(message.format(path=path))
    assert not (tmp_path / "run").exists()


def test_another_shape_in_the_run_folder_is_one_line(small_corpus, tmp_path, config):
    train = ("train", small_corpus, "--run", tmp_path / "run", "--no-compile", "--budget", "1k", "--config", config)
    assert call(*train).exit_code == 0
    config.write_text(CONFIG.replace("d_ff = 64", "d_ff = 32"), encoding="utf-8")
    assert complaint(*train) == (
        f"{tmp_path / 'run'}: holds a run of another shape or corpus; choose another --run folder"
    )


def test_a_pickled_corpus_is_one_line(small_corpus, tmp_path):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "corpus.json").write_bytes((small_corpus / "corpus.json").read_bytes())
    np.save(tmp_path / "corpus" / "train.npy", np.array([{}]), allow_pickle=True)
    line = complaint("train", tmp_path / "corpus", "--run", tmp_path / "run", "--budget", "1k")
    assert line.startswith(f"{tmp_path / 'corpus'}: is not a corpus (")
