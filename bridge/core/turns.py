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

_DUET_AFTER_S = 2.0
_LEAD_S = 0.05
_BAR_LEAD_S = 0.15
SAME_S = 0.002
"""A bar line that moves by less than this is where it was."""
_EARLY_BEATS = 0.5
"""A note this much before a bar line belongs to the bar that follows."""


@dataclass(slots=True)
class Phrase:
    """What the player has played since nobody answered.

    Attributes:
        begun_s: when it began; None where there is none.
        heard_s: when the player was last heard.
        holds: whether the player holds a key, as far as the bridge believes that.
        waits: whether it waits for a DAW that is stopped.
        is_early: whether it began while the DAW was stopped.
    """

    begun_s: float | None = None
    heard_s: float = 0.0
    holds: bool = False
    waits: bool = False
    is_early: bool = False


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

    def phrase_began(self, now_s: float, phrase: Phrase) -> None:
        """Take down that a phrase began."""

    def metre_changed(self, now_s: float, was_beats: float) -> None:
        """Take down that a bar has another length from here on."""

    def begin_s(self, now_s: float, phrase: Phrase, settings: Settings) -> float | None:
        """Return when the model is to begin by itself, or None."""
        return None

    def answer_began(self, start_s: float, settings: Settings, *, on_grid: bool) -> None:
        """Take down that an answer begins; ``on_grid`` if the model began by itself in a mode that keeps to it."""
        self._end_s = start_s + settings.answer_s

    def player_joined(self, now_s: float, settings: Settings) -> None:
        """Take down that the player played into the answer."""

    def missed(self, now_s: float) -> bool:
        """Return whether an answer that has not begun to sound would do so where no bar line is any more."""
        return False

    def end_s(self, now_s: float) -> float:
        """Return when the answer ends."""
        return self._end_s


class Manual(TurnTaking):
    """The model begins when it is told to."""

    is_told = True


class Call(TurnTaking):
    """The model begins after a silence."""

    def begin_s(self, now_s: float, phrase: Phrase, settings: Settings) -> float | None:
        """Return when the silence has lasted long enough."""
        return None if phrase.begun_s is None or phrase.holds else phrase.heard_s + settings.silence_s


class Duet(TurnTaking):
    """The model joins in and goes on until the player has been silent for a while."""

    weaves = True

    def begin_s(self, now_s: float, phrase: Phrase, settings: Settings) -> float | None:
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
        self._begun: float | None = None  # when the phrase began, in elapsed beats
        self._line = 0.0  # when the bar began in which that was, or the answer
        self._counted_by = ""
        self._answer_bars: int | None = None
        self._asked: tuple[float | None, float, float] = None, 0.0, 0.0

    def phrase_began(self, now_s: float, phrase: Phrase) -> None:
        """Find the bar in which the phrase began."""
        begun_s = now_s if phrase.begun_s is None else phrase.begun_s
        self._begun = self._meter.elapsed(begun_s)
        self._count(now_s)

    def begin_s(self, now_s: float, phrase: Phrase, settings: Settings) -> float | None:
        """Return the bar line that the answer is to begin on; where it was missed, the next."""
        if phrase.begun_s is None or phrase.waits or not self._meter.is_settled(now_s):
            return None
        if self._begun is None:
            self.phrase_began(now_s, phrase)
        if self._counted_by != self._meter.leader(now_s):
            self._count(now_s)
        line_s = self._meter.line_s(now_s, self._line + settings.listen_bars * self._meter.bar_beats)
        return line_s if line_s > now_s - SAME_S else self._meter.next_line_s(now_s)

    def answer_began(self, start_s: float, settings: Settings, *, on_grid: bool) -> None:
        """Take down on which bar line the answer began, if on one."""
        super().answer_began(start_s, settings, on_grid=on_grid)
        self._answer_bars = settings.answer_bars if on_grid else None
        self._asked = self._begun, self._line, start_s
        self._begun, self._line = None, self._meter.elapsed(start_s)

    def missed(self, now_s: float) -> bool:
        """Return whether the bar line that the answer waits for has moved; then the phrase is still to be answered."""
        begun, line, start_s = self._asked
        if self._answer_bars is None or now_s >= start_s:
            return False
        is_there = abs(self._meter.line_s(now_s, self._line) - start_s) < SAME_S
        if is_there and self._meter.is_settled(now_s):
            return False
        self._begun, self._line, self._answer_bars = begun, line, None
        return True

    def end_s(self, now_s: float) -> float:
        """Return the bar line that the answer ends on, if it began on one."""
        if self._answer_bars is None:
            return super().end_s(now_s)
        return self._meter.line_s(now_s, self._line + self._answer_bars * self._meter.bar_beats)

    def metre_changed(self, now_s: float, was_beats: float) -> None:
        """Let bars that are over keep the length they had."""
        bars = round((self._meter.elapsed(now_s) - self._line) / was_beats)
        self._line += bars * (was_beats - self._meter.bar_beats)

    def _count(self, now_s: float) -> None:
        """Find the bar line before the phrase, as the one counts it who leads now."""
        assert self._begun is not None
        self._counted_by = self._meter.leader(now_s)
        ago = self._meter.elapsed(now_s) - self._begun
        beat = self._meter.grid(now_s).beat_at(now_s) - ago
        bar = (beat + _EARLY_BEATS) // self._meter.bar_beats
        self._line = self._begun + bar * self._meter.bar_beats - beat


POLICIES: dict[str, type[TurnTaking]] = dict(zip(MODES, (Call, Duet, Bars, Manual), strict=True))
