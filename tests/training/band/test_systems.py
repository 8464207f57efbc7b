"""Each system of a band takes a step and plays, in tiny widths."""

import numpy as np
import pytest
import torch

from musebridge.band.layout import COLUMNS, STEPS, WIDTH
from musebridge.errors import ConfigError
from musebridge.training.band.corpus import Windows
from musebridge.training.band.registry import create
from musebridge.training.band.system import batch_of

TABLES = [
    ({"kind": "likelihood", "width": 8, "layers": 1, "heads": 2}, {}),
    *[
        ({"kind": "musegan", "wiring": wiring, "conditional": heard, "width": 8}, training)
        for wiring in ("jamming", "composer", "hybrid")
        for heard in (True, False)
        for training in ({"objective": "hinge"}, {"objective": "wgan-gp", "critic_steps": 2})
    ],
    ({"kind": "frames", "body": "gpt", "width": 8, "layers": 1, "heads": 2}, {}),
    ({"kind": "frames", "body": "lstm", "width": 8, "layers": 1}, {}),
    ({"kind": "image", "width": 4, "causal": True}, {}),
    ({"kind": "image", "width": 4, "causal": False}, {}),
]


def batch(size=2):
    code = np.zeros((size, STEPS, WIDTH), np.uint8)
    code[:, ::12, COLUMNS["piano"].start + 30] = 17
    code[:, 1::12, COLUMNS["piano"].start + 30] = 64 + 16
    code[:, ::24, COLUMNS["bass"].start + 5] = 20
    code[:, ::12, COLUMNS["drums"].start] = 20
    return batch_of(Windows(code, np.full(size, 3), np.zeros(size, np.int64)))


@pytest.mark.parametrize(("system", "training"), TABLES, ids=lambda table: "-".join(map(str, table.values())))
def test_a_system_takes_a_step_that_changes_its_weights(system, training):
    torch.manual_seed(0)
    made = create(system, training)
    before = [weight.clone() for weight in made.network.parameters()]
    figures = made.update(batch(), 0.5)
    assert all(np.isfinite(value) for value in figures.values())
    assert any(not torch.equal(a, b) for a, b in zip(before, made.network.parameters(), strict=True))


def test_the_likelihood_falls_on_what_is_seen_again():
    torch.manual_seed(0)
    made = create(TABLES[0][0], {"lr": 0.01, "unheard": 0.0})
    first = made.nll(batch())
    for _ in range(20):
        made.update(batch(), 0.1)
    assert made.nll(batch()) < first / 2


def test_a_kind_that_does_not_exist_is_refused_in_a_line():
    with pytest.raises(ConfigError, match="kind must be one of likelihood, musegan, frames, image, found 'vae'"):
        create({"kind": "vae"}, {})


def test_a_frame_depends_on_earlier_frames_alone():
    for body in ("gpt", "lstm"):
        network = create({"kind": "frames", "body": body, "width": 8, "layers": 1, "heads": 2}, {}).player
        planes = torch.zeros(1, 2, 24, 88)
        changed = planes.clone()
        changed[:, :, 12:] = 1
        with torch.no_grad():
            assert torch.allclose(network(planes)[:, :, :12], network(changed)[:, :, :12], atol=1e-6)
            assert not torch.allclose(network(planes)[:, :, 12:], network(changed)[:, :, 12:])
