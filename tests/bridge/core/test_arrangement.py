"""What a band plays to a canvas: it leans to the chart where its model is undecided."""

from __future__ import annotations

import numpy as np

from musebridge.band.artifact import BandInfo
from musebridge.band.layout import COLUMNS, PITCHES, STEPS
from musebridge.bridge.core.arrangement import play
from musebridge.bridge.core.chart import parse_chart


class Undecided:
    """Likes C and C sharp alike at each step, and nothing else."""

    info = BandInfo(
        families=("bass",), hears=False, noise=0, is_sampled=False, monophonic=("bass",), corpus="", licence=""
    )

    def logits(self, condition, noise):
        logits = np.zeros((3, STEPS, len(PITCHES["bass"])), np.float32)
        logits[1:] = -9
        logits[1, :, [PITCHES["bass"].index(36), PITCHES["bass"].index(37)]] = 1
        return {"bass": (logits, np.full(STEPS, 0.5, np.float32))}


def test_a_band_leans_to_the_chord_of_each_step():
    chart = parse_chart("C | Db | C Db | N.C.")
    chords = [chord for bar in range(4) for chord in chart.steps(bar, 48)]
    drawn = play(Undecided(), np.zeros(0, np.float32), np.random.default_rng(0), chords=chords)[:, COLUMNS["bass"]]
    low = PITCHES["bass"].index(36)
    assert drawn[:, low].nonzero()[0].tolist() == [*range(48), *range(96, 120), *range(144, 192)]
    assert drawn[:, low + 1].nonzero()[0].tolist() == [*range(48, 96), *range(120, 144)]
