"""`make mutants` takes minutes; that each mutant still finds what it changes, and tests to run, is seen at once."""

from __future__ import annotations

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
