"""What gateways tell us: kept once, never believed, harmless when late, repeated or out of order."""

from __future__ import annotations

import asyncio
import time

import httpx2
import pytest

from boxoffice.gateway.simulator import signing
from boxoffice.gateway.webhooks import EventKind, GatewayEvent
from boxoffice.office import BoxOffice
from boxoffice.stores import keys
from tests.conftest import SHARD, eventually
from tests.support.shop.office import Till

SECRET = "whsec_simulator"


async def told(api: httpx2.AsyncClient, till: Till, booking: str, kind: EventKind, event_id: str = "evt_1") -> int:
    """The gateway tells of a booking's payment; how we answer."""
    record = await till.record(booking)
    assert record is not None
    event = GatewayEvent(event_id, kind, record.payment_key, None)
    return (await deliver(api, event)).status_code


async def deliver(
    api: httpx2.AsyncClient, event: GatewayEvent, *, secret: str = SECRET, now_s: float | None = None
) -> httpx2.Response:
    body = signing.event_body(event)
    headers = signing.sign(secret, event.id, body, now_s or time.time())
    return await api.post("/v1/webhooks/simulator", content=body, headers=headers)


async def test_news_of_a_waiting_payment_is_looked_up_at_once(till: Till, api: httpx2.AsyncClient) -> None:
    """Without it the booking would be looked at some seconds later."""
    booking = await till.book("tok_3ds", GA=1)
    await till.drain()
    await till.customer_acts(booking)
    await till.drain()
    assert await till.state(booking) == "P pending", "not due yet"

    assert await told(api, till, booking, "authorized") == 200

    await till.drain()
    assert await till.state(booking) == "C confirmed"
    await till.at_rest(booking)


async def test_it_is_not_believed(till: Till, api: httpx2.AsyncClient) -> None:
    """A message that says authorised about a payment that is not confirms nothing."""
    booking = await till.book("tok_3ds", GA=1)
    await till.drain()
    for event_id in ("a", "b", "c"):
        assert await told(api, till, booking, "captured", event_id) == 200
        await till.drain()
    assert await till.state(booking) == "P pending"


async def test_a_second_delivery_changes_nothing(till: Till, api: httpx2.AsyncClient) -> None:
    """Also when both arrive at once: one is kept, both are answered 200."""
    booking = await till.book("tok_3ds", GA=1)
    await till.drain()

    answers = await asyncio.gather(*(told(api, till, booking, "requires_action") for _ in range(10)))

    assert answers == [200] * 10
    assert len(await till.fetch("SELECT 1 FROM webhook_events")) == 1


async def test_messages_about_what_is_over_change_nothing(till: Till, api: httpx2.AsyncClient) -> None:
    """Late, out of order, about a final booking, an unknown payment or none at all."""
    booking = await till.book(GA=1)
    await till.at_rest(booking)
    before = await till.fetch("SELECT status, due, refunded_cents FROM payments")
    for number, kind in enumerate(
        ("captured", "authorized", "requires_action", "declined", "voided", "refunded", "other")
    ):
        assert await told(api, till, booking, kind, f"evt_{number}") == 200  # type: ignore[arg-type]
    for event in (GatewayEvent("x", "authorized", "0" * 32, None), GatewayEvent("y", "captured", None, "pi_1")):
        assert (await deliver(api, event)).status_code == 200

    assert await till.fetch("SELECT status, due, refunded_cents FROM payments") == before
    await till.at_rest(booking)


async def test_a_message_before_the_payment_has_a_row(till: Till, api: httpx2.AsyncClient) -> None:
    """The gateway may be faster than our commit."""
    booking = await till.book(GA=1)
    assert await told(api, till, booking, "authorized") == 200
    await till.at_rest(booking)
    assert await till.state(booking) == "C confirmed"


async def test_news_that_meets_the_settlement_takes_nothing_from_it(till: Till, api: httpx2.AsyncClient) -> None:
    """The message waits for the row that is just being confirmed. What became due meanwhile stays due."""
    booking = await till.book("tok_3ds", GA=1)
    await till.drain()
    pool = await till.office.pool()
    async with pool.acquire() as settling, settling.transaction():
        await settling.execute("UPDATE payments SET status = 'authorized', due = 'capture', due_at = now()")
        pid = settling.get_server_pid()
        hearing = asyncio.create_task(told(api, till, booking, "authorized"))
        waiting = "SELECT 1 FROM pg_stat_activity WHERE $1 = ANY(pg_blocking_pids(pid))"
        await eventually(lambda: pool.fetchval(waiting, pid))

    assert await hearing == 200
    assert await till.payments(booking) == ["authorized/capture"]


async def test_news_of_a_capture_that_its_worker_is_about_to_make(till: Till, api: httpx2.AsyncClient) -> None:
    """It hastens nothing: the payment is in the worker's hands until its lease ends."""
    booking = await till.book(GA=1)
    await till.drain()
    till.office.pump.given.clear()

    assert await told(api, till, booking, "authorized") == 200

    assert not await till.office.pump.work_outbox()
    assert await till.payments(booking) == ["authorized/capture"]
    await till.at_rest(booking)


async def test_news_of_money_that_was_given_up_for_lost(till: Till, api: httpx2.AsyncClient) -> None:
    """After a day of looking a payment counts as failed. Should its money show up after all, it is let go."""
    booking = await till.book(GA=1)
    record = await till.record(booking)
    assert record is not None
    await till.rest()
    pool = await till.office.pool()
    await pool.execute("UPDATE payments SET status = 'failed', due = NULL")
    await pool.execute("UPDATE bookings SET status = 'failed'")

    assert await told(api, till, booking, "authorized") == 200

    assert await till.payments(booking) == ["failed/void"]


@pytest.mark.parametrize("what", ["secret", "old", "ahead", "body", "unsigned"])
async def test_what_is_not_signed_by_the_gateway_is_refused(till: Till, api: httpx2.AsyncClient, what: str) -> None:
    event = GatewayEvent("evt_1", "authorized", "0" * 32, None)
    body = signing.event_body(event)
    now_s = time.time() + {"old": -301, "ahead": 330}.get(what, 0)
    headers = signing.sign("whsec_wrong" if what == "secret" else SECRET, event.id, body, now_s)
    if what == "body":
        body = body.replace(b"0000", b"0001", 1)
    if what == "unsigned":
        headers = {"content-type": "application/json"}

    answer = await api.post("/v1/webhooks/simulator", content=body, headers=headers)

    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/webhook-refused")
    assert await till.fetch("SELECT 1 FROM webhook_events") == []


async def test_no_api_key_is_asked_for(till: Till, api: httpx2.AsyncClient) -> None:
    del api.headers["authorization"]
    assert (await deliver(api, GatewayEvent("evt_1", "other", None, None))).status_code == 200
    assert (await api.post("/v1/webhooks/nobody", content=b"{}")).status_code == 404


async def test_redis_may_be_away(till: Till, office: BoxOffice, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message is kept; a sweep finds the work."""
    booking = await till.book("tok_3ds", GA=1)
    await till.drain()
    record = await till.record(booking)
    assert record is not None

    async def away(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(office.redis, "execute_command", away)
    assert await office.webhooks.receive("simulator", GatewayEvent("e", "authorized", record.payment_key, None))
    assert len(await till.fetch("SELECT 1 FROM webhook_events")) == 1


async def test_a_message_rings(till: Till, api: httpx2.AsyncClient) -> None:
    booking = await till.book("tok_3ds", GA=1)
    await till.drain()
    await till.office.redis.delete(keys.bell(SHARD))
    rings = int(await till.office.redis.get(keys.rings(SHARD)))

    await told(api, till, booking, "authorized")

    assert int(await till.office.redis.get(keys.rings(SHARD))) == rings + 1


@pytest.mark.parametrize(
    ("event", "found", "asked_for"),
    [
        # Our own key says whose it is, whatever else is told with it.
        (GatewayEvent("e", "refunded", "ours", "ref"), "ours", []),
        (GatewayEvent("e", "captured", None, "ref"), None, []),
        (GatewayEvent("e", "refunded", None, None), None, []),
        # Somebody refunded it at the gateway itself, or a customer disputes it.
        (GatewayEvent("e", "refunded", None, "ref"), "key of ref", ["ref"]),
        (GatewayEvent("e", "disputed", None, "ref"), "key of ref", ["ref"]),
    ],
)
async def test_whose_payment_an_event_is_about(
    till: Till, monkeypatch: pytest.MonkeyPatch, event: GatewayEvent, found: str | None, asked_for: list[str]
) -> None:
    """The gateway is asked only when nothing else can tell."""
    asked: list[str] = []

    async def payment_key_of(reference: str) -> str:
        asked.append(reference)
        return f"key of {reference}"

    monkeypatch.setattr(till.gateway, "payment_key_of", payment_key_of)
    assert await till.office.webhooks.receive("simulator", event)
    assert asked == asked_for
    assert [row[0] for row in await till.fetch("SELECT payment_key FROM webhook_events")] == [found]
