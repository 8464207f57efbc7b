"""Freed memory is kept for the next step."""

import platform
import subprocess
import sys

import pytest

STEPS = """
import resource, sys
import torch
from musebridge.training.compute import malloc

if "keep" in sys.argv:
    malloc.keep_freed()
for _ in range(20):  # aligned blocks need some turns to find their places
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(*arguments):
    command = [sys.executable, "-c", STEPS, *arguments]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="how freed memory is kept needs glibc")
def test_what_a_step_frees_the_next_one_takes_without_page_faults():
    assert faults("keep") < 100 < 10_000 < faults()
