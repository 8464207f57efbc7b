"""Learning from one's own takes."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs: pip install -e '.[train]'")

from musebridge.errors import CorpusError  # noqa: E402
from musebridge.training.models.generator import Generator, GeneratorConfig  # noqa: E402
from musebridge.training.pretraining.personal import Personal, learn, nats, split  # noqa: E402
from musebridge.vocab import BEGIN, NOTE_OFF, TIME_SHIFT  # noqa: E402

CONFIG = Personal(steps=40, length=64, own=4, rate=3e-3)
SCALE = [token for pitch in (60, 62, 64, 65, 67) for token in (pitch, TIME_SHIFT + 19, NOTE_OFF + pitch)]
TAKES = [np.array([BEGIN, *SCALE * n], np.uint16) for n in (9, 11, 10)]


@pytest.fixture(scope="module")
def base() -> Generator:
    torch.manual_seed(0)
    shape = GeneratorConfig(n_layers=2, d_model=64, n_heads=4, n_kv_heads=2, d_ff=96, context=128)
    return Generator(shape).eval().requires_grad_(False)


def test_the_last_tenth_is_held_out_and_nothing_is_lost() -> None:
    seen, held_out = split(TAKES, CONFIG)
    total = sum(map(len, TAKES))
    assert (len(seen), len(held_out)) == (total * 9 // 10, total - total * 9 // 10)
    assert sorted([*seen, *held_out]) == sorted(np.concatenate(TAKES))


def test_it_learns_and_leaves_what_it_began_with(base: Generator) -> None:
    weights = {name: weight.clone() for name, weight in base.state_dict().items()}
    moves: list[float] = []
    learned = learn(base, TAKES, CONFIG, moves.append)
    held_out = split(TAKES, CONFIG)[1]
    assert learned.before == nats(base, held_out, 64)
    assert learned.after == nats(learned.generator, held_out, 64) < learned.before - 1
    assert (len(moves), moves[-1]) == (40, 1.0)
    assert all(torch.equal(weight, weights[name]) for name, weight in base.state_dict().items())
    assert not any(weight.requires_grad for weight in learned.generator.parameters())


def test_the_same_seed_learns_the_same(base: Generator) -> None:
    few = Personal(steps=3, length=64, own=2)
    first, second = (learn(base, TAKES, few, lambda _: None).generator.state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_an_anchor_keeps_it_nearer(base: Generator) -> None:
    def moved(anchor: float) -> float:
        config = Personal(steps=20, length=64, own=4, rate=3e-3, anchor=anchor)
        own_BT = torch.randint(0, 128, (4, 64), generator=torch.Generator().manual_seed(1))
        learned = learn(base, TAKES, config, lambda _: None).generator
        with torch.no_grad():
            return float((learned(own_BT).softmax(-1) - base(own_BT).softmax(-1)).abs().sum())

    assert moved(10.0) < moved(0.0)


def test_too_little_music_is_refused(base: Generator) -> None:
    with pytest.raises(CorpusError, match=r"^136 tokens are too little music to learn from; give takes of 320 or more"):
        learn(base, TAKES[:1], CONFIG, lambda _: None)
