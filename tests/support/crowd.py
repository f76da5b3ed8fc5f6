"""Customers at terminals of their own, who book without a break while processes are replaced, and keep what went wrong."""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from collections.abc import Iterable

from ops.rush.http_client import Answer, HttpClient, NoAnswer, NotSent
from tests.conftest import eventually
from tests.support.waiting import pace

__all__ = ["Crowd", "Customer", "serves"]


class Customer:
    """Books and looks, on one connection to each process that is kept. Refused by one process, asks the other."""

    def __init__(self, ports: list[int], tier: str, seed: int, key: str) -> None:
        self.booked: list[str] = []
        self.failures: list[str] = []
        self.refused = 0
        self.asks: int | None = None
        """The port that owes an answer."""
        self._chance = random.Random(seed)
        self._clients = [HttpClient(port, timeout_s=15) for port in ports]
        self._chance.shuffle(self._clients)
        self._headers = f"Authorization: Bearer {key}\r\nContent-Type: application/json\r\n"
        payment = {"method": "card", "card_number": "4242424242424242", "card_name": "Ada"}
        items = [{"tier_id": tier, "quantity": 1}]
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
                answer = await client.request(method, path, (self._headers + headers).encode(), body)
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


class Crowd:
    """So many of them, from its start to `go_home`."""

    def __init__(self, ports: Iterable[int], tier: str, count: int, key: str) -> None:
        self.customers = [Customer(list(ports), tier, seed, key) for seed in range(count)]
        self._closing = asyncio.Event()
        self._load = [asyncio.create_task(customer.shop(self._closing)) for customer in self.customers]

    @property
    def booked(self) -> list[str]:
        """Every booking that was accepted."""
        return [booking for customer in self.customers for booking in customer.booked]

    async def several_ask(self, port: int) -> bool:
        """Whether this process owes answers to a quarter of them."""
        return sum(customer.asks == port for customer in self.customers) >= len(self.customers) // 4

    async def book_again(self) -> None:
        """Wait until each has booked once more; nothing has failed."""
        before = [len(customer.booked) for customer in self.customers]

        async def have_booked() -> bool:
            assert [failure for customer in self.customers for failure in customer.failures] == []
            return all(len(customer.booked) > count for customer, count in zip(self.customers, before, strict=True))

        await eventually(have_booked, timeout_s=30)

    async def go_home(self) -> None:
        """They book no more, and have all their answers."""
        self._closing.set()
        await asyncio.gather(*self._load)


async def serves(port: int) -> bool:
    """Whether the API there says that it is ready."""
    client = HttpClient(port)
    try:
        return (await client.request("GET", "/readyz")).status == 200
    except (NotSent, NoAnswer):
        return False
    finally:
        await client.close()
