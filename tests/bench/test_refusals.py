"""Each refusal that is measured is one, of as many bookings as are asked for."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from bench.refusals import FEW, ONE, REFUSALS, requests_of, row
from bench.stage import Sale
from boxoffice import ids
from boxoffice.access.rates import Allowance, decline_terms
from boxoffice.errors import DeclinedTooOften
from boxoffice.office import BoxOffice
from tests.conftest import CLIENT, SaleMaker
from tests.support.shop.orders import KEY, order


def test_a_line_says_what_it_costs_and_whether_that_is_too_much() -> None:
    accepted = [{"cpu_us": {"api": api, "redis": 50}} for api in (150, 150, 350)]
    cheap = [{"cpu_us": {"api": api, "redis": 10}} for api in (90, 80, 190)]
    assert row("x", cheap, accepted) == "| x | 0.500 | 0.45 to 0.50 | 0.543 | 0.200 | met |\n"
    assert row("x", [{"cpu_us": {"api": 93, "redis": 10}}] * 3, accepted).endswith("missed |\n")


@pytest.mark.parametrize("name", REFUSALS)
async def test_the_requests_are_whole(open_sale: SaleMaker, name: str) -> None:
    """And those of one customer are one customer's."""
    refusal = REFUSALS[name]
    sale = Sale(CLIENT, KEY, await open_sale(GA=9))
    (request,) = requests_of(refusal, sale, "run")
    head, _, body = request.partition(b"\r\n\r\n")
    assert b"Content-Length: %d" % len(body) in head
    assert (json.loads(body)["customer_id"] == ONE) is refusal.one_customer
    assert (KEY.encode() in head) is not bool(refusal.api_key)


async def test_they_are_refused_as_they_say(office: BoxOffice, open_sale: SaleMaker) -> None:
    stage: Any = SimpleNamespace(office=office)
    event = await open_sale(GA=9)
    await office.catalogue.refresh()
    sale = Sale(CLIENT, KEY, event)
    await REFUSALS["429, the key is over its limit"].prepare(stage, sale)
    pool = await office.pool()
    assert await pool.fetchval("SELECT rate_max FROM api_keys WHERE prefix = $1", KEY.partition(".")[0]) == FEW
    await REFUSALS["429, too many declined payments"].prepare(stage, sale)
    terms = Allowance(declines=decline_terms(office.settings.declines))
    told = await office.admission.ask(CLIENT, order(event, customer=ONE, GA=1), ids.digest("k"), terms)
    assert isinstance(told, DeclinedTooOften)
