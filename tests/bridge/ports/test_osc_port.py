"""Notes by OSC: what a peer says, in whatever order it comes, and a bridge that plays with no MIDI system."""

import random
import socket
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress

import pytest
from pythonosc.osc_message import OscMessage

from musebridge.benchmarks.fuzz import wire_noise
from musebridge.bridge.app.bridge import Bridge
from musebridge.bridge.app.testing import ScriptedEngine
from musebridge.bridge.core.commands import FollowSharedBeats, Roll, SetParameter
from musebridge.bridge.core.settings import Settings
from musebridge.bridge.ports.base import At
from musebridge.bridge.ports.osc_peer import Peer, PeerClock
from musebridge.bridge.ports.osc_port import OscInput, OscLine, OscOutput, address_of
from musebridge.bridge.ports.osc_wire import ROUND_SEQ, Hello, is_newer, nearest_s, read, write
from musebridge.errors import ConfigError, PortError
from musebridge.events import Control, NoteOff, NoteOn, Other
from musebridge.vocab import TIME_SHIFT

DEADLINE_S, AGAIN_S = 20, 0.25


class Hands:
    """A clock that is set by hand."""

    def __init__(self, at_s: float = 100.0) -> None:
        self.at_s = at_s

    def now(self) -> float:
        return self.at_s


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def peer(hands: Hands) -> Peer:
    """A peer that has said hello, with a clock that is at 5 s where ours is at 100 s."""
    peer = Peer(PeerClock(hands))
    assert heard(peer, "hello", 1, 7, 5000.0, 20) == []
    return peer


def heard(peer: Peer, name: str, *numbers: float) -> list[At]:
    said = read(write(name, *numbers))
    assert said is not None
    return peer.hear(said)


def test_each_kind_of_message_is_read() -> None:
    def message(name: str, *numbers: float) -> object:
        return getattr(read(write(name, *numbers)), "message", None)

    assert message("note", 0, -1, 1, 60, 100) == NoteOn(pitch=60, velocity=100)
    assert message("note", 0, -1.0, 16.0, 60.0, 0.0) == NoteOff(pitch=60, channel=15)
    assert message("control", 0, -1, 2, 64, 127) == Control(controller=64, value=127, channel=1)
    assert message("bend", 0, -1, 1, 0) == Other(bytes([0xE0, 0, 64]))
    assert message("midi", 0, -1, 0x80, 60, 64) == NoteOff(pitch=60)
    assert read(write("hello", 1, 3, -1, 20)) == Hello(3, None, 0.02)


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"/musebridge/wire/note",
        write("note", 0, -1, 0, 60, 100),
        write("note", 0, -1, 1, 128, 100),
        write("note", 0, -1, 1, 60.5, 100),
        write("note", float("nan"), -1, 1, 60, 100),
        write("note", 0, -1, 1, 60),
        write("midi", 0, -1, 0xF0, 1, 2),
        write("held", 0, 2048),
        write("hello", 2, 3, -1, 20),
        write("transport", 0, 0, 1, 0, 0, 0, 4),
        write("nothing"),
    ],
)
def test_what_is_nothing_of_the_wire_reads_as_none(datagram: bytes) -> None:
    assert read(datagram) is None


def test_numbers_that_go_round_are_compared_on_the_shorter_way() -> None:
    assert is_newer(0, ROUND_SEQ - 1)
    assert not is_newer(5, 5)
    assert not is_newer(ROUND_SEQ - 1, 0)
    assert nearest_s(0.1, 1000 * 16.384 - 0.1) == pytest.approx(1000 * 16.384 + 0.1)


def test_of_two_messages_for_one_key_the_newer_holds_whatever_comes_first(peer: Peer) -> None:
    assert [at.message for at in heard(peer, "note", 3, -1, 1, 60, 0)] == [NoteOff(pitch=60)]
    assert heard(peer, "note", 2, -1, 1, 60, 100) == []
    assert heard(peer, "note", 3, -1, 1, 60, 0) == []
    assert [at.message for at in heard(peer, "note", 1, -1, 1, 62, 90)] == [NoteOn(pitch=62, velocity=90)]


def test_a_note_whose_end_was_lost_ends_with_the_next_list_of_keys(peer: Peer) -> None:
    heard(peer, "note", 1, -1, 1, 60, 100)
    heard(peer, "note", 4, -1, 1, 64, 100)
    assert [at.message for at in heard(peer, "held", 3)] == [NoteOff(pitch=60)]  # 64 was struck behind it
    assert heard(peer, "held", 5, 64) == []


def test_a_moment_of_the_peer_is_a_moment_of_ours_and_goes_back_as_the_same_number(peer: Peer, hands: Hands) -> None:
    hands.at_s += 0.05
    (at,) = heard(peer, "note", 0, 5030.0, 1, 60, 100)
    assert at.moment_s == pytest.approx(100.03)
    assert peer.clock_s(at.moment_s) == pytest.approx(5.03, abs=1e-9)


def test_the_clock_follows_the_fastest_messages_and_never_goes_back(hands: Hands) -> None:
    clock, chance = PeerClock(hands), random.Random(1)
    peer, before_s = Peer(clock), clock.now()
    for _ in range(3000):  # a clock that is a thousandth too fast, by messages that take 1 to 9 ms
        hands.at_s += 0.02
        sent_s = hands.at_s - 0.001 - 0.008 * chance.random()
        peer.hear(Hello(1, (sent_s - 100) * 1.001 % 16.384, 0.0))
        assert clock.now() > before_s
        before_s = clock.now()
    assert clock.now() - 100 == pytest.approx((hands.at_s - 100) * 1.001, abs=0.012)
    assert peer.clock_s(clock.now()) == pytest.approx((hands.at_s - 0.001 - 100) * 1.001, abs=0.012)


def test_a_song_is_followed_and_said_once(peer: Peer) -> None:
    came = heard(peer, "transport", 0, 5000.0, 1, 2, 1.5, 90.0, 3.5)
    share = FollowSharedBeats(90.0, 100 - 8.5 * 60 / 90)
    assert [at.message for at in came] == [SetParameter("beats", "7/8"), share, Roll(rolling=True)]
    assert heard(peer, "transport", 1, 5100.0, 1, 2, 1.65, 90.0, 3.5) == []
    (jumped,) = heard(peer, "transport", 3, 5200.0, 1, 0, 0.0, 90.0, 3.5)
    assert isinstance(jumped.message, FollowSharedBeats)
    assert heard(peer, "transport", 2, 5150.0, 0, 0, 0.0, 90.0, 3.5) == []  # late
    stopped = [at.message for at in heard(peer, "transport", 4, 5300.0, 0, 0, 0.0, 90.0, 3.5)]
    assert stopped == [Roll(rolling=False), FollowSharedBeats()]


def test_a_lost_peer_has_lifted_everything(peer: Peer) -> None:
    heard(peer, "note", 0, -1, 1, 60, 100)
    heard(peer, "control", 1, -1, 1, 64, 127)
    heard(peer, "transport", 2, 5000.0, 1, 0, 0.0, 120.0, 4)
    ends = [NoteOff(pitch=60), Control(controller=64, value=0), Roll(rolling=False), FollowSharedBeats()]
    assert [at.message for at in heard(peer, "bye")] == ends
    heard(peer, "hello", 1, 8, -1, 0)
    heard(peer, "note", 0, -1, 1, 60, 100)
    assert [at.message for at in heard(peer, "hello", 1, 9, -1, 0)] == [NoteOff(pitch=60)]


def test_the_name_of_a_port_says_where_it_listens() -> None:
    assert address_of("osc") == ("127.0.0.1", 9124)
    assert address_of("osc:[::1]:9000") == ("::1", 9000)
    assert address_of("osc:9000") == ("127.0.0.1", 9000)
    assert address_of("oscillator") is None
    with pytest.raises(ConfigError, match="osc:HOST:PORT"):
        address_of("osc:here")


class Patch:
    """A peer by a real socket; it has no clock of its own."""

    def __init__(self, line: OscLine) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.settimeout(AGAIN_S)
        self._socket.connect(line.address)

    def say(self, name: str, *numbers: float) -> None:
        self._socket.send(write(name, *numbers))

    def throw(self, datagram: bytes) -> None:
        self._socket.send(datagram)

    def hears(self, name: str, *end: float) -> Sequence[float]:
        """Wait for a message with these numbers at its end; say meanwhile that somebody is here."""
        for _ in range(round(DEADLINE_S / AGAIN_S) * 20):
            try:
                message = OscMessage(self._socket.recv(65_535))
            except ConnectionError:  # told of what was said to a bridge that had ended
                continue
            except TimeoutError:  # the bridge was too busy and thinks that nobody is here
                self.say("hello", 1, 1, -1, 20)
                continue
            if message.address.endswith(f"/{name}") and (not end or tuple(message.params[-len(end) :]) == end):
                return list(message.params)
            if message.address.endswith("/hello"):
                self.say("hello", 1, 1, -1, 20)
        pytest.fail(f"the bridge never said {name} {end}")

    def begin(self, run: int) -> None:
        """Say hello until it is answered with one: until then another one plays."""
        while True:
            self.say("hello", 1, run, -1, 20)
            with suppress(TimeoutError):
                if OscMessage(self._socket.recv(65_535)).address.endswith("/hello"):
                    return

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def line() -> Iterator[OscLine]:
    with closing(OscLine(("127.0.0.1", 0))) as line:
        yield line


@pytest.fixture
def patch(line: OscLine) -> Iterator[Patch]:
    with closing(Patch(line)) as patch:
        patch.begin(run=1)
        yield patch


@pytest.fixture
def bridge(line: OscLine) -> Iterator[Bridge]:
    engine = ScriptedEngine(lambda tokens: TIME_SHIFT if 72 in tokens else 72)
    settings = Settings(thru=1, silence_s=0.05, answer_s=600)
    source, target = OscInput(line), OscOutput(line)
    with Bridge(engine, source, target, settings=settings, mode="call", clock=line.clock) as bridge:
        yield bridge


@pytest.mark.usefixtures("bridge")
def test_it_plays_without_a_midi_system_and_ends_its_notes(patch: Patch, bridge: Bridge) -> None:
    patch.say("note", 0, -1, 1, 60, 100)
    patch.hears("midi", 0x90, 60, 100)
    patch.say("note", 1, -1, 1, 60, 0)
    patch.hears("midi", 0x80, 60, 64)
    (_, due, wait, status, pitch, _) = patch.hears("midi")
    assert (due, 0 <= wait <= 20, status, pitch) == (-1, True, 0x90, 72)
    bridge.stop()
    patch.hears("midi", 0x80, 72, 64)
    patch.hears("bye")


@pytest.mark.usefixtures("bridge")
def test_nonsense_changes_nothing(patch: Patch, line: OscLine) -> None:
    chance = random.Random(0)
    for i in range(2000):
        patch.throw(wire_noise(chance))
        if i % 100 == 99:
            patch.say("note", 2 * i, -1, 1, 30, 100)
            patch.hears("midi", 0x90, 30, 100)
            patch.say("note", 2 * i + 1, -1, 1, 30, 0)
            patch.hears("midi", 0x80, 30, 64)
    assert line.refused > 1000


@pytest.mark.usefixtures("bridge")
def test_a_peer_that_falls_silent_is_lost_and_another_may_come(patch: Patch, line: OscLine) -> None:
    with closing(Patch(line)) as other:
        patch.say("note", 0, -1, 1, 60, 100)  # and then nothing
        other.begin(run=2)  # it is let in once the silent one is lost
        assert not line.is_lost


def test_an_address_that_is_taken_is_one_line(line: OscLine) -> None:
    with pytest.raises(PortError, match="choose another with --port osc:HOST:PORT"):
        OscLine(line.address)
