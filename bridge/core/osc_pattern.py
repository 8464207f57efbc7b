"""OSC address patterns: ``*``, ``?``, ``[a-c]``, ``[!a-c]`` and ``{low,high}``, within one part of an address."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

_TOKEN = re.compile(r"\[[^\]]*\]|\{[^}]*\}|.", re.DOTALL)
_RANGE = re.compile(r"(.)-(.)|(.)", re.DOTALL)


def is_pattern(address: str) -> bool:
    """Return whether an address has a character that only patterns have."""
    return not set(address).isdisjoint("*?[]{}")


@lru_cache(maxsize=4096)
def matches(pattern: str, name: str) -> bool:
    """Return whether a part of a pattern means ``name``.

    All ways to match are followed at once: no pattern takes longer than its length times the square of the name's.
    """
    at = {0}
    for token in _TOKEN.findall(pattern):
        at = {end for start in at for end in _ends(token, name, start)}
        if not at:
            return False
    return len(name) in at


def _ends(token: str, name: str, start: int) -> Iterable[int]:
    """Return where a token that begins at ``start`` may end."""
    if token == "*":
        return range(start, len(name) + 1)
    if len(token) > 1 and token[0] == "{":
        return [start + len(word) for word in token[1:-1].split(",") if name.startswith(word, start)]
    if start < len(name) and (token in ("?", name[start]) or (len(token) > 1 and _holds(token[1:-1], name[start]))):
        return (start + 1,)
    return ()


def _holds(characters: str, one: str) -> bool:
    """Return whether the inside of brackets holds a character: ``abc``, ``a-c``, or, negated, ``!a-c``."""
    ranges = _RANGE.findall(characters.removeprefix("!"))
    held = any(low <= one <= high if low else one == single for low, high, single in ranges)
    return held is not characters.startswith("!")
