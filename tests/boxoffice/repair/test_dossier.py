"""What an operator is told of one booking: of that one, from whichever shard, and from every store that answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

from boxoffice import ids
from boxoffice.errors import NotFound
from boxoffice.office import BoxOffice
from boxoffice.repair.dossier import describe
from boxoffice.stores import keys
from boxoffice.stores.record import Body, Charge, Line, Outcome, Payload, Record
from tests.conftest import SaleMaker
from tests.support.databases import DatabaseOf
from tests.support.houses import House, Houses, open_houses

SHARD = 1


@pytest.fixture
async def houses(office: BoxOffice, open_sale: SaleMaker) -> AsyncIterator[Houses]:
    async for houses in open_houses(office, open_sale):
        await houses.fill()
        yield houses


async def dossier(house: House, kind: str) -> dict[str, Any]:
    return await house.office.dossiers.of(house.booked[kind])


async def test_it_tells_of_one_booking_only(houses: Houses) -> None:
    """Its rows, its place in Redis, its payment at the gateway; others of the same event have as many."""
    house = houses.of(SHARD)[1]
    pool = await house.office.pool()
    for kind in ("part", "sold"):
        await pool.execute(
            "INSERT INTO dead_letters (booking_id, record, error, attempts) VALUES ($1, '', $2, 1)",
            house.booked[kind], kind,
        )  # fmt: skip

    found = await dossier(house, "part")

    assert found["booking_id"] == house.booked["part"]
    rows = found["postgres"]
    (booking,), (payment,), (refund,), (letter,) = (
        rows[name] for name in ("booking", "payments", "refunds", "dead_letter")
    )
    assert (str(booking["id"]), booking["status"], booking["customer_id"]) == (house.booked["part"], "confirmed", "bob")
    assert sorted((row["quantity"], row["unit_price_cents"], row["refunded"]) for row in rows["items"]) == [
        (2, 1_000, 1), (2, 2_000, 1),
    ]  # fmt: skip
    assert (payment["amount_cents"], refund["amount_cents"], letter["error"]) == (6_000, 3_000, "part")
    assert [row["sold_delta"] for row in rows["stock_moves"]] == [-1, -1]
    assert list(found["gateway"]) == [payment["payment_key"]]
    assert found["gateway"][payment["payment_key"]]["answer"] == "Found"
    redis = found["redis"]
    record = await house.record(house.booked["part"])
    assert record is not None
    assert (redis["state"], redis["customer"], redis["event"]) == ("confirmed", "bob", house.event.id)
    assert (redis["items"], redis["amount_cents"]) == (record.items, 6_000)
    assert 80_000 < redis["ttl_s"] <= 86_400
    assert not {"claimable_at", "deadline", "parked_at"} & set(redis)


async def test_it_tells_where_a_booking_stands_in_redis(houses: Houses) -> None:
    """Held until its deadline, claimable, parked: in the sets of its shard."""
    house = houses.of(SHARD)[0]
    held, waiting = await dossier(house, "held"), await dossier(house, "waiting")
    assert (held["redis"]["state"], held["redis"]["ttl_s"]) == ("held", -1)
    assert held["redis"]["deadline"] == held["redis"]["expires_at"] is not None
    assert held["postgres"] is None and held["gateway"] == {}, "no payment was tried"
    assert (waiting["redis"]["state"], "claimable_at" in waiting["redis"]) == ("pending", True)
    assert "next_action" not in str(waiting["redis"]) and "tok_" not in str(waiting["redis"])
    await house.office.redis.zadd(keys.dead(SHARD), {house.booked["waiting"]: 1_000})
    assert (await dossier(house, "waiting"))["redis"]["parked_at"].startswith("1970-01-01T00:00:01")


async def test_a_booking_that_one_store_lacks_is_told_by_the_other(houses: Houses) -> None:
    """Or that one cannot read; and one that neither has is not found."""
    house = houses.of(SHARD)[0]
    redis, booking = house.office.redis, house.booked["sold"]
    await redis.delete(keys.booking(SHARD, booking))
    found = await dossier(house, "sold")
    assert (found["redis"], found["postgres"]["booking"][0]["status"]) == (None, "confirmed")
    assert len(found["gateway"]) == 1, "asked by the row"
    await redis.set(keys.booking(SHARD, booking), "nonsense")
    assert (await dossier(house, "sold"))["redis"] == {"state": "unreadable", "bytes": 8}
    await redis.delete(keys.booking(SHARD, booking))
    await redis.zadd(keys.pending(SHARD), {booking: 1_000})
    assert (await dossier(house, "sold"))["redis"]["state"] == "missing"
    for name in (ids.booking_id(SHARD, 1), "nonsense"):
        with pytest.raises(NotFound):
            await house.office.dossiers.of(name)


RECORD = Record(
    "id", "H", 7, 1_764_000_000_123, 1_764_000_600_456, "pay", "scope", "print", "event", "owner", "t:1", "2ex",
    Body("shop", "ada", 1_000, "USD", (Line("t", 1, 1_000),), "ref"), Payload(Charge("card", "tok", "Ada", "4242"), key="k"),
)  # fmt: skip
DESCRIBED = {
    "state": "held", "sequence": 7, "admitted_at": "2025-11-24T16:00:00.123Z", "expires_at": "2025-11-24T16:10:00.456Z",
    "event": "event", "client": "shop", "customer": "ada", "items": "t:1", "amount_cents": 1_000, "currency": "USD",
    "payment_key": "pay", "attempts": 2, "extended": True, "cancel_requested": True, "revived": False,
    "payment": {"status": "pending", "method": "card", "last4": "4242"}, "failure": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "described"),
    [
        ({}, {}),
        ({"state": "?"}, {"state": "?"}),
        ({"deadline_ms": 0}, {"expires_at": None}),
        ({"tries": "0r"}, {"attempts": 0, "extended": False, "cancel_requested": False, "revived": True}),
        ({"payload": Payload(failure="poison")}, {"payment": None, "failure": "poison"}),
        ({"payload": Payload(RECORD.payload.charge, Outcome("declined", "card", "0002"))},
         {"payment": {"status": "declined", "method": "card", "last4": "0002"}}),
    ],
)  # fmt: skip
def test_every_value_of_a_record_is_told_but_for_its_secrets(change: dict[str, Any], described: dict[str, Any]) -> None:
    assert describe(replace(RECORD, **change)) == DESCRIBED | described


@pytest.mark.parametrize("store", ["redis", "postgres"])
async def test_a_store_that_does_not_answer_is_told_of(
    houses: Houses, monkeypatch: pytest.MonkeyPatch, store: str
) -> None:
    """The other one tells what it has, and the gateway is asked about that."""
    house = houses.of(SHARD)[0]
    dossiers = house.office.dossiers

    def away(*_: object, **__: object) -> Any:
        raise ConnectionResetError

    if store == "redis":
        monkeypatch.setattr(dossiers.shards[0].redis, "pipeline", away)
    else:
        monkeypatch.setattr(dossiers, "database", DatabaseOf(away))
    found = await dossier(house, "sold")
    other = "postgres" if store == "redis" else "redis"
    assert found[store] == {"error": "ConnectionResetError"}
    assert "error" not in found[other]
    assert [each["answer"] for each in found["gateway"].values()] == ["Found"]
    for where in found["redis"], found["postgres"]:
        assert where is not None


async def test_a_payment_is_asked_for_by_what_each_store_knows(houses: Houses, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its reference from PostgreSQL; one that only Redis knows without; one that costs nothing, and one in other books, not
    at all."""
    house = houses.of(SHARD)[0]
    asked: list[tuple[str, str | None]] = []
    lookup = house.office.dossiers.gateway.lookup

    async def seen(key: str, reference: str | None) -> Any:
        asked.append((key, reference))
        return await lookup(key, reference)

    monkeypatch.setattr(house.office.dossiers.gateway, "lookup", seen)
    booking = house.booked["sold"]
    record = await house.record(booking)
    assert record is not None
    (payment,) = await house.fetch("SELECT payment_key, reference FROM payments WHERE booking_id = $1", booking)
    await dossier(house, "sold")
    await house.fetch("UPDATE payments SET gateway = 'stripe/live/acct_1' WHERE booking_id = $1", booking)
    elsewhere = await dossier(house, "sold")
    assert asked == [(payment["payment_key"], payment["reference"])]
    books = house.office.dossiers.gateway.books
    assert elsewhere["gateway"] == {
        payment["payment_key"]: {"answer": "NotAsked", "books": "stripe/live/acct_1", "ours": books}
    }
    asked.clear()
    await house.fetch("UPDATE payments SET booking_id = gen_random_uuid() WHERE booking_id = $1", booking)
    await dossier(house, "sold")
    assert asked == [(record.payment_key, None)]
    asked.clear()
    free = replace(record, body=Body(record.body.client, "ann", 0, "USD", (Line(record.body.lines[0].tier, 3, 0),)))
    await house.office.redis.set(keys.booking(SHARD, booking), free.pack())
    await dossier(house, "sold")
    assert asked == []
