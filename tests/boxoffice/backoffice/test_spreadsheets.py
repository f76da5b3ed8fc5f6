"""What a customer typed is a text in every spreadsheet."""

from __future__ import annotations

import csv
import io

import pytest

from boxoffice.backoffice.spreadsheets import csv_lines


@pytest.mark.parametrize("start", [*"=+-@\t＝＋－＠", "  ="])
def test_a_formula_is_a_text(start: str) -> None:
    text = f"{start}cmd|' /C calc'!A0"
    ((cell, number),) = csv.reader(io.StringIO(csv_lines([(text, "-1.50")], plain=frozenset({1}))))
    assert (cell, number) == ("'" + text, "-1.50")


@pytest.mark.parametrize("text", ["", "a=b", "Ada", 'say "no"', "a,b", "1-2", "'tis", "näive", -5, None, 3])
def test_anything_else_stays_as_it_is(text: object) -> None:
    ((cell, end),) = csv.reader(io.StringIO(csv_lines([(text, "end")])))
    assert (cell, end) == ("" if text is None else str(text), "end")


def test_lines_end_in_a_line_feed() -> None:
    assert csv_lines([("a", 1), ("b", None)]) == "a,1\nb,\n"
