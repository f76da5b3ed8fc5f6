"""The feed: every notice gets one place, whoever commits when, and who follows the places passes nothing over."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from boxoffice.errors import CursorGone
from boxoffice.notices import reading
from boxoffice.notices.cursors import ALL_READ, Cursor
from boxoffice.notices.reading import Notices, number
from boxoffice.notices.writing import write
from boxoffice.office import BoxOffice
from tests.conftest import eventually
from tests.support.shop.orders import CLIENT, OTHER
from tests.support.waiting import true_soon

TYPE = "booking.changed"

_INSERT = """
INSERT INTO notices (client_id, type, size, bookings, details) VALUES ($1, $2, $3, $4::uuid[], $5::jsonb) RETURNING id
"""


async def put(connection: Any, client: str = CLIENT, size: int = 1, what: str = "{}", type_: str = TYPE) -> int:
    """A notice of so many bookings."""
    bookings = [UUID(int=n) for n in range(size)]
    return int(await connection.fetchval(_INSERT, client, type_, size, bookings, what))


async def read_all(
    notices: Notices, client: str, cursor: Cursor, most: int = 500
) -> tuple[list[reading.Notice], Cursor]:
    """Page by page, to the end."""
    found: list[reading.Notice] = []
    more = True
    while more:
        page = await notices.after(client, cursor, most=most)
        found, cursor, more = found + page.notices, page.cursor, page.more
    return found, cursor


@pytest.fixture
async def pool(office: BoxOffice) -> asyncpg.Pool[Any]:
    return await office.pool()


@pytest.fixture
async def notices(office: BoxOffice) -> Notices:
    return office.notices


@pytest.fixture
async def late(office: BoxOffice) -> AsyncIterator[Any]:
    """A session whose transaction has begun."""
    connection = await asyncpg.connect(office.settings.database_url)
    await connection.execute("BEGIN")
    yield connection
    await connection.close()


async def test_who_commits_late_is_passed_over_by_nobody(notices: Notices, pool: Any, late: Any) -> None:
    """Its id is the lower one. Who follows ids has read the higher one by then."""
    first = await put(late, what='{"n": 1}')
    second = await put(pool, what='{"n": 2}')
    assert first < second
    assert await notices.number() == 1
    page = await notices.after(CLIENT, await notices.start())
    assert [notice.data["n"] for notice in page.notices] == [2]
    await late.execute("COMMIT")
    assert await notices.number() == 1
    page = await notices.after(CLIENT, page.cursor)
    assert [notice.data["n"] for notice in page.notices] == [1]
    assert page.cursor == await notices.head()


async def test_fifty_writers_and_slow_commits(office: BoxOffice, notices: Notices) -> None:
    """Each changes a booking again and again, and waits before it commits; three give places meanwhile, and two read. Every
    reader has every notice once, those of a booking in the order of its changes."""
    writers, changes, bookings = 50, 8, 12
    chance = random.Random(18)
    pool = await asyncpg.create_pool(office.settings.database_url, min_size=writers, max_size=writers + 6)
    await pool.execute("CREATE TABLE turns (booking int PRIMARY KEY, turn int)")
    await pool.execute("INSERT INTO turns SELECT n, 0 FROM generate_series(0, $1::int - 1) n", bookings)
    done = asyncio.Event()

    async def write_some() -> None:
        for _ in range(changes):
            booking = chance.randrange(bookings)
            async with pool.acquire() as connection, connection.transaction():
                if chance.random() < 0.3:  # an old transaction id, and a lock that is waited for
                    await connection.fetchval("SELECT txid_current()")
                turn = await connection.fetchval(
                    "UPDATE turns SET turn = turn + 1 WHERE booking = $1 RETURNING turn", booking
                )
                client = (CLIENT, OTHER)[booking % 2]
                await write(connection, client, TYPE, {"booking": booking, "turn": turn})
                await connection.execute("SELECT pg_sleep($1)", chance.random() * 0.02)

    async def give_places() -> None:
        while not done.is_set():
            async with pool.acquire() as connection, connection.transaction():
                await number(connection)
            await asyncio.sleep(0)

    async def read(client: str) -> list[tuple[int, int]]:
        cursor, found = await notices.start(), list[reading.Notice]()
        while True:
            last = done.is_set()
            more, cursor = await read_all(notices, client, cursor, most=7)
            found += more
            if last:
                assert len({notice.id for notice in found}) == len(found)
                return [(notice.data["booking"], notice.data["turn"]) for notice in found]

    try:
        places = [asyncio.create_task(give_places()) for _ in range(3)]
        readers = [asyncio.create_task(read(client)) for client in (CLIENT, OTHER)]
        await asyncio.gather(*(write_some() for _ in range(writers)))
        await eventually(lambda: pool.fetchval("SELECT NOT EXISTS (SELECT FROM notices WHERE position IS NULL)"))
        done.set()
        await asyncio.gather(*places)
        seen = [each for reader in readers for each in await reader]
        turns = dict(await pool.fetch("SELECT booking, turn FROM turns"))
    finally:
        done.set()
        await pool.execute("DROP TABLE turns")
        await pool.close()
    assert sum(turns.values()) == writers * changes == len(seen)
    for booking, last in turns.items():
        assert [turn for each, turn in seen if each == booking] == list(range(1, last + 1))
    assert (await notices.head()).position == writers * changes


async def test_an_older_transaction_that_waited_comes_behind(notices: Notices, pool: Any, late: Any) -> None:
    """Its transaction id is the lower one, and its change the later one: places follow neither ids of transactions nor
    times."""
    await pool.execute("CREATE TABLE turns (turn int)")
    try:
        await pool.execute("INSERT INTO turns VALUES (0)")
        old = await late.fetchval("SELECT txid_current()")
        async with pool.acquire() as connection, connection.transaction():
            assert await connection.fetchval("SELECT txid_current()") > old
            await connection.execute("UPDATE turns SET turn = 1")
            await put(connection, what='{"turn": 1}')
        await late.execute("UPDATE turns SET turn = 2")
        await put(late, what='{"turn": 2}')
        await late.execute("COMMIT")
    finally:
        await pool.execute("DROP TABLE turns")
    await notices.number()
    found, _ = await read_all(notices, CLIENT, await notices.start())
    assert [notice.data["turn"] for notice in found] == [1, 2]
    assert found[0].at > found[1].at, "the time of a transaction is that of its beginning"


async def test_a_shop_reads_its_own(notices: Notices, pool: Any) -> None:
    await put(pool, what='{"n": 1}')
    await put(pool, OTHER, what='{"n": 2}')
    await put(pool, what='{"n": 3}', type_="event.changed")
    await notices.number()
    start = await notices.start()
    mine, theirs = await notices.after(CLIENT, start), await notices.after(OTHER, start)
    assert [notice.data["n"] for notice in mine.notices] == [1, 3]
    assert [notice.data["n"] for notice in theirs.notices] == [2]
    assert not mine.more and mine.cursor == theirs.cursor == await notices.head()
    some = await notices.after(CLIENT, start, types=["event.changed", "booking.held"])
    assert [notice.data["n"] for notice in some.notices] == [3]
    none = await notices.after(CLIENT, start, types=["booking.held"])
    assert (none.notices, none.cursor, none.more) == ([], await notices.head(), False)
    assert (await notices.after("nobody000000", start)).cursor == await notices.head()


@pytest.mark.parametrize("most", [1, 2, 3, 4, 6, 7, 100])
async def test_a_batch_is_read_in_parts(notices: Notices, pool: Any, most: int) -> None:
    for n, size in enumerate((3, 1, 2)):
        await put(pool, size=size, what=f'{{"n": {n}}}')
        await put(pool, OTHER, size=5)
    await notices.number()
    found, cursor = await read_all(notices, CLIENT, await notices.start(), most)
    assert [(notice.data["n"], UUID(notice.booking_id).int) for notice in found] == [
        (0, 0), (0, 1), (0, 2), (1, 0), (2, 0), (2, 1),
    ]  # fmt: skip
    assert len({notice.id for notice in found}) == 6
    assert cursor == await notices.head()
    for at, notice in enumerate(found):
        rest, _ = await read_all(notices, CLIENT, notice.cursor, most)
        assert [each.id for each in rest] == [each.id for each in found[at + 1 :]]


async def test_what_a_notice_says(notices: Notices, pool: Any) -> None:
    await pool.execute(
        "INSERT INTO notices (client_id, event_id, type, size, bookings, keys, cents, details) "
        "VALUES ($1, 'e', 'refund.failed', 2, $2, '{a,b}', '{10,20}', '{\"failure_code\": \"no\"}')",
        CLIENT, [UUID(int=1), UUID(int=2)],
    )  # fmt: skip
    await write(pool, CLIENT, "webhook_endpoint.disabled", {"endpoint_id": "x", "reason": "gone"})
    await notices.number()
    first, second, third = (await notices.after(CLIENT, await notices.start())).notices
    assert (first.type, first.event_id, first.booking_id) == ("refund.failed", "e", str(UUID(int=1)))
    assert first.data == {"failure_code": "no", "status": "owed", "amount_cents": 10, "refund_id": "a"}
    assert second.data == {"failure_code": "no", "status": "owed", "amount_cents": 20, "refund_id": "b"}
    assert (third.booking_id, third.event_id, third.data) == (None, None, {"endpoint_id": "x", "reason": "gone"})
    head = await notices.head()
    assert [notice.id for notice in (first, second)] == [f"n_1_{first.cursor.nonce:x}_{n}" for n in (0, 1)]
    assert third.id == f"n_2_{head.nonce:x}_0" and third.cursor == head


async def test_nothing_new_takes_no_lock(notices: Notices, pool: Any) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await connection.fetchval("SELECT position FROM notice_head FOR UPDATE")
        assert await notices.number() == 0


async def test_many_get_their_places_in_steps(notices: Notices, pool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "NUMBERED_MAX", 1)
    for _ in range(3):
        await put(pool)
    assert await notices.number() == 3
    by_place, by_id = [await pool.fetch(f"SELECT id FROM notices ORDER BY {order}") for order in ("position", "id")]
    assert by_place == by_id


async def test_who_has_something_further(notices: Notices, pool: Any) -> None:
    await put(pool)
    await put(pool, OTHER)
    assert await notices.beyond({CLIENT: 0, OTHER: 0}) == set(), "without a place nobody can read it"
    await notices.number()
    assert await notices.beyond({CLIENT: 0, OTHER: 0, "nobody000000": 0}) == {CLIENT, OTHER}
    assert await notices.beyond({CLIENT: 1, OTHER: 1}) == {OTHER}


# ------------------------------------------------------------------ cursors that lead nowhere


async def trimmed(pool: Any, position: int) -> None:
    """Retention has let go of what is up to there."""
    await pool.execute(
        "UPDATE notice_head SET trimmed = $1, trimmed_at = now(), "
        "trimmed_nonce = (SELECT nonce FROM notices WHERE position = $1)",
        position,
    )
    await pool.execute("DELETE FROM notices WHERE position <= $1", position)


async def test_behind_what_was_trimmed_nothing_is_missing(notices: Notices, pool: Any) -> None:
    for n in range(4):
        await put(pool, what=f'{{"n": {n}}}')
    await notices.number()
    places = [Cursor(0, 0), *(notice.cursor for notice in (await notices.after(CLIENT, Cursor(0, 0))).notices)]
    await trimmed(pool, 2)
    for cursor in places[:2]:
        with pytest.raises(CursorGone) as caught:
            await notices.after(CLIENT, cursor)
        assert caught.value.details == {"reason": "trimmed"}
    assert await notices.start() == places[2]
    for cursor, left in zip(places[2:], ([2, 3], [3], []), strict=True):
        assert [notice.data["n"] for notice in (await notices.after(CLIENT, cursor)).notices] == left
    assert await notices.at(3) == places[3] and await notices.at(2) == places[2]
    assert await notices.at(3, 0) == places[3]._replace(within=0)
    with pytest.raises(CursorGone):
        await notices.after(CLIENT, await notices.at(1))


async def test_a_place_of_a_lost_history_is_refused(notices: Notices, pool: Any) -> None:
    """PostgreSQL went back, and came to the same places with other notices. What both histories have is read as before."""
    for _ in range(3):
        await put(pool)
    await notices.number()
    cursors = [notice.cursor for notice in (await notices.after(CLIENT, Cursor(0, 0))).notices]
    await pool.execute("UPDATE notice_head SET position = 1, nonce = (SELECT nonce FROM notices WHERE position = 1)")
    await pool.execute("DELETE FROM notices WHERE position > 1")

    async def forgotten(cursor: Cursor) -> None:
        with pytest.raises(CursorGone) as caught:
            await notices.after(CLIENT, cursor)
        assert caught.value.details == {"reason": "forgotten"}

    for cursor in cursors[1:]:
        await forgotten(cursor)
    for _ in range(5):
        await put(pool)
    await notices.number()
    for cursor in cursors[1:]:
        await forgotten(cursor)
    assert len((await notices.after(CLIENT, cursors[0])).notices) == 5
    assert await notices.head() == await notices.at(6, ALL_READ)


async def test_a_shop_that_is_told_nothing_keeps_up(notices: Notices, pool: Any) -> None:
    """Its cursor moves with everybody's: nothing of its own was let go."""
    cursor = await notices.start()
    for _ in range(3):
        await put(pool, OTHER)
        await notices.number()
        page = await notices.after(CLIENT, cursor)
        assert (page.notices, page.more) == ([], False)
        cursor = page.cursor
        await trimmed(pool, cursor.position)
    assert (await notices.after(CLIENT, cursor)).cursor == cursor


async def test_a_cursor_inside_a_row_that_was_let_go_is_refused(notices: Notices, pool: Any) -> None:
    """The rest of the row is gone: to go on behind it would pass it over."""
    await put(pool, size=3)
    await put(pool)
    await notices.number()
    inside = (await notices.after(CLIENT, await notices.start(), most=1)).cursor
    await trimmed(pool, inside.position)
    for cursor in (inside, await notices.at(1, 2), await notices.at(1, 0)):
        with pytest.raises(CursorGone) as caught:
            await notices.after(CLIENT, cursor)
        assert caught.value.details == {"reason": "trimmed"}
    assert len((await notices.after(CLIENT, await notices.at(1))).notices) == 1


# ------------------------------------------------------------------ places, for those who read


async def test_those_who_read_share_rounds_that_began_after_they_came(office: BoxOffice) -> None:
    gate = asyncio.Event()

    class Slow(Notices):
        rounds = 0

        async def number(self, *, briefly: bool = False) -> int:
            self.rounds += 1
            await gate.wait()
            return 0

    slow = Slow(office.database)
    first = [asyncio.create_task(slow.number_shared()) for _ in range(3)]
    await true_soon(lambda: slow.rounds == 1)
    later = [asyncio.create_task(slow.number_shared()) for _ in range(3)]
    gate.set()
    await asyncio.gather(*first, *later)
    assert slow.rounds == 2
    await slow.number_shared()
    assert slow.rounds == 3


async def test_nobody_waits_for_who_hangs_with_the_places(office: BoxOffice, pool: Any, late: Any) -> None:
    """Ten who read have one session, for half a second at most; what has a place is read."""
    notices = office.notices
    await put(pool)
    await notices.number()
    await put(pool)
    await late.fetchval("SELECT position FROM notice_head FOR UPDATE")
    readers = asyncio.gather(*(notices.number_shared() for _ in range(10)))
    used = set[int]()

    def all_are_back() -> bool:
        used.add(office.database.pool_use()[0])
        return readers.done()

    await true_soon(all_are_back)
    await readers  # none was refused for the lock
    assert max(used) == 1
    assert len((await notices.after(CLIENT, await notices.start())).notices) == 1
    await late.execute("COMMIT")
    await notices.number_shared()
    assert len((await notices.after(CLIENT, await notices.start())).notices) == 2
