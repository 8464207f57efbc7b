"""The model's turn: tokens sampled from a context, one at a time, as dated events."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from musebridge.bridge.core import sampling
from musebridge.bridge.core.harmony import Scale, allowed_pitches, parse_scale
from musebridge.bridge.core.quantise import Quantiser
from musebridge.bridge.core.recall import Figures
from musebridge.bridge.core.sampling import Logits
from musebridge.bridge.core.settings import DETECT, OFF, Settings
from musebridge.events import Message, NoteOff, NoteOn, Timed
from musebridge.vocab import N_PITCHES, NOTE_OFF, STEPS_PER_S, TIME_SHIFT, VELOCITY, StreamState, shift_tokens, to_step


class Prompt(Protocol):
    """What an answer follows, and is written to; a :class:`musebridge.bridge.core.context.Context` is one.

    Attributes:
        figures: what was struck in it.
    """

    figures: Figures

    def append(self, tokens: Sequence[int]) -> None:
        """Write tokens."""
        ...

    def logits(self) -> Logits:
        """Return the logits after the last token; the caller may overwrite them, once."""
        ...


_MAX_TOKENS_AT_ONCE = 128
"""A model that writes more at one moment is made to let time pass."""


@dataclass(frozen=True, slots=True)
class _Struck:
    """A note of the model: when it began, what ends it where it sounds, and how much later than written that is.

    One that was handed over leaves the model as many voices as it has.
    """

    step: int
    release: NoteOff
    moved_s: float = 0.0
    is_handed_over: bool = False


@dataclass(slots=True)
class Notes:
    """The model's notes at one point of the stream; a part of what a roll-back restores.

    Attributes:
        open: pitch in the stream -> the note, oldest first.
        onsets: steps at which notes of the last second began.
        must_begin: whether a note is to come before time passes.
    """

    open: dict[int, _Struck] = field(default_factory=dict)
    onsets: list[int] = field(default_factory=list)
    must_begin: bool = False

    def copy(self) -> Notes:
        """Return an independent copy."""
        return Notes(dict(self.open), list(self.onsets), self.must_begin)


class Answer:
    """A continuation of a context, owned by the model.

    The model may only end notes that it began, and never strikes a pitch that
    sounds already, whoever began it. Where it seems to have forgotten a note, it is
    made to let go. The settings' constraints are masks, so
    the model makes music within them; what leaves is transposed, scaled and on
    its channel, and a note ends where it began, whatever was changed meanwhile.

    Args:
        context: the stream so far; every token sampled is written to it.
        state: what that stream means; kept up to date here.
        rng: source of randomness; the same seed gives the same answer.
        key: the player's, for settings that ask for it.
        at_once: begin with a note, not with a rest.
        ringing: pitches that only the player's pedal lets sound, kept up to date; the model may strike them.
        doubtful: channel and pitch of keys that may be down all the same; it does not strike these.
    """

    def __init__(
        self,
        context: Prompt,
        state: StreamState,
        rng: np.random.Generator,
        *,
        key: Scale | None = None,
        at_once: bool = False,
        ringing: set[int] | None = None,
        doubtful: Set[tuple[int, int]] = frozenset(),
    ) -> None:
        self._context, self.state, self._rng, self._key = context, state, rng, key
        self._ringing: set[int] = set() if ringing is None else ringing
        self._doubtful = doubtful
        self.notes = Notes(must_begin=at_once)
        self.rest_until = 0
        """The step before which nothing new is written, unless a note is to come at once."""
        self.quantiser: Quantiser | None = None
        """Where notes fall from here on; None leaves them where they are written."""
        self._tokens_at_once = 0

    def next(self, settings: Settings) -> Timed | None:
        """Write one token; return the event that it completes, if any.

        Times are seconds from the stream's origin.
        """
        token = None if self._rest else self._overdue(settings)
        if token is None:
            token = self._sample(settings)
        self._end_ringing(token)
        self._context.append([token])
        self._tokens_at_once = 0 if TIME_SHIFT <= token < VELOCITY else self._tokens_at_once + 1
        return self._take(token, settings)

    def branch(self, context: Prompt) -> Answer:
        """Return an independent answer that goes on from here, in a stream of its own."""
        branch = Answer(context, self.state.copy(), self._rng, key=self._key)
        branch.notes, branch._tokens_at_once = self.notes.copy(), self._tokens_at_once
        return branch

    def take_over(self, notes: Iterable[Timed], now_s: float) -> None:
        """Make notes of the player the model's, which goes on with them and ends them.

        Args:
            notes: their strikes, the oldest first; what does not sound in the stream is passed over.
            now_s: the present moment on their time line.
        """
        for timed in notes:
            strike = timed.event
            if isinstance(strike, NoteOn) and strike.pitch in self.state.sounding:
                step = self.state.step - (to_step(now_s) - to_step(timed.time_s))
                release = NoteOff(pitch=strike.pitch, channel=strike.channel)
                self.notes.open[strike.pitch] = _Struck(step, release, is_handed_over=True)

    def repeat(self, step: int, token: int, velocity_bin: int | None, event: Message) -> bool:
        """Write an event of this answer again that was taken back, unless it has lost its meaning.

        It has if its pitch sounds by now, or if its note was ended already.

        Args:
            step: when; later, if the stream is.
            token: of the event.
            velocity_bin: what the stream's velocity was behind it.
            event: what sounds.

        Returns:
            Whether it was written.
        """
        pitch, is_on = token % N_PITCHES, isinstance(event, NoteOn)
        has_meaning = pitch not in self._untouchable if is_on else pitch in self.notes.open
        if not has_meaning:
            return False
        tokens = shift_tokens(max(0, step - self.state.step))
        if is_on and velocity_bin is not None and velocity_bin != self.state.velocity_bin:
            tokens.append(VELOCITY + velocity_bin)
        self._end_ringing(token)
        tokens.append(token)
        self._context.append(tokens)
        for written in tokens:
            self.state.apply(written)
        if isinstance(event, NoteOn):
            self._begin(pitch, event)
        else:
            del self.notes.open[pitch]
        return True

    def close(self) -> Iterator[Timed]:
        """End every note of the model, one after the other, at the present moment of the stream."""
        for pitch in list(self.notes.open):
            self._context.append([NOTE_OFF + pitch])
            self.state.apply(NOTE_OFF + pitch)
            yield Timed(self._moment_s(), self.notes.open.pop(pitch).release)

    @property
    def _untouchable(self) -> set[int]:
        """Pitches that must not be struck."""
        return (self.state.sounding - self._ringing) | {pitch for _, pitch in self._doubtful}

    def _end_ringing(self, token: int) -> None:
        """Before a pitch is struck that only rings, end it, as for anyone who strikes what sounds."""
        if token < NOTE_OFF and token in self._ringing:
            self._ringing.discard(token)
            self._context.append([NOTE_OFF + token])
            self.state.apply(NOTE_OFF + token)

    @property
    def _rest(self) -> int:
        """How many steps must pass before anything is written."""
        return 0 if self.notes.must_begin else max(0, self.rest_until - self.state.step)

    def _overdue(self, settings: Settings) -> int | None:
        """Return the NOTE_OFF of the oldest note if it has sounded for too long."""
        if not self.notes.open:
            return None
        pitch, note = next(iter(self.notes.open.items()))
        is_overdue = self.state.step - note.step >= settings.max_note_s * STEPS_PER_S
        return NOTE_OFF + pitch if is_overdue and self._may_end(note) else None

    def _may_end(self, note: _Struck) -> bool:
        """Return whether a note that ends now keeps at least half of its length where it falls on the grid."""
        if self.quantiser is None:
            return True
        began_s, now_s = note.step / STEPS_PER_S, self._moment_s()
        sounds_s = self.quantiser.moved_s(now_s) - began_s - note.moved_s
        return sounds_s >= max((now_s - began_s) / 2, 1 / STEPS_PER_S)

    def _sample(self, settings: Settings) -> int:
        logits_V = self._context.logits()
        now, held = self.state.step, self.notes.open.items()
        sampling.note_off_bias(
            logits_V, {pitch: (now - note.step) / STEPS_PER_S for pitch, note in held if note.step < now}
        )
        releasable = [pitch for pitch, note in held if self._may_end(note)]
        sampling.mask_grammar(logits_V, sounding=self._untouchable, releasable=releasable)
        self._mask_constraints(logits_V, settings)
        if settings.recall:
            sampling.favour(logits_V, settings.recall * self._context.figures.weights())
        return sampling.sample(
            logits_V, self._rng, temperature=settings.temperature, top_p=settings.top_p, min_p=settings.min_p
        )

    def _mask_constraints(self, logits_V: Logits, settings: Settings) -> None:
        if self._rest or self._tokens_at_once >= _MAX_TOKENS_AT_ONCE:
            sampling.mask_all_but_shifts(logits_V, least=self._rest)
            return
        if self.notes.must_begin:
            sampling.mask_shifts(logits_V)
        elif self.quantiser and self.quantiser.is_over(self._moment_s()):
            sampling.mask_pitches(logits_V, np.zeros(NOTE_OFF, bool))
        if self._is_full(settings):
            sampling.mask_pitches(logits_V, np.zeros(NOTE_OFF, bool))
        else:
            allowed_P = allowed_pitches(self._scale(settings), settings.low, settings.high, settings.transpose)
            sampling.mask_pitches(logits_V, allowed_P)
        for note in self.notes.open.values():  # where the transposition has changed, another pitch would sound there
            pitch = note.release.pitch - settings.transpose
            if note.release.channel == settings.channel - 1 and 0 <= pitch < N_PITCHES:
                logits_V[pitch] = -np.inf

    def _scale(self, settings: Settings) -> Scale | None:
        if settings.scale == DETECT:
            return self._key
        return None if settings.scale == OFF else parse_scale(settings.scale)

    def _is_full(self, settings: Settings) -> bool:
        """Return whether another note would be more than the settings allow."""
        recent = [step for step in self.notes.onsets if step > self.state.step - STEPS_PER_S]
        self.notes.onsets = recent
        own = sum(not note.is_handed_over for note in self.notes.open.values())
        return own >= settings.polyphony or len(recent) >= settings.density

    def _take(self, token: int, settings: Settings) -> Timed | None:
        event = self.state.apply(token)
        match event:
            case NoteOn(pitch=pitch, velocity=velocity):
                velocity = min(127, max(1, round(velocity * settings.loudness)))
                sounding, channel = pitch + settings.transpose, settings.channel - 1
                note = NoteOn(pitch=sounding, velocity=velocity, channel=channel)
                sounds_s = self._sounding_s()
                self._begin(pitch, note, sounds_s - self._moment_s())
                return Timed(sounds_s, note)
            case NoteOff(pitch=pitch) if pitch in self.notes.open:
                struck = self.notes.open.pop(pitch)
                ends_s = self._moment_s() + struck.moved_s if self.quantiser else math.inf  # as long as written
                return Timed(min(self._sounding_s(), ends_s), struck.release)
        return None

    def _begin(self, pitch: int, note: NoteOn, moved_s: float = 0.0) -> None:
        """Take down a note that begins: its pitch in the stream, what sounds, and how much later than written."""
        self.notes.must_begin = False
        self.notes.open[pitch] = _Struck(self.state.step, NoteOff(pitch=note.pitch, channel=note.channel), moved_s)
        self.notes.onsets.append(self.state.step)

    def _moment_s(self) -> float:
        return self.state.step / STEPS_PER_S

    def _sounding_s(self) -> float:
        """Return when something sounds that is written now."""
        return self.quantiser.moved_s(self._moment_s()) if self.quantiser else self._moment_s()
