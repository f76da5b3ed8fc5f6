"""A file of the product can be read in one sitting; a longer one says at its head why it is one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

FOLDERS = {".py": ("api", "boxoffice", "ops", "worker"), ".lua": ("lua",)}

MOST = 350
"""Fewer lines than this has every file."""

LONG = 250
"""Whoever has more gives the reason: a line that begins `One file because`, in the module's docstring or the script's head."""

OWING: set[str] = set()
"""Files that do not keep to it yet. Whoever mends one takes it out."""

_REASON = re.compile(r"^One file because \S.*", re.MULTILINE)
_HEAD = re.compile(r"(?:--.*\n)*")


def head_of(source: str, ending: str) -> str:
    """What a file says of itself before anything else."""
    if ending == ".lua":
        (head,) = _HEAD.findall(source)[:1]
        return re.sub(r"^-- ?", "", head, flags=re.MULTILINE)
    return ast.get_docstring(ast.parse(source)) or ""


def keeps(source: str, ending: str) -> bool:
    """Whether a file is short enough, or says why it is not shorter."""
    lines = source.count("\n")
    if lines <= LONG:
        return True
    return lines < MOST and _REASON.search(head_of(source, ending)) is not None


REASON = "One file because there is a reason."


@pytest.mark.parametrize("ending", FOLDERS)
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
def test_what_is_too_long_is_seen(lines: int, said: str, right: bool, ending: str) -> None:
    head = f'"""{said}\n"""\n' if ending == ".py" else re.sub("^", "-- ", said, flags=re.MULTILINE) + "\n"
    assert keeps(head + "x = 1\n" * (lines - head.count("\n")), ending) is right


def test_a_reason_further_down_a_script_is_none() -> None:
    assert not keeps("-- x: what it does.\n\n-- " + REASON + "\n" + "x = 1\n" * LONG, ".lua")


def test_no_file_is_longer_than_it_has_a_reason_to_be() -> None:
    files = [
        path for ending, folders in FOLDERS.items() for name in folders for path in (ROOT / name).rglob(f"*{ending}")
    ]
    counts = {ending: sum(path.suffix == ending for path in files) for ending in FOLDERS}
    assert counts[".py"] > 100 and counts[".lua"] > 50, "the search finds them"
    found = {str(path.relative_to(ROOT)) for path in files if not keeps(path.read_text(), path.suffix)}
    assert found - OWING == set(), "too long, or without a reason"
