"""A Redis that dies in the middle of a script, that is full, that takes no writes, or that is still loading.

The API says so and takes nothing; the worker goes on trying, and both resume by themselves.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path

import httpx2
import pytest
from redis.exceptions import BusyLoadingError, ResponseError
from structlog.testing import capture_logs

from boxoffice.admission.admission import Admission
from boxoffice.errors import GateClosed
from boxoffice.office import BoxOffice, open_box_office
from boxoffice.sales.catalogue import EventView
from boxoffice.settings import Settings
from boxoffice.stores import keys
from boxoffice.stores.durability import check_redis
from ops.stack.servers import Servers
from tests.api.conftest import assert_problem, booking_of
from tests.conftest import (
    CLIENT,
    KEY,
    SHARD,
    SaleMaker,
    check_run,
    counters,
    eventually,
    load_all,
    settle_all,
    until_later,
)
from tests.invariants.conftest import at_rest, working
from tests.support.checks import check_at_rest
from tests.support.shop.office import book, record_of

Buy = Callable[[], Awaitable[httpx2.Response]]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The API gives up soon, and a booking that is final leaves Redis soon: no test waits long for either."""
    return settings.model_copy(
        update={
            "api": settings.api.model_copy(update={"retry_s": 0.3}),
            "worker": settings.worker.model_copy(update={"settled_ttl_s": 2}),
        }
    )


@pytest.fixture
async def event(office: BoxOffice, open_sale: SaleMaker) -> EventView:
    """On sale, and known to the API."""
    event = await open_sale(GA=10_000)
    await load_all(office)
    return event


@pytest.fixture
def buy(api: httpx2.AsyncClient, event: EventView) -> Buy:
    """Book one ticket through the API."""
    numbers = count()

    async def buy() -> httpx2.Response:
        body = booking_of(event, customer_id=f"customer-{next(numbers)}")
        return await api.post("/v1/bookings", json=body, headers={"Idempotency-Key": f"k{body['customer_id']}"})

    return buy


async def accepted(answer: Awaitable[httpx2.Response]) -> bool:
    return (await answer).status_code == 202


# ---------------------------------------------------------------------- in the middle of a script


async def test_redis_killed_in_the_middle_of_an_admission_has_none_of_it(
    office: BoxOffice, event: EventView, settings: Settings, servers: Servers
) -> None:
    """A4. The script's first writes were made, its last was not: after the restart there is no trace of it. The API
    sends it once more, and then it is in, once."""
    await book(office, event, GA=2)
    patient = settings.model_copy(update={"api": settings.api.model_copy(update={"retry_s": 20})})
    async with open_box_office(patient) as asking:
        admit = asking.scripts.admit
        place = '  local last = redis.call("INCRBY", sequence'
        assert place in admit.text
        _admit_with(asking.admission, replace(admit, text=admit.text.replace(place, f"  while true do end\n{place}")))
        await office.redis.config_set("busy-reply-threshold", 10)
        cut = asyncio.create_task(book(asking, event, customer="cut", GA=3))
        await eventually(lambda: _busy(office))
        _admit_with(asking.admission, admit)
        await asyncio.to_thread(servers.kill_redis)
        servers.restart_redis()
        await check_run(office)

        assert (await counters(office, event, "GA")).held in (2, 5), "all of it, sent again, or nothing"
        admitted = await cut

    assert not admitted.replayed
    assert (await counters(office, event, "GA")).held == 5
    async with working(office):
        await at_rest(office)
    await check_at_rest(office, [admitted.booking_id])


async def test_half_a_script_at_the_end_of_the_file_is_dropped(
    office: BoxOffice, event: EventView, servers: Servers
) -> None:
    """A4. Power fails while the file is written: what a script wrote stands there between MULTI and EXEC."""
    first = await book(office, event, GA=2)
    await asyncio.to_thread(servers.kill_redis)
    (file,) = (servers.home.path / "redis" / "appendonlydir").glob("*.incr.aof")
    whole = file.read_bytes()
    servers.restart_redis()
    await check_run(office)
    second = await book(office, event, customer="cut", GA=3)
    await asyncio.to_thread(servers.kill_redis)
    _cut_in_last_script(file, len(whole))
    servers.restart_redis()

    assert await record_of(office, second.booking_id) is None
    assert (await counters(office, event, "GA")).held == 2
    assert await office.redis.zcard(keys.pending(SHARD)) == 1
    async with working(office):
        await at_rest(office)
    await check_at_rest(office, [first.booking_id])


async def test_what_a_torn_file_lacks_is_noticed(office: BoxOffice, event: EventView, servers: Servers) -> None:
    """Its last blocks are zeros: they are cut off, and with them bookings that PostgreSQL had heard of. The guard finds
    that admissions are missing, and nobody is told sold out, or anything else, by those counters."""
    await check_run(office)
    kept = await book(office, event, GA=2)
    await office.guards[SHARD].tick()
    await asyncio.to_thread(servers.kill_redis)
    (file,) = (servers.home.path / "redis" / "appendonlydir").glob("*.incr.aof")
    before = len(file.read_bytes())
    servers.restart_redis()
    await check_run(office)
    lost = [(await book(office, event, customer=f"c{n}", GA=1)).booking_id for n in range(8)]
    await settle_all(office)
    await office.guards[SHARD].tick()
    assert await (await office.pool()).fetchval("SELECT sequence FROM shards WHERE shard = $1", SHARD) == 9
    await asyncio.to_thread(servers.kill_redis)
    whole = file.read_bytes()
    file.write_bytes(whole[: before + 1_000] + b"\0" * (len(whole) - before - 1_000))
    servers.restart_redis()

    assert file.read_bytes().rstrip(b"\0") == file.read_bytes()
    assert int(await office.redis.get(keys.sequence(SHARD)) or 0) < 9
    assert await office.guards[SHARD].tick() == "rebuilt"
    async with working(office):
        await at_rest(office)
    await check_at_rest(office, [kept.booking_id, *lost])
    assert (await counters(office, event, "GA")).sold == 10


def _cut_in_last_script(file: Path, after: int) -> None:
    """Leave half of what the last script wrote."""
    written = file.read_bytes()
    start = written.rindex(b"*1\r\n$5\r\nMULTI\r\n")
    assert start >= after
    assert written.endswith(b"*1\r\n$4\r\nEXEC\r\n")
    file.write_bytes(written[: (start + len(written)) // 2])


def _admit_with(admission: Admission, script: object) -> None:
    for window in admission.windows:
        window.admit = script  # type: ignore[assignment]


async def _busy(office: BoxOffice) -> bool:
    try:
        await office.redis.ping()
    except ResponseError as error:
        return str(error).startswith("BUSY")
    return False


# ---------------------------------------------------------------------- full


async def test_full_memory_refuses_newcomers_and_serves_those_who_are_in(
    office: BoxOffice, event: EventView, api: httpx2.AsyncClient, buy: Buy
) -> None:
    """A5. 503 until there is room; the backlog drains meanwhile, and what became final makes the room."""
    booked = await _bought(buy)
    await settle_all(office)
    # What a server takes that has done everything once. Its log of slow commands lies in the same memory.
    await office.redis.config_set("slowlog-log-slower-than", -1)
    used = (await office.redis.info("memory"))["used_memory"]
    await office.redis.config_set("maxmemory", used + 600_000)
    try:
        before = len(booked)
        while more := await _bought(buy):
            booked += more
        waiting = len(booked) - before
        assert waiting > 200
        # Decidedly full, by what it uses now: at the border a connection's buffer more or less decides, and what others
        # used before may have been given back meanwhile.
        await office.redis.config_set("maxmemory", (await office.redis.info("memory"))["used_memory"] - 200_000)
        for refused in await asyncio.gather(*(buy() for _ in range(20))):
            assert_problem(refused, 503, "store-away")
            assert refused.headers["retry-after"] == "1"
        assert (await counters(office, event, "GA")).held == waiting
        assert await office.redis.zcard(keys.pending(SHARD)) == waiting

        async with working(office):
            await eventually(lambda: _all_confirmed(office, booked), timeout_s=20, progress=lambda: _confirmed(office))
            await eventually(lambda: accepted(buy()), timeout_s=20)
            await at_rest(office)
    finally:
        await office.redis.config_set("maxmemory", 0)

    await _nothing_lost(office, booked)


async def _bought(buy: Buy) -> list[str]:
    """Those of fifty bookings that were accepted."""
    answers = await asyncio.gather(*(buy() for _ in range(50)))
    return [answer.json()["id"] for answer in answers if answer.status_code == 202]


async def _all_confirmed(office: BoxOffice, booked: list[str]) -> bool:
    return await _confirmed(office) >= len(booked)


async def _confirmed(office: BoxOffice) -> int:
    return int(await (await office.pool()).fetchval("SELECT count(*) FROM bookings WHERE status = 'confirmed'"))


async def _nothing_lost(office: BoxOffice, booked: list[str]) -> None:
    assert await (await office.pool()).fetchval("SELECT count(*) FROM dead_letters") == 0
    await check_at_rest(office, booked)


# ---------------------------------------------------------------------- no writes, or nothing at all


@asynccontextmanager
async def read_only(office: BoxOffice) -> AsyncIterator[None]:
    """As after a failover that left our server a replica."""
    await office.redis.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        yield
    finally:
        await office.redis.execute_command("REPLICAOF", "NO", "ONE")


@asynccontextmanager
async def loading(office: BoxOffice) -> AsyncIterator[None]:
    """It answers, and says that it is still reading its file: a key every 10 ms, until we let it read on."""
    await office.redis.config_set("loading-process-events-interval-bytes", 1_024)
    await office.redis.config_set("key-load-delay", 10_000)
    connection = await office.redis.connection_pool.get_connection()
    await connection.send_command("DEBUG", "RELOAD")
    try:
        yield
    finally:
        await office.redis.config_set("key-load-delay", 0)
        assert await connection.read_response(timeout=30) == b"OK"
        await office.redis.connection_pool.release(connection)


@pytest.mark.parametrize("trouble", [read_only, loading])
async def test_a_redis_that_takes_no_writes_is_waited_for(
    office: BoxOffice,
    event: EventView,
    api: httpx2.AsyncClient,
    buy: Buy,
    trouble: Callable[[BoxOffice], AbstractAsyncContextManager[None]],
) -> None:
    """A5. 503 and not ready; whatever waited is settled when it is over. Nothing is parked, nothing is lost."""
    booked = [answer.json()["id"] for answer in await asyncio.gather(*(buy() for _ in range(300)))]
    async with AsyncExitStack() as over:
        await over.enter_async_context(trouble(office))
        async with working(office):
            refused = await buy()
            assert_problem(refused, 503, "store-away")
            assert refused.headers["retry-after"] == "1"
            assert "redis" in assert_problem(await api.get("/readyz"), 503, "not-ready")["reasons"]
            await over.aclose()

            await eventually(lambda: accepted(buy()))
            await at_rest(office)
            await eventually(lambda: _ready(api))

    await _nothing_lost(office, booked)


async def _ready(api: httpx2.AsyncClient) -> bool:
    return (await api.get("/readyz")).status_code == 200


async def test_a_loading_redis_is_not_called_weak(office: BoxOffice, event: EventView) -> None:
    """Its append-only file is off while it reads: a worker that starts meanwhile waits, rather than refuse it."""
    for n in range(50):
        await office.redis.set(keys.booking(SHARD, f"{n:036d}"), os.urandom(2_000))

    async def reads_its_file() -> bool:
        return bool((await office.redis.info("persistence"))["loading"])

    async with loading(office):
        await eventually(reads_its_file)
        with pytest.raises(BusyLoadingError):
            await check_redis(office.redis, office.settings.model_copy(update={"durability": "always"}))
    await check_redis(office.redis, office.settings)


async def test_a_full_redis_lets_go_of_holds_and_says_so(
    office: BoxOffice, event: EventView, api: httpx2.AsyncClient
) -> None:
    """A5. Cancelling makes room, so it works; paying and extending are refused with 503; nobody is told 500, and nobody
    that Redis is ready."""
    made = []
    for n in range(3):
        body = {name: value for name, value in booking_of(event, customer_id=f"c{n}").items() if name != "payment"}
        made.append((await api.post("/v1/bookings", json=body, headers={"Idempotency-Key": f"h{n}"})).json()["id"])
    await eventually(lambda: _ready(api))
    used = (await office.redis.info("memory"))["used_memory"]
    await office.redis.config_set("maxmemory", used - 500_000)
    try:
        card = {"method": "card", "card_number": "4242424242424242", "card_name": "Ada"}
        for path, sent in (("payment", card), ("extend", {"extra_s": 5})):
            refused = await api.post(f"/v1/bookings/{made[0]}/{path}", json=sent, headers={"Idempotency-Key": "k"})
            assert_problem(refused, 503, "store-away")
            assert refused.headers["retry-after"] == "1"
        assert (await api.get(f"/v1/bookings/{made[0]}")).json()["status"] == "held"
        cancelled = await api.post(f"/v1/bookings/{made[0]}/cancel", headers={"Idempotency-Key": "c"})
        assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
        reasons = assert_problem(await _after_the_last_look(api), 503, "not-ready")["reasons"]
        assert reasons["redis"] == "It takes no writes (OOM): its memory is full, see its maxmemory."
        with capture_logs() as lines:
            async with working(office):
                await until_later(office, 2_500)
        for what in ("guarding", "sweeping", "arq"):
            assert sum(line["event"].startswith(what) for line in lines) <= 2
    finally:
        await office.redis.config_set("maxmemory", 0)
    await eventually(lambda: _ready(api))


async def _after_the_last_look(api: httpx2.AsyncClient) -> httpx2.Response:
    """The write that was tried is remembered for half a second."""

    async def not_ready() -> httpx2.Response | None:
        answer = await api.get("/readyz")
        return answer if answer.status_code == 503 else None

    found = await eventually(not_ready)
    assert isinstance(found, httpx2.Response)
    return found


async def test_a_full_redis_is_opened(office: BoxOffice, event: EventView) -> None:
    """Started again while it is full: were it not opened, nothing would ever leave it."""
    await book(office, event, GA=1)
    await office.redis.set(keys.gate(SHARD), "first:of another run")
    used = (await office.redis.info("memory"))["used_memory"]
    await office.redis.config_set("maxmemory", used - 500_000)
    try:
        await check_run(office)
        await settle_all(office)
    finally:
        await office.redis.config_set("maxmemory", 0)


@pytest.mark.parametrize("what", ["event", "catalogue", "api_keys"])
async def test_what_redis_lost_is_loaded_as_soon_as_somebody_misses_it(
    office: BoxOffice, open_sale: SaleMaker, settings: Settings, what: str
) -> None:
    """Not at the next look, in half a minute: whoever meets the gap asks for it, and finds it filled a moment later. A
    second gap is filled as fast."""
    event = await open_sale(GA=10)
    await load_all(office)
    await book(office, event, GA=3)
    async with working(office):
        await settle_all(office)
        for already in (3, 4):
            lost = {
                "event": keys.event(SHARD, event.id),
                "catalogue": keys.catalogue(SHARD),
                "api_keys": keys.api_keys(SHARD),
            }[what]
            await office.redis.delete(lost)

            async with open_box_office(settings) as stranger:

                async def sold(stranger: BoxOffice = stranger) -> bool:
                    try:
                        assert (await stranger.catalogue.api_keys.caller_of(KEY)).client == CLIENT
                        await book(stranger, event, GA=1)
                    except GateClosed:
                        return False
                    return True

                await eventually(sold, timeout_s=20)
            await settle_all(office)
            assert (await counters(office, event, "GA")).sold == already + 1
