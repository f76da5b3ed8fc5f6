"""What an option takes at its bound, and that it takes nothing beyond."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from ops.commands import dead, events, payments, reconcile, rush


@pytest.fixture(scope="module")
def app() -> typer.Typer:
    app = typer.Typer()
    for command in (dead, events, payments, reconcile, rush):
        command.register(app)
    return app


CREATE = ["events", "create", "--name", "E", "--starts-at", "2030-01-01", "--currency", "EUR", "--tier", "GA:1000:5"]


@pytest.mark.parametrize(
    ("command", "option", "bad"),
    [
        *((["rush"], "--trouble", bad) for bad in ("-0.01", "0.81", "1.01", "101", "nan", "inf", "5%")),
        *((["rush"], "--seconds", bad) for bad in ("0", "86401", "nan", "inf")),
        *((["rush"], "--rate", bad) for bad in ("0", "100001", "nan")),
        (["rush"], "--customers", "0"),
        *((["audit"], "--wait", bad) for bad in ("-1", "nan", "inf")),
        *((["dead", "retry", "--all"], "--wait", bad) for bad in ("-1", "nan", "inf")),
        *((CREATE, "--refund-percent", bad) for bad in ("-1", "101", "50.5", "50%")),
        *((CREATE, "--customer-max", bad) for bad in ("0", "-1")),
        *((["rebuild"], "--shard", bad) for bad in ("-1", "4096")),
    ],
)
def test_one_beyond_is_refused_by_name(app: typer.Typer, command: list[str], option: str, bad: str) -> None:
    ran = CliRunner().invoke(app, [*command, f"{option}={bad}"])
    said = re.sub(r"\x1b\[[0-9;]*m", "", ran.output)
    assert (ran.exit_code, f"Invalid value for '{option}'" in said) == (2, True), said


@pytest.mark.parametrize(
    ("command", "options"),
    [
        (["rush"], ["--trouble=0", "--seconds=1", "--rate=1", "--customers=1"]),
        (["rush"], ["--trouble=0.8", "--seconds=86400", "--rate=100000"]),
        (["audit"], ["--wait=0"]),
        (["dead", "retry", "--all"], ["--wait=0"]),
        (["rebuild"], ["--shard=4095"]),
    ],
)
def test_a_bound_is_within(
    app: typer.Typer, command: list[str], options: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What is refused after it, is refused for want of a box office."""
    for name in ("REDIS_URL", "DATABASE_URL", "BOXOFFICE_REDIS_URL", "BOXOFFICE_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("ops.rush.run.rush", lambda options: (_ for _ in ()).throw(LookupError("it would run")))
    monkeypatch.chdir(tmp_path)
    ran = CliRunner().invoke(app, [*command, *options])
    assert ran.exit_code != 2, ran.output
    assert isinstance(ran.exception, Exception)
