"""Whose turn it is: a policy for each mode, which says when the model begins and ends, and what a player's note does.

========  ====================================  =======================================
mode      the model begins                      the player's note meanwhile
========  ====================================  =======================================
call      after a silence                       ends the answer
duet      once the player has played a while    is woven in, and the model goes on
bars      on the bar line after ``listen_bars`` is woven in
manual    when told to                          ends the answer
========  ====================================  =======================================

In every mode it also begins when it is told to, by command, key, controller or pedal.
"""

from __future__ import annotations

from dataclasses import dataclass

from musebridge.bridge.core.settings import MODES, Settings
from musebridge.bridge.core.tempo import Meter
from musebridge.vocab import KeyState

_DUET_AFTER_S = 2.0
_LEAD_S = 0.05
_BAR_LEAD_S = 0.15
_EARLY_BEATS = 0.5
"""A note this much before a bar line belongs to the bar that follows."""


@dataclass(slots=True)
class Phrase:
    """What the player has played since nobody answered.

    Attributes:
        begun_s: when it began; None where there is none.
        heard_s: when the player was last heard.
    """

    begun_s: float | None = None
    heard_s: float = 0.0


class TurnTaking:
    """The rules of ``manual``, where only the player says when; other modes are variations.

    Args:
        meter: where the beats are.
    """

    weaves = False
    """Whether the player's note is woven into the answer, which it ends otherwise."""
    on_grid = False
    """Whether an answer that the model begins by itself keeps to the beats, whatever comes late."""
    is_told = False
    """Whether the model never begins by itself, so a hand-over may come at any moment."""
    lead_s = _LEAD_S
    """How long before its moment an answer is begun to be written."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._end_s = 0.0

    def phrase_began(self, now_s: float, phrase: Phrase, settings: Settings) -> None:
        """Take down that a phrase began."""

    def begin_s(self, now_s: float, phrase: Phrase, keys: KeyState, settings: Settings) -> float | None:
        """Return when the model is to begin by itself, or None."""
        return None

    def answer_began(self, start_s: float, settings: Settings, *, on_grid: bool) -> None:
        """Take down that an answer begins; ``on_grid`` if the model began by itself in a mode that keeps to it."""
        self._end_s = start_s + settings.answer_s

    def player_joined(self, now_s: float, settings: Settings) -> None:
        """Take down that the player played into the answer."""

    def end_s(self, now_s: float) -> float:
        """Return when the answer ends."""
        return self._end_s


class Manual(TurnTaking):
    """The model begins when it is told to."""

    is_told = True


class Call(TurnTaking):
    """The model begins after a silence."""

    def begin_s(self, now_s: float, phrase: Phrase, keys: KeyState, settings: Settings) -> float | None:
        """Return when the silence has lasted long enough."""
        return None if phrase.begun_s is None or keys.keys else phrase.heard_s + settings.silence_s


class Duet(TurnTaking):
    """The model joins in and goes on until the player has been silent for a while."""

    weaves = True

    def begin_s(self, now_s: float, phrase: Phrase, keys: KeyState, settings: Settings) -> float | None:
        """Return when the player has played long enough."""
        return None if phrase.begun_s is None else phrase.begun_s + _DUET_AFTER_S

    def player_joined(self, now_s: float, settings: Settings) -> None:
        """Let the answer go on as long from here."""
        self._end_s = now_s + settings.answer_s


class Bars(TurnTaking):
    """The model begins on a bar line and fills its bars."""

    weaves = True
    on_grid = True
    lead_s = _BAR_LEAD_S

    def __init__(self, meter: Meter) -> None:
        super().__init__(meter)
        self._first_bar, self._counted_by = 0, ""

    def phrase_began(self, now_s: float, phrase: Phrase, settings: Settings) -> None:
        """Find the bar in which the phrase began, as the one counts it who leads now."""
        self._counted_by = self._meter.leader(now_s)
        beat = self._meter.grid(now_s).beat_at(now_s if phrase.begun_s is None else phrase.begun_s)
        self._first_bar = int((beat + _EARLY_BEATS) // settings.beats)

    def begin_s(self, now_s: float, phrase: Phrase, keys: KeyState, settings: Settings) -> float | None:
        """Return when the bar begins that the answer is for."""
        if phrase.begun_s is None:
            return None
        if self._counted_by != self._meter.leader(now_s):
            self.phrase_began(now_s, phrase, settings)
        bar = self._first_bar + settings.listen_bars
        return self._meter.grid(now_s).time_of(bar * settings.beats)

    def answer_began(self, start_s: float, settings: Settings, *, on_grid: bool) -> None:
        """Take down the bar line on which the answer ends, if it began on one."""
        super().answer_began(start_s, settings, on_grid=on_grid)
        if on_grid:
            grid = self._meter.grid(start_s)
            self._end_s = grid.time_of(grid.beat_at(start_s) + settings.answer_bars * settings.beats)


POLICIES: dict[str, type[TurnTaking]] = dict(zip(MODES, (Call, Duet, Bars, Manual), strict=True))
