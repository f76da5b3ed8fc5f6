"""A file of the product can be read in one sitting; a longer one says in its docstring why it is one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

FOLDERS = ("api", "boxoffice", "ops", "worker")

MOST = 350
"""Fewer lines than this has every file."""

LONG = 250
"""Whoever has more gives the reason: a line of the module's docstring that begins `One file because`."""

OWING: set[str] = set()
"""Files that do not keep to it yet. Whoever mends one takes it out."""

_REASON = re.compile(r"^One file because \S.*", re.MULTILINE)


def keeps(source: str) -> bool:
    """Whether a file is short enough, or says why it is not shorter."""
    lines = source.count("\n")
    if lines <= LONG:
        return True
    return lines < MOST and _REASON.search(ast.get_docstring(ast.parse(source)) or "") is not None


REASON = "One file because there is a reason."


@pytest.mark.parametrize(
    ("lines", "said", "right"),
    [
        (250, "What it does.", True),
        (251, "What it does.", False),
        (251, f"What it does.\n\n{REASON}", True),
        (251, f"What it does. {REASON}", False),
        (251, "What it does.\n\nOne file because ", False),
        (349, f"What it does.\n\n{REASON}", True),
        (350, f"What it does.\n\n{REASON}", False),
    ],
)
def test_what_is_too_long_is_seen(lines: int, said: str, right: bool) -> None:
    head = f'"""{said}\n"""\n'
    assert keeps(head + "x = 1\n" * (lines - head.count("\n"))) is right


def test_no_file_is_longer_than_it_has_a_reason_to_be() -> None:
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    assert len(files) > 100, "the search finds them"
    found = {str(path.relative_to(ROOT)) for path in files if not keeps(path.read_text())}
    assert found - OWING == set(), "too long, or without a reason"
