"""The codec: events to tokens and back, as streams.

The vocabulary is the 388-event encoding of Oore et al. 2018, "This Time with
Feeling" (arXiv:1808.03715), table 1:

========  =============  ==========================================
ids       meaning        value
========  =============  ==========================================
0-127     NOTE_ON        pitch
128-255   NOTE_OFF       pitch
256-355   TIME_SHIFT     10 ms ... 1 s, in steps of 10 ms
356-387   VELOCITY       32 bins of 4
388       BEGIN          a piece begins here; never sampled
========  =============  ==========================================

Pedals are no tokens: while one is down, released notes sound on, and their
NOTE_OFF is written when it rises. A pitch that is struck again while it sounds
is ended first. Time is kept as whole steps from the origin and each absolute
time is rounded once, so the grid never drifts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field

import numpy as np

from musebridge.events import (
    ALL_NOTES_OFF,
    ALL_SOUND_OFF,
    RESET_CONTROLLERS,
    SOSTENUTO,
    SUSTAIN,
    Control,
    Event,
    NoteOff,
    NoteOn,
    Timed,
)

NOTE_ON, NOTE_OFF, TIME_SHIFT, VELOCITY, BEGIN = 0, 128, 256, 356, 388
N_PITCHES = 128
MAX_SHIFT_STEPS = 100
N_VELOCITY_BINS = 32
N_EVENTS = 388
"""Tokens a model may sample."""
N_TOKENS = 389
"""All tokens, BEGIN included."""
STEPS_PER_S = 100
LONGEST_REST_S, LONGEST_HOLD_S = 5.0, 30.0
"""A longer silence is read as the first, and notes that sound on for longer as the second, lest they fill a model's
window."""
CONTROLLERS = frozenset({SUSTAIN, SOSTENUTO, ALL_SOUND_OFF, RESET_CONTROLLERS, *range(ALL_NOTES_OFF, 128)})
"""Those that hold or end notes; nothing is written for others."""
KINDS = (
    ("NOTE_ON", NOTE_ON, NOTE_OFF),
    ("NOTE_OFF", NOTE_OFF, TIME_SHIFT),
    ("TIME_SHIFT", TIME_SHIFT, VELOCITY),
    ("VELOCITY", VELOCITY, BEGIN),
)
"""Each kind of event with its first id and the one behind its last."""
_VELOCITY_PER_BIN = 128 // N_VELOCITY_BINS

LAYOUT = (
    f"oore2018 on={NOTE_ON} off={NOTE_OFF} shift={TIME_SHIFT} velocity={VELOCITY} "
    f"begin={BEGIN} steps_per_s={STEPS_PER_S} velocity_bins={N_VELOCITY_BINS}"
)
FINGERPRINT = hashlib.sha256(LAYOUT.encode()).hexdigest()[:16]
"""Names this vocabulary; a model carries it and is refused when it differs."""


def to_step(time_s: float) -> int:
    """Return the grid step nearest to ``time_s`` (seconds from the origin)."""
    return round(time_s * STEPS_PER_S)


def velocity_bin(velocity: int) -> int:
    """Return the bin 0..31 of a MIDI velocity 1..127."""
    return velocity // _VELOCITY_PER_BIN


def bin_velocity(bin_: int) -> int:
    """Return the velocity in the middle of a bin; ``velocity_bin`` inverts it."""
    return bin_ * _VELOCITY_PER_BIN + _VELOCITY_PER_BIN // 2


def shift_tokens(steps: int) -> list[int]:
    """Return the TIME_SHIFT tokens for ``steps`` grid steps (none for 0)."""
    whole, rest = divmod(steps, MAX_SHIFT_STEPS)
    tokens = [TIME_SHIFT + MAX_SHIFT_STEPS - 1] * whole
    return [*tokens, TIME_SHIFT + rest - 1] if rest else tokens


def describe(token: int) -> str:
    """Return a token's name, for logs and error messages: ``NOTE_ON 60``."""
    if not 0 <= token < N_TOKENS:
        raise ValueError(f"token must be in 0..{N_TOKENS - 1}, found {token}")
    for kind, first, end in KINDS:
        if first <= token < end:
            return f"{kind} {token - first + (first == TIME_SHIFT)}"
    return "BEGIN"


@dataclass(slots=True)
class StreamState:
    """What a token stream means at its end: the moment, the velocity, the open notes.

    An encoder and a decoder may share one state: that is how a session writes
    the player's and the model's events into the same stream.
    """

    step: int = 0
    velocity_bin: int | None = None
    sounding: set[int] = field(default_factory=set)

    def copy(self) -> StreamState:
        """Return an independent copy."""
        return StreamState(self.step, self.velocity_bin, set(self.sounding))

    def restore(self, other: StreamState) -> None:
        """Mean what ``other`` means from now on; whoever shares this state goes back with it."""
        self.step, self.velocity_bin, self.sounding = other.step, other.velocity_bin, set(other.sounding)

    def apply(self, token: int) -> Event | None:
        """Take one token; return the note event it means now, if it is one.

        A NOTE_ON before any VELOCITY sounds at velocity 66 (bin 16). A NOTE_OFF of a
        silent pitch means nothing.

        Raises:
            ValueError: ``token`` is outside the vocabulary.
        """
        if not 0 <= token < N_TOKENS:
            raise ValueError(f"token must be in 0..{N_TOKENS - 1}, found {token}")
        if token < NOTE_OFF:
            self.sounding.add(token)
            bin_ = N_VELOCITY_BINS // 2 if self.velocity_bin is None else self.velocity_bin
            return NoteOn(pitch=token, velocity=bin_velocity(bin_))
        if token < TIME_SHIFT:
            return self._release(token - NOTE_OFF)
        if token < VELOCITY:
            self.step += token - TIME_SHIFT + 1
        elif token < BEGIN:
            self.velocity_bin = token - VELOCITY
        else:
            self.step, self.velocity_bin = 0, None
            self.sounding.clear()
        return None

    def _release(self, pitch: int) -> Event | None:
        if pitch not in self.sounding:
            return None
        self.sounding.discard(pitch)
        return NoteOff(pitch=pitch)


@dataclass(slots=True)
class KeyState:
    """What the player's keys and pedals hold.

    Keys are told apart by channel, pedals are not: whoever plays on several
    channels, as some keyboards do with one for each note, has one pair of feet.
    The soft pedal holds nothing.
    """

    keys: set[tuple[int, int]] = field(default_factory=set)
    """Channel and pitch of each key that is down."""
    ringing: set[int] = field(default_factory=set)
    """Pitches whose keys are up but which a pedal lets sound."""
    pedal: bool = False
    caught: frozenset[int] | None = None
    """What the sostenuto pedal lets ring: the pitches held when it went down; None while it is up."""

    @property
    def held(self) -> set[int]:
        """Pitches with a key that is down."""
        return {pitch for _, pitch in self.keys}

    def copy(self) -> KeyState:
        """Return an independent copy."""
        return KeyState(set(self.keys), set(self.ringing), self.pedal, self.caught)

    def take(self, event: Event) -> set[int]:
        """Take one event; return the pitches that end with it, among them one that is struck again."""
        match event:
            case NoteOn(pitch=pitch, channel=channel):
                self.keys.add((channel, pitch))
                self.ringing.discard(pitch)
                return {pitch}
            case NoteOff(pitch=pitch, channel=channel):
                self._lift({(channel, pitch)})
            case Control(controller=controller, value=value, channel=channel):
                self._control(controller, value >= 64, channel)
        ended = set() if self.pedal else self.ringing - (self.caught or frozenset())
        self.ringing -= ended
        return ended

    def _lift(self, keys: set[tuple[int, int]]) -> None:
        lifted = self.keys & keys
        self.keys -= lifted
        self.ringing |= {pitch for _, pitch in lifted} - self.held

    def _control(self, controller: int, down: bool, channel: int) -> None:
        if controller == SUSTAIN:
            self.pedal = down
        elif controller == SOSTENUTO:
            caught = frozenset(self.held) if self.caught is None else self.caught
            self.caught = caught if down else None
        elif controller == RESET_CONTROLLERS:
            self.pedal, self.caught = False, None
        elif controller in CONTROLLERS:
            self._lift({key for key in self.keys if key[0] == channel})


class Encoder:
    """Turn events with absolute times into tokens, one event at a time.

    Times are seconds from the stream's origin and must not decrease by more
    than rounding; an event before the present moment is written at it.
    TIME_SHIFT tokens are written lazily, just before the event that needs them.
    """

    def __init__(self, state: StreamState | None = None) -> None:
        self.state = StreamState() if state is None else state
        self.key_state = KeyState()

    def feed(self, time_s: float, event: Event) -> list[int]:
        """Return the tokens that ``event`` at ``time_s`` adds to the stream."""
        tokens = self._release(time_s, self.key_state.take(event))
        if isinstance(event, NoteOn):
            tokens = tokens or self.advance(time_s)
            if velocity_bin(event.velocity) != self.state.velocity_bin:
                tokens += self._write([VELOCITY + velocity_bin(event.velocity)])
            tokens += self._write([NOTE_ON + event.pitch])
        return tokens

    def would_write(self, event: Event) -> bool:
        """Return whether :meth:`feed` would add tokens for ``event``."""
        return isinstance(event, NoteOn) or not self.key_state.copy().take(event).isdisjoint(self.state.sounding)

    def advance(self, time_s: float) -> list[int]:
        """Return the TIME_SHIFT tokens that bring the stream to ``time_s``."""
        return self._write(shift_tokens(max(0, to_step(time_s) - self.state.step)))

    def release_all(self, time_s: float, kept: Set[int] = frozenset()) -> list[int]:
        """Lift every key and pedal; return the NOTE_OFF tokens that it takes, without those of ``kept`` pitches."""
        pitches = (self.key_state.held | self.key_state.ringing) - kept
        self.key_state = KeyState()
        return self._release(time_s, pitches)

    def release_others(self, time_s: float) -> list[int]:
        """End every note that is not this player's; return the tokens that it takes."""
        return self._release(time_s, self.state.sounding - self.key_state.held - self.key_state.ringing)

    def _release(self, time_s: float, pitches: set[int]) -> list[int]:
        pitches = pitches & self.state.sounding
        if not pitches:
            return []
        return self.advance(time_s) + self._write([NOTE_OFF + p for p in sorted(pitches)])

    def _write(self, tokens: list[int]) -> list[int]:
        for token in tokens:
            self.state.apply(token)
        return tokens


class Decoder:
    """Turn tokens into events with absolute times, one token at a time."""

    def __init__(self, state: StreamState | None = None) -> None:
        self.state = StreamState() if state is None else state

    def feed(self, token: int) -> Timed | None:
        """Take one token; return the event it completes, in seconds from the origin."""
        event = self.state.apply(token)
        return None if event is None else Timed(self.state.step / STEPS_PER_S, event)


def encode(events: Iterable[Timed]) -> list[int]:
    """Encode a whole piece; notes still open at its end are closed there."""
    encoder, tokens, last_s = Encoder(), [], 0.0
    for timed in events:
        last_s = timed.time_s
        tokens += encoder.feed(last_s, timed.event)
    return tokens + encoder.release_all(last_s)


def shorten_rests(tokens: Sequence[int]) -> tuple[list[int], int]:
    """Cut short what is too long without any event in the tokens of one piece.

    A silence keeps :data:`LONGEST_REST_S`, and where notes sound, which a pedal or a key
    may hold, :data:`LONGEST_HOLD_S`.

    Returns:
        The tokens, and how many steps were left out.
    """
    all_T = np.asarray(tokens, np.int64)
    is_shift = (all_T >= TIME_SHIFT) & (all_T < VELOCITY)
    edges = np.diff(is_shift, prepend=False, append=False).nonzero()[0]
    begins, ends = edges[::2], edges[1::2]
    passed = np.concatenate([[0], np.cumsum(np.where(is_shift, all_T - TIME_SHIFT + 1, 0))])
    sounding = np.concatenate(
        [[0], np.cumsum(np.where(all_T < NOTE_OFF, 1, 0) - ((all_T >= NOTE_OFF) & (all_T < TIME_SHIFT)))]
    )
    most = np.where(sounding[begins] > 0, LONGEST_HOLD_S, LONGEST_REST_S) * STEPS_PER_S
    surplus = passed[ends] - passed[begins] - most.astype(np.int64)
    out, done = [], 0
    for i in np.flatnonzero(surplus > 0).tolist():
        out += [*tokens[done : begins[i]], *shift_tokens(int(most[i]))]
        done = int(ends[i])
    return [*out, *tokens[done:]], int(surplus[surplus > 0].sum())


def decode(tokens: Iterable[int]) -> Iterator[Timed]:
    """Decode a whole stream into timed events."""
    decoder = Decoder()
    for token in tokens:
        timed = decoder.feed(int(token))
        if timed is not None:
            yield timed
