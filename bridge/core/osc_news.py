"""What the bridge says by OSC: addresses, and what they mean; ``docs/osc.md`` has them too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from musebridge.bridge.core.settings import Settings, Value

ROOT = "/musebridge"
HEARTBEAT_S = 2.0
OUTGOING = (
    (f"{ROOT}/state", "listening, answering, interrupted, stopped or paused"),
    (f"{ROOT}/mode", "the mode, when it changes"),
    (f"{ROOT}/key", "the key of the phrase, such as D minor, when the model begins; empty if there is none"),
    (f"{ROOT}/chord", "the chord that the player holds, such as Am7/G; empty if it has no name"),
    (f"{ROOT}/beat", "beat of the bar, bar (both from 1) and tempo, at each beat of the clock or of the bars"),
    (f"{ROOT}/note", "pitch and velocity of each note of the model as it sounds, and when it was due; 0 ends it"),
    (f"{ROOT}/time", f"the time of the bridge, every {HEARTBEAT_S:g} s and before what is planned or heard"),
    (f"{ROOT}/plan", "when, pitch and velocity of a note of the model that is going to sound; 0 ends it"),
    (f"{ROOT}/withdrawn", "what was planned and has not sounded is not going to; what is planned from here on is"),
    (f"{ROOT}/heard", "when, pitch and velocity of each note of the player; 0 ends it"),
    (f"{ROOT}/pedal", "when the player moved the sustain pedal, and its value"),
    (f"{ROOT}/port", "in or out, its name, and 1 if it is there; when that changes"),
    (f"{ROOT}/preset", "name and description of a preset; when one was saved"),
    (f"{ROOT}/take", "number, seconds, notes and 1 if it is kept, of an answer that has sounded; when that changes"),
    (f"{ROOT}/take/deleted", "the number of an answer that is forgotten"),
    (
        f"{ROOT}/take/notes",
        "number of the answer, events before these, events in all, then of each event when, pitch and velocity; 0 ends",
    ),
    (f"{ROOT}/param/<name>", "the value of a parameter that a controller moves"),
    (f"{ROOT}/learning", "the parameter that waits for a controller; empty if none does"),
    (f"{ROOT}/learnt", "a parameter, its controller and the controller's channel; -1 and 0 if it is free"),
    (f"{ROOT}/record", "1 when a take begins; 0 and its file when it was written"),
    (
        f"{ROOT}/stats",
        f"every {HEARTBEAT_S:g} s: notes heard, notes played, median and p99 of lateness in milliseconds",
    ),
    (f"{ROOT}/heartbeat", f"every {HEARTBEAT_S:g} s: seconds since the start"),
    (
        f"{ROOT}/error",
        "what was wrong with a datagram, to its sender; a port that is gone or a model that failed, to subscribers",
    ),
)


def parameters() -> list[tuple[Value, ...]]:
    """Return name, type, low, high, default, unit and meaning of each parameter."""
    at_first, rows = Settings(), list[tuple[Value, ...]]()
    for parameter in fields(Settings):
        name, spec = parameter.name, parameter.metadata
        low, high, unit = (spec.get(key, missing) for key, missing in (("low", 0), ("high", 0), ("unit", "")))
        rows.append((name, _type(spec), low, high, getattr(at_first, name), unit.strip(), spec["meaning"]))
    return rows


def _type(spec: Mapping[str, Any]) -> str:
    if "low" not in spec:
        return "text"
    if not spec["whole"]:
        return "number"
    return "switch" if (spec["low"], spec["high"]) == (0, 1) else "whole"
