"""Whose it is: what is done to a booking is done to no other, however alike: another shop's under the same key, the same
shop's for another event, its second one for the same event, one of another shard. See `tests.support.neighbours`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from boxoffice import ids
from boxoffice.bookings.reading import BookingFilter
from boxoffice.books import queries
from boxoffice.books.moves import apply_moves
from boxoffice.errors import NotFound, StoreAway
from boxoffice.gateway.base import Unknown
from boxoffice.gateway.webhooks import GatewayEvent
from boxoffice.money import pump as money
from boxoffice.office import BoxOffice
from boxoffice.repair import survey
from boxoffice.stores import keys
from tests.conftest import CLIENT, SHARD, Counters, SaleMaker, counters, eventually, load_all
from tests.support.checks import check_at_rest
from tests.support.neighbours import KEY, OTHERS, Street
from tests.support.shop.office import book
from tests.support.shop.orders import OTHER
from tests.support.shop.script import counts_of_unpaid


@pytest.fixture
async def street(office: BoxOffice, open_sale: SaleMaker) -> AsyncIterator[Street]:
    """Nobody has booked yet. The event of `mine` and the other one are in the second shard."""
    far, mine, other = [await open_sale(shard=shard, GA=20, VIP=4) for shard in (0, SHARD, SHARD)]
    await load_all(office)
    yield Street(office, {"mine": mine, "other": other, "far": far})
    for settlement in office.settlements:
        await settlement.stop()


# ------------------------------------------------------------------ how they come to be


async def held(street: Street) -> None:
    await street.book(token=None)


async def declined(street: Street) -> None:
    """Holds, each with a payment that was declined: PostgreSQL knows them."""
    await street.book(token=None)
    await street.pay("tok_card_declined")
    await street.settle()
    assert set((await street.words()).values()) == {"H held"}


async def confirmed(street: Street, token: str = "tok_ok") -> None:
    await street.book(token=token)
    await street.settle()
    assert set((await street.words()).values()) == {"C confirmed"}


async def in_two_payments(street: Street) -> None:
    """Confirmed with the second card."""
    await declined(street)
    await street.pay("tok_ok", key="second")
    await street.settle()


async def owed(street: Street) -> None:
    """Cancelled, and the gateway refuses the refund."""
    await confirmed(street, "tok_refund_refused")
    for name, booking in street.bookings.items():
        await street.office.cancellations.cancel(street.client(name), booking)
    await street.till.pump()
    assert {row["status"] for row in await street.till.fetch("SELECT status FROM refunds")} == {"owed"}


async def refunds_due(street: Street) -> None:
    """Cancelled; no worker has asked for the refunds yet."""
    await confirmed(street)
    for name, booking in street.bookings.items():
        await street.office.cancellations.cancel(street.client(name), booking)


async def captures_due(street: Street) -> None:
    """Confirmed; nobody has captured yet, and whoever was to is gone."""
    await street.book()
    await street.till.drain()
    street.office.pump.given.clear()
    await street.till.sooner()
    await (await street.office.pool()).execute(money.UNLIST, 100)


async def captures_listed(street: Street) -> None:
    """Confirmed in two batches by two workers; that of `mine` is about to capture, the other one is gone."""
    await street.book(names=["mine"])
    await street.till.drain()
    given = list(street.office.pump.given)
    await street.book(names=OTHERS)
    await street.till.drain()
    street.office.pump.given.clear()
    street.office.pump.given.extend(given)


async def refusals_due(street: Street) -> None:
    """Cancelled, because their captures were refused for good; the money is still to be let go."""
    await captures_due(street)
    for name in street.bookings:
        await street.office.refunds.capture_refused(await street.key_of(name), "expired")


async def voids_due(street: Street) -> None:
    """Holds that ended while nobody knew of their payments, which the gateway has authorised all the same."""
    gateway = street.till.gateway
    await street.book(token=None)
    await street.pay("tok_ok")
    authorize = gateway.authorize_batch

    async def lost(requests: list[object]) -> list[Unknown]:
        await authorize(requests)  # type: ignore[arg-type]
        return [Unknown("timeout")] * len(requests)

    async def silent(*_: object) -> Unknown:
        return Unknown("timeout")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gateway, "authorize_batch", lost)
        patch.setattr(gateway, "lookup", silent)
        patch.setattr(gateway, "void", silent)
        await street.till.drain()
        for booking in street.bookings.values():
            await street.till.time_is_up(booking)
            await street.till.claimable(booking)
        await street.till.drain()
    assert set((await street.words()).values()) == {"E expired"}


async def parked(street: Street) -> None:
    """What PostgreSQL does not take."""
    await street.book(reference="bad\0text")
    await park(street, street.bookings)


async def park(street: Street, names: Iterable[str]) -> None:
    """Until these are aside, and no others."""

    async def aside() -> bool:
        for name in names:
            await street.till.claimable(street.bookings[name])
        await street.till.drain()
        return {letter.booking for letter in await street.office.parked.all()} == {
            street.bookings[name] for name in names
        }

    await eventually(aside)


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

    async def slowly(payment_key: str, reference: str | None) -> Any:
        found = await lookup(payment_key, reference)
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
    await street.office.refunds.captured_too_late(await street.key_of("mine"))
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


Act = Callable[[Street], Awaitable[None]]
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


async def test_a_repair_takes_in_the_stock_moves_of_its_event_or_shard_alone(street: Street) -> None:
    """Tickets went back while Redis was shut. (Of the same event are three of the bookings.)"""
    await confirmed(street)
    office, redis = street.office, street.office.redis
    gates = {shard: await redis.getdel(keys.gate(shard)) for shard in range(2)}
    for name, booking in street.bookings.items():
        with pytest.raises(StoreAway):
            await office.refunds.cancel(street.client(name), booking)
    for shard, gate in gates.items():
        await redis.set(keys.gate(shard), gate)

    async def of_event(name: str) -> list[bool]:
        query = "SELECT applied_at IS NULL AS open FROM stock_moves WHERE event_id = $1"
        return [row["open"] for row in await street.till.fetch(query, street.events[name].id)]

    await office.guards[1].reconciler.event(street.events["mine"].id, fix=True)
    assert [await of_event(name) for name in street.events] == [[False] * 3, [True], [True]]
    assert await counters(office, street.events["mine"], "GA") == Counters(20, 0, 0, 20)
    assert await counters(office, street.events["other"], "GA") == Counters(18, 0, 2, 20)
    assert await apply_moves(office.shards[1], office.database) == 1
    assert [await of_event(name) for name in street.events] == [[False] * 3, [False], [True]]
    assert await counters(office, street.events["far"], "GA") == Counters(18, 0, 2, 20)
    assert await apply_moves(office.shards[0], office.database) == 1
    await street.till.pump()
    await check_at_rest(office, street.bookings.values())


async def test_a_repair_tells_each_how_its_own_payment_went(street: Street) -> None:
    """PostgreSQL has settled all of them, and Redis has heard of none."""
    await street.book()
    redis, bookings = street.office.redis, street.bookings.values()
    raws = {booking: await redis.get(keys.booking(ids.shard_of(booking), booking)) for booking in bookings}
    sales = [(keys.event(event.shard, event.id)) for event in street.events.values()]
    dumps = {name: await redis.dump(name) for name in sales}
    await street.settle()
    for name, dumped in dumps.items():
        await redis.restore(name, 0, dumped, replace=True)
    for booking, raw in raws.items():
        await redis.set(keys.booking(ids.shard_of(booking), booking), raw)
        await redis.zadd(keys.pending(ids.shard_of(booking)), {booking: 1})

    reports = [report for guard in street.office.guards for report in await guard.reconciler.every_event(fix=True)]

    assert sum(report.settled for report in reports) == len(raws)
    for booking in bookings:
        record = await street.till.record(booking)
        rows = await street.till.fetch("SELECT reference FROM payments WHERE booking_id = $1", booking)
        assert record and record.state == "C" and record.payload.outcome
        assert [row["reference"] for row in rows] == [record.payload.outcome.reference]


@pytest.mark.parametrize("state", ["H", "P"])
async def test_what_was_cancelled_unsold_comes_back_though_its_neighbours_were_sold(street: Street, state: str) -> None:
    """Redis forgot the cancellation. The neighbours' tickets came back as stock moves; its own were only held."""
    await declined(street)
    await street.pay("tok_ok", names=OTHERS, key="second")
    await street.settle()
    for name in OTHERS:
        await street.office.refunds.cancel(street.client(name), street.bookings[name])
    if state == "P":
        await street.pay("tok_ok", names=["mine"], key="second")
    redis, event, tier = street.office.redis, street.events["mine"], street.events["mine"].tiers[0].id
    sale, owners = keys.event(1, event.id), keys.owners(1, event.id)
    forgotten = {name: await redis.dump(name) for name in (sale, owners, keys.unpaid(1, event.id))}
    raw = await redis.get(keys.booking(1, street.mine))
    record = await street.till.record(street.mine)
    assert record is not None
    outcome, _ = await street.office.holds.cancel(record)
    assert outcome == ("cancelled" if state == "H" else "requested")
    await street.till.drain()
    assert (await street.words())["mine"] == "X cancelled"
    for name, dumped in forgotten.items():
        await redis.restore(name, 0, dumped, replace=True)
    await redis.set(keys.booking(1, street.mine), raw)
    place = keys.deadlines(1) if state == "H" else keys.pending(1)
    await redis.zadd(place, {street.mine: 4e12 if state == "H" else 1})

    if state == "P":
        await street.till.drain()
    else:
        report = await street.office.guards[1].reconciler.event(event.id, fix=True)
        assert (report.word, report.settled) == ("same", 1)

    assert await counters(street.office, event, "GA") == Counters(20, 0, 0, 20)
    assert await redis.hget(sale, f"c:{tier}") == b"0"  # type: ignore[misc]
    assert (await street.words())["mine"] == "X cancelled"


@pytest.mark.parametrize("come", [declined, confirmed, in_two_payments, voids_due, refunds_due])
async def test_a_rebuild_brings_back_each_as_it_was(street: Street, come: Act) -> None:
    """And each customer's count, from its own bookings for that event; the other shard is left alone."""
    await come(street)
    office, redis = street.office, street.office.redis

    async def all_of(shard: int) -> dict[bytes, Any]:
        pattern = f"{keys.shard_tag(shard)}:*"
        names = [name async for name in redis.scan_iter(match=pattern)]
        return {name: await redis.dump(name) for name in names}

    async def counts() -> list[Any]:
        """But what was given up: Redis alone knows it (decision 30)."""
        names = [of(1, street.events[name].id) for of in (keys.event, keys.owners) for name in ("mine", "other")]
        unpaid = [await redis.hgetall(keys.unpaid(1, street.events[name].id)) for name in ("mine", "other")]  # type: ignore[misc]
        return [*[await redis.hgetall(name) for name in names], *map(counts_of_unpaid, unpaid)]  # type: ignore[misc]

    async def views() -> list[Any]:
        return [
            (await office.bookings.get(street.client(name), booking)).view for name, booking in street.bookings.items()
        ]

    async def keys_of() -> list[str]:
        records = [await street.till.record(booking) for booking in street.bookings.values()]
        return [record.payment_key for record in records if record]

    words, before, far = await street.words(), await counts(), await all_of(0)
    seen, paid_under = await views(), await keys_of()
    for name in await all_of(1):
        await redis.delete(name)
    await office.loader.load(1)

    await office.guards[1].rebuilder.rebuild()

    assert await street.words() == words
    assert await keys_of() == paid_under
    for view, was in zip(await views(), seen, strict=True):
        assert (view.items, view.amount_cents, view.refunded_cents) == (was.items, was.amount_cents, was.refunded_cents)
        assert view.payment and was.payment and view.payment.reference == was.payment.reference
    zero = {b"0"}
    assert [{name: n for name, n in some.items() if n not in zero} for some in await counts()] == [
        {name: n for name, n in some.items() if n not in zero} for some in before
    ]
    assert await all_of(0) == far
    records = [name async for name in redis.scan_iter(match=keys.booking(1, "*"))]
    assert {name[-36:].decode() for name in records} <= {booking for booking in street.bookings.values()} - {
        street.bookings["of another shard"]
    }
    assert not await redis.exists(keys.event(1, street.events["far"].id))


async def test_a_repair_reads_its_own_shard_and_event(street: Street) -> None:
    """What PostgreSQL tells a repair of a shard, of an event, of some bookings: all of it, each once, and nothing else."""
    office, far = street.office, street.bookings
    await declined(street)
    near = sorted(booking for booking in far.values() if ids.shard_of(booking) == 1)
    (other,) = (booking for booking in far.values() if ids.shard_of(booking) == 0)
    ago = datetime.now(UTC) - timedelta(hours=1)
    async with (await office.pool()).acquire() as connection:
        for shard, expected in ((1, near), (0, [other])):
            undecided = [
                record.id for page in [page async for page in queries.undecided(connection, shard)] for record in page
            ]
            assert undecided == expected
            assert await queries.highest_sequence(connection, shard) == len(expected)
            assert await queries.finals_since(connection, shard, ago) == []
    await street.pay("tok_ok", key="second")
    await street.settle()
    async with (await office.pool()).acquire() as connection:
        for shard, expected in ((1, near), (0, [other])):
            finals = [
                record.id
                for page in [page async for page in queries.finals(connection, shard, 60)]
                for _, record in page
            ]
            assert finals == expected
            assert sorted(await queries.finals_since(connection, shard, ago)) == expected
            assert await survey.suspects(office.shards[shard], connection) == (set(), False)
        owner = {client: ids.owner_digest(client, "ada") for client in (CLIENT, OTHER)}
        bought = [await queries.bought(connection, event.id) for event in street.events.values()]
        assert bought == [{owner[CLIENT]: 4, owner[OTHER]: 2}, {owner[CLIENT]: 2}, {owner[CLIENT]: 2}]
        assert await queries.events_of_final(connection, [street.mine]) == [street.events["mine"].id]
        assert await queries.final_statuses(connection, [street.mine]) == {street.mine: "confirmed"}
        # Their tickets came back a moment ago; of the bookings themselves nobody has written anything for long.
        for name, booking in far.items():
            await office.refunds.cancel(street.client(name), booking)
        await connection.execute("UPDATE bookings SET updated_at = now() - interval '1 day'")
        for shard, expected in ((1, near), (0, [other])):
            assert sorted(await queries.finals_since(connection, shard, ago)) == expected
        await connection.execute(
            "UPDATE stock_moves SET applied_at = NULL WHERE event_id = $1", street.events["other"].id
        )
        await connection.execute("UPDATE inventory SET total = total + 1 WHERE tier_id = $1",
                                 street.events["far"].tiers[0].id)  # fmt: skip
        assert await survey.suspects(office.shards[1], connection) == ({street.events["other"].id}, False)
        assert await survey.suspects(office.shards[0], connection) == ({street.events["far"].id}, True)


async def test_an_audit_compares_each_payment_with_its_own_refunds_and_mends_that_one(street: Street) -> None:
    """One of them was refunded in part; of `mine` we have forgotten that it was captured."""
    await confirmed(street)
    await street.till.refund(street.bookings["under another key"], "part", GA=1)
    await street.till.pump()
    audit = street.office.payments_audit
    assert [each async for each in audit.run(fix=False, grace_s=0)] == []
    await (await street.office.pool()).execute(
        "UPDATE payments SET status = 'authorized' WHERE booking_id = $1", street.mine
    )
    before = await street.traces()

    found = [each async for each in audit.run(fix=True, grace_s=0)]

    assert [(each.booking, each.mended) for each in found] == [(street.mine, True)]
    assert await street.traces() == before


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
    await office.store.change_event(event.id, customer_max=2)
    for client in (CLIENT, OTHER):
        await book(office, event, client=client, key="k", **{event.tiers[0].code: 2})
    await street.settle()
    assert sorted(map(int, (await office.redis.hvals(keys.owners(1, event.id))))) == [2, 2]  # type: ignore[misc]
