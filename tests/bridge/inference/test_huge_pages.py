"""What a step reads lies in large pages, where Linux has them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from musebridge.bridge.app.preset import load
from musebridge.bridge.inference import huge_pages
from musebridge.bridge.inference.engine import OnnxEngine

LARGE = """
import re, sys
from contextlib import nullcontext
from pathlib import Path

from musebridge.bridge.inference import engine
from musebridge.bridge.app.preset import load

if "small" in sys.argv:
    engine.large_pages = nullcontext
opened = engine.OnnxEngine(load("call").model)
print(re.search(r"AnonHugePages: +(\\d+) kB", Path("/proc/self/smaps_rollup").read_text())[1])
"""
MODE = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def large_kb(*arguments):
    command = [sys.executable, "-c", LARGE, *arguments]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)


@pytest.mark.skipif(
    not MODE.is_file() or "[madvise]" not in MODE.read_text("ascii"),
    reason="large pages need Linux with transparent_hugepage set to madvise",
)
def test_an_engine_lies_in_large_pages():
    assert large_kb("small") + 20_000 < large_kb()


def test_without_large_pages_an_engine_opens_all_the_same(monkeypatch, tmp_path):
    expected_V = OnnxEngine(load("call").model).step(0)
    monkeypatch.setattr(huge_pages, "_PAGE", tmp_path / "none")
    np.testing.assert_array_equal(OnnxEngine(load("call").model).step(0), expected_V)
