"""The examples run as they stand."""

import subprocess
import sys
from pathlib import Path

import mido

from musebridge.bridge.app import preset

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_continue_in_python(tmp_path: Path) -> None:
    seed, out = preset.FOLDER / "phrase.mid", tmp_path / "out.mid"
    subprocess.run([sys.executable, str(EXAMPLES / "continue_in_python.py"), str(seed), str(out)], check=True)
    *kept, continuation = mido.MidiFile(out).tracks
    assert kept == mido.MidiFile(seed).tracks
    assert continuation.name == "continuation"
    assert any(message.type == "note_on" for message in continuation)
