"""``musebridge learn``: take up a style from one's own takes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from musebridge.cli.common import FILE, PRESET, SEED, command_line, progress, say
from musebridge.errors import ConfigError, CorpusError

if TYPE_CHECKING:
    from musebridge.training.data.tokens import PackedTokens


@click.command()
@click.argument("takes", metavar="TAKES...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--name", required=True, help="Of the new preset: letters, digits and hyphens.")
@click.option("--checkpoint", required=True, type=FILE, help="The .safetensors to begin with, as checkpoints/ has it.")
@click.option("--steps", type=click.IntRange(1, 100_000), default=200, show_default=True, help="How long to learn.")
@click.option("--force", is_flag=True, help="Replace a preset of that name.")
@PRESET
@SEED
def learn(
    takes: tuple[Path, ...], name: str, checkpoint: Path, steps: int, force: bool, preset_name: str, seed: int
) -> None:
    """Learn from your own MIDI files, and make a preset of it.

    TAKES are .mid files or folders of them: ten minutes of music or more. The new preset plays as --preset does, with
    a model that has learned from them; a tenth of the music is held out, and says how much it learned. Needs torch.
    """
    from musebridge.bridge.app import preset as presets
    from musebridge.export import graph
    from musebridge.training.models import checkpoint as checkpoints
    from musebridge.training.pretraining import personal

    if not re.fullmatch(r"[A-Za-z0-9-]+", name):
        raise ConfigError(f"--name must be letters, digits and hyphens, found {name!r}")
    if name in presets.names() and not force:
        raise ConfigError(f"there is a preset {name!r}; choose another name, or give --force to replace it")
    base = presets.load(preset_name)
    generator, record = checkpoints.load(checkpoint)
    music = _read(takes)
    with progress("Learning") as move:
        learned = personal.learn(generator, music, personal.Personal(steps=steps, seed=seed), move)
    say(f"held-out tenth: {learned.before:.3f} nats a token before, {learned.after:.3f} after")
    folder = presets.USER_FOLDER
    weights, model = folder / f"{name}.safetensors", folder / f"{name}.onnx"
    about = {"command": command_line(), "personal": {"tokens": learned.tokens, "nll": [learned.before, learned.after]}}
    folder.mkdir(parents=True, exist_ok=True)
    kept = {key: record[key] for key in ("corpus", "licence") if key in record}  # its figures are another model's
    checkpoints.save_generator(weights, learned.generator, kept | about)
    graph.export(weights, model, precision="int8")
    presets.save_copy(base, name, model.name)
    say(f"wrote {folder / name}.toml; play with it: musebridge serve --preset {name}")


def _read(takes: tuple[Path, ...]) -> list[PackedTokens]:
    """Return the tokens of files, and of those in folders; say which cannot be read.

    Raises:
        CorpusError: none can.
    """
    from musebridge.training.data.prepare import SUFFIXES, read_piece

    files: list[Path] = []
    for take in takes:
        found = (path for path in take.rglob("*") if path.suffix.lower() in SUFFIXES)
        files += sorted(found) if take.is_dir() else [take]
    pieces = [read_piece(path, path.parent) for path in files]
    for piece in pieces:
        if piece.skipped:
            say(f"passed over {piece.name}: {piece.skipped}")
    music = [piece.tokens for piece in pieces if piece.tokens is not None]
    if not music:
        raise CorpusError(f"no MIDI file to learn from in {', '.join(map(str, takes))}; give .mid files or folders")
    seconds = sum(piece.seconds for piece in pieces)
    say(f"read {len(music)} files, {seconds / 60:.1f} minutes")
    return music
