"""Rows of CSV that a spreadsheet opens without running what a customer typed.

A text that begins with `=`, `+`, `-`, `@`, their full-width forms, or a tab is a formula to Excel, LibreOffice and Google's: it
gets an apostrophe in front, which those do not show. Numbers, times and ids of ours begin with none of these, but a
negative amount, which is a number to every reader and stays one. Line breaks are in no text of ours (`texts.fault_of`).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Final

__all__ = ["csv_lines"]

_FORMULA: Final = ("=", "+", "-", "@", "\t", "＝", "＋", "－", "＠")


def csv_lines(rows: Iterable[Sequence[object]], *, plain: frozenset[int] = frozenset()) -> str:
    """The rows as CSV (RFC 4180, but that lines end in a line feed). None is an empty cell. `plain`: columns of numbers,
    which are written as they are."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    for row in rows:
        writer.writerow([cell if at in plain else _safe(cell) for at, cell in enumerate(row)])
    return written.getvalue()


def _safe(cell: object) -> object:
    if isinstance(cell, str) and cell.lstrip(" ").startswith(_FORMULA):
        return "'" + cell
    return cell
