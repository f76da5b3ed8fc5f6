"""No test reaches for an underscore of the product: what a test calls, replaces or looks at is a seam, and has a name.

Else nobody who changes the inside of a module can know what else depends on it. A name counts by its spelling: as an
attribute of anything but `self`, in an import, or as a text that is that name, as `monkeypatch.setattr` takes.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PRODUCT = ("api", "boxoffice", "worker", "ops")

READS_SOURCES = ("tests/mutation/", "tests/support/shard_places.py", "tests/test_underscores.py")
"""They tell of places in the product's text, and reach none of them."""

OF_OTHERS = {
    ("tests/boxoffice/stores/test_postgres.py", "_transport"): "asyncpg's socket",
    ("tests/boxoffice/stores/test_redis.py", "_writer"): "redis-py's socket",
    ("tests/boxoffice/stores/test_redis_client.py", "_writer"): "redis-py's socket",
    ("tests/support/fake_info.py", "_info"): "fakeredis's answer to INFO",
    ("tests/invariants/test_fence.py", "_fields"): "every NamedTuple's",
    ("tests/boxoffice/telemetry/test_metrics.py", "_total"): "the end of a counter's name",
    ("tests/boxoffice/telemetry/test_metrics.py", "_seconds"): "the end of a time's name",
    ("tests/ops/test_monitoring.py", "_total"): "the end of a counter's name",
    ("tests/ops/test_monitoring.py", "_count"): "the end of a histogram's name",
    ("tests/support/telling.py", "_total"): "the end of a counter's name",
}
"""Spelt like one of ours."""


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name.strip("_") != ""


def defined(tree: ast.AST) -> Iterator[str]:
    """Private names of functions, classes, attributes and of a module's values."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Attribute(attr=name, ctx=ast.Store()) | ast.Name(id=name, ctx=ast.Store()):
                yield name
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name


def reached(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of whatever private is reached from outside."""
    for node in ast.walk(tree):
        names: list[str] = []
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls")):
                pass
            case ast.Attribute(attr=name):
                names = [name]
            case ast.ImportFrom(names=imported):
                names = [each.name for each in imported]
            case ast.Constant(value=str(text)) if text.replace(".", "").isidentifier():
                names = text.split(".")
        yield from ((getattr(node, "lineno", 0), name) for name in names if is_private(name))


def ours() -> set[str]:
    paths = (path for folder in PRODUCT for path in (ROOT / folder).rglob("*.py"))
    return {name for path in paths for name in defined(ast.parse(path.read_text())) if is_private(name)}


def test_no_test_reaches_for_an_underscore_of_the_product() -> None:
    private = ours()
    assert len(private) > 500, "the search finds them"
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "tests").rglob("*.py")):
        file = path.relative_to(ROOT).as_posix()
        if not file.startswith(READS_SOURCES) and "/." not in file:
            found[file] = [
                f"{file}:{line}: {name}"
                for line, name in reached(ast.parse(path.read_text()))
                if name in private and (file, name) not in OF_OTHERS
            ]
    more = [place for places in found.values() for place in places]
    assert not more, "\n".join(more)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("window._queue.clear()", ["_queue"]),
        ("office.windows[0]._pace(1, 2)", ["_pace"]),
        ("from boxoffice.money.pump import MoneyPump, _Due", ["_Due"]),
        ('monkeypatch.setattr(guard, "_look", look)', ["_look"]),
        ('monkeypatch.setattr("boxoffice.gateway.stripe.stripe._LISTED_MAX", 3)', ["_LISTED_MAX"]),
        ("self._mine = self._other()", []),
        ("window.queue.clear(); one.__class__; _, two = pair", []),
        ('"a sentence with _one in it"', []),
    ],
)
def test_each_way_to_reach_for_one_is_seen(text: str, names: list[str]) -> None:
    assert [name for _, name in reached(ast.parse(text))] == names
