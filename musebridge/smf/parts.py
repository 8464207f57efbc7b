"""Who plays what in a file: its parts, with names and instruments, and which of them are drums."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from musebridge.errors import MidiFileError
from musebridge.smf.columns import BANK, BANK_LOW, DATA_ENTRY, PITCH_BEND, PROGRAM, RPN_HIGH, RPN_LOW, Columns
from musebridge.smf.container import Smf
from musebridge.smf.general_midi import INSTRUMENTS
from musebridge.smf.notes import Notes
from musebridge.smf.timing import Bools, TempoMap
from musebridge.smf.track import Ints

DRUM_CHANNEL = 9
_GM2_RHYTHM_BANK, _XG_DRUM_BANKS = 120, (126, 127)
_XG_KITS = frozenset({*range(9), 16, 24, 25, 26, 27, 32, 33, 40, 41, 48})
_SETTING_UP_S = 1.0
"""Notes that come so shortly before their channel is made a drum kit are meant for it."""
_MPE_CONFIGURATION = (0, 6)
_MPE_MASTERS = (0, 15)
_GS_RESET = bytes([0x42, 0x12, 0x40, 0x00, 0x7F, 0x00])
_XG_ON = bytes([0x4C, 0x00, 0x00, 0x7E, 0x00])
_LEAST_MPE_CHANNELS, _MOST_MPE_TRACKS = 4, 64

_NEVER = 1 << 62

_Kits = dict[int, list[tuple[int, bool]]]
"""A channel of a port (16 ports + channel) -> from which ticks on it is a drum kit, or none."""


@dataclass(frozen=True, slots=True)
class Part:
    """The notes of one instrument on one track.

    Attributes:
        number: by which a user names it.
        track: of the file, from 0.
        channels: from 0; several where each note has its own, as MPE has it.
        name: of its track, or else its instrument; may be empty.
        program, bank: at the end; None where the file names none.
        is_drums: whether it has no pitches.
        notes: how many.
    """

    number: int
    track: int
    channels: tuple[int, ...]
    name: str
    program: int | None
    bank: tuple[int | None, int | None]
    is_drums: bool
    notes: int

    def __str__(self) -> str:
        few = f"channel {self.channels[0] + 1}" if len(self.channels) == 1 else f"{len(self.channels)} channels"
        return f"{self.label} ({few}, {self.notes:,} note{'s' * (self.notes != 1)})"

    @property
    def label(self) -> str:
        """What a user may call it: by its number or its name."""
        return f"track {self.number} {self.name}".rstrip()


def instruments(smf: Smf, messages: Columns, notes: Notes) -> Ints:
    """Return the first channel of the instrument that each (track, channel) belongs to, shape (tracks, 16).

    A channel is an instrument; those of an MPE zone are one.
    """
    of = np.tile(np.arange(16), (max(1, len(smf.tracks)), 1))
    zones = _zones(messages)
    for first, channels in zones:
        of[:, channels] = first
    if not zones:
        for track in _mpe_without_a_word(messages, notes):
            of[track, 1:] = 1
    return of


def _zones(messages: Columns) -> list[tuple[int, list[int]]]:
    """Return the MPE zones that a file sets up: the master channel, and all channels."""
    asked = messages.controls(RPN_LOW, RPN_HIGH, DATA_ENTRY).in_time()
    if not np.any(
        (asked.first == RPN_LOW) & (asked.second == _MPE_CONFIGURATION[1]) & np.isin(asked.channel, _MPE_MASTERS)
    ):
        return []
    parameter: dict[tuple[int, int], dict[int, int]] = defaultdict(dict)
    members = dict.fromkeys(_MPE_MASTERS, 0)
    rows = zip(*(c.tolist() for c in (asked.track, asked.channel, asked.first, asked.second)), strict=True)
    for track, channel, controller, value in rows:
        chosen = parameter[track, channel]
        if controller != DATA_ENTRY:
            chosen[controller] = value
        elif channel in members and (chosen.get(RPN_HIGH), chosen.get(RPN_LOW)) == _MPE_CONFIGURATION:
            members[channel] = max(members[channel], min(value, 15))
    lower, upper = members[0], members[15]
    zones = [(0, list(range(lower + 1)))] if lower else []
    return [*zones, (15, list(range(15 - upper, 16)))] if upper else zones


def _mpe_without_a_word(messages: Columns, notes: Notes) -> Iterator[int]:
    """Yield the tracks that use channel 10 and others as one instrument: each of them is bent, none has a program."""
    is_bent = (messages.kind == PITCH_BEND) & (messages.channel == DRUM_CHANNEL)
    candidates = np.intersect1d(notes.track[notes.channel == DRUM_CHANNEL], messages.track[is_bent])
    for track in candidates[:_MOST_MPE_TRACKS].tolist():
        own = messages.track == track
        used = np.unique(notes.channel[notes.track == track])
        bent = np.unique(messages.channel[own & (messages.kind == PITCH_BEND)])
        if (
            len(used) >= _LEAST_MPE_CHANNELS
            and np.isin(used, bent).all()
            and not np.any(own & (messages.kind == PROGRAM))
        ):
            yield track


def drums(smf: Smf, messages: Columns, notes: Notes, instrument: Ints, tempos: TempoMap) -> Bools:
    """Return which notes belong to a drum kit: by channel 10, by bank, or by GS or XG SysEx, shape (N,)."""
    ports = ports_of(smf)
    by_sysex, standards = kits_by_sysex(smf, ports)
    by_bank = _kits_by_bank(messages, ports, standards)
    line = ports[notes.track] << 4 | notes.channel
    is_drums = notes.channel == DRUM_CHANNEL
    for one in {*by_bank, *by_sysex}:
        rows = np.flatnonzero(line == one)
        is_kit = _state(by_bank.get(one, []), False, notes.on[rows], tempos)
        is_drums[rows] = is_kit | _state(by_sysex.get(one, []), one % 16 == DRUM_CHANNEL, notes.on[rows], tempos)
    return np.asarray(is_drums & (instrument[notes.track, notes.channel] == notes.channel))


def ports_of(smf: Smf) -> Ints:
    """Return the MIDI port of each track."""
    return np.array([track.port() for track in smf.tracks], np.int64)


def _state(moves: list[tuple[int, bool]], default: bool, ticks: Ints, tempos: TempoMap) -> Bools:
    if not moves:
        return np.full(len(ticks), default)
    since = np.array([tick for tick, _ in moves], np.int64)
    values = np.array([default, *(is_kit for _, is_kit in moves)])
    first = int(values[1:].argmax())
    if values[1:].any():
        earlier = tempos.tick(tempos.second(int(since[first])) - _SETTING_UP_S)
        since[first] = max(earlier, int(since[first - 1]) if first else 0)
    return np.asarray(values[np.searchsorted(since, ticks, side="right")])


def _kits_by_bank(messages: Columns, ports: Ints, standards: Standards) -> _Kits:
    """Return where bank select chooses kits.

    Banks 126 and 127 are kits of XG; of GS, they are the sounds of an older module.
    Where a file names neither, 127 is a kit if its lower half and its program are
    those of one: many a sequencer wrote 127 for no bank at all.
    """
    banks = messages.controls(BANK)
    kits: _Kits = defaultdict(list)
    if not np.isin(banks.second, (_GM2_RHYTHM_BANK, *_XG_DRUM_BANKS)).any():
        return kits
    setting = Setting(messages, ports)
    banks = banks.in_time()
    rows = zip(*(c.tolist() for c in (banks.track, banks.channel, banks.ticks, banks.second)), strict=True)
    for track, channel, tick, bank in rows:
        is_kit = bank == _GM2_RHYTHM_BANK or (standards.is_xg and bank in _XG_DRUM_BANKS)
        if bank == _XG_DRUM_BANKS[-1] and not (standards.is_xg or standards.is_gs):
            program, _, bank_low = setting.at(track, channel, setting.next_program(track, channel, tick))
            is_kit = not bank_low and (program is None or program in _XG_KITS)
        kits[int(ports[track]) << 4 | channel].append((tick, is_kit))
    return kits


class Standards(NamedTuple):
    """For which extensions of General MIDI a file is written; XG counts where it asks for both."""

    is_gs: bool
    is_xg: bool


def kits_by_sysex(smf: Smf, ports: Ints) -> tuple[_Kits, Standards]:
    """Return where SysEx makes channels drum kits, or takes that from them, and what a file is written for."""
    kits: _Kits = defaultdict(list)
    is_gs = is_xg = False
    for port, track in zip(ports.tolist(), smf.tracks, strict=True):
        for tick, contents in track.others.sysex():
            maker, data = contents[:1], contents[2:]
            is_gs |= maker == b"\x41" and data.startswith(_GS_RESET)
            is_xg |= maker == b"\x43" and data.startswith(_XG_ON)
            if (
                maker == b"\x41"
                and data[:3] == b"\x42\x12\x40"
                and len(data) > 5
                and data[3] >> 4 == 1
                and data[4] == 0x15
            ):
                kits[port << 4 | _channel_of_gs_part(data[3] & 15)].append((tick, data[5] > 0))
            elif maker == b"\x43" and data[:2] == b"\x4c\x08" and len(data) > 4 and data[2] < 16 and data[3] == 7:
                kits[port << 4 | data[2]].append((tick, data[4] > 0))
    return {line: sorted(moves, key=lambda move: move[0]) for line, moves in kits.items()}, Standards(is_gs, is_xg)


def _channel_of_gs_part(part: int) -> int:
    """Return the channel of a GS part: block 0 is part 10, and 1 to 9 are the parts before it."""
    return DRUM_CHANNEL if part == 0 else part - (part <= DRUM_CHANNEL)


def parts(smf: Smf, messages: Columns, notes: Notes, instrument: Ints, is_drums: Bools) -> list[tuple[Part, Ints]]:
    """Return the parts of a file, in its order, each with the rows of its notes."""
    group = (notes.track << 4 | instrument[notes.track, notes.channel]) << 1 | is_drums
    order = np.argsort(group, kind="stable")
    numbers, begin = np.unique(group[order], return_index=True)
    parts_of = Counter((numbers >> 5).tolist())
    setting = Setting(messages, ports_of(smf))
    found = []
    groups = np.split(order, begin[1:]) if len(order) else []
    for place, (number, rows) in enumerate(zip(numbers.tolist(), groups, strict=True)):
        track = number >> 5
        channels = tuple(np.unique(notes.channel[rows]).tolist())
        # Of one track with many channels a user counts these.
        shown = place + 1 if parts_of[track] == len(numbers) > 1 else track + 1
        program, *bank = setting.at(track, channels[0], int(notes.on[rows].max()))
        title = smf.tracks[track].name() if parts_of[track] == 1 else ""
        name = title or _instrument_name(program, bool(number & 1))
        found.append(
            (Part(shown, track, channels, name, program, (bank[0], bank[1]), bool(number & 1), len(rows)), rows)
        )
    return found


def _instrument_name(program: int | None, is_drums: bool) -> str:
    if is_drums:
        return "Drums"
    return "" if program is None else INSTRUMENTS[program]


class Setting:
    """Programs and banks of every channel."""

    def __init__(self, messages: Columns, ports: Ints) -> None:
        programs = messages[np.flatnonzero(messages.kind == PROGRAM)]
        banks, banks_low = (messages.controls(controller) for controller in (BANK, BANK_LOW))
        self._ports = ports
        self._choices = [
            (
                _by_key(rows.track << 4 | rows.channel, rows, values),
                _by_key(ports[rows.track] << 4 | rows.channel, rows, values),
            )
            for rows, values in ((programs, programs.first), (banks, banks.second), (banks_low, banks_low.second))
        ]

    def next_program(self, track: int, channel: int, tick: int) -> int:
        """Return when the next program comes on a channel, from a tick on; one behind all music if none does."""
        ticks, _ = self._choices[0][1].get(int(self._ports[track]) << 4 | channel, (np.empty(0, np.int64), None))
        i = int(np.searchsorted(ticks, tick))
        return int(ticks[i]) if i < len(ticks) else _NEVER

    def programs(self, track: int, channel: int, ticks: Ints) -> Ints:
        """Return the programs of a track's channel at ticks, as :meth:`at` finds them; -1 where there is none yet."""
        of_track, of_port = self._choices[0]
        own = _all_last(of_track.get(track << 4 | channel), ticks)
        return np.where(own < 0, _all_last(of_port.get(int(self._ports[track]) << 4 | channel), ticks), own)

    def at(self, track: int, channel: int, tick: int) -> list[int | None]:
        """Return program, bank and the bank's lower half as they are for a track's channel at a tick.

        Those of the track itself count before those of others.
        """
        found: list[int | None] = []
        for of_track, of_port in self._choices:
            own = _last(of_track.get(track << 4 | channel), tick)
            found.append(_last(of_port.get(int(self._ports[track]) << 4 | channel), tick) if own is None else own)
        return found


def _by_key(key: Ints, rows: Columns, values: Ints) -> dict[int, tuple[Ints, Ints]]:
    """Return for each key its ticks, in order, and the values that hold from them on."""
    order = np.lexsort((rows.ticks, key))
    keys, begin = np.unique(key[order], return_index=True)
    cuts = (np.split(column[order], begin[1:]) for column in (rows.ticks, values))
    return dict(zip(keys.tolist(), zip(*cuts, strict=True), strict=False))


def _last(choice: tuple[Ints, Ints] | None, tick: int) -> int | None:
    found = int(_all_last(choice, np.array([tick]))[0])
    return found if found >= 0 else None


def _all_last(choice: tuple[Ints, Ints] | None, ticks: Ints) -> Ints:
    """Return the value that holds at each tick; -1 before the first."""
    if choice is None:
        return np.full(len(ticks), -1)
    since, values = choice
    return np.append(values, -1)[np.searchsorted(since, ticks, side="right") - 1]


def chosen(all_parts: Iterable[Part], wanted: str | None) -> list[Part]:
    """Return the parts that a number or a name means; without one, all that have pitches.

    Raises:
        MidiFileError: there is no such part, or it has no pitches. The message lacks the path.
    """
    listed = list(all_parts)
    if not listed:
        raise MidiFileError("holds no notes; choose a file with pitched notes")
    if wanted is None:
        found, what = listed, ""
    else:
        name = wanted.strip().casefold()
        found = (
            [part for part in listed if str(part.number) == name]
            or [part for part in listed if part.name.casefold() == name]
            or [part for part in listed if name and name in part.name.casefold()]
        )
        what = f" in track {wanted}"
    if not found:
        known = ", ".join(part.label for part in listed)
        raise MidiFileError(f"has no track {wanted!r} that plays; known are: {known}")
    pitched = [part for part in found if not part.is_drums]
    if not pitched:
        raise MidiFileError(f"holds only drums{what}; choose {'a track' if wanted else 'a file'} with pitched notes")
    return pitched
