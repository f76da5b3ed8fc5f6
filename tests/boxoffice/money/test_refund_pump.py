"""The outbox of refunds: each is asked for by its own payment, after its capture, and no answer moves it backwards."""

from __future__ import annotations

from typing import Any

import pytest

from boxoffice.gateway.base import (
    Done,
    RefundSeen,
    Refused,
    Reversals,
    Unknown,
)
from boxoffice.money.reversals import RefusedAttempt, take_in
from tests.support.dues import Gateway, paused, row_of, stored, two_due
from tests.support.shop.office import Till


async def test_no_refund_is_asked_for_before_its_capture(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway would refuse it, and the money would be owed."""
    booking = await till.book(GA=1)
    await till.drain()
    till.office.pump.given.clear()
    await till.cancel(booking)
    gateway = Gateway(till, monkeypatch, "refund")
    for status in ("authorized", "unknown", "failed"):
        await (await till.office.pool()).execute("UPDATE payments SET status = $1", status)
        assert await till.office.pump.work_outbox() == 0
    assert gateway.asked == []
    (row,) = await till.fetch("SELECT status, tries, leased_until FROM refunds")
    assert tuple(row) == ("due", 0, None)
    await (await till.office.pool()).execute("UPDATE payments SET status = 'authorized'")
    monkeypatch.undo()
    await till.at_rest(booking)


async def test_each_refund_is_asked_for_by_its_own_payment(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reference, amount and attempt are those of the refund's own rows."""
    bookings = [await till.book(GA=1), await till.book(GA=2)]
    await till.rest()
    for booking in bookings:
        await till.cancel(booking)
    await (await till.office.pool()).execute("UPDATE refunds SET attempt = amount_cents / 1000")
    asked: list[tuple[Any, ...]] = []

    async def refund(*args: Any) -> Unknown:
        asked.append(args)
        return Unknown("timeout")

    monkeypatch.setattr(till.gateway, "refund", refund)
    await till.office.pump.work_outbox()
    rows = await till.fetch(
        "SELECT r.refund_key, p.payment_key, p.amount_cents FROM refunds r JOIN payments p USING (payment_key)"
    )
    assert sorted(asked) == sorted(
        (f"{key}-{cents // 1_000}", payment, f"sim_{payment[:20]}", cents) for key, payment, cents in rows
    )


async def test_a_payment_without_a_reference_is_looked_at_by_its_key(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway told of it before we had heard how it calls it: an empty text, as its calls are typed."""
    mine, _ = await two_due(till, "look")
    pool = await till.office.pool()
    await pool.execute("UPDATE payments SET reference = NULL WHERE payment_key = $1", mine)
    asked: dict[str, str] = {}

    async def reversals(payment_key: str, reference: str) -> Unknown:
        asked[payment_key] = reference
        return Unknown("timeout")

    monkeypatch.setattr(till.gateway, "reversals", reversals)
    await till.office.pump.work_outbox()
    rows = await till.fetch("SELECT payment_key, coalesce(reference, '') FROM payments")
    assert asked == dict(map(tuple, rows))


@pytest.mark.parametrize("answer", [Done("re_1"), Refused("no")])
@pytest.mark.parametrize("now", ["succeeded", "owed", "pending"])
async def test_an_answer_that_comes_late_moves_no_refund_backwards(
    till: Till, monkeypatch: pytest.MonkeyPatch, answer: Any, now: str
) -> None:
    """Somebody else heard of it first: whatever this worker was told, the row stays as it is."""
    mine, other = await two_due(till, "refund")
    gateway = Gateway(till, monkeypatch, "refund")
    pool = await till.office.pool()
    seen: dict[str, Any] = {}

    async def meanwhile(payment_key: str) -> Any:
        await pool.execute(
            "UPDATE refunds SET status = $1, attempt = CASE $1 WHEN 'owed' THEN 1 ELSE 0 END, reference = 're_0',"
            " failure_code = 'x', leased_until = NULL, owed_since = now()", now,
        )  # fmt: skip
        seen.update({key: await stored(till, "refund", key) for key in (mine, other)})
        return answer

    async def nothing(payment_key: str, reference: str) -> Reversals:
        return Reversals(
            (RefundSeen(seen[payment_key]["refund_key"], "re_0", 1_000, "succeeded"),) if now != "owed" else ()
        )

    gateway.answer = meanwhile
    monkeypatch.setattr(till.gateway, "reversals", nothing)
    await till.office.pump.work_outbox()

    for key in (mine, other):
        row = await stored(till, "refund", key)
        assert row["attempt"] == seen[key]["attempt"]
        assert row["reference"] == "re_0"
        if now == "owed" or isinstance(answer, Done):
            assert row["status"] == now


async def test_a_refusal_that_cannot_be_read_is_asked_again(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows whether the refund is there after all: it is not owed yet, and the same attempt is made again."""
    mine, _ = await two_due(till, "refund")
    gateway = Gateway(till, monkeypatch, "refund")

    async def refuses(payment_key: str) -> Refused:
        return Refused("refund_failed")

    async def silent(*_: object) -> Unknown:
        return Unknown("timeout")

    gateway.answer = refuses
    with monkeypatch.context() as patch:
        patch.setattr(till.gateway, "reversals", silent)
        assert await paused(till, "refund", mine, 0.8, 1.0)
    row = await row_of(till, "refund", mine)
    assert (row["status"], row["attempt"], row["leased_until"]) == ("due", 0, None)


async def test_two_refusals_of_one_attempt_are_one(till: Till) -> None:
    """Told twice, also when the shop tries again in between: an attempt that is over refuses no other."""
    mine, _ = await two_due(till, "refund")
    row = await stored(till, "refund", mine)
    refusal = RefusedAttempt(row["refund_key"], 0, "expired_card")

    async def told(asked: RefusedAttempt) -> tuple[Any, ...]:
        async with (await till.office.pool()).acquire() as connection, connection.transaction():
            await take_in(connection, mine, Reversals(), asked)
        row = await stored(till, "refund", mine)
        return row["status"], row["attempt"], row["failure_code"], row["tries"]

    assert [await told(refusal) for _ in range(2)] == [("owed", 1, "expired_card", 0)] * 2
    await till.office.owed.retry(row["refund_key"])
    assert (await told(refusal))[:2] == ("due", 1)
    assert (await told(RefusedAttempt(row["refund_key"], 1, "lost_card")))[:3] == ("owed", 2, "lost_card")
