"""The wheel has everything that the product needs, and its command works in an environment that has nothing else of ours."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import AsyncIterator
from email.parser import Parser
from pathlib import Path

import asyncpg
import pytest

from boxoffice.stores.postgres import revisions
from ops.stack.servers import Servers
from tests.support.previous import wheel_of
from tests.support.tree import ROOT, copy_tree

PACKAGES = ("api", "boxoffice", "lua", "migrations", "ops", "worker")

NOT_CODE = (".pyc",)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: what lies about in the working folder is in no release."""
    folder = tmp_path_factory.mktemp("wheel")
    return wheel_of(copy_tree(folder / "sources"), folder)


def read(wheel: Path, name: str) -> str:
    with zipfile.ZipFile(wheel) as packed:
        (found,) = [each for each in packed.namelist() if each.endswith(f".dist-info/{name}")]
        return packed.read(found).decode()


def test_it_has_every_file_of_the_packages_and_no_other(wheel: Path) -> None:
    """Scripts, migrations, templates and rules among them; no test and no benchmark."""
    with zipfile.ZipFile(wheel) as packed:
        packed_files = {name for name in packed.namelist() if ".dist-info/" not in name}
    ours = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix not in NOT_CODE
    }
    assert packed_files == ours
    assert {"lua/admit.lua", "migrations/env.py", "ops/monitoring/alerts.yml"} <= packed_files


def test_it_says_its_version_and_its_licence(wheel: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    told = Parser().parsestr(read(wheel, "METADATA"))
    assert (told["Name"], told["Version"], told["License-Expression"]) == (
        "boxoffice",
        project["version"],
        "Apache-2.0",
    )
    assert read(wheel, "licenses/LICENSE") == (ROOT / "LICENSE").read_text()
    assert "Apache License\n" in read(wheel, "licenses/LICENSE")


def test_the_changelog_tells_of_this_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    headings = [line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## ")]
    assert headings[0] == "## Unreleased"
    assert headings[1].startswith(f"## {project['version']} - ")


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of an environment with this wheel. What it depends on is borrowed from ours; ours of us is not."""
    folder = tmp_path_factory.mktemp("clean") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", "--python", python]
    subprocess.run([*command, "install", "--no-deps", "--no-index", wheel], check=True)
    (site,) = folder.glob("lib/python3*/site-packages")
    borrowed = next(path for path in sys.path if path.endswith("site-packages") and Path(path).is_dir())
    (site / "borrowed.pth").write_text(f"{borrowed}\n")
    return python.parent


@pytest.fixture
async def database(servers: Servers) -> AsyncIterator[str]:
    """The URL of an empty one."""
    admin = await asyncpg.connect(servers.admin_url)
    await admin.execute("DROP DATABASE IF EXISTS packed")
    await admin.execute("CREATE DATABASE packed OWNER boxoffice")
    yield servers.database_url.rpartition("/")[0] + "/packed"
    await admin.execute("DROP DATABASE packed WITH (FORCE)")
    await admin.close()


async def test_its_command_works_in_a_clean_environment(
    clean: Path, database: str, servers: Servers, tmp_path: Path
) -> None:
    """It migrates with the migrations of the wheel, and finds its scripts."""
    environ = {
        "PATH": os.environ["PATH"], "REDIS_URL": servers.redis_url, "DATABASE_URL": database, "DATA_DIR": str(tmp_path),
    }  # fmt: skip

    def says(program: str, *arguments: str) -> str:
        ran = subprocess.run([clean / program, *arguments], cwd=tmp_path, env=environ, capture_output=True, text=True)
        assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr
        return ran.stdout

    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert says("boxoffice", "--version") == f"boxoffice {version}\n"
    assert says("boxoffice", "migrate") == "The schema is up to date.\n"
    connection = await asyncpg.connect(database)
    there = await connection.fetchval("SELECT version_num FROM alembic_version")
    await connection.close()
    assert there in revisions().keys() - {before for before in revisions().values() if before}
    look = "import boxoffice.stores.scripts as s; print(s.__file__, bool(s.load_scripts().admit.text))"
    assert says("python", "-c", look).split() == [
        str(next(clean.parent.glob("lib/python3*/site-packages")) / "boxoffice/stores/scripts.py"), "True",
    ]  # fmt: skip
