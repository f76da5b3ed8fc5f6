"""Every place where a process may be told to die is died at in some test."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

KILLED = sorted((ROOT / "tests/invariants").glob("test_*.py"))
"""A process of its own ends by SIGKILL."""

RAISED = [path for path in sorted((ROOT / "tests/boxoffice").glob("test_*.py")) if "crashpoint" in path.read_text()]
"""An exception that nobody catches ends the work, in the test's own process."""


def points() -> dict[str, set[str]]:
    """The names of crash points, by the module that has them."""
    found = {}
    for folder in ("api", "boxoffice", "worker"):
        for path in (ROOT / folder).rglob("*.py"):
            if names := set(re.findall(r'\bcrashpoint\("(\w+)"\)', path.read_text())):
                found[path.stem] = names
    return found


def died_at(*paths: Path) -> set[str]:
    """The strings of these tests, but for their docstrings: a name in prose proves nothing."""
    strings = set()
    for path in paths:
        tree = ast.parse(path.read_text())
        prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        strings |= {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose
        }
    return strings


def test_every_crash_point_is_died_at() -> None:
    named = set().union(*points().values())
    assert len(named) >= 20, "the search finds them"
    assert named - died_at(*KILLED, *RAISED) == set(), "nobody dies there in a test"


def test_a_settling_worker_is_killed_at_every_step() -> None:
    """By SIGKILL, which runs no `finally`: an exception would."""
    named = points()["settlement"] | {"before_capture", "captured", "capture_marked", "before_void", "voided"}
    assert named - died_at(*KILLED) == set()
