"""What a band's logits become: cells, drawn step by step.

A cell that is silent may only rest or begin; one that sounds may rest, begin anew
or go on. Where a family is monophonic, all its pitches share one choice to begin.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import numpy.typing as npt

from musebridge.band.layout import COLUMNS, HOLD, WIDTH, Cells

Floats = npt.NDArray[np.float32]
_LOUDEST = 31


def sample(
    outputs: Mapping[str, tuple[Floats, Floats]],
    rng: np.random.Generator | None,
    *,
    temperature: float = 1.0,
    monophonic: Collection[str] = (),
) -> Cells:
    """Draw what families play, (S, WIDTH); what other families would play is silent.

    Args:
        outputs: of each family, the logits (3, S, P) of rest, onset and hold, and the velocity 0..1 of each step, (S,).
        rng: what is drawn from; None takes the likeliest.
        temperature: logits are divided by it.
        monophonic: families that begin one note at a time, which ends the one before.
    """
    steps = next(iter(outputs.values()))[0].shape[1]
    drawn = np.zeros((steps, WIDTH), np.uint8)
    silent, sounding = np.zeros((2, steps, WIDTH), np.uint8)
    loud = np.zeros((steps, WIDTH), np.uint8)
    for family, (logits, velocity) in outputs.items():
        relative = (logits[1:] - logits[:1]) / temperature
        draw = _alone if family in monophonic else _together
        silent[:, COLUMNS[family]], sounding[:, COLUMNS[family]] = draw(relative[0], relative[1], rng)
        loud[:, COLUMNS[family]] = np.rint(velocity * _LOUDEST).astype(np.uint8)[:, None]
    kind = np.zeros(WIDTH, np.uint8)
    for step in range(steps):
        drawn[step] = kind = np.where(kind > 0, sounding[step], silent[step])
    struck = np.maximum.accumulate(np.where(drawn == 1, np.arange(steps)[:, None], 0), axis=0)
    return np.where(drawn == 2, HOLD, drawn).astype(np.uint8) + np.where(
        drawn > 0, np.take_along_axis(loud, struck, axis=0), 0
    ).astype(np.uint8)


def _together(onset: Floats, hold: Floats, rng: np.random.Generator | None) -> tuple[Cells, Cells]:
    """Return the class of each cell (S, P) after silence, and after sound, each drawn for itself."""
    if rng is None:
        best = np.where(hold > np.maximum(onset, 0), 2, onset > 0)
        return (onset > 0).astype(np.uint8), best.astype(np.uint8)
    begin, go_on, drawn = np.exp(onset), np.exp(hold), rng.random(onset.shape, np.float32)
    total = 1 + begin + go_on
    after = np.where(drawn * total < go_on, 2, drawn * total < go_on + begin)
    return (drawn * (1 + begin) < begin).astype(np.uint8), after.astype(np.uint8)


def _alone(onset: Floats, hold: Floats, rng: np.random.Generator | None) -> tuple[Cells, Cells]:
    """Return the same where at most one cell begins at a step, and then ends the others."""
    choices = np.concatenate([np.zeros_like(onset[:, :1]), onset], 1)
    best = (choices if rng is None else choices + rng.gumbel(size=choices.shape)).argmax(1)
    begins = (best[:, None] == 1 + np.arange(onset.shape[1])).astype(np.uint8)
    goes_on = hold > (0 if rng is None else rng.logistic(size=hold.shape))
    return begins, np.where((best > 0)[:, None], begins, 2 * goes_on).astype(np.uint8)
