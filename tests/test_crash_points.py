"""Every place where a process may be told to die is died at in some test: by SIGKILL, which runs no `finally`.

Which points a test dies at, its parameter `point` or its mark `dies_at` says; that a process of it was there, the fixture
`deaths` of tests/invariants proves at each run, by what the process wrote as its last word.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]

PROVING = {"fork", "spawn"}
"""Fixtures that start processes and ask `deaths` afterwards."""


def points() -> set[str]:
    """The names of crash points."""
    paths = [path for folder in ("api", "boxoffice", "worker") for path in (ROOT / folder).rglob("*.py")]
    return {name for path in paths for name in re.findall(r'\bcrashpoint\("(\w+)"\)', path.read_text())}


def points_of(test: Any) -> Iterator[str]:
    """Those that a test function dies at. None if it is not run, or has no process that could."""
    marks: list[pytest.Mark] = getattr(test, "pytestmark", [])
    if {mark.name for mark in marks} & {"skip", "skipif", "xfail", "soak"}:
        return
    if not PROVING & set(inspect.signature(test).parameters):
        return
    for mark in marks:
        if mark.name == "dies_at":
            yield from mark.args
        elif mark.name == "parametrize":
            names = [mark.args[0]] if isinstance(mark.args[0], str) else list(mark.args[0])
            if "point" in names:
                at = names.index("point")
                values = [getattr(each, "values", each) for each in mark.args[1]]
                yield from (each if isinstance(each, str) else each[at] for each in values)


def died_at() -> set[str]:
    found: set[str] = set()
    for path in sorted((ROOT / "tests/invariants").glob("test_*.py")):
        module = import_module(f"tests.invariants.{path.stem}")
        for name, test in inspect.getmembers(module, inspect.isfunction):
            if name.startswith("test_"):
                found |= set(points_of(test))
    return found


def test_every_crash_point_is_died_at() -> None:
    named = points()
    assert len(named) >= 20, "the search finds them"
    assert named - died_at() == set(), "nobody dies there in a test"
    assert died_at() - named == set(), "no such place"


def test_what_is_not_run_or_starts_no_process_dies_nowhere() -> None:
    """Were it counted, a name in a test would be enough."""

    @pytest.mark.parametrize("point", ["claimed"])
    def without(point: str) -> None:
        """No process."""

    @pytest.mark.skip
    @pytest.mark.dies_at("claimed")
    def skipped(fork: object) -> None:
        """Not run."""

    @pytest.mark.parametrize(("story", "point"), [pytest.param("a", "claimed"), ("b", "settled")])
    def with_one(fork: object, story: str, point: str) -> None:
        """Dies."""

    found = [set(points_of(each)) for each in (without, skipped, with_one)]
    assert found == [set(), set(), {"claimed", "settled"}]
