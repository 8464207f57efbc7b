"""The panel between real pages and a real bridge: what passes, who is refused, and what survives whom."""

import asyncio
import http.client
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import mido
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from musebridge.benchmarks.fuzz import message
from musebridge.bridge.app.bridge import Bridge
from musebridge.bridge.app.testing import ScriptedEngine, babble
from musebridge.bridge.core.osc_namespace import SPECS
from musebridge.bridge.core.settings import Settings
from musebridge.bridge.panel import osc_link
from musebridge.bridge.panel import server as panel_server
from musebridge.bridge.panel.osc_link import Memory
from musebridge.bridge.panel.server import MOST_MESSAGES, MOST_PAGES, REFUSED, Panel, is_loopback, messages
from musebridge.bridge.ports.base import MemoryPort
from musebridge.errors import PortError

HERE = ("127.0.0.1", 0)
DEADLINE_S = 20


def bridge_at(port: int = 0) -> Bridge:
    start = Settings(silence_s=0.05, answer_s=0.5)
    ports = MemoryPort("memory in"), MemoryPort("memory out")
    return Bridge(ScriptedEngine(babble), *ports, settings=start, mode="manual", osc=(HERE[0], port))


def in_time(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), DEADLINE_S))


@asynccontextmanager
async def panel_of(bridge: Bridge) -> AsyncIterator[Panel]:
    assert bridge.osc
    async with Panel(HERE, bridge.osc.address) as panel:
        yield panel


def socket_of(panel: Panel, **more: Any) -> connect:
    url = urlsplit(panel.url)
    return connect(f"ws://{url.netloc}/socket?{url.query}", **{"max_queue": None} | more)


async def hear(page: ClientConnection, *wanted: list[Any]) -> None:
    """Read until each of some messages was heard; a short one stands for all that begin so."""
    left = list(wanted)
    while left:
        said = json.loads(await page.recv())
        left = [want for want in left if not any(message[: len(want)] == want for message in said)]


async def reason_of(page: ClientConnection) -> tuple[int | None, str | None]:
    """Read until the page is closed; return code and reason."""
    with suppress(ConnectionClosed):
        while True:
            await page.recv()
    return page.close_code, page.close_reason


def test_a_page_is_told_at_once_how_things_are_and_sees_what_is_heard() -> None:
    async def test() -> None:
        with bridge_at() as bridge:
            async with panel_of(bridge) as panel, socket_of(panel) as page:
                await hear(page, ["/panel/bridge", 1], ["/musebridge/state", "listening"])
                async with socket_of(panel) as late:
                    (first, *rest) = json.loads(await late.recv())
                    assert first == ["/panel/bridge", 1]
                    if len(SPECS) > sum(address == "/musebridge/parameter" for address, *_ in rest):
                        await hear(late, *(["/musebridge/parameter", name] for name in SPECS))
                    await late.send('[["/vkb_midi/1/note/60", 70], ["/vkb_midi/1/note/60", 0]]')
                    heard = asyncio.create_task(hear(late, ["/musebridge/heard"]))
                    await hear(page, ["/musebridge/heard"])
                    await heard

    in_time(test)


def test_every_page_hears_which_value_a_parameter_took() -> None:
    async def test() -> None:
        with bridge_at() as bridge:
            async with panel_of(bridge) as panel, socket_of(panel) as one, socket_of(panel) as other:
                await hear(one, ["/panel/bridge", 1])
                await one.send('[["/musebridge/param/transpose", 2.7]]')
                await hear(other, ["/musebridge/param/transpose", 3])

    in_time(test)


def test_a_bridge_may_start_late_end_and_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(osc_link, "LOOKS_S", 0.05)
    monkeypatch.setattr(osc_link, "DOUBT_S", 0.2)

    async def test() -> None:
        with bridge_at() as probe:
            assert probe.osc
            port = probe.osc.address[1]
        async with Panel(HERE, (HERE[0], port)) as panel, socket_of(panel) as page:
            await hear(page, ["/panel/bridge", 0])
            for _ in range(2):
                with bridge_at(port):
                    await hear(page, ["/panel/bridge", 1])
                    await hear(page, ["/musebridge/state", "listening"])
                await hear(page, ["/panel/bridge", 0])

    in_time(test)


@pytest.mark.parametrize(
    "frame", [b"\0\1", "no json", "{}", "[1]", "[[]]", "[[1]]", '[["x"]]', '[["/a", {}]]', '[["/a", NaN]]', "[" * 9999]
)
def test_a_frame_that_is_no_messages_closes_its_page_in_one_line(frame: str | bytes) -> None:
    async def test() -> None:
        with bridge_at() as bridge:
            async with panel_of(bridge) as panel, socket_of(panel) as page:
                await page.send(frame)
                code, reason = await reason_of(page)
                assert code == REFUSED
                assert reason == 'a frame is [["/address", number or text, ...], ...] in JSON'
                async with socket_of(panel) as another:
                    await another.recv()

    in_time(test)


def test_a_frame_has_an_end() -> None:
    assert messages(json.dumps([["/a", 1, 0.5, "x", True]])) == [["/a", 1, 0.5, "x", True]]
    with pytest.raises(ValueError, match="at most"):
        messages(json.dumps([["/a"]] * (MOST_MESSAGES + 1)))


def test_what_the_bridge_does_not_understand_is_answered() -> None:
    async def test() -> None:
        with bridge_at() as bridge:
            async with panel_of(bridge) as panel, socket_of(panel) as page:
                await hear(page, ["/panel/bridge", 1])
                await page.send('[["/musebridge/nonsense", 1]]')
                await hear(page, ["/musebridge/error"])

    in_time(test)


def test_foreign_pages_and_other_names_of_this_machine_are_refused() -> None:
    async def test() -> None:
        with bridge_at() as bridge:
            async with panel_of(bridge) as panel:
                with pytest.raises(InvalidStatus) as refused:
                    await socket_of(panel, origin="http://evil.example").__aenter__()
                assert refused.value.response.status_code == 403
                rebound = {"Host": "evil.example"}
                assert (await asyncio.to_thread(fetched, panel.url, "/", rebound))[0] == 421
                with pytest.raises(InvalidStatus):  # which says two hosts
                    await socket_of(panel, additional_headers=rebound).__aenter__()
                own = f"http://{urlsplit(panel.url).netloc}"
                async with socket_of(panel, origin=own) as page:
                    await page.recv()

    in_time(test)


def test_one_page_too_many_is_told_so() -> None:
    async def test() -> None:
        with bridge_at() as bridge:
            async with panel_of(bridge) as panel:
                pages = [await socket_of(panel) for _ in range(50)]
                told = [await reason_of(page) for page in pages[MOST_PAGES:]]
                assert set(told) == {(REFUSED, f"{MOST_PAGES} pages are open, which is the most; close one of them")}
                await asyncio.gather(*(page.recv() for page in pages[:MOST_PAGES]))
                await asyncio.gather(*(page.close() for page in pages))

    in_time(test)


def test_a_page_that_never_reads_is_dropped_and_the_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        monkeypatch.setattr(panel_server, "MOST_WAITING", 8)
        with bridge_at() as bridge:
            async with panel_of(bridge) as panel, socket_of(panel, max_queue=1) as lazy, socket_of(panel) as page:
                await hear(page, ["/panel/bridge", 1])
                reading = asyncio.create_task(reason_of(page))
                for _ in range(4000):
                    panel._tell([["/musebridge/error", "x" * 4000]])
                    await asyncio.sleep(0)
                    if len(panel._pages) == 1:
                        break
                assert len(panel._pages) == 1
                reading.cancel()
                lazy.transport.abort()

    in_time(test)


def fetched(url: str, path: str, headers: Mapping[str, str] = {}) -> tuple[int, str, bytes]:
    asked = http.client.HTTPConnection(urlsplit(url).netloc, timeout=DEADLINE_S)
    asked.request("GET", path, headers=dict(headers))
    answer = asked.getresponse()
    return answer.status, answer.getheader("Content-Type", ""), answer.read()


def test_the_page_is_served_and_nothing_outside_its_folder() -> None:
    async def test() -> None:
        async with Panel(HERE, ("127.0.0.1", 9)) as panel:
            status, kind, body = await asyncio.to_thread(fetched, panel.url, "/")
            assert (status, kind) == (200, "text/html; charset=utf-8")
            assert body.startswith(b"<!doctype html>")
            for path in ("/../server.py", "/..%2fserver.py", "/server.py", "/.", "/a/b.js", "/none.js", "//etc/x.js"):
                assert (await asyncio.to_thread(fetched, panel.url, path))[0] == 404

    in_time(test)


def test_beyond_loopback_the_address_has_a_token() -> None:
    async def test() -> None:
        async with Panel(("0.0.0.0", 0), ("127.0.0.1", 9)) as panel:
            at = f"http://127.0.0.1:{urlsplit(panel.url).port}"
            assert panel.token
            for path, status in (
                ("/", 403),
                ("/?token=wrong", 403),
                (f"/?token={panel.token}", 200),
                ("/takes/1.mid", 403),
            ):
                assert (await asyncio.to_thread(fetched, at, path))[0] == status
            with pytest.raises(InvalidStatus):
                await connect(f"{at.replace('http', 'ws')}/socket").__aenter__()
            async with connect(f"{at.replace('http', 'ws')}/socket?token={panel.token}") as page:
                assert json.loads(await page.recv()) == [["/panel/bridge", 0]]

    in_time(test)


def test_a_panel_address_in_use_is_one_clear_line() -> None:
    async def test() -> None:
        async with Panel(HERE, ("127.0.0.1", 9)) as panel:
            taken = urlsplit(panel.url).port
            assert taken
            with pytest.raises(PortError, match="--panel"):
                await Panel(("127.0.0.1", taken), ("127.0.0.1", 9)).__aenter__()

    in_time(test)


def test_loopback_is_known_by_name_and_number() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "piano")] == [True] * 3 + [
        False
    ] * 2


def test_of_each_thing_the_latest_is_remembered() -> None:
    memory = Memory()
    memory.keep(["/musebridge/param/bpm", 90])
    memory.keep(["/musebridge/learnt", "bpm", 7, 1])
    memory.keep(["/musebridge/learnt", "recall", 8, 1])
    memory.keep(["/musebridge/plan", 500, 60, 70])
    memory.keep(["/musebridge/param/bpm", 91])
    for topic, *values in (["take", 1, 2.0, 3, 0], ["take", 2, 4.0, 5, 0], ["take", 2, 4.0, 5, 1], ["take/deleted", 1]):
        memory.keep([f"/musebridge/{topic}", *values])
    assert memory.all() == [
        ["/musebridge/param/bpm", 91],
        ["/musebridge/learnt", "bpm", 7, 1],
        ["/musebridge/learnt", "recall", 8, 1],
        ["/musebridge/take", 2, 4.0, 5, 1],
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="finding the panel's process needs Linux and its /proc")
def test_the_bridge_plays_on_when_its_panel_is_killed() -> None:
    """The command as users start it, on a computer without a MIDI system."""
    options = ["--port", "memory", "--osc", "127.0.0.1:0", "--panel", "127.0.0.1:0", "--no-open", "--mode", "manual"]
    command = [sys.executable, "-m", "musebridge", "serve", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as serving:
        try:
            assert serving.stdout
            lines = [serving.stdout.readline(), serving.stdout.readline()]
            (osc,) = re.findall(r"OSC 127.0.0.1:(\d+)", "".join(lines))
            (page,) = re.findall(r"panel: (http://\S+)", "".join(lines))
            assert fetched(page, "/")[0] == 200
            (child,) = Path(f"/proc/{serving.pid}/task/{serving.pid}/children").read_text().split()
            os.kill(int(child), signal.SIGKILL)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as surface:
                surface.settimeout(DEADLINE_S)
                surface.connect(("127.0.0.1", int(osc)))
                surface.send(message("/musebridge/capabilities"))
                assert b"capabilities" in surface.recv(4096)
            serving.send_signal(signal.SIGINT)
            assert serving.wait(DEADLINE_S) == 0
        finally:
            serving.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="finding the panel's process needs Linux and its /proc")
def test_the_panel_ends_with_a_bridge_that_is_killed() -> None:
    options = ["--port", "memory", "--osc", "127.0.0.1:0", "--panel", "127.0.0.1:0", "--no-open", "--mode", "manual"]
    command = [sys.executable, "-m", "musebridge", "serve", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as serving:
        try:
            assert serving.stdout
            lines = [serving.stdout.readline(), serving.stdout.readline()]
            assert any(b"panel: http://" in line for line in lines)
            (child,) = Path(f"/proc/{serving.pid}/task/{serving.pid}/children").read_text().split()
            panel = os.pidfd_open(int(child))
        finally:
            serving.kill()
        ended, _, _ = select.select([panel], [], [], DEADLINE_S)
        os.close(panel)
    assert ended


def test_a_take_is_downloaded_as_a_midi_file() -> None:
    async def test() -> None:
        with bridge_at() as bridge:
            async with panel_of(bridge) as panel, socket_of(panel) as page:
                await hear(page, ["/panel/bridge", 1])
                await page.send('[["/vkb_midi/1/note/60", 70], ["/vkb_midi/1/note/60", 0], ["/musebridge/handover"]]')
                notes = list[list[Any]]()
                while not any(address == "/musebridge/take" for address, *_ in notes):
                    notes += json.loads(await page.recv())
                async with socket_of(panel) as late:  # who comes later is told of it too
                    await hear(late, ["/musebridge/take", 1])
                status, kind, body = await asyncio.to_thread(fetched, panel.url, "/takes/1.mid")
        played = [values[:2] for address, *values in notes if address == "/musebridge/note"]
        told = [message for message in mido.MidiFile(file=BytesIO(body)).tracks[-1] if not message.is_meta]
        assert (status, kind) == (200, "audio/midi")
        assert [[m.note, m.velocity if m.type == "note_on" else 0] for m in told] == played

    in_time(test)


def test_a_take_that_is_none_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(osc_link, "ANSWER_S", 0.05)

    async def test() -> None:
        async with Panel(HERE, ("127.0.0.1", 9)) as panel:
            for path, complaint in (
                ("/takes/7.mid", b"the bridge has no take 7\n"),
                ("/takes/../7.mid", b"no such page\n"),
                ("/takes/x.mid", b"no such page\n"),
            ):
                status, _, body = await asyncio.to_thread(fetched, panel.url, path)
                assert (status, body) == (404, complaint)

    in_time(test)
