"""What `make check` does where a tool is missing: it says so, and a build machine takes no such excuse."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NEEDED = ("make", "sh", "sed", "python3", "cat", "echo")


def luacheck(path: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """`make luacheck` on a machine that has only the programs of this folder."""
    for name in NEEDED:
        found = shutil.which(name)
        assert found is not None
        (path / name).symlink_to(found)
    return subprocess.run(
        ["make", "-s", "luacheck"],
        cwd=ROOT,
        env={"PATH": str(path)} | environ,
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_luacheck_a_developer_is_told_why(tmp_path: Path) -> None:
    ran = luacheck(tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("luacheck: skipped, it is not installed (") and ran.stdout.count("\n") == 1


def test_without_luacheck_the_build_fails(tmp_path: Path) -> None:
    ran = luacheck(tmp_path, CI="true")
    assert ran.returncode == 2
    assert ran.stderr.startswith("luacheck: it is not installed, and CI must not do without")


@pytest.mark.parametrize("code", [0, 1])
def test_what_luacheck_says_is_the_outcome(tmp_path: Path, code: int) -> None:
    """It is given all scripts."""
    tool = tmp_path / "luacheck"
    tool.write_text(f'#!/bin/sh\nfor last; do :; done\necho "checks $last"\nexit {code}\n')
    tool.chmod(0o755)
    ran = luacheck(tmp_path)
    assert (ran.returncode == 0, ran.stdout) == (code == 0, "checks lua\n")


@pytest.mark.parametrize(("said", "workers"), [([], 3), (["TESTS_AT_ONCE=5"], 5)])
def test_so_many_tests_run_at_a_time(said: list[str], workers: int) -> None:
    ran = subprocess.run(
        ["make", "-n", "-o", "check", "test", *said], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert f"-m pytest -n {workers} " in ran.stdout
