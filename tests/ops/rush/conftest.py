"""A small sale that has come to rest, for an audit to be tried on."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import pytest

from boxoffice import ids
from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.stores import keys
from boxoffice.wire.requests import parse_booking
from ops.rush.audit import Witness, audit
from ops.rush.findings import Findings
from ops.rush.history import History
from tests.conftest import CLIENT, SaleMaker, settle_all

GOOD, DECLINED = "4242424242424242", "4000000000000002"


class Sold:
    """A small sale, settled: what a plant may damage."""

    def __init__(self, office: BoxOffice, event: EventView, history: History) -> None:
        self.office = office
        self.event = event
        self.history = history
        self.tier = event.tiers[0].id
        self.sale = keys.event(event.shard, event.id)
        self.owners = keys.owners(event.shard, event.id)

    @property
    def confirmed(self) -> str:
        return next(entry.accepted for entry in self.history.entries if entry.status == "confirmed")

    @property
    def failed(self) -> str:
        return next(entry.accepted for entry in self.history.entries if entry.status == "failed")

    async def sql(self, statement: str, *values: object) -> None:
        await (await self.office.pool()).execute(statement, *values)

    async def audit(self, witness: Witness | None = None) -> Findings:
        return await audit(self.office, witness or Witness(self.history))


async def book(office: BoxOffice, history: History, tier: str, key: str, card: str) -> None:
    payment = {"method": "card", "card_name": "Ada", "card_number": card}
    body = {"customer_id": f"c-{key}", "items": [{"tier_id": tier, "quantity": 2}], "payment": payment}
    request = parse_booking(json.dumps(body).encode(), office.settings, office.gateway)
    admitted = await office.admission.book(CLIENT, request, ids.digest(key))
    entry = history.open(key, f"c-{key}")
    entry.ids.append(admitted.booking_id)
    entry.status = "confirmed" if card == GOOD else "failed"
    entry.confirmed = card == GOOD


@pytest.fixture
async def sold(office: BoxOffice, open_sale: SaleMaker) -> Sold:
    event = await open_sale(GA=100, VIP=10)
    history = History(CLIENT)
    for number, card in enumerate((GOOD, GOOD, DECLINED)):
        await book(office, history, event.tiers[0].id, f"key-{number}", card)
    await settle_all(office)
    for queue in (keys.arq_queue(event.shard), keys.bell(event.shard)):
        await office.redis.delete(queue)
    async for job in office.redis.scan_iter("arq:job:*"):
        await office.redis.delete(job)
    return Sold(office, event, history)


Plant = Callable[[Sold], Awaitable[object]]
