"""reconcile.lua, one test for each line of its Returns. A look writes nothing; a repair counts each booking once."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from boxoffice import keys
from boxoffice.record import Record
from tests.support.desk import EVENT, OTHER_EVENT, Desk, Form, Verdict


class Final(NamedTuple):
    """What PostgreSQL decided of a booking: how its tickets count, and its state."""

    form: Form
    counted: str
    state: str = ""


class Move(NamedTuple):
    """An open stock move."""

    id: int
    tier: str
    sold: int = 0
    total: int = 0
    owner: str = ""
    of: Form | None = None
    cancels: bool = True


async def reconcile(
    desk: Desk,
    stock: dict[str, tuple[int, int]],
    *finals: Final,
    fix: bool = True,
    deep: bool = False,
    moves: tuple[Move, ...] = (),
    bought: dict[str, int] | None = None,
) -> Any:
    """The script's reply. `stock` is each tier's total and sold in PostgreSQL."""
    names = [keys.pending(desk.shard), keys.dead(desk.shard), keys.deadlines(desk.shard), keys.event(desk.shard, EVENT),
             keys.owners(desk.shard, EVENT), keys.told(desk.shard)]  # fmt: skip
    facts = [f"{tier}|{total}|{sold}" for tier, (total, sold) in stock.items()]
    for final in finals:
        names += [keys.booking(desk.shard, final.form.id), keys.idempotency(desk.shard, final.form.scope)]
        facts.append(f'{final.counted}|{final.state or final.counted}|{{"f":"decided"}}')
    for move in moves:
        names += [keys.moved(desk.shard, f"{move.id}-7"), keys.booking(desk.shard, move.of.id if move.of else "")]
        facts.append(
            f'{move.tier}|{move.sold}|{move.total}|{move.owner}|{int(move.of is not None and move.cancels)}|{{"f":"x"}}'
        )
    facts += [f"note {move.id}" for move in moves]
    if bought:
        facts.append(",".join(f"{owner}:{tickets}" for owner, tickets in bought.items()))
    return await desk.scripts.reconcile(
        desk.redis,
        names,
        [int(fix), int(deep), int(bought is not None), 60, 60, EVENT, keys.booking(desk.shard, ""), len(stock),
         len(finals), len(moves), "7:7" if finals or moves else "", *facts],
    )  # fmt: skip


async def shift(desk: Desk, **fields: int) -> None:
    """Drift: `shift(a_floor=-3)`."""
    for field, by in fields.items():
        await desk.redis.hincrby(keys.event(desk.shard, EVENT), field.replace("_", ":", 1), by)  # type: ignore[misc]


async def a_lively_sale(desk: Desk) -> list[Form]:
    """Two pending, one held, one parked, one sold; and one of another event."""
    await desk.open_sale(floor=50, balcony=5)
    await desk.open_sale(OTHER_EVENT, stalls=9)
    forms = [desk.form(floor=2), desk.form(floor=1, balcony=1), desk.form(floor=3, hold_ms=60_000), desk.form(floor=4),
             desk.form(floor=5)]  # fmt: skip
    await desk.book(*forms, desk.form(OTHER_EVENT, stalls=7))
    await desk.settle(Verdict(forms[3], "D"), Verdict(forms[4], "C"))
    assert await desk.counts("floor") == (35, 10, 5)
    return forms


SOUND = {"floor": (50, 5), "balcony": (5, 0)}


async def test_unloaded_when_the_event_has_no_counters(desk: Desk) -> None:
    assert await reconcile(desk, SOUND) == [b"unloaded"]


@pytest.mark.parametrize("fix", [False, True])
@pytest.mark.parametrize("deep", [False, True])
async def test_same_writes_nothing(desk: Desk, fix: bool, deep: bool) -> None:
    """Pending, held and parked bookings count once each, those of another event not at all."""
    await a_lively_sale(desk)
    before = await desk.snapshot()

    assert await reconcile(desk, SOUND, fix=fix, deep=deep) == [
        b"same", 0, 0, 0, [[b"floor", 35, 10, 5, 50, 35, 10, 5, 50], [b"balcony", 4, 1, 0, 5, 4, 1, 0, 5]],
    ]  # fmt: skip

    assert await desk.snapshot() == before


@pytest.mark.parametrize(
    "drift", [{"a_floor": -500}, {"a_floor": 500}, {"h_floor": 7}, {"c_floor": -5}, {"t_floor": 3}]
)
async def test_drift_is_found_by_a_look_and_fixed_by_a_repair(desk: Desk, drift: dict[str, int]) -> None:
    await a_lively_sale(desk)
    await shift(desk, **drift)
    before = await desk.snapshot()

    assert (await reconcile(desk, SOUND, fix=False))[0] == b"drift"
    assert await desk.snapshot() == before
    assert (await reconcile(desk, SOUND))[0] == b"fixed"
    assert await desk.counts("floor") == (35, 10, 5)
    assert (await reconcile(desk, SOUND))[0] == b"same"


async def test_drift_that_adds_up_is_found_by_counting_every_booking(desk: Desk) -> None:
    await a_lively_sale(desk)
    await shift(desk, a_floor=-6, h_floor=6)

    assert (await reconcile(desk, SOUND))[0] == b"same", "the counters add up"
    assert (await reconcile(desk, SOUND, deep=True))[0] == b"fixed"
    assert await desk.counts("floor") == (35, 10, 5)


async def test_a_counter_that_is_gone_is_drift(desk: Desk) -> None:
    await a_lively_sale(desk)
    await desk.redis.hdel(keys.event(desk.shard, EVENT), "a:floor")  # type: ignore[misc]

    assert (await reconcile(desk, SOUND))[0] == b"fixed"
    assert await desk.counts("floor") == (35, 10, 5)


async def test_deep_does_not_judge_while_a_record_cannot_be_read(desk: Desk) -> None:
    """A parked booking keeps its stock, even when nobody can read how much that is."""
    forms = await a_lively_sale(desk)
    await desk.redis.set(keys.booking(desk.shard, forms[3].id), "?")

    assert (await reconcile(desk, SOUND, deep=True))[0] == b"same"
    assert await desk.counts("floor") == (35, 10, 5)


@pytest.mark.parametrize("letter", ["C", "F", "E", "X"])
async def test_what_postgresql_decided_is_mirrored_and_no_drift(desk: Desk, letter: str) -> None:
    forms = await a_lively_sale(desk)
    confirmed = letter == "C"
    stock = SOUND | {"floor": (50, 7)} if confirmed else SOUND

    looked = await reconcile(desk, stock, Final(forms[0], letter), fix=False)
    assert looked[:2] == [b"same", 1]
    assert await desk.has(forms[0], "P"), "a look writes nothing"
    assert (await reconcile(desk, stock, Final(forms[0], letter)))[:2] == [b"same", 1]

    assert await desk.counts("floor") == ((35, 8, 7) if confirmed else (37, 8, 5))
    assert await desk.has(forms[0], letter)
    assert forms[0].id not in await desk.pending()
    assert 50 < await desk.redis.ttl(keys.booking(desk.shard, forms[0].id)) <= 60
    assert 50 < await desk.redis.ttl(keys.idempotency(desk.shard, forms[0].scope)) <= 60
    before = await desk.snapshot()
    assert (await reconcile(desk, stock, Final(forms[0], letter)))[:2] == [b"same", 0]
    assert await desk.snapshot() == before, "once, however often repeated"
    assert await desk.settle(Verdict(forms[0], letter)) == ["stale"], "the worker that wakes up late changes nothing"


async def test_a_revived_booking_waits_for_its_second_verdict(desk: Desk) -> None:
    """PostgreSQL's "expired" was the first; the money that arrived since is settled by a worker."""
    forms = await a_lively_sale(desk)
    record = await desk.record(forms[0])
    assert isinstance(record, Record)
    record.tries += "r"
    await desk.redis.set(keys.booking(desk.shard, forms[0].id), record.pack())
    before = await desk.snapshot()

    assert (await reconcile(desk, SOUND, Final(forms[0], "E")))[:2] == [b"same", 0]

    assert await desk.snapshot() == before


async def test_open_stock_moves_are_applied_once(desk: Desk) -> None:
    forms = await a_lively_sale(desk)
    moves = (Move(1, "floor", sold=-5, owner=forms[4].owner, of=forms[4]), Move(2, "balcony", total=3))
    stock = {"floor": (50, 0), "balcony": (8, 0)}

    assert (await reconcile(desk, stock, fix=False, moves=moves))[:3] == [b"same", 0, 2]
    assert (await reconcile(desk, stock, moves=moves))[:3] == [b"same", 0, 2]
    assert (await reconcile(desk, stock, moves=moves))[:3] == [b"same", 0, 0]

    assert await desk.counts("floor") == (40, 10, 0)
    assert await desk.counts("balcony") == (7, 1, 0)
    assert await desk.has(forms[4], "X")


async def test_a_partial_refund_is_marked_in_its_record(desk: Desk) -> None:
    """As by move.lua: how much came back is for PostgreSQL to tell."""
    forms = await a_lively_sale(desk)
    move = Move(1, "floor", sold=-1, owner=forms[4].owner, of=forms[4], cancels=False)

    assert (await reconcile(desk, {"floor": (50, 4), "balcony": (5, 0)}, moves=(move,)))[:3] == [b"same", 0, 1]

    record = await desk.record(forms[4])
    assert record is not None and (record.state, record.refunded) == ("C", True)


async def test_a_booking_sold_and_cancelled_unheard_gives_its_tickets_back_once(desk: Desk) -> None:
    """The verdict counts it as sold, the move takes that back, in one call."""
    forms = await a_lively_sale(desk)
    move = Move(1, "floor", sold=-2, owner=forms[0].owner, of=forms[0])

    assert (await reconcile(desk, SOUND, Final(forms[0], "C", "X"), moves=(move,)))[:3] == [b"same", 1, 1]

    assert await desk.counts("floor") == (37, 8, 5)
    assert await desk.has(forms[0], "X")


async def test_oversold_leaves_nothing_available(desk: Desk) -> None:
    """Redis let in more than there is: PostgreSQL refuses the surplus, and meanwhile nobody else gets in."""
    await a_lively_sale(desk)

    reply = await reconcile(desk, {"floor": (12, 5), "balcony": (5, 0)})

    assert reply[0] == b"fixed"
    assert reply[3] == 3
    assert reply[4][0] == [b"floor", 35, 10, 5, 50, -3, 10, 5, 12]
    assert (await reconcile(desk, {"floor": (12, 5), "balcony": (5, 0)}))[0] == b"same", "nothing more to mend"
    await reconcile(desk, SOUND)


async def test_customers_are_counted_anew(desk: Desk) -> None:
    """What they bought comes from PostgreSQL, what they hold from the records. Who is not named is left alone."""
    forms = await a_lively_sale(desk)
    wrong = {"ffffffffffffffff": 9, "dddddddddddddddd": 4, forms[0].owner: 1}
    await desk.redis.hset(keys.owners(desk.shard, EVENT), mapping=wrong)  # type: ignore[misc]

    await reconcile(desk, SOUND, bought={forms[0].owner: 5, "eeeeeeeeeeeeeeee": 2, "ffffffffffffffff": 0})

    assert await desk.redis.hgetall(keys.owners(desk.shard, EVENT)) == {  # type: ignore[misc]
        forms[0].owner.encode(): b"16", b"eeeeeeeeeeeeeeee": b"2", b"dddddddddddddddd": b"4",
    }  # fmt: skip


async def test_ids_that_hold_nothing_any_more_leave_the_sets(desk: Desk) -> None:
    forms = await a_lively_sale(desk)
    await desk.redis.zadd(keys.pending(desk.shard), {forms[4].id: 1})
    await shift(desk, a_floor=1)

    await reconcile(desk, SOUND)

    assert forms[4].id not in await desk.pending()
