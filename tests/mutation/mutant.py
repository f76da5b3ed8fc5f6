"""A mutant: one small mistake in one file. It is known by what it changes and where, not by line numbers."""

from __future__ import annotations

import ast
import difflib
import re
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.mutation.rooms import ROOT, room_of

__all__ = ["Known", "Mutant", "Place", "known", "places_of"]

KNOWN = Path(__file__).with_name("known")


@dataclass(frozen=True)
class Place:
    """A function, or a name that a module gives a value: `Refunds.refund`, `_LATE_MONEY`. Lines count from 1."""

    name: str
    start: int
    end: int
    function: bool


def _of_python(source: str) -> list[Place]:
    places: list[Place] = []

    def visit(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            end = node.end_lineno or node.lineno
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                start = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                places.append(Place(prefix + node.name, start, end, not isinstance(node, ast.ClassDef)))
                visit(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                if isinstance(target, ast.Name) and (not prefix or places[-1].name.count(".") < prefix.count(".")):
                    places.append(Place(prefix + target.id, node.lineno, end, False))

    visit(ast.parse(source).body, "")
    return places


def _of_lua(source: str) -> list[Place]:
    lines = source.splitlines()
    places = []
    for at, line in enumerate(lines, 1):
        if found := re.match(r"local function (\w+)", line):
            end = next((n for n, later in enumerate(lines[at:], at + 1) if later == "end"), len(lines))
            places.append(Place(found[1], at, end, True))
    return places


def places_of(path: str, source: str) -> list[Place]:
    """The named places of a file, outer ones first."""
    return _of_lua(source) if path.endswith(".lua") else _of_python(source)


def place_at(places: list[Place], line: int) -> Place | None:
    """The innermost place that has this line."""
    within = [place for place in places if place.start <= line <= place.end]
    return min(within, key=lambda place: place.end - place.start, default=None)


def _plain(text: str) -> str:
    return "\n".join(line.strip() for line in text.strip().splitlines())


@dataclass(frozen=True)
class Mutant:
    """`source` is what the file says now, `mutated` what it says then; `kind` names the operator."""

    path: str
    kind: str
    source: str
    mutated: str
    sql: bool = False

    @property
    def room(self) -> str:
        return room_of(self.path, sql=self.sql)

    @cached_property
    def _change(self) -> tuple[int, int, str, str]:
        old, new = self.source.splitlines(), self.mutated.splitlines()
        blocks = [
            op for op in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes() if op[0] != "equal"
        ]
        first, last = blocks[0], blocks[-1]
        before, after = old[first[1] : last[2]], new[first[3] : last[4]]
        return first[1] + 1, max(last[2], first[1] + 1), "\n".join(before), "\n".join(after)

    @property
    def line(self) -> int:
        """The first line that changes."""
        return self._change[0]

    @property
    def last(self) -> int:
        return self._change[1]

    @property
    def before(self) -> str:
        return _plain(self._change[2])

    @property
    def after(self) -> str:
        return _plain(self._change[3])

    @cached_property
    def place(self) -> Place | None:
        return place_at(places_of(self.path, self.source), self.line)

    @property
    def where(self) -> str:
        """The function, or the name of the module's value."""
        return self.place.name if self.place else ""

    @property
    def diff(self) -> str:
        """Only the lines that change."""
        minus = [f"    - {line}" for line in self._change[2].splitlines()]
        plus = [f"    + {line}" for line in self._change[3].splitlines()]
        return "\n".join(minus + plus)


@dataclass(frozen=True)
class Known:
    """A mutant that somebody looked at. `what`: `equivalent` when it changes nothing that matters, or `survivor`."""

    what: str
    file: str
    where: str
    before: str
    after: str
    reason: str

    def is_of(self, mutant: Mutant) -> bool:
        return (self.file, self.where, _plain(self.before), _plain(self.after)) == (
            mutant.path, mutant.where, mutant.before, mutant.after,
        )  # fmt: skip

    def finds_its_place(self, root: Path = ROOT) -> bool:
        """Whether the function still says what the mutant changes."""
        path = root / self.file
        if not path.exists():
            return False
        source = path.read_text()
        lines = source.splitlines()
        if self.where:
            spans = [(p.start, p.end) for p in places_of(self.file, source) if p.name == self.where]
        else:
            spans = [(1, len(lines))]
        return any(_plain(self.before) in _plain("\n".join(lines[start - 1 : end])) for start, end in spans)


def known() -> list[Known]:
    """All that `known/*.toml` lists."""
    found = []
    for path in sorted(KNOWN.glob("*.toml")):
        for what, entries in tomllib.loads(path.read_text()).items():
            found += [Known(what=what, **entry) for entry in entries]
    return found
