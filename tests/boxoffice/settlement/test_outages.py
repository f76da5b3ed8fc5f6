"""A PostgreSQL that refuses everybody parks nobody, and counts nothing against anybody; poison still ends alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple

import asyncpg
import httpx2
import pytest
from structlog.testing import capture_logs

from boxoffice.books import rows
from boxoffice.errors import StoreAway
from boxoffice.gateway.base import AuthorizeRequest
from boxoffice.office import BoxOffice, open_box_office
from boxoffice.settings import Settings
from boxoffice.settlement.claims import LAPSES_MAX
from boxoffice.settlement.outage import StoreRefuses, is_of_the_row
from boxoffice.stores import keys
from boxoffice.stores.postgres import AWAY, TRANSIENT
from ops.stack.servers import Servers
from tests.conftest import CLIENT, SHARD, SaleMaker, counters, eventually, settle_all, until_later
from tests.invariants.conftest import working
from tests.support.checks import check_at_rest
from tests.support.shop.office import book, book_many, status_of

ROLE = "clerk"


class Trouble(NamedTuple):
    """What somebody does to PostgreSQL, and how it is undone."""

    does: str
    undoes: str
    anew: bool = False
    """Sessions that are open do not notice."""


TROUBLES = {
    "read-only for the role": Trouble(
        f"ALTER ROLE {ROLE} SET default_transaction_read_only = on", f"ALTER ROLE {ROLE} RESET ALL", anew=True
    ),
    "read-only altogether": Trouble(
        "ALTER SYSTEM SET default_transaction_read_only = on", "ALTER SYSTEM RESET default_transaction_read_only"
    ),
    "another password": Trouble(
        f"ALTER ROLE {ROLE} PASSWORD 'changed'", f"ALTER ROLE {ROLE} PASSWORD 'secret'", anew=True
    ),
    "no login": Trouble(f"ALTER ROLE {ROLE} NOLOGIN", f"ALTER ROLE {ROLE} LOGIN", anew=True),
    "no connections left": Trouble(
        f"ALTER ROLE {ROLE} CONNECTION LIMIT 0", f"ALTER ROLE {ROLE} CONNECTION LIMIT -1", anew=True
    ),
    "may not write bookings": Trouble(f"REVOKE INSERT ON bookings FROM {ROLE}", f"GRANT INSERT ON bookings TO {ROLE}"),
    "may not sell": Trouble(f"REVOKE UPDATE ON inventory FROM {ROLE}", f"GRANT UPDATE ON inventory TO {ROLE}"),
    "may not list captures": Trouble(f"REVOKE ALL ON captures FROM {ROLE}", f"GRANT ALL ON captures TO {ROLE}"),
    "may not look up": Trouble(f"REVOKE SELECT ON bookings FROM {ROLE}", f"GRANT SELECT ON bookings TO {ROLE}"),
    "a column is gone": Trouble(
        "ALTER TABLE bookings RENAME COLUMN fingerprint TO finger", "ALTER TABLE bookings RENAME COLUMN finger TO fingerprint"
    ),
    "a table is gone": Trouble("ALTER TABLE payments RENAME TO paid", "ALTER TABLE paid RENAME TO payments"),
    "a column more, and no default": Trouble(
        "ALTER TABLE payments ADD COLUMN more int; ALTER TABLE payments ADD CONSTRAINT more CHECK (more IS NOT NULL) NOT VALID",
        "ALTER TABLE payments DROP COLUMN more",
    ),
    "a constraint that nothing meets": Trouble(
        "ALTER TABLE bookings ADD CONSTRAINT nothing CHECK (amount_cents < 0) NOT VALID",
        "ALTER TABLE bookings DROP CONSTRAINT nothing",
    ),
    **{
        f"whatever is written raises {code}": Trouble(
            "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"RAISE EXCEPTION 'planted' USING ERRCODE = '{code}'; END $$; "
            "CREATE OR REPLACE TRIGGER refuse BEFORE INSERT ON bookings FOR EACH ROW EXECUTE FUNCTION refuse()",
            "DROP TRIGGER IF EXISTS refuse ON bookings",
        )
        for code in ("53100", "53200", "53300", "57P01", "57P03", "58030", "40001", "55P03", "XX000", "22000", "23514", "P0001")
    },
}  # fmt: skip


@pytest.fixture
async def admin(servers: Servers) -> AsyncIterator[asyncpg.Connection[Any]]:
    """A session that may do everything, and does it in spite of all."""
    connection = await asyncpg.connect(servers.admin_url)
    await connection.execute("SET default_transaction_read_only = off")
    yield connection
    await connection.close()


@pytest.fixture
async def clerk(clean: None, admin: asyncpg.Connection[Any], settings: Settings) -> AsyncIterator[Settings]:
    """Settings of a process whose role is no superuser's."""
    await admin.execute(
        f"CREATE ROLE {ROLE} LOGIN PASSWORD 'secret'; GRANT ALL ON ALL TABLES IN SCHEMA public TO {ROLE};"
        f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {ROLE}"
    )
    url = settings.database_url.replace("//boxoffice:", f"//{ROLE}:").split("@")
    worker = settings.worker.model_copy(update={"attempts_max": 2})
    yield settings.model_copy(update={"database_url": f"postgresql://{ROLE}:secret@{url[1]}", "worker": worker})
    await admin.execute(f"DROP OWNED BY {ROLE}; DROP ROLE {ROLE}")


Office = Callable[[], Awaitable[BoxOffice]]


@pytest.fixture
async def offices(clerk: Settings) -> AsyncIterator[Office]:
    """Offices of processes that start now."""
    opened: list[Any] = []

    async def open_one() -> BoxOffice:
        manager = open_box_office(clerk, redis_retries=3)
        opened.append(manager)
        return await manager.__aenter__()

    yield open_one
    for manager in opened:
        await manager.__aexit__(None, None, None)


async def put(admin: asyncpg.Connection[Any], trouble: Trouble, *, undo: bool = False) -> None:
    statement = trouble.undoes if undo else trouble.does
    if "ALTER SYSTEM" in statement:
        await admin.execute(statement)
        await admin.execute("SELECT pg_reload_conf()")
        wanted = "off" if undo else "on"

        async def heard() -> bool:
            other = await asyncpg.connect(*_address(admin))
            try:
                return await other.fetchval("SHOW default_transaction_read_only") == wanted
            finally:
                await other.close()

        await eventually(heard)
    else:
        await admin.execute(statement)
    if trouble.anew and not undo:
        await admin.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{ROLE}'")


def _address(admin: Any) -> tuple[str]:
    params = admin._params
    host, port = admin._addr
    return (f"postgresql://{params.user}:{params.password}@{host}:{port}/{params.database}",)


async def insist(office: BoxOffice, rounds: int = 4) -> None:
    """Settle again and again, without a pause or a lease to wait for."""
    for _ in range(rounds):
        for settlement in office.settlements:
            settlement.claims.closed_until = 0.0
            async with asyncio.timeout(20):
                await settlement.drain()
        for booking, score in await office.redis.zrange(keys.pending(SHARD), 0, -1, withscores=True):
            assert score % 1 == 0, "no lease lapses on account of it"
            await office.redis.zadd(keys.pending(SHARD), {booking: 1}, xx=True)


@pytest.mark.parametrize("name", TROUBLES)
async def test_what_hits_everybody_is_held_against_nobody(
    office: BoxOffice, offices: Office, open_sale: SaleMaker, admin: asyncpg.Connection[Any], name: str
) -> None:
    """No attempt is counted, nobody parked; by processes that were there before and by those that start meanwhile. Once it
    is over, all of them settle, in sessions that may have to be new, and what is poison is parked alone."""
    trouble = TROUBLES[name]
    event = await open_sale(GA=100)
    before = await offices()
    (first,) = await book_many(office, event, 1, GA=1)
    await settle_all(before)
    booked = await book_many(office, event, 9, GA=1)
    await put(admin, trouble)
    try:
        await insist(before)
        await insist(await offices())
        assert await office.redis.zcard(keys.dead(SHARD)) == 0
        assert await admin.fetchval("SELECT count(*) FROM dead_letters") == 0
        assert await office.redis.zcard(keys.pending(SHARD)) == 9
    finally:
        await put(admin, trouble, undo=True)
    bad = (await book(office, event, customer="a\0b", GA=2)).booking_id

    async def settled() -> bool:
        await insist(before, 1)
        await before.pump.work_given()
        return await office.redis.zcard(keys.pending(SHARD)) == 0

    await eventually(settled, timeout_s=30)
    assert await office.redis.zrange(keys.dead(SHARD), 0, -1) == [bad.encode()]
    assert {await status_of(office, booking) for booking in (first, *booked)} == {"confirmed"}
    await office.parked.fail(bad)
    await at_rest(office, [first, *booked])


async def at_rest(office: BoxOffice, booked: list[str]) -> None:
    """What is due at the gateway is done, and the invariants hold."""

    async def done() -> bool:
        pool = await office.pool()
        await pool.execute("UPDATE captures SET leased_until = now()")
        await pool.execute("UPDATE payments SET due_at = now(), leased_until = NULL WHERE due_at IS NOT NULL")
        await office.pump.work_given()
        return not await office.pump.work_outbox()

    await eventually(done)
    await check_at_rest(office, booked)


async def test_an_outage_is_two_lines(
    offices: Office, office: BoxOffice, open_sale: SaleMaker, admin: asyncpg.Connection[Any]
) -> None:
    """One when it begins, with its reason, and one when it is over."""
    event = await open_sale(GA=10)
    clerk = await offices()
    await book_many(office, event, 2, GA=1)
    trouble = TROUBLES["may not write bookings"]
    with capture_logs() as lines:
        await put(admin, trouble)
        try:
            await insist(clerk, 20)
        finally:
            await put(admin, trouble, undo=True)
        await insist(clerk, 2)
        await settle_all(clerk)

    told = [line for line in lines if line["event"].startswith("settlement.") and line["shard"] == SHARD]
    assert [line["event"] for line in told] == ["settlement.paused", "settlement.resumed"]
    assert told[0]["error"] == "InsufficientPrivilegeError 42501"


async def test_while_it_lasts_nothing_is_claimed(
    offices: Office, office: BoxOffice, open_sale: SaleMaker, admin: asyncpg.Connection[Any]
) -> None:
    """So no lease can lapse, whoever is killed meanwhile."""
    event = await open_sale(GA=10)
    await book_many(office, event, 2, GA=1)
    due = await office.redis.zrange(keys.pending(SHARD), 0, -1, withscores=True)
    trouble = TROUBLES["may not sell"]
    await put(admin, trouble)
    try:
        newcomer = await offices()
        await newcomer.settlements[SHARD].drain()
        assert newcomer.settlements[SHARD].claims.closed_until > 0
        assert await office.redis.zrange(keys.pending(SHARD), 0, -1, withscores=True) == due
    finally:
        await put(admin, trouble, undo=True)


async def test_leases_that_lapsed_in_an_outage_park_nobody(
    offices: Office, office: BoxOffice, open_sale: SaleMaker, admin: asyncpg.Connection[Any]
) -> None:
    """Workers may have been killed again and again meanwhile."""
    event = await open_sale(GA=10)
    (booking,) = await book_many(office, event, 1, GA=1)
    clerk = await offices()
    trouble = TROUBLES["may not write bookings"]
    await put(admin, trouble)
    await insist(clerk, 3)
    await put(admin, trouble, undo=True)
    await office.redis.zadd(keys.pending(SHARD), {booking: 1 + LAPSES_MAX / 16})

    async def confirmed() -> bool:
        await clerk.settlements[SHARD].drain()
        return await status_of(office, booking) == "confirmed"

    await eventually(confirmed)
    await settle_all(clerk)
    await at_rest(office, [booking])


async def test_what_killed_its_workers_while_all_was_well_is_parked(
    offices: Office, office: BoxOffice, open_sale: SaleMaker
) -> None:
    event = await open_sale(GA=10)
    (booking,) = await book_many(office, event, 1, GA=1)
    await office.redis.zadd(keys.pending(SHARD), {booking: 1 + LAPSES_MAX / 16})
    await (await offices()).settlements[SHARD].drain()
    assert await office.redis.zrange(keys.dead(SHARD), 0, -1) == [booking.encode()]


@pytest.mark.parametrize("count", [1, 12])
async def test_a_gateway_that_fails_for_everybody_parks_nobody(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """A bug in its adapter, say. One that fails for one of them while others are answered is that one's."""
    event = await open_sale(GA=100)
    booked = await book_many(office, event, count, GA=1)
    real = office.gateway.authorize_batch

    async def broken(requests: list[AuthorizeRequest]) -> Any:
        raise KeyError("id")

    with monkeypatch.context() as patch:
        patch.setattr(office.gateway, "authorize_batch", broken)
        await insist(office, 7)
        assert await (await office.pool()).fetchval("SELECT count(*) FROM dead_letters") == 0

    async def broken_for_one(requests: list[AuthorizeRequest]) -> Any:
        if any(request.booking_id == booked[0] for request in requests):
            raise KeyError("id")
        return await real(requests)

    if count > 1:
        monkeypatch.setattr(office.gateway, "authorize_batch", broken_for_one)
        await insist(office, 1)
        for _ in range(5):
            # Somebody has to be answered in between: alone, it might be the gateway again.
            booked += await book_many(office, event, 1, GA=1)
            await insist(office, 1)
        assert await office.redis.zrange(keys.dead(SHARD), 0, -1) == [booked[0].encode()]
        booked = booked[1:]
    await settle_all(office)
    assert {await status_of(office, booking) for booking in booked} == {"confirmed"}


async def test_who_fails_for_a_reason_that_is_no_rows_is_tried_later_and_never_parked(
    office: BoxOffice, open_sale: SaleMaker, admin: asyncpg.Connection[Any]
) -> None:
    """A damaged page, say, on which one booking's index entries fall: it waits, and its neighbours do not."""
    event = await open_sale(GA=100)
    trouble = TROUBLES["whatever is written raises XX000"]
    others = "BEGIN IF NEW.customer_id <> 'bad' THEN RETURN NEW; END IF; "
    await put(admin, trouble._replace(does=trouble.does.replace("BEGIN ", others)))
    try:
        bad = (await book(office, event, customer="bad", GA=1)).booking_id
        good = await book_many(office, event, 20, GA=1)
        await insist(office, 12)
        assert {await status_of(office, booking) for booking in good} == {"confirmed"}
        assert await (await office.pool()).fetchval("SELECT count(*) FROM dead_letters") == 0
        assert await office.redis.zcard(keys.dead(SHARD)) == 0
        assert (await counters(office, event, "GA")).held == 1
    finally:
        await put(admin, trouble, undo=True)
    await insist(office, 2)
    await settle_all(office)
    assert await status_of(office, bad) == "confirmed"


async def test_a_slow_answer_that_is_an_error_is_its_own(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others that wait for their answers are settled all the same, and its lease is given back."""
    event = await open_sale(GA=100)
    booked = await book_many(office, event, 6, GA=1)
    real = office.gateway.authorize_batch
    loop = asyncio.get_running_loop()

    async def late(requests: list[AuthorizeRequest]) -> Any:
        answers = await real(requests)
        futures: list[asyncio.Future[Any]] = []
        for request, answer in zip(requests, answers, strict=True):
            future = loop.create_future()
            futures.append(future)
            if request.booking_id == booked[2]:
                loop.call_later(0.01, future.set_exception, KeyError("id"))
            else:
                loop.call_later(0.3, future.set_result, answer)
        return futures

    with monkeypatch.context() as patch:
        patch.setattr(office.gateway, "authorize_batch", late)
        await office.settlements[SHARD].drain()
        await asyncio.wait(office.settlements[SHARD].slow.tasks, timeout=10)
    assert [await status_of(office, booking) for booking in booked].count("confirmed") == 5
    score = await office.redis.zscore(keys.pending(SHARD), booked[2])
    assert score is not None and score % 1 == 0
    await office.redis.zadd(keys.pending(SHARD), {booked[2]: 1})
    await settle_all(office)
    await at_rest(office, booked)


@pytest.mark.parametrize("name", ["read-only for the role", "another password"])
async def test_a_worker_settles_all_after_an_outage_of_many_leases(
    offices: Office, office: BoxOffice, clerk: Settings, open_sale: SaleMaker, admin: asyncpg.Connection[Any], name: str
) -> None:
    """As it runs, with leases that end long before PostgreSQL takes anything again; and one that starts meanwhile."""
    short = {"lease_ms": 200, "sweep_ms": 50, "guard_ms": 100}
    quick = clerk.model_copy(update={"worker": clerk.worker.model_copy(update=short)})
    event = await open_sale(GA=100)
    trouble = TROUBLES[name]
    async with (
        open_box_office(quick, redis_retries=3) as before,
        open_box_office(quick, redis_retries=3) as newcomer,
        working(before),
    ):
        (first,) = await book_many(office, event, 1, GA=1)
        await eventually(partial(_is_confirmed, office, first))
        await put(admin, trouble)
        try:
            booked = await book_many(office, event, 12, GA=1)
            async with working(newcomer):
                # More lapses than a booking may have, were any counted.
                await until_later(office, (LAPSES_MAX + 3) * short["lease_ms"])
        finally:
            await put(admin, trouble, undo=True)
        for booking in booked:
            await eventually(partial(_is_confirmed, office, booking), timeout_s=20)
    assert await office.redis.zcard(keys.dead(SHARD)) == 0
    assert await admin.fetchval("SELECT count(*) FROM dead_letters") == 0
    await at_rest(office, [first, *booked])


async def _is_confirmed(office: BoxOffice, booking: str) -> bool:
    return await status_of(office, booking) == "confirmed"


async def test_money_moves_again_though_nothing_is_pending(
    offices: Office,
    office: BoxOffice,
    clerk: Settings,
    open_sale: SaleMaker,
    admin: asyncpg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All sessions of a worker began while its role was read-only, and no booking makes it look."""
    event = await open_sale(GA=10)
    (booking,) = await book_many(office, event, 1, GA=1)
    await office.settlements[SHARD].drain()
    pool = await office.pool()
    await pool.execute("UPDATE captures SET leased_until = now()")
    trouble = TROUBLES["read-only for the role"]
    quick = clerk.model_copy(update={"worker": clerk.worker.model_copy(update={"sweep_ms": 50})})
    await put(admin, trouble)
    async with open_box_office(quick, redis_retries=3) as newcomer:
        looks, work_outbox = [0], newcomer.pump.work_outbox

        async def counted() -> int:
            looks[0] += 1
            return await work_outbox()

        async def looked_often() -> bool:
            return looks[0] > 2

        monkeypatch.setattr(newcomer.pump, "work_outbox", counted)
        async with working(newcomer):
            try:
                await eventually(looked_often)
            finally:
                await put(admin, trouble, undo=True)

            async def captured() -> bool:
                return await pool.fetchval("SELECT status FROM payments WHERE booking_id = $1", booking) == "captured"

            await eventually(captured, timeout_s=15)


async def test_an_api_that_was_refused_recovers_in_new_sessions(
    offices: Office, office: BoxOffice, open_sale: SaleMaker, admin: asyncpg.Connection[Any]
) -> None:
    """A session that began while its role was read-only stays so: it is not used again."""
    event = await open_sale(GA=10)
    booked = await book_many(office, event, 2, GA=1)
    await settle_all(office)
    api = await offices()
    trouble = TROUBLES["read-only for the role"]
    await put(admin, trouble)
    try:
        for booking in booked:
            with pytest.raises(StoreAway) as refused:
                await api.cancellations.cancel(CLIENT, booking)
            assert isinstance(refused.value.__cause__, asyncpg.ReadOnlySQLTransactionError)
    finally:
        await put(admin, trouble, undo=True)
    for booking in booked:
        assert (await api.cancellations.cancel(CLIENT, booking)).status == "cancelled"


async def test_the_log_says_why_a_store_is_away(api: httpx2.AsyncClient, admin: asyncpg.Connection[Any]) -> None:
    """Shops hear that it is away, and nothing of why."""
    await admin.execute("ALTER TABLE bookings RENAME COLUMN reference TO referred")
    try:
        with capture_logs() as lines:
            answer = await api.get("/v1/bookings", params={"customer_id": "ada"})
    finally:
        await admin.execute("ALTER TABLE bookings RENAME COLUMN referred TO reference")
    assert (answer.status_code, "42703" in answer.text) == (503, False)
    (line,) = (line for line in lines if line["event"] == "request.refused")
    assert line["cause"] == "UndefinedColumnError 42703"


@pytest.mark.parametrize(
    "error", [asyncpg.InterfaceError("4 arguments"), ValueError("a bug"), asyncpg.CheckViolationError()]
)
async def test_a_canary_that_is_wrong_itself_stops_nobody(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A bug of its own, or a rule that somebody's database has and bookings meet."""

    async def wrong(*_: object) -> None:
        raise error

    monkeypatch.setattr(rows, "touch", wrong)
    event = await open_sale(GA=100)
    booked = await book_many(office, event, 3, GA=1)
    await settle_all(office)
    await at_rest(office, booked)


def test_every_error_of_postgresql_is_everybodys_or_the_rows() -> None:
    """By its class; what has none of ours is never held against a booking."""
    found: dict[str, set[str]] = {"22": set(), "23": set(), "44": set(), "54": set()}
    for error in vars(asyncpg.exceptions).values():
        if isinstance(error, type) and issubclass(error, asyncpg.PostgresError) and error.sqlstate:
            code, made = error.sqlstate, error("x")
            if code[:2] in found:
                assert is_of_the_row(made) and not isinstance(made, TRANSIENT), code
            else:
                assert not is_of_the_row(made), code
            if code[:2] in ("08", "25", "28", "3D", "3F", "42", "53", "58"):
                assert isinstance(made, AWAY), code
            if code[:2] in ("40", "55", "57"):
                assert isinstance(made, TRANSIENT), code
    assert not is_of_the_row(OSError()) and not is_of_the_row(StoreRefuses())
    assert is_of_the_row(UnicodeEncodeError("ascii", "x", 0, 1, "no"))
