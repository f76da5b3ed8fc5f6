"""Which Python `make` takes, among fake ones that say what they are and note that they were taken."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ops.stack import interpreter

ROOT = Path(__file__).parents[3]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "ops").mkdir()
    shutil.copy(ROOT / "Makefile", tmp_path)
    return tmp_path


def make(folder: Path, *kinds: str) -> subprocess.CompletedProcess[str]:
    """Let `make` choose among Pythons of these kinds."""
    pythons = []
    for number, kind in enumerate(kinds):
        python = folder / f"{number}-{kind}"
        works = "exit 1" if kind == "bare" else f"mkdir .venv && echo {python.name} > .venv/taken"
        says = "exit 2" if kind == "broken" else f"echo {kind}"
        python.write_text(f'#!/bin/sh\ncase "$*" in *interpreter.py) {says};; *) {works};; esac\n')
        python.chmod(0o755)
        pythons.append(str(python))
    # Not as a part of the `make` that may have started these tests.
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", ".venv/.home", f"PYTHON={' '.join(pythons)}"],
        cwd=folder, env=environ, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kinds", "taken"),
    [
        (("optimised", "optimised"), "0-optimised"),
        (("plain", "optimised"), "1-optimised"),
        (("old", "broken", "bare", "plain", "plain"), "3-plain"),
        (("bare", "plain", "old", "optimised"), "3-optimised"),
    ],
)
def test_the_first_optimised_python_is_taken_or_else_the_first_that_will_do(
    folder: Path, kinds: tuple[str, ...], taken: str
) -> None:
    ran = make(folder, *kinds)

    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert (folder / ".venv/taken").read_text().strip() == taken


def test_old_pythons_are_refused(folder: Path) -> None:
    ran = make(folder, "old", "broken")

    assert ran.returncode != 0
    assert "boxoffice needs Python 3.11 or newer" in ran.stderr


def test_without_a_virtual_environment_the_missing_package_is_named(folder: Path) -> None:
    ran = make(folder, "old", "bare")

    assert ran.returncode != 0
    assert "1-bare cannot make a virtual environment. On Debian and Ubuntu: apt install python3-venv" in ran.stderr
    assert not (folder / ".venv").exists()


def test_this_python_will_do() -> None:
    told = subprocess.run(
        [sys.executable, "-I", ROOT / "ops/stack/interpreter.py"], capture_output=True, text=True, check=True
    )

    assert told.stdout.strip() == interpreter.kind()
    assert interpreter.kind() in ("plain", "optimised")


@pytest.mark.parametrize(
    ("told", "optimised"),
    [
        ("'--prefix=/opt' '--enable-optimizations' '--with-lto'", True),
        ("'--enable-shared' '--with-wheel-pkg-dir=/usr/share/python-wheels/'", True),
        ("'--prefix=/opt' '--enable-shared'", False),
        (None, False),
    ],
)
def test_how_it_was_built_is_told_from_its_configuration(
    monkeypatch: pytest.MonkeyPatch, told: str | None, optimised: bool
) -> None:
    monkeypatch.setattr("sysconfig.get_config_var", lambda name: told if name == "CONFIG_ARGS" else None)

    assert interpreter.is_optimised() is optimised
