"""Which shard: everything that is done in one shard is done there, whichever it is, and nowhere else.

Each row of `ROWS` is done in the first of two shards and in the second, with the same events and bookings in both.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from boxoffice import ids
from boxoffice.bookings.reading import BookingFilter
from boxoffice.books.dead_letters import read_parked
from boxoffice.books.moves import apply_moves
from boxoffice.errors import CannotRun, GateClosed
from boxoffice.gateway.base import AuthorizeRequest
from boxoffice.gateway.webhooks import GatewayEvent
from boxoffice.office import BoxOffice, open_box_office
from boxoffice.sales.catalogue import Catalogue
from boxoffice.settings import Settings
from boxoffice.stores import fence, keys
from boxoffice.stores.fence import WentBack
from boxoffice.stores.gate import look
from tests.conftest import CLIENT, SaleMaker, eventually, load_all
from tests.invariants.conftest import working
from tests.support.rounds import change_round
from tests.support.shard_places import PLACES, functions
from tests.support.shop.office import Till
from tests.support.shop.orders import card
from tests.support.twins import Twins

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(params=[0, 1], ids=["in the first", "in the second"])
async def twins(office: BoxOffice, open_sale: SaleMaker, request: pytest.FixtureRequest) -> AsyncIterator[Twins]:
    events = [await open_sale(shard=shard, GA=10, VIP=4) for shard in range(2)]
    await load_all(office)
    yield Twins(office, [Till(office, event) for event in events], request.param)
    for settlement in office.settlements:
        await settlement.stop()


# ------------------------------------------------------------------ what there is in both shards before


async def nothing(twins: Twins) -> None:
    pass


async def held(twins: Twins) -> None:
    await twins.book(None)


async def late(twins: Twins) -> None:
    await held(twins)
    for till, booking in twins:
        await till.time_is_up(booking)


async def pending(twins: Twins) -> None:
    await twins.book()


async def asked(twins: Twins) -> None:
    """The bank asks the customer."""
    await twins.book("tok_3ds")
    await twins.till.drain()


async def confirmed(twins: Twins) -> None:
    await twins.book()
    await twins.till.rest()


async def parked(twins: Twins) -> None:
    """With records that nobody can read."""
    await twins.book()
    for booking in twins.bookings:
        await twins.office.redis.set(keys.booking(ids.shard_of(booking), booking), b"nonsense")

    async def there() -> bool:
        for booking in twins.bookings:
            await twins.till.claimable(booking)
        await twins.till.drain()
        return all([await twins.office.redis.zcard(keys.dead(shard)) for shard in range(2)])

    await eventually(there)


async def moved(twins: Twins) -> None:
    """PostgreSQL gave tickets back that Redis did not hear of."""
    await confirmed(twins)
    for till, booking in twins:
        sale, owners = (name(till.event.shard, till.event.id) for name in (keys.event, keys.owners))
        raw = await till.office.redis.get(keys.booking(till.event.shard, booking))
        before = [await till.office.redis.dump(name) for name in (sale, owners)]
        await till.cancel(booking)
        for name, dumped in zip((sale, owners), before, strict=True):
            await till.office.redis.restore(name, 0, dumped, replace=True)
        await till.office.redis.set(keys.booking(till.event.shard, booking), raw, ex=80_000)
        async for name in till.office.redis.scan_iter(match=f"{keys.moved(till.event.shard, '')}*"):
            await till.office.redis.delete(name)
        await till.fetch("UPDATE stock_moves SET applied_at = NULL")
        assert await till.left("GA") == (8, 0, 2)


async def drifted(twins: Twins) -> None:
    for till in twins.tills:
        await till.office.redis.hincrby(keys.event(till.event.shard, till.event.id), f"a:{till.event.tiers[0].id}", -3)


async def lost(twins: Twins) -> None:
    """Both shards are empty, one booking being confirmed and the other undecided."""
    await confirmed(twins)
    done = twins.bookings
    await asked(twins)
    for shard in range(2):
        async for name in twins.office.redis.scan_iter(match=f"*{keys.shard_tag(shard)}*"):
            await twins.office.redis.delete(name)
    twins.done = done  # type: ignore[attr-defined]


async def forgotten(twins: Twins) -> None:
    """Redis lost the waiting lists, and nothing else."""
    await asked(twins)
    await twins.till.fetch("UPDATE bookings SET updated_at = now() - interval '1 hour'")
    for shard in range(2):
        await twins.office.redis.delete(keys.pending(shard))


async def stray(twins: Twins) -> None:
    """Accepted, and in no waiting list."""
    await pending(twins)
    for shard in range(2):
        await twins.office.redis.delete(keys.pending(shard))


# ------------------------------------------------------------------ what is done in one


async def is_found(twins: Twins) -> None:
    (found,) = [await twins.office.holds.find(CLIENT, twins.booking)]
    assert found is not None and found.id == twins.booking
    assert (await twins.office.bookings.get(CLIENT, twins.booking)).view.status == "held"


async def is_listed_by_its_key(twins: Twins) -> None:
    wanted = BookingFilter(event_id=twins.till.event.id, key_digest=ids.digest("key-1"))
    page = await twins.office.bookings.list(CLIENT, wanted, None, 5)
    assert [view.id for view in page.views] == [twins.booking]


async def is_paid(twins: Twins) -> None:
    await twins.till.pay(twins.booking)
    await twins.office.settlements[twins.mine].drain()
    assert await twins.till.state(twins.booking) == "C confirmed"


async def is_extended(twins: Twins) -> None:
    before = await twins.till.record(twins.booking)
    assert before is not None
    deadline = before.deadline_ms
    await twins.office.holds.extend(CLIENT, twins.booking, 600)
    after = await twins.till.record(twins.booking)
    assert after is not None and after.deadline_ms > deadline
    assert await twins.office.redis.zscore(keys.deadlines(twins.mine), twins.booking) == after.deadline_ms


async def is_changed(twins: Twins) -> None:
    """In Redis, and in the row that a declined payment has left."""
    await twins.till.pay(twins.booking, "tok_card_declined")
    await twins.office.settlements[twins.mine].drain()
    before = await twins.till.left("GA")
    view, _ = await twins.till.change(twins.booking, GA=1)
    assert await twins.till.left("GA") == (before[0] + before[1] - 1, 1, before[2])
    rows = await twins.till.fetch("SELECT quantity FROM booking_items WHERE booking_id = $1", twins.booking)
    assert ([row["quantity"] for row in rows], view.amount_cents) == ([1], 1_000)
    assert await twins.office.redis.exists(keys.changes(twins.mine, twins.booking))


async def is_cancelled(twins: Twins) -> None:
    assert await twins.till.cancel(twins.booking) == "cancelled"
    assert await twins.till.left("GA") == (10, 0, 0)


async def is_refunded(twins: Twins) -> None:
    await twins.till.refund(twins.booking, GA=1)
    assert await twins.till.left("GA") == (9, 0, 1)


async def expires(twins: Twins) -> None:
    assert await twins.office.holds.expire(twins.mine) == 1
    assert (await twins.till.state(twins.booking))[0] == "E"


async def settles(twins: Twins) -> None:
    await twins.office.settlements[twins.mine].drain()
    assert await twins.till.state(twins.booking) == "C confirmed"
    assert await twins.till.left("GA") == (8, 0, 2)


async def rings(twins: Twins) -> None:
    redis, record = twins.office.redis, await twins.till.record(twins.booking)
    assert record is not None
    await redis.delete(keys.bell(twins.mine))
    rung = int(await redis.get(keys.rings(twins.mine)))
    await twins.office.webhooks.receive("simulator", GatewayEvent("e", "authorized", record.payment_key, None))
    assert int(await redis.get(keys.rings(twins.mine))) == rung + 1
    assert await redis.zscore(keys.pending(twins.mine), twins.booking) < 2_000_000_000_000


async def comes_in_late(twins: Twins) -> None:
    """Money for a hold that has expired."""
    record = await twins.till.record(twins.booking)
    assert record is not None
    await twins.office.holds.expire(twins.mine)
    record.state, record.payment_key = "E", "0" * 64
    await twins.office.redis.set(keys.booking(twins.mine, twins.booking), record.pack())
    assert await twins.office.late.revive(twins.booking, "0" * 64, card())
    assert (await twins.till.state(twins.booking))[0] == "P"
    assert await twins.till.left("GA") == (8, 2, 0)


async def is_retried(twins: Twins) -> None:
    await twins.office.parked.retry(twins.booking)
    assert await twins.office.redis.zscore(keys.dead(twins.mine), twins.booking) is None
    assert await twins.office.redis.zscore(keys.pending(twins.mine), twins.booking) is not None
    assert await twins.office.redis.zscore(keys.dead(1 - twins.mine), twins.bookings[1 - twins.mine]) is not None


async def is_failed_by_an_operator(twins: Twins) -> None:
    letters = await read_parked(twins.office.shards, twins.office.database)
    assert {letter.booking for letter in letters} == set(twins.bookings)
    await twins.office.parked.fail(twins.booking)
    assert await twins.office.redis.zcard(keys.dead(twins.mine)) == 0
    assert await twins.till.left("GA") == (10, 0, 0)


async def is_told_in_a_dossier(twins: Twins) -> None:
    told = (await twins.office.dossiers.of(twins.booking))["redis"]
    assert told is not None and told["event"] == twins.till.event.id and "deadline" in told


async def moves(twins: Twins) -> None:
    office = twins.office
    assert await apply_moves(office.shards[twins.mine], office.database) == 1
    assert await twins.till.left("GA") == (10, 0, 0)


async def is_reconciled(twins: Twins) -> None:
    found = await twins.office.guards[twins.mine].reconciler.every_event(fix=True)
    assert [(report.event, report.word) for report in found] == [(twins.till.event.id, "fixed")]
    assert await twins.till.left("GA") == (10, 0, 0)


async def is_rebuilt(twins: Twins) -> None:
    await twins.office.guards[twins.mine].rebuilder.rebuild()
    assert await twins.till.left("GA") == (6, 2, 2)
    assert await twins.till.state(twins.done[twins.mine]) == "C confirmed"  # type: ignore[attr-defined]
    assert await twins.till.state(twins.booking) == "P pending"
    assert await twins.office.redis.zrange(keys.pending(twins.mine), 0, -1) == [twins.booking.encode()]
    assert (await look(twins.office.shards[twins.mine])).word == "open"


async def is_guarded(twins: Twins) -> None:
    async def opened() -> bool:
        await twins.office.guards[twins.mine].tick()
        return (await look(twins.office.shards[twins.mine])).word == "open"

    await eventually(opened)
    assert await twins.till.left("GA") == (6, 2, 2)


async def is_mended(twins: Twins) -> None:
    await twins.office.menders[twins.mine].mend()
    assert await twins.office.redis.zscore(keys.pending(twins.mine), twins.booking) is not None


async def is_gathered(twins: Twins) -> None:
    assert await twins.office.guards[twins.mine].reconciler.strays.gather() == 1
    assert await twins.office.redis.zscore(keys.pending(twins.mine), twins.booking) is not None


async def is_loaded(twins: Twins) -> None:
    await twins.office.redis.delete(keys.catalogue(twins.mine), keys.event(twins.mine, twins.till.event.id))
    await twins.office.guards[twins.mine].load()
    assert await twins.till.left("GA") == (10, 0, 0)
    assert await twins.office.redis.hexists(keys.catalogue(twins.mine), twins.till.event.id)


async def is_booked(twins: Twins) -> None:
    booking = await twins.till.book(GA=1)
    assert ids.shard_of(booking) == twins.mine
    assert await twins.office.redis.zrange(keys.pending(twins.mine), 0, -1) == [booking.encode()]
    assert await twins.till.left("GA") == (9, 1, 0)


async def refuses_while_it_is_closed(twins: Twins) -> None:
    await twins.office.redis.delete(keys.gate(twins.mine))
    with pytest.raises(GateClosed):
        await twins.till.book(GA=1)
    assert await twins.tills[1 - twins.mine].left("GA") == (10, 0, 0)


async def is_shown_by_a_new_process(twins: Twins) -> None:
    """A catalogue that has seen nothing yet; the other shard being lost, its events are not called unknown."""
    other = 1 - twins.mine
    gate, events = (
        await twins.office.redis.getdel(keys.gate(other)),
        await twins.office.redis.dump(keys.catalogue(other)),
    )
    await twins.office.redis.delete(keys.catalogue(other))
    catalogue = Catalogue(twins.office.shards, twins.office.settings)
    assert await catalogue.event(twins.till.event.id) == twins.till.event
    assert await catalogue.availability(twins.till.event) == [8, 4]
    with pytest.raises(GateClosed):
        await catalogue.event(twins.tills[other].event.id)
    await twins.office.redis.set(keys.gate(other), gate)
    await twins.office.redis.restore(keys.catalogue(other), 0, events)


async def is_known_to_the_audit(twins: Twins) -> None:
    """The gateway has its money, and Redis alone its booking: nobody's money is only what no shard's Redis knows."""
    for till, booking in twins:
        record = await till.record(booking)
        assert record is not None
        request = AuthorizeRequest(record.payment_key, booking, 2_000, "USD", "card", "tok_ok_4242")
        await till.gateway.authorize_batch([request])

    async def strangers() -> list[str | None]:
        return [found.booking async for found in twins.office.payments_audit.run(fix=False, grace_s=0)]

    assert await strangers() == []
    await twins.office.redis.delete(keys.booking(twins.mine, twins.booking))
    assert await strangers() == [twins.booking]


async def went_back(twins: Twins) -> None:
    """PostgreSQL lacks a commit of this shard: nobody touches money until its guard has written it again."""
    await twins.office.redis.sadd(keys.told(twins.mine), "50:1")
    with pytest.raises(WentBack):
        await twins.office.refunds.check_fence()
    with pytest.raises(CannotRun):
        [found async for found in twins.office.payments_audit.run(fix=False, grace_s=0)]
    office, pool = twins.office, await twins.office.pool()
    lost = [len(await fence.lost(pool, shard, await fence.told(office.shards[shard]))) for shard in range(2)]
    assert lost[twins.mine] == 1 and sum(lost) == 1
    assert await twins.office.guards[twins.mine].tick() == "recovered"
    assert await twins.office.refunds.check_fence()


async def is_repaired_by_its_event(twins: Twins) -> None:
    office = twins.office
    repair = office.repair
    found = await repair.reconcile(event=twins.till.event.id, fix=True)
    assert (found.word, [report.event for report in found.reports]) == ("fixed", [twins.till.event.id])


async def closes_readiness(twins: Twins) -> None:
    await twins.office.redis.delete(keys.gate(twins.mine))
    assert (await twins.office.readiness.redis(True)) == f"The gate of shard {twins.mine} is closed."


Step = Callable[[Twins], Awaitable[None]]

ROWS: list[tuple[Step, Step]] = [
    (nothing, is_booked), (nothing, refuses_while_it_is_closed), (nothing, is_loaded),
    (held, is_found), (held, is_listed_by_its_key), (held, is_paid), (held, is_extended), (held, is_changed),
    (held, is_cancelled),
    (held, is_told_in_a_dossier), (late, expires), (late, comes_in_late), (pending, settles), (asked, rings),
    (confirmed, is_cancelled), (confirmed, is_refunded), (parked, is_retried), (parked, is_failed_by_an_operator),
    (moved, moves), (drifted, is_reconciled), (lost, is_rebuilt), (lost, is_guarded), (forgotten, is_mended),
    (stray, is_gathered), (held, is_shown_by_a_new_process), (pending, is_known_to_the_audit), (confirmed, went_back),
    (drifted, is_repaired_by_its_event), (nothing, closes_readiness),
]  # fmt: skip


OF_BOTH = {is_shown_by_a_new_process, is_known_to_the_audit, went_back, closes_readiness, refuses_while_it_is_closed}
"""What is done of all shards at once; the others are done while PostgreSQL lacks a commit of the other shard, whose gate is
closed."""


@pytest.mark.parametrize(("before", "done"), ROWS, ids=[f"{before.__name__}-{done.__name__}" for before, done in ROWS])
async def test_what_is_done_in_one_shard_is_done_there_and_nowhere_else(twins: Twins, before: Step, done: Step) -> None:
    await before(twins)
    if done not in OF_BOTH:
        # Whoever looks at the other shard's gate, or at what it was told, believes that nothing may be done.
        await twins.office.redis.delete(keys.gate(1 - twins.mine))
        await twins.office.redis.sadd(keys.told(1 - twins.mine), "50:1")
    traces = await twins.traces(1 - twins.mine)

    await done(twins)

    after = await twins.traces(1 - twins.mine)
    assert after.keys() == traces.keys()
    assert [name for name in after if after[name] != traces[name]] == [], "and the other shard is as it was"


# ------------------------------------------------------------------ the loops of a worker

QUICK: dict[str, float] = {"lease_ms": 1_000, "guard_ms": 200}
SLOW: dict[str, float] = {"sweep_ms": 3_600_000, "reconcile_s": 3_600}
"""So that the one loop that a row is about does it, and no other."""


async def heard(twins: Twins, lines: list[Any]) -> bool:
    return (await twins.till.state(twins.booking))[0] == "C"


async def opened(twins: Twins, lines: list[Any]) -> bool:
    return (await look(twins.office.shards[twins.mine])).word == "open"


async def loaded(twins: Twins, lines: list[Any]) -> bool:
    return bool(await twins.office.redis.exists(keys.event(twins.mine, twins.till.event.id)))


async def swept(twins: Twins, lines: list[Any]) -> bool:
    return (await twins.till.state(twins.booking))[0] == "E"


async def mended(twins: Twins, lines: list[Any]) -> bool:
    return await twins.office.redis.zscore(keys.pending(twins.mine), twins.booking) is not None


async def counted(twins: Twins, lines: list[Any]) -> bool:
    told = {(line["shard"], line["event_id"]) for line in lines if line["event"] == "drift.found"}
    return (twins.mine, twins.till.event.id) in told


async def closed(twins: Twins) -> None:
    await twins.office.redis.delete(*(keys.gate(shard) for shard in range(2)))
    await twins.till.fetch("UPDATE shards SET settled_at = now() - interval '1 hour'")


async def unloaded(twins: Twins) -> None:
    for till in twins.tills:
        await twins.office.redis.delete(keys.event(till.event.shard, till.event.id))


LOOPS: list[tuple[Step, Callable[[Twins, list[Any]], Awaitable[bool]], dict[str, float]]] = [
    (pending, heard, {}), (closed, opened, {}), (unloaded, loaded, {}), (late, swept, {"sweep_ms": 50}),
    (forgotten, mended, {}), (drifted, counted, {"reconcile_s": 0.1}),
]  # fmt: skip


@pytest.mark.parametrize(("before", "seen", "pace"), LOOPS, ids=[seen.__name__ for _, seen, _ in LOOPS])
async def test_a_worker_looks_after_every_shard(
    twins: Twins, settings: Settings, monkeypatch: pytest.MonkeyPatch, before: Step, seen: Any, pace: dict[str, float]
) -> None:
    change_round(monkeypatch, "reconciling", after_s=0.0)
    await before(twins)
    worker = settings.worker.model_copy(update=SLOW | QUICK | pace)
    with capture_logs() as lines:
        async with (
            open_box_office(settings.model_copy(update={"worker": worker}), redis_retries=3) as office,
            working(office),
        ):
            await eventually(lambda: seen(twins, lines), timeout_s=20)


# ------------------------------------------------------------------ that no place is left out


def test_every_function_that_names_a_shard_has_its_test() -> None:
    """A new one is added to `PLACES`, with a test that fails when its shard is 0, and when it is the other one."""
    known = {file: names.split() for file, (names, _) in PLACES.items()}
    found = functions(ROOT)
    assert {file: sorted({*found.get(file, ())} ^ {*known.get(file, ())}) for file in found | known if
            found.get(file) != known.get(file)} == {}  # fmt: skip

    steps = {done.__name__ for _, done in ROWS} | {seen.__name__ for _, seen, _ in LOOPS}
    for _, tests in PLACES.values():
        for test in tests.split():
            path, _, name = test.partition("::")
            assert test in steps or f"def {name}" in (ROOT / path).read_text(), test
