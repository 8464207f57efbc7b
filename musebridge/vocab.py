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

The pedal is not a token: while it is down, released notes sound on, and their
NOTE_OFF is written when it rises. A pitch that is struck again while it sounds
is ended first. Time is kept as whole steps from the origin and each absolute
time is rounded once, so the grid never drifts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from musebridge.events import SUSTAIN, Control, Event, NoteOff, NoteOn, Timed

NOTE_ON, NOTE_OFF, TIME_SHIFT, VELOCITY, BEGIN = 0, 128, 256, 356, 388
N_PITCHES = 128
MAX_SHIFT_STEPS = 100
N_VELOCITY_BINS = 32
N_EVENTS = 388
"""Tokens a model may sample."""
N_TOKENS = 389
"""All tokens, BEGIN included."""
STEPS_PER_S = 100
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


class Encoder:
    """Turn events with absolute times into tokens, one event at a time.

    Times are seconds from the stream's origin and must not decrease by more
    than rounding; an event before the present moment is written at it.
    TIME_SHIFT tokens are written lazily, just before the event that needs them.
    """

    def __init__(self, state: StreamState | None = None) -> None:
        self.state = StreamState() if state is None else state
        self.held: set[int] = set()
        """Pitches whose key is down."""
        self.sustained: set[int] = set()
        """Pitches whose key is up but which the pedal lets sound."""
        self.pedal = False

    def feed(self, time_s: float, event: Event) -> list[int]:
        """Return the tokens that ``event`` at ``time_s`` adds to the stream."""
        match event:
            case NoteOn(pitch=pitch, velocity=velocity):
                return self._note_on(time_s, pitch, velocity)
            case NoteOff(pitch=pitch):
                return self._note_off(time_s, pitch)
            case Control(controller=controller, value=value) if controller == SUSTAIN:
                return self._pedal(time_s, value >= 64)
            case Control():
                return []

    def would_write(self, event: Event) -> bool:
        """Return whether :meth:`feed` would add tokens for ``event``."""
        match event:
            case NoteOn():
                return True
            case NoteOff(pitch=pitch):
                return pitch in self.held and not self.pedal and pitch in self.state.sounding
            case Control(controller=controller, value=value):
                return controller == SUSTAIN and value < 64 and not self.sustained.isdisjoint(self.state.sounding)

    def advance(self, time_s: float) -> list[int]:
        """Return the TIME_SHIFT tokens that bring the stream to ``time_s``."""
        return self._write(shift_tokens(max(0, to_step(time_s) - self.state.step)))

    def release_all(self, time_s: float) -> list[int]:
        """Lift every key and the pedal; return the NOTE_OFF tokens that it takes."""
        pitches = self.held | self.sustained
        self.held.clear()
        self.sustained.clear()
        self.pedal = False
        return self._release(time_s, pitches)

    def release_others(self, time_s: float) -> list[int]:
        """End every note that is not this player's; return the tokens that it takes."""
        return self._release(time_s, self.state.sounding - self.held - self.sustained)

    def _note_on(self, time_s: float, pitch: int, velocity: int) -> list[int]:
        tokens = self._release(time_s, {pitch}) or self.advance(time_s)
        if velocity_bin(velocity) != self.state.velocity_bin:
            tokens += self._write([VELOCITY + velocity_bin(velocity)])
        self.held.add(pitch)
        self.sustained.discard(pitch)
        return tokens + self._write([NOTE_ON + pitch])

    def _note_off(self, time_s: float, pitch: int) -> list[int]:
        if pitch not in self.held:
            return []
        self.held.discard(pitch)
        if self.pedal:
            self.sustained.add(pitch)
            return []
        return self._release(time_s, {pitch})

    def _pedal(self, time_s: float, down: bool) -> list[int]:
        self.pedal = down
        if down:
            return []
        pitches, self.sustained = self.sustained, set()
        return self._release(time_s, pitches)

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


def decode(tokens: Iterable[int]) -> Iterator[Timed]:
    """Decode a whole stream into timed events."""
    decoder = Decoder()
    for token in tokens:
        timed = decoder.feed(int(token))
        if timed is not None:
            yield timed
