"""The sales that are measured against each other have what they say, and take bookings."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from bench.rules import CODES, PLAIN, PLENTY, WAYS, WHOLE, Way, open_sale, row
from boxoffice.office import BoxOffice
from boxoffice.sales.rules import NONE, Rules
from tests.conftest import load_all
from tests.support.shop.office import book


def figures(*cpu: tuple[float, float]) -> list[dict[str, Any]]:
    return [{"cpu_us": {"api": api, "redis": redis}} for api, redis in cpu]


def test_a_line_says_what_it_costs_and_whether_that_is_too_much() -> None:
    plain = figures((100, 10), (100, 10), (200, 20))
    assert row("x", figures((104, 11), (105, 10), (210, 22)), plain) == (
        "| x | 1.045 | 1.05 to 1.05 | 1.050 | 1.100 | met |\n"
    )
    assert row("x", figures((110, 10), (106, 10), (212, 20)), plain).endswith("missed |\n")


def test_each_part_is_measured_alone_and_all_of_them_together() -> None:
    ways = [*WAYS.values()]
    assert PLAIN not in ways
    assert Way(codes=True) in ways, "what a booking without a code pays for those of others"
    assert ways[-1] == Way(True, True, True, True, True)
    assert WHOLE == ("a code", "all of it") and {WAYS[name].coded for name in WHOLE} == {True}


@pytest.mark.parametrize("name", [None, *WAYS])
async def test_a_sale_has_what_its_way_says(office: BoxOffice, name: str | None) -> None:
    await load_all(office)
    way = PLAIN if name is None else WAYS[name]
    stage: Any = SimpleNamespace(office=office, secrets=[])
    sale = await open_sale(stage, way)

    event, rules = sale.event, Rules(1, PLENTY, 1, PLENTY) if way.limits else NONE
    assert (event.rules, event.tiers[0].rules) == (rules, rules)
    for times in (event.on_sale_at, event.off_sale_at, event.tiers[0].on_sale_at, event.tiers[0].off_sale_at):
        assert bool(times) is way.windows
    assert len(await office.codes.page(event.id)) == (CODES if way.codes else 0)
    bodies = [json.loads(request.partition(b"\r\n\r\n")[2]) for request in sale.bookings("run")]
    assert len({body.get("access_code") for body in bodies}) == len(bodies) == (CODES if way.coded else 1)
    assert ("access_code" in bodies[0]) is way.coded
    pool = await office.pool()
    scopes = await pool.fetchval("SELECT scopes FROM api_keys WHERE client_id = $1", sale.client)
    assert (scopes == "book") is way.scopes
    admitted = await book(office, event, client=sale.client, T00=1, access_code=sale.codes[0] if sale.codes else "")
    assert admitted.booking_id
