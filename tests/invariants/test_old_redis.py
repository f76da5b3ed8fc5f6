"""R1, R2: a Redis that starts again, with all it had, with an older copy of its file, or as a replica that lagged.

None decides anything before a guard has compared it with PostgreSQL; what it forgot is put right first.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from boxoffice.errors import GateClosed, HoldEnded, PaymentInProgress, StoreAway
from boxoffice.office import BoxOffice, open_box_office
from boxoffice.settings import Settings
from boxoffice.stores import fence, keys
from boxoffice.stores.gate import look
from ops.stack.servers import Servers, temporary_data_dir
from tests.conftest import CLIENT, SHARD, SaleMaker, check_run, counters, eventually, load_all, until_later
from tests.invariants.conftest import at_rest, working
from tests.support.shop.office import Till, book, record_of
from tests.support.shop.orders import card
from tests.support.waiting import pace

PutBack = Callable[[], Awaitable[None]]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Who meets a server that nobody checks gives up soon."""
    return settings.model_copy(update={"api": settings.api.model_copy(update={"retry_s": 0.2})})


@pytest.fixture
async def till(office: BoxOffice, open_sale: SaleMaker) -> Till:
    event = await open_sale(GA=100)
    await load_all(office)
    await office.catalogue.refresh()
    return Till(office, event)


@asynccontextmanager
async def copied(servers: Servers, tmp_path: Path) -> AsyncIterator[PutBack]:
    """A copy of Redis's file as it is now, and how to put it back under a server that starts again."""
    folder = servers.home.path / "redis" / "appendonlydir"
    shutil.copytree(folder, tmp_path / "copy")

    async def put_back() -> None:
        await asyncio.to_thread(servers.kill_redis)
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / "copy", folder)
        await asyncio.to_thread(servers.restart_redis)

    yield put_back


@asynccontextmanager
async def dumped(servers: Servers, office: BoxOffice, *, as_base: bool) -> AsyncIterator[PutBack]:
    """A snapshot (RDB) of Redis as it is now, and how to put it back: in place of the append-only file, or beside none."""
    folder = servers.home.path / "redis"
    await office.redis.execute_command("SAVE")  # type: ignore[no-untyped-call]
    snapshot = (folder / "dump.rdb").read_bytes()
    (folder / "dump.rdb").unlink()

    async def put_back() -> None:
        await asyncio.to_thread(servers.kill_redis)
        shutil.rmtree(folder / "appendonlydir")
        if as_base:
            (folder / "appendonlydir").mkdir()
            (folder / "appendonlydir" / "appendonly.aof.1.base.rdb").write_bytes(snapshot)
            manifest = "file appendonly.aof.1.base.rdb seq 1 type b\n"
            (folder / "appendonlydir" / "appendonly.aof.manifest").write_text(manifest)
        else:
            (folder / "dump.rdb").write_bytes(snapshot)
        await asyncio.to_thread(servers.restart_redis)

    yield put_back
    (folder / "dump.rdb").unlink(missing_ok=True)


async def state_of(office: BoxOffice, booking: str) -> str:
    record = await record_of(office, booking)
    return record.state if record else "-"


async def opens(office: BoxOffice) -> None:
    async def opened() -> bool:
        return (await look(office.shards[SHARD])).word == "open"

    await eventually(opened)


async def refuses_everything(till: Till, booking: str) -> None:
    """Whatever a shop and the sweeper would do with what they take for a hold; but what PostgreSQL has confirmed can be
    cancelled there."""
    office = till.office
    for deed in (
        lambda: till.pay(booking),
        lambda: office.holds.extend(CLIENT, booking, None),
        lambda: office.holds.expire(SHARD),
        lambda: book(office, till.event, GA=1),
    ):
        with pytest.raises(GateClosed):
            await deed()


# ---------------------------------------------------------------------- an older copy of the file


async def test_a_hold_that_was_paid_since_is_decided_by_nobody(till: Till, servers: Servers, tmp_path: Path) -> None:
    """To the old file it is still a hold. No sequence shows that: nobody was admitted since."""
    office, booking = till.office, await till.hold(GA=2)
    async with copied(servers, tmp_path) as put_back:
        await till.pay(booking)
        await till.rest()
        await put_back()
    assert await state_of(office, booking) == "H", "that is what it remembers"

    await refuses_everything(till, booking)
    assert (await office.bookings.get(CLIENT, booking)).view.status == "confirmed"
    assert await state_of(office, booking) == "H", "nothing was touched"

    await check_run(office)
    assert await state_of(office, booking) == "C"
    assert (await counters(office, till.event, "GA")).sold == 2
    with pytest.raises(HoldEnded):
        await till.pay(booking)
    assert await till.cancel(booking) == "cancelled", "as a confirmed booking is: with its money"
    await till.at_rest(booking)


@pytest.mark.parametrize("as_base", [True, False])
async def test_a_snapshot_put_back_is_an_older_copy_or_nothing(till: Till, servers: Servers, as_base: bool) -> None:
    """As the base of the append-only file it is what it was; put beside, the server does not read it and is empty. Neither
    decides anything before a worker has filled it from PostgreSQL."""
    office, held, later = till.office, await till.hold(GA=2), await till.hold(GA=1)
    async with dumped(servers, office, as_base=as_base) as put_back:
        await till.pay(held)
        since = await till.book(GA=3)
        await till.rest()
        await put_back()
        assert await state_of(office, held) == ("H" if as_base else "-")
        with pytest.raises(GateClosed):
            await book(office, till.event, GA=1)

        async with working(office):
            await opens(office)
            await book(office, till.event, GA=1)
            await at_rest(office)

        assert [await state_of(office, booking) for booking in (held, since)] == ["C", "C"]
        assert await state_of(office, later) == ("H" if as_base else "-"), (
            "a hold that nobody paid is in no other store"
        )
        counted = await counters(office, till.event, "GA")
        assert (counted.available, counted.held, counted.sold) == ((93, 1, 6) if as_base else (94, 0, 6))
        await till.at_rest(held, since)


async def test_cancelling_a_paid_booking_at_an_unchecked_redis_gives_its_money_back_once(
    till: Till, servers: Servers, tmp_path: Path
) -> None:
    """PostgreSQL can do that, and does; the shop is told once Redis can hear of it: when it is checked."""
    office, booking = till.office, await till.hold(GA=2)
    async with copied(servers, tmp_path) as put_back:
        await till.pay(booking)
        await till.rest()
        await put_back()

    with pytest.raises(StoreAway):
        await till.cancel(booking)
    assert (await office.bookings.get(CLIENT, booking)).view.status == "cancelled"

    await check_run(office)
    assert await till.cancel(booking) == "cancelled"
    assert await state_of(office, booking) == "X"
    assert (await counters(office, till.event, "GA")).available == 100
    await till.at_rest(booking)


async def test_a_late_hold_that_was_paid_since_is_not_expired(till: Till, servers: Servers, tmp_path: Path) -> None:
    """With a worker that sweeps ten times a second: the guard comes first, whoever is quicker."""
    office, booking = till.office, await till.hold(GA=2, hold_s=1)
    async with copied(servers, tmp_path) as put_back:
        await till.pay(booking)
        await till.rest()
        await until_later(office, 1_100)  # its deadline passes
        async with working(office):
            await put_back()
            await opens(office)
            await at_rest(office)

    assert await state_of(office, booking) == "C"
    await till.at_rest(booking)


async def test_a_payment_under_way_is_not_forgotten(till: Till, servers: Servers, tmp_path: Path) -> None:
    """The customer is at his bank; the old file has a hold that anybody could cancel without letting the money go."""
    office, booking = till.office, await till.hold(GA=2)
    async with copied(servers, tmp_path) as put_back:
        await till.pay(booking, "tok_3ds")
        await till.drain()
        await put_back()
    assert await state_of(office, booking) == "H"

    await refuses_everything(till, booking)
    with pytest.raises(GateClosed):
        await till.cancel(booking)
    await check_run(office)

    record = await record_of(office, booking)
    assert record is not None and (record.state, record.attempts) == ("P", 1)
    assert await office.redis.zscore(keys.deadlines(SHARD), booking) is None
    assert (await counters(office, till.event, "GA")).held == 2
    with pytest.raises(PaymentInProgress):
        await till.pay(booking, key="another")


async def test_what_was_cancelled_since_is_not_confirmed_again(till: Till, servers: Servers, tmp_path: Path) -> None:
    """A final record that differs from PostgreSQL is corrected, its stock and its customer's count with it."""
    office, booking, other = till.office, await till.book(GA=2), await till.book(GA=3)
    await till.rest()
    async with copied(servers, tmp_path) as put_back:
        assert await till.cancel(booking) == "cancelled"
        await till.rest()
        await put_back()
    assert await state_of(office, booking) == "C"

    await check_run(office)

    assert (await state_of(office, booking), await state_of(office, other)) == ("X", "C")
    counted = await counters(office, till.event, "GA")
    assert (counted.available, counted.sold) == (97, 3)
    await till.at_rest(booking, other)


@pytest.mark.parametrize("kept", [fence.REMEMBERED, 0])
async def test_bookings_taken_since_come_back(
    till: Till, servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    """The highest sequence in PostgreSQL shows them: the shard is rebuilt before it opens. Also when the file is so old
    that PostgreSQL no longer keeps the batches that it names."""
    monkeypatch.setattr(fence, "REMEMBERED", kept)
    office = till.office
    await till.book(GA=1)
    await till.rest()
    async with copied(servers, tmp_path) as put_back:
        booked = []
        for n in range(5):
            booked.append(await till.book(GA=1, customer=f"c{n}"))
            await till.rest()
        assert await office.guards[SHARD].tick() == "fine"
        await put_back()
    assert await state_of(office, booked[0]) == "-"
    # It is Redis that went back, not PostgreSQL.
    assert await fence.lost(await office.pool(), SHARD, await fence.told(office.shards[SHARD])) == []
    assert (await office.bookings.get(CLIENT, booked[0])).view.status == "confirmed"
    with pytest.raises(GateClosed):
        await book(office, till.event, GA=1)

    await check_run(office)

    assert {await state_of(office, booking) for booking in booked} == {"C"}
    await till.at_rest(*booked)


@pytest.mark.parametrize("at", ["before", "while it is paid"])
async def test_a_hold_whose_change_is_forgotten_is_sold_with_the_items_that_redis_counts(
    till: Till, servers: Servers, tmp_path: Path, at: str
) -> None:
    """PostgreSQL has it held with those of the change. Paid again, items, money and stock agree, and all of it can be given
    back."""
    office, booking = till.office, await till.hold(GA=1)
    if at != "before":
        await till.pay(booking, "tok_card_declined")
    async with copied(servers, tmp_path) as put_back:
        if at == "before":
            await till.change(booking, GA=4)
            await till.pay(booking, "tok_card_declined")
            await till.rest()
        else:
            await till.rest()
            await till.change(booking, GA=4)
        since = await till.book(GA=1)
        await till.rest()
        await put_back()
    (item,) = await till.fetch("SELECT quantity FROM booking_items WHERE booking_id = $1", booking)
    assert item["quantity"] == 4
    await check_run(office)
    await till.rest()
    assert await till.state(booking) == "H held"

    await till.pay(booking)
    await till.rest()

    assert await till.state(booking) == "C confirmed"
    (row,) = await till.fetch(
        "SELECT i.quantity, b.amount_cents, n.sold FROM booking_items i JOIN bookings b ON b.id = i.booking_id"
        " JOIN inventory n ON n.tier_id = i.tier_id WHERE b.id = $1",
        booking,
    )
    assert tuple(row) == (1, 1_000, 1 + 1)
    assert await till.left("GA") == (98, 0, 2)
    assert await till.cancel(booking) == "cancelled"
    await till.at_rest(booking, since)
    assert await till.left("GA") == (99, 0, 1)


@pytest.mark.parametrize(
    ("how", "had", "end", "told"),
    [
        ("checked", "H", "confirmed", True), ("checked", "P", "confirmed", True), ("checked", "H", "cancelled", True),
        ("checked", "H", "cancelled", False), ("rebuilt", "H", "confirmed", True), ("rebuilt", "P", "cancelled", False),
    ],
)  # fmt: skip
async def test_a_booking_that_was_changed_and_ended_since_is_what_it_ended_as(
    till: Till, servers: Servers, tmp_path: Path, how: str, had: str, end: str, told: bool
) -> None:
    """With the tickets that were sold, for whoever reads it, and in everybody's counts; also when nobody was admitted since,
    or no Redis was ever told that its tickets came back."""
    office, booking, same = till.office, await till.hold(GA=1), await till.hold(GA=2)
    if had == "P":
        await till.pay(booking, "tok_card_declined")
    async with copied(servers, tmp_path) as put_back:
        await till.rest()
        await till.change(booking, GA=4)
        for each in (booking, same):
            await till.pay(each)
        if how == "rebuilt":
            await till.book(GA=1)
        await till.rest()
        if end == "cancelled":
            await till.cancel(booking)
            await till.rest()
        if not told:
            await till.fetch("UPDATE stock_moves SET applied_at = NULL")
        await put_back()
    assert await till.state(booking) == f"{had} {end}"

    await check_run(office)

    record = await record_of(office, booking)
    assert record is not None and [line.quantity for line in record.body.lines] == [4]
    assert record.body.amount_cents == 4_000
    assert record.state == ("C" if end == "confirmed" else "X")
    assert await state_of(office, same) == "C"
    sold = 2 + (how == "rebuilt") + (4 if end == "confirmed" else 0)
    assert await till.left("GA") == (100 - sold, 0, sold)
    for name in (keys.pending(SHARD), keys.deadlines(SHARD)):
        assert await office.redis.zcard(name) == 0
    await till.at_rest(booking, same)


async def test_a_changed_booking_that_has_ended_is_put_right_though_no_counter_differs(
    till: Till, servers: Servers, tmp_path: Path
) -> None:
    """Cancelled: all tickets are on sale again there, and one is held here. Nothing that is sold tells of it."""
    office, booking = till.office, await till.hold(GA=1)
    await till.pay(booking, "tok_card_declined")
    await till.rest()
    async with copied(servers, tmp_path) as put_back:
        await till.change(booking, GA=4)
        await till.cancel(booking)
        await till.rest()
        await put_back()
    assert await till.state(booking) == "H cancelled"

    await check_run(office)

    record = await record_of(office, booking)
    assert record is not None and (record.state, [line.quantity for line in record.body.lines]) == ("X", [4])
    assert await till.left("GA") == (100, 0, 0)
    await till.at_rest(booking)


# ---------------------------------------------------------------------- a replica


async def test_a_promoted_replica_decides_nothing_before_it_is_checked(till: Till, servers: Servers) -> None:
    """It lagged: the payment of a hold never reached it. Its data names the run of its primary."""
    booking = await till.hold(GA=2)
    with temporary_data_dir() as folder, Servers(folder, debug=True, with_postgres=False) as others:
        await _follow(others.redis_url, servers.redis_url, till.office.redis)
        async with Redis.from_url(others.redis_url) as replica:
            await replica.execute_command("REPLICAOF", "NO", "ONE")
        await till.pay(booking)
        await till.rest()
        moved = till.office.settings.model_copy(update={"redis_url": others.redis_url})
        async with open_box_office(moved) as office:
            await office.catalogue.refresh()
            there = Till(office, till.event)
            assert await state_of(office, booking) == "H"
            await refuses_everything(there, booking)

            await check_run(office)

            assert await state_of(office, booking) == "C"
            await there.at_rest(booking)


async def _follow(replica_url: str, primary_url: str, primary: Redis) -> None:
    address = Redis.from_url(primary_url).connection_pool.connection_kwargs
    async with Redis.from_url(replica_url) as replica:
        await replica.config_set("masterauth", address["password"])
        await replica.execute_command("REPLICAOF", address["host"], address["port"])

        async def in_step() -> bool:
            theirs, ours = await replica.info("replication"), await primary.info("replication")
            return theirs["master_link_status"] == "up" and theirs["slave_repl_offset"] == ours["master_repl_offset"]

        await eventually(in_step, timeout_s=20)
        await replica.config_set("masterauth", "")


# ---------------------------------------------------------------------- all it had


@pytest.mark.parametrize("restarts", [3])
async def test_a_restart_is_not_felt(
    clean: None, settings: Settings, open_sale: SaleMaker, office: BoxOffice, servers: Servers, restarts: int
) -> None:
    """R1. Customers book all the while; each waits, and none is refused."""
    event = await open_sale(GA=100_000)
    patient = settings.model_copy(update={"api": settings.api.model_copy(update={"retry_s": 8.0})})
    over, booked, waited = asyncio.Event(), list[str](), list[float]()
    async with open_box_office(patient) as shop, working(office):
        await shop.catalogue.refresh()

        async def customer() -> None:
            while not over.is_set():
                started = asyncio.get_running_loop().time()
                booked.append((await book(shop, event, GA=1)).booking_id)
                waited.append(asyncio.get_running_loop().time() - started)
                await pace(0.02)

        customers = [asyncio.create_task(customer()) for _ in range(10)]
        for _ in range(restarts):
            before = len(booked)

            async def some_more(before: int = before) -> bool:
                return len(booked) > before + 50

            await eventually(some_more, timeout_s=20)
            await asyncio.to_thread(servers.kill_redis)
            await asyncio.to_thread(servers.restart_redis)
        await eventually(some_more, timeout_s=20)
        over.set()
        await asyncio.gather(*customers)
        await at_rest(office)

    assert await (await office.pool()).fetchval("SELECT count(*) FROM bookings WHERE status = 'confirmed'") == len(
        booked
    )
    print(f"longest wait {max(waited):.2f} s")


async def test_an_unchecked_server_is_asked_about_at_once(till: Till) -> None:
    """Not at the guard's next look, which is a minute away here."""
    office = till.office
    slow = office.settings.model_copy(
        update={
            "worker": office.settings.worker.model_copy(update={"guard_ms": 60_000}),
            "api": office.settings.api.model_copy(update={"retry_s": 10.0}),
        }
    )
    async with open_box_office(slow) as shop, open_box_office(slow, redis_retries=3) as back:
        await shop.catalogue.refresh()
        async with working(back):
            # The worker has looked once, and waits.
            await eventually(lambda: office.redis.exists(keys.sound(SHARD)))
            await office.redis.set(keys.gate(SHARD), "first:of another run")
            await asyncio.wait_for(book(shop, till.event, GA=1), 25)
            await office.redis.set(keys.gate(SHARD), "first:of another run")
            hold = await asyncio.wait_for(Till(shop, till.event).hold(GA=1), 25)
            await office.redis.set(keys.gate(SHARD), "first:of another run")
            await asyncio.wait_for(shop.holds.extend(CLIENT, hold, None), 25)
            await office.redis.set(keys.gate(SHARD), "first:of another run")
            assert (await asyncio.wait_for(shop.bookings.get(CLIENT, hold), 25)).view.status == "held"
            await office.redis.set(keys.gate(SHARD), "first:of another run")
            await asyncio.wait_for(shop.holds.pay(CLIENT, hold, card(), "0" * 32), 25)


# ---------------------------------------------------------------------- with the gate open


async def test_mend_corrects_a_final_record(till: Till) -> None:
    """However it came about: PostgreSQL has it confirmed and captured, Redis calls it expired and sells its tickets."""
    office, booking = till.office, await till.hold(GA=2)
    await till.pay(booking)
    await till.rest()
    record = await record_of(office, booking)
    assert record is not None
    record.state = "E"
    await office.redis.set(keys.booking(SHARD, booking), record.pack(), ex=3_600)
    tier = till.event.tiers[0].id
    await office.redis.hincrby(keys.event(SHARD, till.event.id), f"a:{tier}", 2)
    await office.redis.hincrby(keys.event(SHARD, till.event.id), f"c:{tier}", -2)

    assert (await office.menders[SHARD].mend()).corrected == 1

    assert await state_of(office, booking) == "C"
    await till.at_rest(booking)
    assert (await office.menders[SHARD].mend()).corrected == 0
