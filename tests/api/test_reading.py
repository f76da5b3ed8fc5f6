"""Reading bookings back over HTTP, alone and in lists."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest

from boxoffice import ids
from boxoffice.errors import CannotRun, NotFound, StoreAway
from boxoffice.office import BoxOffice, open_box_office
from boxoffice.settings import Settings
from boxoffice.stores import keys
from boxoffice.stores.durability import check_shards
from tests.api.conftest import Book, assert_problem
from tests.conftest import CLIENT, OTHER_KEY, SaleMaker, settle_all
from tests.support.shop.office import book
from worker.app import WorkerApp


@pytest.fixture(params=[1, 4], ids=["1 shard", "4 shards"])
def shards(request: pytest.FixtureRequest) -> int:
    return int(request.param)


async def test_a_booking_reads_the_same_from_both_stores(
    api: httpx2.AsyncClient, book: Book, office: BoxOffice, open_sale: SaleMaker
) -> None:
    """Redis tells of a fresh booking; when it has forgotten, PostgreSQL tells the same."""
    event = await open_sale(GA=10)
    location = (await book(event)).headers["location"]
    await settle_all(office)
    fresh = (await api.get(location)).json()

    await office.redis.delete(keys.booking(event.shard, fresh["id"]))
    old = (await api.get(location)).json()

    assert fresh["status"] == "confirmed"
    assert fresh["payment"]["status"] == "authorized", "Redis heard of the settlement, not of the capture"
    assert old["payment"]["status"] == "captured"
    old["payment"]["status"] = "authorized"
    assert old == fresh


async def test_nobody_sees_anothers_booking(api: httpx2.AsyncClient, book: Book, office: BoxOffice,
                                            open_sale: SaleMaker) -> None:  # fmt: skip
    """Neither fresh nor settled, neither alone nor in a list: it does not exist."""
    event = await open_sale(GA=10)
    location = (await book(event)).headers["location"]
    other = {"Authorization": f"Bearer {OTHER_KEY}"}

    assert_problem(await api.get(location, headers=other), 404, "not-found")
    await settle_all(office)
    await office.redis.delete(keys.booking(event.shard, location.rsplit("/", 1)[1]))
    assert_problem(await api.get(location, headers=other), 404, "not-found")
    assert (await api.get("/v1/bookings", headers=other)).json() == {"data": [], "next_cursor": None}


@pytest.mark.parametrize("name", ["x", "0193e2a0-1234-4abc-8def-0123456789ab", "%00", "4242424242424242"])
async def test_what_can_be_no_booking_is_not_found(api: httpx2.AsyncClient, name: str) -> None:
    answer = await api.get(f"/v1/bookings/{name}")

    assert_problem(answer, 404, "not-found")
    assert name not in answer.text


async def test_404_needs_the_word_of_both_stores(
    api: httpx2.AsyncClient, office: BoxOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A booking that Redis lacks may yet be PostgreSQL's, and the other way round."""
    path = f"/v1/bookings/{ids.booking_id(office.settings.shards - 1, 1_763_840_000_000)}"
    assert_problem(await api.get(path), 404, "not-found")

    async def away(*_: Any) -> Any:
        raise StoreAway

    with monkeypatch.context() as patch:
        patch.setattr(office.bookings.rows, "read", away)
        answer = await api.get(path)
        assert_problem(answer, 503, "store-away")
        assert answer.headers["retry-after"] == "1"
    with monkeypatch.context() as patch:
        patch.setattr(office.bookings.records, "read", away)
        assert_problem(await api.get(path), 503, "store-away")


async def test_postgresql_tells_what_redis_was_not_told(
    api: httpx2.AsyncClient, book: Book, office: BoxOffice, open_sale: SaleMaker
) -> None:
    """A worker died between the commit and telling Redis: after two seconds PostgreSQL is asked."""
    event = await open_sale(GA=10)
    booking = (await book(event)).json()["id"]
    name = keys.booking(event.shard, booking)
    pending = await office.redis.get(name)
    await settle_all(office)
    state, sequence, admitted_ms, rest = pending.split(b"|", 3)
    older = b"|".join((state, sequence, str(int(admitted_ms) - 3_000).encode(), rest))
    await office.redis.set(name, older)

    assert (await api.get(f"/v1/bookings/{booking}")).json()["status"] == "confirmed"


async def test_a_booking_made_twice_answers_the_first(
    api: httpx2.AsyncClient, book: Book, office: BoxOffice, open_sale: SaleMaker
) -> None:
    """Redis forgot the key, so it was admitted again: whoever asks for the second is told of the first."""
    event = await open_sale(GA=10)
    first = (await book(event, key="k")).json()["id"]
    await settle_all(office)
    scope = ids.scope("shop00000000", event.id, ids.digest("k"))
    await office.redis.delete(keys.idempotency(event.shard, scope), keys.booking(event.shard, first))
    second = (await book(event, key="k")).json()["id"]
    assert second != first
    await settle_all(office)

    for _ in range(2):  # from Redis, then from PostgreSQL
        answer = await api.get(f"/v1/bookings/{second}")
        assert answer.status_code == 200
        assert answer.headers["content-location"] == f"/v1/bookings/{first}"
        assert (answer.json()["id"], answer.json()["status"]) == (first, "confirmed")
        await office.redis.delete(keys.booking(event.shard, second))
    assert [booking["id"] for booking in (await api.get("/v1/bookings")).json()["data"]] == [first]


async def test_a_key_used_for_another_request_fails_even_when_redis_has_forgotten_it(
    api: httpx2.AsyncClient, book: Book, office: BoxOffice, open_sale: SaleMaker
) -> None:
    """The first booking is no answer to it: it ends failed, with everything that was asked for, and nobody pays."""
    event = await open_sale(GA=10)
    first = (await book(event, 1, key="k")).json()["id"]
    await settle_all(office)
    scope = ids.scope("shop00000000", event.id, ids.digest("k"))
    await office.redis.delete(keys.idempotency(event.shard, scope), keys.booking(event.shard, first))

    second = (await book(event, 3, key="k")).json()["id"]
    await settle_all(office)

    for _ in range(2):  # from Redis, then from PostgreSQL
        told = (await api.get(f"/v1/bookings/{second}")).json()
        assert (told["id"], told["status"], told["items"][0]["quantity"]) == (second, "failed", 3)
        assert told["failure"]["code"] == "idempotency_key_reused"
        query = {"event_id": event.id, "idempotency_key": "k"}
        assert [found["id"] for found in (await api.get("/v1/bookings", params=query)).json()["data"]] == [first]
        await office.redis.delete(keys.booking(event.shard, second))
    assert len([record async for record in office.gateway.records()]) == 1
    assert await (await office.pool()).fetchval("SELECT sum(sold) FROM inventory") == 1


async def test_a_list_is_paged_newest_first(
    api: httpx2.AsyncClient, book: Book, office: BoxOffice, open_sale: SaleMaker
) -> None:
    event = await open_sale(GA=10)
    made = [(await book(event, customer_id=f"customer-{n % 2}", reference=f"r{n}")).json()["id"] for n in range(5)]
    await settle_all(office)

    async def pages(**wanted: Any) -> list[str]:
        found, cursor = [], None
        while True:
            query = wanted | ({"cursor": cursor} if cursor else {})
            page = (await api.get("/v1/bookings", params=query)).json()
            found += [booking["id"] for booking in page["data"]]
            assert len(page["data"]) <= wanted.get("limit", 20)
            if (cursor := page["next_cursor"]) is None:
                return found

    newest_first = sorted(made, reverse=True)
    assert await pages(limit=2) == newest_first
    assert await pages(limit=5) == newest_first
    assert sorted(await pages(customer_id="customer-1")) == sorted([made[1], made[3]])
    assert await pages(reference="r4", status="confirmed", event_id=event.id) == [made[4]]
    assert await pages(status="failed") == []


async def test_a_lost_answer_is_found_by_its_key(
    api: httpx2.AsyncClient, book: Book, office: BoxOffice, open_sale: SaleMaker
) -> None:
    """At once, before PostgreSQL has heard of the booking, and afterwards."""
    event = await open_sale(GA=10)
    booking = (await book(event, key="lost")).json()["id"]
    query = {"event_id": event.id, "idempotency_key": "lost"}

    assert [found["id"] for found in (await api.get("/v1/bookings", params=query)).json()["data"]] == [booking]
    await settle_all(office)
    await office.redis.flushall()
    assert [found["id"] for found in (await api.get("/v1/bookings", params=query)).json()["data"]] == [booking]
    assert (await api.get("/v1/bookings", params=query | {"status": "failed"})).json()["data"] == []


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("limit=0", "limit"), ("limit=x", "limit"), ("limit=101", "limit"), ("limit=" + "9" * 5_000, "limit"),
        ("status=sold", "status"), ("cursor=%00", "cursor"), ("cursor=abc", "cursor"), ("cursor=é", "cursor"),
        ("customer_id=%00", "customer_id"), ("reference=", "reference"), ("reference=" + "x" * 300, "reference"),
        ("event_id=a%0Ab", "event_id"),
    ],
)  # fmt: skip
async def test_a_malformed_query_is_refused(api: httpx2.AsyncClient, query: str, parameter: str) -> None:
    problem = assert_problem(await api.get(f"/v1/bookings?{query}"), 400, "malformed-request")

    assert problem["errors"][0]["parameter"] == parameter


@pytest.mark.parametrize("shards", [4])
async def test_fewer_shards_lose_nobodys_booking(
    office: BoxOffice, open_sale: SaleMaker, settings: Settings, shards: int
) -> None:
    """An event stays in its shard. Whoever starts with fewer is told, and until then reads are answered."""
    _, _, event = [await open_sale(shard=shard, GA=10) for shard in range(3)]
    pending, settled = (await book(office, event, GA=1)).booking_id, (await book(office, event, GA=1)).booking_id
    fewer = settings.model_copy(update={"shards": 2})
    async with open_box_office(fewer) as small:
        for booking in (pending, settled):
            with pytest.raises(StoreAway):
                await small.bookings.get(CLIENT, booking)
        await settle_all(office)
        await office.redis.delete(keys.booking(event.shard, settled))
        for booking in (pending, settled):
            assert (await small.bookings.get(CLIENT, booking)).view.status == "confirmed"
        unknown = ids.booking_id(9, 1_790_000_000_000)
        with pytest.raises(NotFound):
            await small.bookings.get(CLIENT, unknown)

        with pytest.raises(CannotRun, match=r"BOXOFFICE_SHARDS is 2\. Set it to 3 or more"):
            async with asyncio.timeout(20):
                await WorkerApp(small).run()
        assert "BOXOFFICE_SHARDS" in (await small.readiness.reasons())["postgresql"]
    for enough in (3, 4):
        await check_shards(await office.pool(), settings.model_copy(update={"shards": enough}))
