"""The shape of the tree: what ships, what links where, and who may import whom."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SEAM = [
    "Bridge",
    "Session",
    "Scheduler",
    "Settings",
    "MemoryPort",
    "ScriptedEngine",
    "simulate",
    "babble",
    "parse",
    "Jack",
]
PARTS = ("bridge", "training", "export", "presets", "benchmarks")
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]


def test_every_package_folder_ships():
    folders = [path.parent.relative_to(ROOT) for part in PARTS for path in (ROOT / part).rglob("__init__.py")]
    packages = {".".join(("musebridge", *folder.parts)) for folder in folders}
    inside = {"musebridge", "musebridge.band", "musebridge.cli", "musebridge.smf"}
    assert set(SETUPTOOLS["packages"]) == packages | inside
    assert SETUPTOOLS["package-dir"] == {f"musebridge.{part}": part for part in PARTS}


def test_every_module_lies_in_a_package_folder():
    modules = [path for part in PARTS for path in (ROOT / part).rglob("*.py")]
    assert [path for path in modules if not (path.parent / "__init__.py").exists()] == []


@pytest.mark.parametrize("part", PARTS)
def test_a_link_shows_static_tools_where_a_part_lies(part):
    link = ROOT / "musebridge" / part
    # Git without symbolic links checks a link out as a file that holds its target.
    target = link.readlink().as_posix() if link.is_symlink() else link.read_text(encoding="utf-8").strip()
    assert target == f"../{part}"


@pytest.mark.parametrize("part", PARTS)
def test_a_part_is_imported_by_its_full_name_only(part):
    script = f"import importlib.util; print(importlib.util.find_spec('musebridge.{part}').name)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    assert done.stdout.strip() == f"musebridge.{part}"


def test_imports_keep_their_directions():
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as lint; lint()", "--no-cache"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken." in done.stdout


@pytest.mark.parametrize("name", SEAM)
def test_a_name_that_scripts_of_strangers_look_up_is_defined_once(name):
    defined = re.compile(rf"^(?:class|def) {name}\b", re.MULTILINE)
    places = [path for part in ("musebridge/band", "musebridge/smf", *PARTS) for path in (ROOT / part).rglob("*.py")]
    assert len([path for path in places if defined.search(path.read_text(encoding="utf-8"))]) == 1
