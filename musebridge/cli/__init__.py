"""The command line: parse, build a config, call one function.

Heavy libraries (torch, onnxruntime, rtmidi, matplotlib) are imported inside the
commands that need them, so ``musebridge --help`` answers at once.
"""

from __future__ import annotations

import click

from musebridge import __version__
from musebridge.cli import (
    band,
    bench,
    clip,
    compare,
    continue_,
    demo,
    doctor,
    evaluate,
    export,
    learn,
    panel,
    ports,
    prepare,
    presets,
    replay,
    serve,
    train,
)
from musebridge.cli.common import Group, say

COMMANDS = (
    *(serve.serve, panel.panel, demo.demo, continue_.continue_, replay.replay),
    *(band.band, band.jam),
    clip.clip,
    *(ports.ports, doctor.doctor, presets.presets),
    learn.learn,
    *(prepare.prepare, train.train, evaluate.evaluate, compare.compare, export.export),
    bench.bench,
)


GREETING = """\
Hear it:         musebridge demo
Play with it:    musebridge serve     (listens on MuseBridge:in, answers on MuseBridge:out)
What is wrong?   musebridge doctor    (all commands: musebridge --help)"""


@click.group(cls=Group, commands=COMMANDS, invoke_without_command=True)
@click.version_option(__version__)
@click.pass_context
def main(context: click.Context) -> None:
    """Play a phrase, and a transformer answers as live MIDI."""
    if context.invoked_subcommand is None:
        say(GREETING)
