"""OSC datagrams to requests: what is understood, and what is refused."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musebridge.benchmarks.fuzz import bundle, message
from musebridge.bridge.app.osc_parser import IMMEDIATELY, Reading, delay_s, parse, read
from musebridge.bridge.core.commands import HandOver, Panic, Roll, SetMode, SetParameter, Stop
from musebridge.bridge.core.osc_namespace import NEWS, Query
from musebridge.errors import ConfigError
from musebridge.events import NoteOff, NoteOn

STOP = message("/musebridge/stop")


@pytest.mark.parametrize("arguments", [(), (1,), (1.0,), (0.5,), (True,)])
def test_triggers_act_without_argument_and_from_a_half_on(arguments: tuple[object, ...]) -> None:
    assert parse(message("/musebridge/handover", *arguments)) == [HandOver()]


@pytest.mark.parametrize("argument", [0, 0.0, 0.49, False])
def test_the_zero_that_controllers_send_on_release_does_nothing(argument: object) -> None:
    assert parse(message("/musebridge/stop", argument)) == []


def test_parameters_are_in_their_own_units() -> None:
    datagram = message("/musebridge/param/temperature", 0.8)
    assert parse(datagram) == [SetParameter("temperature", pytest.approx(0.8))]


def test_a_share_of_a_range_is_a_value_in_it() -> None:
    assert parse(message("/musebridge/norm/temperature", 0.5)) == [SetParameter("temperature", pytest.approx(1.525))]
    assert parse(message("/musebridge/norm/low", 0.5)) == [SetParameter("low", 64)]


def test_modes_scales_tempo_and_aliases_are_understood() -> None:
    assert parse(message("/musebridge/mode", "duet")) == [SetMode("duet")]
    assert parse(message("/musebridge/param/scale", "D minor")) == [SetParameter("scale", "D minor")]
    assert parse(message("/tempo/raw", 96.0)) == [SetParameter("bpm", 96.0)]
    assert parse(message("/midi_panic")) == [Panic()]


@pytest.mark.parametrize("prefix", ["/", "/transport_"])
def test_a_daws_transport_is_understood_and_the_zero_that_reports_its_other_state_is_not(prefix: str) -> None:
    assert parse(message(f"{prefix}play", 1)) == [Roll(rolling=True)]
    assert parse(message(f"{prefix}stop", 1)) == [Roll(rolling=False)]
    assert parse(message(f"{prefix}play", 0)) == parse(message(f"{prefix}stop", 0)) == []


def test_live_says_with_one_address_that_it_plays_and_that_it_stops() -> None:
    address = "/live/song/get/is_playing"
    assert [parse(message(address, playing)) for playing in (True, 0)] == [[Roll(True)], [Roll(False)]]


def test_a_take_begins_and_ends_by_number_or_by_turns() -> None:
    wanted = [parse(message("/musebridge/record", *arguments)) for arguments in [(1,), (0.0,), (True,), ()]]
    assert wanted == [[Query("record", on)] for on in (True, False, True, None)]


def test_a_clip_goes_where_it_is_told_or_where_the_preset_says() -> None:
    wanted = [parse(message("/musebridge/clip", *arguments)) for arguments in [("live",), (1,), (), (0,)]]
    assert wanted == [[Query("clip", "live")], [Query("clip")], [Query("clip")], []]


def test_notes_come_by_osc_too() -> None:
    assert parse(message("/vkb_midi/3/note/60", 90)) == [NoteOn(pitch=60, velocity=90, channel=2)]
    assert parse(message("/vkb_midi/3/note/60", 0)) == [NoteOff(pitch=60, channel=2)]


def test_a_bundle_is_its_messages_in_order() -> None:
    assert parse(bundle(STOP, message("/musebridge/panic"))) == [Stop(), Panic()]


@pytest.mark.parametrize(
    ("address", "arguments", "complaint"),
    [
        ("/musebridge/nothing", (), "unknown address '/musebridge/nothing'"),
        ("/musebridge/param/scale", (b"3",), "takes one number, found b'3'"),
        ("/musebridge/norm/temperature", (1.5,), r"temperature must be in 0..1 here, found 1.5"),
        ("/musebridge/norm/scale", (0.5,), "/musebridge/norm/<name>: no name 'scale'; known are temperature, "),
        ("/musebridge/get/volume", (), "no name 'volume'; known are temperature, "),
        ("/musebridge/mode", (2,), "mode must be one of call, duet, bars, manual"),
        ("/musebridge/subscribe", (0,), "port must be in 1..65535, found 0"),
        ("/vkb_midi/0/note/" + "9" * 4000, (64,), "no pitch '9+; known are 0 to 127"),
        ("/vkb_midi/17/note/60", (64,), "no channel '17'; known are 0 to 16"),
        ("/vkb_midi/1/note/128", (64,), "no pitch '128'; known are 0 to 127"),
        ("/vkb_midi/1/note/60", (200,), "a velocity is in 0..127, found 200"),
        ("/musebridge/handover", ("now",), "takes one number, found 'now'"),
        ("/musebridge/param/temperature", (), "takes one number, found none"),
        ("/musebridge/param/temperature", (float("nan"),), "takes one number, found nan"),
        ("/musebridge/param/temperature", (float("-inf"),), "takes one number, found -inf"),
        ("/musebridge/norm/temperature", ("nan",), "takes one number, found 'nan'"),
        ("/musebridge/norm/temperature", ("1e999",), "takes one number, found '1e999'"),
        ("/musebridge/norm/temperature", ("1_0",), "takes one number, found '1_0'"),
        ("/musebridge/norm/temperature", ("0,8",), "takes one number, found '0,8'"),
        ("/musebridge/norm/temperature", ("",), "takes one number, found ''"),
        ("/musebridge/param/temperature", (b"0.8",), "takes one number, found b'0.8'"),
        ("/musebridge/param/temperature", ([0.8],), "takes one number, found .0.8"),
        ("/musebridge/param/volume", (1.0,), "no name 'volume'"),
    ],
)
def test_what_is_not_in_the_table_is_refused(address: str, arguments: tuple[object, ...], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        parse(message(address, *arguments))


@pytest.mark.parametrize(
    ("argument", "value"),
    [("0.8", 0.8), (" 1 ", 1), ("1e-1", 0.1), ("true", 1), ("T", 1), ("False", 0), ("f", 0), ("-0", 0), (True, 1)],
)
def test_numbers_may_be_texts_and_truth_values(argument: object, value: float) -> None:
    assert parse(message("/musebridge/param/min_p", argument)) == [SetParameter("min_p", value)]


@pytest.mark.parametrize("text", ["7/8", "nan", "1_0", ""])
def test_a_text_that_is_no_number_is_for_the_session_to_judge(text: str) -> None:
    assert parse(message("/musebridge/param/beats", text)) == [SetParameter("beats", text)]


@pytest.mark.parametrize("arguments", [(1, 2), (1.0, "left", b"x"), ("true", 0), (None, 1), (None,)])
def test_a_second_argument_is_ignored_and_nil_is_none(arguments: tuple[object, ...]) -> None:
    assert parse(message("/musebridge/handover", *arguments)) == [HandOver()]


def test_bitwigs_channels_begin_with_1_and_reapers_with_0() -> None:
    played = [parse(message(f"/vkb_midi/{channel}/note/60", 90)) for channel in (0, 1, 2, 10, 16)]
    assert [note.channel for (note,) in played] == [0, 0, 1, 9, 15]


def test_a_pattern_asks_for_each_thing_that_it_means_and_for_none_twice() -> None:
    assert parse(message("/vkb_midi/[01]/note/6[024]", 80)) == [NoteOn(pitch=p, velocity=80) for p in (60, 62, 64)]
    assert parse(message("/musebridge/{stop,panic}", 1)) == [Stop(), Panic()]
    assert parse(message("/musebridge/s?op", 0)) == []


def test_what_one_address_of_a_pattern_refuses_the_others_take() -> None:
    reading = read(message("/musebridge/{stop,norm}/low", 2)), read(message("/musebridge/{handover,subscribe}", 0.9))
    assert [one.asked for one in reading] == [[], [(IMMEDIATELY, HandOver())]]
    assert [len(one.errors) for one in reading] == [1, 1]


@pytest.mark.parametrize("stranger", [message("/accxyz", 0.1, 9.8), b"abcd", b"/x\0\0,[\0\0", b"/x\xff\0"])
def test_a_stranger_in_a_bundle_spoils_nothing(stranger: bytes) -> None:
    for whole in (
        bundle(STOP, stranger),
        bundle(stranger, STOP),
        bundle(bundle(stranger), STOP),
        bundle(bundle(stranger, STOP), stranger),
    ):
        assert parse(whole) == [Stop()]
        assert read(whole).errors


def test_what_is_in_front_of_damage_is_understood() -> None:
    assert parse(bundle(STOP) + b"\0\0\1\0") == [Stop()]
    assert "claims 256 bytes of 0" in str(read(bundle(STOP) + b"\0\0\1\0").errors[0])


def test_each_bundle_in_a_bundle_has_its_own_time_tag() -> None:
    now, then = (struct.pack(">Q", tag) for tag in (1, 7 << 32))
    reading = read(bundle(STOP, bundle(message("/musebridge/panic"), tag=then), STOP, tag=now))
    assert reading.asked == [(1, Stop()), (7 << 32, Panic()), (1, Stop())]


@pytest.mark.parametrize(
    ("ahead_s", "waits_s"), [(1.5, 1.5), (9.99, 9.99), (10.01, 0), (1e6, 0), (0, 0), (-0.1, 0), (-1e9, 0)]
)
def test_a_time_tag_within_ten_seconds_is_kept_and_no_other(ahead_s: float, waits_s: float) -> None:
    unix_s = 1_800_000_000.25
    tag = int((unix_s + ahead_s + 2_208_988_800) * 2**32)
    assert delay_s(tag, unix_s) == pytest.approx(waits_s, abs=1e-6)
    assert delay_s(IMMEDIATELY, unix_s) == 0


@pytest.mark.parametrize("address", [*sorted(NEWS), "/live/error", "/error"])
def test_news_and_errors_that_come_back_ask_for_nothing_and_are_no_mistake(address: str) -> None:
    assert read(message(address, "something", 1)) == Reading([], [], has_news=True)


def test_an_answer_that_comes_back_is_no_question() -> None:
    assert read(message("/musebridge/capabilities", "0.1.0", "call", "duet")) == Reading()


def test_one_datagram_asks_for_so_much_and_no_more() -> None:
    reading = read(bundle(*[message(f"/vkb_midi/{channel}/note/*", 0) for channel in (1, 2, 3)]))
    assert len(reading.asked) == 256
    assert [str(error) for error in reading.errors] == ["one datagram may ask for 256 things; send several"]


@given(st.binary(max_size=200) | st.binary(max_size=80).map(lambda tail: b"#bundle\0" + tail))
def test_any_bytes_are_commands_or_refused(datagram: bytes) -> None:
    try:
        parse(datagram)
    except ConfigError:
        return


def claiming(*parts: tuple[int, bytes]) -> bytes:
    """A bundle whose parts claim these sizes."""
    return b"#bundle\0" + bytes(8) + b"".join(struct.pack(">i", size) + part for size, part in parts)


@pytest.mark.parametrize(
    ("datagram", "complaint"),
    [
        (claiming((-4, b"")), "a part of a bundle claims -4 bytes of 0"),  # python-osc reads it for ever
        (claiming((0, b""), (len(STOP), STOP)), "a part of a bundle claims 0 bytes of 28"),
        (claiming((2**31 - 1, STOP)), "a part of a bundle claims 2147483647 bytes of 24"),
        (b"#bundle\0", "a bundle is cut short"),
        (claiming((4, b"abcd")), "neither a message nor a bundle"),
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
        datagram = bundle(datagram)
    assert parse(datagram) == [Stop()]
    with pytest.raises(ConfigError, match="8 bundles in each other"):
        parse(claiming((len(datagram), datagram)))


def test_unknown_type_tags_fill_no_log(caplog: pytest.LogCaptureFixture) -> None:
    assert parse(b"/musebridge/stop\0\0\0\0,??????\0") == [Stop()]
    assert caplog.records == []
