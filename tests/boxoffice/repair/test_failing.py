"""Failing a parked booking while somebody else is at it: what is sold stays sold, and its money is not let go."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from boxoffice.errors import CannotRun, NotFound
from boxoffice.stores import keys
from tests.boxoffice.repair.test_parked import poison
from tests.conftest import CLIENT, SHARD
from tests.support.shop.office import Till


def between(till: Till, monkeypatch: pytest.MonkeyPatch, call: str, work: Callable[[], Awaitable[None]]) -> None:
    """While the gateway takes its time over this call, this happens; then it answers."""
    really = getattr(till.gateway, call)

    async def slowly(payment_key: str, reference: str | None) -> object:
        answer = await really(payment_key, reference)
        await work()
        return answer

    monkeypatch.setattr(till.gateway, call, slowly)


async def healed(till: Till) -> str:
    """Parked, though nothing is wrong with it any more: a worker would sell it."""
    booking = await poison(till, reference="bad\0text")
    record = await till.record(booking)
    assert record is not None
    await till.office.redis.set(keys.booking(SHARD, booking), record.pack().replace(b"bad\\u0000text", b"good text"))
    return booking


async def test_a_retry_while_it_is_failed_is_refused(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a worker would sell what is about to be let go: it is failed once, and nobody has a ticket of it."""
    booking, asked, answer = await healed(till), asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        asked.set()
        await answer.wait()

    between(till, monkeypatch, "lookup", wait)
    failing = asyncio.create_task(till.office.parked.fail(booking))
    await asked.wait()
    try:
        with pytest.raises(CannotRun, match="at this moment"):
            await till.office.parked.retry(booking)
        with pytest.raises(CannotRun, match="at this moment"):
            await till.office.parked.retry_all(await till.office.parked.all())
        with pytest.raises(CannotRun, match="at this moment"):
            await till.office.parked.fail(booking)
        await till.drain()
    finally:
        answer.set()

    assert (await failing).stock == "record"
    assert await till.state(booking) == "F failed"
    assert (await till.payment(booking)).status == "voided"
    await till.at_rest(booking)
    with pytest.raises(NotFound):
        await till.office.parked.retry(booking)


async def test_one_that_waits_for_a_worker_is_not_failed(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL has it parked, and a worker may have it all the same: it died before Redis was told."""
    booking = await healed(till)
    await till.office.redis.zrem(keys.dead(SHARD), booking)
    await till.office.redis.zadd(keys.pending(SHARD), {booking: 1 + 1 / 16})

    with pytest.raises(CannotRun, match="waits for a worker"):
        await till.office.parked.fail(booking)

    assert (await till.payment(booking)).status == "authorized"
    await till.at_rest(booking)
    assert await till.state(booking) == "C confirmed"


@pytest.mark.parametrize("call", ["lookup", "void"])
async def test_one_that_is_sold_meanwhile_is_not_written_as_failed(
    till: Till, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Whoever has sold it without asking for the lock: its row stays, and its money unless it was gone by then."""
    booking = await healed(till)

    async def sold() -> None:
        await (await till.office.pool()).execute(
            "INSERT INTO bookings (id, client_id, event_id, customer_id, status, amount_cents, currency, idempotency_key,"
            " fingerprint, sequence, created_at)"
            " VALUES ($1::uuid, $2, $3, 'ada', 'confirmed', 2000, 'USD', 'key', 'print', 1, now())",
            booking, CLIENT, till.event.id,
        )  # fmt: skip

    between(till, monkeypatch, call, sold)
    with pytest.raises(CannotRun, match="confirmed"):
        await till.office.parked.fail(booking)

    assert (await till.payment(booking)).status == ("authorized" if call == "lookup" else "voided")
    assert await till.state(booking) == "P confirmed"
    assert await till.payments(booking) == []
    assert await till.left("GA") == (8, 2, 0)


async def test_a_record_that_was_settled_meanwhile_is_not_deleted(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only of what nobody can read a recount is made: another's record and its idempotency key stay."""
    booking = await healed(till)
    record = await till.record(booking)
    assert record is not None
    raw = b"C" + record.pack().removeprefix(b"P")

    async def settled() -> None:
        await till.office.redis.set(keys.booking(SHARD, booking), raw)

    between(till, monkeypatch, "void", settled)
    with pytest.raises(CannotRun, match="settled or paid anew"):
        await till.office.parked.fail(booking)

    assert await till.office.redis.get(keys.booking(SHARD, booking)) == raw
    assert await till.office.redis.exists(keys.idempotency(SHARD, record.scope)) == 1
