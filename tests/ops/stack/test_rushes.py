"""The supervisor's part of a rush to watch. A rush that is played to its end: tests/pages/test_rush.py."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from api.rushes import RushDesk, RushTerms
from ops.stack import rushes
from ops.stack.rushes import Rushes
from ops.stack.stack import Stack
from tests.support.waiting import until


def stack(path: Path, *, embedded: bool = True) -> Stack:
    """As much of one as is looked at. No box office runs on its data directory."""
    (path / "logs").mkdir(exist_ok=True)
    home = SimpleNamespace(path=path, logs=path / "logs")
    environ = {name: value for name, value in os.environ.items() if "_URL" not in name}
    found: Any = SimpleNamespace(servers=SimpleNamespace(home=home), embedded=embedded, environment=lambda: environ)
    return cast(Stack, found)


@pytest.fixture
def played(tmp_path: Path) -> Iterator[Rushes]:
    played = Rushes(stack(tmp_path))
    yield played
    played.stop()


def test_on_servers_of_others_nobody_plays(tmp_path: Path) -> None:
    others = Rushes(stack(tmp_path, embedded=False))
    others.look(0.0)
    others.stop()
    assert not RushDesk(tmp_path).there


def test_a_rush_that_ends_without_a_verdict_has_failed(played: Rushes, tmp_path: Path) -> None:
    """And another may be wished for."""
    desk = RushDesk(tmp_path)
    assert desk.ask_for(RushTerms())

    def ended() -> bool:
        played.look(0.0)
        return desk.wish() is None

    until(ended)
    state = desk.state()
    assert state is not None and state.status == "failed"
    assert state.error.startswith("The process that played it ended (exit ")
    assert desk.ask_for(RushTerms())


def test_one_that_takes_too_long_is_killed(played: Rushes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = RushDesk(tmp_path)
    desk.ask_for(RushTerms())
    played.look(0.0)
    played.look(rushes.LONGEST_S + 1)
    state = desk.state()
    assert state is not None and "killed by SIGKILL" in state.error
    assert desk.wish() is None


def test_with_the_supervisor_goes_the_folder(played: Rushes, tmp_path: Path) -> None:
    RushDesk(tmp_path).ask_for(RushTerms())
    played.look(0.0)
    played.stop()
    assert not RushDesk(tmp_path).there
