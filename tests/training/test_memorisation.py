"""What counts as copied."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from musebridge import vocab
from musebridge.training.generator import Generator, GeneratorConfig
from musebridge.training.memorisation import longest_runs, pitch_steps
from musebridge.training.sampler import sample_continuations


def melody(*pitches: int) -> np.ndarray:
    """Tokens of a melody, its notes 100 ms long."""
    return np.array([t for p in pitches for t in (p, vocab.TIME_SHIFT + 9, vocab.NOTE_OFF + p)], np.uint16)


CORPUS = np.concatenate([[vocab.BEGIN], melody(60, 62, 64, 65, 67), [vocab.BEGIN], melody(50, 47, 59)])


def test_steps_are_taken_from_note_to_note_and_never_across_pieces():
    assert pitch_steps(CORPUS).tolist() == [1000, 2, 2, 1, 2, 1000, 1000, -3, 12]


@pytest.mark.parametrize(
    ("piece", "longest"),
    [
        (melody(60, 62, 64, 65, 67), 4),  # a copy
        (melody(70, 72, 74, 75, 77), 4),  # in another key
        (melody(10, 90, 92, 94, 10), 2),  # two steps of it
        (melody(65, 67, 50, 47), 1),  # the end of one piece and the beginning of the next
        (melody(60, 90), 0),
        (melody(60), 0),
    ],
)
def test_the_longest_run_is_the_longest_that_is_shared_in_any_key(piece, longest):
    assert longest_runs(CORPUS, [piece]) == [longest]


@given(st.lists(st.integers(0, 5), min_size=2, max_size=40), st.lists(st.integers(0, 5), min_size=2, max_size=20))
def test_it_agrees_with_looking_everywhere(corpus, piece):
    known, asked = np.diff(corpus).tolist(), np.diff(piece).tolist()
    spans = [asked[i:j] for i in range(len(asked)) for j in range(i + 1, len(asked) + 1)]
    found = [s for s in spans if any(known[i : i + len(s)] == s for i in range(len(known)))]
    assert longest_runs(melody(*corpus), [melody(*piece)]) == [max(map(len, found), default=0)]


def test_pieces_are_judged_each_for_itself():
    assert longest_runs(CORPUS, [melody(60, 90), melody(60, 62, 64), melody(7, 4)]) == [0, 2, 1]


@pytest.fixture
def generator() -> Generator:
    torch.manual_seed(0)
    generator = Generator(GeneratorConfig(n_layers=1, d_model=16, n_heads=2, n_kv_heads=1, d_ff=16, context=32))
    for parameter in generator.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return generator.eval()


def test_continuations_follow_the_generators_own_distribution(generator):
    seed_BT = torch.randint(0, 388, (1, 5), generator=torch.Generator().manual_seed(1)).repeat(4000, 1)
    first_B = sample_continuations(generator, seed_BT, 1, torch.Generator().manual_seed(2))[:, 0]
    with torch.no_grad():
        expected_V = generator(seed_BT[:1])[0, -1, :388].softmax(-1)
    counts_V = torch.bincount(first_B, minlength=388) / 4000
    assert (counts_V - expected_V).abs().max() < 0.015
    assert expected_V.max() > 0.03  # so that the line above can fail


def test_the_cache_changes_no_continuation(generator):
    seed_BT = torch.randint(0, 388, (3, 5), generator=torch.Generator().manual_seed(1))
    sampled_BT = sample_continuations(generator, seed_BT, 8, torch.Generator().manual_seed(2))
    rng, tokens_BT = torch.Generator().manual_seed(2), seed_BT
    for _ in range(8):
        with torch.no_grad():
            probability_BV = generator(tokens_BT)[:, -1, :388].softmax(-1)
        tokens_BT = torch.cat([tokens_BT, torch.multinomial(probability_BV, 1, generator=rng)], 1)
    assert torch.equal(tokens_BT[:, 5:], sampled_BT)
