"""All systems on the same held-out bars: what each plays to a player's part, and how near to the real band it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from musebridge.band.families import BASS, FAMILIES
from musebridge.band.layout import BAR, BARS, COLUMNS, HOLD, PITCHES, STEPS, Cells, condition, leads
from musebridge.band.sampling import sample
from musebridge.errors import CorpusError
from musebridge.training.band import metrics
from musebridge.training.band.corpus import Piece
from musebridge.training.band.musegan import MuseGan
from musebridge.training.band.network import BandNetwork
from musebridge.training.metrics.bootstrap import ClusterBootstrap, Estimate, estimate

Player = Callable[[npt.NDArray[np.float32], int], Cells]
"""(N, 3, S, 88) of the player's part and a seed → the band's cells (N, S, WIDTH)."""
ACCOMPANIMENT = tuple(family for family in FAMILIES if family != "piano")
PITCHED = tuple(family for family in ACCOMPANIMENT if family != "drums")
_LEAST_BEATS = 2


@dataclass(frozen=True, slots=True, eq=False)
class Bars:
    """Windows that every row of the table is asked for.

    Attributes:
        code: the real cells, (N, S, WIDTH).
        heard: the player's part of the same bars, (N, 3, S, 88).
        earlier: the player's part one pass of the form earlier, of the same shape; and whether there is one, (N,).
        lead: the row in ``FAMILIES`` of the player's part, (N,).
        group: of tunes, (N,).
    """

    code: Cells
    heard: npt.NDArray[np.float32]
    earlier: npt.NDArray[np.float32]
    repeats: npt.NDArray[np.bool_]
    lead: npt.NDArray[np.int64]
    group: npt.NDArray[np.int64]

    def some(self, which: npt.NDArray[np.bool_]) -> Bars:
        """Return some of them."""
        return Bars(*(getattr(self, name)[which] for name in self.__slots__))


def period(code: Cells, lead: int, bars: npt.NDArray[np.int64], most: int = 32) -> int:
    """Return after how many bars what the player plays comes again, found from that part alone; 0 where it does not.

    The chroma of beats is compared with itself so many bars earlier; of lags whose mean cosine is within
    a twentieth of the best, the shortest is the form.
    """
    family = FAMILIES[lead]
    counts = metrics.pitch_classes(code[None, :, COLUMNS[family]], family)[0]
    beats = np.stack(
        [counts[start : start + BAR].reshape(4, 12, 12).sum(1) for start in bars if start + BAR <= len(code)]
    )
    flat = beats.reshape(len(beats), -1)
    flat = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9)
    lags = [lag for lag in range(4, most + 1) if lag <= len(flat) // 2]
    if not lags:
        return 0
    alike = np.array([float((flat[lag:] * flat[:-lag]).sum(1).mean()) for lag in lags])
    return int(lags[int(np.flatnonzero(alike >= alike.max() - 0.05)[0])]) if alike.max() > 0 else 0


def bars_of(pieces: Sequence[Piece], *, a_piece: int = 6) -> Bars:
    """Return windows of pieces, spread evenly, at most so many of each.

    Raises:
        CorpusError: no window has a player's part.
    """
    found = []
    groups = {group: i for i, group in enumerate(sorted({piece.group for piece in pieces}))}
    for piece in pieces:
        starts = piece.windows()
        starts = starts[np.unique(np.linspace(0, len(starts) - 1, a_piece).astype(int))] if len(starts) else starts
        lags: dict[int, int] = {}
        for start in starts.tolist():
            code = piece.code[start : start + STEPS]
            if (lead := leads(code)) < 0:
                continue
            if lead not in lags:
                lags[lead] = period(piece.code, lead, piece.bars)
            back = start - lags[lead] * BAR
            repeats = lags[lead] >= BARS and back >= 0
            before = condition(piece.code[back : back + STEPS] if repeats else code * 0, lead)
            found.append((code, condition(code, lead), before, repeats, lead, groups[piece.group]))
    if not found:
        raise CorpusError("no window of the held-out files has a piano, guitar or strings that lead")
    return Bars(*(np.stack([np.asarray(row[i]) for row in found]) for i in range(6)))


def network_player(network: BandNetwork | MuseGan, *, temperature: float = 1.0, size: int = 64) -> Player:
    """Return what plays by a network's logits; those of a MuseGAN are certain, and what is drawn is its noise."""
    draws = not isinstance(network, MuseGan)

    @torch.no_grad()
    def play(heard: npt.NDArray[np.float32], seed: int) -> Cells:
        rng = np.random.default_rng(seed)
        played = []
        for first in range(0, len(heard), size):
            inputs = [torch.from_numpy(heard[first : first + size])]
            if isinstance(network, MuseGan):
                noise = rng.standard_normal((len(inputs[0]), network.config.noise), np.float32)
                inputs.append(torch.from_numpy(noise))
            outputs = network(*inputs)
            for row in range(len(heard[first : first + size])):
                one = {f: (logits[row].numpy(), loud[row].numpy()) for f, (logits, loud) in outputs.items()}
                played.append(
                    sample(one, rng if draws else None, temperature=temperature, monophonic=(BASS,) if draws else ())
                )
        return np.stack(played)

    return play


def lowest_doubled(bars: Bars) -> Cells:
    """Return the rule that games tonal distance: the bass, and all who accompany, double the player's lowest note."""
    played = np.zeros_like(bars.code)
    for n, heard in enumerate(bars.heard):
        sounds = (heard[0] + heard[1]) > 0
        low = np.where(sounds.any(1), sounds.argmax(1), -1)
        for family in PITCHED:
            first = PITCHES[family][0]
            pitch = low + PITCHES["piano"][0]
            place = (pitch - first) % 12
            new = (low >= 0) & ((low != np.roll(low, 1)) | (heard[0].max(1) > 0) | (np.arange(len(low)) == 0))
            steps = np.flatnonzero(low >= 0)
            played[n, steps, COLUMNS[family].start + place[steps]] = np.where(new[steps], 17, HOLD + 16)
    return played


def shuffled(bars: Bars, seed: int = 0) -> npt.NDArray[np.int64]:
    """Return for each window another, of another tune."""
    rng, order = np.random.default_rng(seed), np.arange(len(bars.group))
    for n in range(len(order)):
        others = np.flatnonzero(bars.group != bars.group[n])
        order[n] = rng.choice(others) if len(others) else n
    return order


def distances(bars: Bars, code: Cells) -> dict[str, npt.NDArray[np.float64]]:
    """Return of each pitched family its mean tonal distance to the player's part in each window, (N,); NaN is silence.

    A family that is the player's itself is left out, and so are windows where the real one is silent.
    """
    sounds = (bars.heard[:, 0] + bars.heard[:, 1]) > 0
    of = np.array(PITCHES["piano"]) % 12
    lead = np.stack([sounds[..., of == chroma].sum(-1) for chroma in range(12)], -1).astype(np.float64)
    found = {}
    for family in PITCHED:
        by_beat = metrics.tonal_distances(metrics.pitch_classes(code[..., COLUMNS[family]], family), lead)
        known = ~np.isnan(by_beat)
        enough = (known.sum(1) >= _LEAST_BEATS) & (bars.lead != FAMILIES.index(family))
        enough &= bars.code[..., COLUMNS[family]].any((1, 2))
        mean = np.where(known, by_beat, 0).sum(1) / np.maximum(known.sum(1), 1)
        found[family] = np.where(enough, mean, np.nan)
    return found


def gaps(bars: Bars, code: Cells, other: npt.NDArray[np.int64]) -> dict[str, Estimate]:
    """Return how much of the gap between shuffled and real each family closes, and ``all``, with intervals by tune."""
    bootstrap = ClusterBootstrap(bars.group)
    mine, real, mixed = (distances(bars, each) for each in (code, bars.code, bars.code[other]))
    means = {f: tuple(bootstrap.mean(each[f]) for each in (mine, real, mixed)) for f in PITCHED}
    sums = [np.sum([means[f][i] for f in PITCHED], axis=0) for i in range(3)]
    with np.errstate(divide="ignore", invalid="ignore"):  # a family that nobody has closes no gap: NaN
        found = {f: estimate((s - m) / (s - r)) for f, (m, r, s) in means.items()}
        return {**found, "all": estimate((sums[2] - sums[0]) / (sums[2] - sums[1]))}


def copied(code: Cells, bars: Bars, length: int = 16) -> float:
    """Return which share of windows has a bass line of so many onsets in common with some real one, in %."""

    def runs(each: Cells) -> list[set[tuple[int, ...]]]:
        return [_runs(window[:, COLUMNS[BASS]], length) for window in each]

    known = set().union(*runs(bars.code))
    return 100 * float(np.mean([bool(own & known) for own in runs(code)]))


def _runs(bass: Cells, length: int) -> set[tuple[int, ...]]:
    steps, pitches = np.nonzero((bass > 0) & (bass < HOLD))
    line = list(zip(np.diff(steps).tolist(), np.diff(pitches).tolist(), strict=True))
    return {tuple(x for pair in line[i : i + length] for x in pair) for i in range(len(line) - length + 1)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A system on the board: its gaps closed by family, its figures, and the runs it shares with real bars, in %."""

    name: str
    gaps: dict[str, Estimate]
    figures: dict[str, float]
    copied: float


def board(bars: Bars, players: dict[str, Player]) -> list[Row]:
    """Return real, shuffled and doubled bars, and each player with the same bars, other bars and the earlier pass."""
    other = shuffled(bars)
    rows = [
        _row("real", bars, bars.code),
        _row("shuffled", bars, bars.code[other]),
        _row("lowest doubled", bars, lowest_doubled(bars)),
    ]
    again = bars.some(bars.repeats)
    for name, play in players.items():
        rows.append(_row(name, bars, play(bars.heard, 0)))
        rows.append(_row(f"{name}, other bars heard", bars, play(bars.heard[other], 0)))
        if bars.repeats.any():
            rows.append(_row(f"{name}, chorus", again, play(again.earlier, 0)))
    return rows


def _row(name: str, bars: Bars, code: Cells) -> Row:
    shares = 0.0 if name == "real" else copied(code, bars)
    return Row(name=name, gaps=gaps(bars, code, shuffled(bars)), figures=metrics.figures(code), copied=shares)


def table(rows: Sequence[Row]) -> str:
    """Return the board as Markdown."""
    names = [name for name in rows[0].figures if "piano" not in name]
    head = ["system", *(f"gap closed, {f}" for f in rows[0].gaps), "copied", *names]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        found = [f"{row.figures[name]:.1f}" for name in names]
        lines.append([row.name, *(str(gap) for gap in row.gaps.values()), f"{row.copied:.1f}", *found])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
