"""load.lua, one test for each line of its Returns. A counter that is there is never reset."""

from __future__ import annotations

import json
from typing import Any

import pytest

from boxoffice.stores import keys
from tests.lua.test_move import move
from tests.lua.test_reconcile import reconcile
from tests.support.shop.script import EVENT, FAR, Desk


async def load(desk: Desk, *tiers: str, **slots: Any) -> Any:
    """The script's reply, while the catalogue is whole."""
    await desk.redis.hsetnx(keys.catalogue(desk.shard), "version", "0")  # type: ignore[misc]
    return await desk.load(*tiers, **slots)


async def version(desk: Desk) -> int:
    """Of the catalogue."""
    return int(await desk.redis.hget(keys.catalogue(desk.shard), "version") or 0)  # type: ignore[misc]


async def test_a_new_event_is_loaded_with_what_is_not_sold(desk: Desk) -> None:
    assert await load(desk, "floor|100|50|0", "balcony|-200|5|0") == [b"loaded", 2]

    assert await desk.counts("floor") == (50, 0, 0)
    assert await desk.counts("balcony") == (5, 0, 0)
    sale = await desk.redis.hgetall(keys.event(desk.shard, EVENT))  # type: ignore[misc]
    assert (sale[b"p:floor"], sale[b"p:balcony"], sale[b"on"], sale[b"cur"]) == (b"100", b"-200", b"1", b"USD")
    assert await desk.redis.hget(keys.catalogue(desk.shard), EVENT) == b"{}"  # type: ignore[misc]
    assert await version(desk) == 1


async def test_a_catalogue_that_is_not_whole_yet_gets_no_version(desk: Desk) -> None:
    """Readers of one with a version would call every event that is still to come unknown."""
    await load(desk, "floor|100|50|0")
    await desk.redis.delete(keys.catalogue(desk.shard))
    await desk.load("floor|100|50|0")
    assert await desk.redis.hgetall(keys.catalogue(desk.shard)) == {EVENT.encode(): b"{}"}  # type: ignore[misc]


async def test_unchanged_when_nothing_is_new(desk: Desk) -> None:
    """Readers keep their map: the version stays."""
    await load(desk, "floor|100|50|0")
    before = await desk.snapshot()

    assert await load(desk, "floor|100|50|0") == [b"unchanged"]

    assert await desk.snapshot() == before


async def test_counters_that_are_there_are_never_reset(desk: Desk) -> None:
    """Whatever PostgreSQL says: bookings under way are counted here only."""
    await load(desk, "floor|100|50|0")
    desk.prices["floor"] = 100
    await desk.book(desk.form(floor=2))

    assert await load(desk, "floor|150|60|7", on="0") == [b"apart", 1]

    assert await desk.counts("floor") == (48, 2, 0)
    sale = await desk.redis.hgetall(keys.event(desk.shard, EVENT))  # type: ignore[misc]
    assert (sale[b"p:floor"], sale[b"on"]) == (b"150", b"0")


async def test_a_tier_that_is_new_joins_the_sale(desk: Desk) -> None:
    await load(desk, "floor|100|50|0")
    desk.prices["floor"] = 100
    await desk.book(desk.form(floor=2))

    assert await load(desk, "floor|100|50|0", "balcony|200|5|0") == [b"loaded", 1]

    assert await desk.counts("floor") == (48, 2, 0)
    assert await desk.counts("balcony") == (5, 0, 0)


async def test_a_static_field_that_was_lost_comes_back(desk: Desk) -> None:
    await load(desk, "floor|100|50|0")
    await desk.redis.hdel(keys.event(desk.shard, EVENT), "p:floor", "on")  # type: ignore[misc]

    assert await load(desk, "floor|100|50|0") == [b"loaded", 0]

    assert await desk.redis.hget(keys.event(desk.shard, EVENT), "p:floor") == b"100"  # type: ignore[misc]
    assert await version(desk) == 2


def view_of(version: int | None, name: str = "Old") -> str:
    return json.dumps({"name": name, "version": version})


@pytest.mark.parametrize(
    ("there", "given", "older"),
    [(5, 4, True), (5, None, True), (10, 9, True), (5, 5, False), (9, 10, False), (None, 1, False)],
)
async def test_an_older_version_never_replaces_a_newer_one(
    desk: Desk, there: int | None, given: int | None, older: bool
) -> None:
    """Another look of the same version does: it was changed by hand."""
    await load(desk, "floor|100|50|0", view=view_of(there))
    before = await desk.snapshot()

    reply = await load(desk, "floor|200|50|0", "balcony|9|9|0", view=view_of(given, "New"), on="p")

    assert reply == ([b"older", there] if older else [b"loaded", 1])
    assert (await desk.snapshot() == before) is older
    price, on = await desk.redis.hmget(keys.event(desk.shard, EVENT), "p:floor", "on")  # type: ignore[misc]
    assert (price, on) == ((b"100", b"1") if older else (b"200", b"p"))


async def test_who_is_careful_leaves_a_later_version_to_whoever_has_the_lock(desk: Desk) -> None:
    await load(desk, "floor|100|50|0", view=view_of(5))
    assert await load(desk, "floor|200|50|0", view=view_of(4), careful=1) == [b"differs"]


@pytest.mark.parametrize("damaged", ["", "7", '"7"', "[1]", '{"version": "x"}', "{"])
async def test_what_is_no_event_there_is_replaced(desk: Desk, damaged: str) -> None:
    await load(desk, "floor|100|50|0")
    await desk.redis.hset(keys.catalogue(desk.shard), EVENT, damaged)  # type: ignore[misc]
    assert await load(desk, "floor|100|50|0", view=view_of(1)) == [b"loaded", 0]
    assert await desk.redis.hget(keys.catalogue(desk.shard), EVENT) == view_of(1).encode()  # type: ignore[misc]


@pytest.mark.parametrize(
    ("version", "on", "reply"),
    [
        (1, "1", [b"older", 2]),
        (2, "1", [b"revoked"]),
        (3, "p", [b"revoked"]),
        (3, "0", [b"revoked"]),
        (3, "x", [b"loaded", 0]),
    ],
)
async def test_what_was_called_off_stays_so_whatever_version_comes(
    desk: Desk, version: int, on: str, reply: list[Any]
) -> None:
    """PostgreSQL may have lost that, and what was changed there since knows nothing of it."""
    await load(desk, "floor|100|50|0", view=view_of(2), on="x")

    assert await load(desk, "floor|100|50|0", view=view_of(version, "New"), on=on) == reply

    assert await desk.redis.hget(keys.event(desk.shard, EVENT), "on") == b"x"  # type: ignore[misc]


@pytest.mark.parametrize("field", ["a", "h", "c", "t", "all"])
async def test_lost_when_counters_are_gone_of_which_something_was_taken(desk: Desk, field: str) -> None:
    """What is held nobody knows here: nothing is sold of it before it is counted, and its shop may ask again."""
    await load(desk, "floor|100|50|0")
    desk.prices["floor"] = 100
    await desk.book(desk.form(floor=2))
    fields = [f"{letter}:floor" for letter in ("ahct" if field == "all" else field)]
    await desk.redis.hdel(keys.event(desk.shard, EVENT), *fields)  # type: ignore[misc]

    assert await load(desk, "floor|100|50|0") == [b"lost", 1]
    assert await desk.book(desk.form(floor=1)) == [[b"unloaded"]]
    assert await load(desk, "floor|100|50|0") == [b"lost", 1], "until somebody has counted"

    await reconcile(desk, {"floor": (50, 0)}, deep=True)
    assert await desk.counts("floor") == (48, 2, 0)
    assert await load(desk, "floor|100|50|0") == [b"unchanged"]


@pytest.mark.parametrize("sold", [0, 20])
async def test_lost_when_the_whole_event_is_gone_of_which_something_was_taken(desk: Desk, sold: int) -> None:
    """Sold, or held by a customer: either way not all of it is available."""
    if not sold:
        await load(desk, "floor|100|50|0")
        desk.prices["floor"] = 100
        await desk.book(desk.form(floor=2))
        await desk.redis.delete(keys.event(desk.shard, EVENT))

    assert await load(desk, f"floor|100|50|{sold}") == [b"lost", 1]

    await reconcile(desk, {"floor": (50, sold)}, deep=True)
    assert await desk.counts("floor") == ((30, 0, 20) if sold else (48, 2, 0))


async def test_what_settles_before_the_counters_are_back_makes_no_sale_of_half_of_them(desk: Desk) -> None:
    """It writes some of them: the tier is not new by that, nor on sale."""
    await load(desk, "floor|100|50|0")
    desk.prices["floor"] = 100
    form = desk.form(floor=2)
    await desk.book(form)
    await desk.claim()
    await desk.redis.delete(keys.event(desk.shard, EVENT))
    await desk.settle_failed(form)

    assert await load(desk, "floor|100|50|0") == [b"lost", 1]
    assert await desk.book(desk.form(floor=1)) == [[b"unloaded"]]
    await reconcile(desk, {"floor": (50, 0)}, deep=True)
    assert await desk.counts("floor") == (50, 0, 0)


@pytest.mark.parametrize("field", "ahct")
async def test_one_counter_that_is_left_is_no_new_tier(desk: Desk, field: str) -> None:
    """Without a price, even: what it once counted nobody knows, and a tier that begins anew sells all of it again."""
    await load(desk, "floor|100|50|0", "balcony|200|5|0")
    fields = [f"{letter}:floor" for letter in "ahctp" if letter != field]
    await desk.redis.hdel(keys.event(desk.shard, EVENT), *fields)  # type: ignore[misc]

    assert await load(desk, "floor|100|50|0", "balcony|200|5|0") == [b"lost", 1]

    assert await desk.redis.hget(keys.event(desk.shard, EVENT), "a:floor") is None  # type: ignore[misc]
    assert await desk.counts("balcony") == (5, 0, 0), "only one tier is damaged"
    await reconcile(desk, {"floor": (50, 0), "balcony": (5, 0)}, deep=True)
    assert await desk.counts("floor") == (50, 0, 0)


async def test_what_was_counted_from_nothing_is_no_tier(desk: Desk) -> None:
    """One booking fails, one is sold, a third comes back: then all four counters are there again, and tell nothing."""
    await load(desk, "floor|100|50|0")
    desk.prices["floor"] = 100
    forms = [desk.form(floor=tickets) for tickets in (2, 3, 4)]
    for form in forms:
        await desk.book(form)
    await desk.claim()
    await desk.settle_confirmed(forms[2])
    await desk.redis.delete(keys.event(desk.shard, EVENT))
    await desk.settle_failed(forms[0])
    await desk.settle_confirmed(forms[1])
    assert (await move(desk, "floor", sold=-4, of=forms[2]))[0] == b"moved"
    sale = await desk.redis.hgetall(keys.event(desk.shard, EVENT))  # type: ignore[misc]
    assert [int(sale[f"{letter}:floor".encode()]) for letter in "ahct"] == [6, -5, -1, 0]

    assert await load(desk, "floor|100|50|3") == [b"lost", 1]

    assert await desk.book(desk.form(floor=1)) == [[b"unloaded"]]
    await reconcile(desk, {"floor": (50, 3)}, deep=True)
    assert await desk.counts("floor") == (47, 0, 3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"a:floor": "46"},
        {"t:floor": "51"},
        {"a:floor": "52", "h:floor": "-2"},
        {"a:floor": "50", "c:floor": "-2"},
        {"h:floor": "many"},
    ],
)
async def test_counters_that_do_not_add_up_are_lost(desk: Desk, wrong: dict[str, str]) -> None:
    """No script of ours leaves them so, but what has lost one of them and goes on counting does."""
    await load(desk, "floor|100|50|0", "balcony|200|5|0")
    desk.prices["floor"] = 100
    await desk.book(desk.form(floor=2))
    await desk.redis.hset(keys.event(desk.shard, EVENT), mapping=wrong)  # type: ignore[misc]

    assert await load(desk, "floor|100|50|0", "balcony|200|5|0") == [b"lost", 1]

    await reconcile(desk, {"floor": (50, 0), "balcony": (5, 0)}, deep=True)
    assert await desk.counts("floor") == (48, 2, 0)
    assert await load(desk, "floor|100|50|0", "balcony|200|5|0") == [b"unchanged"]


async def test_more_held_than_there_is_is_not_lost(desk: Desk) -> None:
    """A repair found too many held: below zero is what is available then, and it adds up."""
    await load(desk, "floor|100|50|0")
    await desk.redis.hset(keys.event(desk.shard, EVENT), mapping={"a:floor": "-1", "h:floor": "51"})  # type: ignore[misc]
    assert await load(desk, "floor|100|50|0") == [b"unchanged"]
    await reconcile(desk, {"floor": (50, 0)}, deep=True)


async def test_an_event_that_readers_know_was_here(desk: Desk) -> None:
    """Its counters and its customers' counts are gone together: what is held is still counted, and not sold again."""
    await load(desk, "floor|100|50|0")
    desk.prices["floor"] = 100
    await desk.book(desk.form(floor=2))
    await desk.redis.delete(keys.event(desk.shard, EVENT), keys.owners(desk.shard, EVENT))

    assert await load(desk, "floor|100|50|0") == [b"lost", 1]

    await reconcile(desk, {"floor": (50, 0)}, deep=True)
    assert await desk.counts("floor") == (48, 2, 0)


async def test_a_single_ticket_that_was_sold_is_enough(desk: Desk) -> None:
    """To lose a tier by; and each is told. The third is new indeed."""
    await desk.redis.hset(keys.event(desk.shard, EVENT), mapping={"on": "1"})  # type: ignore[misc]
    tiers = "floor|100|50|1", "balcony|200|5|1", "box|300|2|0"

    assert await load(desk, *tiers) == [b"lost", 2]

    sale = await desk.redis.hgetall(keys.event(desk.shard, EVENT))  # type: ignore[misc]
    assert (sale.get(b"a:floor"), sale.get(b"a:balcony"), sale.get(b"a:box")) == (None, None, b"2")
    assert await version(desk) == 1
    assert await load(desk, *tiers) == [b"lost", 2]
    assert await version(desk) == 1, "nothing changed for readers"
    await reconcile(desk, {"floor": (50, 1), "balcony": (5, 1), "box": (2, 0)}, deep=True)


async def test_what_readers_see_changes_with_any_of_it(desk: Desk) -> None:
    await load(desk, "floor|100|50|0")
    assert await load(desk, "floor|100|50|0", view='{"name":"other"}') == [b"loaded", 0]
    assert (await version(desk), await desk.redis.hget(keys.catalogue(desk.shard), EVENT)) == (2, b'{"name":"other"}')  # type: ignore[misc]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("on", "0"),
        ("starts", "17"),
        ("cur", "EUR"),
        ("lim", "7"),
        ("win", "1|2|"),
        ("rules", "1:2:0|"),
        ("alloc", "floor:@shop:3"),
        ("p:floor", "-9"),
    ],
)
async def test_each_static_field_is_written_when_it_changes(desk: Desk, field: str, value: str) -> None:
    await load(desk, "floor|100|50|0")
    static = {
        "on": "1",
        "starts": str(FAR),
        "cur": "USD",
        "lim": "0",
        "win": "",
        "rules": "",
        "alloc": "",
        "p:floor": "100",
    }
    static[field] = value

    reply = await desk.load(
        f"floor|{static['p:floor']}|50|0", on=static["on"], starts_ms=static["starts"], currency=static["cur"],
        customer_max=static["lim"], windows=static["win"], rules=static["rules"],
        allocated=static["alloc"],
    )  # fmt: skip

    assert reply == [b"loaded", 0]
    sale = await desk.redis.hgetall(keys.event(desk.shard, EVENT))  # type: ignore[misc]
    assert {name: sale[name.encode()].decode() for name in static} == static
    assert await desk.counts("floor") == (50, 0, 0)


@pytest.mark.parametrize(
    "change", [{"on": "p"}, {"view": '{"n":1}'}, {"windows": "1|2|"}, {"rules": "1:2:0|"}, {"starts_ms": 7}]
)
async def test_who_is_careful_leaves_an_event_that_differs(desk: Desk, change: dict[str, Any]) -> None:
    """It may have read the event before its last change."""
    await load(desk, "floor|100|50|0")
    before = await desk.snapshot()
    assert await load(desk, "floor|100|50|0", careful=1, **change) == [b"differs"]
    assert await load(desk, "floor|150|50|0", careful=1) == [b"differs"]
    assert await load(desk, "floor|100|50|0", "balcony|1|2|0", careful=1) == [b"differs"]
    assert await desk.snapshot() == before
    assert await load(desk, "floor|100|50|0", careful=1) == [b"unchanged"]


async def test_who_is_careful_loads_what_is_new_or_lost(desk: Desk) -> None:
    assert await load(desk, "floor|100|50|0", careful=1) == [b"loaded", 1]
    await desk.redis.hdel(keys.catalogue(desk.shard), EVENT)  # type: ignore[misc]
    assert await load(desk, "floor|100|50|0", careful=1) == [b"loaded", 0]
    await desk.redis.delete(keys.event(desk.shard, EVENT))
    assert await load(desk, "floor|100|50|0", careful=1) == [b"lost", 1]


async def test_another_total_is_told_and_left(desk: Desk) -> None:
    """A move is under way, or somebody changed PostgreSQL by hand: who loads has it recounted."""
    await load(desk, "floor|100|50|0", "balcony|1|5|0")
    assert await load(desk, "floor|100|51|0", "balcony|1|4|0") == [b"apart", 2]
    assert await load(desk, "floor|100|50|0", "balcony|1|4|0", careful=1) == [b"apart", 1]
    assert await desk.counts("floor") == (50, 0, 0)
