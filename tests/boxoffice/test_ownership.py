"""Whose it is: what is done to a booking is done to no other, however alike: another shop's under the same key, the same
shop's for another event, its second one for the same event, one of another shard. See `tests.support.neighbours`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from boxoffice import ids
from boxoffice.bookings.reading import BookingFilter
from boxoffice.errors import NotFound
from boxoffice.gateway.base import Unknown
from boxoffice.gateway.webhooks import GatewayEvent
from boxoffice.stores import keys
from tests.conftest import CLIENT, counters
from tests.support.checks import check_at_rest
from tests.support.circumstances import (
    Act,
    captures_due,
    captures_listed,
    confirmed,
    declined,
    held,
    in_two_payments,
    owed,
    park,
    parked,
    refunds_due,
    refusals_due,
    voids_due,
)
from tests.support.neighbours import KEY, OTHERS, Street
from tests.support.shop.office import book
from tests.support.shop.orders import OTHER

# ------------------------------------------------------------------ what is done to one of them


async def pay(street: Street) -> None:
    await street.pay("tok_ok", names=["mine"], key="new")
    await street.till.drain()
    assert (await street.words())["mine"] == "C confirmed"


async def decline(street: Street) -> None:
    await street.pay("tok_card_declined", names=["mine"], key="new")
    await street.till.drain()
    assert (await street.words())["mine"] == "H held"


async def extend(street: Street) -> None:
    record = await street.till.record(street.mine)
    assert record is not None
    assert (await street.office.holds.extend(CLIENT, street.mine, 60)).deadline_ms == record.deadline_ms + 60_000
    told = "SELECT (extract(epoch FROM expires_at) * 1000)::bigint FROM bookings WHERE id = $1"
    rows = await street.till.fetch(told, street.mine)
    assert [row[0] for row in rows] == [record.deadline_ms + 60_000] * bool(record.attempts)


async def cancel(street: Street) -> None:
    assert await street.till.cancel(street.mine) == "cancelled"
    assert (await street.words())["mine"] in ("X cancelled", "X -")


async def expire(street: Street) -> None:
    await street.till.time_is_up(street.mine)
    assert [await street.office.holds.expire(shard) for shard in range(2)] == [0, 1]
    assert (await street.words())["mine"] in ("E expired", "E -")


async def refund_one(street: Street) -> None:
    assert (await street.till.refund(street.mine, KEY, GA=1)).amount_cents == 1_000


async def refund_all(street: Street) -> None:
    assert (await street.till.refund(street.mine, KEY)).amount_cents == 2_000


async def pump(street: Street) -> None:
    await street.office.pump.work_outbox()
    rows = await street.till.fetch("SELECT status, due FROM payments WHERE booking_id = $1", street.mine)
    assert [tuple(row) for row in rows if row["status"] != "declined"] == [("captured", None)]


async def capture_what_was_listed(street: Street) -> None:
    await street.office.pump.work_given()
    assert await street.till.payments(street.mine) == ["captured/-"]


async def let_go(street: Street) -> None:
    await street.office.pump.work_outbox()
    assert await street.till.payments(street.mine) == ["voided/-"]


async def overtaken(street: Street) -> None:
    """Revived; while the pump looks once more, a worker sells it. Its money is a sale's by then, its neighbours' is not."""
    await revive(street)
    await (await street.office.pool()).execute(
        "UPDATE payments SET due_at = now(), leased_until = NULL WHERE booking_id = $1", street.mine
    )
    gateway, lookup = street.till.gateway, street.till.gateway.lookup

    async def slowly(payment_key: str, *more: Any) -> Any:
        found = await lookup(payment_key, *more)
        await street.till.drain()
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gateway, "lookup", slowly)
        await street.office.pump.work_outbox()
    assert (await street.words())["mine"] == "C confirmed"
    assert (await street.till.payment(street.mine)).status == "authorized"


async def revive(street: Street) -> None:
    """The money of an ended hold is found, and buys its tickets after all."""
    await street.office.pump.work_outbox()
    assert (await street.words())["mine"] == "P expired"


async def void(street: Street) -> None:
    """The same when nothing is left: the money is let go."""
    event = street.events["mine"]
    tier = event.tiers[0].id
    await street.office.redis.hset(  # type: ignore[misc]
        keys.event(event.shard, event.id), mapping={f"a:{tier}": 0, f"c:{tier}": 20}
    )
    await street.office.pump.work_outbox()
    assert (await street.till.payments(street.mine)) == ["voided/-"]


async def look_later(street: Street) -> None:
    """The gateway is silent."""
    gateway = street.till.gateway

    async def silent(*_: object) -> Unknown:
        return Unknown("timeout")

    with pytest.MonkeyPatch.context() as patch:
        for name in ("lookup", "void", "refund"):
            patch.setattr(gateway, name, silent)
        patch.setattr(gateway, "capture_batch", _unknown)
        await street.office.pump.work_outbox()


async def _unknown(requests: list[object]) -> list[Unknown]:
    return [Unknown("timeout")] * len(requests)


async def captured_too_late(street: Street) -> None:
    await street.office.refunds.captured_too_late(await street.key_of("mine"), 2_000)
    view = await street.office.bookings.decided(CLIENT, street.mine)
    assert (view.failure and view.failure.code, view.refunded_cents) == ("paid_too_late", 2_000)


async def refuse_capture(street: Street) -> None:
    await street.office.refunds.capture_refused(await street.key_of("mine"), "expired")
    assert (await street.words())["mine"] == "X cancelled"


async def refund_is_refused(street: Street) -> None:
    """It had been succeeding until somebody's bank said no."""
    states = street.till.gateway.ledger.states
    key = await street.key_of("mine")
    states[key] = states[key].replace("tok_ok", "tok_refund_refused")
    await street.office.pump.work_outbox()
    assert [refund.booking for refund in await street.office.owed.find()] == [street.mine]


async def refund_is_made(street: Street) -> None:
    await street.office.pump.work_outbox()
    rows = await street.till.fetch("SELECT status FROM refunds WHERE booking_id = $1", street.mine)
    assert [row["status"] for row in rows] == ["succeeded"]


async def retry_owed(street: Street) -> None:
    assert [refund.booking for refund in await street.office.owed.retry(street.mine)] == [street.mine]


async def shop_retries(street: Street) -> None:
    assert (await street.office.refunds.retry(CLIENT, street.mine)).booking_id == street.mine


async def write_off(street: Street) -> None:
    (refund,) = await street.office.owed.find(street.mine)
    assert [
        each.refund_key for each in await street.office.owed.write_off(refund.refund_key, "eve", "paid in cash")
    ] == [refund.refund_key]


async def write_off_booking(street: Street) -> None:
    assert len(await street.office.owed.write_off(street.mine, "eve", "paid in cash")) == 1


async def webhook(street: Street) -> None:
    event = GatewayEvent("evt", "captured", await street.key_of("mine"), None)
    assert await street.office.webhooks.receive("simulator", event)


async def refund_at_gateway(street: Street) -> None:
    key = await street.key_of("mine")
    await street.till.gateway.refund_at_gateway(key, 700)
    assert await street.office.webhooks.receive("simulator", GatewayEvent("evt", "refunded", key, None))
    await street.office.pump.work_outbox()
    assert (await street.office.bookings.decided(CLIENT, street.mine)).refunded_cents == 700


async def audit(street: Street) -> None:
    await street.till.gateway.refund_at_gateway(await street.key_of("mine"), 700)
    found = [each.booking async for each in street.office.payments_audit.run(fix=True, grace_s=0) if not each.known]
    assert found == [street.mine]


async def fail_parked(street: Street) -> None:
    ended = await street.office.parked.fail(street.mine)
    assert (ended.written, ended.stock) == (True, "record")
    assert (await street.words())["mine"] == "F failed"


async def retry_parked(street: Street) -> None:
    await street.office.parked.retry(street.mine)
    assert {letter.booking for letter in await street.office.parked.all()} == set(street.others)


async def reconcile(street: Street) -> None:
    """One event, with a recount of its customers, though every counter of both is wrong."""
    event, other = street.events["mine"], street.events["other"]
    for wrong in (event, other):
        tier = wrong.tiers[0].id
        await street.office.redis.hset(keys.event(1, wrong.id), mapping={f"a:{tier}": 1, f"h:{tier}": 9})  # type: ignore[misc]
        await street.office.redis.hset(keys.owners(1, wrong.id), "nobody", 3)  # type: ignore[misc]
    before = await street.traces()
    report = await street.office.guards[1].reconciler.event(event.id, fix=True, deep=True, owned=True)
    assert report.word == "fixed"
    assert await street.traces() == before
    await counters(street.office, event, "GA")
    await street.office.guards[1].reconciler.event(other.id, fix=True, deep=True, owned=True)


ACTS = [
    *((held, act) for act in (pay, decline, extend, cancel, expire, reconcile)),
    *((declined, act) for act in (pay, decline, extend, cancel, expire, reconcile)),
    *((confirmed, act) for act in (cancel, refund_one, refund_all, refund_at_gateway, audit, webhook, reconcile)),
    *((in_two_payments, act) for act in (cancel, refund_one, refund_at_gateway)),
    *((captures_due, act) for act in (pump, refuse_capture, look_later)),
    *((voids_due, act) for act in (revive, overtaken, void, look_later, captured_too_late, webhook)),
    (captures_listed, capture_what_was_listed),
    (refusals_due, let_go),
    *((refunds_due, act) for act in (refund_is_made, refund_is_refused, look_later)),
    *((owed, act) for act in (retry_owed, shop_retries, cancel, write_off, write_off_booking)),
    *((parked, act) for act in (fail_parked, retry_parked)),
]


@pytest.mark.parametrize(("come", "act"), ACTS, ids=[f"{come.__name__}-{act.__name__}" for come, act in ACTS])
async def test_what_is_done_to_one_leaves_no_trace_at_its_neighbours(street: Street, come: Act, act: Act) -> None:
    await come(street)
    await street.leave_alone()
    before = await street.traces()

    await act(street)

    if act is not reconcile:
        after = await street.traces()
        changed = [name for name in before if after[name] != before[name]]
        assert {name: after[name] for name in changed} == {name: before[name] for name in changed}


# ------------------------------------------------------------------ under one key


@pytest.mark.parametrize("token", ["tok_ok", "tok_card_declined"])
async def test_a_key_is_a_shops_own_for_each_event(street: Street, token: str) -> None:
    """One after the other under one key: each is settled for itself, and is nobody's duplicate."""
    for name in ("mine", *OTHERS):
        event = street.event(name)
        how = {"client": street.client(name), "key": KEY + name[16:], event.tiers[0].code: 2}
        admitted = await book(street.office, event, token, **how)
        assert not admitted.replayed
        street.bookings[name] = admitted.booking_id
        await street.settle()
    assert set((await street.words()).values()) == {"C confirmed" if token == "tok_ok" else "F failed"}
    assert await street.till.fetch("SELECT 1 FROM bookings WHERE duplicate_of IS NOT NULL") == []
    assert len({await street.key_of(name) for name in street.bookings}) == len(street.bookings)
    await check_at_rest(street.office, street.bookings.values())


async def test_each_of_a_batch_gets_its_own_answer(street: Street) -> None:
    """Whoever settles them together mixes up neither payments nor bookings, at the first attempt and at the next."""
    tokens = ["tok_card_declined", "tok_ok", "tok_3ds", "tok_expired_card", "tok_insufficient_funds"]
    names = ("mine", *OTHERS)
    await street.book(token=None)
    for first, second in ((tokens, ["H", "C", "P", "H", "H"]),):
        for name, token in zip(names, first, strict=True):
            await street.pay(token, names=[name])
        await street.till.drain()
        assert [word[0] for word in (await street.words()).values()] == second
    for name in ("mine", "under another key", "of another shard"):
        await street.pay("tok_ok", names=[name], key="second")
    await street.till.drain()
    assert [word[0] for word in (await street.words()).values()] == ["C", "C", "P", "C", "C"]
    told = [await street.till.payments(booking) for booking in street.bookings.values()]
    assert [[payment.partition("/")[0] for payment in payments] for payments in told] == [
        ["declined", "authorized"], ["authorized"], ["requires_action"], ["declined", "authorized"],
        ["declined", "authorized"],
    ]  # fmt: skip
    views = [
        (await street.office.bookings.decided(street.client(name), booking)).payment
        for name, booking in street.bookings.items()
    ]
    assert [view and view.status for view in views] == [
        "authorized", "authorized", "requires_action", "authorized", "authorized"
    ]  # fmt: skip


async def test_a_parked_booking_keeps_its_key_though_another_shop_or_event_used_it(street: Street) -> None:
    """Whoever asks for it by its key finds it. (Under a key that its own shop has used for the event, it gets another.)"""
    await street.book(names=OTHERS)
    await street.settle()
    await street.book(names=["mine"], reference="bad\0text")
    await park(street, ["mine"])

    await street.office.parked.fail(street.mine)

    (row,) = await street.till.fetch("SELECT idempotency_key FROM bookings WHERE id = $1", street.mine)
    assert row["idempotency_key"] == ids.digest(KEY)


# ------------------------------------------------------------------ what is read


async def test_what_is_read_is_ones_own(street: Street) -> None:
    """Alone, by key, by filter, and in an operator's dossier; from Redis, and when only PostgreSQL is left."""
    await in_two_payments(street)
    await street.till.refund(street.mine, "part", GA=1)
    office = street.office
    for forgotten in (False, True):
        if forgotten:
            for booking in street.bookings.values():
                await office.redis.delete(keys.booking(ids.shard_of(booking), booking))
            for name in ("mine", *OTHERS):
                scope = ids.scope(street.client(name), street.event(name).id, ids.digest(KEY))
                await office.redis.delete(keys.idempotency(street.event(name).shard, scope))
        for name, booking in street.bookings.items():
            client, event = street.client(name), street.event(name)
            view = (await office.bookings.get(client, booking)).view
            assert (view.id, view.event_id, view.refunded_cents) == (booking, event.id, 1_000 * (name == "mine"))
            assert [(item.tier_id, item.quantity) for item in view.items] == [(event.tiers[0].id, 2)]
            assert bool(view.refund) == (name == "mine")
            assert (await office.bookings.attempt(booking, await street.key_of("mine")) is None) == (name != "mine")
            with pytest.raises(NotFound):
                await office.bookings.get(CLIENT if client == OTHER else OTHER, booking)
            if name != "under another key":
                wanted = BookingFilter(None, event.id, None, None, ids.digest(KEY))
                page = await office.bookings.list(client, wanted, None, 10)
                assert [found.id for found in page.views] == [booking], name
                for other in ({"customer_id": "bob"}, {"reference": "x"}, {"status": "failed"}):
                    page = await office.bookings.list(client, replace(wanted, **other), None, 10)
                    assert page.views == [], other
        theirs = [street.bookings["of another shop"]]
        ours = sorted((booking for booking in street.bookings.values() if booking not in theirs), reverse=True)
        for wanted, some in (
            (BookingFilter(None, None, None, None, None), ours),
            (BookingFilter("ada", None, "confirmed", None, None), ours),
            (BookingFilter(None, street.events["other"].id, None, None, None), [street.bookings["of another event"]]),
            (
                BookingFilter(None, None, None, None, ids.digest("another-key")),
                [street.bookings["under another key"]],
            ),
        ):
            assert [view.id for view in (await office.bookings.list(CLIENT, wanted, None, 10)).views] == some
        assert [view.id for view in (await office.bookings.list(OTHER, BookingFilter("ada", None, None, None, None),
                                                                None, 10)).views] == theirs  # fmt: skip


async def test_a_dossier_is_of_one_booking(street: Street) -> None:
    await refunds_due(street)
    for booking in street.bookings.values():
        (row,) = await street.till.fetch("SELECT payment_key FROM payments WHERE booking_id = $1", booking)
        await (await street.office.pool()).execute(
            "INSERT INTO disputes (gateway, reference, payment_key, amount_cents, status, reason, withdrawn)"
            " VALUES ('g', $1, $1, 1, 'lost', 'x', false)", row["payment_key"],
        )  # fmt: skip
        await (await street.office.pool()).execute(
            "INSERT INTO dead_letters (booking_id, record, error) VALUES ($1, '', 'x')", booking
        )
    told = msgspec.json.encode(await street.office.dossiers.of(street.mine), enc_hook=str).decode()
    for booking, name in zip(street.others, OTHERS, strict=True):
        assert booking not in told
        assert await street.key_of(name) not in told
    found = (await street.office.dossiers.of(street.mine))["postgres"]
    assert {name: len(rows) for name, rows in found.items()} == dict.fromkeys(
        ("booking", "items", "payments", "refunds", "disputes", "stock_moves", "dead_letter"), 1
    )


# ------------------------------------------------------------------ what a customer may have


async def test_another_shops_customer_of_the_same_name_is_another_customer(street: Street) -> None:
    """Each may have as many tickets as the event allows a customer."""
    office, event = street.office, street.events["mine"]
    await office.control.change_event(event.id, customer_max=2)
    for client in (CLIENT, OTHER):
        await book(office, event, client=client, key="k", **{event.tiers[0].code: 2})
    await street.settle()
    assert sorted(map(int, (await office.redis.hvals(keys.owners(1, event.id))))) == [2, 2]  # type: ignore[misc]
