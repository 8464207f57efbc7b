"""Online augmentation: the same music in another key, at another tempo, with another touch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from musebridge import vocab
from musebridge.errors import ConfigError
from musebridge.training.data.tokens import Tokens

_MARGIN = 1.15
"""A faster window has fewer tokens: shifts vanish between notes that fall together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """How far a window may be moved; each move is drawn evenly from its range.

    Attributes:
        transpose: up to this many semitones up or down.
        stretch: up to this share slower or faster, 0.1 for ±10 %.
        velocity_shift: up to this many velocity bins louder or softer.
    """

    transpose: int = 0
    stretch: float = 0.0
    velocity_shift: int = 0

    def __post_init__(self) -> None:
        for name, most in {"transpose": 12, "stretch": 0.5, "velocity_shift": 8}.items():
            if not 0 <= getattr(self, name) <= most:
                raise ConfigError(f"{name} must be in 0..{most}, found {getattr(self, name)}")

    def needed(self, length: int) -> int:
        """Return how many tokens to give :meth:`apply` for ``length`` of them."""
        return round(length * _MARGIN) if self.stretch else length

    def apply(self, tokens: Tokens, length: int, rng: np.random.Generator) -> Tokens:
        """Return ``length`` tokens of the moved music.

        Args:
            tokens: at least ``needed(length)`` tokens, or as many as there are.
            length: how many to return.
            rng: source of randomness.
        """
        semitones = int(rng.integers(-self.transpose, self.transpose + 1))
        bins = int(rng.integers(-self.velocity_shift, self.velocity_shift + 1))
        factor = 1 + self.stretch * float(rng.uniform(-1, 1))
        stretched = stretch(tokens, factor) if self.stretch else tokens
        if len(stretched) < length:  # mostly rests, or the end of the corpus
            stretched = tokens
        return shift_velocity(transpose(stretched[:length], semitones), bins)


def transpose(tokens: Tokens, semitones: int) -> Tokens:
    """Return tokens moved by ``semitones``, or by the most that keeps every pitch in 0..127."""
    is_pitch = tokens < vocab.TIME_SHIFT
    if not is_pitch.any():
        return tokens
    pitches = tokens[is_pitch] % vocab.N_PITCHES
    semitones = int(np.clip(semitones, -pitches.min(), vocab.N_PITCHES - 1 - pitches.max()))
    return np.where(is_pitch, tokens + semitones, tokens)


def shift_velocity(tokens: Tokens, bins: int) -> Tokens:
    """Return tokens with every velocity moved by ``bins``, within the softest and the loudest."""
    is_velocity = (tokens >= vocab.VELOCITY) & (tokens < vocab.BEGIN)
    return np.where(is_velocity, np.clip(tokens + bins, vocab.VELOCITY, vocab.BEGIN - 1), tokens)


def stretch(tokens: Tokens, factor: float) -> Tokens:
    """Return tokens with every moment multiplied by ``factor``; time after the last event is left out.

    Absolute steps are rounded, so the grid does not drift.
    """
    is_shift = (tokens >= vocab.TIME_SHIFT) & (tokens < vocab.VELOCITY)
    step = np.cumsum(np.where(is_shift, tokens - vocab.TIME_SHIFT + 1, 0))
    events, moved = tokens[~is_shift], np.rint(step[~is_shift] * factor).astype(np.int64)
    whole, rest = np.divmod(np.diff(moved, prepend=0), vocab.MAX_SHIFT_STEPS)
    place = np.cumsum(whole + (rest > 0) + 1) - 1
    out = np.full(place[-1] + 1 if len(place) else 0, vocab.TIME_SHIFT + vocab.MAX_SHIFT_STEPS - 1, np.int64)
    out[place] = events
    out[place[rest > 0] - 1] = vocab.TIME_SHIFT + rest[rest > 0] - 1
    return out
