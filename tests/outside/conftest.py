"""Programs of others that try our API: clients generated from its description, a linter of HTTP, and proxies.

They have packages of their own, which fit into no environment of ours, so the tests install them by name, once, into
`.tools`, which git ignores. Where that cannot be done (no network, no npm) the tests are skipped, and say so.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.api.conftest import office, settings
from tests.api.transport.test_server import Serving, serving

__all__ = ["Serving", "office", "serving", "settings"]

HERE = Path(__file__).parent
TOOLS = HERE / ".tools"


@pytest.fixture(scope="session")
def outside_python() -> Path:
    """An interpreter with the packages of `requirements.lock`."""
    lock = HERE / "requirements.lock"
    python = TOOLS / "python/bin/python"
    if not _done(lock):
        shutil.rmtree(TOOLS / "python", ignore_errors=True)
        _run([sys.executable, "-m", "venv", TOOLS / "python"])
        _run([python, "-m", "pip", "-q", "--disable-pip-version-check", "install", "--require-hashes", "-r", lock])
        _mark(lock)
    return python


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """The packages of `package.json`."""
    wanted = HERE / "package.json"
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("Node and npm are not installed here, so no client in TypeScript was tried.")
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
        pytest.skip(f"{Path(command[0]).name} could not install it here: {said.decode(errors='replace')[-300:]}")
