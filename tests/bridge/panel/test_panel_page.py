"""The panel's page in a real browser: what is played, planned and sounds is to be seen, and what is touched is done."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import mido
import pytest

NEEDS = "the panel's page needs playwright and Chromium: pip install playwright, and Debian's apt-get install chromium"
playwright = pytest.importorskip("playwright.sync_api", reason=NEEDS)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=NEEDS)
DEADLINE_MS = 60_000
SEEN = """colour => {
  const canvas = document.querySelector("#roll"), pen = canvas.getContext("2d");
  const ink = getComputedStyle(document.documentElement).getPropertyValue(`--${colour}`).trim();
  const [r, g, b] = [1, 3, 5].map(at => parseInt(ink.slice(at, at + 2), 16));
  const { data, width } = pen.getImageData(0, 0, canvas.width, canvas.height), found = [];
  for (let at = 0; at < data.length; at += 4)
    if (data[at] === r && data[at + 1] === g && data[at + 2] === b)
      found.push([at / 4 % width / width, Math.floor(at / 4 / width) / canvas.height]);
  return found;
}"""
"""Where pixels of a colour are, as shares of width and height."""


@pytest.fixture
def address() -> Iterator[str]:
    command = [sys.executable, "-m", "musebridge", "serve", "--port", "memory", "--osc", "127.0.0.1:0"]
    bridge = subprocess.Popen(
        [*command, "--panel", "127.0.0.1:0", "--no-open", "--seed", "1"], stdout=subprocess.PIPE, text=True
    )
    assert bridge.stdout is not None
    try:
        yield next(found[1] for line in bridge.stdout if (found := re.search(r"panel: (http\S+)", line)))
    finally:
        bridge.send_signal(signal.SIGTERM)
        bridge.communicate(timeout=DEADLINE_MS / 1000)


@pytest.fixture
def page(address: str) -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
        page.set_default_timeout(DEADLINE_MS)
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(address)
        page.locator("#state[data-state=listening]").wait_for()
        yield page
        browser.close()
        assert wrong == []


def seen(page: Any, colour: str) -> list[tuple[float, float]]:
    """Return where pixels of a colour are, once there are any."""
    for _ in range(DEADLINE_MS // 20):
        if found := page.evaluate(SEEN, colour):
            return [(x, y) for x, y in found]
        page.wait_for_timeout(20)
    raise AssertionError(f"nothing of {colour} is to be seen")


def test_a_phrase_its_plan_and_its_answer_are_seen_where_they_belong(page: Any) -> None:
    page.keyboard.press("a", delay=150)  # middle C
    heights = [y for _, y in seen(page, "heard")]
    assert (108 - 60) / 88 - 0.01 < min(heights) <= max(heights) < (108 - 59) / 88 + 0.01
    planned, now_x = seen(page, "plan"), 6 / 8
    assert max(x for x, _ in planned) > now_x - 0.01, "a plan lies ahead of now"
    assert max(x for x, _ in seen(page, "model")) < now_x + 0.02, "what sounds is not ahead of now"
    page.locator("#panic").click()
    page.locator("#state:not([data-state=answering])").wait_for()


def test_a_parameter_is_turned_and_every_page_sees_it(page: Any) -> None:
    other = page.context.new_page()
    other.goto(page.url)
    other.locator("#p-temperature").wait_for()
    page.locator("#p-temperature").evaluate(
        "slider => { slider.value = 0.5; slider.dispatchEvent(new Event('input')); }"
    )
    shown = other.locator(".control", has_text="temperature").locator("output")
    playwright.expect(shown).to_have_text(re.compile(r"^0\.(49|5)"))


def test_a_mode_is_chosen_by_keyboard_alone(page: Any) -> None:
    page.get_by_role("radio", name="duet").focus()
    page.keyboard.press("Enter")
    playwright.expect(page.get_by_role("radio", name="duet")).to_have_attribute("aria-checked", "true")


def test_an_answer_is_kept_and_its_file_has_its_notes(page: Any) -> None:
    page.keyboard.press("a", delay=150)
    page.locator("#state[data-state=answering]").wait_for()
    seen(page, "model")
    page.locator("#stop").click()
    row = page.locator("#takes li").first
    row.get_by_role("button", name=re.compile("^keep ")).click()
    playwright.expect(row).to_contain_text("kept")
    with page.expect_download() as got:
        row.get_by_role("link").click()
    notes = [message for message in mido.MidiFile(got.value.path()) if message.type == "note_on" and message.velocity]
    assert notes
    playwright.expect(row).to_contain_text(f"{len(notes)} notes")
