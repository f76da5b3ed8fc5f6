"""Prometheus's view of a whole box office: real processes, each with a port of its own that customers do not reach."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families as families

from boxoffice.office import BoxOffice
from boxoffice.settings import Settings
from ops.rush.http_client import HttpClient, NoAnswer, NotSent
from ops.stack.servers import Servers
from ops.stack.stack import Stack
from tests.conftest import KEY, SaleMaker, eventually
from tests.support.crowd import serves
from tests.support.shop.web import body_of


@pytest.fixture
def stack(servers: Servers, settings: Settings) -> Iterator[Stack]:
    """Processes on the test servers."""
    with Stack(settings.data_dir, redis_url=servers.redis_url, database_url=servers.database_url) as stack:
        yield stack


Numbers = dict[tuple[str, ...], float]


async def numbers(port: int) -> Numbers | None:
    """By name and label values, in the order of the labels' names; None while nobody answers."""
    client = HttpClient(port)
    try:
        answer = await client.request("GET", "/metrics")
    except (NotSent, NoAnswer):
        return None
    finally:
        await client.close()
    assert answer.status == 200
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families(answer.body.decode())
        for sample in family.samples
    }


async def book(port: int, tier: str, key: str) -> int:
    client = HttpClient(port)
    headers = f"Authorization: Bearer {KEY}\r\nContent-Type: application/json\r\nIdempotency-Key: {key}\r\n"
    answer = await client.request("POST", "/v1/bookings", headers.encode(), json.dumps(body_of({tier: 1})).encode())
    await client.close()
    return answer.status


async def test_each_process_tells_what_it_did(office: BoxOffice, open_sale: SaleMaker, stack: Stack) -> None:
    """Two API processes behind one shop, and a worker: what they say adds up to what happened, once."""
    event = await open_sale(GA=10)
    ports = [stack.spare_port() for _ in range(5)]
    public, inside, worker = ports[:2], ports[2:4], ports[4]
    for port, own in zip(public, inside, strict=True):
        stack.spawn_api(port, env={"BOXOFFICE_TELEMETRY__API_PORT": str(own)})
    stack.spawn_worker(env={"BOXOFFICE_TELEMETRY__WORKER_PORT": str(worker)})
    for port in public:
        await eventually(lambda port=port: serves(port), timeout_s=60)

    for count, port in enumerate(public, 1):
        for n in range(count):
            assert await book(port, event.tiers[0].id, f"{port}-{n}") == 202

    async def settled() -> bool:
        told = await numbers(worker)
        sold = "boxoffice_sale_tickets", event.id, "sold"
        return told is not None and told.get(("boxoffice_settlements_total", "confirmed", "")) == told.get(sold) == 3

    await eventually(settled, timeout_s=30)
    for count, port in enumerate(inside, 1):
        told = await numbers(port)
        assert told is not None
        assert told["boxoffice_admissions_total", "accepted"] == count
        assert told["boxoffice_http_requests_total", "POST", "/v1/bookings", "202"] == count
        assert told["boxoffice_gate_open", str(event.shard)] == 1
        assert ("boxoffice_settlements_total", "confirmed", "") not in told
    told = await numbers(worker)
    assert told is not None
    assert told["boxoffice_accept_to_commit_seconds_count",] == 3
    assert told["boxoffice_admissions_total", "accepted"] == 0
    client = HttpClient(public[0])
    assert (await client.request("GET", "/metrics")).status == 404, "customers do not reach it"
    await client.close()
