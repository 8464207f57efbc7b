"""OSC datagrams to commands, and a server that survives the others."""

import socket
from queue import SimpleQueue

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
from pythonosc.osc_message import OscMessage
from pythonosc.osc_message_builder import OscMessageBuilder

from musebridge.bridge.clock import MonotonicClock
from musebridge.bridge.commands import HandOver, Panic, SetParameter, Stop
from musebridge.bridge.loop import Inbox
from musebridge.bridge.osc import OscServer, parse
from musebridge.errors import ConfigError, PortError


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


def test_a_bundle_is_its_messages_in_order() -> None:
    bundle = OscBundleBuilder(IMMEDIATELY)
    for name in ("stop", "panic"):
        bundle.add_content(message(f"/musebridge/{name}"))
    assert parse(bundle.build().dgram) == [Stop(), Panic()]


@pytest.mark.parametrize(
    ("address", "arguments", "complaint"),
    [
        ("/musebridge/nothing", (), "unknown address /musebridge/nothing"),
        ("/musebridge/handover", ("now",), "takes one number, found"),
        ("/musebridge/handover", (1, 2), "takes one number, found"),
        ("/musebridge/param/temperature", (), "takes one number, found"),
        ("/musebridge/param/temperature", (99.0,), "temperature must be in"),
        ("/musebridge/param/temperature", (float("nan"),), "temperature must be in"),
        ("/musebridge/param/loudness", (1.0,), "unknown parameter 'loudness'"),
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
        assert server.malformed == 1
    finally:
        server.stop()


def test_an_address_in_use_is_one_clear_line() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        with pytest.raises(PortError, match=r"OSC 127\.0\.0\.1:\d+: Address already in use; choose another"):
            OscServer(other.getsockname(), MonotonicClock(), SimpleQueue(), unreachable)
