"""`make mutants` takes minutes; that each mutant still finds what it changes, and tests to run, is seen at once."""

from __future__ import annotations

import ast
import re

import pytest

from tests.invariants.mutants import MUTANTS, ROOT, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_finds_its_place_and_its_tests(mutant: Mutant) -> None:
    for name, before, after in mutant.changes:
        assert before in (ROOT / name).read_text(), name
        assert before != after
    tests = "".join((ROOT / file.partition("::")[0]).read_text() for file in mutant.tests.split())
    words = re.findall(r"\w+", mutant.only.replace(" or ", " ").replace(" and ", " ").replace("not ", ""))
    # A word may also name a parameter's value, which no file spells.
    assert not words or any(word in tests for word in words), mutant.only


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_is_still_python(mutant: Mutant) -> None:
    """One that no longer compiles, as after its place was indented anew, runs no test and shows nothing."""
    texts: dict[str, str] = {}
    for name, before, after in mutant.changes:
        texts[name] = texts.get(name, (ROOT / name).read_text()).replace(before, after)
    for name, text in texts.items():
        if name.endswith(".py"):
            ast.parse(text, name)
