"""What a worker answers to whoever watches it: alive, and ready or why not."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.waiting import true_soon
from worker.app import WorkerApp
from worker.port import routes


class Office:
    """One whose stores are as the test says."""

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}
        self.readiness = SimpleNamespace(of_worker=self._of_worker)

    async def _of_worker(self) -> dict[str, str]:
        return dict(self.reasons)


async def asked(office: Any, path: str, idle: str = "") -> tuple[int, str, dict[str, Any]]:
    answer = await routes(office, lambda: idle)[path]({})
    return answer.status, answer.content_type, json.loads(answer.body)


@pytest.mark.parametrize("idle", ["", "It is stopping."])
async def test_a_worker_that_can_answer_is_alive(idle: str) -> None:
    office = Office()
    office.reasons = {"redis": "away"}
    assert await asked(office, "/healthz", idle) == (200, "application/json", {"status": "alive"})


async def test_a_worker_is_ready_or_says_why_not() -> None:
    """As a problem, each part with its reason, and itself while it starts or stops."""
    office = Office()
    assert await asked(office, "/readyz") == (200, "application/json", {"status": "ready"})
    for reasons, idle, told in (
        ({"redis": "away"}, "", {"redis": "away"}), ({}, "It is stopping.", {"process": "It is stopping."}),
        ({"postgresql": "run `boxoffice migrate`"}, "It is starting.",
         {"process": "It is starting.", "postgresql": "run `boxoffice migrate`"}),
    ):  # fmt: skip
        office.reasons = reasons
        status, kind, problem = await asked(office, "/readyz", idle)
        assert (status, kind, problem["status"]) == (503, "application/problem+json", 503)
        assert (problem["type"], problem["reasons"]) == ("/problems/not-ready", told)
        assert problem["title"] and problem["detail"]


async def test_a_worker_is_idle_before_and_after_its_work(office: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.app.ROUNDS", ())
    monkeypatch.setattr("worker.app.hear", lambda _office, _shard, stop: stop.wait())
    app = WorkerApp(office)
    assert app.idle_because() == "It is starting."
    working = asyncio.create_task(app.work(office.shards))
    await true_soon(lambda: app.idle_because() == "")
    app.stop()
    assert app.idle_because() == "It is stopping."
    await working
