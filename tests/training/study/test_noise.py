"""The noise study: what noise is, what is heard of it, and a control that must be at chance."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from musebridge import vocab
from musebridge.errors import CheckpointError
from musebridge.training.adversarial.discriminator_trainer import DiscriminatorTrainer
from musebridge.training.adversarial.pair_trainer import DiscriminatorTraining
from musebridge.training.data import corpus
from musebridge.training.metrics.classification import auroc
from musebridge.training.models import checkpoint
from musebridge.training.models.discriminator import DiscriminatorConfig
from musebridge.training.models.generator import Generator, GeneratorConfig
from musebridge.training.sampling.pairs import Window, pairs
from musebridge.training.study.noise import jittered, study, with_noise, write_study
from musebridge.training.study.token_transformer import TokenTransformer, fit, scores

pytestmark = pytest.mark.usefixtures("one_thread")

WINDOW = Window(seed_length=8, continuation_length=12)


@pytest.fixture
def folder(small_corpus, tmp_path):
    """A discriminator that was trained for a moment, and its generator."""
    torch.manual_seed(0)
    generator = Generator(GeneratorConfig(n_layers=1, d_model=8, n_heads=1, n_kv_heads=1, d_ff=8, context=32)).eval()
    shape = DiscriminatorConfig(n_layers=1, d_model=8, n_heads=1, n_kv_heads=1, d_ff=8, context=32, hidden=8)
    tokens = corpus.load(small_corpus).splits["train"]
    made = pairs(generator, tokens, tmp_path / "samples", count=24, window=WINDOW, seed=0)
    checkpoint.save_generator(tmp_path / checkpoint.WEIGHTS, generator, {})
    training = DiscriminatorTraining(batch=8, validate_steps=3)
    trainer = DiscriminatorTrainer(generator, made, made, tmp_path, shape, training, command="train", compile=False)
    trainer.run(lambda share: None, lambda row: None)
    return tmp_path


def test_noise_moves_tokens_of_its_kind_within_their_range_and_no_others():
    rng = np.random.default_rng(0)
    tokens = np.tile([60, vocab.NOTE_OFF + 60, vocab.TIME_SHIFT, vocab.TIME_SHIFT + 50, vocab.VELOCITY + 31], (500, 1))
    moved = with_noise(tokens, "TIME_SHIFT", 2, rng)
    assert (moved[:, [0, 1, 4]] == tokens[:, [0, 1, 4]]).all()
    assert set(moved[:, 2]) == {vocab.TIME_SHIFT + i for i in (0, 1, 2)}  # no shift is shorter than the shortest
    assert set(moved[:, 3]) == {vocab.TIME_SHIFT + 50 + i for i in range(-2, 3)}
    assert set(with_noise(tokens, "VELOCITY", 1, rng)[:, 4]) == {vocab.VELOCITY + 30, vocab.VELOCITY + 31}


def test_the_study_judges_every_noise_and_a_control_that_only_chance_tells_apart(folder, small_corpus):
    told: list[float] = []
    rows = list(
        study(folder, corpus.load(small_corpus), split="train", windows=100, window=WINDOW, on_progress=told.append)
    )
    assert [(row.kind, row.width) for row in rows] == [
        ("", 0), ("VELOCITY", 1), ("VELOCITY", 2), ("VELOCITY", 4),
        ("TIME_SHIFT", 2), ("TIME_SHIFT", 5), ("TIME_SHIFT", 10),
    ]  # fmt: skip
    assert told[-1] == 1.0
    control, n = rows[0], rows[0].discriminator.pairs
    chance = ((2 * n + 1) / (12 * n**2)) ** 0.5  # standard deviation of the AUROC of n against n of one kind
    for skill in (control.discriminator, control.fresh):
        assert abs(skill.auroc.value - 0.5) < 3.3 * chance  # three pieces are too few for an interval over pieces
    assert {row.taught for row in rows} == {row.mistaken for row in rows} == {None}
    page = write_study(rows, folder / "report", "musebridge evaluate …")
    assert f"| TIME_SHIFT ±20 ms | {rows[4].discriminator.auroc} |" in page.read_text("utf-8")
    for kind in ("velocity", "time_shift"):
        assert (folder / "report" / f"noise-{kind}.png").read_bytes().startswith(b"\x89PNG")


def test_two_transformers_are_taught_each_noise_if_asked_for(folder, small_corpus):
    rows = list(study(folder, corpus.load(small_corpus), split="train", windows=20, window=WINDOW, transformer_steps=2))
    page = write_study(rows, folder, "musebridge evaluate …").read_text("utf-8")
    assert f"| VELOCITY ±1 of 32 bins | {rows[1].taught.auroc} |" in page
    assert f" | {rows[-1].mistaken.auroc} | {rows[-1].mistaken.macro_f1} | {rows[-1].mistaken.mcc} |\n" in page
    assert (rows[0].taught, rows[0].mistaken) == (None, None)


@pytest.mark.parametrize("over_batch", [False, True])
def test_only_a_judge_that_attends_over_time_hears_in_what_order_events_come(over_batch):
    """The mistake of earlier work: shuffled music looks the same, and what else is judged matters."""
    torch.manual_seed(0)
    judge = TokenTransformer(over_batch=over_batch).eval()
    for block in judge.blocks:
        torch.nn.init.normal_(block.attention.out.weight, std=0.1)
    window_BT = torch.randint(0, vocab.N_EVENTS, (4, 20))
    shuffled_BT = torch.cat([window_BT[:, :8], window_BT[:, 8:].flip(1)], 1)
    with torch.no_grad():
        logit_B = judge(window_BT, 8)
        assert torch.allclose(judge(shuffled_BT, 8), logit_B, atol=1e-5) == over_batch
        assert torch.allclose(judge(window_BT[:2], 8), logit_B[:2], atol=1e-5) != over_batch


def test_a_judge_that_attends_over_time_learns_order_and_the_other_cannot():
    """Half of the windows rise, the others are the same notes falling."""
    rng = np.random.default_rng(0)
    rising_NT = np.sort(rng.integers(20, 100, (288, 24)), 1)
    falling_NT = rising_NT[:, ::-1].copy()
    aurocs = []
    for over_batch in (False, True):
        model = fit(rising_NT[:256], falling_NT[:256], 0, over_batch=over_batch, steps=60)
        aurocs.append(auroc(*scores(model, rising_NT[256:], falling_NT[256:], 0)))
    assert aurocs[0] > 0.95
    assert 0.3 < aurocs[1] < 0.7


def test_a_folder_without_a_discriminator_is_one_line(small_corpus, tmp_path):
    with pytest.raises(CheckpointError, match="holds no discriminator; train one with"):
        next(study(tmp_path, corpus.load(small_corpus), split="train", windows=10, window=WINDOW))


def test_jitter_moves_every_note_on_its_own_and_nothing_else():
    tokens = np.array([380, 60, 64, 256 + 49, 370, 67, 128 + 60, 256 + 99, 128 + 64])
    assert jittered(tokens, 0, np.random.default_rng(0)).tolist() == tokens.tolist()
    later = tokens[1:]  # the velocity is known from before
    assert jittered(later, 0, np.random.default_rng(0)).tolist() == later.tolist()
    moved = jittered(tokens, 2, np.random.default_rng(1))

    def events(of):
        return {
            (type(e.event).__name__, e.event.pitch): (e.time_s, getattr(e.event, "velocity", None))
            for e in vocab.decode(of)
        }

    before, after = events(tokens.tolist()), events(moved.tolist())
    assert before.keys() == after.keys()
    apart = [after[key][0] - before[key][0] for key in before]
    assert max(abs(s) for s in apart) < 0.0201
    assert len({round(s, 2) for s in apart}) > 1
    assert [after[key][1] for key in before] == [before[key][1] for key in before]
