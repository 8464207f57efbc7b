"""Two processes train as one does."""

import subprocess
import sys

import pytest
import torch

from musebridge.errors import ConfigError
from musebridge.training.compute.distributed import Distributed
from musebridge.training.models import checkpoint

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
warmup_steps = 5
"""


def test_two_processes_take_the_path_of_one_with_the_same_global_batch(small_corpus, tmp_path):
    (tmp_path / "tiny.toml").write_text(CONFIG)
    arguments = ["train", str(small_corpus), "--config", str(tmp_path / "tiny.toml"), "--budget", "5k", "--no-compile"]
    alone = [sys.executable, "-m", "musebridge"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for name, command in (("one", alone), ("two", [*torchrun, "--module", "--", "musebridge"])):
        done = subprocess.run([*command, *arguments, "--run", str(tmp_path / name)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    one, two = (checkpoint.load_state(tmp_path / name) for name in ("one", "two"))
    assert one is not None
    assert two is not None
    assert one["progress"]["step"] == two["progress"]["step"] == 40
    # How bfloat16 products are rounded depends on the rows of a batch, and on the processor.
    assert two["progress"]["train_nll"] == pytest.approx(one["progress"]["train_nll"], abs=1e-3)
    assert two["history"][-1]["validation_nll"] == pytest.approx(one["history"][-1]["validation_nll"], abs=2e-3)


def test_each_process_takes_its_own_part_of_a_batch():
    parts = [Distributed(rank=rank, size=4).shard(80, 8) for rank in range(4)]
    assert parts == [(80, 2), (82, 2), (84, 2), (86, 2)]
    with pytest.raises(ConfigError, match="batch must be a multiple of 3 processes, found 8"):
        Distributed(size=3).shard(0, 8)


def test_alone_nothing_is_averaged_or_agreed_on():
    model = torch.nn.Linear(2, 1)
    model(torch.ones(1, 2)).sum().backward()
    before = model.weight.grad.clone()
    loss = torch.tensor(3.0)
    assert Distributed().average(model, loss) is loss
    assert torch.equal(model.weight.grad, before)
    assert Distributed().broadcast(1.5) == 1.5
