"""The clients as a shop has them: packed, installed where nothing else of ours is, before an API in a process of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.api.conftest import office, settings
from tests.api.transport.test_server import Serving, connect, serving
from tests.outside.conftest import node_modules
from tests.support.previous import wheel_of
from tests.support.proxy import Proxy, proxied

__all__ = ["Serving", "node_modules", "office", "serving", "settings"]

CLIENTS = Path(__file__).resolve().parents[2] / "clients"

BORROWED = ("anyio", "httpcore2", "httpx2", "h11", "idna", "truststore", "typing_extensions", "sniffio", "certifi")
"""What the client in Python depends on, and what that depends on: the distributions of our own environment."""


@pytest.fixture(scope="session")
def shops_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with the wheel of the client and what it depends on, and nothing else."""
    folder = tmp_path_factory.mktemp("python")
    sources = shutil.copytree(
        CLIENTS / "python", folder / "sources", ignore=shutil.ignore_patterns("__pycache__", ".*")
    )
    wheel = wheel_of(sources, folder)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv/bin/python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", "--python", python]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", wheel], check=True)
    (site,) = (folder / "venv").glob("lib/python3*/site-packages")
    ours = Path(next(path for path in sys.path if path.endswith("site-packages") and Path(path).is_dir()))
    for name in BORROWED:
        for found in (*ours.glob(name), *ours.glob(f"{name}.py"), *ours.glob(f"{name}-*.dist-info")):
            (site / found.name).symlink_to(found)
    subprocess.run([*pip, "check"], check=True)
    return python


@pytest.fixture(scope="session")
def shops_node(node_modules: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which Node finds the packed client and what it depends on."""
    folder = tmp_path_factory.mktemp("node")
    sources = shutil.copytree(
        CLIENTS / "typescript", folder / "sources", ignore=shutil.ignore_patterns("dist", "node_modules")
    )
    (sources / "node_modules").symlink_to(node_modules)
    for command in (
        [node_modules / ".bin/tsc", "-p", "."],
        ["npm", "pack", "--silent", "--ignore-scripts", "--pack-destination", folder],
    ):
        ran = subprocess.run(command, cwd=sources, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    (packed,) = folder.glob("*.tgz")
    shop = folder / "shop"
    installed = shop / "node_modules/boxoffice-client"
    installed.mkdir(parents=True)
    subprocess.run(["tar", "-xzf", packed, "-C", installed, "--strip-components=1"], check=True)
    wanted = json.loads((installed / "package.json").read_text())["dependencies"]
    for name in [*wanted, "openapi-typescript-helpers", "typescript"]:
        (shop / "node_modules" / name).symlink_to(node_modules / name)
    (shop / "package.json").write_text('{"type": "module"}')
    return shop


@pytest.fixture
async def breaking(serving: Serving) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy before the API that breaks connections when it is told to, and the URL that leads through it."""
    _, writer = await connect(serving)
    writer.close()
    async with proxied(f"http://127.0.0.1:{serving.port}") as found:
        yield found
