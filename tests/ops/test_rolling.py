"""A rolling restart under load: API processes and workers are replaced one by one, and no customer notices."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import uuid
from collections.abc import Iterator

import pytest

from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.settings import Settings
from ops.rush.http_client import Answer, HttpClient, NoAnswer, NotSent
from ops.stack.servers import Servers
from ops.stack.stack import Stack
from tests.conftest import KEY, SaleMaker, counters, eventually
from tests.invariants.conftest import at_rest, ends
from tests.support.checks import check_at_rest
from tests.support.waiting import pace

CUSTOMERS = 16

DRAIN_S = 1.0
"""Longer than any customer thinks: each connection in use carries a last answer that says so."""

HEADERS = f"Authorization: Bearer {KEY}\r\nContent-Type: application/json\r\n"


@pytest.fixture
def stack(servers: Servers, settings: Settings) -> Iterator[Stack]:
    """Processes on the test servers."""
    with Stack(settings.data_dir, redis_url=servers.redis_url, database_url=servers.database_url) as stack:
        yield stack


class Customer:
    """Books and looks, on one connection to each process that is kept. Refused by one process, asks the other."""

    def __init__(self, ports: list[int], event: EventView, seed: int) -> None:
        self.booked: list[str] = []
        self.failures: list[str] = []
        self.refused = 0
        self.asks: int | None = None
        """The port that owes an answer."""
        self._chance = random.Random(seed)
        self._clients = [HttpClient(port, timeout_s=15) for port in ports]
        self._chance.shuffle(self._clients)
        items = [{"tier_id": event.tiers[0].id, "quantity": 1}]
        payment = {"method": "card", "card_number": "4242424242424242", "card_name": "Ada"}
        self._order = json.dumps({"customer_id": f"c{seed}", "items": items, "payment": payment}).encode()

    async def shop(self, closing: asyncio.Event) -> None:
        while not closing.is_set():
            key = uuid.UUID(int=self._chance.getrandbits(128))
            accepted = await self._ask("POST", "/v1/bookings", f"Idempotency-Key: {key}\r\n")
            if accepted is not None:
                self.booked.append(json.loads(accepted.body)["id"])
                await self._ask("GET", f"/v1/bookings/{self.booked[-1]}")
            await pace(self._chance.uniform(0, 0.3))
        for client in self._clients:
            await client.close()

    async def _ask(self, method: str, path: str, headers: str = "") -> Answer | None:
        body = self._order if method == "POST" else b""
        for client in self._clients:
            self.asks = client.port
            try:
                answer = await client.request(method, path, (HEADERS + headers).encode(), body)
            except NotSent:
                self.refused += 1
                continue
            except NoAnswer as error:
                self.failures.append(f"{method} {client.port}: {error}")
                return None
            finally:
                self.asks = None
            if answer.status not in (200, 202):
                self.failures.append(f"{method} {client.port}: {answer.status} {answer.body!r}")
                return None
            return answer
        self.failures.append(f"{method}: refused by both")
        return None


async def serves(port: int) -> bool:
    client = HttpClient(port)
    try:
        return (await client.request("GET", "/readyz")).status == 200
    except (NotSent, NoAnswer):
        return False
    finally:
        await client.close()


async def test_no_request_fails_in_a_rolling_restart(office: BoxOffice, open_sale: SaleMaker, stack: Stack) -> None:
    """No reset, no 5xx, no half answer; and every booking ends, for the worker is replaced as well."""
    event = await open_sale(GA=100_000)
    drain = {"BOXOFFICE_API__DRAIN_S": str(DRAIN_S)}
    apis = {port: stack.spawn_api(port, env=drain) for port in (stack.spare_port(), stack.spare_port())}
    first, _ = apis
    worker = stack.spawn_worker()
    closing = asyncio.Event()
    customers = [Customer(list(apis), event, seed) for seed in range(CUSTOMERS)]

    async def all_serve() -> None:
        for port in apis:
            await eventually(lambda port=port: serves(port), timeout_s=30)

    async def several_ask(port: int) -> bool:
        return sum(customer.asks == port for customer in customers) >= CUSTOMERS // 4

    async def everybody_books_again() -> None:
        before = [len(customer.booked) for customer in customers]

        async def have_booked() -> bool:
            assert [failure for customer in customers for failure in customer.failures] == []
            return all(len(customer.booked) > count for customer, count in zip(customers, before, strict=True))

        await eventually(have_booked, timeout_s=30)

    await all_serve()
    load = [asyncio.create_task(customer.shop(closing)) for customer in customers]
    await everybody_books_again()
    for port, api in apis.items():
        await all_serve()
        # The worst moment: requests have arrived that the process has not read when it is told to stop.
        api.pause()
        await eventually(lambda port=port: several_ask(port), timeout_s=30)
        api.send(signal.SIGTERM)
        api.resume()
        if port == first:
            worker.ask_to_stop()
        await everybody_books_again()
        assert await ends(api) == "exit 0"
        if port == first:
            assert await ends(worker) == "exit 0"
            worker.start()
            api.start()
    closing.set()
    await asyncio.gather(*load)

    assert sum(customer.refused > 0 for customer in customers) >= CUSTOMERS // 2, "many met a process that was away"
    await at_rest(office)
    booked = [booking for customer in customers for booking in customer.booked]
    assert (await counters(office, event, "GA")).sold == len(booked)
    await check_at_rest(office, booked)
