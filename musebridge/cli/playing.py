"""The commands that make music."""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from musebridge.cli.common import BACKEND, FILE, FOLDER, MODEL, OSC, PRESET, SEED, console, progress, say
from musebridge.errors import ConfigError, MuseBridgeError, ReplayError

if TYPE_CHECKING:
    from musebridge.bridge.app.bridge import Bridge
    from musebridge.bridge.app.journal import Journal
    from musebridge.bridge.app.osc_server import Address
    from musebridge.bridge.app.preset import Preset
    from musebridge.bridge.ports.base import InputPort, OutputPort
    from musebridge.events import Timed


@click.command()
@click.option("--port", default="virtual", show_default=True, help="virtual, memory, or part of a port's name.")
@click.option("--in", "in_name", help="Another existing port to listen to.")
@click.option("--out", "out_name", help="Another existing port to play to.")
@OSC
@click.option("--link", is_flag=True, help="Bars follow Ableton Link (pip install 'musebridge[link]').")
@click.option("--record", type=FOLDER, help="Write the session here as .mid and .jsonl.")
@click.option("--mode", help="call, duet, bars or manual; default the preset's.")
@click.option("--seed", type=click.IntRange(0), help="Of the randomness; default a fresh one.")
@BACKEND
@PRESET
@MODEL
def serve(
    port: str,
    in_name: str | None,
    out_name: str | None,
    osc: Address | None,
    link: bool,
    record: Path | None,
    mode: str | None,
    seed: int | None,
    backend: str,
    preset_name: str,
    model: Path | None,
) -> None:
    """Listen to a MIDI port and answer live, until Ctrl-C."""
    from musebridge.bridge.app.bridge import Bridge
    from musebridge.bridge.app.preset import load, save_binds
    from musebridge.bridge.core.settings import check_mode
    from musebridge.bridge.inference.engine import OnnxEngine
    from musebridge.bridge.ports.clock import date_and_time

    preset = load(preset_name, model)
    if mode:
        preset = replace(preset, mode=check_mode(mode))
    engine = OnnxEngine(preset.model)
    log = record / f"musebridge-{date_and_time()}.jsonl" if record else None
    bridge = Bridge(
        engine,
        *_ports(in_name or port, out_name or port, backend),
        settings=preset.settings,
        mode=preset.mode,
        seed=seed,
        osc=osc,
        binds=preset.binds,
        save=partial(save_binds, preset),
        link=link,
        journal=_journal(log, preset) if log else None,
        notice=say,
    )
    with _interruptible(bridge.ended), bridge:
        say(f"listening on {bridge.source.name}, answering on {bridge.target.name}, {bridge.osc_name}; Ctrl-C ends")
        bridge.ended.wait()
    _report(bridge)


@click.command()
@click.option("--seconds", type=click.FloatRange(1, 600), default=15.0, show_default=True, help="Longest answer.")
@click.option("--phrase", type=FILE, help="A .mid to play instead of the bundled performance.")
@click.option("--phrase-seconds", type=click.FloatRange(1, 600), default=8.0, show_default=True)
@click.option("-o", "--out", type=FOLDER, default=Path("out"), show_default=True, help="Where .mid and .png go.")
@click.option("--port", type=click.Choice(["auto", "virtual", "memory"]), default="auto", show_default=True)
@SEED
@PRESET
@MODEL
def demo(
    seconds: float,
    phrase: Path | None,
    phrase_seconds: float,
    out: Path,
    port: str,
    seed: int,
    preset_name: str,
    model: Path | None,
) -> None:
    """Hear and see it: a built-in performer plays a phrase, the bridge answers."""
    from musebridge.bridge.app.demo import PHRASE, Demo
    from musebridge.bridge.app.preset import load
    from musebridge.bridge.inference.engine import OnnxEngine
    from musebridge.roll import roll_lines, save_roll

    preset = load(preset_name, model)
    preset = replace(preset, settings=preset.settings.with_value("answer_s", seconds), mode="call")
    show = Demo(
        OnnxEngine(preset.model),
        phrase or PHRASE,
        phrase_s=phrase_seconds,
        settings=preset.settings,
        port=port,
        seed=seed,
        journal=_journal(out / "demo.jsonl", preset),
        notice=say,
    )
    columns = min(88, console.width - 1)
    low = 21 + (88 - columns) // 2
    with _interruptible(show.bridge.ended), show:
        say(f"the performer plays into {show.bridge.source.name}, the answer leaves {show.bridge.target.name}")
        while not show.over and not show.bridge.ended.wait(0.1):
            console.print(roll_lines(show.bridge.stats.sounding(), low=low, high=low + columns - 1))
    picture = out / "demo.png"
    tracks = _report(show.bridge)
    save_roll(picture, tracks, title="MuseBridge demo")
    say(f"wrote {picture}")


@click.command("continue")
@click.argument("seed_file", metavar="SEED.mid", type=FILE)
@click.option("-o", "--out", required=True, type=FILE, help="The .mid to write: seed and continuation, two tracks.")
@click.option("--seconds", type=click.FloatRange(0.1, 3600), default=20.0, show_default=True)
@click.option("--opening", "opening_s", type=click.FloatRange(0.1), help="Seconds of the seed to take; default all.")
@click.option("--roll", type=FILE, help="Draw a piano roll of both into this .png.")
@click.option(
    "--candidates", "count", type=click.IntRange(1, 16), default=1, show_default=True, help="The most real is kept."
)
@click.option("--discriminator", type=FILE, help="What chooses; default MODEL.discriminator.onnx beside MODEL.onnx.")
@SEED
@PRESET
@MODEL
def continue_(
    seed_file: Path,
    out: Path,
    seconds: float,
    opening_s: float | None,
    roll: Path | None,
    count: int,
    discriminator: Path | None,
    seed: int,
    preset_name: str,
    model: Path | None,
) -> None:
    """Continue a MIDI file.

    With --candidates, each piece of the music (192 tokens, some 5 s) is written so many times, and the one goes on
    that a discriminator takes for the most real; see "musebridge export" for how to make one.
    """
    import numpy as np

    from musebridge import midifile
    from musebridge.bridge.app.preset import load
    from musebridge.bridge.core.candidates import continue_with_best
    from musebridge.bridge.core.continuation import continue_piece, opening
    from musebridge.bridge.inference.discriminator import OnnxDiscriminator
    from musebridge.bridge.inference.engine import OnnxEngine

    if discriminator and count == 1:
        raise ConfigError("--discriminator chooses among candidates; give --candidates 2 or more")
    preset = load(preset_name, model)
    events = midifile.read(seed_file)
    if opening_s:
        events = opening(events, opening_s)
    write = continue_piece
    if count > 1:
        judge = OnnxDiscriminator(discriminator or preset.discriminator)
        write = partial(continue_with_best, judge=judge, count=count)
    with progress("Writing music") as move:
        written = write(
            OnnxEngine(preset.model),
            events,
            seconds=seconds,
            settings=preset.settings,
            rng=np.random.default_rng(seed),
            on_progress=lambda done_s: move(done_s / seconds),
        )
    parts = {"seed": events, "continuation": written}
    midifile.write(out, parts)
    if roll:
        from musebridge.roll import save_roll

        save_roll(roll, parts, title=seed_file.stem)
    say(f"wrote {out}: {seconds:g} s, {len(written) // 2} notes, follow {seed_file.name}")


@click.command()
@click.argument("log", type=FILE)
@click.option("-o", "--out", type=FILE, help="Write the session's music to this .mid as well.")
@PRESET
@MODEL
def replay(log: Path, out: Path | None, preset_name: str, model: Path | None) -> None:
    """Play a recorded session again on its own time; does it come out the same?"""
    from musebridge import midifile
    from musebridge.artifact import fingerprint
    from musebridge.bridge.app import journal
    from musebridge.bridge.app.preset import load
    from musebridge.bridge.inference.engine import OnnxEngine

    played = load(preset_name, model).model
    now, then = journal.replay(log, OnnxEngine(played), model=fingerprint(played))
    if now != then:
        first = next((i for i, pair in enumerate(zip(now, then, strict=False)) if pair[0] != pair[1]), len(then))
        raise ReplayError(f"{log}: differs from message {first + 1} of {len(then)} on; was the program the same?")
    say(f"{log}: {len(now)} messages, every one the same and at the same time")
    if out:
        midifile.write(out, journal.tracks(log))
        say(f"wrote {out}")


def _ports(in_name: str, out_name: str, backend: str) -> tuple[InputPort, OutputPort]:
    from musebridge.bridge.ports import rtmidi
    from musebridge.bridge.ports.base import MemoryPort

    if in_name == out_name == "memory":
        return MemoryPort("memory in"), MemoryPort("memory out")
    return rtmidi.open_pair(in_name, out_name, backend)


def _journal(path: Path, preset: Preset) -> Callable[[int], Journal]:
    """Return what opens a session's log, once its seed is known."""
    from musebridge.artifact import fingerprint
    from musebridge.bridge.app.journal import Journal

    return lambda seed: Journal(
        path, seed=seed, mode=preset.mode, settings=preset.settings, model=fingerprint(preset.model)
    )


def _report(bridge: Bridge) -> dict[str, list[Timed]]:
    """Say what happened, and write the log's music beside it; fail if the bridge did not end of its own will."""
    from musebridge import midifile
    from musebridge.bridge.app import journal

    tracks: dict[str, list[Timed]] = {}
    if bridge.journal:
        tracks = journal.tracks(bridge.journal.path)
        midi = bridge.journal.path.with_suffix(".mid")
        midifile.write(midi, tracks)
        say(f"wrote {midi}")
        say(f"wrote {bridge.journal.path}")
    say(bridge.stats.summary())
    if bridge.failure:
        raise MuseBridgeError(f"the bridge had to end: {bridge.failure}")
    return tracks


@contextmanager
def _interruptible(ended: threading.Event) -> Iterator[None]:
    """Let Ctrl-C and a polite kill set ``ended`` instead of raising in the middle of something."""
    # A signal may interrupt the thread that holds the event's own lock, so another one sets it.
    asked: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def pass_on() -> None:
        if asked.get():
            ended.set()

    messenger = threading.Thread(target=pass_on, name="signals", daemon=True)
    messenger.start()
    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = [signal.signal(number, lambda *_: asked.put(True)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, previous, strict=True):
            signal.signal(number, handler)
        asked.put(False)
        messenger.join()
