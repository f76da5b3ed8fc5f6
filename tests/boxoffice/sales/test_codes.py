"""Access codes from their making to their end: what is kept of them, who gets in, and that both stores count alike."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from boxoffice import ids
from boxoffice.books.moves import apply_moves
from boxoffice.errors import (
    AccessCodeInvalid,
    AccessCodeRequired,
    AccessCodeUsedUp,
    EventCalledOff,
    Malformed,
    NotFound,
    SaleNotOpen,
)
from boxoffice.office import BoxOffice
from boxoffice.sales import code_mirror, codes
from boxoffice.sales.catalogue import EventView
from boxoffice.sales.codes import AccessCodes, CodeTerms, new_code
from boxoffice.sales.control import Actor
from boxoffice.sales.store import NewTier
from boxoffice.stores import keys
from boxoffice.stores.lineage import server_of
from boxoffice.stores.shard import Shard
from tests.conftest import CLIENT, SHARD, SaleMaker, counters, load_all, settle_all
from tests.support.checks import check_at_rest
from tests.support.shop.office import Till, book
from tests.support.shop.orders import tier_of

SOON = datetime.now(UTC) + timedelta(days=2)
LATER = SOON + timedelta(days=2)
GIVEN = "FANS-OF-ADA-2030"


@pytest.fixture
async def event(office: BoxOffice, open_sale: SaleMaker) -> EventView:
    """Not on sale yet, but to who has a code."""
    await load_all(office)
    event = await open_sale(GA=10, VIP=4)
    return await office.control.change_event(event.id, on_sale_at=SOON)


async def made(office: BoxOffice, event: EventView, tickets: int = 4, **terms: Any) -> str:
    """A new code."""
    (code,) = await office.codes.create(event.id, CodeTerms(tickets, **terms))
    return str(code["code"])


async def used(office: BoxOffice, event: EventView, code: str) -> int:
    """Tickets that Redis counts as got with the code."""
    field = f"k{ids.code_digest(code)}"
    return int(await office.redis.hget(keys.owners(event.shard, event.id), field) or 0)  # type: ignore[misc]


async def fields(office: BoxOffice, event: EventView) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = await office.redis.hgetall(keys.codes(event.shard, event.id))  # type: ignore[misc]
    return found


# ------------------------------------------------------------------ what is kept


def test_a_code_has_80_random_bits_in_an_alphabet_that_can_be_read_out() -> None:
    several = {new_code() for _ in range(200)}
    assert len(several) == 200
    for code in several:
        assert [len(group) for group in code.split("-")] == [4, 4, 4, 4]
        assert set(code) <= set("0123456789ABCDEFGHJKMNPQRSTVWXYZ-")
    assert len(set("".join(several))) == 33, "all of them are used"


def test_no_code_is_made_that_would_be_refused_as_a_card_number(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter("4242424242424242" + "ABCDEFGHJKMNPQRS")
    monkeypatch.setattr(codes.secrets, "choice", lambda _: next(drawn))
    assert new_code() == "ABCD-EFGH-JKMN-PQRS"


@pytest.mark.parametrize("typed", ["ab1o-2340-xyzw", "AB10234OXYZW", " ABi0 234o XYZW ", "abL0-23-40-xyzw"])
def test_a_code_is_known_however_it_is_typed(typed: str) -> None:
    assert ids.code_digest(typed) == ids.code_digest("AB10-2340-XYZW") == ids.digest("AB102340XYZW")
    assert ids.code_digest(typed) != ids.code_digest("AB10-2340-XYZV")


async def test_what_a_code_reads_is_kept_nowhere(office: BoxOffice, event: EventView) -> None:
    """Neither in PostgreSQL nor in Redis, and after a booking with it no more than before."""
    found = await office.codes.create(event.id, CodeTerms(4, label="fan club"), given=[GIVEN])
    found += await office.codes.create(event.id, CodeTerms(4), count=3)
    assert found[0]["code"] == GIVEN and len({each["code"] for each in found}) == 4
    for each in found:
        await book(office, event, GA=1, access_code=each["code"], customer=each["id"])
    await settle_all(office)
    pool = await office.pool()
    kept = [
        json.dumps([dict(row) for row in await pool.fetch(f"SELECT * FROM {table}")], default=str)
        for table in ("access_codes", "bookings", "events", "event_changes", "stock_moves", "dead_letters")
    ]
    async for key in office.redis.scan_iter():
        kind = await office.redis.type(key)
        kept.append(repr(key) + repr(await office.redis.hgetall(key) if kind == b"hash" else b""))  # type: ignore[misc]
        kept.append(repr(await office.redis.get(key) if kind == b"string" else b""))
    whole = "".join(kept).upper().replace("-", "")
    for each in found:
        assert each["code"].replace("-", "") not in whole
        assert ids.code_digest(each["code"]).upper() in whole
    rows = await office.control.history(event.id, limit=2)
    assert [(row["action"], *(row["changes"][name]["to"] for name in ("codes", "tickets", "label"))) for row in rows] == [
        ("create_codes", 3, 4, None), ("create_codes", 1, 4, "fan club"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("terms", "how", "pointer", "code"),
    [
        (CodeTerms(0), {}, "/tickets", "out_of_range"),
        (CodeTerms(2**31), {}, "/tickets", "out_of_range"),
        (CodeTerms(1), {"count": 0}, "/count", "out_of_range"),
        (CodeTerms(1), {"count": 10_001}, "/count", "out_of_range"),
        (CodeTerms(1), {"given": [f"GIVEN-CODE-{n:06}" for n in range(10_001)]}, "/count", "out_of_range"),
        (CodeTerms(1, valid_from=LATER, valid_until=SOON), {}, "/valid_until", "window"),
        (CodeTerms(1, valid_from=SOON, valid_until=SOON), {}, "/valid_until", "window"),
        (CodeTerms(1, valid_from=datetime(2030, 1, 1)), {}, "/valid_from", "malformed"),
        (CodeTerms(1, valid_until=datetime(2030, 1, 1)), {}, "/valid_until", "malformed"),
        (CodeTerms(1, label=""), {}, "/label", "empty"),
        (CodeTerms(1, label="x" * 65), {}, "/label", "too_long"),
        (CodeTerms(1), {"given": [GIVEN, "SHORT-12345"]}, "/codes/1", "too_short"),
        (CodeTerms(1), {"given": ["-" * 20]}, "/codes/0", "too_short"),
        (CodeTerms(1), {"given": ["4242-4242-4242-4242"]}, "/codes/0", "too_short"),
        (CodeTerms(1), {"given": ["A" * 65]}, "/codes/0", "too_long"),
        (CodeTerms(1), {"given": ["A" * 12 + "\n"]}, "/codes/0", "control_character"),
        (CodeTerms(1), {"given": [GIVEN, GIVEN.lower()]}, "/codes", "duplicate_code"),
        (CodeTerms(1), {"given": ["THERE-ALREADY"]}, "/codes", "duplicate_code"),
    ],
)
async def test_codes_that_cannot_be_are_not_made(
    office: BoxOffice, event: EventView, terms: CodeTerms, how: dict[str, Any], pointer: str, code: str
) -> None:
    await office.codes.create(event.id, CodeTerms(1), given=["THERE-ALREADY"])
    with pytest.raises(Malformed) as refused:
        await office.codes.create(event.id, terms, **how)
    assert (refused.value.pointer, refused.value.code) == (pointer, code)
    assert len(await office.codes.page(event.id)) == 1
    assert len(await fields(office, event)) == 2, "and its version"


async def test_an_event_has_so_many_codes_and_no_more(
    office: BoxOffice, event: EventView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codes, "CODES_MAX", 3)
    await office.codes.create(event.id, CodeTerms(1), count=2)
    with pytest.raises(Malformed, match="up to 3"):
        await office.codes.create(event.id, CodeTerms(1), count=2)
    await office.codes.create(event.id, CodeTerms(1))


async def test_whose_codes_they_are(office: BoxOffice, event: EventView, open_sale: SaleMaker) -> None:
    """Of an event that is there, is the caller's, and takes place; for a tier of it."""
    other = await open_sale(GA=1)
    stranger = Actor("key:other", "other0000000")
    for wrong in (
        office.codes.create("nothing", CodeTerms(1)),
        office.codes.create(event.id, CodeTerms(1), by=stranger),
        office.codes.create(event.id, CodeTerms(1, tier_id=tier_of(other, "GA"))),
        office.codes.create(event.id, CodeTerms(1, tier_id="nothing")),
        office.codes.revoke("nothing"),
        office.codes.revoke(event.id, by=stranger),
        office.codes.revoke(event.id, ["nothing"]),
        office.codes.page("nothing"),
    ):
        with pytest.raises(NotFound):
            await wrong
    (mine,) = await office.codes.create(event.id, CodeTerms(1))
    with pytest.raises(NotFound):
        await office.codes.revoke(other.id, [mine["id"]])
    await office.calling_off.call_off(event.id, "ill")
    with pytest.raises(EventCalledOff):
        await office.codes.create(event.id, CodeTerms(1))
    assert await office.codes.page(other.id) == []


# ------------------------------------------------------------------ who gets in


async def test_a_code_opens_the_sale_to_its_holder(office: BoxOffice, event: EventView) -> None:
    """As often as it has tickets, in whatever form it is typed; nobody else."""
    code = await made(office, event, 3)
    with pytest.raises(SaleNotOpen):
        await book(office, event, GA=1)
    with pytest.raises(AccessCodeInvalid) as refused:
        await book(office, event, GA=1, access_code=GIVEN)
    assert refused.value.details == {"reason": "unknown"}
    assert GIVEN not in str(refused.value)
    await book(office, event, GA=1, access_code=code)
    await book(office, event, None, GA=1, access_code=code.lower().replace("-", " "), customer="bob")
    with pytest.raises(AccessCodeUsedUp) as short:
        await book(office, event, GA=2, access_code=code)
    assert short.value.details == {"left": 1}
    await settle_all(office)
    assert await used(office, event, code) == 2


async def test_a_code_has_its_own_time_and_tier(office: BoxOffice, event: EventView) -> None:
    vip = await made(office, event, tier_id=tier_of(event, "VIP"))
    with pytest.raises(AccessCodeInvalid, match="another tier") as refused:
        await book(office, event, GA=1, access_code=vip)
    assert refused.value.details == {"reason": "other_tier"}
    await book(office, event, VIP=1, access_code=vip)
    late = await made(office, event, valid_from=SOON - timedelta(days=1))
    with pytest.raises(SaleNotOpen) as early:
        await book(office, event, GA=1, access_code=late)
    assert early.value.details["opens_at"].startswith((SOON - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%S"))
    over = await made(office, event, valid_until=datetime.now(UTC) - timedelta(seconds=1))
    with pytest.raises(AccessCodeInvalid, match="expired"):
        await book(office, event, GA=1, access_code=over)


async def test_a_tier_for_holders_of_a_code_alone(office: BoxOffice, event: EventView) -> None:
    """Made so, or changed; open to everybody again in one step."""
    await office.control.change_event(event.id, on_sale_at=None)
    vip, code = tier_of(event, "VIP"), await made(office, event)
    changed = await office.control.change_tier(vip, code_only=True)
    assert [tier["access_code_required"] for tier in changed.event.describe([1, 1])["tiers"]] == [False, True]
    added = await office.control.add_tier(event.id, NewTier("BOX", 1, 1, code_only=True))
    created = await office.store.create_event(CLIENT, "E", LATER, "USD", [NewTier("A", 1, 1, code_only=True)])
    await load_all(office)
    await office.catalogue.read()
    for view, tier in ((added, "VIP"), (added, "BOX"), (created, "A")):
        for _ in range(2):
            with pytest.raises(AccessCodeRequired):
                await book(office, view, **{tier: 1})
    await book(office, added, GA=1)
    with pytest.raises(AccessCodeRequired):
        await book(office, added, GA=1, VIP=1)
    await book(office, added, VIP=1, BOX=1, access_code=code)
    assert (await office.control.history(event.id, limit=9))[-5]["changes"] == {
        "code_only": {"from": False, "to": True}
    }
    for_all = await office.control.change_tier(vip, code_only=False)
    await book(office, for_all.event, VIP=1)


async def test_a_code_is_asked_about_in_a_sold_out_rush(office: BoxOffice, event: EventView) -> None:
    """A question names no code: whoever has one sends the booking itself."""
    code = await made(office, event, 99)
    for _ in range(2):
        with pytest.raises(Exception, match="Not enough"):
            await book(office, event, VIP=5, access_code=code)
    await book(office, event, VIP=4, access_code=code)


async def test_a_revoked_code_lets_nobody_in_from_the_next_call_on(office: BoxOffice, event: EventView) -> None:
    """What it got stays; what it holds may be paid."""
    till = Till(office, event)
    code, other = await made(office, event, label="a"), await made(office, event, label="b")
    held = await till.hold(GA=1, access_code=code)
    first, second = await office.codes.page(event.id)
    mine = first if first["label"] == "a" else second
    by = Actor("operator:ada")
    assert await office.codes.revoke(event.id, [mine["id"]], by=by) == 1
    with pytest.raises(AccessCodeInvalid, match="revoked"):
        await book(office, event, GA=1, access_code=code)
    await book(office, event, GA=1, access_code=other)
    await till.pay(held)
    await till.rest()
    assert await till.state(held) == "C confirmed"
    assert await office.codes.revoke(event.id, [mine["id"]], by=by) == 0, "once"
    rows = await office.control.history(event.id, limit=1)
    assert [(row["action"], row["changed_by"], row["changes"]["id"]["from"]) for row in rows] == [
        ("revoke_codes", "operator:ada", mine["id"])
    ]
    assert await office.codes.revoke(event.id, label="a") == 0
    assert await office.codes.revoke(event.id, label="b") == 1
    await made(office, event), await made(office, event)
    assert await office.codes.revoke(event.id) == 2
    assert all(code["revoked_at"] for code in await office.codes.page(event.id))


async def test_codes_are_listed_with_what_they_have_got(office: BoxOffice, event: EventView) -> None:
    code = await made(
        office, event, tier_id=tier_of(event, "GA"), valid_from=SOON - timedelta(days=9), valid_until=LATER, label="x"
    )
    for _ in range(3):
        await made(office, event, 1)
    await book(office, event, GA=2, access_code=code)
    every = await office.codes.page(event.id)
    assert [each["id"] for each in every] == sorted(each["id"] for each in every) and len(every) == 4
    assert await office.codes.page(event.id, limit=2) == every[:2]
    assert await office.codes.page(event.id, after=every[1]["id"]) == every[2:]
    (mine,) = await office.codes.page(event.id, label="x")
    assert mine in every
    assert (mine["tickets"], mine["used"], mine["tier_id"], mine["revoked_at"]) == (4, 2, tier_of(event, "GA"), None)
    assert datetime.fromisoformat(mine["valid_until"]) == LATER
    assert "digest" not in mine and "code" not in mine


async def test_a_redis_that_is_away_says_nothing_of_use(
    office: BoxOffice, event: EventView, monkeypatch: pytest.MonkeyPatch
) -> None:
    await made(office, event)

    async def away(*_: object) -> None:
        raise ConnectionError

    monkeypatch.setattr(office.redis, "hmget", away)
    assert [
        each["used"] for each in await AccessCodes(office.database, office.shards, office.control).page(event.id)
    ] == [None]


# ------------------------------------------------------------------ brought to Redis


async def test_only_what_has_changed_is_brought(
    office: BoxOffice, event: EventView, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In calls of bounded size; what was brought before is not looked at again."""
    monkeypatch.setattr(code_mirror, "CHUNK", 2)
    await office.codes.create(event.id, CodeTerms(1), count=5)
    before = await fields(office, event)
    assert len(before) == 6
    await office.redis.hset(keys.codes(event.shard, event.id), "0" * 32, "left alone")  # type: ignore[misc]
    code = await made(office, event)
    after = await fields(office, event)
    version = (await office.store.event(event.id)).version
    assert after == before | {
        b"0" * 32: b"left alone",
        ids.code_digest(code).encode(): b"4||0|0",
        b"v": f"{version}@{await server_of(office.database)}".encode(),
    }
    await office.control.pause(event.id)
    assert await fields(office, event) == after, "other changes write no code"


@pytest.mark.parametrize("how", ["load", "sweep"])
@pytest.mark.parametrize("lost", ["all", "last", "ahead", "half", "another's", "another's before"])
async def test_what_redis_lacks_a_worker_brings(office: BoxOffice, event: EventView, how: str, lost: str) -> None:
    """A change whose writer died, a Redis that lost them, one that has not heard of the last change, one that is ahead, one
    that does not say how far it was told, for whoever brought them died or was another's PostgreSQL, and
    one whose version is that of a PostgreSQL before this one, which had given it to another change."""
    name, code = keys.codes(event.shard, event.id), await made(office, event)
    before = await fields(office, event)
    await office.codes.revoke(event.id)
    whole = await fields(office, event)
    assert whole[ids.code_digest(code).encode()] == b"x"
    server = await server_of(office.database)
    await office.redis.delete(name)
    if lost == "last":
        await office.redis.hset(name, mapping=before)  # type: ignore[misc]
    elif lost == "ahead":
        await office.redis.hset(name, mapping={"0" * 32: "9||0|0", "v": f"999@{server}"})  # type: ignore[misc]
    elif lost == "half":
        await office.redis.hset(name, mapping={"0" * 32: "9||0|0"} | {ids.code_digest(code): "9||0|0"})  # type: ignore[misc]
    elif lost.startswith("another's"):
        version, _, _ = whole[b"v"].decode().partition("@")
        mark = f"{int(version) - lost.count('before')}@{server[:-1]}0"
        await office.redis.hset(name, mapping={"0" * 32: "9||0|0", "v": mark})  # type: ignore[misc]
    if how == "load":
        await load_all(office)
    else:
        await (await office.pool()).execute("UPDATE events SET mirrored = version - 1")
        await office.loader.publish_unmirrored(event.shard)
    assert await fields(office, event) == whole
    assert (await office.loader.load(event.shard)).events == ()


async def test_codes_that_postgresql_has_forgotten_altogether_are_gone(office: BoxOffice, event: EventView) -> None:
    """It went back to before the event had any. None of them lets anybody in any more; those that are made then do."""
    await made(office, event)
    pool = await office.pool()
    await pool.execute("DELETE FROM access_codes")
    await pool.execute("UPDATE events SET codes_version = 0 WHERE id = $1", event.id)
    await office.loader.load(event.shard)
    assert await fields(office, event) == {b"v": f"0@{await server_of(office.database)}".encode()}
    assert (await office.loader.load(event.shard)).events == ()
    code = ids.code_digest(await made(office, event)).encode()
    assert (await fields(office, event)).keys() == {b"v", code}


async def test_whoever_has_lost_the_lock_brings_no_code_back(
    office: BoxOffice, event: EventView, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its session ended while it was about to write them; somebody else has revoked them since, and told Redis."""
    run, about_to, go_on = Shard.run, asyncio.Event(), asyncio.Event()

    async def slowly(self: Shard, name: str, **slots: Any) -> Any:
        if name == "codes" and not about_to.is_set():
            about_to.set()
            await go_on.wait()
        return await run(self, name, **slots)

    monkeypatch.setattr(Shard, "run", slowly)
    late = asyncio.create_task(office.codes.create(event.id, CodeTerms(4), count=2))
    await about_to.wait()
    pool = await office.pool()
    await pool.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND state = 'idle in transaction'"
    )
    await office.codes.revoke(event.id)
    whole = await fields(office, event)
    go_on.set()
    await asyncio.gather(late, return_exceptions=True)
    assert await fields(office, event) == whole
    assert sorted(whole.values())[1:] == [b"x", b"x"]


async def test_an_event_without_codes_has_no_such_key(office: BoxOffice, event: EventView) -> None:
    await load_all(office)
    assert not await office.redis.exists(keys.codes(event.shard, event.id))


# ------------------------------------------------------------------ counted in both stores


async def test_every_ticket_is_counted_from_its_hold_to_its_refund(office: BoxOffice, event: EventView) -> None:
    """And by the audit, which counts the code's tickets in PostgreSQL."""
    till, code = Till(office, event), await made(office, event, 9)
    bought = await till.book(GA=3, access_code=code)
    free = await till.hold(GA=1, access_code=code)
    failed = await till.book("tok_card_declined", GA=2, access_code=code)
    assert await used(office, event, code) == 6
    await till.rest()
    assert (await till.state(bought), await till.state(failed)) == ("C confirmed", "F failed")
    assert await used(office, event, code) == 4
    rows = await till.fetch("SELECT access_code FROM bookings")
    assert {row["access_code"] for row in rows} == {ids.code_digest(code)}
    await till.refund(bought, GA=1)
    await till.rest()
    assert await used(office, event, code) == 3
    await till.cancel(free)
    assert await used(office, event, code) == 2
    await till.cancel(bought)
    await till.rest()
    assert await used(office, event, code) == 0
    await till.at_rest(bought, failed)


async def test_a_hold_that_is_changed_counts_the_difference(office: BoxOffice, event: EventView) -> None:
    till, code = Till(office, event), await made(office, event, 3)
    held = await till.hold(GA=1, access_code=code)
    await till.change(held, GA=1, VIP=2)
    assert await used(office, event, code) == 3
    with pytest.raises(AccessCodeUsedUp):
        await till.change(held, GA=4)
    await till.change(held, GA=1)
    assert await used(office, event, code) == 1
    await till.pay(held)
    await till.at_rest(held)


@pytest.mark.parametrize("how", ["empty", "recount"])
async def test_a_repair_counts_codes_anew(office: BoxOffice, event: EventView, how: str) -> None:
    """From what PostgreSQL sold and what Redis holds. An empty Redis gets them with everything else, and the codes too."""
    till, code = Till(office, event), await made(office, event, 5)
    bought = await till.book(GA=2, access_code=code)
    await till.rest()
    waits = await till.book("tok_3ds", GA=1, access_code=code)
    await till.drain()
    await till.refund(bought, GA=1)
    assert await used(office, event, code) == 2
    if how == "empty":
        await office.redis.flushall()
        await office.rebuilders[SHARD].rebuild()
        await load_all(office)
    else:
        held = await till.hold(GA=1, access_code=code)
        await office.redis.hset(  # type: ignore[misc]
            keys.owners(event.shard, event.id), mapping={f"k{ids.code_digest(code)}": 7, "k" + "0" * 32: 3}
        )
        await office.reconcilers[SHARD].event(event.id, fix=True, owned=True)
        assert await used(office, event, code) == 3
        await till.cancel(held)
    assert await used(office, event, code) == 2
    with pytest.raises(AccessCodeUsedUp):
        await book(office, event, GA=4, access_code=code)
    await book(office, event, GA=3, access_code=code, customer="last")
    await till.customer_acts(waits)
    await till.rest()
    await check_at_rest(office, [bought, waits])


async def test_what_a_recount_finds_settled_goes_back_to_its_code(office: BoxOffice, event: EventView) -> None:
    """PostgreSQL decided, and refunded, before Redis heard of either: reconcile tells it both."""
    till, code = Till(office, event), await made(office, event, 5)
    failed = await till.book("tok_card_declined", GA=2, access_code=code)
    before = await office.redis.dump(keys.booking(SHARD, failed))
    counts = keys.owners(SHARD, event.id), keys.owned_tiers(SHARD, event.id)
    owned = [await office.redis.hgetall(name) for name in counts]  # type: ignore[misc]
    await till.rest()
    assert before is not None
    await office.redis.restore(keys.booking(SHARD, failed), 0, before, replace=True)
    await office.redis.zadd(keys.pending(SHARD), {failed: 1})
    for name, found_there in zip(counts, owned, strict=True):
        await office.redis.hset(name, mapping=found_there)  # type: ignore[misc]
    found = await counters(office, event, "GA")
    await office.redis.hset(  # type: ignore[misc]
        keys.event(SHARD, event.id),
        mapping={f"a:{tier_of(event, 'GA')}": found.available - 2, f"h:{tier_of(event, 'GA')}": 2},
    )
    assert await used(office, event, code) == 2
    report = await office.reconcilers[SHARD].event(event.id, fix=True)
    assert report.settled == 1
    assert await used(office, event, code) == 0


async def test_a_refund_that_redis_has_not_heard_of_goes_back_to_its_code(
    office: BoxOffice, event: EventView, monkeypatch: pytest.MonkeyPatch
) -> None:
    till, code = Till(office, event), await made(office, event, 5)
    bought = await till.book(GA=3, access_code=code)
    await till.rest()
    await (await office.pool()).execute(
        "INSERT INTO stock_moves (event_id, tier_id, booking_id, sold_delta, owner) VALUES ($1, $2, $3, -1, $4)",
        event.id, tier_of(event, "GA"), bought, ids.owners_of(ids.owner_digest(CLIENT, "ada"), ids.code_digest(code), CLIENT),
    )  # fmt: skip
    await (await office.pool()).execute("UPDATE booking_items SET refunded = 1")
    await (await office.pool()).execute("UPDATE inventory SET sold = sold - 1 WHERE tier_id = $1", tier_of(event, "GA"))
    report = await office.reconcilers[SHARD].event(event.id, fix=True)
    assert (report.word, report.moved) == ("same", 1)
    assert await used(office, event, code) == 2


async def test_who_is_called_off_gets_no_ticket_counted(office: BoxOffice, event: EventView) -> None:
    till, code = Till(office, event), await made(office, event, 5)
    await till.book(GA=3, access_code=code)
    await till.rest()
    await office.calling_off.call_off(event.id, "ill")
    assert await office.calling_off.work(SHARD)
    await apply_moves(office.shards[SHARD], office.database)
    await till.rest()
    assert await used(office, event, code) == 0


async def test_a_booking_that_postgresql_lost_is_written_again_with_its_code(
    office: BoxOffice, event: EventView
) -> None:
    till, code = Till(office, event), await made(office, event, 5)
    bought = await till.book(GA=3, access_code=code)
    await till.rest()
    record = await till.record(bought)
    assert record is not None and record.body.access_code == ids.code_digest(code)
    assert (record.owner, record.state) == ("", "C"), "whose it was only its body tells"


def test_a_fingerprint_tells_codes_apart() -> None:
    asked = [ids.fingerprint("ada", "GA:2", "card", "4242", None, None, code) for code in ("", "a", "b", "7")]
    asked.append(ids.fingerprint("ada", "GA:2", "card", "4242", 7))
    assert len(set(asked)) == 5
    assert asked[0] == ids.fingerprint("ada", "GA:2", "card", "4242")
    assert (ids.owners_of("0123", None, "s"), ids.owners_of("0123", "c0de", "s")) == ("0123@s", "0123kc0de@s")
