"""What an operator types, and what goes wrong in words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ops.stack import Stack


def boxoffice(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.endswith(("REDIS_URL", "DATABASE_URL"))}
    return subprocess.run(
        [sys.executable, "-m", "ops.cli", *arguments],
        env={**clean, **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def test_env_prints_the_servers_of_the_running_stack(tmp_path: Path) -> None:
    with Stack(tmp_path, redis_url="redis://:a b@r/0", database_url="postgresql://d/b"):
        lines = boxoffice("env", DATA_DIR=str(tmp_path))
        as_json = boxoffice("env", "--json", "--data-dir", str(tmp_path))

    assert lines.stdout == "export REDIS_URL='redis://:a b@r/0'\nexport DATABASE_URL=postgresql://d/b\n"
    assert json.loads(as_json.stdout) == {"REDIS_URL": "redis://:a b@r/0", "DATABASE_URL": "postgresql://d/b"}


def test_a_command_without_servers_says_how_to_get_some(tmp_path: Path) -> None:
    ran = boxoffice("env", DATA_DIR=str(tmp_path))

    assert ran.returncode == 3
    assert ran.stdout == ""
    assert ran.stderr == (
        f"boxoffice: No box office runs on {tmp_path}: start one with `boxoffice up`, "
        "or set REDIS_URL and DATABASE_URL.\n"
    )


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    ran = boxoffice(
        "env",
        DATA_DIR=str(tmp_path),
        REDIS_URL="redis://r/0",
        DATABASE_URL="postgresql://d/b",
        BOXOFFICE_LIMITS__ITEMS_MAX="0",
    )

    assert ran.returncode == 3
    assert ran.stderr.startswith("boxoffice: Setting limits.items_max: ")


def test_wrong_usage_ends_with_two() -> None:
    assert boxoffice("env", "--no-such-option").returncode == 2


def test_a_terminal_that_knows_few_letters_is_no_error(tmp_path: Path) -> None:
    """No traceback, and no half a table."""
    with Stack(tmp_path, redis_url="redis://:naïve@r/0", database_url="postgresql://d/b"):
        ran = boxoffice("env", DATA_DIR=str(tmp_path), PYTHONIOENCODING="ascii")

    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("export REDIS_URL='redis://:na")


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "0<&- 1>&- 2>&-"])
def test_the_exit_code_tells_when_nothing_else_can(tmp_path: Path, redirection: str) -> None:
    """Standard streams that are closed or full. None of their numbers may go to a file or a connection either."""
    command = f"{sys.executable} -m ops.cli env --data-dir {tmp_path} {redirection}"
    assert subprocess.run(["sh", "-c", command], check=False, timeout=30).returncode == 3
