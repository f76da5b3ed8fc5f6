"""Probes: alive, and ready."""

from __future__ import annotations

import os
import signal

import httpx2
import pytest

from boxoffice.office import BoxOffice
from boxoffice.settings import Settings
from boxoffice.stores import keys
from ops.stack.servers import Servers
from tests.api.conftest import assert_problem


@pytest.fixture(params=[1, 4], ids=["1 shard", "4 shards"])
def shards(request: pytest.FixtureRequest) -> int:
    return int(request.param)


async def test_ready(api: httpx2.AsyncClient) -> None:
    for path, status in (("/healthz", "alive"), ("/readyz", "ready"), ("/readyz", "ready")):
        answer = await api.get(path, headers={"Authorization": ""})
        assert (answer.status_code, answer.json()) == (200, {"status": status})


async def test_a_closed_gate_is_not_ready(api: httpx2.AsyncClient, office: BoxOffice, settings: Settings) -> None:
    shard = settings.shards - 1
    await office.redis.delete(keys.gate(shard))

    answer = await api.get("/readyz")

    problem = assert_problem(answer, 503, "not-ready")
    assert problem["reasons"] == {"redis": f"The gate of shard {shard} is closed."}
    assert answer.headers["retry-after"] == "1"


async def test_an_empty_redis_is_not_ready(api: httpx2.AsyncClient, office: BoxOffice) -> None:
    await office.redis.flushall()

    problem = assert_problem(await api.get("/readyz"), 503, "not-ready")

    assert set(problem["reasons"]) == {"redis", "catalogue"}
    assert (await api.get("/healthz")).status_code == 200


async def test_a_redis_that_forgets_is_not_ready(api: httpx2.AsyncClient, office: BoxOffice) -> None:
    """A 202 of such a server would be no promise."""
    await office.redis.config_set("appendfsync", "everysec")
    try:
        problem = assert_problem(await api.get("/readyz"), 503, "not-ready")
    finally:
        await office.redis.config_set("appendfsync", "always")

    assert "appendfsync" in problem["reasons"]["redis"]


async def test_a_frozen_redis_is_not_ready(api: httpx2.AsyncClient, servers: Servers) -> None:
    os.kill(servers.redis_pid, signal.SIGSTOP)
    try:
        problem = assert_problem(await api.get("/readyz"), 503, "not-ready")
    finally:
        os.kill(servers.redis_pid, signal.SIGCONT)

    assert "redis" in problem["reasons"]
