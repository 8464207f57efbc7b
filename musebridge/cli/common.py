"""What the commands share: options, how they speak, and one line for each mistake."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from musebridge.errors import ConfigError, MuseBridgeError

if TYPE_CHECKING:
    from musebridge.training.adversarial.trained_discriminator import TrainedDiscriminator

console = Console(highlight=False)
_INSTALL = {
    "torch": "'musebridge[train]'",
    "sklearn": "'musebridge[train]'",
    "safetensors": "'musebridge[train]'",
    "onnxruntime": "onnxruntime",
    "onnx": "'musebridge[export]'",
    "muspy": "'musebridge[evaluate]'",
    "aalink": "'musebridge[link]'",
}
"""What ``pip install`` is to be told, by the module that is missing."""


class Group(click.Group):
    """A command group that reports a user's mistake as one line, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, and what parses its options."""
        try:
            return super().invoke(ctx)
        except MuseBridgeError as error:
            raise click.ClickException(str(error)) from error
        except ModuleNotFoundError as error:
            wanted = _INSTALL.get((error.name or "").partition(".")[0])
            if wanted is None:
                raise
            raise click.ClickException(
                f"{error.name} is not installed; install it with: pip install {wanted}"
            ) from error


def say(text: str) -> None:
    """Print a line as it is, however long."""
    console.print(printable(text, console.encoding), markup=False, soft_wrap=True)


def printable(text: str, encoding: str = "utf-8") -> str:
    """Return a text with escapes for what an encoding has no character for, as names of files may hold."""
    return text.encode(encoding, "backslashreplace").decode(encoding)


def command_line() -> str:
    """Return what was typed, for the record."""
    return shlex.join(["musebridge", *sys.argv[1:]])


@contextmanager
def progress(what: str) -> Iterator[Callable[[float], None]]:
    """Show a progress bar; give what moves it to a share, 0..1."""
    from rich.progress import Progress

    with Progress(console=console) as bar:
        task = bar.add_task(what, total=1)
        yield lambda share: bar.update(task, completed=share)


@contextmanager
def stages() -> Iterator[Callable[[str, float], None]]:
    """Show a bar with the time that passed and is left; give what names the stage and its share, 0..1."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("left"))
    with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda stage, share: bar.update(task, completed=share, description=stage)


def trained_discriminator_of(path: Path) -> TrainedDiscriminator:
    """Return a discriminator: of a folder or checkpoint, or read back from an exported file, as far as that goes."""
    if path.suffix == ".onnx":
        from musebridge.export.discriminator import read_back

        return read_back(path)
    from musebridge.training.adversarial import trained_discriminator

    return trained_discriminator.load(path)


def address(context: click.Context, option: click.Parameter, text: str | None) -> tuple[str, int] | None:
    """Parse ``HOST:PORT``, an IPv6 host in brackets; ``off`` is None."""
    if text is None or text == "off":
        return None
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""  # an IPv6 host whose last group would be taken for the port
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(f"{option.name} must be HOST:PORT (127.0.0.1:9123, [::1]:9123) or off, found {text!r}")
    return host, int(port)


FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)
CHECKPOINT = click.argument("checkpoint", type=click.Path(path_type=Path))
CORPUS = click.argument("corpus_dir", metavar="CORPUS", type=FOLDER)
PRESET = click.option("--preset", "preset_name", default="call", show_default=True, help="A name, or a .toml file.")
MODEL = click.option("--model", type=FILE, help="Use this .onnx model instead of the preset's.")
SEED = click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Random seed.")
BACKEND = click.option(
    "--backend",
    default="auto",
    show_default=True,
    metavar="[LIBRARY/]SYSTEM",
    help="jack, alsa, coremidi or winmm; python-rtmidi/jack or supriya-midi/jack also chooses the library.",
)
OSC = click.option(
    "--osc",
    default="127.0.0.1:9123",
    show_default=True,
    metavar="HOST:PORT",
    help="Where to listen for OSC, or off.",
    callback=address,
)
PANEL_AT = "127.0.0.1:9124"
"""Where the panel's page is."""
NO_OPEN = click.option("--no-open", is_flag=True, help="Do not open the panel in the browser.")
