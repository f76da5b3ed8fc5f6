"""Fields in the text format of COPY."""

from __future__ import annotations

import pytest

from boxoffice.books.copying import as_text, time_text, word


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, r"\N"), ("", ""), ("plain", "plain"), ("a\\b", r"a\\b"), ("a\tb", r"a\tb"), ("a\nb", r"a\nb"), ("a\rb", r"a\rb"),
        (r"\N", r"\\N"), ("\\\t\n\r", r"\\\t\n\r"),
    ],
)  # fmt: skip
def test_a_field_of_a_copy(value: str | None, text: str) -> None:
    assert as_text(value) == word(value) == text


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, r"\N"), (1, "1970-01-01 00:00:00.001+00"), (1_700_000_000_099, "2023-11-14 22:13:20.099+00")],
)
def test_a_time_of_a_copy(ms: int, text: str) -> None:
    assert time_text(ms) == text
