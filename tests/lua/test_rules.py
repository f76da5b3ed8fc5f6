"""Least and most tickets of a booking and of a customer, of an event and of a tier: looked at by admit.lua, counted by whatever
takes tickets or gives them back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from redis.exceptions import ResponseError

from boxoffice.stores import keys
from tests.lua.test_admit import refused_without_a_trace
from tests.lua.test_holds import KEY, cancel, ended, expire, expired_with_payment, pay, revive
from tests.lua.test_move import move
from tests.lua.test_reconcile import Final, Move, reconcile
from tests.lua.test_restore import restore, taken_away
from tests.support.shop.script import EVENT, Desk, Form, Verdict

OF_EVENT = "2:4:0|"
OF_TIER = "0:0:0|balcony:2:3:0:0"


async def rule(desk: Desk, rules: str, **static: int) -> None:
    """Other rules, from the next call on."""
    await desk.redis.hset(keys.event(desk.shard, EVENT), mapping={"rules": rules, **static})  # type: ignore[misc]


# ------------------------------------------------------------------ of one booking


@pytest.mark.parametrize(
    ("rules", "tickets", "refused"),
    [
        (OF_EVENT, {"floor": 1}, [b"", 2, 4]),
        (OF_EVENT, {"floor": 2}, None),
        (OF_EVENT, {"floor": 1, "balcony": 1}, None),
        (OF_EVENT, {"floor": 4}, None),
        (OF_EVENT, {"floor": 2, "balcony": 3}, [b"", 2, 4]),
        ("2:0:0|", {"floor": 9}, None),
        ("0:4:0|", {"floor": 1}, None),
        ("0:4:0|", {"floor": 5}, [b"", 0, 4]),
        (OF_TIER, {"floor": 1}, None),
        (OF_TIER, {"floor": 9}, None),
        (OF_TIER, {"floor": 2, "balcony": 1}, [b"balcony", 2, 3]),
        (OF_TIER, {"balcony": 2}, None),
        (OF_TIER, {"balcony": 3}, None),
        (OF_TIER, {"balcony": 4}, [b"balcony", 2, 3]),
        ("0:0:0|balcony:2:3:0:0,floor:0:1:0:0", {"balcony": 2, "floor": 2}, [b"floor", 0, 1]),
        ("0:4:0|balcony:2:3:0:0", {"balcony": 5}, [b"", 0, 4]),
        ("0:0:0|stalls:2:3:0:0", {"floor": 1}, None),
    ],
)
async def test_a_booking_has_as_many_tickets_as_the_rules_say(
    desk: Desk, rules: str, tickets: dict[str, int], refused: list[object] | None
) -> None:
    """Whoever asks, and however it is paid; of a question, too."""
    await desk.open_sale(floor=30, balcony=30, rules=rules)
    for form in (desk.form(**tickets), desk.form(hold_ms=60_000, **tickets)):  # type: ignore[arg-type]
        if refused:
            assert await refused_without_a_trace(desk, form) == [[b"booking_limit", *refused]]
        else:
            assert await desk.book(form) == [b"created"]
    asked = await desk.book(desk.question(**tickets))
    assert asked == [[b"booking_limit", *refused] if refused else [b"left"]]


async def test_what_is_told_first(desk: Desk) -> None:
    """That there is no sale is told before its rules, and they before that it is sold out."""
    await desk.open_sale(floor=1, rules=OF_EVENT)
    assert await desk.book(desk.form(floor=5), desk.form(floor=2)) == [
        [b"booking_limit", b"", 2, 4], [b"sold_out", b"0", b"floor", b"1", b"0"],
    ]  # fmt: skip
    await rule(desk, OF_EVENT, on=0)
    assert await desk.book(desk.form(floor=5)) == [[b"sale_closed", b"event"]]


async def test_other_rules_are_for_who_comes_then(desk: Desk) -> None:
    """What was let in stays, and is told again when it is asked for again."""
    await desk.open_sale(floor=9)
    form = desk.form(floor=5)
    await desk.book(form)
    await rule(desk, OF_EVENT)
    assert await desk.book(desk.form(floor=5)) == [[b"booking_limit", b"", 2, 4]]
    repeat = await desk.book(form)
    assert desk.word(repeat[0]) == b"created"
    await rule(desk, "")
    assert await desk.book(desk.form(floor=1)) == [b"created"]


# ------------------------------------------------------------------ of one customer


@pytest.mark.parametrize(
    ("rules", "limit", "has", "wants", "refused"),
    [
        ("0:0:0|balcony:0:0:0:4", 0, {"balcony": 3}, {"balcony": 1}, None),
        ("0:0:0|balcony:0:0:0:4", 0, {"balcony": 3}, {"balcony": 2}, [b"balcony", 3, 0, 4, 1]),
        ("0:0:0|balcony:0:0:0:4", 0, {"balcony": 4}, {"floor": 1, "balcony": 1}, [b"balcony", 4, 0, 4, 0]),
        ("0:0:0|balcony:0:0:0:4", 0, {"balcony": 4}, {"floor": 9}, None),
        ("0:0:0|balcony:0:0:0:4", 0, {"floor": 9}, {"balcony": 4}, None),
        ("0:0:0|balcony:0:0:0:4", 0, {}, {"balcony": 5}, [b"balcony", 0, 0, 4, 4]),
        ("0:0:0|balcony:0:0:0:4,floor:0:0:0:1", 0, {}, {"balcony": 1, "floor": 2}, [b"floor", 0, 0, 1, 1]),
        # The event's stands beside the tier's, is told first, and bounds what may still be taken.
        ("0:0:0|balcony:0:0:0:4", 5, {"floor": 4}, {"balcony": 2}, [b"", 4, 0, 5, 1]),
        ("0:0:0|balcony:0:0:0:4", 6, {"balcony": 4, "floor": 1}, {"balcony": 1}, [b"balcony", 4, 0, 4, 0]),
        ("0:0:0|balcony:0:0:0:4", 9, {"balcony": 1, "floor": 1}, {"balcony": 4}, [b"balcony", 1, 0, 4, 3]),
        ("0:0:0|balcony:0:0:3:4", 5, {"floor": 4}, {"balcony": 1}, [b"balcony", 0, 3, 4, 1]),
        ("0:0:0|balcony:0:0:3:0", 5, {"floor": 4}, {"balcony": 1}, [b"balcony", 0, 3, 0, 1]),
        # A least: with what is there already.
        ("0:0:3|", 0, {}, {"floor": 2}, [b"", 0, 3, 0, b""]),
        ("0:0:3|", 0, {}, {"floor": 2, "balcony": 1}, None),
        ("0:0:3|", 0, {"floor": 3}, {"balcony": 1}, None),
        ("0:0:3|", 4, {}, {"floor": 2}, [b"", 0, 3, 4, 4]),
        ("0:0:0|balcony:0:0:3:0", 0, {}, {"balcony": 2}, [b"balcony", 0, 3, 0, b""]),
        ("0:0:0|balcony:0:0:3:0", 0, {"balcony": 3}, {"balcony": 1}, None),
        ("0:0:0|balcony:0:0:3:0", 0, {}, {"floor": 1}, None),
    ],
)  # fmt: skip
async def test_a_customer_has_as_many_tickets_as_the_rules_say(
    desk: Desk, rules: str, limit: int, has: dict[str, int], wants: dict[str, int], refused: list[object] | None
) -> None:
    """What he has was bought or is held, and was let in before there were rules."""
    await desk.open_sale(floor=20, balcony=20)
    first = [desk.form(hold_ms=60_000 * n, **{tier: 1}) for tier, count in has.items() for n in range(count)]  # type: ignore[arg-type]
    if first:
        await desk.book(*first)
        await desk.settle(*(Verdict(form, "C") for form in first if not form.hold_ms))
    await rule(desk, rules, lim=limit)
    assert await desk.book(desk.question(**wants)) == [[b"left"]], "a question is nobody's"
    if refused:
        assert await refused_without_a_trace(desk, desk.form(**wants)) == [[b"customer_limit", *refused]]  # type: ignore[arg-type]
    else:
        assert await desk.book(desk.form(**wants)) == [b"created"]  # type: ignore[arg-type]


async def test_customers_of_one_call_are_counted_one_after_the_other(desk: Desk) -> None:
    await desk.open_sale(floor=20, balcony=20, rules="0:0:0|balcony:0:0:0:3")
    forms = [
        desk.form(balcony=2),
        desk.form(customer="bob", balcony=3),
        desk.form(balcony=2),
        desk.form(balcony=1, floor=1),
    ]
    assert [desk.word(result) for result in await desk.book(*forms)] == [
        b"created", b"created", b"customer_limit", b"created",
    ]  # fmt: skip
    assert await desk.owned_tiers(forms[0]) == {"balcony": 3, "floor": 1}
    assert await desk.owned_tiers(forms[1]) == {"balcony": 3}


# ------------------------------------------------------------------ taken and given back


async def cancelled(desk: Desk, form: Form) -> None:
    assert await cancel(desk, form) == "cancelled"


async def expired(desk: Desk, form: Form) -> None:
    await ended(desk, form)
    assert (await expire(desk))[1] == 1


async def settled(desk: Desk, form: Form, letter: str) -> None:
    assert await pay(desk, form) == "paid"
    await desk.claim()
    assert await desk.settle(Verdict(form, letter, payment_key=KEY)) == [letter]


async def failed(desk: Desk, form: Form) -> None:
    await settled(desk, form, "F")


async def refunded(desk: Desk, form: Form) -> None:
    await settled(desk, form, "C")
    assert await desk.owned_tiers(form) == {"balcony": 3, "floor": 4}, "what is sold stays his"
    await move(desk, "balcony", sold=-2, owner=form.owner, of=form)
    await move(desk, "floor", sold=-1, owner=form.owner, of=form, move_id=2)


async def reconciled(desk: Desk, form: Form) -> None:
    await reconcile(desk, {"floor": (20, 0), "balcony": (20, 0)}, Final(form, "X"))


async def refund_reconciled(desk: Desk, form: Form) -> None:
    await settled(desk, form, "C")
    moves = tuple(
        Move(n, tier, sold=-count, owner=form.owner, of=form) for n, tier, count in ((1, "balcony", 2), (2, "floor", 1))
    )
    await reconcile(desk, {"floor": (20, 0), "balcony": (20, 0)}, moves=moves)


@pytest.mark.parametrize(
    "give_back", [cancelled, expired, failed, refunded, reconciled, refund_reconciled], ids=lambda each: each.__name__
)
async def test_what_is_given_back_may_be_taken_again(
    desk: Desk, give_back: Callable[[Desk, Form], Awaitable[None]]
) -> None:
    """All of it, of its tiers, and nothing of what he holds otherwise."""
    await desk.open_sale(floor=20, balcony=20)
    mine, other = desk.form(hold_ms=60_000, floor=1, balcony=2), desk.form(floor=3, balcony=1, hold_ms=3_600_000)
    await desk.book(mine, other)
    assert await desk.owned_tiers(mine) == {"balcony": 3, "floor": 4}
    await rule(desk, "0:0:0|balcony:0:0:0:3,floor:0:0:0:4")
    for tier in ("floor", "balcony"):
        assert desk.word((await desk.book(desk.form(**{tier: 1})))[0]) == b"customer_limit"  # type: ignore[arg-type]

    await give_back(desk, mine)

    assert await desk.owned_tiers(mine) == {"balcony": 1, "floor": 3}
    assert await desk.owned(mine) == 4
    assert await desk.book(desk.form(floor=1, balcony=2)) == [b"created"]
    for tier in ("floor", "balcony"):
        assert desk.word((await desk.book(desk.form(**{tier: 1})))[0]) == b"customer_limit"  # type: ignore[arg-type]


async def test_who_has_given_back_everything_has_no_count(desk: Desk) -> None:
    await desk.open_sale(floor=20, balcony=20)
    form = desk.form(hold_ms=60_000, floor=1, balcony=2)
    await desk.book(form)
    await cancelled(desk, form)
    assert await desk.redis.exists(keys.owners(desk.shard, EVENT), keys.owned_tiers(desk.shard, EVENT)) == 0


async def test_late_money_takes_its_tickets_once_more(desk: Desk) -> None:
    form = await expired_with_payment(desk)
    assert await desk.owned_tiers(form) == {}
    assert await revive(desk, form) == "revived"
    assert await desk.owned_tiers(form) == {"floor": await desk.owned(form)}


async def test_a_booking_that_redis_lost_is_counted_when_it_comes_back(desk: Desk) -> None:
    await desk.open_sale(floor=20, balcony=20)
    form = desk.form(floor=2, balcony=1)
    record = await taken_away(desk, form)
    assert await restore(desk, record) == 1
    assert await desk.owned_tiers(form) == {"floor": 2, "balcony": 1}
    assert await restore(desk, record) == 0
    assert await desk.owned(form) == 3


async def test_a_key_of_a_wrong_type_is_noticed_before_anything_is_written(desk: Desk) -> None:
    """A script is not rolled back."""
    await desk.open_sale(floor=20)
    form = desk.form(hold_ms=60_000, floor=1)
    await desk.book(form)
    await pay(desk, form)
    await desk.claim()
    name = keys.owned_tiers(desk.shard, EVENT)
    await desk.redis.delete(name)
    await desk.redis.zadd(name, {"planted": 1})
    before = await desk.snapshot()
    for call in (
        desk.book(desk.form(floor=1)), desk.book(desk.form(customer="bob", floor=1)),
        desk.settle(Verdict(form, "F", payment_key=KEY)),
    ):  # fmt: skip
        with pytest.raises(ResponseError, match=r"(?i)wrong|type"):
            await call
        assert await desk.snapshot() == before
    await desk.redis.delete(name)


async def test_of_an_earlier_version_are_customers_without_tiers(desk: Desk) -> None:
    """They are in no process's way, and count from then on; a recount puts them right."""
    await desk.open_sale(floor=20, balcony=20, limit=5, rules="0:0:0|floor:0:0:0:2")
    form = desk.form(floor=2)
    await desk.book(form)
    await desk.redis.delete(keys.owned_tiers(desk.shard, EVENT))
    assert await desk.book(desk.form(floor=1)) == [b"created"]
    assert await desk.owned_tiers(form) == {"floor": 1}
    assert await desk.book(desk.form(floor=3)) == [[b"customer_limit", b"", 3, 0, 5, 2]]
    await reconcile(desk, {"floor": (20, 0), "balcony": (20, 0)}, bought={form.owner: ""})
    assert await desk.owned_tiers(form) == {"floor": 3}
    assert await desk.book(desk.form(floor=1)) == [[b"customer_limit", b"floor", 3, 0, 2, 0]]


@pytest.mark.parametrize(
    ("rules", "since", "word"),
    [
        ({"lim": 4}, {"floor": 2}, "revived"), ({"lim": 4}, {"floor": 3}, "sold_out"),
        ({"lim": 4}, {"balcony": 3}, "sold_out"), ({"rules": "0:0:0|floor:0:0:0:4"}, {"floor": 2}, "revived"),
        ({"rules": "0:0:0|floor:0:0:0:4"}, {"floor": 3}, "sold_out"),
        ({"rules": "0:0:0|floor:0:0:0:4"}, {"balcony": 9}, "revived"),
        ({"rules": "0:0:0|balcony:0:0:0:1"}, {"balcony": 1}, "revived"),
        ({"rules": "9:9:9|floor:9:9:9:0"}, {}, "revived"), ({"lim": 1}, {}, "sold_out"),
    ],
)  # fmt: skip
async def test_late_money_gives_nobody_more_than_the_rules_allow(
    desk: Desk, rules: dict[str, str | int], since: dict[str, int], word: str
) -> None:
    """What its customer has had since counts; a least does not, for what was let in once had enough."""
    form = await expired_with_payment(desk)
    await desk.open_sale(floor=9, balcony=9)
    if since:
        assert await desk.book(desk.form(**since)) == [b"created"]  # type: ignore[arg-type]
        assert await desk.book(desk.form(floor=2, customer="somebody else")) == [b"created"]
    await desk.redis.hset(keys.event(desk.shard, EVENT), mapping=rules)  # type: ignore[arg-type,misc]
    before = await desk.redis.dump(keys.event(desk.shard, EVENT))
    assert await revive(desk, form) == word
    assert (await desk.redis.dump(keys.event(desk.shard, EVENT)) == before) is (word == "sold_out")
    assert await desk.owned(form) == sum(since.values()) + (2 if word == "revived" else 0)
