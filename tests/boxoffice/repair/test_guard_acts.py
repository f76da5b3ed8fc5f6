"""What a guard does about what it judged, and what it says of it."""

from __future__ import annotations

from typing import Any

import pytest
from redis.exceptions import ResponseError
from structlog.testing import capture_logs

from boxoffice.errors import DriftUnexplained
from boxoffice.office import BoxOffice
from boxoffice.repair.guard import Guard, Sight, judge
from boxoffice.repair.rebuild import POSTGRES_WENT_BACK
from boxoffice.stores import keys
from boxoffice.stores.gate import Gate
from boxoffice.stores.lineage import BOTH_CHANGED
from boxoffice.stores.redis import run_id
from tests.conftest import GENERATION, SHARD, SaleMaker, counters, settle_all
from tests.support.guards import FINE, guard_of, row
from tests.support.shop.office import book


@pytest.mark.parametrize(
    ("change", "acts"),
    [
        ({}, False),
        ({"gate": None}, False),
        ({"gate": None, "alert": BOTH_CHANGED}, False),
        ({"alert": BOTH_CHANGED}, True),
        ({"gate": None, "quiet_s": 60.0}, True),
        ({"admitted": 1}, True),
        ({"server_run_id": "other"}, True),
        ({"known": False, "gate": None}, True),
        ({"lost": True, "gate": None}, True),
    ],
)
async def test_when_a_guard_acts(
    office: BoxOffice, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], acts: bool
) -> None:
    """Not while it waits, nor where an operator has to decide and the gate is shut already."""
    guard, done = guard_of(office), list[str]()

    async def look() -> Sight:
        return FINE._replace(**change)

    async def act() -> str:
        done.append("acted")
        return "acted"

    async def remember(_: Sight) -> None:
        done.append("remembered")

    for name, stub in (("look", look), ("act", act), ("remember", remember)):
        monkeypatch.setattr(guard, name, stub)
    word = judge(FINE._replace(**change))
    assert await guard.tick() == ("acted" if acts else word)
    assert done == (["acted"] if acts else ["remembered"] if word == "fine" else [])


async def test_a_judgement_is_said_when_it_changes(office: BoxOffice, monkeypatch: pytest.MonkeyPatch) -> None:
    """With why; what is in order, or has just been put in order, is not said."""
    guard = guard_of(office)
    raised: list[Any] = []

    async def look() -> Sight:
        found = raised.pop(0)
        if isinstance(found, Exception):
            raise found
        return FINE._replace(**found)

    async def nothing(_: Sight) -> None:
        pass

    monkeypatch.setattr(guard, "look", look)
    monkeypatch.setattr(guard, "remember", nothing)
    raised += [{}, {"gate": None}, {"gate": None}, OSError("x"), OSError("x"), ResponseError("OOM"),
               DriftUnexplained("why"), {}, {"gate": None}]  # fmt: skip
    with capture_logs() as said:
        words = [await guard.tick() for _ in range(len(raised))]
    assert words == ["fine", "waiting", "waiting", "away", "away", "refused", "failed", "fine", "waiting"]
    assert [(line["event"], line["shard"], line["judgement"], line.get("error")) for line in said] == [
        ("guard.judged", SHARD, "waiting", None),
        ("guard.judged", SHARD, "away", "OSError"),
        ("guard.judged", SHARD, "refused", "ResponseError"),
        ("guard.judged", SHARD, "failed", "why"),
        ("guard.judged", SHARD, "waiting", None),
    ]


async def test_a_look_reads_its_own_shard_in_both_stores(office: BoxOffice, open_sale: SaleMaker) -> None:
    """Every value where it belongs; those of the other shard are others."""
    event = await open_sale(GA=10)
    await book(office, event, GA=1)
    await settle_all(office)
    pool, guard = await office.pool(), guard_of(office)
    for shard, n in ((0, 1), (SHARD, 2)):
        await pool.execute(
            "UPDATE shards SET generation = $2, sequence = $3, alert = $4, server = $5, run_id = $6,"
            " settled_at = now() - $7 * interval '1 minute' WHERE shard = $1",
            shard, f"g{n}", n, f"alert{n}", f"server{n}", f"before{n}", n,
        )  # fmt: skip
        await office.redis.set(keys.gate(shard), Gate(f"gate{n}", f"run{n}").pack())
        await office.redis.set(keys.sequence(shard), 100 * n)
    await office.redis.sadd(keys.told(SHARD), "50:1")
    sight = await guard.look()
    now_ms = await pool.fetchval("SELECT (1000 * extract(epoch FROM now()))::bigint")
    assert (sight.lost, sight.known, sight.generation, sight.sequence, sight.alert) == (True, True, "g2", 2, "alert2")
    assert (sight.run_id, sight.gate, sight.admitted) == ("run2", "gate2", 200)
    assert (sight.server_before, sight.run_before, sight.server_run_id) == (
        "server2", "before2", await run_id(office.redis),
    )  # fmt: skip
    assert sight.quiet_s == pytest.approx(120, abs=20) and abs(now_ms - sight.postgres_ms) < 20_000
    assert sorted(pair.number for pair in sight.told) == [1, 50]
    await pool.execute("DELETE FROM shards WHERE shard = $1", SHARD)
    await office.redis.delete(keys.gate(SHARD), keys.sequence(SHARD), keys.told(SHARD))
    empty = await guard.look()
    assert (empty.told, empty.lost, empty.known, empty.generation, empty.sequence, empty.quiet_s) == (
        (), False, False, "", 0, 0.0,
    )  # fmt: skip
    assert (empty.run_id, empty.alert, empty.gate, empty.admitted, empty.postgres_ms) == ("", None, None, None, 0)
    assert (empty.server_before, empty.run_before) == ("", "")


@pytest.mark.parametrize(
    ("admitted", "generation", "kept"), [(50, "first", 50), (9, "first", 10), (10, "first", 10), (50, "other", 10)]
)
async def test_postgresql_remembers_how_far_redis_came(
    office: BoxOffice, admitted: int, generation: str, kept: int
) -> None:
    """Never less than before, and not of a Redis of another generation; the time is noted once in a while."""
    pool, clock = await office.pool(), [1_000.0]
    guard = guard_of(office, now_s=lambda: clock[0])
    await pool.execute("UPDATE shards SET sequence = 10")
    sight = FINE._replace(admitted=admitted, sequence=10, generation=generation, server="", postgres_ms=77_000)
    await guard.remember(sight)
    assert [row[0] for row in await pool.fetch("SELECT sequence FROM shards ORDER BY shard")] == [10, kept]
    assert await office.redis.get(keys.sound(SHARD)) == b"77000"
    for seconds, noted in ((4.9, b"77000"), (0.1, b"78000"), (4.9, b"78000")):
        clock[0] += seconds
        await guard.remember(sight._replace(postgres_ms=78_000 if seconds == 0.1 else 79_000))
        assert await office.redis.get(keys.sound(SHARD)) == noted
    assert not await office.redis.exists(keys.sound(0))


async def test_a_first_start_keeps_what_redis_has_numbered(office: BoxOffice, open_sale: SaleMaker) -> None:
    """A gate that is open keeps its generation; a Redis that has numbered nothing begins at nought; nobody else's row
    is made."""
    await open_sale(GA=1)
    pool = await office.pool()
    await pool.execute("DELETE FROM shards")
    await office.redis.set(keys.sequence(SHARD), 41)
    assert await guard_of(office).tick() == "first_start"
    run = await run_id(office.redis)
    rows = [tuple(row) for row in await pool.fetch("SELECT shard, generation, sequence, run_id FROM shards")]
    assert rows == [(SHARD, GENERATION, 41, run)]
    assert await office.redis.get(keys.gate(SHARD)) == Gate(GENERATION, run).pack().encode()
    assert await office.redis.get(keys.sequence(SHARD)) == b"41"
    await pool.execute("DELETE FROM shards")
    await office.redis.delete(keys.gate(SHARD), keys.sequence(SHARD))
    assert await guard_of(office).tick() == "first_start"
    assert await office.redis.get(keys.sequence(SHARD)) == b"0"
    assert (await row(office))["generation"] not in ("", GENERATION)


@pytest.mark.parametrize(
    ("run", "admitted", "fill"), [("run", 100, False), ("run", 99, True), ("other", 100, True), ("run", None, True)]
)
async def test_a_whole_redis_is_not_filled_again(
    office: BoxOffice, monkeypatch: pytest.MonkeyPatch, run: str, admitted: int | None, fill: bool
) -> None:
    """When it is the run that was compared last, and has all that PostgreSQL remembers of it."""
    guard, asked = guard_of(office), list[Any]()

    async def rebuild(**options: Any) -> Any:
        asked.append(options)
        raise DriftUnexplained("an operator has to decide")

    monkeypatch.setattr(guard.rebuilder, "rebuild_locked", rebuild)
    assert await guard.recover(FINE._replace(run_id=run, admitted=admitted)) == POSTGRES_WENT_BACK
    assert asked == [{"fill": fill}]
    rows = await (await office.pool()).fetch("SELECT alert FROM shards ORDER BY shard")
    assert [tuple(each) for each in rows] == [(None,), (POSTGRES_WENT_BACK,)]
    assert await guard.recover(FINE._replace(alert=POSTGRES_WENT_BACK)) == POSTGRES_WENT_BACK
    assert len(asked) == 1, "it was tried"


@pytest.mark.parametrize(("admitted", "word"), [(None, "rebuilt"), (1, "rebuilt"), (2, "restarted"), (3, "restarted")])
async def test_a_restarted_redis_that_lacks_a_settled_booking_is_filled(
    office: BoxOffice, open_sale: SaleMaker, guard: Guard, admitted: int | None, word: str
) -> None:
    event = await open_sale(GA=10)
    for _ in range(2):
        await book(office, event, GA=1)
    await settle_all(office)
    pool, run = await office.pool(), await run_id(office.redis)
    await pool.execute("UPDATE shards SET run_id = 'before'")
    assert await guard.after_restart(FINE._replace(admitted=admitted, generation=GENERATION, server_run_id=run)) == word
    assert (await row(office))["run_id"] == run
    assert await pool.fetchval("SELECT run_id FROM shards WHERE shard = 0") == "before"
    gate = Gate.parse(await office.redis.get(keys.gate(SHARD)))
    assert gate is not None and gate.run == run and (gate.generation == GENERATION) is (word == "restarted")


async def test_where_an_operator_has_to_decide_the_gate_is_shut(
    office: BoxOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody opened it, or a restart kept it: its own, and no other shard's."""
    guard = guard_of(office)

    async def look() -> Sight:
        return FINE._replace(alert=BOTH_CHANGED)

    monkeypatch.setattr(guard, "look", look)
    assert await guard.act() == "alert"
    assert [await office.redis.exists(keys.gate(shard)) for shard in (0, SHARD)] == [1, 0]


async def test_every_total_that_was_changed_by_hand_is_counted_anew(office: BoxOffice, open_sale: SaleMaker) -> None:
    guard, events = guard_of(office), [await open_sale(GA=10) for _ in range(3)]
    await office.loader.load(SHARD)
    await (await office.pool()).execute(
        "UPDATE inventory SET total = 7 WHERE tier_id = ANY($1)", [event.tiers[0].id for event in events[:2]]
    )
    await guard.load()
    assert [(await counters(office, event, "GA")).total for event in events] == [7, 7, 10]


async def test_lost_counters_are_counted_from_every_booking(
    office: BoxOffice, open_sale: SaleMaker, guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are, with what each customer has, after strays were put back once for all."""
    events = [await open_sale(GA=10), await open_sale(GA=10)]
    for event in events:
        await book(office, event, GA=3, token=None)
    before = [await office.redis.hgetall(keys.owners(SHARD, event.id)) for event in events]
    for event in events:
        await office.redis.delete(keys.event(SHARD, event.id))
        await office.redis.hset(keys.owners(SHARD, event.id), "00000000deadbeef", "7")
    await office.redis.delete(keys.deadlines(SHARD))
    monkeypatch.setattr("boxoffice.repair.reconcile.DEEP_MAX", -1)
    asked: list[dict[str, Any]] = []
    real = guard.reconciler.event

    async def event_(event: str, **options: Any) -> Any:
        asked.append(options)
        return await real(event, **options)

    monkeypatch.setattr(guard.reconciler, "event", event_)
    assert await guard.load() == 2
    assert asked == 2 * [{"fix": True, "deep": True, "owned": True, "strays": False}]
    assert [(await counters(office, event, "GA")).held for event in events] == [3, 3]
    assert [await office.redis.hgetall(keys.owners(SHARD, event.id)) for event in events] == before
