"""How it is going: what is wrong is named, and told by the exit code; what is away is not guessed at."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from boxoffice.backoffice.overview import Overview
from boxoffice.office import BoxOffice
from boxoffice.stores import keys
from tests.conftest import SHARD, SaleMaker, load_all
from tests.ops.terminal import run
from tests.support.proxy import proxied
from tests.support.shop.office import Till
from worker.rounds import Rounds
from worker.stop import Stop

pytestmark = pytest.mark.usefixtures("terminal")


async def beat(office: BoxOffice) -> Rounds:
    """A worker that says once that it lives."""
    rounds = Rounds(office, office.shards, Stop())
    for shard in office.shards:
        await rounds.beat(shard.number)
    return rounds


@pytest.fixture
async def till(office: BoxOffice, open_sale: SaleMaker) -> Till:
    """A shop with a worker that lives."""
    await load_all(office)
    await beat(office)
    return Till(office, await open_sale(GA=10, VIP=5))


async def status() -> tuple[int, dict[str, Any]]:
    code, said = await run("status", "--every", "0.2", "--json")
    return code, json.loads(said)


async def test_all_is_well(till: Till) -> None:
    await till.book(GA=2)
    await till.rest()
    await till.hold(VIP=1)
    code, found = await status()
    assert (code, found["troubles"], found["healthy"]) == (0, [], True)
    shards = [[shard[name] for name in ("shard", "gate", "holds", "backlog", "parked")] for shard in found["shards"]]
    assert shards == [[0, "open", 0, 0, 0], [1, "open", 1, 0, 0]]
    (sale,) = found["sales"]
    assert sale == {
        "event": till.event.id, "name": "Concert", "status": "active", "total": 15, "sold": 2, "held": 1, "available": 12,
    }  # fmt: skip
    assert (len(found["workers"]), found["admitted_rate"], found["sold_rate"]) == (1, 0.0, 0.0)
    code, said = await run("status", "--every", "0.2")
    assert (code, "All is well." in said, "Concert" in said, " 13 " in said) == (0, True, True, True)


# ------------------------------------------------------------------ troubles


async def parked(till: Till) -> None:
    await till.office.redis.zadd(keys.dead(SHARD), {"b": 1})


async def late(till: Till) -> None:
    seconds, _ = await till.office.redis.time()
    await till.office.redis.zadd(keys.pending(SHARD), {"b": 1_000 * (seconds - 11), "c": 1_000 * (seconds - 1)})


async def shut(till: Till) -> None:
    await till.office.redis.delete(keys.gate(SHARD))


async def silent(till: Till) -> None:
    for shard in till.office.shards:
        await till.office.redis.delete(keys.workers(shard.number))


async def drifted(till: Till) -> None:
    """As the worker counted it last: another that has not counted yet says nothing against it."""
    rounds = Rounds(till.office, till.office.shards, Stop())
    sale = keys.event(SHARD, till.event.id)
    await till.office.redis.hincrby(sale, f"a:{till.event.tiers[0].id}", 1)
    await rounds.count_drift(SHARD)
    await rounds.beat(SHARD)
    await beat(till.office)


async def owed(till: Till) -> None:
    booking = await till.book("tok_refund_refused", GA=1)
    await till.rest()
    await till.cancel(booking)
    await till.pump()


async def void_overdue(till: Till) -> None:
    await till.book(GA=1)
    await till.rest()
    await till.fetch("UPDATE payments SET due = 'void', due_at = now(), due_since = now() - interval '6 minutes'")


async def refund_overdue(till: Till) -> None:
    booking = await till.book(GA=1)
    await till.rest()
    await till.cancel(booking)
    await till.fetch("UPDATE refunds SET due_since = now() - interval '6 minutes'")


async def alert(till: Till) -> None:
    await till.fetch("UPDATE shards SET alert = 'postgres_went_back' WHERE shard = $1", SHARD)


TROUBLES: dict[str, tuple[Callable[[Till], Awaitable[None]], str]] = {
    "parked": (parked, f"Shard {SHARD}: 1 bookings are parked."),
    "late": (late, f"Shard {SHARD}: a booking has been due for 1"),
    "shut": (shut, f"Shard {SHARD}: its gate is closed"),
    "silent": (silent, "No worker lives"),
    "drifted": (drifted, f"Shard {SHARD}: counters of 1 events drifted"),
    "owed": (owed, "1 refunds are owed"),
    "void overdue": (void_overdue, "1 captures, voids or refunds have been due"),
    "refund overdue": (refund_overdue, "1 captures, voids or refunds have been due"),
    "alert": (alert, f"Shard {SHARD} waits for an operator: postgres_went_back"),
}


@pytest.mark.parametrize("what", TROUBLES)
async def test_a_trouble_is_named(till: Till, what: str) -> None:
    make, said = TROUBLES[what]
    await make(till)
    code, found = await status()
    assert (code, found["healthy"], len(found["troubles"])) == (1, False, 1)
    assert found["troubles"][0].startswith(said)
    code, text = await run("status", "--every", "0.2")
    assert (code, f"! {said}" in text, "All is well" in text) == (1, True, False)


async def test_what_will_be_done_in_time_is_no_trouble(till: Till) -> None:
    """A booking that waits, a void that is due since a moment, a drift that was mended."""
    await drifted(till)
    sale = keys.event(SHARD, till.event.id)
    await till.office.redis.hincrby(sale, f"a:{till.event.tiers[0].id}", -1)
    rounds = Rounds(till.office, till.office.shards, Stop())
    await rounds.count_drift(SHARD)
    await rounds.beat(SHARD)
    await void_overdue(till)
    await till.fetch("UPDATE payments SET due_since = now() - interval '4 minutes'")
    await till.book(GA=1)
    code, found = await status()
    assert (code, found["troubles"], found["shards"][SHARD]["backlog"]) == (0, [], 1)


# ------------------------------------------------------------------ stores that are away


async def test_without_redis_postgresql_is_told(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    code, found = await status()
    assert (code, found["troubles"]) == (1, [f"Shard {shard}: Redis does not answer." for shard in (0, 1)])
    assert (found["workers"], found["admitted_rate"], found["money"]["owed"]) == (None, None, 0)
    (sale,) = found["sales"]
    assert [sale[name] for name in ("sold", "held", "available")] == [0, None, None]
    code, text = await run("status", "--every", "0.2")
    assert (code, "Workers: ?." in text, "away" in text) == (1, True, True)


async def test_without_postgresql_redis_is_told(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://a@127.0.0.1:1/b")
    await till.hold(GA=1)
    code, found = await status()
    assert code == 1
    (trouble,) = found["troubles"]
    assert trouble.startswith("PostgreSQL does not answer")
    assert (found["sales"], found["money"], found["sold_rate"], found["admitted_rate"]) == (None, None, None, 0.0)
    assert (found["shards"][SHARD]["holds"], len(found["workers"])) == (1, 1)


async def test_a_store_that_hangs_is_away(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections are taken, and nobody answers."""
    monkeypatch.setattr("boxoffice.backoffice.overview.AWAY_S", 0.3)
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        monkeypatch.setenv("REDIS_URL", f"redis://{host}:{port}/0")
        monkeypatch.setenv("DATABASE_URL", f"postgresql://a@{host}:{port}/b")
        code, found = await asyncio.wait_for(status(), 30)
    assert (code, len(found["troubles"]), found["workers"], found["sales"]) == (1, 3, None, None)


@pytest.mark.parametrize(
    "when", [b"default_transaction_read_only", b"REPEATABLE READ", b"FROM shards", b"JOIN inventory"]
)
async def test_postgresql_that_hangs_once_it_took_the_connection_is_away(
    till: Till, monkeypatch: pytest.MonkeyPatch, when: bytes
) -> None:
    """Whatever it was asked last; it answers no rollback either."""
    monkeypatch.setattr("boxoffice.backoffice.overview.AWAY_S", 0.5)
    async with proxied(till.office.settings.database_url) as (proxy, url):
        proxy.when, proxy.then = when, "black-hole"
        overview = Overview(till.office.shards, till.office.settings.model_copy(update={"database_url": url}))
        looking = asyncio.create_task(overview.glance())
        await asyncio.wait([looking], timeout=20)
        assert looking.done() and proxy.when is None
    (trouble,) = looking.result().troubles
    assert trouble.startswith("PostgreSQL does not answer")


# ------------------------------------------------------------------ sales on now


@pytest.mark.parametrize(
    ("event", "tier", "on_now"),
    [
        ("on_sale_at = now() + interval '1 hour'", "", False), ("on_sale_at = now() - interval '1 hour'", "", True),
        ("off_sale_at = now() - interval '1 hour'", "", False), ("off_sale_at = now() + interval '1 hour'", "", True),
        ("on_sale_at = now() + interval '1 hour'", "on_sale_at = now() - interval '1 hour'", True),
        ("off_sale_at = now() + interval '1 hour'", "off_sale_at = now() - interval '1 hour'", False),
        ("", "is_active = false", False), ("status = 'inactive'", "", False), ("status = 'called_off'", "", False),
        ("status = 'paused'", "", True), ("starts_at = now() - interval '25 hours'", "", False),
        ("starts_at = now() - interval '1 hour'", "", True),
    ],
)  # fmt: skip
async def test_an_event_is_on_sale_now_when_one_of_its_tiers_is(
    till: Till, event: str, tier: str, on_now: bool
) -> None:
    if event:
        await till.fetch(f"UPDATE events SET {event}")
    if tier:
        await till.fetch(f"UPDATE tiers SET {tier} WHERE code = 'VIP' OR NOT $1", on_now)
    found = await till.office.overview.glance()
    assert found.sales is not None
    assert [sale.event for sale in found.sales] == ([till.event.id] if on_now else [])


async def test_rates_are_those_between_two_looks(till: Till) -> None:
    overview = till.office.overview
    assert (await overview.glance()).admitted_rate is None
    for _ in range(3):
        await till.book(GA=2)
    await till.rest()
    glance = await overview.glance()
    assert glance.admitted_rate and glance.sold_rate
    assert glance.sold_rate == pytest.approx(2 * glance.admitted_rate, rel=0.1)
    glance = await overview.glance()
    assert (glance.admitted_rate, glance.sold_rate) == (0.0, 0.0)


# ------------------------------------------------------------------ watched


async def test_it_is_watched_until_the_reader_goes(till: Till) -> None:
    command = f"{sys.executable} -m ops.cli status --watch --every 0.2 --json | head -2"
    ran = await asyncio.to_thread(
        subprocess.run, ["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False
    )
    assert [json.loads(line)["sales"][0]["name"] for line in ran.stdout.splitlines()] == 2 * ["Concert"]
    assert ran.stderr == ""


async def test_it_is_watched_by_people(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawn anew for each look; a name is a name, whatever it looks like to a terminal."""
    await till.fetch("UPDATE events SET name = 'Con[red]cert'")
    looks = 0
    glance = till.office.overview.glance

    async def look(_: Any) -> Any:
        nonlocal looks
        looks += 1
        if looks == 3:
            raise KeyboardInterrupt
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(glance(), loop))

    loop = asyncio.get_running_loop()
    monkeypatch.setattr("boxoffice.backoffice.overview.Overview.glance", look)
    code, said = await run("status", "--watch", "--every", "0.2")
    assert (code != 0, looks) == (True, 3)
    assert "Con[red]cert" in said
    assert "All is well." in said
