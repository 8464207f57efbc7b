"""Ableton Link: the bars of another program, in a network of their own."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from musebridge.artifact import fingerprint
from musebridge.bridge.app import preset
from musebridge.bridge.app.journal import replay
from musebridge.bridge.inference.engine import OnnxEngine

SESSION = Path(__file__).parent / "link_session.py"
ALONE = ["unshare", "--net", "bash", "-c", 'ip link set lo up && exec "$@"', "bash"]
MODEL = preset.load("call").model


def _has_a_network_of_its_own() -> bool:
    return bool(shutil.which("unshare")) and subprocess.run([*ALONE, "true"], capture_output=True).returncode == 0


pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("aalink") is None, reason="Ableton Link needs the extra: pip install -e '.[link]'"
    ),
    pytest.mark.skipif(
        not _has_a_network_of_its_own(), reason="Ableton Link needs Linux, root and unshare for a network of its own"
    ),
]


def test_the_answer_begins_on_the_bar_line_of_the_other_program_and_can_be_replayed(tmp_path: Path) -> None:
    subprocess.run([*ALONE, sys.executable, str(SESSION), str(tmp_path)], check=True, timeout=120)
    peer = json.loads((tmp_path / "link.json").read_text())
    (log,) = tmp_path.glob("*.jsonl")
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    shares = [row["values"] for row in rows if row.get("name") == "FollowSharedBeats"]
    assert shares[-1]["bpm"] == pytest.approx(peer["bpm"], abs=0.01)
    first_s = next(row["due_s"] for row in rows if row["kind"] == "pushed" and row["bytes"][0] == 0x90)
    bar = (peer["beat"] + (first_s - peer["time_s"]) * peer["bpm"] / 60) / 4
    assert abs(bar - round(bar)) * 4 * 60 / peer["bpm"] < 0.005
    now, then = replay(log, OnnxEngine(MODEL), model=fingerprint(MODEL))
    assert now == then
