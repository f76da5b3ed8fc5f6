"""Which tests run which line, and how long they take: drawn once by running them, a file of tests at a time, and kept.

A file of tests is run again when its text has changed. Lines are kept relative to their function, so that a change of a
source file elsewhere moves nothing. Where a test runs a script or reads a constant, the functions that name it tell.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable
from fnmatch import fnmatch
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

from tests.mutation.mutant import Mutant, Place, place_at, places_of
from tests.mutation.rooms import ROOT, also_tests, files_of, name_of, slow_tests

__all__ = ["CoverageMap", "mapped_files", "near_files"]

_UNMAPPED = (
    "tests/ops/*", "tests/outside/*", "tests/bench/*", "tests/mutation/*", "tests/story/*", "tests/invariants/test_crashes.py",
    "tests/invariants/test_money_crashes.py", "tests/invariants/test_old_redis.py", "tests/invariants/test_redis_trouble.py",
    "tests/invariants/test_standby.py", "tests/invariants/test_logs.py", "tests/invariants/test_mutants.py",
    "tests/api/transport/test_slow_clients.py", "tests/test_*.py",
)  # fmt: skip
"""Tests that start processes or take long; `tests/test_*.py` hold texts together rather than behaviour."""
_NEAR_MAX = 6
_MAPPED = ("tests/ops/test_money_commands.py", "tests/ops/test_repair_commands.py", "tests/ops/test_cli.py")


@cache
def _said(path: Path) -> str:
    """Its text; hundreds of files are looked through for each one that may be mutated."""
    return path.read_text()


@cache
def mapped_files(root: Path = ROOT) -> list[str]:
    """Files of tests that run in one process, on servers that they do not stop."""
    names = sorted(str(path.relative_to(root)) for path in root.glob("tests/**/test_*.py"))
    return [
        name for name in names
        if name in _MAPPED or not any(fnmatch(name, never) for never in _UNMAPPED)
    ]  # fmt: skip


def _bearing_its_name(path: str, root: Path = ROOT) -> list[str]:
    stem = name_of(path).rpartition("/")[2]
    return [test for test in mapped_files(root) if re.search(rf"(_|/){stem}(_\w+)?\.py$", test)]


def near_files(path: str, root: Path = ROOT) -> list[str]:
    """The files of tests that bear a file's name, then those that import it, then those named after its importers."""
    stem = name_of(path).rpartition("/")[2]
    tests = mapped_files(root)
    named = _bearing_its_name(path, root)
    named.sort(key=lambda test: not test.endswith(f"/test_{stem}.py"))
    also = also_tests(path)
    if path.endswith(".lua"):
        saying = [test for test in tests if "/lua/" in test and re.search(rf"\b{stem}\b", _said(root / test))]
        return list(dict.fromkeys([*named, *also, *saying]))[:_NEAR_MAX]
    package = path.removesuffix(".py").rpartition("/")[0].replace("/", ".")
    imports = re.compile(
        rf"from {package}\.{stem} import|from {package} import .*\b{stem}\b|import {package}\.{stem}\b"
    )
    importing = [test for test in tests if package in _said(root / test) and imports.search(_said(root / test))]
    users = [
        name_of(file).rpartition("/")[2]
        for file in files_of(root)
        if package in _said(root / file) and imports.search(_said(root / file))
    ]
    theirs = [test for user in users for test in tests if test.endswith(f"/test_{user}.py")]
    return list(dict.fromkeys([*named, *also, *importing, *theirs]))[:_NEAR_MAX]


def folder() -> Path:
    """Where the map is kept. `MUTATION_MAP` may name another place."""
    return Path(os.environ.get("MUTATION_MAP", ROOT / ".mutation"))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


class CoverageMap:
    """The tests of each line. Ids of tests are pytest's."""

    def __init__(self) -> None:
        self._by_line: dict[tuple[str, str], dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
        self.seconds: dict[str, float] = {}
        self.files: set[str] = set()
        """Files of tests that the map knows."""
        self._sources = {path: (ROOT / path).read_text() for path in files_of()}
        self._places = {path: places_of(path, source) for path, source in self._sources.items()}

    @staticmethod
    def stale(tests: Iterable[str]) -> list[str]:
        """Those whose part of the map is missing or older than the file."""
        return [test for test in tests if not _part(test).exists() or json.loads(_part(test).read_text())["of"]
                != _digest(ROOT / test)]  # fmt: skip

    def keep(self, test: str, report: dict[str, Any]) -> None:
        """A part that was drawn just now. Tests that fail on sound code notice nothing and are left out."""
        lines: dict[str, dict[str, dict[int, list[int]]]] = {}
        for path, by_line in report.get("lines", {}).items():
            for line, tests in by_line.items():
                place = place_at(self._places.get(path, []), int(line))
                name, start = (place.name, place.start) if place else ("", 0)
                lines.setdefault(path, {}).setdefault(name, {})[int(line) - start] = tests
        part = {"of": _digest(ROOT / test), "lines": lines, "seconds": report.get("seconds", {}),
                "failed": report.get("failed", [])}  # fmt: skip
        _part(test).parent.mkdir(parents=True, exist_ok=True)
        _part(test).write_text(json.dumps(part))

    def read(self, tests: Iterable[str]) -> None:
        """Take in the parts of these files of tests."""
        for test in tests:
            if test in self.stale([test]):
                continue
            self.files.add(test)
            part = json.loads(_part(test).read_text())
            names = list(part["seconds"])
            failed = set(part["failed"])
            self.seconds |= {name: took for name, took in part["seconds"].items() if name not in failed}
            for path, places in part["lines"].items():
                for where, lines in places.items():
                    for line, numbers in lines.items():
                        ran = {names[n] for n in numbers} - failed
                        self._by_line[path, where][int(line)] |= ran

    def choose(self, mutant: Mutant, *, budget_s: float, tests_max: int) -> list[str]:
        """Tests that may notice, those that look at this line first, the fastest first. Files that start processes last."""
        tests = self._lua(mutant) if mutant.path.endswith(".lua") else self._python(mutant)
        chosen = self._bounded(tests, mutant, budget_s, tests_max)
        # Without a map, or for what runs in other processes only.
        chosen += [file for file in near_files(mutant.path) if not chosen or file not in self.files]
        if self._runs_at_import(mutant):
            files = dict.fromkeys([*_bearing_its_name(mutant.path), *also_tests(mutant.path)])
            chosen += [file for file in files if file not in chosen]
        return [*chosen, *slow_tests(mutant.path)] if len(chosen) < 3 or mutant.path.endswith(".lua") else chosen

    def _runs_at_import(self, mutant: Mutant) -> bool:
        """What a module says outside functions, and what it calls there: no line of any test runs it."""
        place = mutant.place
        return not _in_a_body(mutant) or (bool(place) and not self._of_place(mutant.path, place))

    def _python(self, mutant: Mutant) -> list[set[str]]:
        place = mutant.place
        if place and place.function:
            lines = self._by_line.get((mutant.path, place.name), {})
            span = range(mutant.line - place.start - 2, mutant.last - place.start + 1)
            return [set().union(*(lines.get(line, ()) for line in span)), set().union(*lines.values())]
        names = {place.name.rpartition(".")[2], place.name.partition(".")[0]} if place else set()
        return [self._naming(names, [mutant.path]), self._naming(names, self._sources), self._of_file(mutant.path)]

    def _lua(self, mutant: Mutant) -> list[set[str]]:
        name = name_of(mutant.path).removeprefix("lib/")
        scripts = {name}
        if "/lib/" in mutant.path:
            included = re.compile(rf"^-- include: {name}$", re.M)
            scripts = {name_of(path) for path, text in self._sources.items() if included.search(text)}
        own = {
            test for test in self.seconds if test.startswith(tuple(f"tests/lua/test_{script}.py" for script in scripts))
        }
        words = re.compile(rf"\b({'|'.join(scripts)})\b")
        near = {test for test in self.seconds if test.startswith("tests/lua/") and words.search(_text(test))}
        callers = {f"scripts.{script}" for script in scripts}
        return [own, near, self._naming(callers, self._sources)]

    def _naming(self, names: set[str], paths: Iterable[str]) -> set[str]:
        """Tests that run a function which names one of these."""
        words = re.compile(rf"\b({'|'.join(map(re.escape, names))})\b") if names else None
        found: set[str] = set()
        for path in paths if words else ():
            lines = self._sources[path].splitlines()
            for place in self._places[path] if path.endswith(".py") else ():
                if place.function and words.search("\n".join(lines[place.start : place.end])):  # type: ignore[union-attr]
                    found |= self._of_place(path, place)
        return found

    def _of_place(self, path: str, place: Place) -> set[str]:
        return set().union(*self._by_line.get((path, place.name), {}).values())

    def _of_file(self, path: str) -> set[str]:
        return set().union(*(self._of_place(path, place) for place in self._places[path] if place.function))

    def _bounded(self, tiers: list[set[str]], mutant: Mutant, budget_s: float, tests_max: int) -> list[str]:
        own = (*_bearing_its_name(mutant.path), *also_tests(mutant.path))
        chosen: list[str] = []
        seen: set[str] = set()
        left = budget_s
        # Every value of the parameters of the file that looks after it, then of the others one each, and so on.
        looking = {test for tier in tiers[:2] for test in tier if test.startswith(own)}
        for tier in [looking, *tiers]:
            for test in _rounds(tier - seen, lambda test: (self.seconds.get(test, 1.0), test)):
                seen.add(test)
                took = self.seconds.get(test, 1.0)
                if took <= left and len(chosen) < tests_max:
                    chosen.append(test)
                    left -= took
        return chosen


def _in_a_body(mutant: Mutant) -> bool:
    """Whether it is within a function, and no decorator of one."""
    if mutant.path.endswith(".lua"):
        return True
    place = mutant.place
    if place is None or not place.function:
        return False
    lines = mutant.source.splitlines()[place.start - 1 : mutant.line]
    return any(re.match(r"\s*(async )?def ", line) for line in lines)


def _rounds(tests: set[str], key: Any) -> list[str]:
    """One value of each test's parameters, then the next of each."""
    by_function = [
        sorted(group, key=key) for _, group in groupby(sorted(tests), lambda test: test.partition("[")[0])
    ]  # fmt: skip
    rounds = [(turn, key(test), test) for group in by_function for turn, test in enumerate(group)]
    return [test for _, _, test in sorted(rounds)]


def _text(test: str) -> str:
    return (ROOT / test.partition("::")[0]).read_text()


def _part(test: str) -> Path:
    return folder() / (test.replace("/", "__") + ".json")
