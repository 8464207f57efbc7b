"""Whether torch can compile here: for a processor it writes C++, which wants a compiler."""

from __future__ import annotations

import os
import shutil
import sys

_USUAL = {"darwin": "clang++", "win32": "cl"}


def cxx() -> str:
    """Return the C++ compiler that torch calls: what ``CXX`` names, or the system's usual one."""
    return os.environ.get("CXX") or _USUAL.get(sys.platform, "g++")


def can_compile() -> bool:
    """Return whether that compiler is there."""
    return shutil.which(cxx()) is not None
