"""The operator of a rush: a seed decides what it changes; what it remembers is what it was told."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import pytest

from boxoffice.sales.catalogue import EventView, TierView
from ops.rush.agreed import Aside, Code
from ops.rush.http_client import Answer
from ops.rush.operating import EVERY_S, LATEST, Change, Operator, Pause, Price, draw_changes

TIERS = tuple(TierView(name, name, name, price, 100, True) for name, price in (("floor", 1_000), ("guest", 0)))
EVENTS = [EventView(f"e{n}", "Rush", "2030-01-01T00:00:00Z", 0, "active", "USD", 0, 0, TIERS) for n in range(2)]
FLOOR = "/v1/events/e0/tiers/floor"


class Shop:
    """Notes what is asked, and answers what it is given, in turn; `None` is no answer."""

    def __init__(self, *answers: dict[str, Any] | int | None) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, str, Any]] = []
        self.keys: list[str] = []

    async def insist(self, method: str, path: str, key: str, number: int, body: bytes = b"") -> Answer | None:
        self.asked.append((method, path, json.loads(body) if body else None))
        self.keys.append(key)
        answer = self.answers.pop(0) if self.answers else {}
        if isinstance(answer, int):
            return Answer(answer, b"", b"{}")
        return None if answer is None else Answer(200, b"", json.dumps(answer).encode())


CODES = {"e1": [Code(f"c{n}", f"AAAA-BBBB-CCCC-000{n}", "e1", 5) for n in range(2)]}


def operator(shop: Any) -> Operator:
    ticks = iter(range(1, 1_000))
    return Operator(shop, EVENTS, lambda: float(next(ticks)), CODES)


async def work(shop: Shop, *changes: Change) -> Operator:
    found = operator(shop)
    await found.work(list(changes), asyncio.get_running_loop().time())
    return found


def test_the_seed_decides_what_is_changed_and_when() -> None:
    assert draw_changes(60, 7) == draw_changes(60, 7) != draw_changes(60, 8)


@pytest.mark.parametrize("seconds", [1.0, 12.0, 60.0])
def test_all_kinds_come_in_order_and_capacities_both_ways(seconds: float) -> None:
    found = draw_changes(seconds, 3)
    assert [change.at_s for change in found] == sorted(change.at_s for change in found)
    assert 0 <= found[0].at_s <= found[-1].at_s <= seconds * LATEST
    counts = Counter(change.kind for change in found)
    assert counts == {kind: max(1, round(seconds / every_s)) for kind, every_s in EVERY_S.items()}
    shares = [change.share for change in found if change.kind == "capacity"]
    assert [share < 1 for share in shares] == [at % 2 == 0 for at in range(len(shares))]


def test_as_often_as_asked_for() -> None:
    found = draw_changes(60, 3, {"capacity": 0.3, "pause": 1.2})
    assert Counter(change.kind for change in found) == {"capacity": 200, "pause": 50}


async def test_a_pause_lasts_from_its_answer_to_the_question_for_its_end() -> None:
    shop = Shop()
    found = await work(shop, Change(0, "pause", 0.0, 1))
    assert shop.asked == [("POST", "/v1/events/e1/pause", None), ("POST", "/v1/events/e1/resume", None)]
    assert found.changes.pauses == [Pause("e1", 1.0, 2.0)]
    assert found.changes.made == {"paused": 1, "resumed": 1}
    assert len(set(shop.keys)) == 2


@pytest.mark.parametrize("answer", [None, 404])
async def test_a_pause_that_nobody_confirmed_is_ended_all_the_same(answer: int | None) -> None:
    shop = Shop(answer)
    found = await work(shop, Change(0, "pause", 0.0, 0))
    assert [path for _, path, _ in shop.asked] == ["/v1/events/e0/pause", "/v1/events/e0/resume"]
    assert (found.changes.pauses, found.changes.made) == ([], {"unanswered": 1, "resumed": 1})


async def test_a_capacity_is_what_was_told_last_not_what_was_asked_for() -> None:
    shop = Shop({"capacity_change": {"after": 90}}, {"capacity_change": {"after": 135}}, None)
    down, up = Change(0, "capacity", 0.5, 0), Change(0, "capacity", 1.5, 0)
    found = await work(shop, down, up, down, up)
    assert [body for _, _, body in shop.asked] == [{"capacity": 50}, {"capacity": 135}, {"capacity": 68}]
    assert {path for _, path, _ in shop.asked} == {FLOOR}
    assert found.changes.capacities == {"floor": None, "guest": 100}
    assert found.changes.made == {"capacity lowered": 1, "capacity raised": 1, "unanswered": 1}


async def test_prices_are_remembered_with_when_they_were_asked_for_and_answered() -> None:
    """No two are the same, so that a booking tells by its price when it was let in. What is free stays free."""
    shop = Shop({}, None, {})
    change = Change(0, "price", 2.0, 0)
    found = await work(shop, change, change, change._replace(share=1.0))
    assert [body for _, _, body in shop.asked] == [{"price_cents": cents} for cents in (2_000, 2_001, 1_001)]
    first, *prices = found.changes.prices["floor"]
    assert first == Price(1_000)
    assert [(price.cents, price.sent_s) for price in prices] == [(2_000, 1.0), (2_001, 3.0), (1_001, 4.0)]
    assert [price.answered_s for price in prices] == [2.0, float("inf"), 5.0]
    assert found.changes.prices["guest"] == [Price(0)]


async def test_a_code_is_revoked_from_its_answer_on() -> None:
    """One whose revocation nobody confirmed may let in, or not; of two answers the first counts."""
    shop = Shop({}, None, {})
    first, second = Change(0, "revoke", 1.0, 1), Change(0, "revoke", 1.0, 3)
    found = await work(shop, first, second, first._replace(which=5), Change(0, "revoke", 1.0, 0))
    path = "/v1/events/e1/access-codes/{}/revoke"
    assert shop.asked == [("POST", path.format(code), None) for code in ("c0", "c1", "c0")], "e0 has no codes"
    assert found.changes.revoked == {CODES["e1"][0].digest: 1.0}
    assert found.changes.made == {"code revoked": 2, "unanswered": 1}


async def test_tickets_are_set_aside_of_the_first_capacity_for_whom_it_draws() -> None:
    shop = Shop({}, {"data": []})
    aside = Aside("floor", "partner", CODES["e1"][0])
    found = Operator(shop, EVENTS, aside={"e1": aside})  # type: ignore[arg-type]
    found.changes.capacities["floor"] = 7
    changes = [Change(0, "aside", 0.25, which) for which in (0, 1)]
    await found.work(changes, asyncio.get_running_loop().time())
    path = "/v1/events/e1/allocations"
    asked = {"tier_id": "floor", "tickets": 25, "shop": "partner"}
    assert shop.asked == [("POST", path, asked), ("GET", path, None)], "nothing is set aside of e0"
    assert (found.changes.made, found.changes.aside) == ({"set aside": 1}, {"e1": []})


async def test_each_comes_at_its_time() -> None:
    began = asyncio.get_running_loop().time()
    await work(Shop(), Change(0.0, "price", 2.0, 0), Change(0.1, "price", 2.0, 0))
    assert asyncio.get_running_loop().time() - began >= 0.1
