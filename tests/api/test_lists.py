"""Lists read what they show, however much there is, and agree with what reading says."""

from __future__ import annotations

import re
from typing import Any

import asyncpg
import httpx2
import pytest

from boxoffice.bookings import listing
from boxoffice.bookings.reading import BookingFilter
from boxoffice.office import BoxOffice
from boxoffice.settings import Settings
from boxoffice.states import BOOKING_STATES
from ops.stack.servers import Servers
from tests.api.conftest import Book, assert_problem
from tests.conftest import CLIENT, SaleMaker, settle_all
from tests.support.databases import DatabaseOf
from tests.support.shop.orders import OTHER
from tests.support.waiting import eventually

ROWS = 30_000

_FILL = """
INSERT INTO bookings (id, client_id, event_id, customer_id, status, amount_cents, currency, idempotency_key, fingerprint,
                      sequence, created_at, reference)
SELECT (lpad(to_hex(1700000000000 + n), 12, '0') || '70008000' || lpad(to_hex(n), 12, '0'))::uuid,
       CASE WHEN n % 3000 = 5 THEN 'other0000000' ELSE $1 END, CASE WHEN n % 3000 = 1 THEN 'rare' ELSE 'much' || n % 5 END,
       'c' || n % 1000, CASE n WHEN 2 THEN 'cancelled' WHEN 3 THEN 'expired' ELSE 'confirmed' END, 1, 'USD', md5(n::text),
       'f', n, now(), 'r' || n
FROM generate_series(1, $2::int) AS n
"""

FILTERS = [
    *(BookingFilter(status=status) for status in BOOKING_STATES),
    *(BookingFilter(event_id=event) for event in ("much1", "rare", "nothing")),
    BookingFilter(event_id="rare", status="confirmed"), BookingFilter(customer_id="c7"), BookingFilter(),
    BookingFilter(reference="r77"), BookingFilter(key_digest="0" * 32),
]  # fmt: skip

_ALL_ALIKE = """
INSERT INTO bookings (id, client_id, event_id, customer_id, status, amount_cents, currency, idempotency_key, fingerprint,
                      sequence, created_at, reference, duplicate_of)
SELECT (lpad(to_hex(1700000000000 + n), 12, '0') || '70008000' || lpad(to_hex(n), 12, '0'))::uuid,
       CASE n % 2 WHEN 0 THEN $1 ELSE 'neighbour000' END, 'much' || n / 2 % 2,
       CASE WHEN n / 4 % 3 > 0 THEN 'guest' ELSE 'c' || n END,
       CASE WHEN n / 2 % 2 = 0 AND n > 8 THEN 'failed' WHEN n / 4 % 5 = 0 THEN 'expired' ELSE 'confirmed' END, 1, 'USD',
       md5(n::text), 'f', n, now(), CASE WHEN n / 4 % 4 > 0 THEN 'campaign' END,
       CASE WHEN n % 5000 = 0 THEN gen_random_uuid() END
FROM generate_series(1, $2::int) AS n
"""
"""Two shops, each with half of all; one customer, one reference and one event in most of each."""

_ALL_IN_ORDER = "SELECT id::text FROM bookings WHERE client_id = $1 AND duplicate_of IS NULL{} ORDER BY id DESC"

HARD = [
    {"event_id": "much1", "status": "failed"}, {"event_id": "much0", "status": "confirmed"}, {"customer_id": "guest"},
    {"event_id": "much1", "status": "cancelled"}, {"customer_id": "guest", "status": "held"}, {"reference": "campaign"},
    {"customer_id": "guest", "event_id": "nothing"}, {"reference": "campaign", "status": "pending"}, {"status": "expired"},
    {"reference": "campaign", "customer_id": "nobody"}, {"reference": "campaign", "event_id": "much0", "status": "expired"},
    {"reference": "campaign", "customer_id": "guest", "event_id": "much0", "status": "confirmed"}, {"status": "failed"},
    {"event_id": "much1"}, {"event_id": "much1", "customer_id": "guest", "status": "expired"}, {"status": "confirmed"}, {},
]  # fmt: skip


async def test_a_list_reads_what_it_shows(servers: Servers, office: BoxOffice, monkeypatch: pytest.MonkeyPatch) -> None:
    """By any filter, for a shop that sells all and one that sells rarely: the rows that are read are a page or two, and
    what one customer has, never the table."""
    async with asyncpg.create_pool(servers.database_url, min_size=1, max_size=1) as pool:

        async def one_connection() -> Any:
            return pool

        monkeypatch.setattr(office.bookings, "database", DatabaseOf(one_connection))
        try:
            await pool.execute(_FILL, CLIENT, ROWS)
            await pool.execute("ANALYZE bookings")
            for client in (CLIENT, OTHER):
                for wanted in FILTERS:
                    for _ in range(7):  # PostgreSQL may plan otherwise from the sixth time on
                        before = await rows_read(pool)
                        page = await office.bookings.list(client, wanted, None, 20)
                        read = await rows_read(pool) - before
                        assert len(page.views) <= read < 1_000, (client, wanted)
                        assert len(page.views) <= 20
            (one,) = (await office.bookings.list(CLIENT, BookingFilter(status="cancelled"), None, 20)).views
            before = await rows_read(pool)
            assert (await office.bookings.get(CLIENT, one.id)).view.status == "cancelled"
            assert await rows_read(pool) - before < 10, "of one booking"
        finally:
            await pool.execute("TRUNCATE bookings CASCADE")


@pytest.mark.parametrize("analysed", [True, False])
async def test_no_list_reads_on_and_on(
    servers: Servers, office: BoxOffice, monkeypatch: pytest.MonkeyPatch, analysed: bool
) -> None:
    """However many agree with a part of the filter and few or none with the rest, beside another shop as large: a page reads
    so many rows and no more, and no more of an index, also far from the newest. Following the pages finds each of the
    shop's own once."""
    monkeypatch.setattr(listing, "LOOKED_AT", 500)
    async with asyncpg.create_pool(servers.database_url, min_size=1, max_size=1) as pool:

        async def one_connection() -> Any:
            return pool

        monkeypatch.setattr(office.bookings, "database", DatabaseOf(one_connection))
        try:
            await pool.execute(_ALL_ALIKE, CLIENT, 12_000)
            if analysed:
                await pool.execute("ANALYZE bookings")
            for chosen in HARD:
                found: list[str] = []
                cursor, pages = None, 0
                while pages == 0 or cursor:
                    rows, blocks = await rows_read(pool), await blocks_read(pool)
                    page = await office.bookings.list(CLIENT, BookingFilter(**chosen), cursor, 400)
                    assert await rows_read(pool) - rows <= 2 * 500 + 20, chosen
                    assert await blocks_read(pool) - blocks <= 60, chosen
                    found += [view.id for view in page.views]
                    cursor, pages = page.next_cursor, pages + 1
                told = " AND ".join(
                    ["client_id = $1", "duplicate_of IS NULL", *(f"{name} = '{chosen[name]}'" for name in chosen)]
                )
                expected = await pool.fetch(f"SELECT id::text FROM bookings WHERE {told} ORDER BY id DESC", CLIENT)
                assert found == [row["id"] for row in expected], chosen
        finally:
            await pool.execute("TRUNCATE bookings CASCADE")


@pytest.mark.parametrize("analysed", [True, False])
async def test_a_list_by_change_reads_as_little(
    servers: Servers, office: BoxOffice, monkeypatch: pytest.MonkeyPatch, analysed: bool
) -> None:
    """Beside another shop as large, with many changes at one time; and a filter that few or none agree with."""
    monkeypatch.setattr(listing, "LOOKED_AT", 500)
    async with asyncpg.create_pool(servers.database_url, min_size=1, max_size=1) as pool:

        async def one_connection() -> Any:
            return pool

        monkeypatch.setattr(office.bookings, "database", DatabaseOf(one_connection))
        try:
            fill = _ALL_ALIKE.replace("duplicate_of)", "duplicate_of, updated_at)")
            when = "gen_random_uuid() END, now() - interval '1 second' * (1 + n % 7)"
            await pool.execute(fill.replace("gen_random_uuid() END", when), CLIENT, 12_000)
            if analysed:
                await pool.execute("ANALYZE bookings")
            for chosen in (
                {},
                {"status": "failed"},
                {"reference": "campaign", "event_id": "much0"},
                {"customer_id": "no"},
            ):
                found: list[str] = []
                cursor, pages = None, 0
                while pages == 0 or cursor:
                    rows, blocks = await rows_read(pool), await blocks_read(pool)
                    page = await office.bookings.list(CLIENT, BookingFilter(**chosen, order="updated"), cursor, 400)
                    assert await rows_read(pool) - rows <= 2 * 500 + 20, chosen
                    assert await blocks_read(pool) - blocks <= 60, chosen
                    found += [view.id for view in page.views]
                    cursor, pages = page.next_cursor, pages + 1
                told = " AND ".join(
                    ["client_id = $1", "duplicate_of IS NULL", *(f"{name} = '{chosen[name]}'" for name in chosen)]
                )
                expected = await pool.fetch(
                    f"SELECT id::text FROM bookings WHERE {told} ORDER BY updated_at, id", CLIENT
                )  # fmt: skip
                assert found == [row["id"] for row in expected], chosen
        finally:
            await pool.execute("TRUNCATE bookings CASCADE")


async def test_what_is_rare_among_failures_is_found_page_by_page(
    servers: Servers, office: BoxOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each page reads so many rows and no more, and following them finds each booking once, in order, while others come."""
    monkeypatch.setattr(listing, "LOOKED_AT", 2_000)
    sold = [1, 4, 1_999, 2_000, 2_001, 9_001, 11_996, 12_001, 28_001, 28_002]
    async with asyncpg.create_pool(servers.database_url, min_size=1, max_size=1) as pool:

        async def one_connection() -> Any:
            return pool

        monkeypatch.setattr(office.bookings, "database", DatabaseOf(one_connection))
        try:
            rare = f"CASE WHEN n IN ({', '.join(map(str, sold))}) THEN 'confirmed' ELSE 'failed' END"
            await pool.execute(_FILL.replace("'confirmed'", rare), CLIENT, ROWS)
            await pool.execute("ANALYZE bookings")
            for wanted in (BookingFilter(status="confirmed"), BookingFilter(status="confirmed", event_id="much1")):
                found: list[str] = []
                cursor, pages = None, 0
                while pages == 0 or cursor:
                    before = await rows_read(pool)
                    page = await office.bookings.list(CLIENT, wanted, cursor, 2)
                    assert await rows_read(pool) - before <= 2 * 2_000 + 20
                    found += [view.id for view in page.views]
                    cursor, pages = page.next_cursor, pages + 1
                numbers = [int(booking.rpartition("-")[2], 16) for booking in found]
                assert numbers == [
                    n for n in reversed(sold) if wanted.event_id is None or (n % 5 == 1 and n % 3_000 != 1)
                ]
                assert pages <= ROWS // 2_000 + len(sold) + 1
        finally:
            await pool.execute("TRUNCATE bookings CASCADE")


async def rows_read(pool: asyncpg.Pool[Any]) -> int:
    """By any scan of the table, so far. The pool has one connection, which tells its counts at once."""
    await pool.execute("SELECT pg_stat_force_next_flush()")
    read: int = await pool.fetchval(
        "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables WHERE relname = 'bookings'"
    )
    return read


async def blocks_read(pool: asyncpg.Pool[Any]) -> int:
    """Of the indexes of the table, so far."""
    await pool.execute("SELECT pg_stat_force_next_flush()")
    read: int = await pool.fetchval(
        "SELECT sum(idx_blks_hit + idx_blks_read)::int FROM pg_statio_user_indexes WHERE relname = 'bookings'"
    )
    return read


@pytest.fixture
async def extended(api: httpx2.AsyncClient, book: Book, open_sale: SaleMaker, office: BoxOffice) -> str:
    """A hold that was declined once and then extended."""
    event = await open_sale(GA=10)
    booking = (await book(event, payment=...)).json()["id"]
    declined = {"method": "card", "token": "tok_card_declined"}
    await api.post(f"/v1/bookings/{booking}/payment", json=declined, headers={"Idempotency-Key": "p1"})
    await settle_all(office)
    assert (await api.post(f"/v1/bookings/{booking}/extend", json={"extra_s": 300})).status_code == 200
    return str(booking)


async def test_list_and_read_agree_after_an_extension(
    api: httpx2.AsyncClient, office: BoxOffice, extended: str, servers: Servers, settings: Settings
) -> None:
    """While it is held, while it is paid, and for ever after, when PostgreSQL alone remembers."""
    read = (await api.get(f"/v1/bookings/{extended}")).json()
    for parameters in ({}, {"status": "held"}):
        said = await listed(api, **parameters)
        assert 0 < said["expires_in_s"] <= read["expires_in_s"], "time goes on between the two"
        assert said | {"expires_in_s": 0} == read | {"expires_in_s": 0}
    connection = await asyncpg.connect(servers.database_url)
    at = await connection.fetchval("SELECT expires_at FROM bookings WHERE id = $1::uuid", extended)
    await connection.close()
    assert at.strftime("%Y-%m-%dT%H:%M:%S") == read["expires_at"][:19], "a rebuild puts it back as it is"

    paid = {"method": "card", "token": "tok_ok"}
    await api.post(f"/v1/bookings/{extended}/payment", json=paid, headers={"Idempotency-Key": "p2"})
    pending = (await api.get(f"/v1/bookings/{extended}")).json()
    assert (pending["status"], (await listed(api))["status"]) == ("pending", "pending")
    assert (await api.get("/v1/bookings", params={"status": "held"})).json()["data"] == []

    await settle_all(office)
    await office.redis.flushall()
    old = (await api.get(f"/v1/bookings/{extended}")).json()
    assert (old["status"], old["expires_at"]) == ("confirmed", read["expires_at"])
    assert await listed(api) == old


async def listed(api: httpx2.AsyncClient, **wanted: str) -> dict[str, Any]:
    (booking,) = (await api.get("/v1/bookings", params=wanted)).json()["data"]
    return dict(booking)


async def test_each_filter_leaves_out_what_differs(
    api: httpx2.AsyncClient, book: Book, office: BoxOffice, open_sale: SaleMaker
) -> None:
    """In that one thing, and each filter alone."""
    event, other = await open_sale(GA=10), await open_sale(GA=10)
    one = {"customer_id": "ada", "reference": "r-1"}
    made = {
        "it": (await book(event, key="k-1", **one)).json()["id"],
        "customer_id": (await book(event, key="k-2", **one | {"customer_id": "bob"})).json()["id"],
        "reference": (await book(event, key="k-3", **one | {"reference": "r-2"})).json()["id"],
        "event_id": (await book(other, key="k-1", **one)).json()["id"],
    }
    await settle_all(office)
    for name, value in {**one, "event_id": event.id}.items():
        page = (await api.get("/v1/bookings", params={name: value})).json()["data"]
        assert {booking["id"] for booking in page} == set(made.values()) - {made[name]}, name
    both = {"event_id": event.id, "idempotency_key": "k-1"}
    for wanted, found in (({}, ["it"]), ({"reference": "r-1"}, ["it"]), ({"reference": "r-2"}, [])):
        page = (await api.get("/v1/bookings", params=both | wanted)).json()["data"]
        assert [booking["id"] for booking in page] == [made[name] for name in found]
    for status, count in (("confirmed", 4), ("held", 0)):
        assert len((await api.get("/v1/bookings", params={"status": status})).json()["data"]) == count


@pytest.mark.parametrize(
    ("wanted", "parameter", "code"),
    [
        ({"order": "odd"}, "order", "unknown"), ({"order": ""}, "order", "length"),
        ({"updated_since": "yesterday"}, "updated_since", "time"),
        ({"updated_since": "2030-05-22T14:00:00"}, "updated_since", "time"),
        ({"updated_since": "0001-01-01T00:00:00+14:00"}, "updated_since", "time"),
        ({"order": "updated", "status": "held"}, "order", "not_together"),
        ({"updated_since": "2030-05-22T14:00:00Z", "status": "held"}, "updated_since", "not_together"),
        ({"order": "updated", "idempotency_key": "k"}, "order", "not_together"),
        ({"updated_since": "2030-05-22T14:00:00Z", "idempotency_key": "k"}, "updated_since", "not_together"),
        ({"order": "updated", "cursor": "AAAAAAAAAAAAAAAAAAAAAA"}, "cursor", "cursor"),
        ({"order": "created", "cursor": "A" * 32}, "cursor", "cursor"),
    ],
)  # fmt: skip
async def test_what_cannot_be_listed_is_told_by_its_parameter(
    api: httpx2.AsyncClient, wanted: dict[str, str], parameter: str, code: str
) -> None:
    problem = assert_problem(await api.get("/v1/bookings", params=wanted), 400, "malformed-request")
    assert problem["errors"] == [{"parameter": parameter, "code": code}]


async def test_lists_over_http_have_both_orders_and_holds(
    api: httpx2.AsyncClient, book: Book, office: BoxOffice, open_sale: SaleMaker
) -> None:
    """A hold at once, without a payment; what was refunded in part has changed last."""
    event = await open_sale(GA=20)
    one, two = [(await book(event, 2)).json()["id"] for _ in range(2)]
    held = (await book(event, payment=...)).json()["id"]
    await settle_all(office)

    async def ids_of(**wanted: str) -> list[str]:
        return [each["id"] for each in (await api.get("/v1/bookings", params=wanted)).json()["data"]]

    async def came(*expected: str) -> bool:
        return await ids_of(order="updated") == [*expected]

    assert await ids_of(status="held") == [held]
    assert await ids_of(order="created") == await ids_of() == sorted((one, two), reverse=True)
    some = {"items": [{"tier_id": event.tiers[0].id, "quantity": 1}]}
    await api.post(f"/v1/bookings/{one}/refunds", json=some, headers={"Idempotency-Key": "r"})
    await eventually(lambda: came(two, one))
    for since in ("2999-01-01T00:00:00+02:00", "2999-01-01T00:00:00Z"):
        assert await ids_of(updated_since=since) == await ids_of(updated_since=since, order="updated") == []
    assert await ids_of(updated_since="2020-01-01T00:00:00.5Z", order="updated") == [two, one]

    page = (await api.get("/v1/bookings", params={"order": "updated"})).json()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", page["as_of"])
    assert await ids_of(order="updated", updated_since=page["as_of"]) == []
    assert "as_of" not in (await api.get("/v1/bookings")).json()
