"""No test sleeps until something has happened: on a busy machine it has not yet, and on a quick one that is time lost."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from tests.support.waiting import LONGEST_S, eventually, true_soon, until

ROOT = Path(__file__).resolve().parent

ALLOWED = {
    "support/waiting.py": "polls and paces, for everybody",
    "support/proxy.py": "the delay that it is told to put between a server's answers",
    "support/stripe_stand_in.py": "the delay of its answers and webhooks, as a test tells it",
    "support/hostile.py": "a process of its own: how slowly a hostile client sends",
    "bench/test_load.py": "the delay of a server's answers, as a test tells it",
    "mutation/slot.py": "polls for the end of a process, and is no test",
    "outside/shop.py": "polls, in an environment that has none of our code",
}


def is_a_turn(call: ast.Call) -> bool:
    """`sleep(0)` lets others run and waits for nothing."""
    return len(call.args) == 1 and isinstance(call.args[0], ast.Constant) and call.args[0].value == 0


def sleeps(source: str) -> list[int]:
    """Lines that call `sleep`, under whatever name it was imported, for longer than a turn of the loop."""
    tree = ast.parse(source)
    names = {"sleep"} | {
        alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name == "sleep" and alias.asname
    }
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and not is_a_turn(node)
        if (node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")) in names
    ]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("await asyncio.sleep(0.1)", [1]),
        ("await asyncio.sleep(0)", []),
        ("time.sleep(pause)", [1]),
        ("from time import sleep as rest\nrest(1)", [2]),
        ("from asyncio import sleep\nawait sleep(1)", [2]),
        ("await asyncio.sleep(0.0)", []),
        ("await asyncio.sleep(0 * n)", [1]),
        ("TEXT = 'time.sleep(1)'", []),
        ("Clock(sleep=lambda s: rest(s))", []),
    ],
)
def test_a_sleep_is_found(source: str, found: list[int]) -> None:
    assert sleeps(source) == found


def test_nobody_sleeps_to_wait() -> None:
    found = {
        path.relative_to(ROOT).as_posix(): lines
        for path in sorted(ROOT.rglob("*.py"))
        if "/." not in path.as_posix() and (lines := sleeps(path.read_text()))
    }
    assert {name: lines for name, lines in found.items() if name not in ALLOWED} == {}
    assert sorted(ALLOWED.keys() - found.keys()) == [], "allowed, and not there"


def test_the_longest_wait_is_that_of_the_page() -> None:
    page = " ".join((ROOT.parent / "docs/architecture.md").read_text().split())
    assert f"polls for what is to come, for {LONGEST_S:g} s unless it says otherwise" in page
    for waits in (eventually, true_soon, until):
        assert inspect.signature(waits).parameters["timeout_s"].default == LONGEST_S
