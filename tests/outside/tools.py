"""Programs of others with packages of their own, which fit into no environment of ours: installed by name, once, into `.tools`,
which git ignores."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["Missing", "node", "python"]

HERE = Path(__file__).parent
TOOLS = HERE / ".tools"


class Missing(Exception):
    """They cannot be had here."""


def python() -> Path:
    """An interpreter with the packages of `requirements.lock`. Raises `Missing`."""
    lock = HERE / "requirements.lock"
    found = TOOLS / "python/bin/python"
    if not _done(lock):
        shutil.rmtree(TOOLS / "python", ignore_errors=True)
        _run([sys.executable, "-m", "venv", TOOLS / "python"])
        _run([found, "-m", "pip", "-q", "--disable-pip-version-check", "install", "--require-hashes", "-r", lock])
        _mark(lock)
    return found


def node() -> Path:
    """The folder with the packages of `package.json`. Raises `Missing`."""
    wanted = HERE / "package.json"
    if shutil.which("npm") is None or shutil.which("node") is None:
        raise Missing("Node and npm are not installed here, so no client in TypeScript was tried.")
    if not _done(wanted):
        (TOOLS / "node").mkdir(parents=True, exist_ok=True)
        shutil.copy(wanted, TOOLS / "node")
        _run(["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"], TOOLS / "node")
        _mark(wanted)
    return TOOLS / "node/node_modules"


def _done(wanted: Path) -> bool:
    mark = TOOLS / f"{wanted.name}.done"
    return mark.exists() and mark.read_bytes() == wanted.read_bytes()


def _mark(wanted: Path) -> None:
    (TOOLS / f"{wanted.name}.done").write_bytes(wanted.read_bytes())


def _run(command: list[str | Path], folder: Path | None = None) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=240)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or b""
        reason = said.decode(errors="replace")[-300:]
        raise Missing(f"{Path(command[0]).name} could not install it here: {reason}") from None
