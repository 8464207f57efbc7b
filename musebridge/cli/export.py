"""``musebridge export``: checkpoints to ONNX."""

from __future__ import annotations

from pathlib import Path

import click

from musebridge.cli.common import CHECKPOINT, FILE, FOLDER, progress, say
from musebridge.errors import ConfigError


@click.command()
@CHECKPOINT
@click.option("-o", "--out", required=True, type=FILE, help="The .onnx file to write.")
@click.option("--precision", type=click.Choice(["fp32", "fp16", "int8"]), default="int8", show_default=True)
@click.option(
    "--corpus", "corpus_dir", type=FOLDER, help="Measure on this corpus what the precision costs a generator."
)
def export(checkpoint: Path, out: Path, precision: str, corpus_dir: Path | None) -> None:
    """Turn a trained generator into one ONNX file, and compare it with torch first.

    CHECKPOINT may be a discriminator's folder as well (the folder "discriminator" in an adversarial run), or the
    discriminator.safetensors in it.
    """
    from musebridge.artifact import DiscriminatorInfo, ModelInfo
    from musebridge.export import discriminator, graph
    from musebridge.training.adversarial import trained_discriminator
    from musebridge.training.band.registry import WEIGHTS

    if checkpoint.name == WEIGHTS or (checkpoint / WEIGHTS).exists():
        _export_band(checkpoint, out, precision)
        return
    with progress("Exporting and checking") as move:
        info: ModelInfo | DiscriminatorInfo
        if trained := trained_discriminator.find(checkpoint):
            if corpus_dir:
                raise ConfigError(f"--corpus measures a generator's likelihood; {checkpoint} holds a discriminator")
            info = discriminator.export_trained(trained, checkpoint, out, precision=precision)
        else:
            info = graph.export(checkpoint, out, precision=precision, corpus=corpus_dir, on_progress=move)
        move(1)
    say(f"wrote {out}: {info.parameters:,} parameters, {info.precision}, {out.stat().st_size / 1e6:.1f} MB")


def _export_band(checkpoint: Path, out: Path, precision: str) -> None:
    from musebridge.export import band

    # Eight bits are for weights that each token waits for; a band is small, and plays four bars at once.
    found = band.export(checkpoint, out, precision="fp32" if precision == "fp32" else "fp16")
    say(f"wrote {out}: {int(found['musebridge.parameters']):,} parameters, {out.stat().st_size / 1e6:.1f} MB")
