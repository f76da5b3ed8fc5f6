"""change.lua, one test for each line of its Returns, on a real server and a fake one."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from boxoffice.errors import GateClosed
from boxoffice.stores import keys
from boxoffice.stores.record import Line, unpack
from tests.lua.test_holds import LONG_MS, cancel, ended, expire, pay
from tests.support.shop.orders import CLIENT
from tests.support.shop.script import FAR, Desk, Form, tickets_by_tier

ONE, TWO = "1" * 32, "2" * 32
PRINT, OTHER_PRINT = "f" * 16, "e" * 16
TTL_S = 60


async def change(
    desk: Desk, form: Form, key: str = ONE, *, fingerprint: str = PRINT, seen: bytes | None = None,
    prices: dict[str, int] | None = None, expected: int | str = "", most: int = 5,
    unpaid_max: tuple[int, int, int] = (40, 500, 40), **tiers: int,
) -> list[Any]:  # fmt: skip
    """The script's whole reply. Prices are those of the record, and today's for what is new, unless others are given."""
    shard = desk.shard
    raw = await desk.redis.get(keys.booking(shard, form.id)) if seen is None else seen
    record = unpack(form.id, raw or form_record(form))
    own = {line.tier: line.unit_price_cents for line in record.body.lines}
    cost = desk.prices | own | (prices or {})
    lines = tuple(Line(tier, count, cost[tier]) for tier, count in sorted(tiers.items()))
    reply = await desk.scripts.change(
        desk.redis,
        [keys.gate(shard), keys.booking(shard, form.id), keys.deadlines(shard), keys.event(shard, form.event),
         keys.owners(shard, form.event), keys.changes(shard, form.id)],
        [raw or b"", record.with_lines(lines).pack(), key, fingerprint,
         ",".join(f"{line.tier}:{line.unit_price_cents}" for line in lines), expected, most, TTL_S, *unpaid_max],
    )  # fmt: skip
    assert isinstance(reply, list)
    return reply


def form_record(form: Form) -> bytes:
    """Of a booking that has no record."""
    return f"H|1|1|{FAR}|".encode() + form.packed


async def word(desk: Desk, form: Form, *args: Any, **how: Any) -> str:
    return str((await change(desk, form, *args, **how))[0].decode())


async def untouched(desk: Desk, form: Form, *args: Any, **how: Any) -> list[Any]:
    """The reply, when nothing at all was written."""
    before = await desk.snapshot()
    reply = await change(desk, form, *args, **how)
    assert await desk.snapshot() == before, "a refusal writes nothing"
    return reply


@pytest.fixture
async def hold(desk: Desk) -> Form:
    """Two of five floor tickets at 100, one of five balcony tickets at 200; of the box, at 300, there are five."""
    await desk.open_sale(floor=5, balcony=5, box=5)
    form = desk.form(hold_ms=LONG_MS, floor=2, balcony=1)
    assert await desk.book(form) == [b"created"]
    return form


async def counts(desk: Desk) -> dict[str, tuple[int, int, int]]:
    return {tier: await desk.counts(tier) for tier in ("floor", "balcony", "box")}


async def unpaid_of(desk: Desk, form: Form) -> dict[str, int]:
    """What is unpaid, and what the client gave up, without when."""
    found = await desk.redis.hgetall(keys.unpaid(desk.shard, form.event))
    return {who.decode(): int(count.split(b":")[0]) for who, count in found.items()}


@pytest.mark.parametrize(
    ("tiers", "left", "tickets"),
    [
        ({"floor": 1, "balcony": 1}, {"floor": (4, 1, 0), "balcony": (4, 1, 0), "box": (5, 0, 0)}, 2),
        ({"floor": 5, "balcony": 1}, {"floor": (0, 5, 0), "balcony": (4, 1, 0), "box": (5, 0, 0)}, 6),
        ({"box": 3}, {"floor": (5, 0, 0), "balcony": (5, 0, 0), "box": (2, 3, 0)}, 3),
        ({"floor": 1, "balcony": 4, "box": 5}, {"floor": (4, 1, 0), "balcony": (1, 4, 0), "box": (0, 5, 0)}, 10),
        ({"floor": 2, "balcony": 1}, {"floor": (3, 2, 0), "balcony": (4, 1, 0), "box": (5, 0, 0)}, 3),
    ],
    ids=["less", "more", "others", "all of it", "the same"],
)
async def test_changed_moves_the_difference_and_nothing_else(
    desk: Desk, hold: Form, tiers: dict[str, int], left: dict[str, tuple[int, int, int]], tickets: int
) -> None:
    """Counters, the customer's count, what is unpaid, and the record, in one step; key, deadline and place stay."""
    before = await desk.record(hold)
    assert before is not None
    assert await word(desk, hold, **tiers) == "changed"

    assert await counts(desk) == left
    record = await desk.record(hold)
    assert record is not None
    assert record.items == ",".join(f"{tier}:{count}" for tier, count in sorted(tiers.items()))
    prices = {line.tier: line.unit_price_cents for line in record.body.lines}
    assert prices == {tier: {"floor": 100, "balcony": 200, "box": 300}[tier] for tier in tiers}
    assert record.changed and record.attempts == 0
    assert (record.deadline_ms, record.scope, record.fingerprint, record.owner, record.sequence) == (
        before.deadline_ms, before.scope, before.fingerprint, before.owner, before.sequence,
    )  # fmt: skip
    assert await desk.redis.zscore(keys.deadlines(desk.shard), hold.id) == before.deadline_ms
    assert await desk.owned(hold) == tickets
    unpaid = await unpaid_of(desk, hold)
    assert (unpaid[f"o:{hold.owner}"], unpaid[f"c:{CLIENT}"]) == (tickets, tickets)
    assert await desk.redis.hgetall(keys.changes(desk.shard, hold.id)) == {ONE.encode(): PRINT.encode()}
    assert 0 < await desk.redis.ttl(keys.changes(desk.shard, hold.id)) <= TTL_S
    assert await desk.redis.ttl(keys.booking(desk.shard, hold.id)) == -1


async def test_what_it_gave_up_is_given_up_as_by_a_cancellation(desk: Desk, hold: Form) -> None:
    """Tier by tier; what stays, and what it takes, is not."""
    await change(desk, hold, floor=1, box=3)
    unpaid = await unpaid_of(desk, hold)
    assert {who: count for who, count in unpaid.items() if who.startswith("g:")} == {
        f"g:{CLIENT}:floor": 1, f"g:{CLIENT}:balcony": 1,
    }  # fmt: skip


async def test_a_changed_hold_ends_with_what_it_has_then(desk: Desk, hold: Form) -> None:
    await change(desk, hold, box=3)
    assert await cancel(desk, hold) == "cancelled"
    assert await counts(desk) == dict.fromkeys(("floor", "balcony", "box"), (5, 0, 0))
    assert await desk.owned(hold) == 0


async def test_a_changed_hold_expires_with_what_it_has_then(desk: Desk) -> None:
    await desk.open_sale(floor=5, balcony=5)
    form = desk.form(hold_ms=300, floor=2)
    await desk.book(form)
    assert await word(desk, form, balcony=1) == "changed"
    await desk.wait_ms(310)
    assert (await expire(desk))[1] == 1
    assert [await desk.counts(tier) for tier in ("floor", "balcony")] == [(5, 0, 0), (5, 0, 0)]


async def test_without_its_gate_nothing_is_changed(desk: Desk, hold: Form) -> None:
    await desk.redis.delete(keys.gate(desk.shard))
    before = await desk.snapshot()
    with pytest.raises(GateClosed):
        await change(desk, hold, box=1)
    assert await desk.snapshot() == before


async def test_missing(desk: Desk, hold: Form) -> None:
    await desk.redis.delete(keys.booking(desk.shard, hold.id))
    assert await untouched(desk, hold, box=1) == [b"missing"]


async def test_repeated_changes_nothing_whatever_came_after(desk: Desk, hold: Form) -> None:
    """Not even another change, a payment, or the end of it."""
    await change(desk, hold, ONE, box=1)
    await change(desk, hold, TWO, floor=3)
    for _ in range(2):
        word, raw = await untouched(desk, hold, ONE, box=1)
        assert (word, raw) == (b"repeated", await desk.redis.get(keys.booking(desk.shard, hold.id)))
        await cancel(desk, hold)


async def test_mismatch_when_its_key_comes_with_another_change(desk: Desk, hold: Form) -> None:
    await change(desk, hold, ONE, box=1)
    assert (await untouched(desk, hold, ONE, fingerprint=OTHER_PRINT, box=2))[0] == b"mismatch"


async def test_rewritten_when_it_is_another_by_now(desk: Desk, hold: Form) -> None:
    """Of two changes of the same record one is told to read it again."""
    seen = await desk.redis.get(keys.booking(desk.shard, hold.id))
    await change(desk, hold, ONE, box=1)
    word, raw = await untouched(desk, hold, TWO, seen=seen, floor=3)
    assert (word, raw) == (b"rewritten", await desk.redis.get(keys.booking(desk.shard, hold.id)))


async def test_in_progress_while_it_is_being_paid(desk: Desk, hold: Form) -> None:
    assert await pay(desk, hold) == "paid"
    assert (await untouched(desk, hold, box=1))[0] == b"in_progress"


async def test_over_when_it_is_no_hold_any_more(desk: Desk, hold: Form) -> None:
    await cancel(desk, hold)
    assert (await untouched(desk, hold, box=1))[0] == b"over"


async def test_over_from_its_deadline_on_whether_it_was_swept_or_not(desk: Desk) -> None:
    await desk.open_sale(floor=5, balcony=5)
    form = desk.form(hold_ms=50, floor=2)
    await desk.book(form)
    await desk.wait_ms(55)
    assert (await untouched(desk, form, floor=1))[0] == b"over"


async def test_too_many(desk: Desk, hold: Form) -> None:
    """A repeat of one of them is none."""
    assert await word(desk, hold, ONE, most=1, box=1) == "changed"
    assert (await untouched(desk, hold, TWO, most=1, box=2))[0] == b"too_many"
    assert await word(desk, hold, ONE, most=1, box=1) == "repeated"
    assert await word(desk, hold, TWO, most=2, box=2) == "changed"


GROW, SHRINK = {"floor": 3, "balcony": 1}, {"floor": 1}


@pytest.mark.parametrize(
    ("sale", "reply"),
    [
        ({"on": "p"}, [b"paused"]),
        ({"on": "x"}, [b"called_off"]),
        ({"on": "0"}, [b"sale_closed", b"event"]),
        ({"starts": 1}, [b"sale_closed", b"started"]),
        ({"p:floor": "-100"}, [b"sale_closed", b"floor"]),
        ({"win": "0|1|"}, [b"ended", b"floor"]),
        ({"win": "0|0|floor:0:1"}, [b"ended", b"floor"]),
        ({"win": f"{FAR}|0|"}, [b"not_open", b"%d" % FAR]),
        ({"win": f"0|0|floor:{FAR}:0"}, [b"not_open", b"%d" % FAR]),
    ],
)
async def test_a_sale_that_says_no_says_so_of_what_is_added(
    desk: Desk, hold: Form, sale: dict[str, Any], reply: list[bytes]
) -> None:
    """By the rules of a booking. What is only given up asks nobody, and a tier that gets no more is not asked about."""
    await desk.redis.hset(keys.event(desk.shard, hold.event), mapping=sale)
    assert await untouched(desk, hold, **GROW) == reply
    assert await word(desk, hold, TWO, **SHRINK) == "changed"


@pytest.mark.parametrize("sale", [{"p:floor": "-100"}, {"win": f"0|0|floor:{FAR}:0"}, {"win": "0|0|floor:0:1"}])
async def test_a_tier_of_which_it_keeps_some_may_be_off_sale(desk: Desk, hold: Form, sale: dict[str, Any]) -> None:
    await desk.redis.hset(keys.event(desk.shard, hold.event), mapping=sale)
    assert await word(desk, hold, floor=2, box=1) == "changed"


async def test_unloaded(desk: Desk, hold: Form) -> None:
    await desk.redis.hdel(keys.event(desk.shard, hold.event), "a:box")
    assert await untouched(desk, hold, box=1) == [b"unloaded"]
    await desk.redis.hset(keys.event(desk.shard, hold.event), "a:box", 5)
    await desk.redis.hdel(keys.event(desk.shard, hold.event), "on")
    assert await untouched(desk, hold, floor=3) == [b"unloaded"]


async def test_unknown_tier(desk: Desk, hold: Form) -> None:
    await desk.redis.hdel(keys.event(desk.shard, hold.event), "p:box")
    assert await untouched(desk, hold, box=1) == [b"unknown_tier", b"box"]


async def test_sold_out_takes_nothing_and_gives_nothing_up(desk: Desk, hold: Form) -> None:
    """Every tier that is short of what is added, in their order, with what others hold of it."""
    await desk.book(desk.form(floor=2), desk.form(box=5, hold_ms=30_000))
    other = desk.form(balcony=1, hold_ms=LONG_MS)
    await desk.book(other)
    word, wait, *short = await untouched(desk, hold, floor=4, box=1)
    assert (word, short) == (b"sold_out", [b"box", b"0", b"5", b"floor", b"1", b"2"])
    assert 0 < int(wait) <= 30_000
    assert (await change(desk, hold, TWO, floor=3))[0] == b"changed", "one more of the floor is there"


async def test_its_own_tickets_do_not_come_back_to_it(desk: Desk) -> None:
    """Nor does its own end count as the next."""
    await desk.open_sale(floor=2)
    form = desk.form(hold_ms=LONG_MS, floor=2)
    await desk.book(form)
    assert await untouched(desk, form, floor=3) == [b"sold_out", b"0", b"floor", b"0", b"0"]


async def test_nor_while_others_who_are_paying_have_the_rest(desk: Desk) -> None:
    """They have no deadline: nobody knows when the next hold ends."""
    await desk.open_sale(floor=3)
    form = desk.form(hold_ms=LONG_MS, floor=2)
    await desk.book(form, desk.form(floor=1))
    assert await untouched(desk, form, floor=3) == [b"sold_out", b"0", b"floor", b"0", b"1"]


async def test_the_next_hold_to_end_is_another(desk: Desk) -> None:
    await desk.open_sale(floor=3)
    form, other = desk.form(hold_ms=10_000, floor=2), desk.form(hold_ms=LONG_MS, floor=1)
    await desk.book(form, other)
    _, wait, *short = await untouched(desk, form, floor=3)
    assert short == [b"floor", b"0", b"1"]
    assert 10_000 < int(wait) <= LONG_MS


@pytest.mark.parametrize(("limit", "refused"), [(5, False), (4, True), (3, True), (0, False)])
async def test_the_customer_limit_counts_the_difference(desk: Desk, hold: Form, limit: int, refused: bool) -> None:
    """Three are its own; five is two more."""
    await desk.redis.hset(keys.event(desk.shard, hold.event), "lim", limit)
    reply = await change(desk, hold, floor=2, box=3)
    assert reply[:1] == ([b"customer_limit"] if refused else [b"changed"])
    if refused:
        assert reply == [b"customer_limit", b"", 3, 0, limit, limit - 3]


@pytest.mark.parametrize(
    ("rules", "tiers", "reply"),
    [
        ("0:4:0|", {"floor": 4, "balcony": 1}, [b"booking_limit", b"", 0, 4]),
        ("0:4:0|", {"floor": 3, "balcony": 1}, None),
        ("0:2:0|", {"floor": 2, "balcony": 1}, None),
        ("0:2:0|", {"box": 3}, None),
        ("3:0:0|", {"floor": 2}, [b"booking_limit", b"", 3, 0]),
        ("4:0:0|", {"box": 3}, None),
        ("0:0:0|floor:0:3:0:0", {"floor": 4}, [b"booking_limit", b"floor", 0, 3]),
        ("0:0:0|floor:0:3:0:0", {"floor": 3}, None),
        ("0:0:0|floor:0:1:0:0", {"floor": 2, "box": 1}, None),
        ("0:0:0|floor:2:0:0:0", {"floor": 1, "balcony": 1}, [b"booking_limit", b"floor", 2, 0]),
        ("0:0:0|floor:2:0:0:0", {"balcony": 1}, None),
        ("0:0:0|box:2:3:0:0", {"box": 1}, [b"booking_limit", b"box", 2, 3]),
        ("0:0:0|box:2:3:0:0", {"box": 4}, [b"booking_limit", b"box", 2, 3]),
        ("0:0:0|box:2:3:0:0", {"box": 2}, None),
        ("0:0:3|", {"floor": 2}, [b"customer_limit", b"", 3, 3, 0, b""]),
        ("0:0:4|", {"box": 3}, None),
        ("0:0:0|floor:0:0:0:3", {"floor": 4}, [b"customer_limit", b"floor", 2, 0, 3, 1]),
        ("0:0:0|floor:0:0:0:3", {"floor": 3}, None),
        ("0:0:0|floor:0:0:0:1", {"floor": 2, "box": 1}, None),
        ("0:0:0|floor:0:0:2:0", {"floor": 1}, [b"customer_limit", b"floor", 2, 2, 0, b""]),
        ("0:0:0|floor:0:0:2:0", {"box": 1}, None),
        ("0:0:0|box:0:0:2:0", {"box": 1}, [b"customer_limit", b"box", 0, 2, 0, b""]),
    ],
)
async def test_the_rules_of_the_sale_are_kept_by_what_it_comes_to(
    desk: Desk, hold: Form, rules: str, tiers: dict[str, int], reply: list[Any] | None
) -> None:
    """Least and most of a booking and of its customer, of the event and of a tier: a change may not break one. Whoever had too
    many or too few when a rule came keeps them, and may swap the others; a tier that is given up wholly is no tier of it."""
    await desk.redis.hset(keys.event(desk.shard, hold.event), "rules", rules)
    if reply:
        assert await untouched(desk, hold, **tiers) == reply
    else:
        assert await word(desk, hold, **tiers) == "changed"
        by_tier = await desk.redis.hget(keys.owned_tiers(desk.shard, hold.event), hold.owner)
        assert by_tier == ",".join(f"{tier}:{count}" for tier, count in sorted(tiers.items())).encode()


async def test_what_its_customer_has_in_other_bookings_counts_too(desk: Desk, hold: Form) -> None:
    """Of the tier, and in all; the answer says how many more are allowed by both."""
    await desk.book(desk.form(floor=1))
    await desk.redis.hset(keys.event(desk.shard, hold.event), mapping={"rules": "0:0:0|floor:0:0:0:4", "lim": 5})
    assert await untouched(desk, hold, floor=4) == [b"customer_limit", b"floor", 3, 0, 4, 1]
    assert await word(desk, hold, floor=3, balcony=1) == "changed"
    assert await untouched(desk, hold, TWO, floor=3, balcony=2) == [b"customer_limit", b"", 5, 0, 5, 0]


async def test_a_swap_is_no_more_tickets_whatever_the_limits(desk: Desk, hold: Form) -> None:
    """A limit that was lowered since keeps nobody from what he has, nor from fewer."""
    await desk.redis.hset(keys.event(desk.shard, hold.event), "lim", 1)
    assert await word(desk, hold, ONE, unpaid_max=(1, 1, 40), box=3) == "changed"
    assert await word(desk, hold, TWO, unpaid_max=(1, 1, 40), box=1, floor=1) == "changed"


@pytest.mark.parametrize(
    ("most", "reply"),
    [
        ((5, 5, 40), None),
        ((4, 5, 40), [b"unpaid_limit", b"customer", 3, 4]),
        ((5, 4, 40), [b"unpaid_limit", b"client", 3, 4]),
    ],
)
async def test_what_is_unpaid_counts_the_difference(
    desk: Desk, hold: Form, most: tuple[int, int, int], reply: list[Any] | None
) -> None:
    if reply:
        assert await untouched(desk, hold, unpaid_max=most, floor=2, box=3) == reply
    else:
        assert await word(desk, hold, unpaid_max=most, floor=2, box=3) == "changed"


async def test_who_gave_up_a_tier_takes_no_more_than_its_share_of_it_by_a_swap(desk: Desk, hold: Form) -> None:
    """As when it books: however many others it gives up for it."""
    unpaid = keys.unpaid(desk.shard, hold.event)
    await desk.redis.hset(unpaid, f"g:{CLIENT}:box", f"6:{await desk.now_ms()}")
    reply = await untouched(desk, hold, unpaid_max=(40, 500, 2), box=3)
    assert reply == [b"unpaid_limit", b"client", 3, 2]
    assert await word(desk, hold, unpaid_max=(40, 500, 2), box=2) == "changed"
    assert await word(desk, hold, TWO, unpaid_max=(40, 500, 2), floor=3) == "changed"


@pytest.mark.parametrize("tiers", [{"floor": 3}, {"floor": 3, "box": 1}])
async def test_more_of_a_tier_whose_price_has_changed_is_another_price(
    desk: Desk, hold: Form, tiers: dict[str, int]
) -> None:
    await desk.redis.hset(keys.event(desk.shard, hold.event), "p:floor", 150)
    assert await untouched(desk, hold, **tiers) == [b"two_prices", b"floor", b"150"]


async def test_what_stays_keeps_its_price(desk: Desk, hold: Form) -> None:
    await desk.redis.hset(keys.event(desk.shard, hold.event), "p:floor", 150)
    assert await word(desk, hold, expected=400, floor=1, box=1) == "changed"
    record = await desk.record(hold)
    assert record is not None
    assert record.body.lines == (Line("box", 1, 300), Line("floor", 1, 100))


@pytest.mark.parametrize(
    ("prices", "expected", "reply"),
    [
        (None, "", None), (None, 500, None), (None, 499, [b"price_changed", b"500", 0]),
        (None, 0, [b"price_changed", b"500", 0]), ({"box": 299}, "", [b"price_changed", b"500", 1]),
        ({"box": 299}, 499, [b"price_changed", b"500", 1]), ({"box": 299}, 500, [b"price_changed", b"500", 1]),
    ],
)  # fmt: skip
async def test_price_changed_when_it_costs_another_amount(
    desk: Desk, hold: Form, prices: dict[str, int] | None, expected: int | str, reply: list[bytes | int] | None
) -> None:
    """Of what is new, by the price at which the script sells; all of it, by what is expected."""
    wanted: dict[str, Any] = {"prices": prices, "expected": expected, "floor": 2, "box": 1}
    if reply:
        assert await untouched(desk, hold, **wanted) == reply
    else:
        assert await word(desk, hold, **wanted) == "changed"


@pytest.mark.parametrize("expected", ["", 300])
async def test_prices_that_moved_against_each_other_are_not_the_prices(desk: Desk, expected: int | str) -> None:
    """Though their sum is what it was: each line is written, and refunded, at its own."""
    await desk.open_sale(floor=5, balcony=5, box=5)
    form = desk.form(hold_ms=LONG_MS, box=1)
    await desk.book(form)
    wanted: dict[str, Any] = {"expected": expected, "floor": 1, "balcony": 1}
    moved = {"floor": 150, "balcony": 150}
    assert await untouched(desk, form, prices=moved, **wanted) == [b"price_changed", b"300", 1]
    assert await word(desk, form, **wanted) == "changed"


async def test_an_amount_is_expected_of_what_is_only_given_up_too(desk: Desk, hold: Form) -> None:
    assert await untouched(desk, hold, expected=300, floor=1) == [b"price_changed", b"100", 0]
    assert await word(desk, hold, expected=100, floor=1) == "changed"


async def test_a_key_of_a_wrong_type_is_noticed_before_anything_is_written(desk: Desk, hold: Form) -> None:
    unpaid = keys.unpaid(desk.shard, hold.event)
    await desk.redis.set(unpaid, "text")
    before = await desk.snapshot()
    with pytest.raises(Exception, match="WRONGTYPE"):
        await change(desk, hold, floor=1)
    assert await desk.snapshot() == before


@pytest.mark.parametrize("by", ["cancel", "expire"])
async def test_the_keys_of_its_changes_live_as_long_as_its_record_once_it_has_ended(
    desk: Desk, hold: Form, by: str
) -> None:
    """Or whoever holds, changes and cancels would fill Redis."""
    await change(desk, hold, floor=1)
    name = keys.changes(desk.shard, hold.id)
    await desk.redis.persist(name)
    if by == "cancel":
        assert await cancel(desk, hold) == "cancelled"
    else:
        await ended(desk, hold)
        assert (await expire(desk))[1] == 1
    life_s = await desk.redis.ttl(keys.booking(desk.shard, hold.id))
    assert 0 < life_s - 1 <= await desk.redis.ttl(name) <= life_s


async def test_what_a_hold_gives_up_that_was_never_counted_by_tier_is_no_negative_count(desk: Desk, hold: Form) -> None:
    """A hold of before customers were counted by tier."""
    name = keys.owned_tiers(desk.shard, hold.event)
    await desk.redis.delete(name)
    assert await word(desk, hold, ONE, floor=1) == "changed"
    assert await desk.redis.hgetall(name) == {}
    assert await word(desk, hold, TWO, floor=2, box=1) == "changed"
    assert tickets_by_tier(await desk.redis.hget(name, hold.owner)) == {"floor": 1, "box": 1}


@pytest.mark.parametrize("seed", range(3))
async def test_any_changes_in_a_row_count_what_the_holds_have(desk: Desk, seed: int) -> None:
    """Of two customers with two holds each, one of which may end: counters, customers' counts, and what is unpaid."""
    chance = random.Random(seed)
    most = {"floor": 6, "balcony": 4, "box": 3}
    await desk.open_sale(limit=7, **most)
    holds = [desk.form(customer=customer, hold_ms=LONG_MS, floor=1) for customer in ("ann", "ann", "bob", "bob")]
    await desk.book(*holds)
    words = set()
    for number in range(40):
        form = chance.choice(holds)
        tiers = {tier: chance.randint(1, 4) for tier in most if chance.random() < 0.5} or {"floor": 1}
        words.add(await word(desk, form, f"{number:032x}", most=1_000, **tiers))
        if number == 30:
            await cancel(desk, holds[0])
        records = [record for hold in holds if (record := await desk.record(hold)) and record.state == "H"]
        for tier, total in most.items():
            held = sum(line.quantity for record in records for line in record.body.lines if line.tier == tier)
            assert await desk.counts(tier) == (total - held, held, 0)
        for hold in holds:
            theirs = [line for record in records if record.owner == hold.owner for line in record.body.lines]
            assert await desk.owned(hold) == sum(line.quantity for line in theirs) <= 7
            by_tier = await desk.redis.hget(keys.owned_tiers(desk.shard, hold.event), hold.owner)
            counted = Counter({tier: sum(line.quantity for line in theirs if line.tier == tier) for tier in most})
            assert (by_tier or b"").decode() == ",".join(
                f"{tier}:{count}" for tier, count in sorted((+counted).items())
            )
            unpaid = (await unpaid_of(desk, hold)).get(f"o:{hold.owner}", 0)
            assert unpaid == sum(line.quantity for line in theirs)
    assert {"changed", "sold_out"} <= words
