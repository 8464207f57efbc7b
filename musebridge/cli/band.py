"""``musebridge band`` and ``musebridge jam``: a band beside a file, or alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from musebridge.cli.common import FILE, SEED, say
from musebridge.errors import ConfigError, MidiFileError

if TYPE_CHECKING:
    from musebridge.bridge.core.chart import Chart

_MODEL = click.option("--model", type=FILE, help="Exported band, an .onnx file; default the bundled one.")
_CHORDS = click.option("--chords", help="Chords to lean to: 'Dm7 | G7 | Cmaj7 | %', or a .txt of them.")
_PARTS = click.option("--parts", default="drums,bass,guitar,strings", show_default=True, help="Who shall play.")
_TEMPERATURE = click.option("--temperature", type=click.FloatRange(0.05, 3), default=1.0, show_default=True)
_OUT = click.option("-o", "--out", required=True, type=FILE, help="The .mid to write.")


@click.command()
@click.argument("seed_file", metavar="SEED.mid", type=FILE)
@_OUT
@_MODEL
@_CHORDS
@_PARTS
@_TEMPERATURE
@SEED
def band(
    seed_file: Path, out: Path, model: Path | None, chords: str | None, parts: str, temperature: float, seed: int
) -> None:
    """Let a band play with a MIDI file.

    The seed's tracks stay as they are. Drums, bass, guitar and strings are tracks of their own, and play in the bars of
    4/4 in which the seed has nothing for them.
    """
    import numpy as np

    from musebridge.band import adding, reading
    from musebridge.bridge.app.preset import BAND
    from musebridge.bridge.core.arrangement import accompany
    from musebridge.bridge.inference.band import OnnxBand
    from musebridge.smf.piece import naming, read_bytes
    from musebridge.smf.write import save

    if out.exists() and out.samefile(seed_file):
        raise MidiFileError(f"{out}: is the seed itself; choose another place")
    data = read_bytes(seed_file)
    with naming(seed_file):
        canvas, _ = reading.read_canvas(data)
        notes = accompany(
            canvas,
            OnnxBand(model or BAND),
            np.random.default_rng(seed),
            chart=_chart(chords),
            families=_families(parts),
            temperature=temperature,
        )
        if not len(notes):
            raise MidiFileError("leaves the band nothing to play: it has no bars of 4/4 in which a part is empty")
        added = adding.added(data, canvas.header, notes)
    save(out, added)
    say(f"wrote {out}: {seed_file.name} and {adding.told(notes)}")


@click.command()
@_OUT
@click.option("--bars", type=click.IntRange(1, 512), default=8, show_default=True, help="How many bars of 4/4.")
@click.option("--bpm", type=click.FloatRange(20, 400), default=120.0, show_default=True, help="Beats a minute.")
@_MODEL
@_CHORDS
@_PARTS
@_TEMPERATURE
@SEED
def jam(
    out: Path, bars: int, bpm: float, model: Path | None, chords: str | None, parts: str, temperature: float, seed: int
) -> None:
    """Let a band play from noise, or from a chart alone."""
    import numpy as np

    from musebridge.band import adding, writing
    from musebridge.band.canvas import Canvas, Header, Tempo
    from musebridge.bridge.app.preset import BAND
    from musebridge.bridge.core.arrangement import jam as play
    from musebridge.bridge.inference.band import OnnxBand

    notes = play(
        OnnxBand(model or BAND),
        bars,
        np.random.default_rng(seed),
        chart=_chart(chords),
        families=_families(parts),
        temperature=temperature,
    )
    header = Header(tempos=(Tempo(0, round(60e6 / bpm)),), voices=adding.VOICES)
    writing.write(out, Canvas(header, notes))
    say(f"wrote {out}: {bars} bar{'s' * (bars > 1)}, {adding.told(notes)}")


def _families(parts: str) -> tuple[str, ...]:
    from musebridge.band.families import FAMILIES

    found = tuple(part.strip() for part in parts.split(","))
    if unknown := [part for part in found if part not in FAMILIES]:
        raise ConfigError(f"parts must be of {', '.join(FAMILIES)}, found {unknown[0]!r}")
    return found


def _chart(chords: str | None) -> Chart | None:
    from musebridge.bridge.core.chart import parse_chart

    if chords is None:
        return None
    text = chords
    if chords.endswith(".txt"):
        try:
            text = Path(chords).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{chords}: cannot be read as text ({error}); check the path") from error
    chart = parse_chart(text)
    if chart.bar_beats != 4:
        raise ConfigError(f"the band plays in 4/4, the chart is in {chart.count}/{chart.unit}; write it in 4/4")
    return chart
