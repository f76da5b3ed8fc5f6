"""What operators see and do over HTTP: every shop's sales, with an `ops` key, and each deed written down by the key's name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from redis.exceptions import ConnectionError as RedisAway
from redis.exceptions import OutOfMemoryError

from boxoffice import ids
from boxoffice.access.store import Grant
from boxoffice.backoffice import finding
from boxoffice.backoffice.finding import Finder
from boxoffice.books.dead_letters import DeadLetter
from boxoffice.office import BoxOffice, open_box_office
from boxoffice.repair import parked as parked_module
from boxoffice.repair.tools import Repair
from boxoffice.sales.catalogue import EventView
from boxoffice.settings import Settings
from boxoffice.stores import keys
from boxoffice.stores.record import Record
from boxoffice.stores.shard import Shard
from tests.api.conftest import assert_problem
from tests.conftest import SHARD, SaleMaker, counters
from tests.support.least import LeastRights
from tests.support.shop.office import Till
from tests.support.shop.orders import OTHER, tier_of


@pytest.fixture(params=["fast"])
def settings(settings: Settings) -> Settings:
    """Behind the fast path as without it."""
    return settings


@pytest.fixture
async def ops(api: httpx2.AsyncClient, office: BoxOffice) -> httpx2.AsyncClient:
    """With an operator's key, which belongs to another shop than the event, and may do nothing else."""
    key = await office.access.create_api_key(OTHER, Grant(("ops",)))
    api.headers["Authorization"] = f"Bearer {key}"
    return api


@pytest.fixture
async def event(open_sale: SaleMaker) -> EventView:
    return await open_sale(GA=10, VIP=4)


@pytest.fixture
def till(office: BoxOffice, event: EventView) -> Till:
    return Till(office, event)


def by(ops: httpx2.AsyncClient) -> str:
    return f"key:{ops.headers['Authorization'].removeprefix('Bearer ').partition('.')[0]}"


async def figures(ops: httpx2.AsyncClient, office: BoxOffice) -> dict[str, Any]:
    office.__dict__.pop("watching", None)  # nobody has looked within the last second
    found: dict[str, Any] = (await ops.get("/v1/ops/figures")).json()
    return found


async def deeds(ops: httpx2.AsyncClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await ops.get("/v1/ops/history")).json()["data"]
    return found


async def test_figures_say_how_it_goes(ops: httpx2.AsyncClient, office: BoxOffice, till: Till) -> None:
    before = await figures(ops, office)
    sold = await till.book(GA=2)
    await till.rest_bookings()
    await till.hold(GA=1)
    await till.book(GA=3)
    now = await figures(ops, office)
    (sale,) = now["sales"]
    tier = next(each for each in sale["tiers"] if each["code"] == "GA")
    shown = {name: tier[name] for name in ("total", "sold", "held", "pending", "unpaid", "available")}
    assert shown == {"total": 10, "sold": 2, "held": 4, "pending": 3, "unpaid": 1, "available": 4}
    assert (sale["event_id"], sale["on_sale"], sale["status"]) == (till.event.id, True, "active")
    assert now["counters"]["admitted"] - before["counters"]["admitted"] == 3
    assert now["counters"]["confirmed"] - before["counters"]["confirmed"] == 1
    assert sum(now["counters"]["accept_to_commit"]["counts"]) > sum(before["counters"]["accept_to_commit"]["counts"])
    assert [(each["shard"], each["gate"]) for each in now["shards"]] == [(0, "open"), (1, "open")]
    assert (now["shards"][1]["backlog"], now["shards"][1]["holds"], now["workers"]) == (1, 1, [])
    assert {each["kind"] for each in now["money"]} == {"capture", "void", "refund", "owed"}
    assert now["at_ms"] > before["at_ms"] and await till.state(sold)


async def test_alerts_stand_as_the_figures_do(ops: httpx2.AsyncClient) -> None:
    """No worker lives here: that is true, and not yet for as long as the rule asks."""
    found = {each["name"]: each for each in (await ops.get("/v1/ops/alerts")).json()["data"]}
    assert (found["BoxofficeNoWorker"]["state"], found["BoxofficeGateClosed"]["state"]) == ("pending", "quiet")
    assert found["BoxofficeDown"]["state"] == "unknown"
    assert found["BoxofficeNoWorker"]["runbook"] == "docs/operations.md#boxofficenoworker"


async def test_a_booking_is_found_and_its_three_truths_told(ops: httpx2.AsyncClient, till: Till) -> None:
    booking = await till.book(GA=2)
    await till.rest_bookings()
    customer = (await till.office.database.fetchrow("SELECT customer_id FROM bookings"))["customer_id"]
    for text, found_by in ((booking, "id"), (customer, "customer")):
        (match,) = (await ops.get("/v1/ops/bookings", params={"text": text})).json()["data"]
        assert (match["booking"]["id"], match["found_by"], match["booking"]["status"]) == (
            booking,
            found_by,
            "confirmed",
        )
    dossier = (await ops.get(f"/v1/ops/bookings/{booking}")).json()
    assert dossier["redis"]["state"] == "confirmed"
    assert dossier["postgres"]["booking"][0]["status"] == "confirmed"
    assert [each["answer"] for each in dossier["gateway"].values()] == ["Found"]
    assert (await ops.get("/v1/ops/bookings", params={"text": "nobody"})).json() == {"data": [], "redis_away": False}
    assert_problem(await ops.get("/v1/ops/bookings/nothing"), 404, "not-found")
    assert_problem(
        await ops.get("/v1/ops/bookings", params={"text": "4242424242424242"}), 422, "card-data-not-accepted"
    )
    assert_problem(await ops.get("/v1/ops/bookings", params={"text": "a\0b"}), 400, "malformed-request")


async def test_a_booking_is_found_by_its_id_without_a_look_through_redis(
    ops: httpx2.AsyncClient, till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sold, held, and ended unpaid: the process that is asked sells tickets, too."""
    sold = await till.book(GA=2)
    await till.rest_bookings()
    held, ended = await till.hold(GA=1), await till.hold(GA=1)
    await ops.post(f"/v1/ops/bookings/{ended}/cancel")

    real, looked = finding.records, list[int]()

    async def sweep(shard: Shard, *, ended: bool) -> AsyncIterator[Record]:
        looked.append(shard.number)
        async for record in real(shard, ended=ended):
            yield record

    monkeypatch.setattr(finding, "records", sweep)
    for booking, status in ((sold, "confirmed"), (held, "held"), (ended, "cancelled")):
        (match,) = (await ops.get("/v1/ops/bookings", params={"text": booking.upper()})).json()["data"]
        assert (match["booking"]["id"], match["found_by"], match["booking"]["status"]) == (booking, "id", status)
    assert looked == []
    await ops.get("/v1/ops/bookings", params={"text": "ada"})
    assert looked == [0, SHARD], "anything else is looked for there"


async def test_one_at_a_time_looks_through_redis(
    ops: httpx2.AsyncClient, till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, begun, go_on = finding.records, asyncio.Event(), asyncio.Event()

    async def slow(shard: Shard, *, ended: bool) -> AsyncIterator[Record]:
        begun.set()
        await go_on.wait()
        async for record in real(shard, ended=ended):
            yield record

    monkeypatch.setattr(finding, "records", slow)
    held = await till.hold(GA=1)
    look = {"text": "ada", "ended": "true"}
    first = asyncio.create_task(ops.get("/v1/ops/bookings", params=look))
    await asyncio.wait_for(begun.wait(), 10)
    second = await asyncio.wait_for(ops.get("/v1/ops/bookings", params=look), 10)
    assert_problem(second, 503, "overloaded")
    assert second.headers["retry-after"] == "2"
    go_on.set()
    for answer in (await first, await ops.get("/v1/ops/bookings", params=look)):
        assert [match["booking"]["id"] for match in answer.json()["data"]] == [held]


async def test_a_capacity_is_not_changed_over_another_operators_head(ops: httpx2.AsyncClient, till: Till) -> None:
    """By the version that the figures told."""
    path = f"/v1/events/{till.event.id}"
    (sale,) = (await ops.get("/v1/ops/figures")).json()["sales"]
    version = {"If-Match": f'"{sale["version"]}"'}
    tier = f"{path}/tiers/{tier_of(till.event, 'GA')}"
    assert (await ops.patch(tier, json={"capacity": 25}, headers=version)).status_code == 200
    assert (await ops.patch(tier, json={"capacity": 5}, headers=version)).status_code == 412
    assert (await till.left("GA"))[0] == 25


async def test_a_refund_at_the_desk_is_made_once(ops: httpx2.AsyncClient, till: Till) -> None:
    booking = await till.book(GA=3)
    await till.rest_bookings()
    path, key = f"/v1/ops/bookings/{booking}/refund", {"Idempotency-Key": "k"}
    body = {"items": [{"tier_id": tier_of(till.event, "GA"), "quantity": 1}], "reason": "The seat was broken."}
    assert_problem(await ops.post(path, json=body), 400, "malformed-request")
    assert_problem(await ops.post(path, json={}, headers=key), 400, "malformed-request")
    assert_problem(await ops.post(path, json={"items": "owed"}, headers=key), 400, "malformed-request")
    first, again = [await ops.post(path, json=body, headers=key) for _ in range(2)]
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json()["id"] == again.json()["id"] and first.json()["amount_cents"] == 1_000
    assert (await till.left("GA"))[0] == 8
    everything = await ops.post(path, json={"items": "all"}, headers={"Idempotency-Key": "all"})
    assert (everything.json()["amount_cents"], everything.json()["booking_status"]) == (2_000, "cancelled")
    done = [each for each in await deeds(ops) if each["verb"] == "refund"]
    assert [each["outcome"] for each in done] == ["refunded", "repeated", "refunded"]
    assert {(each["by"], each["booking_id"]) for each in done} == {(by(ops), booking)}
    answer = await ops.post(path, json=body, headers={"Idempotency-Key": "more"})
    assert_problem(answer, 409, "not-done")


async def test_a_hold_is_cancelled_at_the_desk(ops: httpx2.AsyncClient, till: Till) -> None:
    hold = await till.hold(GA=2)
    answer = await ops.post(f"/v1/ops/bookings/{hold}/cancel", json={"reason": "by phone"})
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    assert (await till.left("GA"))[0] == 10
    (done,) = [each for each in await deeds(ops) if each["verb"] == "cancel"]
    assert (done["by"], done["reason"], done["outcome"]) == (by(ops), "by phone", "cancelled")
    assert_problem(await ops.post("/v1/ops/bookings/nothing/cancel"), 409, "not-done")


async def test_parked_bookings_are_listed_tried_again_and_failed(ops: httpx2.AsyncClient, till: Till) -> None:
    booking = await till.book(GA=2)
    await till.office.redis.set(keys.booking(SHARD, booking), b"nonsense")
    await till.drain()
    (parked,) = (await ops.get("/v1/ops/parked")).json()["data"]
    assert (parked["booking_id"], parked["event_id"], "unreadable" in parked["error"]) == (booking, None, True)
    assert (await ops.post(f"/v1/ops/parked/{booking}/retry")).status_code == 202
    assert (await ops.get("/v1/ops/parked")).json()["data"] == []
    assert_problem(await ops.post(f"/v1/ops/parked/{booking}/retry"), 404, "not-found")
    await till.drain()
    ended = (await ops.post(f"/v1/ops/parked/{booking}/fail")).json()
    assert (ended["booking_id"], ended["stock"]) == (booking, "recount")
    assert await till.left("GA") == (10, 0, 0)
    assert [(each["verb"], each["by"]) for each in await deeds(ops) if each["booking_id"]] == [
        ("fail", by(ops)), ("retry", by(ops)),
    ]  # fmt: skip


async def test_an_event_is_compared_before_it_is_mended(ops: httpx2.AsyncClient, till: Till) -> None:
    """The look says the difference in numbers and changes nothing; to mend has to be said."""
    tier = tier_of(till.event, "GA")
    counted = keys.event(SHARD, till.event.id)
    await till.office.redis.hincrby(counted, f"a:{tier}", -3)  # type: ignore[misc]
    await till.office.redis.hincrby(counted, f"h:{tier}", 3)  # type: ignore[misc]
    path = f"/v1/ops/events/{till.event.id}/reconcile"
    assert_problem(await ops.post(path), 400, "malformed-request")
    found = (await ops.post(path, json={"fix": False})).json()
    drift = next(each["drift"] for each in found["tiers"] if each["code"] == "GA")
    assert (found["result"], drift) == ("drift", {"available": -3, "held": 3, "sold": 0, "total": 0})
    assert (await counters(till.office, till.event, "GA")).held == 3
    assert (await ops.post(path, json={"fix": True})).json()["result"] == "fixed"
    assert (await counters(till.office, till.event, "GA")).held == 0
    (done,) = [each for each in await deeds(ops) if each["verb"] == "reconcile"]
    assert (done["by"], done["outcome"], till.event.id in done["reason"]) == (by(ops), "fixed", True)
    assert_problem(await ops.post("/v1/ops/events/nothing/reconcile", json={"fix": True}), 404, "not-found")
    await till.office.redis.delete(keys.gate(SHARD))
    assert_problem(await ops.post(path, json={"fix": True}), 503, "gate-closed")


async def test_an_event_is_told_in_figures(ops: httpx2.AsyncClient, till: Till) -> None:
    await till.book(GA=2)
    await till.rest_bookings()
    await till.hold(GA=1)
    found = (await ops.get(f"/v1/ops/events/{till.event.id}")).json()
    tier = next(each for each in found["tiers"] if each["code"] == "GA")
    assert (found["bookings"], found["customers"]) == ({"confirmed": 1}, 1)
    assert (tier["sold"], tier["held"], tier["available"], tier["revenue_cents"]) == (2, 1, 7, 2_000)
    assert_problem(await ops.get("/v1/ops/events/nothing"), 404, "not-found")


async def test_an_operator_manages_every_shops_events(ops: httpx2.AsyncClient, till: Till) -> None:
    """With the routes that shops have; what makes something belongs to a shop, and takes a key that manages."""
    path, tier = f"/v1/events/{till.event.id}", tier_of(till.event, "GA")
    assert (await ops.post(f"{path}/pause")).json()["status"] == "paused"
    assert (await ops.post(f"{path}/resume")).json()["status"] == "active"
    assert (await ops.patch(path, json={"status": "inactive"})).json()["status"] == "inactive"
    assert (await ops.patch(path, json={"status": "active"})).json()["status"] == "active"
    changed = await ops.patch(f"{path}/tiers/{tier}", json={"capacity": 25})
    assert changed.json()["capacity_change"] == {"before": 10, "asked": 25, "after": 25}
    assert (await ops.post(f"{path}/call-off", json={"reason": "Fire."})).status_code == 202
    assert (await ops.get(f"{path}/call-off")).json()["called_off_by"] == by(ops)
    told = [each["action"] for each in (await ops.get(f"{path}/history")).json()["data"]]
    assert told[:3] == ["call_off", "edit_tier", "edit"]
    mine = [each for each in await deeds(ops) if each["by"] == by(ops)]
    assert [each["verb"] for each in mine] == ["call_off", "edit_tier", "edit", "edit", "resume", "pause"]
    assert mine[1]["changes"] == {"capacity": {"from": 10, "to": 25}}
    for answer in (
        await ops.post("/v1/events", json={}),
        await ops.post(f"{path}/tiers", json={}),
        await ops.post(f"{path}/access-codes", json={}),
    ):
        assert assert_problem(answer, 403, "forbidden")["scope"] == "manage"


async def test_an_api_with_the_least_rights_is_refused_nothing(
    office: BoxOffice, till: Till, settings: Settings, least_rights: LeastRights
) -> None:
    """Of what operators do through it: it mends counters and fails bookings with the rights of an API."""
    parked, sold = await till.book(GA=1), await till.book(GA=1)
    await office.redis.set(keys.booking(SHARD, parked), b"nonsense")
    await till.rest_bookings()
    await office.redis.hincrby(keys.event(SHARD, till.event.id), f"a:{tier_of(till.event, 'GA')}", -3)  # type: ignore[misc]
    least_rights.refusals()
    own = settings.model_copy(update=least_rights.urls("api", settings))
    key = await office.access.create_api_key(OTHER, Grant(("ops",)))
    async with open_box_office(own) as here:
        token, _ = await here.sessions.begin(key)
        assert (await here.sessions.caller_of(token)).client == OTHER
        await here.sessions.end(token)
        assert (await here.watching.figures()).sales
        assert (await here.finder.find(sold, 5)).matches
        assert await here.dossiers.of(sold)
        await here.figures.stats(till.event.id)
        await here.operating.retry(parked, "key:x")
        await till.drain()
        await here.operating.fail(parked, "key:x")
        assert (await here.operating.reconcile(till.event.id, "key:x", fix=True)).word in ("fixed", "same")
        await here.desk.refund(sold, "key:x", None, "why", "k")
        await here.desk.cancel(await till.hold(GA=1), "key:x")
        assert len(await here.operating.history(50)) >= 5
    assert least_rights.refusals() == []


def parked_away(office: BoxOffice, patch: pytest.MonkeyPatch, letter: DeadLetter) -> None:
    """Redis is there when the deed is begun, and away in its midst."""
    looks = iter([[letter]])

    async def read(*_: object, **__: object) -> list[DeadLetter]:
        found = next(looks, None)
        if found is None:
            raise RedisAway
        return found

    patch.setattr(parked_module, "read_parked", read)


@pytest.mark.parametrize("verb", ["retry", "fail"])
async def test_a_store_that_goes_away_in_mid_deed_has_refused_nothing(
    ops: httpx2.AsyncClient, office: BoxOffice, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """It may have been done: it is to be asked for again, and its line says nothing of how it ended."""
    booking = ids.booking_id(SHARD, 1)
    parked_away(office, monkeypatch, DeadLetter(booking, "", 5, "", None, b""))

    answer = await ops.post(f"/v1/ops/parked/{booking}/{verb}")

    assert_problem(answer, 503, "store-away")
    assert answer.headers["retry-after"]
    monkeypatch.undo()
    assert [(each["verb"], each["outcome"]) for each in await deeds(ops) if each["booking_id"] == booking] == [
        (verb, None)
    ]


@pytest.mark.parametrize("error", [RedisAway, OutOfMemoryError])
async def test_a_redis_that_is_away_while_counters_are_compared_is_no_fault_of_ours(
    ops: httpx2.AsyncClient,
    office: BoxOffice,
    event: EventView,
    monkeypatch: pytest.MonkeyPatch,
    error: type[Exception],
) -> None:
    async def away(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Repair, "one", away)
    for fix in (False, True):
        answer = await ops.post(f"/v1/ops/events/{event.id}/reconcile", json={"fix": fix})
        assert_problem(answer, 503, "store-away")
    assert [(each["verb"], each["outcome"]) for each in await deeds(ops) if each["verb"] == "reconcile"] == [
        ("reconcile", None)
    ]


async def test_a_redis_that_is_away_at_the_desk_is_no_fault_of_ours(
    ops: httpx2.AsyncClient, office: BoxOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise RedisAway

    monkeypatch.setattr(Finder, "owner", away)
    answer = await ops.post(f"/v1/ops/bookings/{ids.booking_id(SHARD, 1)}/cancel", json={"reason": "they asked"})
    assert_problem(answer, 503, "store-away")
