"""What a peer on the wire of notes by OSC has said so far: its keys, its song, its clock.

Pure: the socket and its thread are in ``osc_port``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from musebridge.bridge.core.commands import Command, FollowSharedBeats, Roll, SetParameter
from musebridge.bridge.ports.base import At
from musebridge.bridge.ports.clock import Clock
from musebridge.bridge.ports.osc_wire import Bye, Held, Hello, Played, Said, Song, is_newer, nearest_s, slot
from musebridge.events import SUSTAIN, Control, Message, NoteOff, NoteOn

_MOST_PAST_S = 0.1
"""A moment further back is of a clock that is wrong, or of a message that nobody can use any more."""
_SAME_S, _SAME_BPM = 0.0005, 0.01
_WINDOW_S = 2.0
_SLEW = 0.005
_JUMP_S = 0.25


class PeerClock:
    """A clock that follows a peer's, so that a moment the peer names needs no correction when it goes back.

    The peer's clock is read where a datagram took least time in the last two seconds. Where ours is behind
    it goes on to there at once; where it is ahead it goes slightly slower until it agrees. It never goes back.

    Args:
        clock: what it is when no peer is there.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset_s = 0.0
        self._read_s = clock.now()
        self._readings: deque[tuple[float, float]] = deque()

    def now(self) -> float:
        """Return the present in monotonic seconds."""
        return self._clock.now() + self._offset_s

    def begin(self) -> None:
        """Forget the peer that was followed."""
        self._readings.clear()

    def follow(self, apart_s: float) -> None:
        """Take down that the peer's clock says ``apart_s`` more than :meth:`now`, or has less by what delayed it."""
        own_s = self._clock.now()
        elapsed_s, self._read_s = own_s - self._read_s, own_s
        self._readings.append((own_s, self._offset_s + apart_s))
        while self._readings[0][0] < own_s - _WINDOW_S:
            self._readings.popleft()
        behind_s = max(offset for _, offset in self._readings) - self._offset_s
        self._offset_s += max(-_SLEW * elapsed_s, behind_s)


class Peer:
    """The one who plays: hears what it says, in whatever order that comes, and knows what to take back when it is lost.

    Args:
        clock: is made to follow the peer's.
    """

    def __init__(self, clock: PeerClock) -> None:
        self._clock = clock
        self.ahead_s = 0.0
        """How far ahead of its moment it wants an event."""
        self._run: int | None = None
        self._zero_s: float | None = None  # the moment of its clock's zero, or None where it has no clock
        self._forget()

    def hear(self, said: Said) -> list[At]:
        """Return what a message means for the session, each with its moment."""
        return list(self._heard(said))

    def lost(self) -> list[At]:
        """Lift its keys and pedals, and stop its song."""
        now_s = self._clock.now()
        lifted: list[Message | Command] = [NoteOff(pitch=pitch, channel=channel) for channel, pitch in self._down]
        lifted += [Control(controller=SUSTAIN, value=0, channel=channel) for channel in self._pedals]
        lifted += self._stopped()
        self._forget()
        self._run = None
        return [At(now_s, message) for message in lifted]

    def clock_s(self, moment_s: float) -> float | None:
        """Return what a moment is by the peer's clock, before it is made to go round; None where it has no clock."""
        return None if self._zero_s is None else moment_s - self._zero_s

    def _forget(self) -> None:
        self._newest: dict[tuple[int, ...], int] = {}
        self._down: dict[tuple[int, int], int] = {}  # each key, and the message that struck it
        self._pedals: set[int] = set()
        self._song_seq: int | None = None
        self._bar_beats = 0.0
        self._shared: FollowSharedBeats | None = None
        self._is_rolling = False

    def _heard(self, said: Said) -> Iterator[At]:
        match said:
            case Hello(run=run, clock_s=clock_s, ahead_s=ahead_s):
                if self._run not in (None, run):
                    yield from self.lost()
                if self._run != run:
                    self._clock.begin()
                    self._zero_s = None
                self._run, self.ahead_s = run, ahead_s
                self._synchronise(clock_s)
            case Bye():
                yield from self.lost()
            case Played(seq=seq, clock_s=clock_s, message=message) if self._is_news(slot(message), seq):
                self._take_down(seq, message)
                yield At(self._moment_s(clock_s), message)
            case Held(seq=seq, keys=keys):
                for channel, pitch in [key for key in self._down if key not in keys]:
                    if not is_newer(self._down[channel, pitch], seq):
                        release = NoteOff(pitch=pitch, channel=channel)
                        self._take_down(seq, release)
                        yield At(self._clock.now(), release)
            case Song():
                yield from self._followed(said)

    def _synchronise(self, clock_s: float | None) -> None:
        now_s = self._clock.now()
        if clock_s is None:
            self._zero_s = None
            return
        if self._zero_s is None:
            self._zero_s = now_s - clock_s
        apart_s = nearest_s(self._zero_s + clock_s, now_s) - now_s
        if abs(apart_s) > _JUMP_S:  # it stood still, or was set
            self._clock.begin()
            self._zero_s, apart_s = now_s - clock_s, 0.0
        self._clock.follow(apart_s)

    def _moment_s(self, clock_s: float | None) -> float:
        now_s = self._clock.now()
        if clock_s is None or self._zero_s is None:
            return now_s
        moment_s = nearest_s(self._zero_s + clock_s, now_s)
        return moment_s if now_s - _MOST_PAST_S <= moment_s <= now_s else now_s

    def _is_news(self, about: tuple[int, ...], seq: int) -> bool:
        if about in self._newest and not is_newer(seq, self._newest[about]):
            return False
        self._newest[about] = seq
        return True

    def _take_down(self, seq: int, message: Message) -> None:
        match message:
            case NoteOn(pitch=pitch, channel=channel):
                self._down[channel, pitch] = seq
            case NoteOff(pitch=pitch, channel=channel):
                self._down.pop((channel, pitch), None)
            case Control(controller=controller, value=value, channel=channel) if controller == SUSTAIN:
                (self._pedals.add if value >= 64 else self._pedals.discard)(channel)

    # Its song

    def _followed(self, song: Song) -> Iterator[At]:
        if self._song_seq is not None and not is_newer(song.seq, self._song_seq):
            return
        self._song_seq = song.seq
        at_s = self._moment_s(song.clock_s)
        if not song.playing:
            yield from (At(at_s, command) for command in self._stopped())
            return
        if song.bar_beats != self._bar_beats:
            self._bar_beats = song.bar_beats
            if beats := _beats_of(song.bar_beats):
                yield At(at_s, SetParameter("beats", beats))
        beat = song.bar * song.bar_beats + song.beat
        share = FollowSharedBeats(song.bpm, self._exact_s(song, at_s) - beat * 60 / song.bpm)
        if self._shared is None or _differ(self._shared, share, at_s):
            self._shared = share
            yield At(at_s, share)
        if not self._is_rolling:
            self._is_rolling = True
            yield At(at_s, Roll(rolling=True))

    def _exact_s(self, song: Song, at_s: float) -> float:
        """Return the moment that a song's place is of; one a little ahead of ours is no less right."""
        return at_s if song.clock_s is None or self._zero_s is None else nearest_s(self._zero_s + song.clock_s, at_s)

    def _stopped(self) -> list[Message | Command]:
        if not self._is_rolling:
            return []
        self._is_rolling, self._shared = False, None
        return [Roll(rolling=False), FollowSharedBeats()]


def _differ(a: FollowSharedBeats, b: FollowSharedBeats, now_s: float) -> bool:
    assert a.bpm is not None
    assert b.bpm is not None
    apart_s = (now_s - a.beat_zero_s) - (now_s - b.beat_zero_s) * b.bpm / a.bpm
    return abs(apart_s) > _SAME_S or abs(a.bpm - b.bpm) > _SAME_BPM


def _beats_of(bar_beats: float) -> int | str | None:
    """Return a bar's length as the parameter ``beats`` has it, or None where it cannot."""
    if not 1 <= bar_beats <= 16:
        return None
    if bar_beats == int(bar_beats):
        return int(bar_beats)
    return f"{round(bar_beats * 2)}/8" if bar_beats * 2 == int(bar_beats * 2) else None
