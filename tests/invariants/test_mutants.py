"""`make mutants` takes minutes; that each mutant still finds what it changes, and tests to run, is seen at once."""

from __future__ import annotations

import ast
import re

import pytest

from tests.invariants import mutants
from tests.invariants.mutants import MUTANTS, ROOT, Mutant, noticed


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


FILE = "tests/test_waiting.py"


@pytest.mark.parametrize(
    ("before", "after", "caught", "by"),
    [
        ("sleeps(source) == found", "sleeps(source) != found", True, "test_a_sleep_is_found[await asyncio.sleep(0.1)-found0]"),
        ("'time.sleep(1)'", "'time.sleep(2)'", False, "[100%]"),
        ("what the file " + "does not say", "", False, "no longer says"),
    ],
)  # fmt: skip
def test_a_mutant_is_noticed_or_survives(before: str, after: str, caught: bool, by: str) -> None:
    """In a copy: the tree stays as it is."""
    sound = (ROOT / FILE).read_text()
    found = noticed(Mutant("some", ((FILE, before, after),), FILE, "a_sleep_is_found"))
    assert (found[0], by in found[1]) == (caught, True), found
    assert (ROOT / FILE).read_text() == sound


@pytest.mark.parametrize("survivors", [0, 1])
def test_one_that_survives_fails_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], survivors: int
) -> None:
    def timed(mutant: Mutant) -> tuple[Mutant, bool, str, float]:
        return mutant, not survivors or mutant is not MUTANTS[1], "a_test", 1.0

    monkeypatch.setattr(mutants, "MUTANTS", MUTANTS[:3])
    monkeypatch.setattr(mutants, "timed", timed)
    monkeypatch.setattr(mutants, "sound", lambda file, of: "")
    monkeypatch.setattr("sys.argv", ["mutants"])
    assert mutants.main() == survivors
    said = capsys.readouterr().out
    assert said.endswith(f"{3 - survivors} of 3 mutants were caught.\n")
    assert (f"SURVIVED  {MUTANTS[1].name}" in said) is bool(survivors)


def test_crashes_and_races_are_among_them() -> None:
    files = {file for mutant in MUTANTS for file in mutant.tests.split()}
    for word in ("invariants/test_crashes", "test_several_workers"):
        assert any(word in file for file in files), word
