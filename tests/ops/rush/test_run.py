"""A rush against a private stack, killed and unharmed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ops.rush.findings import TITLES, Findings
from ops.rush.operating import draw_changes
from ops.rush.plan import Workload
from ops.rush.report import lines_of, lines_of_findings
from ops.rush.run import Options
from ops.rush.run import rush as run

ENVIRONMENT = {
    name: value for name, value in os.environ.items() if "REDIS_URL" not in name and "DATABASE_URL" not in name
}


def rush(tmp_path: Path, *arguments: str, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ops.cli", "rush", "--data-dir", str(tmp_path / "none"), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env=ENVIRONMENT,
    )


@pytest.mark.timeout(240)
def test_a_short_rush_with_kills_keeps_every_promise(tmp_path: Path) -> None:
    ran = rush(tmp_path, "--chaos", "--seconds", "6", "--rate", "80", "--seed", "20", "--json")

    assert ran.returncode == 0, ran.stdout[-4_000:] + ran.stderr[-2_000:]
    report = json.loads(ran.stdout)
    assert report["verdict"] == "held"
    assert report["accepted"] > 50
    assert set(report["kills"]) == {"api", "worker", "redis", "postgres"}
    assert [finding["name"] for finding in report["findings"]] == [*TITLES]
    assert report["surprises"] == []
    changes = {"paused", "resumed", "capacity lowered", "price changed", "code revoked", "set aside"}
    assert changes <= set(report["changes"])
    assert report["holds_changed"] > 0
    assert report["booked_again"] > 0
    assert report["webhooks"]["heard"] > 20, "one worker asks a gateway that tells of everything"
    told = report["subscribers"]
    assert (told["shops"], told["away_s"]) == (2, 2.0)
    assert told["taken"] >= told["notices"] > 50
    assert told["lost"] + told["again"] + told["ends"] > 0, "somebody was away"


@pytest.mark.timeout(240)
def test_an_old_redis_that_is_put_back_breaks_no_promise(tmp_path: Path) -> None:
    """Nor does a PostgreSQL that refused to write before."""
    ran = rush(tmp_path, "--chaos", "--seconds", "12", "--rate", "60", "--seed", "11", "--json")

    assert ran.returncode == 0, ran.stdout[-4_000:] + ran.stderr[-2_000:]
    report = json.loads(ran.stdout)
    assert report["verdict"] == "held"
    assert (report["put_back"], report["read_only"]) == (1, 1)
    (deed,) = (deed for deed in report["deeds"] if deed["action"] == "put back")
    assert deed["age_s"] > 0.5
    assert deed["lost"] == report["holds_lost"]
    assert report["surprises"] == []


@pytest.mark.timeout(240)
def test_a_promoted_standby_that_lagged_breaks_no_promise(tmp_path: Path) -> None:
    ran = rush(tmp_path, "--chaos", "--seconds", "10", "--rate", "60", "--seed", "3", "--json")

    assert ran.returncode == 0, ran.stdout[-4_000:] + ran.stderr[-2_000:]
    report = json.loads(ran.stdout)
    assert report["verdict"] == "held"
    assert report["promotions"] == 1
    assert report["commits_lost"] > 0
    assert [deed["lost"] for deed in report["deeds"] if deed["action"] == "promote"] == [report["commits_lost"]]
    assert report["surprises"] == []


def test_a_rush_on_a_stack_that_does_not_answer_could_not_run(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "ops.cli", "rush", "--data-dir", str(tmp_path), "--seconds", "1"],
        capture_output=True,
        text=True,
        timeout=60,
        env=ENVIRONMENT | {"REDIS_URL": "redis://127.0.0.1:1/0", "DATABASE_URL": "postgresql://127.0.0.1:1/x"},
    )

    assert ran.returncode == 3
    assert ran.stdout == ""
    assert len(ran.stderr.splitlines()) <= 4


@pytest.mark.soak
@pytest.mark.timeout(1_200)
def test_a_sale_whose_capacity_changes_two_hundred_times_and_that_pauses_fifty_times_adds_up(tmp_path: Path) -> None:
    """Two hundred changes, also of prices, in a minute; SOAK_S says otherwise, and then there are as many a second."""
    seconds = float(os.environ.get("SOAK_S", "60"))
    often = draw_changes(seconds, 7, {"capacity": 0.3, "pause": 1.2, "price": 4.0})
    workload = Workload(seconds=seconds, rate=150, seed=7)

    report, performance = run(
        Options(workload, private=True, data_dir=tmp_path, quiet=True, changes=tuple(often)), ENVIRONMENT
    )

    print("\n".join([*lines_of(report), *lines_of_findings(performance.findings or Findings())]))
    assert report.held
    made = report.changes
    assert made["capacity raised"] + made["capacity lowered"] == round(seconds / 0.3)
    assert (made["paused"], made["resumed"]) == 2 * (round(seconds / 1.2),)
    assert "unanswered" not in made
    assert report.refused["sale-paused"] > 0
    assert report.accepted > 10 * seconds


@pytest.mark.soak
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("seed", range(101, 104))
def test_a_minute_of_chaos_keeps_every_promise(tmp_path: Path, seed: int) -> None:
    ran = rush(tmp_path, "--chaos", "--seconds", "60", "--rate", "150", "--seed", str(seed), "--json")

    assert ran.returncode == 0, ran.stdout[-6_000:] + ran.stderr[-2_000:]
    report = json.loads(ran.stdout)
    assert sum(report["kills"].values()) >= 20
    assert report["changed_after_decline"] > 0
    assert report["subscribers"]["away_s"] == 60
    assert {"access-code-used-up", "access-code-invalid", "booking-limit", "customer-limit"} <= set(report["refused"])
    assert report["promotions"] >= 1
    assert report["commits_lost"] > 0
