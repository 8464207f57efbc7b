"""No bytes make the reader raise anything but its own error, or take time or memory without bound; and what it reads
of sound files is what an independent reader finds in them."""

from __future__ import annotations

import itertools
import random
import struct
import tracemalloc

import mido
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from smf_bytes import chords, chunk, control, metre, name, off, on, pedal, program, smf, sysex, tempo, track
from test_smf_append import parsed

from musebridge import vocab
from musebridge.errors import MidiFileError
from musebridge.events import NoteOff, NoteOn, Timed
from musebridge.smf import append
from musebridge.smf.piece import parse_piece
from musebridge.smf.voices import MAX_DURATION_S

pytestmark = pytest.mark.slow

END = b"\0\xff\x2f\0"
SOUND = smf(
    track((0, name("Song")), (0, tempo(600_000)), (0, metre(3, 2)), (960, tempo(300_000))),
    track((0, program(4)), (0, pedal(127)), *chords(12), (0, pedal(0)), (0, sysex(b"\x43\x10\x4c\x00\x00\x7e\x00"))),
    track((0, control(0, 127, 4)), *chords(6, channel=4), (0, on(70, channel=9)), (9, off(70, channel=9))),
)


def tried(data: bytes) -> bool:
    """Read bytes, and write what was read; return whether there was anything to read."""
    try:
        piece = parse_piece(data)
    except MidiFileError as error:
        message = str(error)
    else:
        message = ""
    if message:
        assert "\n" not in message
        return False
    times_s = [timed.time_s for timed in piece.events]
    assert times_s == sorted(times_s)
    assert times_s[0] == 0.0
    assert times_s[-1] <= MAX_DURATION_S
    assert all("\n" not in line for line in piece.report())
    vocab.shorten_rests(vocab.encode(piece.events))
    note = [Timed(piece.end_s, NoteOn(pitch=60, velocity=60)), Timed(piece.end_s + 1, NoteOff(pitch=60))]
    out, _ = append.continued(piece, note, append.span_of_seconds(piece, 2.0))
    again = parse_piece(out)
    mended = {
        kind: n for kind, n in again.repairs.items() if kind not in ("lost", "silenced", "tempo", "metre", "escaped")
    }
    assert not mended  # what is written has no fault that a strict reader would find
    assert again.notes_read == piece.notes_read + 1
    return True


@given(st.binary(max_size=300))
def test_random_bytes_are_refused_or_read(data: bytes) -> None:
    tried(data)
    tried(SOUND[:14] + data)
    tried(SOUND[:22] + data)
    tried(SOUND[:14] + chunk(b"MTrk", data) + chunk(b"MTrk", data))


@given(st.integers(0, 2**32 - 1))
def test_changed_bytes_are_refused_or_read(seed: int) -> None:
    rng, data = random.Random(seed), bytearray(SOUND)
    for _ in range(rng.choice([1, 1, 2, 8, 30])):
        at = rng.randrange(len(data))
        match rng.randrange(3):
            case 0:
                data[at] = rng.randrange(256)
            case 1:
                del data[at : at + rng.choice([1, 1, 4, 20])]
            case _:
                data[at:at] = rng.randbytes(rng.choice([1, 1, 4]))
    tried(bytes(data))


@pytest.mark.parametrize("data", [SOUND, b"RIFF\0\0\0\0RMIDdata" + struct.pack("<I", len(SOUND)) + SOUND])
def test_a_file_cut_off_at_any_byte_is_refused_or_read(data: bytes) -> None:
    assert sum(tried(data[:length]) for length in range(len(data))) > len(data) // 2


N = 20_000
HOSTILE = {
    "running status for ever": chunk(b"MTrk", b"\0\x90\x3c\x40" + b"\1\x3c\x40" * N),
    "one key struck and never released": chunk(b"MTrk", b"\1\x90\x3c\x40" * N),
    "all notes off behind every strike": chunk(b"MTrk", b"\1\x90\x3c\x40\1\xb0\x7b\0" * N),
    "the longest times": chunk(b"MTrk", b"\xff\xff\xff\x7f\x90\x3c\x40" * N),
    "a time without end": chunk(b"MTrk", b"\x80" * N),
    "undefined status bytes": chunk(b"MTrk", b"\0\xf4" * N),
    "empty meta events": chunk(b"MTrk", b"\0\xff\1\0" * N),
    "packets of a SysEx that never ends": chunk(b"MTrk", b"\0\xf0\1\x41" + b"\0\xf7\1\x41" * N),
    "a SysEx of 256 MB": chunk(b"MTrk", b"\0\xf0\xff\xff\xff\x7f" * N),
    "a chunk of 4 GB": b"MTrk\xff\xff\xff\xff" + b"\0\x90\x3c\x40\1\x80\x3c\0" * N,
    "chunks of 4 GB within each other": b"MTrk\xff\xff\xff\xff" * N,
    "tracks that reach to the end of the file": b"".join(
        b"MTrk" + struct.pack(">I", 20 * (N - i) - 8) + b"\0\xff\1\4MTrk" + END for i in range(N)
    ),
    "other chunks": chunk(b"XFIH", b"") * N,
    "a thousand tracks": (chunk(b"MTrk", b"\0\x90\x3c\x40\x10\x80\x3c\0" + END)) * 1000,
    "tempo for ever": chunk(b"MTrk", b"\1\xff\x51\3\7\xa1\x20" * N),
    "a pedal without rest": chunk(b"MTrk", b"\0\x90\x3c\x40" + b"\1\xb0\x40\x7f\1\xb0\x40\0" * N),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_takes_little_memory(kind: str) -> None:
    data = SOUND[:14] + HOSTILE[kind]
    tracemalloc.start()
    try:
        tried(data)
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()


def test_a_file_of_more_notes_than_music_has_is_one_line() -> None:
    many = chunk(b"MTrk", b"\0\x90\x3c\x40" + b"\1\x3c\x40" * 1_000_000)
    with pytest.raises(MidiFileError, match="holds 1,000,001 notes; choose a file of at most 1,000,000"):
        parse_piece(SOUND[:14] + many)
    with pytest.raises(MidiFileError, match="is 8 MiB long; choose a file of at most 8 MiB"):
        parse_piece(SOUND + bytes(8 << 20))


# Beside an independent reader


strikes = st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 40), st.integers(1, 60), st.integers(1, 127))
"""Track, pitch, when it begins and how long it lasts, in steps of 10 ms, and how hard it is struck."""


@given(st.lists(strikes, min_size=1, max_size=25))
@settings(max_examples=200)
def test_tokens_of_several_voices_are_what_an_independent_reader_gives(
    rows: list[tuple[int, int, int, int, int]],
) -> None:
    """One that goes step by step through what mido reads, with a set of keys for each track."""
    pieces: dict[int, list[tuple[int, int, bytes]]] = {i: [] for i in range(4)}
    busy: set[tuple[int, int, int]] = set()
    for voice, pitch, begin, length, velocity in rows:
        steps = {(voice, pitch, step) for step in range(begin, begin + length + 1)}
        if steps & busy:
            continue  # one hand strikes no key that it holds
        busy |= steps
        pieces[voice] += [(begin, 1, on(60 + pitch, velocity, voice)), (begin + length, 0, off(60 + pitch, voice))]
    chunks = []
    for moves in pieces.values():
        moves.sort(key=lambda move: move[:2])
        before = [0, *(at for at, *_ in moves)]
        chunks.append(track(*[(10 * (at - last), data) for (at, _, data), last in zip(moves, before, strict=False)]))
    data = smf(*chunks, division=500)
    assert in_order(vocab.encode(parse_piece(data).events)) == in_order(independent(parsed(data)))


def in_order(tokens: list[int]) -> list[int]:
    """Return tokens with notes that end at once sorted by pitch: their order means nothing."""
    runs = itertools.groupby(tokens, key=lambda token: vocab.NOTE_OFF <= token < vocab.TIME_SHIFT)
    return [token for is_end, run in runs for token in (sorted(run) if is_end else run)]


def independent(file: mido.MidiFile) -> list[int]:
    events: list[tuple[int, int, int, int, int]] = []
    for voice, part in enumerate(file.tracks):
        tick = 0
        for message in part:
            tick += message.time
            if message.type in ("note_on", "note_off"):
                events.append((tick // 10, message.type == "note_on", message.note, voice, message.velocity))
    first = min(event[0] for event in events if event[1])
    held: dict[int, set[int]] = {}
    sounding: set[int] = set()
    tokens: list[int] = []
    now, loudness = 0, None
    for step in sorted({event[0] for event in events}):
        here = [event for event in events if event[0] == step]
        written: list[int] = []
        for _, _, pitch, voice, _ in sorted(event for event in here if not event[1]):
            held[pitch].discard(voice)
        ended = sorted(pitch for pitch in sounding if not held[pitch])
        written += [vocab.NOTE_OFF + pitch for pitch in ended]
        sounding -= set(ended)
        struck: dict[int, list[tuple[int, int]]] = {}
        for _, _, pitch, voice, velocity in (event for event in here if event[1]):
            struck.setdefault(pitch, []).append((voice, velocity))
            held.setdefault(pitch, set()).add(voice)
        for pitch in struck:
            if pitch in sounding:
                written.append(vocab.NOTE_OFF + pitch)
            bin_ = vocab.velocity_bin(max(velocity for _, velocity in struck[pitch]))
            if bin_ != loudness:
                written.append(vocab.VELOCITY + bin_)
                loudness = bin_
            written.append(vocab.NOTE_ON + pitch)
            sounding.add(pitch)
        if written:
            tokens += vocab.shift_tokens(step - first - now) + written
            now = step - first
    return tokens
