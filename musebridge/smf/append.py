"""A file given back as it is, with one more track: a continuation."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from musebridge.errors import MidiFileError
from musebridge.events import ALL_NOTES_OFF, RESET_CONTROLLERS, SOSTENUTO, SUSTAIN, Control, NoteOff, NoteOn, Timed
from musebridge.smf.columns import BANK, BANK_LOW, NOTE_OFF, NOTE_ON, PITCH_BEND, PROGRAM, Columns
from musebridge.smf.container import MOST_TRACKS, Smf
from musebridge.smf.parts import DRUM_CHANNEL, Part, kits_by_sysex, ports_of
from musebridge.smf.piece import Piece
from musebridge.smf.track import (
    KEY_SIGNATURE,
    META,
    PORT,
    SMPTE_OFFSET,
    TEMPO,
    TIME_SIGNATURE,
    TRACK_NAME,
    encode,
    variable_length,
)
from musebridge.wire import to_message

NAME = "continuation"
_SOFT, _HOLD_2 = 67, 69
_PEDALS = (SUSTAIN, SOSTENUTO, _SOFT, _HOLD_2)
_CENTRE = bytes([0x00, 0x40])
_CONDUCTING = (TEMPO, SMPTE_OFFSET, TIME_SIGNATURE, KEY_SIGNATURE)

Message = tuple[int, bytes]
"""A tick, and the bytes of an event."""


@dataclass(frozen=True, slots=True)
class Span:
    """Where a continuation lies, in ticks of its seed."""

    begin: int
    end: int


def span_of_seconds(piece: Piece, seconds: float) -> Span:
    """Return so many seconds from the end of the last note on; a tick at least."""
    return Span(piece.end, max(piece.end + 1, piece.tempos.tick(piece.tempos.second(piece.end) + seconds)))


def span_of_bars(piece: Piece, count: int) -> Span:
    """Return so many whole bars from the first bar line on that the last note does not reach over.

    Raises:
        MidiFileError: the file counts frames, which make no bars. The message lacks the path.
    """
    if piece.bars is None:
        raise MidiFileError("counts time in SMPTE frames, which make no bars; give --seconds")
    line = piece.bars.next_line(piece.end)
    return Span(max(line, piece.end), piece.bars.after(line, count))


def continued(piece: Piece, events: Sequence[Timed], span: Span, *, channel: int = 0) -> tuple[bytes, list[str]]:
    """Return a file's own tracks, byte for byte where a strict reader can take them, and one more.

    Args:
        piece: the seed.
        events: the continuation, in seconds from the seed's first note; their channels do not matter.
        span: where it lies.
        channel: to play on, if it is free; else the first free one.

    Returns:
        The file, and what there is to say about it.

    Raises:
        MidiFileError: the seed has as many tracks as a file can have.
    """
    smf = piece.smf
    if len(smf.tracks) >= MOST_TRACKS:
        raise MidiFileError(f"has {len(smf.tracks)} tracks, and no file can have more; use --only")
    place = _place(piece, channel)
    remarks = [place.remark] if place.remark else []
    if smf.kind == 0:
        remarks.append("type 0 became type 1, which has room for another track")
    body = _track(piece, place, events, span, [*_silence(piece, span.begin)])
    return file_of(smf, [*(track.body for track in smf.tracks), body]), remarks


def alone(piece: Piece, events: Sequence[Timed], span: Span, *, channel: int = 0) -> tuple[bytes, list[str]]:
    """Return the continuation without its seed, at its place on the seed's time line; see :func:`continued`."""
    conducting = sorted(
        (
            (tick, bytes([META, kind]) + variable_length(len(contents)) + contents)
            for track in piece.smf.tracks
            for kind in _CONDUCTING
            for tick, contents in track.others.metas(kind)
        ),
        key=lambda message: message[0],
    )
    place = _place(piece, channel)
    bodies = [encode(conducting, 0), _track(piece, place, events, span, [])]
    return file_of(Smf(1, piece.smf.division, (), (), piece.repairs), bodies), []


def file_of(smf: Smf, bodies: Sequence[bytes]) -> bytes:
    """Return a file of track bodies, the seed's other chunks in their places between them."""
    chunks = [b"MThd" + struct.pack(">IHHH", 6, 1 if len(bodies) > 1 else smf.kind, len(bodies), smf.division)]
    aliens = iter([*smf.aliens, (len(bodies) + 1, b"")])
    before, alien = next(aliens)
    for i, body in enumerate(bodies):
        while before <= i:
            chunks.append(alien)
            before, alien = next(aliens)
        chunks.append(b"MTrk" + struct.pack(">I", len(body)) + body)
    return b"".join([*chunks, *(alien for _, alien in [(before, alien), *aliens])])


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a continuation plays: with which part's sound, on which channel, and what has to be said of that."""

    part: Part
    channel: int
    is_free: bool
    remark: str = ""


def _place(piece: Piece, wanted: int) -> _Place:
    part = piece.chosen[0]
    ports = ports_of(piece.smf)
    port = int(ports[part.track])
    messages = piece.messages
    is_here = ports[messages.track] == port
    used = set(messages.channel[is_here].tolist())
    playing = set(piece.notes.channel[ports[piece.notes.track] == port].tolist())
    kits = kits_by_sysex(piece.smf, ports)[0]
    reserved = {DRUM_CHANNEL} | {line % 16 for line in kits} | piece.grouped_channels
    order = [wanted, *range(16)]
    for taken in (used, playing):
        for channel in order:
            if channel not in taken | reserved:
                is_free = taken is used
                remark = f"no channel is free; the continuation is on {channel + 1}, which has no notes"
                return _Place(part, channel, is_free, _displaced(wanted, channel) if is_free else remark)
    channel = part.channels[0]
    return _Place(part, channel, False, f"no channel is free; the continuation is on {channel + 1}, with {part.label}")


def _displaced(wanted: int, channel: int) -> str:
    if wanted in (0, channel):  # the first is what settings say that ask for none
        return ""
    return f"channel {wanted + 1} is taken; the continuation is on {channel + 1}"


def _track(piece: Piece, place: _Place, events: Iterable[Timed], span: Span, silence: Sequence[Message]) -> bytes:
    """Return the body of the continuation's track."""
    port, channel = piece.smf.tracks[place.part.track].port(), place.channel
    head: list[Message] = [(0, bytes([META, TRACK_NAME, len(NAME)]) + NAME.encode())]
    if port:
        head.append((0, bytes([META, PORT, 1, port])))
    sound_at = 0 if place.is_free else span.begin
    sound = [] if place.is_free else [_control(channel, RESET_CONTROLLERS, 0), bytes([PITCH_BEND | channel]) + _CENTRE]
    bank, bank_low = place.part.bank
    sound += [
        _control(channel, number, value) for number, value in ((BANK, bank), (BANK_LOW, bank_low)) if value is not None
    ]
    if place.part.program is not None:
        sound.append(bytes([PROGRAM | channel, place.part.program]))
    prepared = sorted([*((sound_at, message) for message in sound), *silence], key=lambda message: message[0])
    return encode([*head, *prepared, *_notes(piece, channel, events, span)], span.end)


def _notes(piece: Piece, channel: int, events: Iterable[Timed], span: Span) -> list[Message]:
    """Return the continuation's notes on the seed's ticks; each lasts one at least."""
    struck: dict[int, int] = {}
    ended: dict[int, int] = {}
    found: list[tuple[int, bool, bytes]] = []
    for timed in events:
        tick = min(max(piece.tempos.tick(piece.start_s + timed.time_s), span.begin), span.end)
        match timed.event:
            case NoteOn(pitch=pitch, velocity=velocity):
                tick = max(tick, ended.get(pitch, 0))
                struck[pitch] = tick
                event: NoteOn | NoteOff = NoteOn(pitch=pitch, velocity=velocity, channel=channel)
            case NoteOff(pitch=pitch):
                tick = ended[pitch] = max(tick, struck.pop(pitch, 0) + 1)
                event = NoteOff(pitch=pitch, channel=channel)
            case _:
                continue
        found.append((tick, isinstance(event, NoteOn), bytes(to_message(event).bytes())))
    return [(tick, data) for tick, _, data in sorted(found, key=lambda row: row[:2])]


def _silence(piece: Piece, tick: int) -> Iterator[Message]:
    """Yield what lifts the pedals that are down at a tick, and ends the notes that nothing ends."""
    messages = piece.messages
    before = messages[np.flatnonzero(messages.ticks <= tick)].in_time()
    feet = before.controls(*_PEDALS, RESET_CONTROLLERS)
    down: dict[tuple[int, int], int] = {}
    for channel, number, value in _rows(feet):
        for pedal in _PEDALS if number == RESET_CONTROLLERS else (number,):
            down[channel, pedal] = 0 if number == RESET_CONTROLLERS else value
    for (channel, pedal), value in sorted(down.items()):
        if value > 0:
            yield tick, _control(channel, pedal, 0)
    for channel in _hanging(messages.in_time()):
        yield tick, _control(channel, ALL_NOTES_OFF, 0)


def _rows(messages: Columns) -> Iterator[tuple[int, int, int]]:
    return zip(messages.channel.tolist(), messages.first.tolist(), messages.second.tolist(), strict=True)


def _hanging(messages: Columns) -> list[int]:
    """Return the channels with keys whose last move in the whole file is down."""
    moves = messages[np.flatnonzero((messages.kind == NOTE_ON) | (messages.kind == NOTE_OFF))]
    key = moves.channel << 7 | moves.first
    last = len(key) - 1 - np.unique(key[::-1], return_index=True)[1]
    hanging = moves[last[moves.kind[last] == NOTE_ON]]
    silences = messages.controls(*range(ALL_NOTES_OFF - 3, ALL_NOTES_OFF - 2), *range(ALL_NOTES_OFF, 128))
    found = set()
    for channel, tick in zip(hanging.channel.tolist(), hanging.ticks.tolist(), strict=True):
        is_ended = np.any((silences.channel == channel) & (silences.ticks > tick))
        if channel != DRUM_CHANNEL and not is_ended:
            found.add(channel)
    return sorted(found)


def _control(channel: int, number: int, value: int) -> bytes:
    return bytes(to_message(Control(controller=number, value=value, channel=channel)).bytes())
