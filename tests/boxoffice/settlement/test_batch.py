"""Halves of a batch that fails as a whole."""

from __future__ import annotations

import pytest

from boxoffice.settlement.batch import halves


@pytest.mark.parametrize(
    ("claims", "parts"),
    [("ab", ("a", "b")), ("abc", ("a", "bc")), ("abcd", ("ab", "cd")), ("abcde", ("ab", "cde"))],
)
def test_each_is_in_one_half_and_neither_is_empty(claims: str, parts: tuple[str, str]) -> None:
    """In their order, so that who was admitted first is tried first."""
    assert tuple("".join(half) for half in halves([*claims])) == parts  # type: ignore[arg-type, misc]
