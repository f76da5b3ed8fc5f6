"""A worker may die, freeze or lose its connections anywhere: somebody else finishes, and everything happens once.

The names W1 to W14 and A1 to A6 are those of docs/promises.md.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

import pytest

from boxoffice.admission.forms import Admitted
from boxoffice.errors import GateClosed, StoreAway
from boxoffice.office import BoxOffice, open_box_office
from boxoffice.sales.catalogue import EventView
from boxoffice.settings import Settings
from boxoffice.stores import keys
from ops.stack.servers import Servers
from ops.stack.stack import Program
from tests.conftest import SHARD, SaleMaker, counters, eventually
from tests.invariants.conftest import Fork, at_rest, ends, working
from tests.support.checks import check_at_rest, check_conservation
from tests.support.proxy import proxied
from tests.support.shop.office import book, book_many, record_of
from tests.support.shop.orders import tier_of
from tests.support.waiting import pace

Spawn = Callable[..., Program]


async def mixed(office: BoxOffice, event: EventView) -> list[str]:
    """130 bookings: most succeed, some decline, some meet a gateway that sets aside another amount."""
    booked = await book_many(office, event, 100, GA=1)
    for card in ("insufficient_funds", "wrong_amount", "lost_card"):
        booked += [
            (await book(office, event, token=f"tok_{card}", customer=f"{card}{n}", GA=2)).booking_id for n in range(10)
        ]
    assert len(booked) == 130
    return booked


async def every_capture_was_made_once(office: BoxOffice) -> None:
    """The gateway writes down every change: no payment went twice into the state `captured`."""
    lines = (office.settings.data_dir / "gateway.ledger").read_text().splitlines()
    captured = [line.split(" ")[0] for line in lines if line.split(" ")[1].startswith("C:")]
    assert len(captured) == len(set(captured)) == 100


POINTS = {
    "claimed": "W1",
    "looked_up": "W2",
    "authorised": "W3, W4",
    "written": "W5",
    "committed": "W7",
    "chunk_settled": "W8",
    "before_capture": "W9",
    "captured": "W10",
    "capture_marked": "W11",
    "voided": "W10, for money to be let go",
}


@pytest.mark.parametrize("point", POINTS)
async def test_whatever_a_worker_dies_of_the_next_one_finishes(
    office: BoxOffice, open_sale: SaleMaker, fork: Fork, point: str
) -> None:
    """Every booking ends once, is paid once, and its tickets are where it says."""
    event = await open_sale(GA=1_000)
    booked = await mixed(office, event)

    assert await ends(fork("work", crash_at=point)) == "killed by SIGKILL"
    await check_conservation(office)
    async with working(office):
        await at_rest(office)

    assert (await counters(office, event, "GA")).sold == 100
    await check_at_rest(office, booked)
    await every_capture_was_made_once(office)


@pytest.mark.parametrize("point", ["authorised", "written", "committed"])
async def test_a_worker_frozen_longer_than_its_lease_changes_nothing_when_it_wakes(
    office: BoxOffice, open_sale: SaleMaker, spawn: Spawn, point: str
) -> None:
    """W12. A debugger, a stopped machine: another worker settles meanwhile, and the sleeper finds it done."""
    event = await open_sale(GA=1_000)
    sleeper = spawn(crash_at=f"{point}:STOP")
    await eventually(lambda: _is_ready(sleeper), timeout_s=20)
    booked = await mixed(office, event)

    async def frozen() -> bool:
        return "T" in _state(sleeper.pid)

    await eventually(frozen, timeout_s=20)
    async with working(office):
        await at_rest(office)
        await check_at_rest(office, booked)
        inventory = await (await office.pool()).fetch("SELECT tier_id, sold, version FROM inventory")
        sleeper.resume()
        more = await book_many(office, event, 50, GA=1)
        await at_rest(office)
    sleeper.send(signal.SIGTERM)

    assert await ends(sleeper) == "exit 0"
    (row,) = await (await office.pool()).fetch("SELECT tier_id, sold, version FROM inventory")
    assert row["sold"] == inventory[0]["sold"] + 50
    assert await (await office.pool()).fetchval("SELECT count(*) FROM dead_letters") == 0
    await check_at_rest(office, booked + more)


async def _is_ready(worker: Program) -> bool:
    return "worker.ready" in worker.log.read_text()


def _state(pid: int) -> str:
    from pathlib import Path

    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def test_six_rolling_restarts_under_load_lose_nothing(
    office: BoxOffice, open_sale: SaleMaker, spawn: Spawn
) -> None:
    """W13, W14. arq would drop a job at its last try, and each restart spends one: the sweep does not need arq."""
    event = await open_sale(GA=10_000)
    booked: list[str] = []
    selling = True

    async def sell() -> None:
        while selling:
            booked.extend(await book_many(office, event, 10, GA=1))
            await pace(0.05)

    load = asyncio.create_task(sell())
    worker = spawn()
    for _ in range(6):
        settled = await _settled(office)
        await eventually(lambda settled=settled: _more_than(office, settled), timeout_s=60)
        old, worker = worker, spawn()
        old.send(signal.SIGTERM)
        assert await ends(old) == "exit 0"
    selling = False
    await load
    await at_rest(office, heard=True)
    worker.send(signal.SIGTERM)
    assert await ends(worker) == "exit 0"

    assert len(booked) > 100
    assert (await counters(office, event, "GA")).sold == len(booked)
    assert await (await office.pool()).fetchval("SELECT count(*) FROM dead_letters") == 0
    await check_at_rest(office, booked)


async def _settled(office: BoxOffice) -> int:
    return int(await (await office.pool()).fetchval("SELECT count(*) FROM bookings"))


async def _more_than(office: BoxOffice, count: int) -> bool:
    return await _settled(office) > count


@pytest.mark.parametrize("loss", ["job", "queue", "score", "bell only"])
async def test_what_arq_loses_the_sweep_finishes(office: BoxOffice, open_sale: SaleMaker, loss: str) -> None:
    """W14. A job without its key, a queue that is gone, a score that arq never runs, a bell with no job behind it."""
    event = await open_sale(GA=100)
    booked = await book_many(office, event, 10, GA=1)
    queue = keys.arq_queue(SHARD)
    (job,) = await office.redis.zrange(queue, 0, -1)
    match loss:
        case "job":
            await office.redis.delete(keys.arq_job(job.decode()))
        case "queue":
            await office.redis.delete(queue, keys.arq_job(job.decode()))
        case "score":
            await office.redis.zadd(queue, {job: 0})
        case "bell only":
            await office.redis.delete(queue, keys.arq_job(job.decode()), keys.bell(SHARD))
            await office.redis.set(keys.bell(SHARD), "1")

    async with working(office):
        await eventually(lambda: _nothing_pending(office), timeout_s=20)

    await office.redis.delete(queue, keys.arq_job(job.decode()))
    await office.pump.work_given()
    await check_at_rest(office, booked)


async def _nothing_pending(office: BoxOffice) -> bool:
    return not await office.redis.zcard(keys.pending(SHARD)) and not await (await office.pool()).fetchval(
        "SELECT count(*) FROM payments WHERE due IS NOT NULL"
    )


# ---------------------------------------------------------------------- servers that go away


@pytest.fixture
def killable(servers: Servers) -> Servers:
    """The test servers; whoever kills one starts it again."""
    return servers


async def test_redis_killed_under_load_loses_no_accepted_booking(
    office: BoxOffice, open_sale: SaleMaker, killable: Servers
) -> None:
    """R1, A3. Every 202 is there after the restart; whoever was told nothing or to come again asks again with the same key."""
    event = await open_sale(GA=10_000)
    accepted: set[str] = set()
    unknown: list[tuple[str, str]] = []
    selling = True

    async def customer(n: int) -> None:
        turn = 0
        while selling:
            key, who = f"k{n}-{turn}", f"c{n}"
            turn += 1
            try:
                admitted = await book(office, event, key=key, customer=who, GA=1)
                accepted.add(admitted.booking_id)
            except (StoreAway, GateClosed):
                unknown.append((key, who))
            await pace(0.005)

    async with working(office):
        load = [asyncio.create_task(customer(n)) for n in range(20)]
        for _ in range(2):
            before = len(accepted)
            await eventually(lambda before=before: _grew(accepted, before + 50), timeout_s=20)
            await asyncio.to_thread(killable.kill_redis)
            await eventually(lambda: _admissions_wait(office), timeout_s=10)
            killable.restart_redis()
        before = len(accepted)
        await eventually(lambda: _grew(accepted, before + 50), timeout_s=20)
        selling = False
        await asyncio.gather(*load)
        for key, who in unknown:
            accepted.add((await book(office, event, key=key, customer=who, GA=1)).booking_id)
        await at_rest(office)

    assert (await counters(office, event, "GA")).sold == len(accepted)
    await check_at_rest(office, accepted)


async def _admissions_wait(office: BoxOffice) -> bool:
    """Whether a call is on its way. With Redis dead, it is met by nobody."""
    return bool(office.admission.windows[SHARD].calls)


async def _grew(accepted: set[str], size: int) -> bool:
    return len(accepted) > size


async def test_postgresql_restarted_under_load_parks_nothing(
    office: BoxOffice, open_sale: SaleMaker, killable: Servers
) -> None:
    """P1. Admissions go on meanwhile; everything is settled once it is back."""
    event = await open_sale(GA=10_000)
    booked: list[str] = []
    async with working(office):
        booked += await book_many(office, event, 50, GA=1)
        await at_rest(office)
        booked += await book_many(office, event, 100, GA=1)
        await asyncio.to_thread(killable.kill_postgres)
        booked += await book_many(office, event, 100, GA=1)
        await eventually(lambda: _paused(office), timeout_s=10)
        await check_conservation(office)
        killable.restart_postgres()
        booked += await book_many(office, event, 50, GA=1)
        await eventually(lambda: _nothing_pending_yet(office), timeout_s=25)
        await at_rest(office)

    assert len(booked) == 300
    assert await (await office.pool()).fetchval("SELECT count(*) FROM dead_letters") == 0
    await check_at_rest(office, booked)


async def _paused(office: BoxOffice) -> bool:
    """Whether the worker has met the outage, more than once."""
    return office.settlements[SHARD].outage.pause_s > 0.1


async def _nothing_pending_yet(office: BoxOffice) -> bool:
    return not await office.redis.zcard(keys.pending(SHARD))


# ---------------------------------------------------------------------- answers that get lost


async def test_a_lost_answer_to_commit_settles_once(
    office: BoxOffice, open_sale: SaleMaker, settings: Settings
) -> None:
    """W6. Nobody knows whether it happened. It did: the next claim finds it, and money and tickets move once."""
    event = await open_sale(GA=100)
    async with proxied(settings.database_url) as (proxy, url):
        elsewhere = settings.model_copy(update={"database_url": url})
        async with open_box_office(elsewhere, redis_retries=3) as cut:
            booked = await book_many(office, event, 30, GA=1)
            await cut.pool()
            proxy.when = b"COMMIT"
            async with working(cut):
                await at_rest(office)
            assert proxy.swallowed == 1

    assert (await counters(office, event, "GA")).sold == 30
    await check_at_rest(office, booked)


async def test_a_black_hole_before_postgresql_holds_nobody_up_for_ever(
    office: BoxOffice, open_sale: SaleMaker, settings: Settings
) -> None:
    """The connection stays open and nothing answers. Another worker takes over when the leases end."""
    event = await open_sale(GA=100)
    async with proxied(settings.database_url) as (proxy, url):
        elsewhere = settings.model_copy(update={"database_url": url})
        async with open_box_office(elsewhere, redis_retries=3) as cut:
            booked = await book_many(office, event, 30, GA=1)
            await cut.pool()
            proxy.when, proxy.then = b"COMMIT", "black-hole"
            stuck = asyncio.create_task(cut.settlements[SHARD].drain())
            await eventually(lambda: _swallowed(proxy), timeout_s=10)
            async with working(office):
                await at_rest(office)
            proxy.reset_all()
            await asyncio.wait_for(stuck, 30)

    await check_at_rest(office, booked)


async def _swallowed(proxy: object) -> bool:
    return bool(proxy.swallowed)  # type: ignore[attr-defined]


async def test_a_lost_answer_to_an_admission_is_one_booking(
    office: BoxOffice, open_sale: SaleMaker, settings: Settings
) -> None:
    """A2. The script ran, its answer was cut off: the API sends the same booking again and is told it is in."""
    event = await open_sale(GA=100)
    async with proxied(settings.redis_url) as (proxy, url):
        elsewhere = settings.model_copy(update={"redis_url": url})
        async with open_box_office(elsewhere) as cut:
            await cut.catalogue.event(event.id)
            await book(cut, event, customer="first", GA=1)
            for then in ("reset", "reset"):
                proxy.when, proxy.then = b"EVALSHA", then
                admitted = await book(cut, event, customer=f"lost{proxy.swallowed}", GA=2)
                assert not admitted.replayed
                record = await record_of(office, admitted.booking_id)
                assert record is not None and record.state == "P"
            assert proxy.swallowed == 2

    assert (await counters(office, event, "GA")).held == 5
    async with working(office):
        await at_rest(office)
    await check_at_rest(office)


async def test_a_customer_who_goes_away_leaves_a_whole_booking_or_none(office: BoxOffice, open_sale: SaleMaker) -> None:
    """A1. A request that is cancelled never cuts an admission in half."""
    event = await open_sale(GA=1_000)
    await book(office, event, GA=1)
    for turns in range(40):
        request = asyncio.create_task(book(office, event, customer=f"gone{turns}", GA=2))
        for _ in range(turns % 12):
            await asyncio.sleep(0)
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)
    await office.admission.close()

    counted = await counters(office, event, "GA")
    waiting = await office.redis.zcard(keys.pending(SHARD))
    assert counted.held == 1 + 2 * (waiting - 1)
    async with working(office):
        await at_rest(office)
    await check_at_rest(office)


async def test_a_bad_member_of_a_shared_call_does_not_fail_its_neighbours(
    office: BoxOffice, open_sale: SaleMaker
) -> None:
    """When a call errors, its members are sent again one by one."""
    good, bad = await open_sale(GA=100), await open_sale(GA=100)
    await office.catalogue.event(good.id)
    await office.redis.delete(keys.owners(SHARD, bad.id))
    await office.redis.lpush(keys.owners(SHARD, bad.id), "planted")  # type: ignore[misc]

    answers = await asyncio.gather(
        *(book(office, event, customer=f"c{n}", GA=1) for n in range(10) for event in (good, bad)),
        return_exceptions=True,
    )

    assert sum(isinstance(answer, Admitted) for answer in answers) == 10
    assert sum(isinstance(answer, StoreAway) for answer in answers) == 10
    assert (await counters(office, good, "GA")).held == 10
    assert (await counters(office, bad, "GA")).held == 0
    assert tier_of(good, "GA") != tier_of(bad, "GA")


async def test_a_worker_that_is_told_to_end_answers_the_ring_that_it_has_taken(
    office: BoxOffice, open_sale: SaleMaker
) -> None:
    """Cut off, a ring would stand in the queue until arq's mark lapses: over a minute in which it wakes nobody."""
    event = await open_sale(GA=100)
    told = asyncio.Event()

    async def slow() -> bool:
        await told.wait()
        return True

    async def marks() -> list[bytes]:
        return [key async for key in office.redis.scan_iter("arq:in-progress:*")]

    office.settlements[SHARD].drain = slow  # type: ignore[method-assign]
    async with working(office) as worker:
        await book_many(office, event, 1, GA=1)
        await eventually(marks)
        worker.stop()
        # One that does not wait has ended by then.
        asyncio.get_running_loop().call_later(0.2, told.set)
    assert await office.redis.zcard(keys.arq_queue(SHARD)) == 0
    assert not await marks()
