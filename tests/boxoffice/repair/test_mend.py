"""Mending finds, booking by booking, what one store has decided and the other has not heard of; in its own shard."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from boxoffice import ids
from boxoffice.books import finals
from boxoffice.errors import CannotRun, NotFound
from boxoffice.repair.mend import Mender, admitted_ms
from boxoffice.settings import Settings
from boxoffice.stores import keys
from boxoffice.stores.gate import Gate
from boxoffice.telemetry.seldom import seldom
from tests.conftest import CLIENT, eventually
from tests.invariants.conftest import working
from tests.support.houses import SHARDS, House, Houses, unheard
from tests.support.shop.office import Died
from tests.support.shop.script import shift_owned

SHARD = 1


@pytest.fixture
def mender(houses: Houses) -> Mender:
    return houses.office.menders[SHARD]


async def aged(houses: Houses) -> None:
    """Long after everything that happened so far."""
    await (await houses.office.pool()).execute("UPDATE bookings SET updated_at = updated_at - interval '1 hour'")


async def tried(house: House, *, late: bool) -> str:
    """A hold whose card was declined: PostgreSQL knows it as held."""
    booking = await house.book(None, hold_s=900, customer="ann", GA=2)
    await house.pay(booking, "tok_card_declined")
    await house.rest()
    if late:
        await house.fetch("UPDATE bookings SET expires_at = now() - interval '1 hour' WHERE id = $1", booking)
    return booking


async def lose(house: House, booking: str) -> None:
    """Redis has nothing of it, its stock included."""
    record = await house.record(booking)
    assert record is not None
    redis, shard, event = house.office.redis, house.shard, house.event.id
    await redis.delete(keys.booking(shard, booking), keys.idempotency(shard, record.scope))
    await redis.zrem(keys.pending(shard), booking)
    await redis.zrem(keys.deadlines(shard), booking)
    for line in record.body.lines:
        await redis.hincrby(keys.event(shard, event), f"a:{line.tier}", line.quantity)  # type: ignore[misc]
        await redis.hincrby(keys.event(shard, event), f"h:{line.tier}", -line.quantity)  # type: ignore[misc]
    await shift_owned(redis, shard, event, record.owner, **{line.tier: -line.quantity for line in record.body.lines})
    if record.deadline_ms:
        await redis.delete(keys.unpaid(shard, event))


async def put(redis: Redis, house: House, booking: str, state: str) -> None:
    """Its record says so."""
    record = await house.record(booking)
    assert record is not None
    record.state = state
    await redis.set(keys.booking(house.shard, booking), record.pack())


# ------------------------------------------------------------------ what Redis lost


async def test_what_redis_lost_comes_back_to_its_own_shard(houses: Houses, mender: Mender) -> None:
    """A payment that waits for its customer, and a hold that may be paid again; what is lost in the other shard is for its
    own mender."""
    booked = {}
    for house in houses.houses:
        booked[house.event.id] = [await tried(house, late=False)]
    for house in houses.houses:
        booked[house.event.id].append(await house.book("tok_3ds", customer="eve", GA=1, VIP=1))
    await houses.houses[0].drain()
    before = [await house.counted() for house in houses.of(SHARD)]
    for house in houses.houses:
        for booking in booked[house.event.id]:
            await lose(house, booking)
    assert (await mender.mend()).restored == 0, "somebody may be at it"
    await aged(houses)
    photo = await houses.photo(0)

    assert await mender.mend() == (0, 4, 0, 0, 0)

    assert [await house.counted() for house in houses.of(SHARD)] == before
    for house in houses.of(SHARD):
        assert [await house.state(booking) for booking in booked[house.event.id]] == ["H held", "P pending"]
    assert await houses.photo(0) == photo


@pytest.mark.parametrize("redis_has", ["nothing", "an older hold", "its end"])
async def test_a_lost_payment_of_a_hold_past_its_deadline_is_restored(
    houses: Houses, mender: Mender, redis_has: str
) -> None:
    """Its money is under way: it is no hold any more, and its deadline ends nothing."""
    house, redis = houses.of(SHARD)[0], houses.office.redis
    booking = await house.book(None, hold_s=900, customer="ann", GA=2)
    older = await redis.get(keys.booking(SHARD, booking))
    await house.pay(booking, "tok_3ds")
    await house.drain()
    await house.fetch("UPDATE bookings SET expires_at = now() - interval '1 hour' WHERE id = $1", booking)
    if redis_has == "an older hold":
        await redis.zrem(keys.pending(SHARD), booking)
        await redis.zadd(keys.deadlines(SHARD), {booking: await now_ms(redis) + 900_000})
        await redis.set(keys.booking(SHARD, booking), older)
    else:
        await lose(house, booking)
        if redis_has == "its end":
            await redis.set(keys.booking(SHARD, booking), b"E" + older[1:], ex=3_600)
    await aged(houses)

    assert await mender.mend() == (0, 1, 0, 0, 0)

    assert await house.state(booking) == "P pending"
    assert await redis.zscore(keys.pending(SHARD), booking) is not None
    assert await redis.zscore(keys.deadlines(SHARD), booking) is None
    assert await house.left("GA") == (18, 2, 0)
    await house.customer_acts(booking)
    await house.look_again(booking)
    await house.at_rest(booking)
    assert await house.state(booking) == "C confirmed"


@pytest.mark.parametrize("what", ["changed", "extended", "nothing", "paid again"])
async def test_postgresql_is_told_of_a_hold_that_was_changed_while_nobody_could(
    houses: Houses, mender: Mender, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """From its row it may have to be put back. What was written is not written again, and no neighbour's is touched."""
    house, other = houses.of(SHARD)
    booking, neighbour = await tried(house, late=False), await tried(other, late=False)
    with monkeypatch.context() as patch:
        for where, name in ((houses.office.held_rows, "write"), (houses.office.holds, "write_deadline")):
            patch.setattr(where, name, nothing)
        if what == "extended":
            await houses.office.holds.extend(CLIENT, booking, None)
        elif what != "nothing":
            await house.change(booking, GA=1, VIP=2)
    if what == "paid again":
        await house.pay(booking, "tok_3ds")
    await aged(houses)
    written: list[str] = []
    write = houses.office.held_rows.write

    async def noted(which: str) -> None:
        written.append(which)
        await write(which)

    monkeypatch.setattr(houses.office.held_rows, "write", noted)
    assert await mender.mend() == (0, 0, 0, 0, 0)
    await aged(houses)
    await mender.mend()

    assert written == ([] if what == "nothing" else [booking])
    record = await house.record(booking)
    assert record is not None
    (row,) = await house.fetch(
        "SELECT amount_cents, (1000 * extract(epoch FROM expires_at))::bigint AS deadline FROM bookings WHERE id = $1",
        booking,
    )
    assert tuple(row) == (record.body.amount_cents, record.deadline_ms)
    items = await house.fetch(
        "SELECT tier_id, quantity, unit_price_cents FROM booking_items WHERE booking_id = $1 ORDER BY tier_id", booking
    )
    assert [tuple(item) for item in items] == [
        (line.tier, line.quantity, line.unit_price_cents) for line in record.body.lines
    ]  # fmt: skip
    assert await other.state(neighbour) == "H held"


@pytest.mark.parametrize("late", [False, True])
async def test_a_record_that_nobody_can_read_keeps_nobody_from_the_others(
    houses: Houses, mender: Mender, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    """It is named in the log, and left as it is; whatever else the pass has to do, it does."""
    house, other = houses.of(SHARD)
    bad, good = await tried(house, late=late), await tried(other, late=late)
    if late:
        await put(houses.office.redis, other, good, "E")
    else:
        with monkeypatch.context() as patch:
            patch.setattr(houses.office.held_rows, "write", nothing)
            await other.change(good, GA=1)
    await houses.office.redis.set(keys.booking(SHARD, bad), "H|nonsense")
    await houses.office.redis.zrem(keys.deadlines(SHARD), bad)
    await aged(houses)
    seldom.forget()

    with capture_logs() as lines:
        await mender.mend()
        await houses.office.held_rows.write(bad)

    assert [line["booking_id"] for line in lines if line["event"] == "record.unreadable"] == [bad]
    assert await houses.office.redis.get(keys.booking(SHARD, bad)) == b"H|nonsense"
    found = await house.fetch("SELECT status, amount_cents FROM bookings WHERE id = ANY($1) ORDER BY id", [bad, good])
    assert [tuple(row) for row in found] == [("held", 2_000), ("expired", 2_000) if late else ("held", 1_000)]


async def nothing(*_: object) -> None:
    """PostgreSQL is away."""


async def now_ms(redis: Redis) -> int:
    seconds, _ = await redis.time()
    return 1_000 * int(seconds)


@pytest.mark.parametrize(
    ("record", "expired", "status"),
    [
        (None, 1, "expired"),
        ("E", 1, "expired"),
        ("X", 1, "cancelled"),
        ("H", 0, "held"),
        ("P", 0, "held"),
        ("C", 0, "held"),
    ],
)
async def test_a_hold_past_its_deadline_ends_as_it_ended_in_redis(
    houses: Houses, mender: Mender, record: str | None, expired: int, status: str
) -> None:
    """One that is still held there is the sweeper's; one that is paid again, its worker's. It is never put back on sale or
    on hold for being late."""
    house, other = houses.of(SHARD)[0], houses.of(0)[0]
    booking, elsewhere = await tried(house, late=True), await tried(other, late=True)
    for each, owner in ((booking, house), (elsewhere, other)):
        if record is None:
            await lose(owner, each)
        else:
            await put(houses.office.redis, owner, each, record)
    if record in ("E", "X", "C"):
        await houses.office.redis.zrem(keys.deadlines(SHARD), booking)
    if record == "P":
        await houses.office.redis.zadd(keys.pending(SHARD), {booking: 10**13})
    await aged(houses)

    assert await mender.mend() == (0, 0, expired, 0, 0)

    assert (await house.state(booking)).split()[1] == status
    assert (await other.state(elsewhere)).split()[1] == "held"
    (fresh,) = await house.fetch("SELECT updated_at > now() - interval '1 minute' FROM bookings WHERE id = $1", booking)
    assert fresh[0] == bool(expired), "when it ended is what a rebuild goes by"


# ------------------------------------------------------------------ what Redis has not heard of


@pytest.mark.parametrize("place", ["pending", "dead"])
async def test_what_waits_although_it_is_decided_is_settled(
    houses: Houses, mender: Mender, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Parked or pending, of both events; strays are put back first, so that a recount does not sell their tickets."""
    booked = {house.event.id: await house.book(customer="ann", GA=2) for house in houses.houses}
    for shard in range(SHARDS):
        with unheard(monkeypatch), pytest.raises(Died):
            await houses.office.settlements[shard].drain()
    redis = houses.office.redis
    for house in houses.houses:
        booking = booked[house.event.id]
        if place == "dead":
            await redis.zadd(keys.dead(house.shard), {booking: 1})
            await redis.zrem(keys.pending(house.shard), booking)
    assert (await mender.mend()).settled == 0, "the workers have it in hand"
    monkeypatch.setattr(mender, "age_ms", -60_000)
    photo = await houses.photo(0)

    assert await mender.mend() == (2, 0, 0, 0, 0)

    for house in houses.of(SHARD):
        assert await house.state(booked[house.event.id]) == "C confirmed"
        assert await house.left("GA") == (18, 0, 2)
    assert await redis.zcard(keys.pending(SHARD)) + await redis.zcard(keys.dead(SHARD)) == 0
    assert await houses.photo(0) == photo
    assert await mender.mend() == (0, 0, 0, 0, 0)


@pytest.mark.parametrize("had", "HPEC")
async def test_what_was_sold_with_other_items_than_redis_has_is_what_was_sold(
    houses: Houses, mender: Mender, monkeypatch: pytest.MonkeyPatch, had: str
) -> None:
    """An older copy of Redis, of which nobody noticed that it is one: there the hold has not been changed, whether it waits
    for its customer or its worker, or has ended. A worker moves nothing by it."""
    house, redis = houses.of(SHARD)[0], houses.office.redis
    booking, same = [await house.book(None, hold_s=900, customer="ann", GA=1) for _ in range(2)]
    first = await house.record(booking)
    assert first is not None
    event = house.event.id
    names = [keys.event(SHARD, event), keys.owners(SHARD, event), keys.owned_tiers(SHARD, event)]
    older = {name: await redis.dump(name) for name in names}
    await house.change(booking, GA=3, VIP=1)
    await house.pay(booking)
    await house.rest()
    right, counted = await house.record(booking), await house.counted()
    assert right is not None and right.state == "C"
    wrong = first if had == "H" else right.with_lines(first.body.lines)
    wrong.state, wrong.owner = had, first.owner
    await redis.set(keys.booking(SHARD, booking), wrong.pack())
    if had in "HP":
        for name, dump in older.items():
            await redis.restore(name, 0, dump, replace=True)
        await redis.zadd(
            keys.deadlines(SHARD) if had == "H" else keys.pending(SHARD),
            {booking: first.deadline_ms if had == "H" else 1},
        )
    monkeypatch.setattr(mender, "age_ms", -60_000)
    if had == "P":
        await house.drain()
        assert (await house.state(booking), await house.left("GA")) == ("P confirmed", (18, 2, 0))

    assert await mender.mend() == ((1, 0, 0, 0, 0) if had in "HP" else (0, 0, 0, 0, 1))

    now = await house.record(booking)
    assert now is not None
    assert (now.state, now.body, now.items) == ("C", right.body, right.items)
    after = await house.counted()
    assert [after[what] for what in ("sale", "owners", "by tier")] == [
        counted[what] for what in ("sale", "owners", "by tier")
    ]  # fmt: skip
    for name in (keys.pending(SHARD), keys.deadlines(SHARD)):
        assert await redis.zscore(name, booking) is None
    assert await house.state(same) == "H -"
    assert await mender.mend() == (0, 0, 0, 0, 0)


async def test_strays_are_put_back_in_their_own_shard(houses: Houses, mender: Mender) -> None:
    for house in houses.houses:
        await house.book(customer="ann", GA=1)
        await house.book(None, hold_s=900, customer="bob", GA=1)
    for shard in range(SHARDS):
        await houses.office.redis.delete(keys.pending(shard), keys.deadlines(shard))
    photo = await houses.photo(0)

    assert await mender.mend() == (0, 0, 0, 4, 0)

    redis = houses.office.redis
    assert (await redis.zcard(keys.pending(SHARD)), await redis.zcard(keys.deadlines(SHARD))) == (2, 2)
    assert await houses.photo(0) == photo
    assert await mender.mend() == (0, 0, 0, 0, 0)


async def test_final_records_that_differ_are_corrected_in_their_own_shard(houses: Houses, mender: Mender) -> None:
    """Of both events: state, tickets, and what the customer has. Who agrees is not touched."""
    redis, wrong, right = houses.office.redis, {}, {}
    for house in houses.houses:
        wrong[house.event.id] = await house.book(customer="ann", GA=2)
        right[house.event.id] = await house.book("tok_card_declined", customer="bob", GA=1)
    await houses.houses[0].rest()
    before = [await house.counted() for house in houses.of(SHARD)]
    for house in houses.houses:
        await put(redis, house, wrong[house.event.id], "E")
        await redis.delete(keys.owners(house.shard, house.event.id))
        await redis.hincrby(keys.event(house.shard, house.event.id), f"a:{house.event.tiers[0].id}", 2)  # type: ignore[misc]
        await redis.hincrby(keys.event(house.shard, house.event.id), f"c:{house.event.tiers[0].id}", -2)  # type: ignore[misc]
    raws = [await redis.get(keys.booking(SHARD, right[house.event.id])) for house in houses.of(SHARD)]
    await redis.delete(keys.told(SHARD))
    photo = await houses.photo(0)

    assert await mender.mend() == (0, 0, 0, 0, 2)

    for house in houses.of(SHARD):
        assert await house.state(wrong[house.event.id]) == "C confirmed"
        assert 0 < await redis.ttl(keys.booking(SHARD, wrong[house.event.id])) <= 86_400
    assert [await house.counted() for house in houses.of(SHARD)] == before
    assert [await redis.get(keys.booking(SHARD, right[house.event.id])) for house in houses.of(SHARD)] == raws
    assert await redis.scard(keys.told(SHARD)) == 1, "whoever was told is missed, should it be lost"  # type: ignore[misc]
    assert await houses.photo(0) == photo


@pytest.mark.parametrize("ends", ["an event stays locked", "before the next chunk"])
async def test_what_was_corrected_is_counted_however_a_pass_ends(
    houses: Houses, mender: Mender, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    """By the next pass, which finds no wrong record any more. An event that cannot be counted keeps no other from it."""
    redis, pair = houses.office.redis, houses.of(SHARD)
    wrong = {house.event.id: await house.book(customer="ann", GA=2) for house in pair}
    await houses.houses[0].rest()
    before = {house.event.id: await house.counted() for house in pair}
    for house in pair:
        await put(redis, house, wrong[house.event.id], "E")
        await redis.delete(keys.owners(SHARD, house.event.id))
    last = max((house.event for house in pair), key=lambda event: event.id)
    await redis.hincrby(keys.event(SHARD, last.id), f"a:{last.tiers[0].id}", 2)  # type: ignore[misc]
    await redis.hincrby(keys.event(SHARD, last.id), f"c:{last.tiers[0].id}", -2)  # type: ignore[misc]
    where, name = (mender.reconciler, "event") if ends == "an event stays locked" else (finals, "unpack")
    monkeypatch.setattr(finals, "CHUNK", 1)
    whole, calls = getattr(where, name), iter([False, True] if where is finals else [True])

    def fails(*given: object, **how: object) -> object:
        if next(calls, False):
            raise CannotRun("once")
        return whole(*given, **how)

    monkeypatch.setattr(where, name, fails)
    with pytest.raises(CannotRun):
        await mender.mend()
    right = [before[house.event.id] == await house.counted() for house in pair]
    assert sorted(right) == ([False, True] if where is not finals else [False, False])
    await mender.mend()
    assert {house.event.id: await house.counted() for house in pair} == before
    assert [await house.state(wrong[house.event.id]) for house in pair] == ["C confirmed"] * 2
    assert await mender.mend() == (0, 0, 0, 0, 0)


async def test_an_event_that_is_gone_is_counted_no_more(
    houses: Houses, mender: Mender, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = houses.of(SHARD)[0]
    booking = await house.book(customer="ann", GA=2)
    await house.rest()
    await put(houses.office.redis, house, booking, "E")

    async def gone(*_: object, **__: object) -> None:
        raise NotFound("gone")

    monkeypatch.setattr(mender.reconciler, "event", gone)
    with pytest.raises(NotFound):
        await mender.mend()
    assert await mender.mend() == (0, 0, 0, 0, 0)


async def test_a_hold_that_was_cancelled_keeps_the_items_it_had_last(
    houses: Houses, mender: Mender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL has not heard of its change, and need not: nothing of it was sold."""
    house = houses.of(SHARD)[0]
    booking = await tried(house, late=False)
    with monkeypatch.context() as patch:
        patch.setattr(houses.office.held_rows, "write", nothing)
        await house.change(booking, GA=1, VIP=2)
        await house.cancel(booking)
    assert await house.state(booking) == "X cancelled"
    before = await houses.office.redis.get(keys.booking(SHARD, booking))

    assert await mender.mend() == (0, 0, 0, 0, 0)

    assert await houses.office.redis.get(keys.booking(SHARD, booking)) == before


@pytest.mark.parametrize("gate", ["closed", "unchecked"])
async def test_under_a_shut_gate_nothing_is_done(houses: Houses, mender: Mender, gate: str) -> None:
    """A repair is on its way."""
    house, redis = houses.of(SHARD)[0], houses.office.redis
    await tried(house, late=True)
    await house.book(customer="bob", GA=1)
    await redis.delete(keys.pending(SHARD))
    await aged(houses)
    if gate == "closed":
        await redis.delete(keys.gate(SHARD))
    else:
        await redis.set(keys.gate(SHARD), Gate("first", "before").pack())
    photo = await houses.photo(SHARD)

    assert await mender.mend() == (0, 0, 0, 0, 0)

    assert await houses.photo(SHARD) == photo


def test_a_booking_is_as_old_as_its_id() -> None:
    """To the millisecond: its first 48 bits."""
    for at_ms in (1, 65_536, 1_764_000_000_123, 2**47):
        assert admitted_ms(ids.booking_id(3, at_ms)) == at_ms


# ------------------------------------------------------------------ who begins it


class TestWorker:
    """A worker with a short lease mends every shard, twice a lease."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        worker = settings.worker.model_copy(update={"lease_ms": 100})
        return settings.model_copy(update={"worker": worker})

    async def test_it_mends_each_shard(self, houses: Houses) -> None:
        """Nobody else ends a hold that Redis forgot."""
        booked = [(house, await tried(house, late=True)) for house in houses.houses]
        for house, booking in booked:
            await lose(house, booking)
        await aged(houses)

        async def mended() -> bool:
            return {await house.state(booking) for house, booking in booked} == {"- expired"}

        async with working(houses.office):
            await eventually(mended, timeout_s=30)


async def test_passes_look_at_all_records_in_turn(houses: Houses, monkeypatch: pytest.MonkeyPatch) -> None:
    """One goes on where the last one ended, and begins again at the end; a whole look begins anew and counts all."""
    monkeypatch.setattr("boxoffice.repair.strays.PAGE", 2)
    house = houses.of(SHARD)[0]
    booked = set(await asyncio.gather(*(house.book(customer=f"c{n}", GA=1) for n in range(12))))
    strays = houses.office.guards[SHARD].reconciler.strays
    for _ in range(2):
        looked, passes = set[str](), 0
        while True:
            seen: list[str] = []
            await strays.gather_some(1, seen)
            looked |= set(seen)
            passes += 1
            if not strays.cursor:
                break
        assert (looked, passes > 2) == (booked, True)
    await houses.office.redis.delete(keys.pending(SHARD))
    assert await strays.gather() == 12
    await houses.office.redis.delete(keys.pending(SHARD))
    assert await strays.gather_some(1_000, []) == 12
