"""Logits to a token: grammar and constraint masks, temperature, top-p, min-p.

Top-p is nucleus sampling (Holtzman et al. 2020), min-p is Nguyen et al. 2024.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import numpy.typing as npt

from musebridge.vocab import BEGIN, MAX_SHIFT_STEPS, N_EVENTS, NOTE_OFF, TIME_SHIFT, VELOCITY

Logits = npt.NDArray[np.float32]


_NOTE_OFF_BIAS_AFTER_S, _NOTE_OFF_BIAS_PER_S = 1.0, 1.0
"""How long a note is left to the model, and by how many nats a second its end is likelier from then on.

Of some that were tried on continuations of the train split these came nearest to its own shares of notes beyond 3, 5
and 10 s.
"""


def note_off_bias(logits_V: Logits, age_s: Mapping[int, float]) -> None:
    """Make it likelier, in place, that notes end which the model may have forgotten.

    To strike what sounds already, which no player can, is to end it first, so that likelihood goes to its release.
    And the longer a note sounds, the likelier is its release: a generator that reads on from its own music loses
    sight of a note now and then.

    Args:
        logits_V: one row of logits, shape (N_TOKENS,).
        age_s: for how long each pitch has sounded.
    """
    if not age_s:
        return
    pitches = [*age_s]
    offs = [NOTE_OFF + pitch for pitch in pitches]
    late_s = np.array([max(0.0, age - _NOTE_OFF_BIAS_AFTER_S) for age in age_s.values()], np.float32)
    logits_V[offs] = np.logaddexp(logits_V[offs], logits_V[pitches]) + _NOTE_OFF_BIAS_PER_S * late_s


def favour(logits_V: Logits, weight_P: npt.NDArray[np.float32]) -> None:
    """Make some pitches likelier than others, in place; that a note is struck at all stays as likely as it was.

    Args:
        logits_V: one row of logits, shape (N_TOKENS,); forbidden tokens are -inf, and stay so.
        weight_P: what each pitch gains, in nats, shape (128,).
    """
    struck_P = logits_V[:NOTE_OFF]
    whole = np.logaddexp.reduce(struck_P)
    if np.isfinite(whole) and weight_P.any():
        struck_P += weight_P
        struck_P += whole - np.logaddexp.reduce(struck_P)


def mask_grammar(logits_V: Logits, *, sounding: Collection[int], releasable: Collection[int]) -> None:
    """Forbid, in place, what has no musical meaning now.

    Args:
        logits_V: one row of logits, shape (N_TOKENS,).
        sounding: pitches that must not be struck again.
        releasable: pitches that may be released; no other may.
    """
    logits_V[BEGIN:] = -np.inf
    logits_V[list(sounding)] = -np.inf
    offs = [NOTE_OFF + pitch for pitch in releasable]
    kept = logits_V[offs]
    logits_V[NOTE_OFF:TIME_SHIFT] = -np.inf
    logits_V[offs] = kept


def mask_all_but_shifts(logits_V: Logits, *, least: int = 1) -> None:
    """Forbid, in place, everything but the passing of time, and of less than ``least`` steps of it."""
    logits_V[: TIME_SHIFT + min(max(least, 1), MAX_SHIFT_STEPS) - 1] = -np.inf
    logits_V[VELOCITY:] = -np.inf


def mask_shifts(logits_V: Logits) -> None:
    """Forbid, in place, the passing of time."""
    logits_V[TIME_SHIFT:VELOCITY] = -np.inf


def mask_pitches(logits_V: Logits, allowed_P: npt.NDArray[np.bool_]) -> None:
    """Forbid, in place, to strike the pitches that are not ``allowed_P``, shape (128,)."""
    logits_V[:NOTE_OFF][~allowed_P] = -np.inf


def sample(
    logits_V: Logits, rng: np.random.Generator, *, temperature: float = 1.0, top_p: float = 1.0, min_p: float = 0.0
) -> int:
    """Draw a token from masked logits; uses one random number, whatever the settings.

    Args:
        logits_V: one row of logits; forbidden tokens are -inf. Overwritten.
        rng: source of randomness.
        temperature: more than 0; below 1 sharpens, above 1 flattens.
        top_p: the smallest set of likeliest tokens that holds this share is kept.
        min_p: of these, tokens less likely than this share of the likeliest are dropped.
    """
    scores = logits_V[:N_EVENTS].astype(np.float64)
    scores -= scores.max()
    scores /= temperature
    order = np.argsort(-scores, kind="stable")
    likelihoods = np.exp(scores[order])  # falling from 1
    cumulative = np.cumsum(likelihoods)
    kept = min(
        int(np.searchsorted(cumulative, top_p * cumulative[-1])) + 1,
        int(np.searchsorted(-likelihoods, -min_p, side="right")),
    )
    total = cumulative[min(kept, len(cumulative)) - 1]
    return int(order[np.searchsorted(cumulative, rng.random() * total, side="right")])
