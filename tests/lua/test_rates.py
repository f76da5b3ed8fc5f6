"""How often an API key and a customer may ask: counted in admit.lua, by Redis's clock, in the call that admits."""

from __future__ import annotations

from typing import Any

import pytest
from redis.exceptions import ResponseError

from boxoffice.access.rates import Allowance
from boxoffice.stores import keys
from tests.lua.test_admit import refused_without_a_trace
from tests.support.shop.script import EVENT, OTHER_EVENT, Desk, Form

WINDOW_S = 3_600
"""No test outlasts it; one in thousands that is run as the hour strikes sees two."""


def rate(
    key: str = "one", key_max: int | None = None, customer_max: int | None = None, window_s: int = WINDOW_S
) -> str:
    return Allowance(key, key_max, customer_max, window_s).text


async def words(desk: Desk, *forms: Form) -> list[str]:
    return [desk.word(result).decode() for result in await desk.book(*forms)]


async def counted(desk: Desk) -> dict[str, int]:
    found = await desk.redis.hgetall(keys.rates(desk.shard))  # type: ignore[misc]
    return {name.decode(): int(count) for name, count in found.items() if name != b"at"}


async def begin_window(desk: Desk, shift_ms: int = 0, window_s: int = WINDOW_S) -> None:
    """What is counted was counted in another window than this one."""
    window_ms = 1_000 * window_s
    began = await desk.now_ms() // window_ms * window_ms + shift_ms
    await desk.redis.hset(keys.rates(desk.shard), "at", began)  # type: ignore[misc]


@pytest.fixture
async def sale(desk: Desk) -> Desk:
    await desk.open_sale(floor=50, balcony=1)
    await desk.open_sale(OTHER_EVENT, stalls=50)
    return desk


async def test_a_key_may_ask_so_often(sale: Desk) -> None:
    """Over calls, and within one; what is refused takes nothing, and others of the call are let in."""
    spent = {"rate": rate(key_max=3), "floor": 1}
    assert await words(sale, sale.form(**spent), sale.form(**spent)) == ["created"] * 2
    other = sale.form(rate=rate("two", key_max=3), floor=1)
    call = [sale.form(**spent), sale.form(**spent), other, sale.form(floor=1), sale.form(**spent)]
    assert await words(sale, *call) == ["created", "rate_limited", "created", "created", "rate_limited"]
    assert await sale.counts("floor") == (45, 5, 0)
    assert await counted(sale) == {"k:one": 3, "k:two": 1}
    assert await sale.record(call[1]) is None and not await sale.redis.exists(
        keys.idempotency(sale.shard, call[1].scope)
    )


async def test_a_customer_may_ask_so_often(sale: Desk) -> None:
    """Whatever it asks for, under whichever key, of whichever event."""
    spent = {"rate": rate(key_max=9, customer_max=2)}
    ann = [
        sale.form(floor=1, **spent),
        sale.form(OTHER_EVENT, stalls=1, rate=rate("two", customer_max=2)),
        sale.form(floor=1, hold_ms=9_000, **spent),
    ]
    bob = sale.form(customer="bob", floor=1, **spent)
    assert await words(sale, *ann, bob) == ["created", "created", "rate_limited", "created"]
    assert await counted(sale) == {"k:one": 2, ann[0].owner: 2, bob.owner: 1}


async def test_who_is_refused_is_told_by_whom_and_until_when(sale: Desk) -> None:
    spent = {"rate": rate(key_max=2, customer_max=1), "floor": 1}
    await sale.book(sale.form(**spent))
    now_ms, (customer,), *_ = await sale.admit(sale.form(**spent))
    await sale.book(sale.form(customer="bob", **spent))
    ((key,),) = [await sale.book(sale.form(customer="eve", **spent))]
    ends = b"%d" % ((now_ms // 1_000 // WINDOW_S + 1) * WINDOW_S * 1_000)
    assert customer == [b"rate_limited", b"customer", 1, ends]
    assert key == [b"rate_limited", b"key", 2, ends]


async def test_what_each_key_has_asked_for_is_told(sale: Desk) -> None:
    """After the call; of those alone that have a limit."""
    forms = [
        sale.form(floor=1, rate=rate(key_max=5)),
        sale.form(floor=1, rate=rate(key_max=5)),
        sale.form(floor=1, rate=rate("two", key_max=5)),
        sale.form(floor=1, rate=rate("three", customer_max=5)),
        sale.form(floor=1),
    ]
    assert (await sale.admit(*forms)).counted == {"one": 2, "two": 1}
    assert (await sale.admit(forms[0])).counted == {"one": 2}, "a repeat is told, and not counted"
    assert (await sale.admit(sale.form(floor=1))).counted == {}


async def test_a_repeat_is_answered_from_its_record_however_often_its_key_has_asked(sale: Desk) -> None:
    """It is neither counted nor refused: whoever is over the limit loses no booking that is in."""
    spent = {"rate": rate(key_max=1, customer_max=1), "floor": 1}
    form = sale.form(key="k", **spent)
    again, other = sale.form(key="k", **spent), sale.form(key="k", rate=spent["rate"], floor=2)
    assert await words(sale, form, again) == ["created", "replayed"]
    assert await words(sale, form, again, other, sale.form(**spent)) == [
        "created",
        "replayed",
        "mismatch",
        "rate_limited",
    ]
    (asked,) = await sale.book(sale.question(key="k", **spent))
    assert asked[:2] == [b"replayed", form.id.encode()]
    assert await counted(sale) == {"k:one": 1, form.owner: 1}


@pytest.mark.parametrize("word", ["sold_out", "sale_closed", "price_changed", "unknown_tier", "malformed"])
async def test_a_refusal_is_an_attempt(sale: Desk, word: str) -> None:
    """Whoever asks in vain is counted; once it is too often, that is what is told."""
    wanted: dict[str, dict[str, Any]] = {
        "sold_out": {"balcony": 2},
        "sale_closed": {"event": EVENT, "floor": 1},
        "price_changed": {"floor": 1, "prices": (7,)},
        "unknown_tier": {"items": "none:1", "prices": (1,)},
        "malformed": {"items": "floor:x", "prices": (1,)},
    }
    if word == "sale_closed":
        await sale.redis.hset(keys.event(sale.shard, EVENT), "on", "0")  # type: ignore[misc]
    forms = [sale.form(rate=rate(key_max=2), **wanted[word]) for _ in range(3)]
    assert await words(sale, *forms) == [word, word, "rate_limited"]
    assert await counted(sale) == {"k:one": 2}
    await refused_without_a_trace(sale, sale.form(rate=rate(key_max=2), **wanted[word]))


async def test_a_question_counts_when_it_is_the_answer(sale: Desk) -> None:
    """Where tickets are left its booking comes next, and is counted then. Its customer is counted with it."""
    spent = {"rate": rate(key_max=9, customer_max=1)}
    assert await words(sale, sale.question(floor=1, **spent)) == ["left"]
    assert await counted(sale) == {}
    questions = [sale.question(balcony=2, **spent) for _ in range(2)]
    assert await words(sale, *questions) == ["sold_out", "rate_limited"]
    assert await counted(sale) == {"k:one": 1, questions[0].owner: 1}


@pytest.mark.parametrize("shift_ms", [-1_000 * WINDOW_S, 1_000 * WINDOW_S])
async def test_a_new_window_begins_with_nothing(sale: Desk, shift_ms: int) -> None:
    """By Redis's clock, also when that went back."""
    spent = {"rate": rate(key_max=1), "floor": 1}
    await sale.book(sale.form(rate=rate("two", key_max=1), floor=1), sale.form(**spent))
    await begin_window(sale, shift_ms)
    assert await words(sale, sale.form(**spent), sale.form(**spent)) == ["created", "rate_limited"]
    assert await counted(sale) == {"k:one": 1}
    assert 0 < await sale.redis.pttl(keys.rates(sale.shard)) <= 2_000 * WINDOW_S
    await begin_window(sale)
    assert await words(sale, sale.form(**spent)) == ["rate_limited"], "it is the same window"


async def test_who_has_no_limit_is_not_counted(sale: Desk) -> None:
    assert await words(sale, sale.form(floor=1), sale.form(floor=1, rate=rate())) == ["created", "created"]
    assert not await sale.redis.exists(keys.rates(sale.shard))


async def test_a_key_of_a_wrong_type_is_noticed_before_anything_is_written(sale: Desk) -> None:
    await sale.redis.set(keys.rates(sale.shard), "no hash")
    before = await sale.snapshot()
    with pytest.raises(ResponseError):
        await sale.book(sale.form(rate=rate(key_max=1), floor=1))
    assert await sale.snapshot() == before


async def test_what_is_counted_is_in_no_file(sale: Desk, server: str) -> None:
    """Nor on a replica: a refusal waits for no disk."""
    if server == "fake":
        pytest.skip("it has no files")

    async def offset() -> int:
        return int((await sale.redis.info("persistence"))["aof_current_size"])

    if (await sale.redis.config_get("appendonly"))["appendonly"] != "yes":
        pytest.skip("this server has no file")
    await sale.book(sale.form(balcony=2, rate=rate(key_max=9)))
    before = await offset()
    await sale.book(*(sale.form(balcony=2, rate=rate(key_max=9)) for _ in range(5)))
    assert await counted(sale) == {"k:one": 6}
    assert await offset() == before


async def test_a_full_redis_answers_repeats_and_refusals(sale: Desk, server: str) -> None:
    """What cannot be counted is let by: nothing can be admitted then anyway."""
    if server == "fake":
        pytest.skip("it is never full")
    form = sale.form(key="k", floor=1)
    await sale.book(form)
    try:
        await sale.redis.config_set("maxmemory", "1")
        forms = [sale.form(key="k", floor=1, rate=rate(key_max=9)), sale.form(balcony=2, rate=rate(key_max=9))]
        assert await words(sale, *forms) == ["replayed", "sold_out"]
    finally:
        await sale.redis.config_set("maxmemory", "0")
