"""What a thread has wanted of the cores."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from boxoffice.telemetry import core_time
from boxoffice.telemetry.core_time import core_time_s


def test_it_is_what_was_had_and_what_was_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told = tmp_path / "schedstat"
    told.write_text("1500000000 250000000 77\n")
    monkeypatch.setattr(core_time, "STAT", told)
    assert core_time_s() == 1.75


@pytest.mark.parametrize("text", [None, "", "0 0\nhunter2", "x y z"])
def test_where_the_system_does_not_say_it_is_what_was_had(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None
) -> None:
    told = tmp_path / "schedstat"
    if text is not None:
        told.write_text(text)
    monkeypatch.setattr(core_time, "STAT", told)
    monkeypatch.setattr(time, "thread_time", lambda: 3.5)
    assert core_time_s() == (0.0 if text and text.startswith("0 0") else 3.5)


def test_a_thread_that_waits_for_something_wants_no_core() -> None:
    """Whereas one that works does, whoever else has it meanwhile. Each thread has its own."""
    before, began = core_time_s(), time.monotonic()
    assert not threading.Event().wait(0.2)
    assert core_time_s() - before < 0.9 * (time.monotonic() - began)
    worked = threading.Thread(target=_work)
    before = core_time_s()
    worked.start()
    worked.join()
    assert core_time_s() - before < 0.15
    before = core_time_s()
    _work()
    assert core_time_s() - before > 0.15


def _work() -> None:
    until = time.monotonic() + 0.2
    while time.monotonic() < until:
        pass
