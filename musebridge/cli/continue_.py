"""``musebridge continue``: continue a MIDI file."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from musebridge.cli.common import FILE, MODEL, PRESET, SEED, printable, progress, say
from musebridge.errors import ConfigError, MidiFileError

if TYPE_CHECKING:
    from musebridge.bridge.app.preset import Preset
    from musebridge.events import Timed
    from musebridge.smf.append import Span
    from musebridge.smf.opening import Opening
    from musebridge.smf.piece import Piece


@click.command("continue")
@click.argument("seed_file", metavar="SEED.mid", type=FILE)
@click.option("-o", "--out", required=True, type=FILE, help="The .mid to write: the seed as it is, and one track more.")
@click.option(
    "--only", is_flag=True, help="Write the continuation without the seed, at its place on the seed's time line."
)
@click.option("--force", is_flag=True, help="Let -o be the seed itself, and write over it.")
@click.option("--seconds", type=click.FloatRange(0.1, 3600), help="How much to write; default the preset's answer.")
@click.option("--bars", type=click.IntRange(1, 512), help="Write whole bars of the seed's metre and tempo instead.")
@click.option("--track", metavar="N|NAME", help="The track to follow; default all but drums.")
@click.option("--opening", "opening_s", type=click.FloatRange(0.1), help="Seconds of the seed to take; default all.")
@click.option("--roll", type=FILE, help="Draw a piano roll of both into this .png.")
@click.option(
    "--candidates",
    "count",
    type=click.IntRange(1, 16),
    default=1,
    show_default=True,
    help="Write this many and keep the most real.",
)
@click.option(
    "--discriminator", type=FILE, help="Discriminator that chooses; default MODEL.discriminator.onnx beside MODEL.onnx."
)
@SEED
@PRESET
@MODEL
def continue_(
    seed_file: Path,
    out: Path,
    only: bool,
    force: bool,
    seconds: float | None,
    bars: int | None,
    track: str | None,
    opening_s: float | None,
    roll: Path | None,
    count: int,
    discriminator: Path | None,
    seed: int,
    preset_name: str,
    model: Path | None,
) -> None:
    """Continue a MIDI file.

    The seed's tracks stay as they are; the continuation is a track of its own, with the instrument of the part it
    follows, and begins where the last note ends.

    With --candidates, each piece of the music (192 tokens, some 5 s) is written this many times, and a discriminator
    keeps the most real one. "musebridge export" makes a discriminator's file.
    """
    from musebridge.bridge.app.preset import load
    from musebridge.smf import append
    from musebridge.smf.piece import naming
    from musebridge.smf.write import save

    _agree(bars, seconds, discriminator, count)
    for written_to in (out, roll):
        _keep_the_seed(seed_file, written_to, force)
    preset = load(preset_name, model)
    seed_piece, span = _read(seed_file, preset, track, opening_s, seconds, bars)
    written = _write(seed_piece, span, preset, discriminator, count, seed)
    piece, written = seed_piece.let_ring(written, span)
    with naming(seed_file):
        compose = append.alone if only else append.continued
        data, remarks = compose(piece, written, span, channel=preset.settings.channel - 1)
    save(out, data)
    if roll:
        from musebridge.roll import save_roll

        save_roll(roll, {"seed": piece.events, "continuation": written}, title=printable(seed_file.stem))
    for remark in remarks:
        say(f"{out.name}: {remark}")
    begin_s, end_s = _seconds(piece, span)
    length = f"{bars} bar{'s' * (bars > 1)}" if bars else f"{round(end_s - begin_s, 2):g} s"
    say(f"wrote {out}: {length}, {len(written) // 2} notes, follow {seed_file.name} from {round(begin_s, 2):g} s on")


def _agree(bars: int | None, seconds: float | None, discriminator: Path | None, count: int) -> None:
    """Refuse options that contradict one another."""
    if discriminator and count == 1:
        raise ConfigError("--discriminator chooses among candidates; give --candidates 2 or more")
    if bars and seconds:
        raise ConfigError("--bars and --seconds both say how long; give one of them")


def _read(
    seed_file: Path,
    preset: Preset,
    track: str | None,
    opening_s: float | None,
    seconds: float | None,
    bars: int | None,
) -> tuple[Opening, Span]:
    """Return the seed and where its continuation lies; say what was read, mended, left out and ignored."""
    from musebridge.bridge.core.continuation import unused
    from musebridge.smf.opening import opening
    from musebridge.smf.piece import naming, open_piece

    piece = open_piece(seed_file, track)
    with naming(seed_file):
        taken = opening(piece, opening_s, track)
        span = _span(taken.piece, preset, seconds, bars)
    for line in taken.piece.report():
        say(f"{seed_file.name}: {line}")
    if names := unused(preset.settings):
        say(f"preset {preset.name}: for a file, {', '.join(names)} {'has' if len(names) == 1 else 'have'} no meaning")
    return taken, span


def _seconds(piece: Piece, span: Span) -> tuple[float, float]:
    """Return where a span begins and ends on the seed's time line."""
    return piece.tempos.second(span.begin), piece.tempos.second(span.end)


def _write(
    taken: Opening, span: Span, preset: Preset, discriminator: Path | None, count: int, seed: int
) -> list[Timed]:
    """Write as long a continuation as the span, the best of ``count`` candidates, and show how it goes on."""
    import numpy as np

    from musebridge.bridge.core.candidates import continue_with_best
    from musebridge.bridge.core.continuation import continue_piece
    from musebridge.bridge.inference.discriminator import OnnxDiscriminator
    from musebridge.bridge.inference.engine import OnnxEngine

    piece = taken.piece
    begin_s, end_s = _seconds(piece, span)
    write = continue_piece
    if count > 1:
        write = partial(continue_with_best, judge=OnnxDiscriminator(discriminator or preset.discriminator), count=count)
    with progress("Writing music") as move:
        return write(
            OnnxEngine(preset.model),
            taken.heard(),
            seconds=end_s - begin_s,
            settings=preset.settings,
            rng=np.random.default_rng(seed),
            begin_s=begin_s - piece.start_s,
            handed_over=taken.strikes(),
            on_progress=lambda done_s: move(done_s / (end_s - begin_s)),
        )


def _keep_the_seed(seed_file: Path, out: Path | None, force: bool) -> None:
    """Refuse to write over the seed, by whatever name, unless told to."""
    try:
        is_seed = out is not None and seed_file.samefile(out)
    except (OSError, ValueError):  # one of them is not there yet
        return
    if is_seed and not force:
        raise MidiFileError(f"{out}: is the seed itself; choose another place, or give --force to write over it")


def _span(piece: Piece, preset: Preset, seconds: float | None, bars: int | None) -> Span:
    """Return where the continuation lies: as asked, or as long as the preset's answers."""
    from musebridge.smf import append

    if not (seconds or bars) and preset.mode == "bars" and piece.bars:
        bars = preset.settings.answer_bars
    if bars:
        return append.span_of_bars(piece, bars)
    return append.span_of_seconds(piece, seconds or preset.settings.answer_s)
