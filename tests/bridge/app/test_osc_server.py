"""OSC over real sockets: a server that survives everybody, answers each datagram once, and never talks for ever."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest
from controller import DEADLINE_S, Controller, messages
from hypothesis import given, settings
from hypothesis import strategies as st

from musebridge.benchmarks import fuzz
from musebridge.benchmarks.fuzz import bundle, message
from musebridge.bridge.app import osc_server
from musebridge.bridge.app.bridge import Bridge
from musebridge.bridge.app.osc_server import Address, OscServer
from musebridge.bridge.app.preset import Preset, load, save_binds
from musebridge.bridge.app.testing import ScriptedEngine, babble
from musebridge.bridge.app.threads import Inbox, SessionThread
from musebridge.bridge.core.commands import Bind, Command, HandOver, Learn, Pause, SetMode, TellBeats
from musebridge.bridge.core.osc_namespace import INCOMING, MOST_ERRORS, SPECS
from musebridge.bridge.core.osc_news import ROOT, parameters
from musebridge.bridge.core.osc_page import document
from musebridge.bridge.core.scheduler import Scheduler
from musebridge.bridge.core.session import Session
from musebridge.bridge.core.settings import Settings
from musebridge.bridge.ports.base import MemoryPort
from musebridge.bridge.ports.clock import MonotonicClock, unix_s
from musebridge.errors import ConfigError, PortError
from musebridge.events import Control, Message

HERE = ("127.0.0.1", 0)


def for_moment(at_unix_s: float, *parts: bytes) -> bytes:
    """A bundle for a moment in seconds since 1970."""
    return bundle(*parts, tag=int((at_unix_s + 2_208_988_800) * 2**32).to_bytes(8))


class Heard(Session):
    """A session that keeps what it receives."""

    def __init__(self) -> None:
        start = Settings(temperature=0.5)
        super().__init__(ScriptedEngine(babble), Scheduler(), start, mode="manual", rng=np.random.default_rng(0))
        self.received: SimpleQueue[Message | Command] = SimpleQueue()

    def receive(self, now_s: float, message: Message | Command) -> None:
        self.received.put(message)
        super().receive(now_s, message)

    def next(self) -> Message | Command:
        return self.received.get(timeout=DEADLINE_S)


def unreachable(worker: str, error: Exception) -> None:
    raise AssertionError(f"{worker}: {error!r}")


def without_a_folder(wanted: bool | None) -> None:
    raise ConfigError("there is no folder")


@pytest.fixture
def session() -> Heard:
    return Heard()


@pytest.fixture
def server(session: Heard) -> Iterator[OscServer]:
    clock = MonotonicClock()
    inbox: Inbox = SimpleQueue()
    thread = SessionThread(session, clock, inbox, None, lambda _: None, lambda error: None, unreachable)
    server = OscServer(HERE, clock, inbox, unreachable, stats=lambda: (3, 4, 0.1, 0.2), record=without_a_folder)
    for worker in (thread, server):
        worker.start()
    yield server
    for worker in (server, thread):
        worker.stop()


@pytest.fixture
def controllers(server: OscServer) -> Iterator[tuple[Controller, Controller]]:
    with Controller(server.address) as one, Controller(server.address) as other:
        yield one, other


@pytest.fixture
def controller(controllers: tuple[Controller, Controller]) -> Controller:
    return controllers[0]


def test_the_page_about_osc_is_what_the_table_says() -> None:
    page = Path(__file__).parents[3] / "docs" / "osc.md"
    assert page.read_text(encoding="utf-8") == document(), (
        "run: python -m musebridge.bridge.core.osc_page > docs/osc.md"
    )


def test_the_server_stands_what_nobody_should_send() -> None:
    assert fuzz.datagrams(2000).n == 1000


# What is asked for is done, and answered


def test_a_malformed_datagram_is_counted_and_answered_and_the_next_one_works(
    server: OscServer, session: Heard, controller: Controller
) -> None:
    controller.send(b"rubbish")
    ((_, (complaint,)),) = controller.hear("/musebridge/error")
    assert "not an OSC datagram" in str(complaint)
    controller.say("/musebridge/handover")
    assert session.next() == HandOver()
    assert server.refused == 1


def test_parameters_and_state_can_be_asked_for(controller: Controller) -> None:
    controller.say("/musebridge/get/temperature")
    assert controller.answers() == [("/musebridge/param/temperature", [0.5])]
    controller.say("/musebridge/refresh")
    told = dict(controller.answers())
    assert [told[f"/musebridge/{name}"] for name in ("param/temperature", "param/scale", "mode", "state")] == [
        [0.5],
        ["off"],
        ["manual"],
        ["listening"],
    ]
    assert {f"/musebridge/param/{name}" for name in SPECS} <= set(told)
    controller.say("/musebridge/capabilities")
    assert controller.hear("/musebridge/capabilities")[0][1][1:] == ["call", "duet", "bars", "manual"]


def test_a_question_sees_what_the_same_bundle_set_before_it(controller: Controller) -> None:
    for value in range(50):
        name = "/musebridge/{}/polyphony"
        ask = message(name.format("get"))
        controller.send(
            bundle(message(name.format("param"), value % 32 + 1), ask, message(name.format("param"), 7), ask)
        )
        assert controller.answers() == [(name.format("param"), [value % 32 + 1]), (name.format("param"), [7])]


def test_a_value_is_checked_against_the_others_that_hold_and_its_sender_is_told(
    controllers: tuple[Controller, Controller],
) -> None:
    sender, other = controllers
    sender.say("/musebridge/param/high", 50)
    sender.say("/musebridge/param/low", 60)
    assert sender.answers() == [("/musebridge/error", ["low must not be above high, found 60 and 50"])]
    assert other.answers() == []
    sender.say("/musebridge/get/low")
    assert sender.answers() == [("/musebridge/param/low", [0])]


@pytest.mark.parametrize(
    ("address", "argument", "complaint"),
    [
        ("param/low", 3.5e9, "low must be whole, in 0..127, found 3.5e+09"),
        ("param/low", 2**62, "low must be whole, in 0..127, found 4.61169e+18"),
        ("param/temperature", 99.0, "temperature must be in 0.05..3, found 99"),
        ("param/scale", "H major", "scale must be a tonic and one of"),
        ("mode", "solo", "mode must be one of call, duet, bars, manual"),
        ("param/temperature", float("inf"), "takes one number, found inf"),
        ("param/temperature", b"blob", "takes one number, found b'blob'"),
    ],
)
def test_the_sender_is_told_what_the_session_refuses(
    server: OscServer, controller: Controller, address: str, argument: object, complaint: str
) -> None:
    controller.say(f"/musebridge/{address}", argument)
    ((where, (said,)),) = controller.answers()
    assert (where, server.refused) == ("/musebridge/error", 1)
    assert complaint in str(said)


@pytest.mark.parametrize(
    ("name", "sent", "meant"),
    [("polyphony", 8.37, 8), ("transpose", -11.6, -12), ("low", 63.5, 64), ("thru", 0.5, 1), ("thru", "true", 1)],
)
def test_a_fader_or_a_text_on_a_whole_number_means_the_nearest(
    controller: Controller, name: str, sent: object, meant: int
) -> None:
    controller.say(f"/musebridge/param/{name}", sent)
    controller.say(f"/musebridge/get/{name}")
    assert controller.answers() == [(f"/musebridge/param/{name}", [meant])]


def test_all_that_is_wrong_with_a_datagram_is_one_answer(server: OscServer, controller: Controller) -> None:
    strangers = [message("/accxyz", 1.0), message("/musebridge/param/low", 999), message("/musebridge/mode", 5)]
    controller.send(bundle(*strangers, message("/musebridge/get/low"), bundle(message("/nobody"))))
    answers = controller.answers()
    assert [address for address, _ in answers] == ["/musebridge/param/low", "/musebridge/error"]
    assert answers[1][1][0].endswith(" (and 3 more)")
    assert server.refused == 1


def test_what_cannot_be_done_is_answered_with_why(controller: Controller) -> None:
    controller.say("/musebridge/record", 1)
    assert controller.answers() == [("/musebridge/error", ["there is no folder"])]


def test_a_pattern_is_answered_for_each_address_that_it_means(controller: Controller) -> None:
    controller.say("/musebridge/param/{low,high}", 64)
    controller.say("/musebridge/get/{low,high}")
    assert controller.answers() == [("/musebridge/param/low", [64]), ("/musebridge/param/high", [64])]


# Controllers that are learnt


def playing(preset: Preset, keyboard: MemoryPort) -> Bridge:
    """A bridge as ``musebridge serve`` makes it of a preset."""
    return Bridge(
        ScriptedEngine(babble),
        keyboard,
        MemoryPort(),
        settings=preset.settings,
        mode="manual",
        osc=HERE,
        binds=preset.binds,
        save=partial(save_binds, preset),
    )


def test_a_controller_is_learnt_by_osc_saved_in_the_users_preset_and_loaded_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("musebridge.bridge.app.preset.USER_FOLDER", tmp_path)
    keyboard = MemoryPort()
    with playing(load("bass"), keyboard) as bridge, Controller(bridge.osc.address) as panel:
        panel.say("/musebridge/subscribe")
        panel.say("/musebridge/learn/density", 1.0)
        panel.say("/musebridge/learn/density", 0.0)  # the button comes up
        panel.hear("/musebridge/learning")
        for value in (10, 90):
            keyboard.send(Control(controller=21, value=value, channel=4))
        news = panel.hear("/musebridge/learning", "/musebridge/learnt", "/musebridge/param/density")
        assert news[:2] == [("/musebridge/learning", [""]), ("/musebridge/learnt", ["density", 21, 5])]
        panel.say("/musebridge/refresh")
        assert ("/musebridge/learnt", ["density", 21, 5]) in panel.hear(
            "/musebridge/param/density", "/musebridge/learnt"
        )
    again = load("bass")
    assert again.path == tmp_path / "bass.toml"
    assert again.binds == (Bind("density", 21, 5),)
    with playing(again, keyboard) as bridge, Controller(bridge.osc.address) as panel:
        panel.say("/musebridge/subscribe")
        panel.answers()
        keyboard.send(Control(controller=21, value=127, channel=4))
        assert panel.hear("/musebridge/param/density") == [("/musebridge/param/density", [60])]
        panel.say("/musebridge/unlearn/density")
        assert panel.hear("/musebridge/learnt") == [("/musebridge/learnt", ["density", -1, 0])]
    assert load("bass").binds == ()
    assert load("bass").settings == again.settings


def test_what_cannot_be_saved_is_told_and_the_bridge_plays_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("musebridge.bridge.app.preset.USER_FOLDER", tmp_path / "file" / "presets")
    (tmp_path / "file").write_text("no folder")
    with playing(load("bass"), MemoryPort()) as bridge, Controller(bridge.osc.address) as panel:
        panel.say("/musebridge/subscribe")
        panel.answers()
        bridge.inbox.put((MonotonicClock().now(), Bind("density", 21, 5)))
        ((_, (complaint,)),) = panel.hear("/musebridge/error")
        assert "bass.toml: cannot be written" in str(complaint)
        panel.say("/musebridge/get/density")
        assert panel.hear("/musebridge/param/density")


def test_a_panel_can_stop_learning_and_hold_the_model(session: Heard, controller: Controller) -> None:
    for address, arguments in (("learn/low", ()), ("learn", ()), ("pause", ()), ("pause", (0.0,)), ("pause", ("T",))):
        controller.say(f"/musebridge/{address}", *arguments)
    wanted = [Learn("low"), Learn(""), Pause(True), Pause(False), Pause(True)]
    assert [session.next() for _ in wanted] == wanted
    assert session.snapshot.state == "paused"
    controller.say("/musebridge/learn/scale")
    ((_, (complaint,)),) = controller.answers()
    assert str(complaint).startswith("/musebridge/learn/<name>: no name 'scale'; known are temperature")


# Time tags


def test_a_bundle_is_done_when_its_time_tag_says_and_others_are_not_kept_up(
    session: Heard, controller: Controller
) -> None:
    controller.send(for_moment(unix_s() + 0.5, message("/musebridge/handover")))
    controller.send(for_moment(unix_s() + 0.25, message("/musebridge/mode", "duet"), message("/musebridge/get/low")))
    sent_s = unix_s()
    controller.send(for_moment(unix_s() - 3600, message("/musebridge/mode", "call")))
    controller.send(for_moment(unix_s() + 3600, message("/musebridge/mode", "bars")))
    assert [session.next(), session.next()] == [SetMode("call"), SetMode("bars")]
    assert unix_s() - sent_s < 0.25
    assert session.next() == SetMode("duet")
    assert controller.hear("/musebridge/param/low")
    assert session.next() == HandOver()
    assert unix_s() - sent_s > 0.49


def test_bundles_that_wait_are_bounded(controller: Controller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(osc_server, "_MOST_KEPT", 2)
    for _ in range(3):
        controller.send(for_moment(unix_s() + 9, message("/musebridge/handover")))
    assert controller.answers() == [("/musebridge/error", ["2 bundles wait for their time tags, which is the most"])]


# Subscribers


def test_subscribers_are_told_the_news_with_a_heartbeat_and_others_are_not(
    server: OscServer, controllers: tuple[Controller, Controller], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(osc_server, "HEARTBEAT_S", 0.05)
    listener, stranger = controllers
    listener.say("/musebridge/subscribe")
    listener.hear("/musebridge/heartbeat")
    server.publish("note", 60, 66)
    assert ("/musebridge/note", [60, 66]) in listener.hear("/musebridge/note", "/musebridge/stats")
    assert stranger.answers() == []


def test_a_subscription_ends_unless_it_is_renewed(controller: Controller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(osc_server, "HEARTBEAT_S", 0.02)
    monkeypatch.setattr(osc_server, "SUBSCRIPTION_S", 0.3)
    controller.say("/musebridge/subscribe")
    controller.hear("/musebridge/heartbeat")
    with pytest.raises(TimeoutError):
        controller.listen_until_silence()


def test_beats_are_asked_for_while_somebody_listens(session: Heard, controllers: tuple[Controller, Controller]) -> None:
    listener, other = controllers
    listener.say("/musebridge/subscribe")
    assert session.next() == TellBeats(wanted=True)
    other.say("/musebridge/subscribe")
    other.say("/musebridge/unsubscribe")
    listener.say("/musebridge/unsubscribe")
    assert session.next() == TellBeats(wanted=False)


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


# Nothing talks for ever


class Mirror(threading.Thread):
    """Sends back whatever comes, so many datagrams, each to where it came from."""

    def __init__(self, server: Address, most: int = 200) -> None:
        super().__init__(daemon=True)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._server, self._most, self.reflected = server, most, list[bytes]()
        self.enough = threading.Event()
        self.start()

    def say(self, address: str, *arguments: object) -> None:
        self._socket.sendto(message(address, *arguments), self._server)

    def run(self) -> None:
        while not self.enough.is_set():
            datagram, where = self._socket.recvfrom(65_535)
            if datagram == b"enough":
                return
            self.reflected.append(datagram)
            self._socket.sendto(datagram, where)
            if len(self.reflected) >= self._most:
                self.enough.set()

    def stop(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.sendto(b"enough", self._socket.getsockname())
        self.join(DEADLINE_S)
        self._socket.close()


ASKED = [(next(entry.addresses())[0], argument) for entry in INCOMING for argument in ((), (1.0,), ("call",), (b"x",))]


def test_nothing_that_is_asked_for_starts_a_storm_with_a_mirror(server: OscServer, controller: Controller) -> None:
    mirror = Mirror(server.address, most=600)
    mirror.say("/nobody/knows", 1.0)
    for address, argument in ASKED:
        mirror.say(address, *argument)
    for _ in range(20):  # an endless exchange would go on meanwhile
        server.publish("note", 60, 66)
        controller.answers()
    mirror.stop()
    assert len(mirror.reflected) > len(INCOMING)
    assert not mirror.enough.is_set()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "::1", "::"])
def test_the_bridges_own_port_cannot_subscribe_by_any_of_its_names(host: str) -> None:
    if ":" in host and not socket.has_ipv6:
        pytest.skip("no IPv6")
    settings = Settings(answer_s=5)
    target = MemoryPort()
    try:
        bridge = Bridge(ScriptedEngine(babble), MemoryPort(), target, settings=settings, mode="manual", osc=(host, 0))
    except PortError as error:
        pytest.skip(f"IPv6 is switched off: {error}")
    with bridge:
        assert bridge.osc
        port = bridge.osc.address[1]
        with Controller(("::1" if ":" in host else "127.0.0.1", port)) as controller:
            controller.say("/musebridge/subscribe", port)
            ((_, (complaint,)),) = controller.answers()
            assert str(complaint).startswith(f"port {port} is the bridge's own")
            controller.say("/musebridge/handover")  # there would be news
            assert controller.answers() == []
            assert bridge.osc.refused == 1
            controller.say("/musebridge/unsubscribe", port)
            assert controller.answers() == []


def test_two_bridges_that_are_subscribed_to_each_other_do_not_follow_each_other_for_ever() -> None:
    with ExitStack() as stack:
        servers, controllers = list[OscServer](), list[Controller]()
        for _ in range(2):
            bridge = Bridge(ScriptedEngine(babble), MemoryPort(), MemoryPort(), settings=Settings(), osc=HERE)
            stack.enter_context(bridge)
            assert bridge.osc
            servers.append(bridge.osc)
            controllers.append(stack.enter_context(Controller(bridge.osc.address)))

        def settle() -> None:
            """Let each send what it has to send, and read what the other sent: answers keep their place in a queue."""
            for controller in controllers * 3:
                controller.answers()

        for server, peer in (servers, servers[::-1]):
            with Controller(server.address) as go_between:
                go_between.say("/musebridge/subscribe", peer.address[1])
        settle()
        for server in servers:
            server.publish("heartbeat", 1.0)
        settle()
        for controller, mode in zip(controllers, ("duet", "manual"), strict=True):
            controller.say("/musebridge/mode", mode)
        settle()
        told = [dict(ask_all(controller)) for controller in controllers]
        assert [said["/musebridge/mode"] for said in told] == [["duet"], ["manual"]]
        assert [server.refused for server in servers] == [0, 0]


def ask_all(controller: Controller) -> list[tuple[str, list[object]]]:
    controller.say("/musebridge/refresh")
    return controller.answers()


def test_errors_to_one_address_are_limited(server: OscServer, controllers: tuple[Controller, Controller]) -> None:
    flooding, other = controllers
    for i in range(10 * MOST_ERRORS):
        flooding.say("/nobody/knows")
        if i % 16 == 0:
            flooding.answers()
    flooding.answers()
    assert server.refused == 10 * MOST_ERRORS
    other.say("/nobody/knows")
    assert len(other.answers()) == 1


def test_a_question_with_many_answers_does_not_amplify(controller: Controller, monkeypatch: pytest.MonkeyPatch) -> None:
    many = 0
    for _ in range(100):
        controller.say("/musebridge/refresh")
        many += len(controller.answers())
    assert 100 <= many < 100 * len(SPECS)


# Who subscribes with another port is answered there, and cannot be waited for here.
FIRST_ADDRESSES = [next(entry.addresses())[0] for entry in INCOMING if not entry.address.endswith("subscribe")]


@pytest.fixture(scope="module")
def hardy() -> Iterator[Bridge]:
    """A bridge that stands whatever is sent."""
    with Bridge(ScriptedEngine(babble), MemoryPort(), MemoryPort(), settings=Settings(), osc=HERE) as bridge:
        yield bridge


ADDRESSES = st.sampled_from(FIRST_ADDRESSES) | st.text(max_size=20).map(lambda text: "/" + text.replace("\0", ""))
ARGUMENTS = st.lists(
    st.none()
    | st.booleans()
    | st.integers(-(2**31), 2**31 - 1)
    | st.floats(width=32)
    | st.text(max_size=9)
    | st.binary(min_size=1, max_size=9),
    max_size=3,
)
MESSAGES = st.builds(lambda address, arguments: message(address, *arguments), ADDRESSES, ARGUMENTS)
DATAGRAMS = st.recursive(
    MESSAGES | st.binary(max_size=60),
    lambda parts: st.lists(parts, max_size=4).map(lambda some: bundle(*some)),
    max_leaves=8,
)


@given(DATAGRAMS)
@settings(max_examples=300)
def test_any_datagram_leaves_the_bridge_alive_and_is_answered_at_most_once(hardy: Bridge, datagram: bytes) -> None:
    assert hardy.osc
    with Controller(hardy.osc.address) as controller:
        controller.send(datagram)
        answers = [address for address, _ in controller.answers()]
    assert answers.count("/musebridge/error") <= 1
    many = (b"/get/", b"refresh", b"capabilities", b"parameters", b"ports", b"presets", b"/takes")
    if not any(question in datagram for question in many):
        assert len(answers) <= 1
    assert hardy.failure is None


# Addresses to listen on


def test_the_loopback_of_ipv6_is_listened_to_as_well() -> None:
    try:
        bridge = Bridge(ScriptedEngine(babble), MemoryPort(), MemoryPort(), settings=Settings(), osc=("::1", 0))
    except PortError as error:
        pytest.skip(f"IPv6 is switched off: {error}")
    with bridge:
        assert bridge.osc
        assert bridge.osc_name == f"OSC [::1]:{bridge.osc.address[1]}"
        with Controller(bridge.osc.address) as controller, Controller(bridge.osc.address) as ear:
            controller.say("/musebridge/get/temperature")
            assert controller.answers() == [("/musebridge/param/temperature", [1.0])]
            controller.say("/musebridge/subscribe", ear.port)
            controller.say("/musebridge/mode", "duet")
            assert ear.hear("/musebridge/mode") == [("/musebridge/mode", ["duet"])]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_an_address_in_use_is_one_clear_line(host: str) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as other:
        try:
            other.bind((host, 0))
        except OSError as error:
            pytest.skip(f"IPv6 is switched off: {error}")
        with pytest.raises(PortError, match=r"OSC (127\.0\.0\.1|\[::1\]):\d+: Address already in use; choose another"):
            OscServer(other.getsockname()[:2], MonotonicClock(), SimpleQueue(), unreachable)


def test_every_parameter_is_described_from_its_one_table() -> None:
    answers = {row[0]: row for row in parameters()}
    assert list(answers) == list(SPECS)
    assert answers["silence_s"][1:6] == ("number", 0.05, 30.0, 0.6, "s")
    assert answers["thru"][1:6] == ("switch", 0, 1, 0, "")
    assert answers["transpose"][1:6] == ("whole", -36, 36, 0, "")
    assert answers["scale"][1:6] == ("text", 0, 0, "off", "")


def test_a_subscriber_sees_the_plan_before_it_sounds_and_what_is_heard() -> None:
    source = MemoryPort("in")
    start = Settings(silence_s=0.05, answer_s=0.5)
    with (
        Bridge(ScriptedEngine(babble), source, MemoryPort("out"), settings=start, osc=HERE) as bridge,
        Controller(bridge.osc.address if bridge.osc else HERE) as page,
    ):
        page.say(f"{ROOT}/subscribe")
        page.say(f"{ROOT}/ports")
        assert page.hear(f"{ROOT}/port", f"{ROOT}/port") == [
            (f"{ROOT}/port", ["in", "in", 1]),
            (f"{ROOT}/port", ["out", "out", 1]),
        ]
        page.say("/vkb_midi/1/note/60", 70)
        page.say("/vkb_midi/1/note/60", 0)
        told: list[tuple[str, list[object]]] = []
        while not told or told[-1][0] != f"{ROOT}/note":
            told += messages(page.receive())
    heard = [values[1:] for address, values in told if address == f"{ROOT}/heard"]
    assert heard == [[60, 70], [60, 0]]
    pitch, velocity, due_ms = told[-1][1]
    assert (f"{ROOT}/plan", [due_ms, pitch, velocity]) in told
