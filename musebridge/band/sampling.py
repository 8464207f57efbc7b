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
    for family, (logits, velocity) in outputs.items():
        scores = _scores(logits, rng, temperature, family in monophonic)
        drawn[:, COLUMNS[family]] = _walk(*scores, np.rint(velocity * _LOUDEST).astype(np.uint8), family in monophonic)
    return drawn


def _scores(
    logits: Floats, rng: np.random.Generator | None, temperature: float, alone: bool
) -> tuple[Floats, Floats, Floats]:
    """Return perturbed scores of rest, onset and hold; where one begins at a time, that of beginning none is ``rest[:, :1]``."""
    relative = (logits[1:] - logits[:1]) / temperature
    noise = np.zeros((3, *relative.shape[1:])) if rng is None else rng.gumbel(size=(3, *relative.shape[1:]))
    onset, hold = relative[0] + noise[1], relative[1]
    if alone:
        hold = hold + (0 if rng is None else rng.logistic(size=hold.shape))
        return noise[0].astype(np.float32), onset.astype(np.float32), hold.astype(np.float32)
    return noise[0].astype(np.float32), onset.astype(np.float32), (hold + noise[2]).astype(np.float32)


def _walk(rest: Floats, onset: Floats, hold: Floats, loud: npt.NDArray[np.uint8], alone: bool) -> Cells:
    drawn = np.zeros(rest.shape, np.uint8)
    before = np.zeros(rest.shape[1], np.uint8)
    cells = np.arange(rest.shape[1])
    for step in range(len(rest)):
        if alone:
            best = int(onset[step].argmax())
            begins = (cells == best) & (onset[step, best] > rest[step, 0])
            holds = (hold[step] > 0) & (before > 0) & ~begins.any()
        else:
            begins = onset[step] > rest[step]
            holds = (before > 0) & (hold[step] > np.maximum(rest[step], onset[step]))
            begins &= ~holds & ((before == 0) | (onset[step] > hold[step]))
        before = np.where(begins, loud[step] + 1, np.where(holds, before, 0)).astype(np.uint8)
        drawn[step] = before + (HOLD - 1) * (holds & (before > 0))
    return drawn
