"""A payment belongs to one gateway's books, and no other gateway is asked about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from boxoffice.errors import CannotRun
from boxoffice.gateway.accounts import same_books
from boxoffice.gateway.factory import open_gateway, open_simulator
from boxoffice.gateway.simulator.ledger import Ledger
from boxoffice.office import open_box_office
from boxoffice.settings import Settings
from tests.support.gateways import http_world, stripe_world, with_gateway
from tests.support.shop.office import Till


@pytest.mark.parametrize(
    ("row", "ours", "same"),
    [
        ("simulator", "simulator/1a", True),
        ("http", "simulator/1a", True),
        ("simulator/1a", "simulator/1a", True),
        ("simulator/1a", "simulator", True),
        ("simulator/1a", "simulator/2b", False),
        ("stripe", "stripe/test/acct_1", True),
        ("stripe/test", "stripe/test/acct_1", True),
        ("stripe/test", "stripe/live/acct_1", False),
        ("stripe/live/acct_1", "stripe/live/acct_2", False),
        ("stripe/live/acct_1", "stripe/live/acct_12", False),
        ("simulator/1a", "stripe/test", False),
        ("stripe", "simulator/1a", False),
    ],
)
async def test_whose_books(row: str, ours: str, same: bool, till: Till) -> None:
    """In Python as in SQL."""
    from boxoffice.gateway.accounts import WRITTEN_IN, written_in

    assert same_books(row, ours) == same
    query = f"SELECT {WRITTEN_IN.format('$1', '$2')} FROM (SELECT $3::text AS gateway) AS row"
    assert await (await till.office.pool()).fetchval(query, *written_in(ours), row) == same


async def test_a_ledger_keeps_its_identity(tmp_path: Path) -> None:
    first, again, other = (Ledger(tmp_path / name) for name in ("a", "a", "b"))
    assert first.identity == again.identity != other.identity
    for ledger in (first, again, other):
        ledger.close()


async def test_gateways_say_whose_books_they_keep(settings: Settings) -> None:
    inside = open_simulator(settings)
    async with http_world(settings) as http, stripe_world(settings) as stripe:
        await http.gateway.trouble()
        assert http.gateway.books == inside.books, "one ledger, whoever is asked"
        assert stripe.gateway.books == "stripe/test"
        await stripe.gateway.trouble()
        assert stripe.gateway.books == "stripe/test/acct_stand_in"
        live = open_gateway(with_gateway(settings, kind="stripe", api_key="rk_live_1", url="http://127.0.0.1:9"))
        assert (await live.trouble(), live.books) == ("", "stripe/live")
        await live.close()
    await inside.close()


async def elsewhere(till: Till, tmp_path: Path, **gateway: Any) -> list[Any]:
    """The audit, in a shell that knows the stores and another gateway."""
    settings = with_gateway(till.office.settings, **gateway).model_copy(update={"data_dir": tmp_path / "elsewhere"})
    async with open_box_office(settings, redis_retries=3) as office:
        return [found async for found in office.payments_audit.run(fix=True, grace_s=0)]


@pytest.mark.parametrize("captured", [True, False])
async def test_an_audit_at_another_ledger_is_refused(till: Till, tmp_path: Path, captured: bool) -> None:
    """It used to call every payment unknown; and the first of a sale are authorised before one is captured."""
    await till.book(GA=1)
    if captured:
        await till.rest()
    else:
        await till.drain()
        till.office.pump.given.clear()
    with pytest.raises(CannotRun, match="All payments stand in other books"):
        await elsewhere(till, tmp_path)


@pytest.mark.parametrize("name", ["simulator", "http"])
async def test_rows_of_before_are_refused_when_none_is_known(till: Till, tmp_path: Path, name: str) -> None:
    await till.book(GA=1)
    await till.rest()
    await (await till.office.pool()).execute("UPDATE payments SET gateway = $1", name)
    assert [found async for found in till.office.payments_audit.run(fix=False, grace_s=0)] == []
    with pytest.raises(CannotRun, match="knows none of our 1 payments"):
        await elsewhere(till, tmp_path)


async def test_a_gateway_that_refuses_us_is_no_audit(till: Till, tmp_path: Path, settings: Settings) -> None:
    async with stripe_world(settings) as world:
        assert world.stand_in is not None
        with pytest.raises(CannotRun, match="invalid_api_key"):
            await elsewhere(till, tmp_path, kind="stripe", url=world.stand_in.base_url, api_key="sk_test_wrong")


async def test_rows_of_another_gateway_are_listed_apart(till: Till) -> None:
    """They are neither unknown nor anybody's to capture, void or refund here."""
    ours, theirs = await till.book(GA=1), await till.book(GA=2)
    await till.rest()
    pool = await till.office.pool()
    await pool.execute("UPDATE payments SET gateway = 'stripe/live/acct_1' WHERE booking_id = $1", theirs)
    audit = till.office.payments_audit
    assert [found async for found in audit.run(fix=True, grace_s=0)] == []
    assert audit.others == {"stripe/live/acct_1": 1}
    dossier = await till.office.dossiers.of(theirs)
    assert [found["answer"] for found in dossier["gateway"].values()] == ["NotAsked"]
    assert [found["answer"] for found in (await till.office.dossiers.of(ours))["gateway"].values()] == ["Found"]


async def test_what_is_due_at_another_gateway_waits_for_it(till: Till) -> None:
    booking = await till.book(GA=1)
    await till.drain()
    till.office.pump.given.clear()
    pool = await till.office.pool()
    await pool.execute("UPDATE payments SET gateway = 'stripe/live/acct_1', due_at = now(), leased_until = NULL")
    await till.office.pump.work_outbox()
    assert await till.payments(booking) == ["authorized/capture"]
    with capture_logs() as said:
        await till.office.pump.say_what_others_owe()
    assert [(line["event"], line["gateway"], line["payments"]) for line in said] == [
        ("money.of_another_gateway", "stripe/live/acct_1", 1)
    ]
    await pool.execute("UPDATE payments SET gateway = 'simulator'")
    await till.at_rest(booking)
