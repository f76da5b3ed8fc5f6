"""Access codes in the scripts: what admit.lua makes of them, and that tickets which come back come back to their code."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from boxoffice import ids
from boxoffice.sales.catalogue import NEVER_MS
from boxoffice.stores import keys
from tests.lua.test_admit import refused_without_a_trace
from tests.lua.test_change import change
from tests.lua.test_holds import cancel, declined, ended, expire, expired_with_payment, revive
from tests.lua.test_move import move
from tests.lua.test_windows import HOUR, now_of, set_windows
from tests.support.shop.script import EVENT, Desk, Form

CODE, OTHER = ids.code_digest("AAAA-BBBB-CCCC"), ids.code_digest("DDDD-EEEE-FFFF")


@pytest.mark.parametrize(
    ("windows", "terms", "told"),
    [
        ("{soon}|0|", "9||0|0", b"created"),
        ("{soon}|0|", "9|floor|0|0", b"created"),
        ("{soon}|0|", "9||{past}|{soon}", b"created"),
        (f"0|0|floor:{NEVER_MS}:0", "9||0|0", b"created"),
        ("", "9||{soon}|0", b"created"),
        ("{later}|0|", "9||{soon}|0", [b"not_open", "{soon}"]),
        ("{soon}|0|", "9||{later}|0", [b"not_open", "{soon}"]),
        ("{past}|{past}|", "9||0|0", b"ended"),
        ("{soon}|0|", None, [b"code_refused", b"unknown"]),
        ("", None, [b"code_refused", b"unknown"]),
        ("", "broken", [b"code_refused", b"unknown"]),
        ("", "x", [b"code_refused", b"revoked"]),
        ("", "9||0|{past}", [b"code_refused", b"expired"]),
        ("", "9|balcony|0|0", [b"code_refused", b"other_tier"]),
        ("", "1||0|0", [b"code_used_up", b"1"]),
    ],
)
async def test_a_code_lets_in(desk: Desk, windows: str, terms: str | None, told: Any) -> None:
    """Before everybody else, and where nobody else may; as long as it is good, for what it is good for."""
    await desk.open_sale(floor=5, balcony=5)
    now = await now_of(desk)
    at = {"past": now - HOUR, "soon": now + HOUR, "later": now + 2 * HOUR}
    await desk.redis.hset(keys.event(desk.shard, EVENT), "win", windows.format(**at))  # type: ignore[misc]
    if terms is not None:
        await desk.set_code(CODE, terms.format(**at))
    (result,) = await desk.book(desk.form(floor=2, access_code=CODE))
    if isinstance(told, list):
        assert result == [
            told[0],
            *(part if isinstance(part, bytes) else part.format(**at).encode() for part in told[1:]),
        ]
    else:
        assert desk.word(result) == told
    assert await desk.got_with(CODE) == (2 if told == b"created" else 0)
    assert (await desk.counts("floor"))[1] == (2 if told == b"created" else 0)


async def test_a_code_expires_at_the_ms_that_it_names(desk: Desk) -> None:
    await desk.open_sale(floor=5)
    await desk.set_code(CODE, f"9||0|{await now_of(desk)}")
    assert await desk.book(desk.form(floor=1, access_code=CODE)) == [[b"code_refused", b"expired"]]


async def test_a_code_for_one_tier_is_for_no_booking_with_another(desk: Desk) -> None:
    await desk.open_sale(floor=5, balcony=5)
    await desk.set_code(CODE, "9|floor|0|0")
    assert await desk.book(desk.form(floor=1, balcony=1, access_code=CODE)) == [[b"code_refused", b"other_tier"]]


async def test_whoever_has_no_code_waits(desk: Desk) -> None:
    await desk.open_sale(floor=5)
    await set_windows(desk, f"0|0|floor:{NEVER_MS}:0")
    await desk.set_code(CODE, "9||0|0")
    assert await desk.book(desk.form(floor=1), desk.form(floor=1, access_code=CODE), desk.question(floor=1)) == [
        [b"not_open", b"%d" % NEVER_MS], b"created", [b"not_open", b"%d" % NEVER_MS],
    ]  # fmt: skip


@pytest.mark.parametrize("together", [True, False])
async def test_no_code_gets_more_tickets_than_it_is_good_for(desk: Desk, together: bool) -> None:
    """Whoever shares it, in one call or in several; another code has its own count."""
    await desk.open_sale(floor=20)
    await desk.set_code(CODE, "5||0|0")
    await desk.set_code(OTHER, "1||0|0")
    forms = [desk.form(floor=2, customer=f"c{n}", hold_ms=HOUR * (n % 2), access_code=CODE) for n in range(3)]
    forms += [desk.form(floor=1, access_code=code) for code in (OTHER, CODE, CODE)]
    results = await desk.book(*forms) if together else [(await desk.book(form))[0] for form in forms]
    assert results == [b"created", b"created", [b"code_used_up", b"1"], b"created", b"created", [b"code_used_up", b"0"]]
    assert (await desk.got_with(CODE), await desk.got_with(OTHER)) == (5, 1)
    assert await desk.counts("floor") == (14, 6, 0)


async def test_a_code_has_what_all_bookings_of_a_call_took(desk: Desk) -> None:
    """Of whatever kind, in whatever order: in all, and by tier; beside codes with the same terms and with others."""
    await desk.open_sale(floor=50, balcony=50)
    for code, terms in ((CODE, "20||0|0"), (OTHER, "20||0|0"), (ids.code_digest("third"), "20|floor|0|0")):
        await desk.set_code(code, terms)
    await desk.book(desk.form(floor=1, balcony=1, access_code=CODE))
    wanted: list[dict[str, Any]] = [
        {"floor": 1}, {"floor": 1}, {"balcony": 2}, {"floor": 1}, {"floor": 2, "balcony": 1}, {"floor": 1, "hold_ms": HOUR},
    ]  # fmt: skip
    forms = [
        desk.form(customer=f"c{n}", access_code=code, **one) for n, one in enumerate(wanted) for code in (CODE, OTHER)
    ]
    forms += [desk.form(customer=f"d{n}", floor=1, access_code=ids.code_digest("third")) for n in range(3)]
    assert await desk.book(*forms) == [b"created"] * 15
    by_tier = {code: await desk.got_by_tier(code) for code in (CODE, OTHER, ids.code_digest("third"))}
    assert [*by_tier.values()] == [{"balcony": 4, "floor": 7}, {"balcony": 3, "floor": 6}, {"floor": 3}]
    assert [await desk.got_with(code) for code in by_tier] == [11, 9, 3]


async def test_of_a_call_with_more_codes_than_a_byte_can_name_each_is_its_own(desk: Desk) -> None:
    """The last has one ticket, and none of the others its number."""
    await desk.open_sale(floor=400)
    codes = [ids.code_digest(f"code {n}") for n in range(300)]
    for n, code in enumerate(codes):
        await desk.set_code(code, "2||0|0" if n < 299 else "1||0|0")
    forms = [desk.form(customer=f"c{n}", floor=1, access_code=code) for n, code in enumerate([*codes, *codes[-2:]])]
    results = await desk.book(*forms)
    assert (results[:-1], results[-1]) == ([b"created"] * 301, [b"code_used_up", b"0"])
    assert [await desk.got_with(code) for code in (codes[0], codes[43], *codes[-2:])] == [1, 1, 2, 1]


@pytest.mark.parametrize(
    ("there", "then"),
    [
        ("floor:3", {"floor": 4}),
        ("balcony:3", {"balcony": 3, "floor": 1}),
        ("balcony:1,floor:2", {"balcony": 1, "floor": 3}),
    ],
)
async def test_a_code_goes_on_from_what_an_earlier_version_counted(
    desk: Desk, there: str, then: dict[str, int]
) -> None:
    """Both may admit during an upgrade: each counts in the same two fields, and reads what the other wrote."""
    await desk.open_sale(floor=9, balcony=9)
    await desk.set_code(CODE, "4||0|0")
    await desk.redis.hset(keys.owners(desk.shard, EVENT), f"k{CODE}", 3)  # type: ignore[misc]
    await desk.redis.hset(keys.owned_tiers(desk.shard, EVENT), f"k{CODE}", there)  # type: ignore[misc]
    forms = [desk.form(floor=tickets, access_code=CODE) for tickets in (2, 1, 1)]
    assert await desk.book(*forms) == [[b"code_used_up", b"1"], b"created", [b"code_used_up", b"0"]]
    assert (await desk.got_with(CODE), await desk.got_by_tier(CODE)) == (4, then)


async def test_codes_of_one_call_are_each_refused_for_what_they_are(desk: Desk) -> None:
    """Though many are good for the same, and one is known in two kinds."""
    await desk.open_sale(floor=50, balcony=50)
    unknown, revoked, used_up = (ids.code_digest(name) for name in ("unknown", "revoked", "used up"))
    for code, terms in ((CODE, "9|floor|0|0"), (OTHER, "9|floor|0|0"), (revoked, "x"), (used_up, "1||0|0")):
        await desk.set_code(code, terms)
    codes = [CODE, unknown, revoked, OTHER, used_up, unknown, CODE]
    told = [
        b"created", [b"code_refused", b"unknown"], [b"code_refused", b"revoked"], b"created", [b"code_used_up", b"1"],
        [b"code_refused", b"unknown"], b"created",
    ]  # fmt: skip
    assert await desk.book(*(desk.form(floor=2, access_code=code) for code in codes)) == told
    results = await desk.book(*(desk.form(access_code=CODE, **{tier: 1}) for tier in ("balcony", "floor", "balcony")))
    assert results == [[b"code_refused", b"other_tier"], b"created", [b"code_refused", b"other_tier"]]


async def test_a_kind_of_bookings_with_a_code_lets_nobody_in_without_one(desk: Desk) -> None:
    """Were a caller to forget which code it is, its window would stand open."""
    await desk.open_sale(floor=9)
    await set_windows(desk, f"{NEVER_MS}|0|")
    form = desk.form(floor=1, access_code="")
    assert await desk.book(form) == [[b"code_refused", b"unknown"]]


async def test_a_code_that_is_worth_less_now_has_nothing_left(desk: Desk) -> None:
    await desk.open_sale(floor=9)
    await desk.set_code(CODE, "5||0|0")
    await desk.book(desk.form(floor=4, access_code=CODE))
    await desk.set_code(CODE, "3||0|0")
    assert await desk.book(desk.form(floor=1, access_code=CODE)) == [[b"code_used_up", b"0"]]


async def test_a_refused_code_writes_nothing(desk: Desk) -> None:
    await desk.open_sale(floor=5)
    await desk.set_code(OTHER, "1||0|0")
    forms = [desk.form(floor=1, access_code=CODE), desk.form(floor=2, access_code=OTHER)]
    assert await refused_without_a_trace(desk, *forms) == [[b"code_refused", b"unknown"], [b"code_used_up", b"1"]]


async def test_codes_of_two_events_are_two(desk: Desk) -> None:
    await desk.open_sale(floor=5)
    await desk.open_sale("theatre00000", stalls=5)
    await desk.set_code(CODE, "1||0|0")
    both = [desk.form(floor=1, access_code=CODE), desk.form("theatre00000", stalls=1, access_code=CODE)]
    assert await desk.book(*both) == [b"created", [b"code_refused", b"unknown"]]


async def test_a_repeat_is_the_first_whatever_its_code_has_left(desk: Desk) -> None:
    """And a request that names another code, or none, is another request."""
    await desk.open_sale(floor=5)
    await desk.set_code(CODE, "1||0|0")
    first = desk.form(key="k", floor=1, access_code=CODE)
    assert await desk.book(first) == [b"created"]
    await desk.set_code(CODE, "x")
    results = await desk.book(*(desk.form(key="k", floor=1, access_code=code) for code in (CODE, OTHER, None)))
    assert [desk.word(result) for result in results] == [b"replayed", b"mismatch", b"mismatch"]


async def test_a_booking_without_a_code_reads_nothing_of_codes(desk: Desk) -> None:
    """What is wrong there is no harm to it."""
    await desk.open_sale(floor=5)
    await desk.redis.set(keys.codes(desk.shard, EVENT), "of a wrong type")
    assert await desk.book(desk.form(floor=1), desk.form(floor=1, hold_ms=HOUR)) == [b"created", b"created"]
    with pytest.raises(Exception, match="WRONGTYPE"):
        await desk.book(desk.form(floor=1, access_code=CODE))


@pytest.mark.parametrize("text", [f',["{CODE}"]]', f'["{CODE}"]', f'"{CODE}"', CODE])
async def test_no_text_of_a_shop_is_taken_for_a_code(desk: Desk, text: str) -> None:
    await desk.open_sale(floor=5)
    await desk.set_code(CODE, "9||0|0")
    form = desk.form(floor=2, hold_ms=HOUR, customer=text, reference=text)
    assert await desk.book(form) == [b"created"]
    assert await cancel(desk, form) == "cancelled"
    assert await desk.redis.hgetall(keys.owners(desk.shard, EVENT)) == {}  # type: ignore[misc]


# ------------------------------------------------------------------ given back


async def coded(desk: Desk, hold_ms: int = 0, tickets: int = 2) -> Form:
    """A booking with a code, of which one ticket more was got by somebody else."""
    await desk.open_sale(floor=9)
    await desk.set_code(CODE, "9||0|0")
    form = desk.form(floor=tickets, hold_ms=hold_ms, access_code=CODE, reference="order 7")
    other = desk.form(floor=1, customer="bob", access_code=CODE)
    assert await desk.book(form, other) == [b"created", b"created"]
    assert await desk.got_with(CODE) == tickets + 1
    return form


async def _cancelled(desk: Desk) -> None:
    assert await cancel(desk, await coded(desk, HOUR)) == "cancelled"


async def _expired(desk: Desk) -> None:
    await ended(desk, await coded(desk, HOUR))
    assert (await expire(desk))[1] == 1


async def _failed(desk: Desk) -> None:
    assert await desk.settle_failed(await coded(desk)) == ["F"]


async def _ended_at_the_bank(desk: Desk) -> None:
    form = await coded(desk, HOUR)
    await declined(desk, form)
    await ended(desk, form)
    await expire(desk)


async def _refunded(desk: Desk) -> None:
    form = await coded(desk)
    assert await desk.confirm(form)
    assert await desk.got_with(CODE) == 3, "what is bought counts as what is held"
    assert (await move(desk, "floor", sold=-2, owner=ids.owner_digest("shop00000000", "ann") + f"k{CODE}"))[
        0
    ] == b"moved"


@pytest.mark.parametrize("given_back", [_cancelled, _expired, _failed, _ended_at_the_bank, _refunded])
async def test_tickets_go_back_to_their_code_once(desk: Desk, given_back: Any) -> None:
    await given_back(desk)
    assert await desk.got_with(CODE) == 1
    await desk.settle_failed(desk.form(floor=1))
    assert await desk.got_with(CODE) == 1


async def test_a_code_that_has_all_of_its_tickets_back_has_no_count(desk: Desk) -> None:
    await desk.open_sale(floor=9)
    await desk.set_code(CODE, "9||0|0")
    form = desk.form(floor=2, access_code=CODE)
    await desk.book(form)
    await desk.settle_failed(form)
    assert await desk.redis.hgetall(keys.owners(desk.shard, EVENT)) == {}  # type: ignore[misc]


async def with_late_money(desk: Desk) -> Form:
    """A hold of five tickets by a code for five that ended while it was paid."""
    await desk.open_sale(floor=9)
    await desk.set_code(CODE, "5||0|0")
    form = desk.form(floor=5, hold_ms=HOUR, access_code=CODE)
    await desk.book(form)
    await declined(desk, form)
    await ended(desk, form)
    await expire(desk)
    assert await desk.got_with(CODE) == 0
    return form


@pytest.mark.parametrize(("since", "word"), [(0, "revived"), (1, "sold_out")])
async def test_late_money_takes_its_code_again_if_nobody_else_has_it(desk: Desk, since: int, word: str) -> None:
    form = await with_late_money(desk)
    if since:
        assert await desk.book(desk.form(floor=since, customer="bob", access_code=CODE)) == [b"created"]
    assert await revive(desk, form) == word
    assert await desk.got_with(CODE) == (5 if word == "revived" else since)
    assert (await desk.counts("floor"))[1] == (5 if word == "revived" else since)


async def test_late_money_does_not_ask_for_a_code_that_was_revoked(desk: Desk) -> None:
    form = await with_late_money(desk)
    await desk.set_code(CODE, "x")
    assert await revive(desk, form) == "revived"
    assert await desk.got_with(CODE) == 5


async def test_late_money_without_a_code_has_no_such_count(desk: Desk) -> None:
    form = await expired_with_payment(desk)
    assert await revive(desk, form) == "revived"
    assert list(await desk.redis.hgetall(keys.owners(desk.shard, EVENT))) == [form.owner.encode()]  # type: ignore[misc]


@pytest.mark.parametrize(
    ("terms", "wanted", "told", "used"),
    [
        ("4||0|0", {"floor": 4}, [b"changed"], 4),
        ("4||0|0", {"floor": 5}, [b"code_used_up", b"2"], 2),
        ("4||0|0", {"floor": 1}, [b"changed"], 1),
        ("4||0|0", {"balcony": 2}, [b"changed"], 2),
        ("1||0|0", {"balcony": 2}, [b"changed"], 2),
        ("x", {"floor": 1}, [b"changed"], 1),
        ("x", {"floor": 3}, [b"code_refused", b"revoked"], 2),
        ("4|floor|0|0", {"floor": 3}, [b"changed"], 3),
        ("4|floor|0|0", {"floor": 2, "balcony": 1}, [b"code_refused", b"other_tier"], 2),
        ("4||0|1", {"floor": 3}, [b"code_refused", b"expired"], 2),
        ("4||9999999999998|0", {"floor": 3}, [b"not_open", b"9999999999998"], 2),
    ],
)
async def test_a_hold_is_changed_within_its_code(
    desk: Desk, terms: str, wanted: dict[str, int], told: list[bytes], used: int
) -> None:
    """What it has more of, its code lets in; the difference counts. What it gives up no code is asked about."""
    await desk.open_sale(floor=9, balcony=9)
    await set_windows(desk, f"{NEVER_MS}|0|")
    await desk.set_code(CODE, "9||0|0")
    form = desk.form(floor=2, hold_ms=HOUR, access_code=CODE)
    assert await desk.book(form) == [b"created"]
    await desk.set_code(CODE, terms)
    reply = await change(desk, form, **wanted)
    assert (reply[:1] if told == [b"changed"] else reply) == told
    assert await desk.got_with(CODE) == used
    assert await desk.owned(form) == used


async def test_a_hold_without_a_code_is_changed_as_the_sale_goes(desk: Desk) -> None:
    await desk.open_sale(floor=9)
    form = desk.form(floor=2, hold_ms=HOUR)
    await desk.book(form)
    await set_windows(desk, f"{NEVER_MS}|0|")
    assert await change(desk, form, floor=3) == [b"not_open", b"%d" % NEVER_MS]


# ------------------------------------------------------------------ codes.lua


async def bring(desk: Desk, version: int, *changes: str, anew: bool = False) -> dict[bytes, bytes]:
    name = keys.codes(desk.shard, EVENT)
    seen = await desk.redis.hget(name, "v") or b""  # type: ignore[misc]
    assert await desk.scripts.codes(desk.redis, [name], [version, int(anew), seen, *changes]) == len(changes)
    found: dict[bytes, bytes] = await desk.redis.hgetall(name)  # type: ignore[misc]
    return found


async def test_codes_are_brought_with_the_version_last(desk: Desk) -> None:
    one, other = CODE.encode(), OTHER.encode()
    assert await bring(desk, 0, f"{CODE}:2||0|0") == {one: b"2||0|0"}
    assert await bring(desk, 7, f"{OTHER}:3|floor|1|2") == {one: b"2||0|0", other: b"3|floor|1|2", b"v": b"7"}
    assert await bring(desk, 8, f"{CODE}:x") == {one: b"x", other: b"3|floor|1|2", b"v": b"8"}
    assert await bring(desk, 4, f"{OTHER}:1||0|0", anew=True) == {other: b"1||0|0", b"v": b"4"}
    assert await bring(desk, 5) == {other: b"1||0|0", b"v": b"5"}


@pytest.mark.parametrize("anew", [0, 1])
@pytest.mark.parametrize(("seen", "there"), [("", "7"), ("6", "7"), ("7", None), ("7", "77")])
async def test_whoever_has_seen_another_version_brings_nothing(
    desk: Desk, anew: int, seen: str, there: str | None
) -> None:
    """Somebody has brought later ones since, among them perhaps the end of one of these."""
    name = keys.codes(desk.shard, EVENT)
    before = {CODE: "x"} | ({} if there is None else {"v": there})
    await desk.redis.hset(name, mapping=before)  # type: ignore[misc]
    assert await desk.scripts.codes(desk.redis, [name], [8, anew, seen, f"{CODE}:2||0|0"]) == -1
    found = await desk.redis.hgetall(name)  # type: ignore[misc]
    assert {field.decode(): value.decode() for field, value in found.items()} == before


async def test_two_calls_at_once_share_what_a_code_has_left(desk: Desk) -> None:
    await desk.open_sale(floor=50)
    await desk.set_code(CODE, "7||0|0")
    calls = [
        desk.book(*(desk.form(floor=1, customer=f"{call}-{n}", access_code=CODE) for n in range(3)))
        for call in range(5)
    ]
    results = [result for call in await asyncio.gather(*calls) for result in call]
    assert results.count(b"created") == 7 == await desk.got_with(CODE)
