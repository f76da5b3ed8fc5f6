"""The release before this one: its wheel, built from the history of the repository, and its processes."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from ops.stack.processes import Child

__all__ = ["PREVIOUS", "PreviousProgram", "command_of", "environment_of", "unpack_previous", "wheel_of"]

ROOT: Final = Path(__file__).resolve().parents[2]

PREVIOUS: Final = "d38151632418fab20526ae295ab4c988f91f167c"
"""The commit of the release that is upgraded from. Whoever releases writes the commit of their release here afterwards."""


def unpack_previous(folder: Path) -> Path:
    """The previous release's packages, as its wheel has them. Skips where the history is not there, as in a shallow clone."""
    if not (ROOT / ".git").exists():
        pytest.skip("the previous release cannot be built: this is no clone of the repository")
    archive = subprocess.run(["git", "-C", ROOT, "archive", "--format=zip", PREVIOUS], capture_output=True, check=False)
    if archive.returncode:
        pytest.skip(f"the previous release cannot be built: the history lacks {PREVIOUS[:12]} (git fetch --unshallow)")
    with zipfile.ZipFile(io.BytesIO(archive.stdout)) as sources:
        sources.extractall(folder / "sources")
    with zipfile.ZipFile(wheel_of(folder / "sources", folder)) as wheel:
        wheel.extractall(folder / "installed")
    return folder / "installed"


def wheel_of(sources: Path, folder: Path) -> Path:
    """Build the wheel of these sources into the folder, with the build backend that they name."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
    subprocess.run(command, cwd=sources, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def command_of(*arguments: str) -> list[str]:
    """A command of the previous release, to be run where it is installed: Python looks there before it looks anywhere else."""
    # Without `site`, which would add this repository: folders of both would make one package `lua`.
    return [sys.executable, "-S", "-m", "ops.cli", *arguments]


def environment_of(environ: Mapping[str, str]) -> dict[str, str]:
    """With the packages that both releases need."""
    return {**environ, "PYTHONPATH": next(path for path in sys.path if path.endswith("site-packages"))}


class PreviousProgram(Child):
    """A process of the previous release."""

    def __init__(
        self, name: str, log: Path, installed: Path, arguments: tuple[str, ...], environ: Mapping[str, str]
    ) -> None:
        super().__init__(name, log)
        self._installed = installed
        self._arguments = arguments
        self._environ = environ

    def start(self) -> None:
        """Start it; whether it serves is for the caller to ask."""
        self.spawn(command_of(*self._arguments), env=environment_of(self._environ), cwd=str(self._installed))
