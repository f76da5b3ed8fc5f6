"""What is repaired of one booking, event or shard is repaired of no other. See `tests.support.neighbours`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from boxoffice import ids
from boxoffice.books import bought, queries
from boxoffice.books.moves import apply_moves
from boxoffice.errors import StoreAway
from boxoffice.repair import survey
from boxoffice.stores import keys
from tests.conftest import CLIENT, Counters, counters
from tests.support.checks import check_at_rest
from tests.support.circumstances import (
    Act,
    confirmed,
    declined,
    in_two_payments,
    refunds_due,
    voids_due,
)
from tests.support.neighbours import OTHERS, Street
from tests.support.shop.orders import OTHER, tier_of
from tests.support.shop.script import counts_of_unpaid


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
        theirs = [await bought.of_everybody(connection, event.id) for event in street.events.values()]
        ga = [tier_of(event, "GA") for event in street.events.values()]
        assert theirs == [
            {owner[CLIENT]: f"{ga[0]}:4", f"@{CLIENT}": f"{ga[0]}:4", owner[OTHER]: f"{ga[0]}:2", f"@{OTHER}": f"{ga[0]}:2"},
            *({owner[CLIENT]: f"{tier}:2", f"@{CLIENT}": f"{tier}:2"} for tier in ga[1:]),
        ]  # fmt: skip
        assert [await bought.of_shops(connection, event.id) for event in street.events.values()] == [
            {shop: items for shop, items in each.items() if shop[0] == "@"} for each in theirs
        ]
        assert await queries.events_of_final(connection, [street.mine]) == [street.events["mine"].id]
        assert await queries.final_ends(connection, [street.mine]) == {
            street.mine: ("confirmed", f"{tier_of(street.events['mine'], 'GA')}:2")
        }
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
