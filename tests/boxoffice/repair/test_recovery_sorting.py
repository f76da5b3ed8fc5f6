"""What a PostgreSQL that went back lacks, told record by record, and when that is more than Redis can give back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import msgspec
import pytest
from msgspec.structs import replace

from boxoffice.access.api_keys import VERSION
from boxoffice.books.moves import Note
from boxoffice.errors import DriftUnexplained
from boxoffice.repair import recovery as recovery_module
from boxoffice.repair.recovery import Lost, Recovery
from boxoffice.stores import keys
from boxoffice.stores.fence import Pair
from boxoffice.stores.record import Body, Line, Payload, Record
from tests.conftest import SHARD
from tests.support.shop.office import Till

BOOKING = "01a22a0f-37c3-7001-9377-a24fbc7eb373"
RECORD = Record(
    BOOKING, "C", 7, 1, 0, "pay", "scope", "print", "event0000000", "owner", "t:1", "1",
    Body("shop", "ada", 1_000, "USD", (Line("t", 1, 1_000),)), Payload(),
)  # fmt: skip
NOTE = Note(BOOKING, "t", 1, "refund", 500, "requested", "", "asked", "t:1")


@pytest.fixture
def recovery(till: Till) -> Recovery:
    office = till.office
    return Recovery(office.shards[SHARD], office.database, office.refunds, office.settings, None)


def nothing() -> Lost:
    return Lost([], [], [], [], {}, set())


LACKS, UNPAID, DECIDED, CANCELLED, AGREES = "bookings", "unpaid", "decided", "cancelled", ""


@pytest.mark.parametrize(
    ("state", "tries", "status", "where"),
    [
        ("C", "1", None, LACKS),
        ("C", "1", "pending", LACKS),
        ("C", "1", "held", LACKS),
        ("C", "1", "expired", LACKS),
        ("C", "1", "failed", DECIDED),
        ("C", "1", "cancelled", DECIDED),
        ("C", "0", None, LACKS),
        ("F", "1", None, LACKS),
        ("F", "1", "pending", LACKS),
        ("F", "1", "confirmed", AGREES),
        ("F", "1", "expired", AGREES),
        ("X", "1", "confirmed", CANCELLED),
        ("X", "0", "confirmed", CANCELLED),
        ("X", "1", None, LACKS),
        ("X", "0", None, UNPAID),
        ("X", "0x", "held", UNPAID),
        ("E", "1", "held", LACKS),
        ("E", "0", None, UNPAID),
        ("E", "0e", "held", UNPAID),
        ("E", "1", "confirmed", AGREES),
        ("H", "0", None, UNPAID),
        ("H", "1", None, LACKS),
        ("H", "1", "held", AGREES),
        ("H", "1", "pending", LACKS),
    ],
)
def test_what_a_record_tells_of_what_was_lost(
    recovery: Recovery, state: str, tries: str, status: str | None, where: str
) -> None:
    """By its state here and its status there, and whether a payment was ever tried."""
    found = nothing()
    recovery.sort(BOOKING, status, replace(RECORD, state=state, tries=tries).pack(), found)
    place = BOOKING if where in (DECIDED, CANCELLED) else (7, BOOKING)
    expected = nothing()
    if where:
        getattr(expected, where).append(place)
    assert found == expected


def test_a_record_that_nobody_can_read_tells_nothing(recovery: Recovery) -> None:
    found = nothing()
    recovery.sort(BOOKING, None, b"C|7|garbage", found)
    assert found == nothing()


def test_notes_are_kept_once_each_by_booking(recovery: Recovery) -> None:
    """Moves of a capacity, and what earlier versions wrote, are about no booking."""
    notes: dict[str, list[Note]] = {}
    other = msgspec.structs.replace(NOTE, tier="u")
    elsewhere = msgspec.structs.replace(NOTE, booking="another")
    for note in (NOTE, other, NOTE, elsewhere):
        recovery.keep(msgspec.json.encode(note), notes)
    for raw in (b"", b"1", b"[1]", b"nonsense"):
        recovery.keep(raw, notes)
    assert notes == {BOOKING: [NOTE, other], "another": [elsewhere]}


@pytest.mark.parametrize(
    ("numbers", "batch", "settled_ago_s", "kept", "fine"),
    [
        ((5,), 3, 10**6, 2, True),
        ((5,), 3, 10**6, 1, False),
        ((2, 5, 4), 3, 10**6, 1, False),
        ((5,), 3, 0, 0, True),
        ((5,), 4, 86_400 - 3_600 - 60, 0, True),
        ((5,), 4, 86_400 - 3_600 + 60, 0, False),
    ],
)
async def test_more_than_redis_remembers_is_an_operators_to_decide(
    till: Till, recovery: Recovery, numbers: tuple[int, ...], batch: int, settled_ago_s: int, kept: int, fine: bool
) -> None:
    """Each lost commit has left a record or a note, unless the last settlement is so long ago that they have expired."""
    pool = await till.office.pool()
    assert till.office.settings.worker.settled_ttl_s == 86_400
    await pool.execute(
        "UPDATE shards SET batch = $1, settled_at = now() - $2::interval WHERE shard = $3",
        batch, timedelta(seconds=settled_ago_s), SHARD,
    )  # fmt: skip
    await pool.execute("UPDATE shards SET batch = 100, settled_at = now() WHERE shard <> $1", SHARD)
    lost = [Pair(number, 1) for number in numbers]
    for booked in range(kept + 1):
        found = nothing()
        found.bookings.extend((n, f"b{n}") for n in range(booked))
        found.notes.update({f"n{n}": [NOTE] for n in range(kept - booked)})
        if fine:
            await recovery.see_that_it_is_ours(lost, found)
        else:
            with pytest.raises(DriftUnexplained, match=f"further than shard {SHARD} of Redis remembers"):
                await recovery.see_that_it_is_ours(lost, found)


@pytest.mark.parametrize("what", ["shard", "event"])
async def test_another_database_is_not_written_to(till: Till, recovery: Recovery, what: str) -> None:
    found = nothing()
    if what == "shard":
        await (await till.office.pool()).execute("DELETE FROM shards WHERE shard = $1", SHARD)
    else:
        found.events.add("unheard00000")
    with pytest.raises(DriftUnexplained, match=f"knows nothing of shard {SHARD}"):
        await recovery.see_that_it_is_ours([Pair(1, 1)], found)


@pytest.mark.parametrize("page", [1, 1_000])
async def test_every_record_and_note_of_the_shard_is_read(
    till: Till, recovery: Recovery, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    """Once at least, and nothing else: neither of another shard, nor what is no record."""
    monkeypatch.setattr(recovery_module, "PAGE", page)
    redis = till.office.redis
    wanted = {keys.booking(SHARD, f"b{n}"): b"%d" % n for n in range(20)}
    notes = {keys.moved(SHARD, f"{n}-1"): b"note %d" % n for n in range(20)}
    others = {keys.booking(0, "b1"): b"no", keys.moved(0, "1-1"): b"no", keys.idempotency(SHARD, "s"): b"no"}
    await redis.mset({**wanted, **notes, **others})
    records: dict[str, bytes] = {}
    told: list[bytes] = []
    async for some, said in recovery.pages():
        records |= some
        told += said
    assert records == wanted
    assert sorted(set(told)) == sorted(notes.values())


async def test_events_that_are_forgotten_are_on_sale_no_more(till: Till, recovery: Recovery) -> None:
    """And every process reads the catalogue anew: its version goes on from where it was."""
    redis, catalogue = till.office.redis, keys.catalogue(SHARD)
    gone = ("gone00000001", "gone00000002")
    for shard in (0, SHARD):
        await redis.hset(keys.catalogue(shard), mapping={event: "{}" for event in gone} | {VERSION: 41})  # type: ignore[misc]
        for event in gone:
            await redis.hset(keys.event(shard, event), "on", "1")  # type: ignore[misc]
            for name in (keys.owners, keys.owned_tiers, keys.unpaid):
                await redis.hset(name(shard, event), "o", "1")  # type: ignore[misc]
    await recovery.forget_events({till.event.id})
    assert await redis.hget(catalogue, VERSION) == b"42"  # type: ignore[misc]
    assert set(await redis.hkeys(catalogue)) == {till.event.id.encode(), VERSION.encode()}  # type: ignore[misc]
    all_of_it = (keys.event, keys.owners, keys.owned_tiers, keys.unpaid)
    names = [name(SHARD, event) for event in gone for name in all_of_it]
    assert await redis.exists(*names) == 0
    assert await redis.exists(*[name(0, event) for event in gone for name in all_of_it]) == 8
    await recovery.forget_events({till.event.id})
    assert await redis.hget(catalogue, VERSION) == b"42", "nothing was forgotten"  # type: ignore[misc]
    await redis.hdel(catalogue, VERSION)  # type: ignore[misc]
    await redis.hset(catalogue, "gone00000001", "{}")  # type: ignore[misc]
    await recovery.forget_events({till.event.id})
    assert await redis.hkeys(catalogue) == [till.event.id.encode()], "one that was lost stays unknown"  # type: ignore[misc]


async def test_redis_is_told_how_postgresql_has_each(till: Till, recovery: Recovery) -> None:
    """Of many in one call, with a pair that has them; who agrees, and who is undecided, is left as he is, and so is one that
    nobody can read."""
    booked = [await till.book(GA=1) for _ in range(3)]
    torn = await till.book(GA=1)
    await till.rest()
    await till.office.redis.set(keys.booking(SHARD, torn), "F|nonsense")
    waiting = await till.book(GA=1)
    redis = till.office.redis
    for booking in booked[:2]:
        record = await till.record(booking)
        assert record is not None
        record.state = "F"
        await redis.set(keys.booking(SHARD, booking), record.pack())
    raws = await redis.mget([keys.booking(SHARD, booking) for booking in (booked[2], waiting)])
    await redis.delete(keys.told(SHARD))
    assert await recovery.correct([torn, *booked, waiting, BOOKING]) == 2
    assert [await till.state(booking) for booking in booked] == 3 * ["C confirmed"]
    assert await redis.mget([keys.booking(SHARD, booking) for booking in (booked[2], waiting)]) == raws
    number, nonce = (await till.fetch("SELECT number, nonce FROM batches WHERE shard = $1", SHARD))[0]
    assert await redis.smembers(keys.told(SHARD)) == {b"%d:%d" % (number, nonce)}  # type: ignore[misc]
    for booking in booked[:2]:
        assert 80_000 < await redis.ttl(keys.booking(SHARD, booking)) <= 86_400


@pytest.mark.parametrize(
    ("books", "written"), [(lambda: "stripe/live/acct_1", "stripe/live/acct_1"), (None, "simulator")]
)
async def test_whose_books_the_payments_of_forgotten_bookings_stand_in(
    till: Till, books: Callable[[], str] | None, written: str
) -> None:
    """Whatever the gateway says; without one, what the settings tell of it."""
    office = till.office
    recovery = Recovery(office.shards[SHARD], office.database, office.refunds, office.settings, books)
    assert (recovery.gateway_books(), office.settings.gateway.kind) == (written, "simulator")
