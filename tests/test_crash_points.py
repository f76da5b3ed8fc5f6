"""Every place where a process may be told to die is died at in some test: by SIGKILL, which runs no `finally`."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

KILLED = sorted((ROOT / "tests/invariants").glob("test_*.py"))
"""A process of its own ends by SIGKILL."""


def points() -> set[str]:
    """The names of crash points."""
    paths = [path for folder in ("api", "boxoffice", "worker") for path in (ROOT / folder).rglob("*.py")]
    return {name for path in paths for name in re.findall(r'\bcrashpoint\("(\w+)"\)', path.read_text())}


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
    named = points()
    assert len(named) >= 20, "the search finds them"
    assert named - died_at(*KILLED) == set(), "nobody dies there in a test"
