"""``musebridge compare``: does a model do better, by the protocol?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from musebridge.cli.common import CHECKPOINT, CORPUS, FOLDER, command_line, say, stages, trained_discriminator_of
from musebridge.errors import ConfigError

if TYPE_CHECKING:
    from musebridge.training.adversarial.trained_discriminator import TrainedDiscriminator


@click.command()
@CHECKPOINT
@CORPUS
@click.option("-o", "--out", required=True, type=FOLDER, help="Folder for the report and the samples.")
@click.option("--against", required=True, type=click.Path(path_type=Path), help="The pre-trained generator.")
@click.option(
    "--rival", "rivals", multiple=True, metavar="NAME=CHECKPOINT", help="Another generator to beat; may be repeated."
)
@click.option(
    "--discriminator",
    type=click.Path(exists=True, path_type=Path),
    help='Pick the best by this one: the folder "discriminator" of a run, the checkpoint in it, or an exported file.',
)
@click.option(
    "--candidates",
    type=click.IntRange(2),
    default=8,
    show_default=True,
    help="Continuations among which the discriminator picks one.",
)
@click.option(
    "--sweep",
    type=click.IntRange(0),
    default=0,
    metavar="WINDOWS",
    help="Seeds with which to try each sampler setting.",
)
@click.option("--windows", type=click.IntRange(4), default=1024, show_default=True, help="Seeds to continue.")
@click.option("--samplings", type=click.IntRange(1), default=1, show_default=True, help="Continuations of each seed.")
@click.option("--split", type=click.Choice(["validation", "test"]), default="validation", show_default=True)
@click.option(
    "--limit", type=click.IntRange(1), help="Score the likelihood of this many tokens; default the whole split."
)
@click.option(
    "--seed-length",
    "--seeded",
    "seed_length",
    type=click.IntRange(1),
    default=192,
    show_default=True,
    help="Tokens in a seed.",
)
@click.option(
    "--continuation-length",
    "--continued",
    "continuation_length",
    type=click.IntRange(8),
    default=192,
    show_default=True,
    help="Tokens in a continuation.",
)
@click.option(
    "--classifier-steps",
    "--lessons",
    "classifier_steps",
    type=click.IntRange(1),
    default=500,
    show_default=True,
    help="Training steps of the transformer that classifies.",
)
def compare(
    checkpoint: Path,
    corpus_dir: Path,
    out: Path,
    against: Path,
    rivals: tuple[str, ...],
    discriminator: Path | None,
    candidates: int,
    sweep: int,
    windows: int,
    samplings: int,
    split: str,
    limit: int | None,
    seed_length: int,
    continuation_length: int,
    classifier_steps: int,
) -> None:
    """Compare a fine-tuned generator with the pre-trained one, by classifiers that took no part in training.

    All continue the same seeds of held-out pieces. With --sweep, the pre-trained one also plays at its best sampler
    setting. That is found on other pieces: each setting is tried with this many seeds, the better half with twice as
    many. An interrupted comparison keeps its samples.
    """
    from musebridge.training.data import corpus
    from musebridge.training.sampling.pairs import Window
    from musebridge.training.study import protocol
    from musebridge.training.study.comparison_report import claims, write_report
    from musebridge.training.study.note_transformer import TransformerTraining

    plan = protocol.Plan(
        fine_tuned=checkpoint,
        pretrained=against,
        rivals=_named(rivals),
        discriminator=_judge(discriminator),
        candidates=candidates,
        sweep=sweep,
        windows=windows,
        samplings=samplings,
        split=split,
        limit=limit,
        window=Window(seed_length=seed_length, continuation_length=continuation_length),
        training=TransformerTraining(steps=classifier_steps),
    )
    with stages() as tell:
        findings = protocol.run(plan, corpus.load(corpus_dir), out, command_line(), on_stage=tell)
    page = write_report(findings, out)
    for claim in claims(findings):
        say(f"{claim.verdict:12} {claim.claim}: {claim.measured or '–'} (wanted {claim.wanted})")
    say(f"wrote {page}")


def _judge(path: Path | None) -> Path | TrainedDiscriminator | None:
    """Load a discriminator; a folder stays one."""
    return path if path is None or path.is_dir() else trained_discriminator_of(path)


def _named(pairs: tuple[str, ...]) -> dict[str, Path]:
    """Parse ``NAME=CHECKPOINT``."""
    named = {}
    for pair in pairs:
        name, equals, path = pair.partition("=")
        if not (name and equals and path) or name in named:
            raise ConfigError(f"rival must be NAME=CHECKPOINT, each name once, found {pair!r}")
        named[name] = Path(path)
    return named
