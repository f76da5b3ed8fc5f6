"""What API and worker say of outages: when each began, what they wait for, when it was over; once, and without a traceback.

Real processes on the real servers, which are cut off one after another.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.settings import Settings
from boxoffice.stores import keys
from boxoffice.telemetry.seldom import EVERY_S
from ops.bank.server import create_app
from tests.conftest import KEY, SHARD, SaleMaker, eventually
from tests.support.asgi import served
from tests.support.ports import free_port
from tests.support.proxy import Proxy, proxied
from tests.support.shop.web import body_of

NOT_THE_LINES_OWN = {
    "at",
    "suppressed",
    "seconds",
    "failures",
    "requests",
    "request_id",
    "request_ids",
    "bookings",
    "holds",
}
"""Fields that may differ between two lines that are the same."""


class Process:
    """One of ours, and what it has said."""

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.log = log

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def said(self, event: str, **fields: object) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line["event"] == event and fields.items() <= line.items()]


@asynccontextmanager
async def running(name: str, *arguments: str, environ: dict[str, str], folder: Path) -> AsyncIterator[Process]:
    log = folder / f"{name}.log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "ops.cli", name, *arguments], env=environ, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=stderr,
        )  # fmt: skip
    try:
        yield Process(name, log)
    finally:
        process.terminate()
        # The proxies that lead to its stores are in this loop.
        await asyncio.to_thread(process.wait, 30)


class Evening:
    """An API and a worker whose stores and gateway can be taken away."""

    def __init__(
        self, office: BoxOffice, event: EventView, api: Process, worker: Process, shop: httpx2.AsyncClient
    ) -> None:
        self.office = office
        self.event = event
        self.api = api
        self.worker = worker
        self.shop = shop
        self.redis: Proxy
        self.postgresql: Proxy
        self.gateway: Proxy
        self._booked = 0

    async def book(self) -> int:
        """The status of one more booking."""
        self._booked += 1
        body = body_of({self.event.tiers[0].id: 1}, customer_id=f"c{self._booked}")
        headers = {"Idempotency-Key": f"k{self._booked}", "X-Request-Id": f"r-{self._booked}"}
        with contextlib.suppress(httpx2.HTTPError):
            return (await self.shop.post("/v1/bookings", json=body, headers=headers)).status_code
        return 0

    async def listed(self) -> int:
        """The status of what PostgreSQL answers."""
        return (await self.shop.get("/v1/bookings", params={"customer_id": "c1"})).status_code

    async def until_both(self, event: str, **fields: object) -> None:
        """Until both processes have said this."""
        await self.until(self.api, event, **fields)
        await self.until(self.worker, event, **fields)

    async def until(self, process: Process, event: str, **fields: object) -> None:
        async def said() -> bool:
            # Whoever is not asked meets nothing.
            await self.book()
            await self.listed()
            return bool(process.said(event, **fields))

        await eventually(said, timeout_s=40)


@pytest.fixture
async def evening(
    office: BoxOffice, open_sale: SaleMaker, settings: Settings, tmp_path: Path
) -> AsyncIterator[Evening]:
    event = await open_sale(GA=5_000)
    port = free_port()
    async with (
        proxied(settings.redis_url) as (redis, redis_url), proxied(settings.database_url) as (postgresql, database_url),
        served(lambda url: create_app(settings, url)) as bank, proxied(bank) as (gateway, gateway_url),
    ):  # fmt: skip
        environ = os.environ | {
            "BOXOFFICE_REDIS_URL": redis_url, "BOXOFFICE_DATABASE_URL": database_url,
            "BOXOFFICE_DATA_DIR": str(settings.data_dir), "BOXOFFICE_GATEWAY__KIND": "http",
            "BOXOFFICE_GATEWAY__URL": gateway_url, "BOXOFFICE_GATEWAY__TIMEOUT_S": "1", "BOXOFFICE_API__RETRY_S": "0.3",
            "BOXOFFICE_WORKER__SWEEP_MS": "200",
        }  # fmt: skip
        async with _open(environ, tmp_path, port, office, event) as evening:
            evening.redis, evening.postgresql, evening.gateway = redis, postgresql, gateway
            yield evening


@asynccontextmanager
async def _open(
    environ: dict[str, str], folder: Path, port: int, office: BoxOffice, event: EventView
) -> AsyncIterator[Evening]:
    auth = {"Authorization": f"Bearer {KEY}"}
    async with (
        running("api", "--port", str(port), environ=environ, folder=folder) as api,
        running("worker", environ=environ, folder=folder) as worker,
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=auth, timeout=10) as shop,
    ):
        evening = Evening(office, event, api, worker, shop)

        async def settled() -> bool:
            return await evening.book() == 202 and bool(worker.said("batch.settled"))

        await eventually(settled, timeout_s=40)
        yield evening


@contextmanager
def away(proxy: Proxy) -> Iterator[None]:
    """Connections are cut, and new ones refused."""
    proxy.refuse = True
    proxy.reset_all()
    try:
        yield
    finally:
        proxy.refuse = False


@pytest.mark.timeout(180)
async def test_each_outage_begins_and_ends_in_the_log(evening: Evening) -> None:
    """Redis, its memory, its gate, PostgreSQL, the gateway: what is away is named, and each names its end."""
    api, worker = evening.api, evening.worker
    with away(evening.redis):
        await evening.until_both("redis.away")
        assert await evening.book() == 503
    await evening.until_both("redis.recovered")

    await evening.office.redis.config_set("maxmemory", 1)
    try:
        await evening.until(api, "redis.refused", error="OOM", which="admit")
    finally:
        await evening.office.redis.config_set("maxmemory", 0)
    await evening.until(api, "redis.accepted", which="admit")

    gate = keys.gate(SHARD)
    await evening.office.redis.set(gate, "first:of another run")
    await evening.until(api, "gate.shut", which=gate)
    await evening.until(api, "gate.recovered", which=gate)

    with away(evening.postgresql):
        await evening.until_both("postgres.away")
        await evening.until(worker, "settlement.paused", waits_for="postgresql")
        assert await evening.listed() == 503
    await evening.until_both("postgres.recovered")
    await evening.until(worker, "settlement.resumed")

    with away(evening.gateway):
        await evening.until(worker, "gateway.away")
    await evening.until(worker, "gateway.recovered")

    for process in (api, worker):
        lines = process.lines()
        assert [line for line in lines if "exception" in line or "Traceback" in line["event"]] == [], process.name
        check_no_line_is_repeated(lines)
        for line in lines:
            waits = line["event"].endswith((".failed", ".paused", ".waiting")) and line["event"] != "batch.failed"
            if waits and line["level"] == "warning":
                assert line["waits_for"] in ("redis", "postgresql", "gate"), line
        for recovered in ("redis.recovered", "postgres.recovered"):
            for line in process.said(recovered):
                assert line["failures"] >= 1 and 0 <= line["seconds"] < 60, line
    refused = api.said("request.refused", type="store-away")
    assert refused and all(line.get("request_id") or line.get("request_ids") for line in refused)


def check_no_line_is_repeated(lines: list[dict[str, Any]]) -> None:
    """Each warning and each error at most once in ten seconds, but for what names the requests whose it is."""
    last: dict[str, datetime] = {}
    for line in lines:
        at = datetime.fromisoformat(line["at"])
        if line["level"] == "info" or line["event"] == "request.refused":
            continue
        same = json.dumps({name: value for name, value in line.items() if name not in NOT_THE_LINES_OWN})
        assert same not in last or (at - last[same]).total_seconds() >= EVERY_S - 0.1, f"again: {line}"
        last[same] = at


async def test_who_starts_while_its_stores_are_away_says_what_it_waits_for(
    office: BoxOffice, settings: Settings, tmp_path: Path
) -> None:
    """And nothing of a library's. It goes to work as soon as they are there."""
    for store, url in (("redis", settings.redis_url), ("postgresql", settings.database_url)):
        async with proxied(url) as (proxy, through):
            proxy.refuse = True
            variable = {"redis": "BOXOFFICE_REDIS_URL", "postgresql": "BOXOFFICE_DATABASE_URL"}[store]
            urls = {"BOXOFFICE_REDIS_URL": settings.redis_url, "BOXOFFICE_DATABASE_URL": settings.database_url}
            port = free_port()
            environ = os.environ | urls | {"BOXOFFICE_DATA_DIR": str(settings.data_dir), variable: through}
            environ["BOXOFFICE_TELEMETRY__WORKER_PORT"] = str(port)
            async with (
                running("worker", environ=environ, folder=tmp_path) as worker,
                httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10) as probe,
            ):
                await eventually(lambda: _said(worker, "worker.waiting"), timeout_s=40)
                assert (await probe.get("/healthz")).json() == {"status": "alive"}
                assert set((await probe.get("/readyz")).json()["reasons"]) == {"process", store}
                proxy.refuse = False
                await eventually(lambda: _said(worker, "worker.ready"), timeout_s=40)
                assert (await probe.get("/readyz")).json() == {"status": "ready"}
                assert [(await probe.head(path)).status_code for path in ("/healthz", "/readyz")] == [200, 200]
            assert {line["waits_for"] for line in worker.said("worker.waiting")} == {store}
            assert [line for line in worker.lines() if "exception" in line] == []


async def _said(process: Process, event: str) -> bool:
    await asyncio.sleep(0)
    return bool(process.said(event))
