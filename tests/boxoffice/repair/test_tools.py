"""Two shards with two concerts each: every repair mends its own shard, or its own event, and touches nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from boxoffice.books.moves import apply_moves
from boxoffice.errors import DriftUnexplained, GateClosed, NotFound
from boxoffice.repair.rebuild import POSTGRES_WENT_BACK
from boxoffice.repair.tools import Repair
from boxoffice.stores import keys
from boxoffice.stores.gate import Gate, look
from boxoffice.stores.redis import run_id
from tests.support.houses import SHARDS, House, Houses, unheard
from tests.support.shop.office import Died
from tests.support.shop.orders import tier_of
from tests.support.shop.script import shift_owned


@pytest.fixture
def shard() -> int:
    """The one that is repaired: not the first, which a slip of the pen would take."""
    return 1


@pytest.fixture
async def full(houses: Houses) -> Houses:
    """Something of every kind was booked at each."""
    await houses.fill()
    return houses


def repair_of(houses: Houses) -> Repair:
    office = houses.office
    return office.repair


async def told(house: House) -> list[Any]:
    """Everything that a shop could notice of a concert, and everything that is counted."""
    return [await house.counted(), await house.states(), await house.places()]


async def shift(house: House, code: str, **letters: int) -> None:
    """Drift: `shift(house, "GA", a=-3)`."""
    tier = next(tier.id for tier in house.event.tiers if tier.code == code)
    for letter, by in letters.items():
        await house.office.redis.hincrby(keys.event(house.shard, house.event.id), f"{letter}:{tier}", by)  # type: ignore[misc]


async def move_unheard(house: House, booking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelled in PostgreSQL, and Redis has not heard of it."""

    async def nothing(*args: object) -> int:
        return 0

    with monkeypatch.context() as patched:
        patched.setattr("boxoffice.money.mirror.apply_moves", nothing)
        assert await house.cancel(booking) == "cancelled"


# ------------------------------------------------------------------ rebuilding


async def test_a_rebuild_fills_its_shard_and_touches_no_other(full: Houses, shard: int) -> None:
    """Counts of tiers, customers and unpaid tickets, states, deadlines, idempotency keys and their lives are as before."""
    before = [await told(house) for house in full.of(shard)]
    other, row, mine = await full.photo(1 - shard), await full.row(1 - shard), await full.row(shard)
    await full.forget(shard)

    report = await full.office.rebuilders[shard].rebuild()

    assert (report.shard, report.events, report.undecided, report.final) == (shard, 2, 4, 8)
    assert [await told(house) for house in full.of(shard)] == before
    now = await full.row(shard)
    gate = Gate(report.generation, await run_id(full.office.redis))
    assert Gate.parse(await full.office.redis.get(keys.gate(shard))) == gate
    assert (now["generation"], now["run_id"], now["alert"]) == (*gate, None)
    assert report.generation != mine["generation"], "whoever worked under the old one is refused"
    assert now["sequence"] == int(await full.office.redis.get(keys.sequence(shard))) >= mine["sequence"] + 1_000_000
    assert await full.photo(1 - shard) == other
    assert await full.row(1 - shard) == row
    assert await full.office.guards[shard].tick() == "fine"


@pytest.mark.parametrize(
    "lost", ["sale", "owners", "owned_tiers", "unpaid", "pending", "deadlines", "records", "keys", "none"]
)
async def test_a_rebuild_puts_back_what_is_lost_and_leaves_what_is_there(full: Houses, shard: int, lost: str) -> None:
    """Whatever kind of key it is, for both events of the shard."""
    before, redis = [await told(house) for house in full.of(shard)], full.office.redis
    names: list[str] = []
    for house in full.of(shard):
        records = {kind: await house.record(booking) for kind, booking in house.booked.items()}
        names += {
            "sale": [keys.event(shard, house.event.id)],
            "owners": [keys.owners(shard, house.event.id)],
            "owned_tiers": [keys.owned_tiers(shard, house.event.id)],
            "unpaid": [keys.unpaid(shard, house.event.id)],
            "pending": [keys.pending(shard)],
            "deadlines": [keys.deadlines(shard)],
            "records": [keys.booking(shard, record.id) for kind, record in records.items() if record and kind != "held"],
            "keys": [keys.idempotency(shard, record.scope) for kind, record in records.items() if record and kind in
                     ("sold", "part", "cancelled", "declined")],
            "none": [keys.gate(shard)],
        }[lost]  # fmt: skip
    await redis.delete(*names)

    await full.office.rebuilders[shard].rebuild()

    assert [await told(house) for house in full.of(shard)] == before


@pytest.mark.parametrize("where", ["redis", "bookings", "row"])
async def test_the_sequence_leaps_beyond_whatever_knows_it(full: Houses, shard: int, where: str) -> None:
    """Redis, the latest bookings, or the shard's own row: the highest of them."""
    pool = await full.office.pool()
    match where:
        case "redis":
            await full.office.redis.set(keys.sequence(shard), 7_000)
        case "bookings":
            for house in full.of(shard):
                await pool.execute("UPDATE bookings SET sequence = 7000 WHERE id = $1::uuid", house.booked["sold"])
        case _:
            await pool.execute("UPDATE shards SET sequence = 7000 WHERE shard = $1", shard)

    await full.office.rebuilders[shard].rebuild()

    assert int(await full.office.redis.get(keys.sequence(shard))) == 1_007_000
    assert (await full.row(shard))["sequence"] == 1_007_000
    await full.office.redis.set(keys.sequence(1 - shard), 3)
    assert int(await full.office.redis.get(keys.sequence(shard))) == 1_007_000


async def test_a_rebuild_tells_redis_what_commit_it_believed(full: Houses, shard: int) -> None:
    """Should PostgreSQL go back before that, its lack is noticed; what Redis was told of before is missed no less."""
    pool, redis = await full.office.pool(), full.office.redis
    last = await pool.fetchrow("SELECT number, nonce FROM batches WHERE shard = $1 ORDER BY number DESC LIMIT 1", shard)
    pair = f"{last['number']}:{last['nonce']}".encode()
    await redis.delete(keys.told(shard))

    await full.office.rebuilders[shard].rebuild()

    assert await redis.smembers(keys.told(shard)) == {pair}  # type: ignore[misc]
    first = await pool.fetchrow("SELECT number, nonce FROM batches WHERE shard = $1 ORDER BY number LIMIT 1", shard)
    await redis.sadd(keys.told(shard), f"{first['number']}:{first['nonce']}")  # type: ignore[misc]
    await full.office.rebuilders[shard].rebuild()
    assert await redis.scard(keys.told(shard)) == 2, "only what was lost is taken out"  # type: ignore[misc]


async def test_an_alert_of_one_shard_stops_no_other(full: Houses, shard: int) -> None:
    pool = await full.office.pool()
    await pool.execute("UPDATE shards SET alert = $1 WHERE shard = $2", POSTGRES_WENT_BACK, 1 - shard)

    await full.office.rebuilders[shard].rebuild()

    with pytest.raises(DriftUnexplained):
        await full.office.rebuilders[1 - shard].rebuild()


# ------------------------------------------------------------------ guarding


async def damage(full: Houses, shard: int, judgement: str) -> None:
    """So that the shard's guard judges so."""
    redis, pool = full.office.redis, await full.office.pool()
    match judgement:
        case "closed":
            await full.forget(shard)
            await full.quiet(shard)
        case "went_back":
            await redis.set(keys.sequence(shard), 1)
        case "restarted":
            await redis.set(keys.gate(shard), Gate((await full.row(shard))["generation"], "before").pack())
        case "first_start":
            await redis.delete(keys.told(shard))
            await pool.execute("DELETE FROM shards WHERE shard = $1", shard)
        case "other_generation":
            await redis.set(keys.gate(shard), Gate("another", await run_id(redis)).pack())
        case _:
            await redis.sadd(keys.told(shard), "99:1")  # type: ignore[misc]


@pytest.mark.parametrize(
    ("judgement", "done"),
    [
        ("closed", "rebuilt"), ("went_back", "rebuilt"), ("restarted", "restarted"), ("first_start", "first_start"),
        ("other_generation", "other_generation"), (POSTGRES_WENT_BACK, "recovered"),
    ],
)  # fmt: skip
async def test_a_guard_acts_on_its_own_shard(full: Houses, shard: int, judgement: str, done: str) -> None:
    """The other's keys and its row stay as they are, and its guard finds nothing the matter."""
    before = [await told(house) for house in full.of(shard)]
    other, row = await full.photo(1 - shard), await full.row(1 - shard)
    await damage(full, shard, judgement)

    assert await full.office.guards[1 - shard].tick() == "fine"
    assert await full.office.guards[shard].tick() == done

    assert await full.photo(1 - shard) == other
    assert await full.row(1 - shard) == row
    if judgement == "other_generation":
        with pytest.raises(GateClosed):
            await full.of(shard)[0].book(GA=1)
        assert (await full.row(shard))["alert"] == "other_generation"
        return
    assert [await told(house) for house in full.of(shard)] == before
    assert (await look(full.office.shards[shard])).word == "open"
    assert await full.office.guards[shard].tick() == "fine"


@pytest.mark.parametrize("gate", ["open", "closed"])
async def test_a_first_start_beside_a_redis_that_has_sold_keeps_what_it_counts(
    full: Houses, shard: int, gate: str
) -> None:
    """The sequence stays; PostgreSQL learns how far it came; an open gate stays open, for those who work under it."""
    redis, pool = full.office.redis, await full.office.pool()
    admitted, generation = int(await redis.get(keys.sequence(shard))), (await full.row(shard))["generation"]
    await damage(full, shard, "first_start")
    if gate == "closed":
        await redis.delete(keys.gate(shard))

    assert await full.office.guards[shard].tick() == "first_start"

    assert int(await redis.get(keys.sequence(shard))) == admitted > 0
    row = await full.row(shard)
    assert (row["sequence"], row["run_id"]) == (admitted, await run_id(redis))
    assert (row["generation"] == generation) == (gate == "open")
    assert Gate.parse(await redis.get(keys.gate(shard))) == Gate(row["generation"], row["run_id"])
    assert await pool.fetchval("SELECT count(*) FROM shards") == SHARDS


async def test_a_first_start_loads_what_is_on_sale(houses: Houses, shard: int) -> None:
    """An empty pair of stores: the sequence begins at nought, so that nobody calls it lost."""
    await houses.forget(shard)
    await (await houses.office.pool()).execute("DELETE FROM shards WHERE shard = $1", shard)

    assert await houses.office.guards[shard].tick() == "first_start"

    for house in houses.of(shard):
        assert await house.left("GA") == (20, 0, 0)
    assert await houses.office.redis.get(keys.sequence(shard)) == b"0"


async def test_a_sequence_that_postgresql_remembers_never_falls(full: Houses, shard: int) -> None:
    """Another guard wrote a higher one since this one looked; and of another generation it knows nothing."""
    guard, pool = full.office.guards[shard], await full.office.pool()
    sight = await guard.look()
    await pool.execute("UPDATE shards SET sequence = 900")

    await guard.remember(sight._replace(admitted=800, sequence=0))
    assert {row["sequence"] for row in await pool.fetch("SELECT sequence FROM shards")} == {900}
    await guard.remember(sight._replace(admitted=1_000, sequence=0, generation="another"))
    assert (await full.row(shard))["sequence"] == 900, "a look that is older than a rebuild is not written"
    await guard.remember(sight._replace(admitted=1_000, sequence=0))
    assert ((await full.row(shard))["sequence"], (await full.row(1 - shard))["sequence"]) == (1_000, 900)


async def test_what_the_last_second_lacks_is_seen_in_its_own_shard(full: Houses, shard: int) -> None:
    """After a restart the sequence is compared with the shard's bookings: equal is whole, less is not."""
    pool, redis = await full.office.pool(), full.office.redis
    highest = int(await redis.get(keys.sequence(shard)))
    for house in full.houses:
        await pool.execute(
            "UPDATE bookings SET sequence = $2 WHERE id = $1::uuid",
            house.booked["sold"], highest if house.shard == shard else highest + 500,
        )  # fmt: skip
    await damage(full, shard, "restarted")
    assert await full.office.guards[shard].tick() == "restarted"

    await pool.execute(
        "UPDATE bookings SET sequence = $2 WHERE id = $1::uuid", full.of(shard)[1].booked["sold"], highest + 1
    )
    await damage(full, shard, "restarted")
    assert await full.office.guards[shard].tick() == "rebuilt"


async def test_a_load_counts_the_events_that_lost_their_counters(full: Houses, shard: int) -> None:
    """Both of them, what their customers have included, and bookings that stand in no set; nobody else's."""
    before = [await told(house) for house in full.of(shard)]
    other = await full.photo(1 - shard)
    for house in full.of(shard):
        await full.office.redis.delete(keys.event(shard, house.event.id), keys.owners(shard, house.event.id))
    await full.office.redis.delete(keys.pending(shard), keys.deadlines(shard))

    assert await full.office.guards[shard].load() == 2

    assert [await told(house) for house in full.of(shard)] == before
    assert await full.photo(1 - shard) == other


async def test_a_load_counts_nobody_whose_counters_are_there(full: Houses, shard: int) -> None:
    """One event has lost a field of one tier; the other one's drift, which adds up to its total, is reconcile's."""
    damaged, drifted = full.of(shard)
    before = await told(damaged)
    await full.office.redis.hdel(keys.event(shard, damaged.event.id), f"h:{damaged.event.tiers[0].id}")  # type: ignore[misc]
    await shift(drifted, "GA", a=3, h=-3)
    await full.office.control.change_event(drifted.event.id, name="Another name")
    seen = await drifted.counted()

    assert await full.office.guards[shard].load() == 1

    assert await told(damaged) == before
    assert await drifted.counted() == seen


# ------------------------------------------------------------------ after a restart


@pytest.mark.parametrize("how", ["decided", "moved", "drifted", "lost", "corrected", "forgotten", "none"])
async def test_a_restart_mends_what_differs_and_reads_the_rest(
    full: Houses, shard: int, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One event of the shard is wrong, and so is one of the other shard: that is its own guard's."""
    for house in full.houses:
        house.booked["late"] = await house.book(customer="fay", GA=1)
    mine = full.of(shard)
    for house in (mine[0], full.of(1 - shard)[0]):
        await wrong(house, how, monkeypatch)
    others = await full.photo(1 - shard)
    sibling = await told(mine[1])
    await damage(full, shard, "restarted")

    checked = await full.office.guards[shard].rebuilder.check()

    assert {report.event for report in checked} == (set() if how in ("none", "forgotten") else {mine[0].event.id})
    assert await full.photo(1 - shard) == others
    assert await told(mine[1]) == sibling
    await full.office.guards[shard].tick()
    await mine[0].counted()
    reports = await full.office.guards[shard].reconciler.every_event(fix=False, deep=True)
    assert {(report.word, report.settled, report.moved) for report in reports} == {("same", 0, 0)}
    expected = {"decided": "C confirmed", "corrected": "P -", "forgotten": "P -"}.get(how, "P -")
    assert await mine[0].state(mine[0].booked["late"]) == expected
    assert await mine[0].state(mine[0].booked["sold"]) == ("X cancelled" if how == "moved" else "C confirmed")
    assert await mine[0].state(mine[0].booked["waiting"]) == "P pending"


async def wrong(house: House, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an older copy of Redis could be."""
    redis, shard = house.office.redis, house.shard
    match how:
        case "decided":
            others = [booking for booking in await redis.zrange(keys.pending(shard), 0, -1)
                      if booking.decode() != house.booked["late"]]  # fmt: skip
            scores = {booking: await redis.zscore(keys.pending(shard), booking) for booking in others}
            await redis.zrem(keys.pending(shard), *others)
            with unheard(monkeypatch), pytest.raises(Died):
                await house.office.settlements[shard].drain()
            await redis.zadd(keys.pending(shard), scores)
        case "moved":
            await move_unheard(house, house.booked["sold"], monkeypatch)
        case "drifted":
            await shift(house, "VIP", a=1)
        case "lost":
            await redis.hdel(keys.event(shard, house.event.id), f"c:{house.event.tiers[1].id}")  # type: ignore[misc]
            await redis.hset(keys.owners(shard, house.event.id), mapping={"feedfeedfeedfeed": 3})  # type: ignore[misc]
        case "corrected":
            record = await house.record(house.booked["sold"])
            assert record is not None
            record.state = "X"
            await redis.set(keys.booking(shard, record.id), record.pack(), keepttl=True)
        case "forgotten":
            booking = house.booked["waiting"]
            record = await house.record(booking)
            assert record is not None
            await redis.delete(keys.booking(shard, booking))
            await shift(house, "GA", a=2, h=-2)
            await redis.zrem(keys.pending(shard), booking)
            await shift_owned(redis, shard, house.event.id, record.owner, **{tier_of(house.event, "GA"): -2})


# ------------------------------------------------------------------ reconciling


async def disturb(houses: Houses, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each: a settlement and a cancellation that Redis has not heard of, drift, and a customer's count that is wrong."""
    for house in houses.houses:
        house.booked["late"] = await house.book(customer="fay", GA=1)
        house.booked["refused"] = await house.book("tok_card_declined", customer="gus", VIP=1)
    for shard in range(SHARDS):
        with unheard(monkeypatch), pytest.raises(Died):
            await houses.office.settlements[shard].drain()
    for house in houses.houses:
        await move_unheard(house, house.booked["sold"], monkeypatch)
        await shift(house, "GA", a=5, h=-5)
        await houses.office.redis.hset(keys.owners(house.shard, house.event.id), mapping={"feedfeedfeedfeed": 3})  # type: ignore[misc]


async def open_moves(house: House) -> int:
    rows = await house.fetch("SELECT 1 FROM stock_moves WHERE applied_at IS NULL AND event_id = $1", house.event.id)
    return len(rows)


async def test_reconciling_one_event_touches_no_other(
    full: Houses, shard: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its sibling's bookings nor its stock, whose moves are open as before, nor anything of the other shard."""
    await disturb(full, monkeypatch)
    one, sibling = full.of(shard)
    others, before = await full.photo(1 - shard), await told(sibling)

    found = await repair_of(full).reconcile(event=one.event.id, fix=True)

    assert [(report.event, report.word, report.settled, report.moved) for report in found.reports] == [
        (one.event.id, "fixed", 2, 1)
    ]
    assert (found.word, found.closed, found.rebuilt, found.unloaded) == ("fixed", (), (), ())
    states = await one.states()
    assert (states["late"], states["refused"], states["sold"]) == ("C confirmed", "F failed", "X cancelled")
    assert await one.left("GA") == (20 - 1 - 1 - 7, 7, 2)
    assert b"feedfeedfeedfeed" not in (await one.counted())["owners"]
    assert await open_moves(one) == 0
    assert await told(sibling) == before
    assert await open_moves(sibling) == 1
    assert await full.photo(1 - shard) == others


async def test_reconciling_everything_mends_both_shards(full: Houses, monkeypatch: pytest.MonkeyPatch) -> None:
    """Event by event: a look says which, and writes nothing; a repair mends each, and the next one finds nothing."""
    await disturb(full, monkeypatch)
    repair, photos = repair_of(full), [await full.photo(shard) for shard in range(SHARDS)]

    looked = await repair.reconcile()
    assert (looked.word, {report.event: report.word for report in looked.reports}) == (
        "drift", {house.event.id: "drift" for house in full.houses},
    )  # fmt: skip
    assert [await full.photo(shard) for shard in range(SHARDS)] == photos
    assert [await open_moves(house) for house in full.houses] == [1] * 4
    assert (await repair.reconcile(fix=True)).word == "fixed"
    again = await repair.reconcile(fix=True)

    assert (again.word, len(again.reports)) == ("same", 4)
    assert {(report.settled, report.moved) for report in again.reports} == {(0, 0)}
    for house in full.houses:
        assert await house.left("GA") == (11, 7, 2)
        assert await house.left("VIP") == (3, 0, 1)


async def test_who_names_an_event_has_its_customers_counted_anew(full: Houses, shard: int) -> None:
    """Of that event, and when it is to be mended. Without drift nothing else counts them."""
    mine, other = full.of(shard)
    before = [await told(house) for house in (mine, other)]
    for house in (mine, other):
        await full.office.redis.delete(keys.owned_tiers(shard, house.event.id))
    for how in ({"fix": True}, {"event": mine.event.id}):
        assert (await full.office.repair.reconcile(**how)).word == "same"  # type: ignore[arg-type]
        assert await told(mine) != before[0]
    assert (await full.office.repair.reconcile(event=mine.event.id, fix=True)).word == "same"
    assert await told(mine) == before[0]
    assert await told(other) != before[1]


@pytest.mark.parametrize("count", [1, 3])
async def test_every_event_of_a_shard_is_reconciled_and_none_of_the_other(
    full: Houses, shard: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few customers one call of the script may count, and whether their counts are asked for or real drift is
    found."""
    monkeypatch.setattr("boxoffice.repair.reconcile.OWNERS_MAX", count)
    monkeypatch.setattr("boxoffice.repair.reconcile.CHUNK", count)
    others = await full.photo(1 - shard)
    before = [await told(house) for house in full.of(shard)]
    for house in full.of(shard):
        await full.office.redis.delete(keys.owners(shard, house.event.id))
        await full.office.redis.hset(keys.owners(shard, house.event.id), mapping={"feedfeedfeedfeed": 3})  # type: ignore[misc]
        await full.office.redis.delete(keys.owned_tiers(shard, house.event.id))
        await full.office.redis.hset(keys.owned_tiers(shard, house.event.id), mapping={"beefbeefbeefbeef": "x:3"})  # type: ignore[misc]
    reconciler = full.office.guards[shard].reconciler

    assert {report.word for report in await reconciler.every_event(fix=True)} == {"same"}
    assert [await told(house) for house in full.of(shard)] != before, "nobody asked for the customers"
    assert {report.word for report in await reconciler.every_event(fix=False, owned=True)} == {"same"}
    assert [await told(house) for house in full.of(shard)] != before, "a look mends nothing"
    assert {report.word for report in await reconciler.every_event(fix=True, owned=True)} == {"same"}

    assert [await told(house) for house in full.of(shard)] == before
    assert await full.photo(1 - shard) == others


@pytest.mark.parametrize(("backlog", "word"), [(1, "same"), (20_000, "drift")])
async def test_a_look_counts_every_booking_unless_there_are_too_many(
    full: Houses, shard: int, backlog: int, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tickets that are called held and are not; a repair counts them whatever the backlog."""
    monkeypatch.setattr("boxoffice.repair.reconcile.DEEP_MAX", backlog)
    house = full.of(shard)[1]
    await shift(house, "GA", a=-2, h=2)
    reconciler = full.office.guards[shard].reconciler

    assert (await reconciler.event(house.event.id, fix=False)).word == word
    assert (await reconciler.event(house.event.id, fix=True)).word == "fixed"


async def test_shards_that_are_shut_and_events_that_are_not_loaded_are_named(full: Houses) -> None:
    """Each by its own number and id; with `fix` the shard is rebuilt and the event is loaded."""
    repair, redis = repair_of(full), full.office.redis
    event = full.of(0)[1].event.id
    counts = [await told(house) for house in full.houses]
    await redis.delete(keys.event(0, event))
    await redis.set(keys.gate(1), Gate((await full.row(1))["generation"], "before").pack())

    looked = await repair.reconcile()
    assert (looked.word, looked.closed, looked.rebuilt, looked.unloaded) == ("drift", (1,), (), (event,))
    assert [report.event for report in looked.reports] == [full.of(0)[0].event.id]
    assert (await repair.reconcile(event=event)).word == "drift"
    await redis.delete(keys.gate(0))
    assert (await repair.reconcile()).closed == (0, 1)

    fixed = await repair.reconcile(fix=True)
    assert (fixed.word, fixed.closed, fixed.rebuilt, fixed.unloaded) == ("fixed", (), (0, 1), ())
    assert len(fixed.reports) == 4
    assert [await told(house) for house in full.houses] == counts
    with pytest.raises(NotFound):
        await repair.reconcile(event="nothing00000")


async def test_an_event_that_is_not_loaded_is_loaded_and_counted(full: Houses, shard: int) -> None:
    """Strays first: a recount without them would sell their tickets again."""
    house = full.of(shard)[0]
    before = await told(house)
    await full.office.redis.delete(keys.event(shard, house.event.id), keys.pending(shard), keys.deadlines(shard))

    found = await repair_of(full).reconcile(event=house.event.id, fix=True)

    assert (found.word, found.unloaded) == ("fixed", ())
    assert await told(house) == before


async def test_a_lost_commit_of_one_shard_is_no_matter_of_the_other(full: Houses, shard: int) -> None:
    """A look says so of its own shard; what an operator accepts, he accepts with `fix` only."""
    repair = repair_of(full)
    await full.office.redis.sadd(keys.told(shard), "99:1")  # type: ignore[misc]
    mine, other = full.of(shard)[0], full.of(1 - shard)[0]

    assert (await repair.reconcile(event=other.event.id)).word == "same"
    for options in ({}, {"accept_postgres": True}):
        with pytest.raises(DriftUnexplained):
            await repair.reconcile(event=mine.event.id, **options)
    assert (await repair.reconcile(fix=True)).rebuilt == (shard,)
    assert (await repair.reconcile()).word == "same"


async def test_moves_are_applied_to_their_own_shard(full: Houses, shard: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of its events', and nobody else's."""
    for house in full.houses:
        await move_unheard(house, house.booked["sold"], monkeypatch)
    others = await full.photo(1 - shard)

    assert await apply_moves(full.office.shards[shard], full.office.database) == 2
    assert await apply_moves(full.office.shards[shard], full.office.database) == 0

    assert await full.photo(1 - shard) == others
    assert [await open_moves(house) for house in full.of(1 - shard)] == [1, 1]
    for house in full.of(shard):
        assert await house.left("GA") == (12, 7, 1)
        assert (await house.states())["sold"] == "X cancelled"


async def test_the_tools_of_a_shard_are_its_own(full: Houses, shard: int) -> None:
    """And they are the same for whoever repairs it."""
    office = full.office
    tools = (office.reconcilers[shard], office.rebuilders[shard], office.guards[shard], office.menders[shard])
    assert [tool.shard for tool in tools] == [shard] * 4
    assert office.guards[shard].reconciler is office.reconcilers[shard]
    assert office.guards[shard].rebuilder is office.rebuilders[shard]
