"""From logits to a token."""

import numpy as np
import pytest

from musebridge.bridge.core.sampling import mask_all_but_shifts, mask_grammar, mask_pitches, note_off_bias, sample
from musebridge.vocab import BEGIN, N_EVENTS, N_TOKENS, NOTE_OFF, TIME_SHIFT, VELOCITY


def flat() -> np.ndarray:
    return np.zeros(N_TOKENS, np.float32)


def allowed(logits: np.ndarray) -> set[int]:
    return set(np.flatnonzero(np.isfinite(logits)).tolist())


def test_grammar_forbids_striking_what_sounds_and_releasing_what_is_not_ours() -> None:
    logits = flat()
    mask_grammar(logits, sounding={60, 64}, releasable=[64])
    strikes = set(range(128)) - {60, 64}
    assert allowed(logits) == strikes | {NOTE_OFF + 64} | set(range(TIME_SHIFT, N_EVENTS))
    assert BEGIN not in allowed(logits)


def test_grammar_in_silence_forbids_every_release() -> None:
    logits = flat()
    mask_grammar(logits, sounding=(), releasable=())
    assert allowed(logits) == set(range(NOTE_OFF)) | set(range(TIME_SHIFT, N_EVENTS))


def test_a_strike_of_what_sounds_is_as_likely_a_release() -> None:
    logits = flat()
    logits[60] = 2.0
    note_off_bias(logits, {60: 0.5, 62: 0.1})
    assert logits[NOTE_OFF + 60] == pytest.approx(np.log(np.exp(2.0) + 1))
    assert logits[NOTE_OFF + 62] == pytest.approx(np.log(2))
    logits[[NOTE_OFF + 60, NOTE_OFF + 62]] = 0
    assert not np.delete(logits, 60).any()


def test_the_longer_a_note_sounds_the_likelier_is_its_release() -> None:
    def release(age_s: float) -> float:
        logits = flat()
        note_off_bias(logits, {60: age_s})
        return float(logits[NOTE_OFF + 60])

    assert release(1.0) == release(0.1)
    assert release(4.0) - release(3.0) == pytest.approx(release(3.0) - release(2.0))
    assert release(3.0) > release(2.0)


def test_only_shifts_remain_when_time_must_pass() -> None:
    logits = flat()
    mask_all_but_shifts(logits)
    assert allowed(logits) == set(range(TIME_SHIFT, VELOCITY))


def test_samples_follow_the_softmax() -> None:
    rng, logits = np.random.default_rng(0), np.full(N_TOKENS, -np.inf, np.float32)
    logits[[10, 20, 30]] = np.log([0.5, 0.3, 0.2])
    counts = np.bincount([sample(logits.copy(), rng) for _ in range(20_000)], minlength=N_TOKENS) / 20_000
    np.testing.assert_allclose(counts[[10, 20, 30]], [0.5, 0.3, 0.2], atol=0.015)
    assert counts.sum() == pytest.approx(1.0)


def test_temperature_sharpens_as_a_power_of_the_probabilities() -> None:
    rng, logits = np.random.default_rng(0), np.full(N_TOKENS, -np.inf, np.float32)
    logits[[10, 20]] = np.log([0.6, 0.4])
    share = np.mean([sample(logits.copy(), rng, temperature=0.5) == 10 for _ in range(20_000)])
    assert share == pytest.approx(0.36 / (0.36 + 0.16), abs=0.015)


def test_top_p_keeps_the_smallest_set_that_reaches_it() -> None:
    rng, logits = np.random.default_rng(0), np.full(N_TOKENS, -np.inf, np.float32)
    logits[[10, 20, 30, 40]] = np.log([0.4, 0.3, 0.2, 0.1])
    drawn = {sample(logits.copy(), rng, top_p=0.65) for _ in range(500)}
    assert drawn == {10, 20}
    assert {sample(logits.copy(), rng, top_p=0.05) for _ in range(50)} == {10}


def test_the_same_seed_draws_the_same_tokens() -> None:
    logits = np.random.default_rng(1).normal(size=N_TOKENS).astype(np.float32)

    def draw() -> list[int]:
        rng = np.random.default_rng(7)
        return [sample(logits.copy(), rng, top_p=0.9) for _ in range(50)]

    assert draw() == draw()
    assert len(set(draw())) > 10


def test_min_p_drops_what_is_much_less_likely_than_the_likeliest() -> None:
    rng, logits = np.random.default_rng(0), np.full(N_TOKENS, -np.inf, np.float32)
    logits[[10, 20, 30]] = np.log([0.6, 0.31, 0.09])
    assert {sample(logits.copy(), rng, min_p=0.5) for _ in range(200)} == {10, 20}
    assert {sample(logits.copy(), rng, min_p=1.0) for _ in range(50)} == {10}
    assert {sample(logits.copy(), rng, min_p=0.0) for _ in range(200)} == {10, 20, 30}


def test_min_p_and_top_p_keep_what_both_keep() -> None:
    rng, logits = np.random.default_rng(0), np.full(N_TOKENS, -np.inf, np.float32)
    logits[[10, 20, 30]] = np.log([0.5, 0.3, 0.2])
    assert {sample(logits.copy(), rng, min_p=0.5, top_p=0.4) for _ in range(50)} == {10}
    assert {sample(logits.copy(), rng, min_p=0.5, top_p=1.0) for _ in range(200)} == {10, 20}


def test_only_allowed_pitches_may_be_struck() -> None:
    logits, allowed_P = flat(), np.zeros(128, bool)
    allowed_P[[60, 62]] = True
    mask_pitches(logits, allowed_P)
    assert allowed(logits) == {60, 62} | set(range(NOTE_OFF, N_TOKENS))
