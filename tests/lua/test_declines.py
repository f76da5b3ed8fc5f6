"""Declined payments: counted by decline.lua, looked at by admit.lua and pay.lua before they let another in."""

from __future__ import annotations

from typing import Any

import pytest
from redis.exceptions import ResponseError

from boxoffice.access.rates import Allowance
from boxoffice.stores import keys
from tests.lua.test_admit import refused_without_a_trace
from tests.lua.test_holds import pay
from tests.support.shop.orders import CLIENT
from tests.support.shop.script import EVENT, OTHER_EVENT, Desk, Form

WINDOW_S = 3_600
WINDOW_MS = 1_000 * WINDOW_S
"""No test outlasts it; one in thousands that is run as the hour strikes sees two."""

TERMS = f"3:4:50:{WINDOW_MS}"
"""Three of a customer; of a client or an event four, when they are half of all; of the latter only for a client that is one of
those to blame."""


CARD_MAX = 3


async def decline(desk: Desk, window_ms: int = WINDOW_MS, good: str = "", **counts: int) -> int:
    said = [part for field, count in counts.items() for part in (field, count)]
    given = [window_ms, CARD_MAX, good, *said]
    return int(await desk.scripts.decline(desk.redis, [keys.declines(desk.shard)], given))


async def counted(desk: Desk) -> dict[str, int]:
    found = await desk.redis.hgetall(keys.declines(desk.shard))  # type: ignore[misc]
    return {name.decode(): int(count) for name, count in found.items() if name not in (b"at", b"most")}


async def most(desk: Desk) -> int | None:
    """Of any customer."""
    found = await desk.redis.hget(keys.declines(desk.shard), "most")  # type: ignore[misc]
    return None if found is None else int(found)


def form(desk: Desk, terms: str = TERMS, *, event: str = EVENT, **how: Any) -> Form:
    return desk.form(event, rate=Allowance(declines=terms).text, **{"floor": 1} | how)


@pytest.fixture
async def sale(desk: Desk) -> Desk:
    await desk.open_sale(floor=50)
    await desk.open_sale(OTHER_EVENT, floor=50)
    return desk


async def test_what_was_declined_adds_up(desk: Desk) -> None:
    """Until the window ends, by Redis's clock; then it begins with nothing."""
    await decline(desk, a=1, b=2)
    await decline(desk, b=5)
    assert await counted(desk) == {"a": 1, "b": 7}
    name, now_ms = keys.declines(desk.shard), await desk.now_ms()
    assert int(await desk.redis.hget(name, "at") or 0) == now_ms // WINDOW_MS * WINDOW_MS  # type: ignore[misc]
    assert WINDOW_MS < await desk.redis.pttl(name) <= 2 * WINDOW_MS
    for other in (now_ms // WINDOW_MS * WINDOW_MS - WINDOW_MS, now_ms // WINDOW_MS * WINDOW_MS + WINDOW_MS):
        await desk.redis.hset(name, "at", other)  # type: ignore[misc]
        await decline(desk, a=4)
        assert await counted(desk) == {"a": 4}
        await decline(desk, a=1)
        assert await counted(desk) == {"a": 5}


async def test_a_good_payment_takes_a_declined_one_back(desk: Desk) -> None:
    """Of whoever has any; never more than there are, and nothing is noted of anybody else."""
    await decline(desk, **{"o:a": 3, "o:b": 1, "c:a": 4})
    await decline(desk, good="a:1,b:2,c:1")
    assert await counted(desk) == {"o:a": 2, "o:b": 0, "c:a": 4}
    await decline(desk, good="a:2", **{"o:b": 1})
    assert await counted(desk) == {"o:a": 0, "o:b": 1, "c:a": 4}


async def test_the_most_that_any_customer_had_is_known(desk: Desk) -> None:
    """So that nobody's are looked up while nobody has many, and no good payment is told while nobody has any. It is of
    customers alone, and begins anew with the window; one that an older worker began has none, and gets none."""
    assert await decline(desk, good="a:1", **{"c:x": 9, "E:x": 9}) == 0
    assert await most(desk) == 0
    assert await decline(desk, **{"o:a": 2}) == 2
    await decline(desk, **{"o:b": 5, "o:a": 2})
    await decline(desk, **{"o:c": 1})
    assert await most(desk) == 5
    assert await decline(desk, good="b:5") == 5
    assert await most(desk) == 5
    assert await counted(desk) == {"c:x": 9, "E:x": 9, "o:a": 4, "o:b": 0, "o:c": 1}
    name = keys.declines(desk.shard)
    await desk.redis.hset(name, "at", 0)  # type: ignore[misc]
    await decline(desk, **{"o:d": 1})
    assert (await counted(desk), await most(desk)) == ({"o:d": 1}, 1)
    await desk.redis.hdel(name, "most")  # type: ignore[misc]
    assert await decline(desk, good="d:1", **{"o:e": 7}) == -1
    assert (await counted(desk), await most(desk)) == ({"o:d": 0, "o:e": 7}, None)


async def test_cards_that_were_declined_too_often_are_counted(desk: Desk) -> None:
    """Once each, as they reach the number, or pass it."""
    seen = []
    for counts in ({"f:x": 2, "o:f:": 9}, {"f:x": 1}, {"f:x": 1, "f:y": 2}, {"f:y": 5}, {"f:x": 9, "f:y": 9, "o:x": 4}):
        await decline(desk, **counts)
        seen.append((await counted(desk)).get("F", 0))
    assert seen == [0, 1, 1, 2, 2]


LIMITS = pytest.mark.parametrize(
    ("counts", "whose"),
    [
        ({"o:{owner}": 3}, "customer"),
        ({"o:{owner}": 2, "o:another": 9}, None),
        ({"c:{client}": 4, "C:{client}": 8}, "client"),
        ({"c:{client}": 4, "C:{client}": 9}, None),
        ({"c:{client}": 3, "C:{client}": 3}, None),
        ({"c:another": 9, "C:another": 9}, None),
        ({"e:{event}": 4, "E:{event}": 8}, None),
        ({"e:{event}": 4, "E:{event}": 8, "c:{client}": 2, "C:{client}": 4}, "event"),
        ({"e:{event}": 4, "E:{event}": 8, "c:{client}": 1, "C:{client}": 9}, None),
        ({"e:{event}": 4, "E:{event}": 9, "c:{client}": 2, "C:{client}": 4}, None),
        ({"e:{event}": 3, "E:{event}": 3, "c:{client}": 2, "C:{client}": 4}, None),
        ({"e:another": 9, "E:another": 9, "c:{client}": 2, "C:{client}": 4}, None),
        ({"o:{owner}": 9, "c:{client}": 9, "C:{client}": 9}, "customer"),
        ({"c:{client}": 9, "C:{client}": 9, "e:{event}": 9, "E:{event}": 9}, "client"),
    ],
)


async def put(desk: Desk, counts: dict[str, int], owner: str) -> None:
    await decline(desk, **{
        name.format(owner=owner, client=CLIENT, event=EVENT): count for name, count in counts.items()
    })  # fmt: skip


@LIMITS
async def test_a_booking_after_too_many_declined_payments(
    sale: Desk, counts: dict[str, int], whose: str | None
) -> None:
    """Takes nothing. A hold is let in, and so are others."""
    wanted = form(sale)
    await put(sale, counts, wanted.owner)
    if whose is None:
        assert await sale.book(wanted) == [b"created"]
        return
    ((word, said, left_ms),) = await refused_without_a_trace(sale, wanted)
    assert (word, said) == (b"declined_too_often", whose.encode())
    assert 0 < int(left_ms) <= WINDOW_MS  # type: ignore[call-overload]
    free = form(sale, prices=(0,), items="gift:1")
    results = await sale.book(wanted, form(sale, hold_ms=9_000), desk_form_of_nobody(sale), free)
    assert [sale.word(result) for result in results[:3]] == [b"declined_too_often", b"created", b"created"]
    assert sale.word(results[3]) == b"unknown_tier"


def desk_form_of_nobody(desk: Desk) -> Form:
    """Of a caller without terms: one from within."""
    return desk.form(floor=1)


async def test_other_customers_and_events_of_a_call_are_let_in(sale: Desk) -> None:
    wanted = form(sale)
    await put(sale, {"o:{owner}": 3, "c:{client}": 2, "C:{client}": 4}, wanted.owner)
    await decline(sale, **{f"e:{OTHER_EVENT}": 4, f"E:{OTHER_EVENT}": 4})
    call = [
        wanted,
        form(sale, customer="bob"),
        form(sale, event=OTHER_EVENT, customer="bob"),
        form(sale, customer="eve"),
    ]
    results = [sale.word(result) for result in await sale.book(*call)]
    assert results == [b"declined_too_often", b"created", b"declined_too_often", b"created"]


@pytest.mark.parametrize(
    ("terms", "counts", "refused"),
    [
        (f":4:50:{WINDOW_MS}", {"o:{owner}": 99}, False),
        (f"3::50:{WINDOW_MS}", {"c:{client}": 99, "C:{client}": 99, "e:{event}": 99, "E:{event}": 99}, False),
        (f":4:50:{WINDOW_MS}", {"c:{client}": 99, "C:{client}": 99}, True),
        (f"3::50:{WINDOW_MS}", {"o:{owner}": 99}, True),
        (f":20:50:{WINDOW_MS}", {"e:{event}": 20, "E:{event}": 40, "c:{client}": 1, "C:{client}": 1}, False),
        (f":20:50:{WINDOW_MS}", {"e:{event}": 20, "E:{event}": 40, "c:{client}": 2, "C:{client}": 2}, True),
        (f":1:100:{WINDOW_MS}", {"c:{client}": 9, "C:{client}": 10}, False),
        (f":1:100:{WINDOW_MS}", {"c:{client}": 9, "C:{client}": 9}, True),
        ("", {"o:{owner}": 99, "c:{client}": 99, "C:{client}": 99}, False),
    ],
)
async def test_what_is_not_limited(sale: Desk, terms: str, counts: dict[str, int], refused: bool) -> None:
    """Each limit may be switched off, in both scripts."""
    wanted, hold = form(sale, terms), sale.form(hold_ms=60_000, floor=1)
    await put(sale, counts, wanted.owner)
    await sale.book(hold)
    assert sale.word((await sale.book(wanted))[0]) == (b"declined_too_often" if refused else b"created")
    assert await pay(sale, hold, terms=terms) == ("declined_too_often" if refused else "paid")


async def test_what_was_declined_in_another_window_is_forgotten(sale: Desk) -> None:
    wanted, hold = form(sale), sale.form(hold_ms=60_000, floor=1)
    await sale.book(hold)
    await decline(sale, **{f"o:{wanted.owner}": 3})
    name = keys.declines(sale.shard)
    began = int(await sale.redis.hget(name, "at") or 0)  # type: ignore[misc]
    await sale.redis.hset(name, "at", began - WINDOW_MS)  # type: ignore[misc]
    assert await sale.book(wanted) == [b"created"]
    assert await pay(sale, hold, terms=TERMS) == "paid"


async def test_what_an_older_worker_counted_is_looked_at(sale: Desk) -> None:
    """It does not say what is the most of any customer."""
    wanted, hold = form(sale), sale.form(hold_ms=60_000, floor=1)
    await sale.book(hold)
    await decline(sale, **{f"o:{wanted.owner}": 3})
    await sale.redis.hdel(keys.declines(sale.shard), "most")  # type: ignore[misc]
    assert sale.word((await sale.book(wanted))[0]) == b"declined_too_often"
    assert await pay(sale, hold, terms=TERMS) == "declined_too_often"


async def test_what_an_older_worker_counts_in_a_window_of_a_newer_one_is_seen_with_the_next(sale: Desk) -> None:
    """It counts, and does not say what is the most of any customer: that waits for what a newer one counts of the same."""
    wanted = form(sale)
    await decline(sale, **{"o:other": 1})
    await sale.redis.hincrby(keys.declines(sale.shard), f"o:{wanted.owner}", 3)  # type: ignore[misc]
    assert await sale.book(form(sale)) == [b"created"]
    assert await decline(sale, **{f"o:{wanted.owner}": 1}) == 4
    assert sale.word((await sale.book(wanted))[0]) == b"declined_too_often"


async def test_a_repeat_is_answered_whatever_was_declined_since(sale: Desk) -> None:
    first, again = form(sale, key="k"), form(sale, key="k")
    await sale.book(first)
    await decline(sale, **{f"o:{first.owner}": 3})
    assert sale.word((await sale.book(again))[0]) == b"replayed"


@LIMITS
async def test_a_hold_is_not_paid_after_too_many_declined_payments(
    sale: Desk, counts: dict[str, int], whose: str | None
) -> None:
    """It stays held, to be paid later, or given back; an attempt that was made is still told."""
    hold = sale.form(hold_ms=60_000, floor=1)
    await sale.book(hold)
    await put(sale, counts, hold.owner)
    if whose is None:
        assert await pay(sale, hold, terms=TERMS) == "paid"
        return
    before = await sale.snapshot()
    assert await pay(sale, hold, terms=TERMS) == "declined_too_often"
    assert await sale.snapshot() == before
    assert await pay(sale, hold, terms="") == "paid"
    assert await pay(sale, hold, terms=TERMS) == "replayed"


async def test_a_key_of_a_wrong_type_is_noticed_before_anything_is_written(sale: Desk) -> None:
    await sale.redis.set(keys.declines(sale.shard), "no hash")
    before = await sale.snapshot()
    with pytest.raises(ResponseError):
        await sale.book(form(sale))
    assert await sale.snapshot() == before
