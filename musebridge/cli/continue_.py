"""``musebridge continue``: continue a MIDI file."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from musebridge.cli.common import FILE, MODEL, PRESET, SEED, progress, say
from musebridge.errors import ConfigError

if TYPE_CHECKING:
    pass


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
    events = opening(events, opening_s) if opening_s else events
    write = continue_piece
    if count > 1:
        write = partial(continue_with_best, judge=OnnxDiscriminator(discriminator or preset.discriminator), count=count)
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
