"""Allocations in the scripts: who may take what is set aside, that it is reserved again when it comes back, and that nobody
else ever has it. On a real server and a fake one."""

from __future__ import annotations

from typing import Any

import pytest

from boxoffice import ids
from boxoffice.admission.outcomes import LEFT
from boxoffice.stores import keys
from tests.lua.test_change import change
from tests.lua.test_holds import cancel, declined, ended, expire, expired_with_payment, revive
from tests.lua.test_move import move
from tests.lua.test_reconcile import reconcile
from tests.lua.test_shrink import shrink
from tests.support.shop.orders import CLIENT, OTHER
from tests.support.shop.script import EVENT, Desk, Form

CODE, WORD = ids.code_digest("AAAA-BBBB-CCCC"), ids.code_digest("DDDD-EEEE-FFFF")
HOUR = 3_600_000
MINE, THEIRS, CODED = f"floor:@{CLIENT}:4", f"floor:@{OTHER}:4", f"floor:k{CODE}:4"


def short(left: int, held: int, ends: str = "0") -> list[Any]:
    """What is told of a floor that has so many for whoever asks, and so many that may come back."""
    return [b"sold_out", ends.encode(), b"floor", b"%d" % left, b"%d" % held]


async def selling(desk: Desk, *allocations: str, floor: int = 10) -> None:
    await desk.open_sale(floor=floor, balcony=5)
    await desk.set_code(CODE, "99||0|0")
    await desk.set_code(WORD, "99||0|0")
    await desk.set_aside(*allocations)


def told(result: Any) -> Any:
    return result.decode() if isinstance(result, bytes) else [*result[:1], b"0", *result[2:]]


# ------------------------------------------------------------------ who may take how many


@pytest.mark.parametrize(
    ("allocations", "floor", "client", "code", "most"),
    [
        ([], 10, CLIENT, None, 10),
        ([THEIRS], 10, CLIENT, None, 6),
        ([THEIRS], 10, CLIENT, CODE, 6),
        ([THEIRS], 10, OTHER, None, 10),
        ([THEIRS, MINE], 10, CLIENT, None, 6),
        ([THEIRS, CODED], 10, CLIENT, None, 2),
        ([THEIRS, CODED], 10, CLIENT, CODE, 6),
        ([THEIRS, CODED], 10, CLIENT, WORD, 2),
        ([THEIRS, CODED], 10, OTHER, CODE, 10),
        ([THEIRS, MINE, CODED], 12, OTHER, None, 4),
        # Of another tier, or of none: nothing of the floor is set aside.
        (["balcony:@other0000000:4"], 10, CLIENT, None, 10),
        (["attic:@other0000000:4"], 10, CLIENT, None, 10),
        (["floor:@other0000000:0"], 10, CLIENT, None, 10),
        # Less is there than is set aside: whoever has an allocation comes before those who have none.
        ([THEIRS, MINE], 3, CLIENT, None, 3),
        ([THEIRS], 3, CLIENT, None, 0),
    ],
)
async def test_what_is_set_aside_is_for_its_holder_alone(
    desk: Desk, allocations: list[str], floor: int, client: str, code: str | None, most: int
) -> None:
    """And the rest for everybody; a holder has what is set aside first, and the rest as everybody."""
    await selling(desk, *allocations, floor=floor)
    asked = {"client": client, "access_code": code}

    (refused,) = await desk.book(desk.form(floor=most + 1, **asked))

    reserved = sum(int(each.rpartition(":")[2]) for each in allocations if each.startswith("floor:"))
    own = sum(int(each.rpartition(":")[2]) for each in allocations if each.split(":")[1] in (f"@{client}", f"k{code}"))
    assert refused == short(most, reserved - own)
    if most:
        assert await desk.book(desk.form(floor=most, **asked)) == [b"created"]
        assert await desk.counts("floor") == (floor - most, most, 0)


async def test_what_its_holder_takes_is_of_the_allocation_first(desk: Desk) -> None:
    """Seen by everybody else in the same call, and in the next one."""
    await selling(desk, THEIRS)
    forms = [desk.form(floor=6), desk.form(floor=3, client=OTHER), desk.form(floor=1), desk.form(floor=1, client=OTHER)]
    assert [told(result) for result in await desk.book(*forms)] == ["created", "created", short(0, 10), "created"]
    assert await desk.counts("floor") == (0, 10, 0)
    await desk.settle_failed(forms[0])
    assert await desk.book(desk.form(floor=6)) == [b"created"]


async def test_what_the_holder_has_beyond_its_allocation_is_everybodys(desk: Desk) -> None:
    await selling(desk, THEIRS)
    forms = [desk.form(floor=5, client=OTHER), desk.form(floor=5)]
    assert await desk.book(*forms) == [b"created", b"created"]
    # It has five of four: the first that it gives back anybody may have, what comes then is its own again.
    await desk.settle_failed(forms[0])
    assert told((await desk.book(desk.form(floor=2)))[0]) == short(1, 9)
    assert await desk.book(desk.form(floor=1), desk.form(floor=4, client=OTHER)) == [b"created", b"created"]


async def test_what_was_bought_before_counts(desk: Desk) -> None:
    """A shop that has two of four has two set aside."""
    await selling(desk)
    bought, held = desk.form(floor=1, client=OTHER), desk.form(floor=1, client=OTHER, hold_ms=HOUR)
    await desk.book(bought, held, desk.form(balcony=2, client=OTHER))
    assert await desk.confirm(bought)
    await desk.set_aside(THEIRS)
    assert (await desk.book(desk.form(floor=7)))[0][3:4] == [b"6"]
    assert await desk.book(desk.form(floor=6), desk.form(floor=2, client=OTHER)) == [b"created", b"created"]


async def test_a_call_counts_for_each_shop_what_it_let_in(desk: Desk) -> None:
    """In one call of several kinds, with those who were refused."""
    await selling(desk)
    forms = [desk.form(floor=2), desk.form(floor=2), desk.form(floor=1, balcony=2, hold_ms=HOUR),
             desk.form(floor=1, client=OTHER), desk.form(floor=9, client=OTHER)]  # fmt: skip
    await desk.book(*forms)
    assert [await desk.sold_by(CLIENT), await desk.sold_by(CLIENT, "balcony"), await desk.sold_by(OTHER)] == [5, 2, 1]
    await desk.book(desk.form(floor=1))
    assert await desk.sold_by(CLIENT) == 6


async def test_questions_are_answered_to_who_asks(desk: Desk) -> None:
    await selling(desk, THEIRS, floor=4)
    answers = await desk.book(desk.question(floor=1), desk.question(floor=4, client=OTHER), desk.question(balcony=1))
    assert [result[0] for result in answers] == [b"sold_out", LEFT, LEFT]
    assert await desk.counts("floor") == (4, 0, 0)


async def test_what_is_told_to_be_left_is_left_for_everybody(desk: Desk) -> None:
    await selling(desk, THEIRS, CODED)
    reply = await desk.admit(desk.form(floor=1, balcony=1))
    assert reply.left == [[4, 1]], "balcony, floor"
    reply = await desk.admit(desk.form(floor=2, client=OTHER))
    assert reply.left == [[4, 1]]


async def test_who_is_refused_hears_when_the_next_hold_ends_if_there_is_one(desk: Desk) -> None:
    """What is set aside may come back any time, or never: nobody knows when."""
    await selling(desk, THEIRS)
    assert (await desk.book(desk.form(floor=7)))[0] == short(6, 4)
    await desk.book(desk.form(floor=1, hold_ms=HOUR))
    (refused,) = await desk.book(desk.form(floor=7))
    assert int(refused[1]) > await desk.now_ms() and refused[2:] == short(5, 5)[2:]


# ------------------------------------------------------------------ what comes back


async def theirs(desk: Desk, hold_ms: int = 0) -> Form:
    """Three of another shop's four, with a code; nothing is left for anybody else."""
    await selling(desk, THEIRS, f"floor:k{WORD}:2")
    form = desk.form(floor=3, client=OTHER, access_code=CODE, hold_ms=hold_ms)
    assert await desk.book(form, desk.form(floor=4)) == [b"created", b"created"]
    assert told((await desk.book(desk.form(floor=1)))[0]) == short(0, 10)
    return form


async def _cancelled(desk: Desk) -> None:
    assert await cancel(desk, await theirs(desk, HOUR)) == "cancelled"


async def _expired(desk: Desk) -> None:
    await ended(desk, await theirs(desk, HOUR))
    assert (await expire(desk))[1] == 1


async def _failed(desk: Desk) -> None:
    assert await desk.settle_failed(await theirs(desk)) == ["F"]


async def _ended_at_the_bank(desk: Desk) -> None:
    form = await theirs(desk, HOUR)
    await declined(desk, form)
    await ended(desk, form)
    await expire(desk)


async def _refunded(desk: Desk) -> None:
    form = await theirs(desk)
    assert await desk.confirm(form)
    assert await desk.sold_by(OTHER) == 3, "what is bought counts as what is held"
    whose = ids.owners_of(ids.owner_digest(OTHER, "ann"), CODE, OTHER)
    assert (await move(desk, "floor", sold=-3, owner=whose))[0] == b"moved"


async def _changed(desk: Desk) -> None:
    form = await theirs(desk, HOUR)
    assert (await change(desk, form, balcony=1))[0] == b"changed"
    assert await desk.sold_by(OTHER, "balcony") == 1


@pytest.mark.parametrize("given_back", [_cancelled, _expired, _failed, _ended_at_the_bank, _refunded, _changed])
async def test_what_comes_back_is_set_aside_again(desk: Desk, given_back: Any) -> None:
    """Once: general buyers get none of it, its holder all of it and no more."""
    await given_back(desk)
    assert await desk.sold_by(OTHER) == 0
    left = (await desk.counts("floor"))[0]
    assert left == 6
    assert (await desk.book(desk.form(floor=1)))[0][3:4] == [b"0"]
    assert await desk.book(desk.form(floor=4, client=OTHER)) == [b"created"]
    assert (await desk.book(desk.form(floor=1, client=OTHER)))[0][3:4] == [b"0"]
    assert await desk.book(desk.form(floor=2, access_code=WORD)) == [b"created"]


async def test_a_shop_that_has_all_back_has_no_count(desk: Desk) -> None:
    await selling(desk)
    form = desk.form(floor=2, balcony=1)
    await desk.book(form)
    await desk.settle_failed(form)
    assert await desk.redis.hgetall(keys.shops(desk.shard, EVENT)) == {}  # type: ignore[misc]


# ------------------------------------------------------------------ whoever else takes tickets


@pytest.mark.parametrize(
    ("client", "wanted", "told"),
    [
        (CLIENT, 2, [b"changed"]),
        (CLIENT, 3, short(1, 8)),
        (OTHER, 6, [b"changed"]),
        (OTHER, 7, short(5, 4)),
    ],
)
async def test_a_hold_grows_by_what_its_shop_may_take(desk: Desk, client: str, wanted: int, told: list[Any]) -> None:
    """As a booking of it would."""
    await selling(desk, THEIRS, CODED)
    form = desk.form(floor=1, hold_ms=HOUR, client=client)
    await desk.book(form)
    reply = await change(desk, form, floor=wanted)
    assert reply[: len(told)] == told
    assert await desk.sold_by(client) == (wanted if told == [b"changed"] else 1)


async def test_a_hold_of_a_code_grows_by_what_its_code_may_take(desk: Desk) -> None:
    await selling(desk, THEIRS, CODED)
    form = desk.form(floor=1, hold_ms=HOUR, access_code=CODE)
    await desk.book(form)
    assert await change(desk, form, floor=7) == short(5, 4)
    assert (await change(desk, form, floor=6))[0] == b"changed"


@pytest.mark.parametrize(
    ("allocation", "word"),
    [(f"floor:@{OTHER}:3", "revived"), (f"floor:@{OTHER}:4", "sold_out"), (f"floor:@{CLIENT}:4", "revived")],
)
async def test_late_money_takes_nothing_that_is_set_aside(desk: Desk, allocation: str, word: str) -> None:
    """Two of five tickets, for whose hold it comes."""
    form = await expired_with_payment(desk)
    await desk.set_aside(allocation)
    assert await revive(desk, form) == word
    assert await desk.sold_by(CLIENT) == (2 if word == "revived" else 0)


async def test_no_capacity_is_taken_of_what_is_set_aside(desk: Desk) -> None:
    await selling(desk, THEIRS, floor=5)
    await desk.book(desk.form(floor=1, client=OTHER))
    assert await shrink(desk, 4) == [b"taken", 1]
    assert await desk.counts("floor") == (3, 1, 0)
    assert await shrink(desk, 4, total=4) == [b"taken", 0]
    assert await shrink(desk, 4, tier="balcony") == [b"taken", 4]


# ------------------------------------------------------------------ counted anew


async def test_a_recount_knows_what_shops_have(desk: Desk) -> None:
    """What PostgreSQL says was bought, and what is held; of who is not among the facts, what is held, if nothing is counted."""
    await selling(desk)
    third = "third0000000"
    forms = [desk.form(floor=1, balcony=1), desk.form(floor=2, hold_ms=HOUR, client=OTHER),
             desk.form(floor=1, client=third)]  # fmt: skip
    await desk.book(*forms)
    assert await desk.confirm(forms[0])
    name = keys.shops(desk.shard, EVENT)
    right = await desk.redis.hgetall(name)  # type: ignore[misc]
    await desk.redis.delete(name)
    stock = {"floor": (10, 1), "balcony": (5, 1)}
    bought = {f"@{CLIENT}": "floor:1,balcony:1"}
    await reconcile(desk, stock, deep=True, bought=bought)
    assert await desk.redis.hgetall(name) == right  # type: ignore[misc]
    for field in (f"{CLIENT}:balcony", f"{OTHER}:balcony", f"{third}:floor"):
        await desk.redis.hset(name, field, 7)  # type: ignore[misc]
    await reconcile(desk, stock, deep=True, bought=bought | {f"@{OTHER}": ""})
    assert await desk.redis.hgetall(name) == right | {f"{third}:floor".encode(): b"7"}  # type: ignore[misc]
