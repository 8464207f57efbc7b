"""From MIDI files to packed tokens, and to the windows that training sees."""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import os
import random
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from smf_bytes import chords, control, off, on, pedal, smf, track

from musebridge import midifile, vocab
from musebridge.cli import main
from musebridge.errors import CorpusError
from musebridge.events import NoteOff, NoteOn, Timed
from musebridge.training.data import corpus, prepare
from musebridge.training.data.augment import Augmentation
from musebridge.training.data.corpus import Mixture, Windows


def tokens_of(folder: Path) -> dict[str, list[int]]:
    return {split: np.load(folder / f"{split}.npy").tolist() for split in corpus.SPLITS}


@pytest.fixture
def untidy_tree(tmp_path, make_piece) -> Path:
    """A folder as people have them: four pieces, one of them twice and one cut off, and files of no use."""
    folder = tmp_path / "midi"
    (folder / "sub").mkdir(parents=True)
    for name, seed in (("a.mid", 1), ("b.MIDI", 2), ("sub/c.mid", 3), ("sub/copy of a.mid", 1)):
        midifile.write(folder / name, {"piano": make_piece(seed)})
    drums = [Timed(0.0, NoteOn(pitch=36, velocity=90, channel=9)), Timed(0.1, NoteOff(pitch=36, channel=9))]
    midifile.write(folder / "drums.mid", {"kit": drums})
    (folder / "empty.mid").write_bytes(b"")
    (folder / "text.mid").write_text("not music")
    (folder / "truncated.mid").write_bytes((folder / "a.mid").read_bytes()[:200])
    (folder / "notes.txt").write_text("is no MIDI file")
    return folder


def test_prepare_packs_every_good_piece_behind_a_begin(midi_tree, tmp_path):
    prepare.prepare(midi_tree, tmp_path / "out", workers=1)
    pieces = [[vocab.BEGIN, *vocab.encode(midifile.read(midi_tree / "2024" / f"piece{i}.mid"))] for i in range(8)]
    train, validation = ([*itertools.chain(*some)] for some in (pieces[:6], pieces[6:]))
    assert tokens_of(tmp_path / "out") == {"train": train, "validation": validation, "test": []}


def test_prepare_skips_what_is_of_no_use_and_says_why(untidy_tree, tmp_path):
    shares: list[float] = []
    card = prepare.prepare(untidy_tree, tmp_path / "out", workers=1, on_progress=shares.append)
    assert card["skipped"] == [
        {"file": "drums.mid", "reason": "holds only drums; choose a file with pitched notes"},
        {"file": "empty.mid", "reason": "is empty (0 bytes); choose another file"},
        {"file": "notes.txt", "reason": "is not named as a MIDI file (.mid, .midi, .kar, .rmi, .smf)"},
        {"file": "sub/copy of a.mid", "reason": "has the same notes as a.mid"},
        {"file": "text.mid", "reason": "is not a MIDI file (it begins with b'not '); choose another file"},
    ]
    assert card["mended"] == [
        {
            "file": "truncated.mid",
            "what": "1 track of a wrong length, 1 track without its end",
        }
    ]
    assert card["repairs"] == {"length": 1, "no end": 1}
    assert sum(row["files"] for row in card["splits"].values()) == 4
    assert card["found"] == 9
    assert shares == [i / 8 for i in range(1, 9)]


def test_prepare_is_the_same_for_one_worker_and_for_two(untidy_tree, tmp_path):
    cards = [prepare.prepare(untidy_tree, tmp_path / str(n), workers=n) for n in (1, 2)]
    assert cards[0] == cards[1]
    assert tokens_of(tmp_path / "1") == tokens_of(tmp_path / "2")


def test_the_card_counts_and_hashes_what_was_written(midi_tree, tmp_path):
    card = prepare.prepare(midi_tree, tmp_path / "out", workers=1)
    tokens = tokens_of(tmp_path / "out")
    whole = np.concatenate([np.array(tokens[split], np.uint16) for split in corpus.SPLITS])
    assert card == json.loads((tmp_path / "out" / "corpus.json").read_text(encoding="utf-8"))
    assert {key: value for key, value in card.items() if key != "splits"} == {
        "name": "maestro-tiny",
        "licence": "CC BY-NC-SA 4.0",
        "found": 8,
        "skipped": [],
        "mended": [],
        "repairs": {},
        "vocabulary": vocab.FINGERPRINT,
        "sha256": hashlib.sha256(whole.tobytes()).hexdigest(),
    }
    assert card["splits"]["train"] == {
        "files": 6,
        "tokens": len(tokens["train"]),
        "notes": 6 * 120,
        "hours": pytest.approx(6 * (119 * 0.2 + 0.15) / 3600),
    }
    assert card["splits"]["test"] == {"files": 0, "tokens": 0, "notes": 0, "hours": 0.0}


@pytest.mark.parametrize("suffix", [".mid", ".MID", ".midi", ".Midi", ".kar", ".KAR", ".rmi", ".smf", ".SMF"])
def test_files_of_every_name_that_music_has_are_read(tmp_path, suffix):
    data = smf(track(*chords(8)))
    wrapped = b"RIFF\0\0\0\0RMIDdata" + len(data).to_bytes(4, "little") + data
    (tmp_path / f"song{suffix}").write_bytes(wrapped if suffix == ".rmi" else data)
    card = prepare.prepare(tmp_path, tmp_path / "out", workers=1)
    assert sum(row["notes"] for row in card["splits"].values()) == 8


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a file system that takes any bytes as a name")
def test_a_name_in_another_encoding_ends_no_run(tmp_path, capsys):
    folder = tmp_path / "midi"
    folder.mkdir()
    for i, name in enumerate((b"caf\xe9.mid", b"\xff\xfe.mid", b"no\xe9.mid", b"\xe9.txt")):
        good = smf(track(*chords(8 + i)))
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(b"" if name == b"no\xe9.mid" else good)
    result = CliRunner().invoke(main, ["prepare", str(folder), "-o", str(tmp_path / "out"), "--workers", "1"])
    assert result.exit_code == 0, result.output
    card = json.loads((tmp_path / "out" / corpus.CARD).read_text(encoding="utf-8"))
    assert [skip["file"] for skip in card["skipped"]] == [r"\xe9.txt", r"no\xe9.mid"]
    assert sum(row["files"] for row in card["splits"].values()) == 2
    assert r"skipped no\xe9.mid: is empty (0 bytes)" in result.output
    assert "4 files found: 2 used, 2 passed over, 0 mended" in result.output


@pytest.mark.skipif(sys.platform == "win32", reason="needs links and pipes in the file system")
def test_what_is_no_file_or_cannot_be_read_is_listed(tmp_path):
    (tmp_path / "good.mid").write_bytes(smf(track(*chords(8))))
    (tmp_path / "lost.mid").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.mid")
    (tmp_path / "folder.mid").mkdir()
    (tmp_path / "folder.mid" / "inner.mid").write_bytes(smf(track(*chords(9))))
    card = prepare.prepare(tmp_path, tmp_path / "out", workers=1)
    assert card["skipped"] == [
        {"file": "lost.mid", "reason": "cannot be read: No such file or directory; check the path"},
        {"file": "pipe.mid", "reason": "is not a file; give a MIDI file"},
    ]
    assert sum(row["files"] for row in card["splits"].values()) == 2


def shifts(tokens: list[int]) -> int:
    """Return how many steps of time pass."""
    return sum(token - vocab.TIME_SHIFT + 1 for token in tokens if vocab.TIME_SHIFT <= token < vocab.VELOCITY)


@pytest.mark.parametrize(
    ("moves", "seconds"),
    [
        pytest.param(
            [*chords(8), (17_280_000, b"\xff\x01\x00"), *chords(8)], 2.0 + 5.0 + 2.0, id="silence of five hours"
        ),
        pytest.param([*chords(8), (2400, b"\xff\x01\x00"), *chords(8)], 2.0 + 2.5 + 2.0, id="a short rest"),
        pytest.param([(0, pedal(127)), *chords(1), (3_456_000, pedal(0))], 30.0, id="a pedal that rises an hour later"),
        pytest.param([(0, on(48)), (19_200, off(48))], 20.0, id="a note of 20 s"),
    ],
)
def test_long_rests_are_cut_short_as_they_are_live(tmp_path, moves, seconds):
    (tmp_path / "a.mid").write_bytes(smf(track(*moves)))
    prepare.prepare(tmp_path, tmp_path / "out", workers=1)
    (tokens,) = filter(None, tokens_of(tmp_path / "out").values())
    assert shifts(tokens) / vocab.STEPS_PER_S == seconds


def test_notes_of_unisons_are_counted_and_none_lasts_no_time(tmp_path):
    right, left = track((0, on(60)), (960, off(60))), track((0, on(60)), (240, off(60)), (240, on(60)), (240, off(60)))
    (tmp_path / "hands.mid").write_bytes(smf(right, left))
    card = prepare.prepare(tmp_path, tmp_path / "out", workers=1)
    (tokens,) = filter(None, tokens_of(tmp_path / "out").values())
    assert sum(row["notes"] for row in card["splits"].values()) == 3
    assert [vocab.describe(token) for token in tokens if not vocab.VELOCITY <= token < vocab.BEGIN] == [
        *("BEGIN", "NOTE_ON 60", "TIME_SHIFT 50", "NOTE_OFF 60", "NOTE_ON 60", "TIME_SHIFT 50", "NOTE_OFF 60"),
    ]


@pytest.mark.slow
def test_of_a_thousand_odd_files_each_is_counted(tmp_path):
    """Pieces of which one thing after another is damaged: all are used, or listed with the reason."""
    rng = random.Random(0)
    for i in range(1000):
        moves = [
            (0, control(0, rng.choice([0, 127]), 4)),
            *chords(4 + rng.randrange(12), channel=rng.choice([0, 0, 4, 9])),
        ]
        data = bytearray(
            smf(
                track((0, b"\xff\x01\x04%04d" % i), *moves),
                kind=rng.randrange(3),
                division=rng.choice([96, 480, 0xE728]),
            )
        )
        for _ in range(rng.randrange(4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        data = data[: rng.choice([len(data), rng.randrange(len(data))])]
        name = f"{i:04d}{rng.choice(['.mid', '.MID', '.kar', '.rmi', '.smf', '.txt', ''])}"
        (tmp_path / name).write_bytes(bytes(data))
    card = prepare.prepare(tmp_path, tmp_path / "out", workers=2)
    used, skipped = sum(row["files"] for row in card["splits"].values()), card["skipped"]
    assert card["found"] == 1000 == used + len(skipped)
    assert len({skip["file"] for skip in skipped}) == len(skipped)
    assert not any("\n" in skip["reason"] for skip in skipped)
    assert used > 200
    assert len(card["mended"]) > 100


@pytest.mark.parametrize(
    ("given_licence", "carried"), [("CC BY 4.0", "CC BY 4.0"), ("", "unknown; ask the owner of the MIDI files")]
)
def test_the_licence_is_the_givers_and_never_a_guess(untidy_tree, tmp_path, given_licence, carried):
    assert prepare.prepare(untidy_tree, tmp_path / "out", licence=given_licence, workers=1)["licence"] == carried


def test_maestros_csv_gives_the_split_and_a_hash_of_the_path_the_rest(tmp_path):
    with (tmp_path / "maestro-v3.0.0.csv").open("w", newline="", encoding="utf-8") as sheet:
        csv.writer(sheet).writerows(
            [("midi_filename", "split"), ("2004/a.midi", "test"), ("2004/b.midi", "validation")]
        )
    paths = [tmp_path / name for name in ("2004/a.midi", "2004/b.midi", "x0.mid", "x2.mid", "x3.mid")]
    splits = ["test", "validation", "train", "validation", "test"]
    assert list(prepare.split_of(tmp_path, paths).values()) == splits


def test_a_tenth_each_of_unlisted_pieces_is_validation_and_test(tmp_path):
    splits = list(prepare.split_of(tmp_path, [tmp_path / f"{i}.mid" for i in range(5000)]).values())
    assert [splits.count(s) / 5000 for s in corpus.SPLITS] == pytest.approx([0.8, 0.1, 0.1], abs=0.015)


@pytest.mark.parametrize(
    ("sheet", "message"),
    [
        (b"a,b\n1,2\n", r"is not MAESTRO's list of files \(KeyError\('midi_filename'\)\)"),
        (b"midi_filename,split\nx.mid,holdout\n", "split must be one of train, validation, test, found 'holdout'"),
        (b"midi_filename,split\nx.mid\n", "split must be one of train, validation, test, found 'None'"),
        (b"\xff\xfe", "is not MAESTRO's list of files"),
    ],
)
def test_a_damaged_csv_is_one_line(midi_tree, tmp_path, sheet, message):
    shutil.copytree(midi_tree, tmp_path / "midi")
    (tmp_path / "midi" / "maestro-tiny.csv").write_bytes(sheet)
    with pytest.raises(CorpusError, match=message) as caught:
        prepare.prepare(tmp_path / "midi", tmp_path / "out", workers=1)
    assert "\n" not in str(caught.value)


def test_a_folder_without_music_is_one_line(tmp_path):
    with pytest.raises(CorpusError, match=r"holds no \.mid, \.midi, \.kar, \.rmi or \.smf file"):
        prepare.prepare(tmp_path, tmp_path / "out")
    with pytest.raises(CorpusError, match="is not a folder"):
        prepare.prepare(tmp_path / "none", tmp_path / "out")
    (tmp_path / "x.mid").write_bytes(b"")
    with pytest.raises(CorpusError, match=r"none of 1 MIDI files could be used: is empty"):
        prepare.prepare(tmp_path, tmp_path / "out", workers=1)
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_is_one_line(midi_tree, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CorpusError, match="cannot be written: Not a directory; choose another place"):
        prepare.prepare(midi_tree, tmp_path / "file" / "out", workers=1)


# Opening


@pytest.fixture
def copy(small_corpus, tmp_path) -> Path:
    return shutil.copytree(small_corpus, tmp_path / "corpus")


def rewrite_card(folder: Path, **changes: object) -> None:
    path = folder / corpus.CARD
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def test_load_gives_what_prepare_wrote(small_corpus):
    loaded = corpus.load(small_corpus)
    assert {split: tokens.tolist() for split, tokens in loaded.splits.items()} == tokens_of(small_corpus)
    assert loaded.sha256 == loaded.card["sha256"]


def test_a_missing_corpus_is_one_line(tmp_path):
    with pytest.raises(CorpusError, match=r"is not a corpus \(.*No such file.*\); make one with 'musebridge prepare'$"):
        corpus.load(tmp_path)


def test_a_corpus_of_another_vocabulary_is_refused(copy):
    rewrite_card(copy, vocabulary="0123456789abcdef")
    with pytest.raises(CorpusError, match="was prepared with another vocabulary; run 'musebridge prepare' again"):
        corpus.load(copy)


@pytest.mark.parametrize("card", ["[]", "{}", "3", "not json", '{"vocabulary": 1, "splits": {}}'])
def test_a_damaged_card_is_one_line(copy, card):
    (copy / corpus.CARD).write_text(card, encoding="utf-8")
    with pytest.raises(CorpusError, match="is not a corpus") as caught:
        corpus.load(copy)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"rubbish" * 99, b"PK\x03\x04" + bytes(40)])
def test_a_damaged_npy_is_one_line(copy, content):
    (copy / "train.npy").write_bytes(content)
    with pytest.raises(CorpusError, match="is not a corpus") as caught:
        corpus.load(copy)
    assert "\n" not in str(caught.value)


def test_a_truncated_npy_is_refused(copy):
    path = copy / "train.npy"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CorpusError, match="is not a corpus"):
        corpus.load(copy)


def test_a_pickled_npy_is_refused_and_not_opened(copy):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (copy / "sprung",))

    np.save(copy / "train.npy", np.array([Trap()]), allow_pickle=True)
    with pytest.raises(CorpusError, match="is not a corpus"):
        corpus.load(copy)
    assert not (copy / "sprung").exists()


@pytest.mark.parametrize("tokens", [np.zeros(9, np.uint16), np.zeros((2, 2), np.uint16), np.zeros(9, np.float32), None])
def test_tokens_that_do_not_fit_their_card_are_refused(copy, tokens):
    if tokens is None:
        tokens = np.load(copy / "train.npy")
        tokens[5] = vocab.N_TOKENS
    np.save(copy / "train.npy", tokens)
    with pytest.raises(CorpusError, match="its tokens do not fit its card; run 'musebridge prepare' again"):
        corpus.load(copy)


# Windows


def windows(tokens, *, seed=0, length=10, transpose=0) -> Mixture:
    part = Windows(tokens, length=length, augmentation=Augmentation(transpose=transpose), seed=seed)
    return Mixture([part], [1.0], seed=seed)


def mixture(*shares: float, seed: int = 0) -> Mixture:
    """Corpora of one token each: a window shows where it is from."""
    parts = [
        Windows(np.full(100, pitch, np.uint16), length=10, augmentation=Augmentation(), seed=seed)
        for pitch in range(len(shares))
    ]
    return Mixture(parts, shares, seed=seed)


SHIFTS = np.arange(vocab.TIME_SHIFT, vocab.TIME_SHIFT + 100, dtype=np.uint16)
"""Tokens that no transposition changes, each another: a window shows where it was cut."""


def test_windows_depend_only_on_seed_and_index():
    tokens = np.tile(np.arange(200, dtype=np.uint16), 3)
    whole = windows(tokens, transpose=5).batch(0, 150)
    one_by_one = windows(tokens, transpose=5)
    backwards = [one_by_one.batch(i, 1)[0] for i in reversed(range(150))]
    np.testing.assert_array_equal(whole, backwards[::-1])
    np.testing.assert_array_equal(whole[40:60], windows(tokens, transpose=5).batch(40, 20))


def test_another_seed_shuffles_cuts_and_moves_otherwise():
    tokens = np.full(100, vocab.NOTE_ON + 60, np.uint16)
    assert not np.array_equal(windows(SHIFTS).batch(0, 9), windows(SHIFTS, seed=1).batch(0, 9))
    moved = [windows(tokens, transpose=5, seed=seed).batch(0, 9) for seed in (0, 1)]
    assert not np.array_equal(*moved)


def test_an_epoch_shows_no_token_twice_and_cuts_each_time_elsewhere():
    per_epoch = (100 - 10) // 10
    epochs = [windows(SHIFTS).batch(epoch * per_epoch, per_epoch) for epoch in range(8)]
    for epoch in epochs:
        assert len(set(epoch.flatten())) == per_epoch * 10
        assert (np.diff(epoch) == 1).all()
    assert len({int(epoch.min()) for epoch in epochs}) > 3
    assert len({tuple(np.argsort(epoch[:, 0])) for epoch in epochs}) == len(epochs)


def test_windows_are_moved_by_every_interval_and_by_no_other():
    tokens = np.full(100, vocab.NOTE_ON + 60, np.uint16)
    assert set(windows(tokens, transpose=5).batch(0, 300).flatten()) == set(range(55, 66))
    assert set(windows(tokens, transpose=0).batch(0, 50).flatten()) == {60}


def test_too_few_tokens_for_two_windows_are_refused():
    assert windows(SHIFTS[:20]).batch(0, 5).shape == (5, 10)
    with pytest.raises(CorpusError, match="has 19 tokens; windows of 10 need at least 20"):
        windows(SHIFTS[:19])


def test_a_mixture_gives_each_corpus_its_share():
    drawn = mixture(0.5, 0.3, 0.2).batch(0, 4000)[:, 0]
    assert np.bincount(drawn) / len(drawn) == pytest.approx([0.5, 0.3, 0.2], abs=0.02)


def test_a_mixture_depends_only_on_seed_and_index():
    whole = mixture(0.6, 0.4).batch(0, 50)
    np.testing.assert_array_equal(whole[20:], mixture(0.6, 0.4).batch(20, 30))
    assert not np.array_equal(whole, mixture(0.6, 0.4, seed=1).batch(0, 50))


def test_a_corpus_sees_the_same_windows_whether_others_are_mixed_in_or_not():
    alone = windows(SHIFTS).batch(0, 60)
    parts = [Windows(tokens, length=10, augmentation=Augmentation(), seed=0) for tokens in (SHIFTS, SHIFTS * 0)]
    mixed = Mixture(parts, [0.5, 0.5], seed=0).batch(0, 60)
    kept = mixed[:, 0] > 0
    np.testing.assert_array_equal(mixed[kept], alone[kept])
    assert 0 < kept.sum() < 60


@pytest.mark.parametrize("shares", [(0.0, 1.0), (1.2, -0.2), (float("nan"), 0.5)])
def test_shares_that_are_none_are_refused(shares):
    with pytest.raises(CorpusError, match="must each be more than 0"):
        mixture(*shares)
