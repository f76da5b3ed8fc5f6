"""What notices cost is measured against a copy that writes none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import notices
from bench.notices import CHANGES, Cost, copy_without, cost

_SETTLED = """
import asyncio
from boxoffice.books import notices, payments, rows
from boxoffice.books.decisions import *
from boxoffice.notices import reading

class Connection:
    async def fetchval(self, query, *values):
        print(query, values)

    execute = fetchval

assert rows.__file__.startswith({folder!r}), rows.__file__

async def main():
    asked = Connection()
    await notices.list_and_notify(asked, {{("c", "e", "confirmed", None, "authorized", None): (["id"], ["key"])}}, ["key"], 1)
    await payments.mark_captured(asked, ["key"], [1])

    class Fresh:
        async def fetchval(self, query):
            raise AssertionError("it looks for notices without a place")

    assert await reading.Notices(Fresh()).number() == 0

asyncio.run(main())
"""


def test_the_copy_writes_no_notice(tmp_path: Path) -> None:
    """The text is still what is changed, the copy can be run, and its statements leave out notices and nothing else."""
    copy = copy_without(tmp_path / "copy")
    asked = subprocess.run(
        [sys.executable, "-P", "-c", _SETTLED.format(folder=str(copy))],
        cwd=copy, env={**os.environ, "PYTHONPATH": str(copy)}, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "INSERT INTO captures" in asked and "DELETE FROM captures" in asked and "UPDATE payments" in asked
    assert "notices" not in asked
    rows = (copy / "boxoffice/books/rows.py").read_text()
    assert "group_changed(groups" not in rows and "group_up(groups" not in rows and "ids.append" not in rows


def test_a_text_that_has_changed_is_no_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "CHANGES", (*CHANGES, ("boxoffice/books/rows.py", "what is not there", "")))
    with pytest.raises(SystemExit, match=r"rows\.py has changed"):
        copy_without(tmp_path / "copy")


def answer(worker: float) -> dict[str, Any]:
    return {"cpu_us": {"api": 40.0, "redis": 20.0, "worker": worker, "postgres": 30.0, "load": 99.0}}


def test_the_cost_is_what_neighbours_differ_in() -> None:
    """The middle of them, between its quarters: a pair that was disturbed counts for nothing."""
    with_them = [answer(worker) for worker in (23.0, 22.0, 90.0, 21.0, 24.0)]
    without = [answer(20.0)] * 5
    assert cost(with_them, without) == Cost(3.0, 2.0, 4.0)
    assert cost(with_them[:2], without[:2]).middle == 2.5
