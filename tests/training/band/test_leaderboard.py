"""Who is on the band's board, and what their bars are compared with."""

import numpy as np
import pytest

from musebridge.band.layout import BAR, COLUMNS, PITCHES, STEPS, WIDTH, condition
from musebridge.errors import CorpusError
from musebridge.training.band import leaderboard
from musebridge.training.band.corpus import Piece, read_pieces


def piece(name, roots, bars=16):
    """Return a piece whose bass and piano strike a root a bar, of a form of four bars."""
    code = np.zeros((bars * BAR, WIDTH), np.uint8)
    for bar in range(bars):
        root = roots[bar % 4]
        code[bar * BAR, COLUMNS["bass"].start + root] = 17
        code[bar * BAR + 1 : (bar + 1) * BAR, COLUMNS["bass"].start + root] = 80
        code[bar * BAR, COLUMNS["piano"].start + 27 + root] = 17  # two octaves above
        code[bar * BAR + 1 : (bar + 1) * BAR, COLUMNS["piano"].start + 27 + root] = 80
    return Piece(name, name, "test", code, np.arange(bars) * BAR)


PIECES = [piece("one", (0, 5, 7, 0)), piece("two", (1, 6, 8, 3))]


def test_the_period_is_found_from_the_player_alone():
    assert leaderboard.period(PIECES[0].code, 3, PIECES[0].bars) == 4


def test_real_closes_all_of_the_gap_and_shuffled_none():
    bars = leaderboard.bars_of(PIECES)
    other = leaderboard.shuffled(bars)
    assert (bars.group != bars.group[other]).all()
    assert leaderboard.gaps(bars, bars.code, other)["bass"].value == 1
    assert leaderboard.gaps(bars, bars.code[other], other)["bass"].value == 0


def test_the_earlier_pass_is_what_the_player_played_then():
    bars = leaderboard.bars_of(PIECES)
    assert bars.repeats.any()
    assert np.array_equal(bars.earlier[bars.repeats], bars.heard[bars.repeats])  # each pass is the same here


def test_the_rule_doubles_the_lowest_note():
    bars = leaderboard.bars_of(PIECES[:1])
    doubled = leaderboard.lowest_doubled(bars)
    assert np.array_equal(doubled[..., COLUMNS["bass"]] > 0, bars.code[..., COLUMNS["bass"]] > 0)


def test_a_bass_line_is_copied_or_not():
    code = np.zeros((2, STEPS, WIDTH), np.uint8)
    code[0, ::6, COLUMNS["bass"].start] = 9
    code[1, ::7, COLUMNS["bass"].start] = 9
    bars = leaderboard.Bars(code[:1], np.zeros(0), np.zeros(0), np.zeros(0, bool), np.zeros(1, int), np.zeros(1, int))
    assert leaderboard.copied(code, bars) == 50


def test_the_player_is_heard_on_the_keys_of_a_piano():
    heard = condition(PIECES[0].code[:STEPS], 3)
    assert heard.shape == (3, STEPS, len(PITCHES["piano"]))
    assert heard[0].sum() == 4
    assert heard[1].sum() == STEPS - 4


def test_a_folder_without_music_is_refused(tmp_path):
    with pytest.raises(CorpusError, match="has no file of any source"):
        read_pieces(tmp_path, [])
