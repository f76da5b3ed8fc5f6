"""reconcile.lua, one test for each line of its Returns. A look writes nothing; a repair counts each booking once."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from boxoffice.stores import keys
from boxoffice.stores.record import Record
from tests.support.shop.orders import CLIENT
from tests.support.shop.script import EVENT, OTHER_EVENT, Desk, Form, Verdict, tickets_by_tier


class Final(NamedTuple):
    """What PostgreSQL decided of a booking: how its tickets count, and its state."""

    form: Form
    counted: str
    state: str = ""
    items: str = ""
    """With which PostgreSQL has it, and its body; empty where it has none."""
    body: str = ""


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
    bought: dict[str, str] | None = None,
) -> Any:
    """The script's reply. `stock` is each tier's total and sold in PostgreSQL."""
    names = [keys.pending(desk.shard), keys.dead(desk.shard), keys.deadlines(desk.shard), keys.event(desk.shard, EVENT),
             keys.owners(desk.shard, EVENT), keys.told(desk.shard)]  # fmt: skip
    facts = [f"{tier}|{total}|{sold}" for tier, (total, sold) in stock.items()]
    for final in finals:
        names += [keys.booking(desk.shard, final.form.id), keys.idempotency(desk.shard, final.form.scope)]
        end = f'{final.items}|{final.body}\n{{"f":"decided"}}'
        facts.append(f"{final.counted}|{final.state or final.counted}|{end}")
    for move in moves:
        names += [keys.moved(desk.shard, f"{move.id}-7"), keys.booking(desk.shard, move.of.id if move.of else "")]
        facts.append(
            f'{move.tier}|{move.sold}|{move.total}|{move.owner}|{int(move.of is not None and move.cancels)}|{{"f":"x"}}'
        )
    facts += [f"note {move.id}" for move in moves]
    if bought is not None:
        facts.append(";".join(f"{owner}={items}" for owner, items in bought.items()))
    return await desk.scripts.reconcile(
        desk.redis,
        names,
        [int(fix), int(deep), int(bought is not None), 60, 600, EVENT, keys.booking(desk.shard, ""), len(stock),
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


@pytest.mark.parametrize(("counted", "state"), [("C", "C"), ("C", "X"), ("X", "X"), ("F", "F")])
@pytest.mark.parametrize("hold", [True, False])
async def test_what_ended_with_other_items_than_its_record_has_counts_as_what_it_ended_as(
    desk: Desk, counted: str, state: str, hold: bool
) -> None:
    """An older copy of Redis has a hold as it was before its items were changed. What it has is given back; what was sold is
    taken, whichever tiers that are, and is what the record says from then on. A move brings back what was sold."""
    forms = await a_lively_sale(desk)
    form, other = forms[2 if hold else 0], desk.form(floor=1, balcony=2, reference="|")
    body = other.packed.split(b"\n")[1].decode()
    sold = {"floor": 1, "balcony": 2} if counted == "C" else {}
    moves = (
        tuple(Move(n, tier, -sold[tier], owner=form.owner, of=form) for n, tier in enumerate(sold))
        if state == "X"
        else ()
    )
    if moves:
        sold = {}
    stock = {"floor": (50, 5 + sold.get("floor", 0)), "balcony": (5, sold.get("balcony", 0))}
    had = 3 if hold else 2

    reply = await reconcile(desk, stock, Final(form, counted, state, other.items, body), moves=moves)

    assert reply[:3] == [b"same", 1, len(moves)]
    assert await desk.counts("floor") == (35 + had - sold.get("floor", 0), 10 - had, 5 + sold.get("floor", 0))
    assert await desk.counts("balcony") == (4 - sold.get("balcony", 0), 1, sold.get("balcony", 0))
    assert await desk.owned(form) == 16 - had + sum(sold.values()), "with every booking of the customer"
    record = await desk.record(form)
    assert record is not None and (record.state, record.items) == (state, other.items)
    assert (record.body.amount_cents, record.body.reference) == (500, "|")
    assert (await reconcile(desk, stock, deep=True))[0] == b"same"


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
    by_tier = {"ffffffffffffffff": "floor:9", "dddddddddddddddd": "balcony:4", forms[0].owner: "balcony:2"}
    await desk.redis.hset(keys.owned_tiers(desk.shard, EVENT), mapping=by_tier)  # type: ignore[misc]

    await reconcile(
        desk,
        SOUND,
        bought={forms[0].owner: "floor:4,stalls:1", "eeeeeeeeeeeeeeee": "balcony:2", "ffffffffffffffff": ""},
    )

    assert await desk.redis.hgetall(keys.owners(desk.shard, EVENT)) == {  # type: ignore[misc]
        forms[0].owner.encode(): b"16", b"eeeeeeeeeeeeeeee": b"2", b"dddddddddddddddd": b"4",
    }  # fmt: skip
    counted = await desk.redis.hgetall(keys.owned_tiers(desk.shard, EVENT))  # type: ignore[misc]
    assert {owner.decode(): tickets_by_tier(items) for owner, items in counted.items()} == {
        forms[0].owner: {"floor": 10 + 4, "balcony": 1, "stalls": 1}, "eeeeeeeeeeeeeeee": {"balcony": 2},
        "dddddddddddddddd": {"balcony": 4},
    }  # fmt: skip


async def test_what_comes_back_of_a_tier_that_was_never_counted_is_no_negative_count(desk: Desk) -> None:
    """As move.lua does it."""
    forms = await a_lively_sale(desk)
    await desk.redis.delete(keys.owned_tiers(desk.shard, EVENT))
    moves = (Move(1, "floor", sold=-2, owner=forms[4].owner),)
    assert (await reconcile(desk, {"floor": (50, 3), "balcony": (5, 0)}, moves=moves))[0] == b"same"
    assert await desk.redis.hgetall(keys.owned_tiers(desk.shard, EVENT)) == {}  # type: ignore[misc]


async def test_ids_that_hold_nothing_any_more_leave_the_sets(desk: Desk) -> None:
    forms = await a_lively_sale(desk)
    await desk.redis.zadd(keys.pending(desk.shard), {forms[4].id: 1})
    await shift(desk, a_floor=1)

    await reconcile(desk, SOUND)

    assert forms[4].id not in await desk.pending()


# ------------------------------------------------------------------ which tier, which customer, which booking


@pytest.mark.parametrize("tier", ["floor", "balcony"])
@pytest.mark.parametrize("letter", "ahct")
async def test_one_lost_field_of_one_tier_is_counted_and_the_others_stay(desk: Desk, tier: str, letter: str) -> None:
    """Also one that was nought: what is found is what every other booking says, not a tier that begins anew."""
    forms = await a_lively_sale(desk)
    await desk.settle(Verdict(forms[1], "F"))
    counts = {"floor": (36, 9, 5), "balcony": (5, 0, 0)}
    await desk.redis.hdel(keys.event(desk.shard, EVENT), f"{letter}:{tier}")  # type: ignore[misc]

    assert (await reconcile(desk, SOUND))[0] == b"fixed"

    assert {name: await desk.counts(name) for name in counts} == counts
    assert (await reconcile(desk, SOUND, deep=True))[0] == b"same"


@pytest.mark.parametrize(
    "drift",
    [{"a_balcony": -1}, {"h_balcony": 1}, {"a_floor": 1, "c_floor": -1}, {"a_balcony": 1, "c_balcony": -1},
     {"a_floor": -40, "h_floor": 40}, {"a_floor": 12, "h_floor": -12}],
)  # fmt: skip
async def test_drift_of_any_tier_is_found_without_counting_every_booking(desk: Desk, drift: dict[str, int]) -> None:
    """Counters that do not add up, or not to what PostgreSQL sold, or that are below nothing."""
    await a_lively_sale(desk)
    await shift(desk, **drift)

    assert (await reconcile(desk, SOUND))[0] == b"fixed"

    assert (await desk.counts("floor"), await desk.counts("balcony")) == ((35, 10, 5), (4, 1, 0))


async def test_oversold_tickets_of_all_tiers_are_summed(desk: Desk) -> None:
    await a_lively_sale(desk)
    assert (await reconcile(desk, {"floor": (12, 5), "balcony": (0, 0)}, fix=False))[3] == 3 + 1


@pytest.mark.parametrize(("letter", "owned"), [("C", 16), ("F", 12), ("E", 12), ("X", 12)])
async def test_customers_get_back_what_was_not_sold(desk: Desk, letter: str, owned: int) -> None:
    """Two bookings of one customer, of two tiers: all their tickets, once."""
    forms = await a_lively_sale(desk)
    confirmed = letter == "C"
    stock = {"floor": (50, 8), "balcony": (5, 1)} if confirmed else SOUND

    reply = await reconcile(desk, stock, Final(forms[0], letter), Final(forms[1], letter))

    assert reply[:2] == [b"same", 2]
    assert await desk.owned(forms[0]) == owned
    assert await desk.counts("balcony") == ((4, 0, 1) if confirmed else (5, 0, 0))


async def test_a_customer_without_tickets_has_no_count(desk: Desk) -> None:
    """Given back by a verdict, by a move, or both."""
    await desk.open_sale(floor=50, balcony=5)
    refused, gone = desk.form(floor=2, customer="bob"), desk.form(floor=1, balcony=1, customer="cat")
    await desk.book(refused, gone)
    await desk.settle(Verdict(gone, "C"))
    moves = (
        Move(1, "floor", sold=-1, owner=gone.owner, of=gone),
        Move(2, "balcony", sold=-1, owner=gone.owner, of=gone),
    )

    await reconcile(desk, {"floor": (50, 0), "balcony": (5, 0)}, Final(refused, "F"), moves=moves)

    assert await desk.redis.exists(keys.owners(desk.shard, EVENT), keys.owned_tiers(desk.shard, EVENT)) == 0
    assert (await desk.counts("floor"), await desk.counts("balcony")) == ((50, 0, 0), (5, 0, 0))


async def test_a_move_without_a_customer_is_nobodys(desk: Desk) -> None:
    forms = await a_lively_sale(desk)
    await reconcile(desk, {"floor": (50, 3), "balcony": (5, 0)}, moves=(Move(1, "floor", sold=-2),))
    assert await desk.redis.hgetall(keys.owners(desk.shard, EVENT)) == {forms[0].owner.encode(): b"16"}  # type: ignore[misc]


async def test_a_hold_that_ended_in_postgresql_ends_here(desk: Desk) -> None:
    """And leaves the deadlines; nobody holds its tickets unpaid any more."""
    forms = await a_lively_sale(desk)

    assert (await reconcile(desk, SOUND, Final(forms[2], "E")))[:2] == [b"same", 1]

    assert await desk.counts("floor") == (38, 7, 5)
    assert await desk.has(forms[2], "E")
    assert await desk.members(keys.deadlines(desk.shard)) == []
    assert await desk.unpaid() == {}


async def test_a_revived_booking_that_is_decided_otherwise_is_mirrored(desk: Desk) -> None:
    """Only "expired" was its first verdict."""
    forms = await a_lively_sale(desk)
    record = await desk.record(forms[0])
    assert isinstance(record, Record)
    record.tries += "r"
    await desk.redis.set(keys.booking(desk.shard, forms[0].id), record.pack())

    assert (await reconcile(desk, {"floor": (50, 7), "balcony": (5, 0)}, Final(forms[0], "C")))[:2] == [b"same", 1]

    assert await desk.has(forms[0], "C")


async def test_what_is_decided_leaves_every_set(desk: Desk) -> None:
    """Parked; without a record; and whatever else has no tickets any more. Those of the other event stay."""
    forms = await a_lively_sale(desk)
    await desk.redis.delete(keys.booking(desk.shard, forms[0].id))
    others = set(await desk.pending()) - {forms[0].id, forms[1].id}
    for name in (keys.pending(desk.shard), keys.dead(desk.shard), keys.deadlines(desk.shard)):
        await desk.redis.zadd(name, {forms[4].id: 1})

    reply = await reconcile(desk, SOUND, Final(forms[0], "F"), Final(forms[3], "F"), deep=True)
    assert reply[:2] == [b"same", 1], "what is not there cannot be judged"

    assert set(await desk.pending()) == {forms[1].id, *others} != {forms[1].id}
    assert await desk.members(keys.dead(desk.shard)) == []
    assert await desk.members(keys.deadlines(desk.shard)) == [forms[2].id]
    assert (await reconcile(desk, SOUND, deep=True))[0] == b"fixed", "its two tickets, once it is gone"


async def test_a_tier_that_is_not_asked_for_is_left_alone(desk: Desk) -> None:
    forms = await a_lively_sale(desk)
    assert (await reconcile(desk, {"floor": (50, 5)}, Final(forms[1], "F")))[:2] == [b"same", 1]
    assert await desk.counts("balcony") == (4, 1, 0)
    await shift(desk, a_balcony=1, h_balcony=-1)


async def test_a_booking_in_two_sets_is_counted_once(desk: Desk) -> None:
    forms = await a_lively_sale(desk)
    for name in (keys.pending(desk.shard), keys.dead(desk.shard), keys.deadlines(desk.shard)):
        await desk.redis.zadd(name, {forms[3].id: 1})
    assert (await reconcile(desk, SOUND, deep=True))[0] == b"same"


async def test_every_booking_is_counted_however_many_there_are(desk: Desk) -> None:
    await desk.open_sale(floor=2_000)
    forms = [desk.form(floor=1, customer=f"c{n}", hold_ms=60_000) for n in range(502)]
    await desk.book(*forms)
    await shift(desk, a_floor=7)

    assert (await reconcile(desk, {"floor": (2_000, 0)}))[0] == b"fixed"

    assert await desk.counts("floor") == (1_498, 502, 0)


# ------------------------------------------------------------------ what is written beside the counters


async def test_whoever_is_told_is_told_with_a_pair(desk: Desk) -> None:
    """Not by a look."""
    forms = await a_lively_sale(desk)
    await desk.redis.delete(keys.told(desk.shard))
    await reconcile(desk, SOUND, Final(forms[0], "F"), fix=False)
    assert not await desk.redis.exists(keys.told(desk.shard))
    await reconcile(desk, SOUND, Final(forms[0], "F"))
    assert await desk.redis.smembers(keys.told(desk.shard)) == {b"7:7"}  # type: ignore[misc]


async def test_each_move_is_remembered_by_its_own_note(desk: Desk) -> None:
    """For as long as moves are, beside verdicts and other moves."""
    forms = await a_lively_sale(desk)
    moves = (Move(1, "floor", sold=-5, owner=forms[4].owner, of=forms[4]), Move(2, "balcony", total=3))

    await reconcile(desk, {"floor": (50, 0), "balcony": (8, 0)}, Final(forms[0], "F"), moves=moves)

    for number in (1, 2):
        assert await desk.redis.get(keys.moved(desk.shard, f"{number}-7")) == b"note %d" % number
        assert 590 < await desk.redis.ttl(keys.moved(desk.shard, f"{number}-7")) <= 600
    assert await desk.owned(forms[0]) == 16 - 5 - 2


@pytest.mark.parametrize("cancels", [False, True])
async def test_a_move_speaks_of_the_record_as_the_verdict_left_it(desk: Desk, cancels: bool) -> None:
    """Confirmed and then refunded, both unheard of; and refunded once more: one mark is enough."""
    forms = await a_lively_sale(desk)
    move = Move(1, "floor", sold=-1, owner=forms[0].owner, of=forms[0], cancels=cancels)
    stock = {"floor": (50, 6), "balcony": (5, 0)}

    await reconcile(desk, stock, Final(forms[0], "C"), moves=(move,))

    record = await desk.record(forms[0])
    assert record is not None and record.state == ("X" if cancels else "C")
    assert 50 < await desk.redis.ttl(keys.booking(desk.shard, forms[0].id)) <= 60
    if not cancels:
        await reconcile(desk, {"floor": (50, 5), "balcony": (5, 0)}, moves=(move._replace(id=2),))
        record = await desk.record(forms[0])
        assert record is not None and record.tries.count("g") == 1


async def test_a_move_of_a_booking_that_is_not_confirmed_leaves_its_record(desk: Desk) -> None:
    """What it became is told by its verdict, not by its tickets."""
    forms = await a_lively_sale(desk)
    raw = await desk.redis.get(keys.booking(desk.shard, forms[0].id))
    await reconcile(desk, {"floor": (50, 3), "balcony": (5, 0)}, moves=(Move(1, "floor", sold=-2, of=forms[0]),))
    assert await desk.redis.get(keys.booking(desk.shard, forms[0].id)) == raw


async def test_unpaid_tickets_stay_counted_while_one_record_cannot_be_read(desk: Desk) -> None:
    """Only a hold that ended is taken off."""
    forms = await a_lively_sale(desk)
    other = desk.form(floor=2, hold_ms=60_000, customer="bob")
    await desk.book(other)
    raw = await desk.redis.get(keys.booking(desk.shard, forms[2].id))
    await desk.redis.set(keys.booking(desk.shard, forms[2].id), "?")

    await reconcile(desk, SOUND, Final(other, "E"), deep=True)

    assert set((await desk.unpaid()).values()) == {3}
    await desk.redis.set(keys.booking(desk.shard, forms[2].id), raw)


async def test_the_words_of_a_shop_leave_nobody_unpaid(desk: Desk) -> None:
    """They may look like a payment that waits for the bank: its tickets are neither counted as unpaid, nor taken off."""
    await desk.open_sale(floor=50)
    one, two = (desk.form(floor=n, metadata={"s": "requires_action"}) for n in (2, 4))
    hold = desk.form(floor=3, hold_ms=60_000)
    await desk.book(one, two, hold)
    unpaid = {f"o:{hold.owner}": 3, f"c:{CLIENT}": 3}
    assert await desk.unpaid() == unpaid

    await reconcile(desk, {"floor": (50, 0)}, deep=True)
    assert await desk.unpaid() == unpaid
    await reconcile(desk, {"floor": (50, 2)}, Final(one, "C"))
    assert await desk.unpaid() == unpaid


async def test_a_customer_who_holds_and_has_no_count_gets_one(desk: Desk) -> None:
    """The counts were lost and PostgreSQL has nothing of him: his limit stands all the same. Whoever has a count keeps it,
    unless he is asked for."""
    forms = await a_lively_sale(desk)
    bob, cat = desk.form(floor=2, balcony=1, customer="bob"), desk.form(floor=1, customer="cat")
    await desk.book(bob, cat)
    await desk.redis.delete(keys.owners(desk.shard, EVENT))
    await desk.redis.hset(keys.owners(desk.shard, EVENT), mapping={cat.owner: 7})  # type: ignore[misc]
    await desk.redis.hset(keys.owned_tiers(desk.shard, EVENT), mapping={cat.owner: "floor:7"})  # type: ignore[misc]

    await reconcile(desk, SOUND, bought={forms[0].owner: "floor:5"})

    assert [await desk.owned(form) for form in (forms[0], bob, cat)] == [16, 3, 7]
    await desk.redis.delete(keys.owners(desk.shard, EVENT))
    await reconcile(desk, SOUND, bought={})
    assert [await desk.owned(form) for form in (forms[0], bob, cat)] == [11, 3, 1]


@pytest.mark.parametrize("letter", "ahct")
@pytest.mark.parametrize("raw", [None, "nonsense"])
async def test_a_counter_of_nought_that_is_lost_is_counted_too(desk: Desk, letter: str, raw: str | None) -> None:
    """Of a tier that has nothing; one that is no number counts as nought. What was found is told as nought."""
    await desk.open_sale(floor=5, none=0)
    sale = keys.event(desk.shard, EVENT)
    if raw is None:
        await desk.redis.hdel(sale, f"{letter}:none")  # type: ignore[misc]
    else:
        await desk.redis.hset(sale, f"{letter}:none", raw)  # type: ignore[misc]
    stock = {"floor": (5, 0), "none": (0, 0)}

    word, *_, counts = await reconcile(desk, stock, fix=False)
    assert word == (b"drift" if raw is None else b"same")
    assert {tier: numbers for tier, *numbers in counts} == {
        b"floor": [5, 0, 0, 5, 5, 0, 0, 5], b"none": [0, 0, 0, 0, 0, 0, 0, 0],
    }  # fmt: skip
    if raw is None:
        assert (await reconcile(desk, stock))[0] == b"fixed"
        assert await desk.counts("none") == (0, 0, 0)
    await desk.redis.hset(sale, f"{letter}:none", 0)  # type: ignore[misc]
