"""The command line: parse, build a config, call one function.

Heavy libraries (torch, onnxruntime, rtmidi, matplotlib) are imported inside the
commands that need them, so ``musebridge --help`` answers at once.
"""

from __future__ import annotations

import click

from musebridge import __version__
from musebridge.cli import asking, benching, learning, playing
from musebridge.cli.common import Group

COMMANDS = (
    *(playing.serve, playing.demo, playing.continue_, playing.replay),
    *(asking.ports, asking.doctor, asking.presets),
    *(learning.prepare, learning.train, learning.evaluate, learning.compare, learning.export),
    benching.bench,
)


@click.group(cls=Group, commands=COMMANDS)
@click.version_option(__version__)
def main() -> None:
    """Play a phrase, and a transformer answers as live MIDI."""
