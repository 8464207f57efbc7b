"""OSC datagrams to commands, and a server that survives the others."""

import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
from pythonosc.osc_message import OscMessage
from pythonosc.osc_message_builder import OscMessageBuilder

from musebridge.benchmarks import fuzz
from musebridge.bridge.app import osc_server
from musebridge.bridge.app.osc_parser import parse
from musebridge.bridge.app.osc_server import OscServer
from musebridge.bridge.app.threads import Inbox
from musebridge.bridge.core.commands import HandOver, Panic, Roll, SetMode, SetParameter, Stop, TellBeats
from musebridge.bridge.core.osc_namespace import Query, document
from musebridge.bridge.ports.clock import MonotonicClock
from musebridge.errors import ConfigError, PortError
from musebridge.events import NoteOff, NoteOn


def message(address: str, *arguments: object) -> OscMessage:
    builder = OscMessageBuilder(address)
    for argument in arguments:
        builder.add_arg(argument)
    return builder.build()


@pytest.mark.parametrize("arguments", [(), (1,), (1.0,), (0.5,), (True,)])
def test_triggers_act_without_argument_and_from_a_half_on(arguments: tuple[object, ...]) -> None:
    assert parse(message("/musebridge/handover", *arguments).dgram) == [HandOver()]


@pytest.mark.parametrize("argument", [0, 0.0, 0.49, False])
def test_the_zero_that_controllers_send_on_release_does_nothing(argument: object) -> None:
    assert parse(message("/musebridge/stop", argument).dgram) == []


def test_parameters_are_in_their_own_units() -> None:
    datagram = message("/musebridge/param/temperature", 0.8).dgram
    assert parse(datagram) == [SetParameter("temperature", pytest.approx(0.8))]


def test_a_share_of_a_range_is_a_value_in_it() -> None:
    assert parse(message("/musebridge/norm/temperature", 0.5).dgram) == [
        SetParameter("temperature", pytest.approx(1.525))
    ]
    assert parse(message("/musebridge/norm/low", 0.5).dgram) == [SetParameter("low", 64)]


def test_modes_scales_tempo_and_aliases_are_understood() -> None:
    assert parse(message("/musebridge/mode", "duet").dgram) == [SetMode("duet")]
    assert parse(message("/musebridge/param/scale", "D minor").dgram) == [SetParameter("scale", "D minor")]
    assert parse(message("/tempo/raw", 96.0).dgram) == [SetParameter("bpm", 96.0)]
    assert parse(message("/midi_panic").dgram) == [Panic()]


@pytest.mark.parametrize("prefix", ["/", "/transport_"])
def test_a_daws_transport_is_understood_and_the_zero_that_reports_its_other_state_is_not(prefix: str) -> None:
    assert parse(message(f"{prefix}play", 1).dgram) == [Roll(rolling=True)]
    assert parse(message(f"{prefix}stop", 1).dgram) == [Roll(rolling=False)]
    assert parse(message(f"{prefix}play", 0).dgram) == parse(message(f"{prefix}stop", 0).dgram) == []


def test_live_says_with_one_address_that_it_plays_and_that_it_stops() -> None:
    address = "/live/song/get/is_playing"
    assert [parse(message(address, playing).dgram) for playing in (True, 0)] == [[Roll(True)], [Roll(False)]]


def test_a_take_begins_and_ends_by_number_or_by_turns() -> None:
    wanted = [parse(message("/musebridge/record", *arguments).dgram) for arguments in [(1,), (0.0,), (True,), ()]]
    assert wanted == [[Query("record", on)] for on in (True, False, True, None)]


def test_notes_come_by_osc_too() -> None:
    assert parse(message("/vkb_midi/2/note/60", 90).dgram) == [NoteOn(pitch=60, velocity=90, channel=2)]
    assert parse(message("/vkb_midi/2/note/60", 0).dgram) == [NoteOff(pitch=60, channel=2)]


def test_the_page_about_osc_is_what_the_table_says() -> None:
    page = Path(__file__).parents[3] / "docs" / "osc.md"
    assert page.read_text(encoding="utf-8") == document(), (
        "run: python -m musebridge.bridge.core.osc_namespace > docs/osc.md"
    )


def test_a_bundle_is_its_messages_in_order() -> None:
    bundle = OscBundleBuilder(IMMEDIATELY)
    for name in ("stop", "panic"):
        bundle.add_content(message(f"/musebridge/{name}"))
    assert parse(bundle.build().dgram) == [Stop(), Panic()]


@pytest.mark.parametrize(
    ("address", "arguments", "complaint"),
    [
        ("/musebridge/nothing", (), "unknown address '/musebridge/nothing'"),
        ("/musebridge/param/scale", ("H major",), "scale must be a tonic and one of"),
        ("/musebridge/norm/temperature", (1.5,), r"temperature must be in 0..1 here, found 1.5"),
        ("/musebridge/norm/scale", (0.5,), "no parameter 'scale' with a range"),
        ("/musebridge/get/volume", (), "unknown parameter 'volume'"),
        ("/musebridge/mode", ("solo",), "mode must be one of call, duet, bars, manual"),
        ("/musebridge/subscribe", (0,), "port must be in 1..65535, found 0"),
        ("/vkb_midi/0/note/" + "9" * 4000, (64,), "unknown address"),
        ("/vkb_midi/16/note/60", (64,), "a note is /vkb_midi"),
        ("/vkb_midi/0/note/60", (200,), "a note is /vkb_midi"),
        ("/musebridge/handover", ("now",), "takes one number, found"),
        ("/musebridge/handover", (1, 2), "takes one number, found"),
        ("/musebridge/param/temperature", (), "takes one number, found"),
        ("/musebridge/param/temperature", (99.0,), "temperature must be in"),
        ("/musebridge/param/temperature", (float("nan"),), "temperature must be in"),
        ("/musebridge/param/volume", (1.0,), "unknown parameter 'volume'"),
    ],
)
def test_what_is_not_in_the_table_is_refused(address: str, arguments: tuple[object, ...], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        parse(message(address, *arguments).dgram)


@given(st.binary(max_size=200) | st.binary(max_size=80).map(lambda tail: b"#bundle\0" + tail))
def test_any_bytes_are_commands_or_refused(datagram: bytes) -> None:
    try:
        parse(datagram)
    except ConfigError:
        return


def bundle(*parts: tuple[int, bytes]) -> bytes:
    """A bundle whose parts claim these sizes."""
    return b"#bundle\0" + bytes(8) + b"".join(struct.pack(">i", size) + part for size, part in parts)


STOP = message("/musebridge/stop").dgram


@pytest.mark.parametrize(
    ("datagram", "complaint"),
    [
        (bundle((-4, b"")), "a part of a bundle claims -4 bytes of 0"),  # python-osc reads it for ever
        (bundle((0, b""), (len(STOP), STOP)), "a part of a bundle claims 0 bytes of 28"),
        (bundle((2**31 - 1, STOP)), "a part of a bundle claims 2147483647 bytes of 24"),
        (b"#bundle\0", "a bundle is cut short"),
        (bundle((4, b"abcd")), "neither a message nor a bundle"),
        (b"/" + bytes(5000), "at most 4096 bytes"),
        (b"/musebridge/stop\0\0\0\0," + b"[" * 1500 + b"]" * 1500 + bytes(3), r"takes one number, found \[\[\["),
    ],
)
def test_damaged_datagrams_are_refused_at_once(datagram: bytes, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        parse(datagram)


def test_bundles_are_read_eight_deep() -> None:
    datagram = STOP
    for _ in range(8):
        datagram = bundle((len(datagram), datagram))
    assert parse(datagram) == [Stop()]
    with pytest.raises(ConfigError, match="8 bundles in each other"):
        parse(bundle((len(datagram), datagram)))


def test_unknown_type_tags_fill_no_log(caplog: pytest.LogCaptureFixture) -> None:
    assert parse(b"/musebridge/stop\0\0\0\0,??????\0") == [Stop()]
    assert caplog.records == []


def test_the_server_stands_what_nobody_should_send() -> None:
    assert fuzz.datagrams(2000).n == 1000


def unreachable(worker: str, error: Exception) -> None:
    raise AssertionError(f"{worker}: {error!r}")


def test_a_malformed_datagram_is_counted_and_answered_and_the_next_one_works() -> None:
    inbox: Inbox = SimpleQueue()
    server = OscServer(("127.0.0.1", 0), MonotonicClock(), inbox, unreachable)
    server.start()
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as controller:
            controller.settimeout(10)
            controller.sendto(b"rubbish", server.address)
            reply = OscMessage(controller.recv(4096))
            controller.sendto(message("/musebridge/handover").dgram, server.address)
            assert inbox.get(timeout=10)[1] == HandOver()
        assert reply.address == "/musebridge/error"
        assert "not an OSC datagram" in reply.params[0]
        assert server.refused == 1
    finally:
        server.stop()


class Controller:
    """A program that speaks OSC to the server."""

    def __init__(self, server: OscServer) -> None:
        self._server, self._socket = server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(10)
        self.port = self._socket.getsockname()[1]

    def close(self) -> None:
        self._socket.close()

    def wait(self, seconds: float) -> OscMessage:
        self._socket.settimeout(seconds)
        return OscMessage(self._socket.recv(4096))

    def listen_until_silence(self) -> None:
        for _ in range(10_000):
            self.wait(2)

    def say(self, address: str, *arguments: object) -> None:
        self._socket.sendto(message(address, *arguments).dgram, self._server.address)

    def hear(self, *addresses: str) -> list[tuple[str, list[object]]]:
        """Wait for messages, one of each address, and return them."""
        heard: list[tuple[str, list[object]]] = []
        while len(heard) < len(addresses):
            reply = OscMessage(self._socket.recv(4096))
            if reply.address in addresses:
                heard.append((reply.address, reply.params))
        return heard


@pytest.fixture
def inbox() -> Inbox:
    return SimpleQueue()


def without_a_folder(wanted: bool | None) -> None:
    raise ConfigError("there is no folder")


@pytest.fixture
def server(inbox: Inbox) -> Iterator[OscServer]:
    server = OscServer(
        ("127.0.0.1", 0),
        MonotonicClock(),
        inbox,
        unreachable,
        status=lambda: {"temperature": 0.5, "scale": "off", "mode": "call", "state": "listening"},
        stats=lambda: (3, 4, 0.1, 0.2),
        record=without_a_folder,
    )
    server.start()
    yield server
    server.stop()


@pytest.fixture
def controllers(server: OscServer) -> Iterator[tuple[Controller, Controller]]:
    both = Controller(server), Controller(server)
    yield both
    for controller in both:
        controller.close()


def test_parameters_and_state_can_be_asked_for(controllers: tuple[Controller, Controller]) -> None:
    controller, _ = controllers
    controller.say("/musebridge/get/temperature")
    assert controller.hear("/musebridge/param/temperature") == [("/musebridge/param/temperature", [0.5])]
    controller.say("/musebridge/refresh")
    addresses = ["param/temperature", "param/scale", "mode", "state"]
    assert controller.hear(*(f"/musebridge/{name}" for name in addresses)) == [
        ("/musebridge/param/temperature", [0.5]),
        ("/musebridge/param/scale", ["off"]),
        ("/musebridge/mode", ["call"]),
        ("/musebridge/state", ["listening"]),
    ]
    controller.say("/musebridge/capabilities")
    assert controller.hear("/musebridge/capabilities")[0][1][1:] == ["call", "duet", "bars", "manual"]


def test_subscribers_are_told_the_news_with_a_heartbeat_and_others_are_not(
    server: OscServer, controllers: tuple[Controller, Controller], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(osc_server, "HEARTBEAT_S", 0.05)
    listener, stranger = controllers
    listener.say("/musebridge/subscribe")
    listener.hear("/musebridge/heartbeat")
    server.publish("note", 60, 66)
    assert ("/musebridge/note", [60, 66]) in listener.hear("/musebridge/note", "/musebridge/stats")
    stranger.say("/musebridge/get/temperature")
    assert stranger.wait(10).address == "/musebridge/param/temperature"


def test_a_subscription_ends_unless_it_is_renewed(
    controllers: tuple[Controller, Controller], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(osc_server, "HEARTBEAT_S", 0.02)
    monkeypatch.setattr(osc_server, "SUBSCRIPTION_S", 0.3)
    listener, _ = controllers
    listener.say("/musebridge/subscribe")
    listener.hear("/musebridge/heartbeat")
    with pytest.raises(TimeoutError):
        listener.listen_until_silence()


def test_beats_are_asked_for_while_somebody_listens(inbox: Inbox, controllers: tuple[Controller, Controller]) -> None:
    listener, other = controllers
    listener.say("/musebridge/subscribe")
    assert inbox.get(timeout=10)[1] == TellBeats(wanted=True)
    other.say("/musebridge/subscribe")
    other.say("/musebridge/unsubscribe")
    listener.say("/musebridge/unsubscribe")
    assert inbox.get(timeout=10)[1] == TellBeats(wanted=False)


def test_who_subscribes_with_a_port_is_answered_there_too(controllers: tuple[Controller, Controller]) -> None:
    surface, ear = controllers
    surface.say("/musebridge/subscribe", ear.port)
    surface.say("/musebridge/get/temperature")
    assert ear.hear("/musebridge/param/temperature") == [("/musebridge/param/temperature", [0.5])]
    surface.say("/musebridge/unsubscribe", ear.port)
    surface.say("/musebridge/get/temperature")
    assert surface.hear("/musebridge/param/temperature") == [("/musebridge/param/temperature", [0.5])]


def test_when_all_places_are_taken_one_can_be_renewed_and_none_added(
    controllers: tuple[Controller, Controller], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(osc_server, "_MOST_SUBSCRIBERS", 1)
    monkeypatch.setattr(osc_server, "HEARTBEAT_S", 0.05)
    first, second = controllers
    for _ in range(2):
        first.say("/musebridge/subscribe")
        first.hear("/musebridge/heartbeat")
    second.say("/musebridge/subscribe")
    ((_, [complaint]),) = second.hear("/musebridge/error")
    assert complaint == "1 have subscribed, which is the most; unsubscribe one of them"


def test_what_cannot_be_done_is_answered_with_why(controllers: tuple[Controller, Controller]) -> None:
    controller, _ = controllers
    controller.say("/musebridge/record", 1)
    assert controller.hear("/musebridge/error") == [("/musebridge/error", ["there is no folder"])]


def test_an_address_in_use_is_one_clear_line() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        with pytest.raises(PortError, match=r"OSC 127\.0\.0\.1:\d+: Address already in use; choose another"):
            OscServer(other.getsockname(), MonotonicClock(), SimpleQueue(), unreachable)
