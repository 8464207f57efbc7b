"""Checkpoints: what comes back, and that nothing in them is ever executed."""

from __future__ import annotations

import json
import pickle
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from musebridge import vocab
from musebridge.errors import CheckpointError, MuseBridgeError
from musebridge.training.models import checkpoint
from musebridge.training.models.generator import Generator, GeneratorConfig

SHAPE = GeneratorConfig(n_layers=1, d_model=8, n_heads=2, n_kv_heads=1, d_ff=8, context=16)


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.fixture
def saved(tmp_path) -> Path:
    torch.manual_seed(3)
    path = tmp_path / "run" / checkpoint.WEIGHTS
    checkpoint.save_generator(path, Generator(SHAPE), {"command": "train it", "step": 7})
    return path


def rewrite(path: Path, **metadata: str) -> None:
    with safe_open(path, framework="pt") as file:
        merged = file.metadata() | metadata
    save_file(load_file(path), path, {key: value for key, value in merged.items() if value})


@pytest.mark.parametrize("by_folder", [False, True])
def test_a_generator_comes_back_with_its_record(saved, by_folder):
    torch.manual_seed(3)
    expected = Generator(SHAPE)
    generator, record = checkpoint.load_generator(saved.parent if by_folder else saved)
    assert record == {"command": "train it", "step": 7}
    assert generator.config == SHAPE
    assert not generator.training
    for name, weight in expected.state_dict().items():
        assert torch.equal(generator.state_dict()[name], weight)


def test_what_was_not_measured_is_null_in_a_record(tmp_path):
    path = tmp_path / "fine.safetensors"
    record = {"nll": float("nan"), "step": 7, "history": [{"loss": float("nan"), "taken": True, "judge_auroc": 0.7}]}
    checkpoint.save_generator(path, Generator(SHAPE), record)
    expected = {"nll": None, "step": 7, "history": [{"loss": None, "taken": True, "judge_auroc": 0.7}]}
    assert checkpoint.load_generator(path)[1] == expected


def test_half_precision_is_read_as_float32(tmp_path):
    checkpoint.save_generator(tmp_path / "half.safetensors", Generator(SHAPE), {}, torch.bfloat16)
    generator, _ = checkpoint.load_generator(tmp_path / "half.safetensors")
    assert {weight.dtype for weight in generator.parameters()} == {torch.float32}
    assert {tensor.dtype for tensor in load_file(tmp_path / "half.safetensors").values()} == {torch.bfloat16}


def test_the_file_says_its_vocabulary_and_shape(saved):
    with safe_open(saved, framework="pt") as file:
        metadata = file.metadata()
    assert metadata["vocabulary"] == vocab.FINGERPRINT
    assert json.loads(metadata["config"]) == {"kind": "default", **asdict(SHAPE)}


def test_nothing_but_the_checkpoint_is_left_behind(saved):
    checkpoint.save_state(saved.parent, {"step": 1})
    assert sorted(path.name for path in saved.parent.iterdir()) == [checkpoint.WEIGHTS, checkpoint.STATE]


def test_a_state_comes_back(tmp_path):
    state = {"step": 3, "weights": {"a": torch.arange(3.0)}, "history": [{"nll": 2.5}]}
    checkpoint.save_state(tmp_path, state)
    found = checkpoint.load_state(tmp_path)
    assert found["weights"]["a"].tolist() == [0.0, 1.0, 2.0]
    assert (found["step"], found["history"]) == (3, [{"nll": 2.5}])


def test_a_folder_without_a_run_has_no_state(tmp_path):
    assert checkpoint.load_state(tmp_path / "none") is None


def test_a_save_that_fails_keeps_the_earlier_state(tmp_path):
    checkpoint.save_state(tmp_path, {"step": 1})
    with pytest.raises(AttributeError, match="local object"):
        checkpoint.save_state(tmp_path, {"step": lambda: 2})
    assert checkpoint.load_state(tmp_path) == {"step": 1}


@pytest.mark.parametrize("content", [b"", b"rubbish", b"PK\x03\x04" + bytes(100)])
def test_a_damaged_state_is_one_line(tmp_path, content):
    (tmp_path / checkpoint.STATE).write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load_state(tmp_path)
    assert str(caught.value) == f"{tmp_path / checkpoint.STATE}: is damaged; remove it to start the run anew"


@pytest.mark.parametrize("save", [torch.save, lambda trap, path: path.write_bytes(pickle.dumps(trap))])
def test_a_pickled_object_in_a_state_is_refused_and_not_opened(tmp_path, save):
    save({"step": Trap(tmp_path / "sprung")}, tmp_path / checkpoint.STATE)
    with pytest.raises(CheckpointError, match="is damaged"):
        checkpoint.load_state(tmp_path)
    assert not (tmp_path / "sprung").exists()


def test_a_pickle_named_as_weights_is_refused_and_not_opened(tmp_path):
    path = tmp_path / "generator.safetensors"
    torch.save({"head.weight": Trap(tmp_path / "sprung")}, path)
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        checkpoint.load_generator(path)
    assert not (tmp_path / "sprung").exists()


def test_a_missing_checkpoint_is_one_line(tmp_path):
    with pytest.raises(CheckpointError, match=r"is not a checkpoint \(.*\); train one with 'musebridge train'$"):
        checkpoint.load_generator(tmp_path)


def test_weights_cut_off_are_one_line(saved):
    saved.write_bytes(saved.read_bytes()[:-64])
    with pytest.raises(CheckpointError, match=r"is not a checkpoint \(.*\); train one with 'musebridge train'$"):
        checkpoint.load_generator(saved)


@pytest.mark.parametrize("vocabulary", ["0123456789abcdef", ""])
def test_another_vocabulary_is_refused(saved, vocabulary):
    rewrite(saved, vocabulary=vocabulary)
    with pytest.raises(CheckpointError, match=r"was trained on another vocabulary; train it again$"):
        checkpoint.load_generator(saved)


@pytest.mark.parametrize(
    "metadata",
    [
        {"config": json.dumps(asdict(SHAPE) | {"d_ff": 16})},
        {"config": json.dumps(asdict(SHAPE) | {"colour": 1})},
        {"config": "[]"},
        {"config": "{"},
        {"config": ""},
        {"record": ""},
    ],
)
def test_weights_that_do_not_fit_their_description_are_one_line(saved, metadata):
    rewrite(saved, **metadata)
    with pytest.raises(MuseBridgeError) as caught:
        checkpoint.load_generator(saved)
    assert str(caught.value).startswith(str(saved))
    assert "\n" not in str(caught.value)


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for save in (
        lambda: checkpoint.save_state(tmp_path / "file", {}),
        lambda: checkpoint.save_generator(tmp_path / "file" / "x.safetensors", Generator(SHAPE), {}),
    ):
        with pytest.raises(CheckpointError, match=r"cannot be written \(.*\); choose another place$") as caught:
            save()
        assert "\n" not in str(caught.value)
