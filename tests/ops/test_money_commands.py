"""`boxoffice dead`, `bookings`, `payments`: what an operator types, reads, and gets as an exit code."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from boxoffice import ids
from boxoffice.errors import CannotRun, NotFound
from boxoffice.gateway.base import AuthorizeRequest
from boxoffice.office import BoxOffice
from boxoffice.settings import Settings
from boxoffice.stores import keys
from ops.cli import app, commands
from tests.conftest import SHARD, load_all
from tests.support.shop.office import Till

runner = CliRunner()


@pytest.fixture(scope="module", autouse=True)
def registered() -> None:
    names = {group.name for group in app.registered_groups}
    for command in commands():
        if command.__name__.rpartition(".")[2] not in names:
            command.register(app)


@pytest.fixture(autouse=True)
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    monkeypatch.setenv("BOXOFFICE_DATA_DIR", str(settings.data_dir))
    yield


@pytest.fixture
async def till(office: BoxOffice, open_sale: Any) -> Till:
    await load_all(office)
    return Till(office, await open_sale(GA=10))


async def run(*arguments: str) -> tuple[int, str]:
    """The command in a thread of its own, because it brings its own event loop."""
    result = await asyncio.to_thread(runner.invoke, app, list(arguments))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


async def test_parked_bookings(till: Till) -> None:
    assert await run("dead", "list") == (0, "No booking is parked.\n")
    booking = await till.book(GA=2)
    await till.office.redis.set(keys.booking(SHARD, booking), b"nonsense")
    await till.drain()

    code, said = await run("dead", "list")
    assert (code, booking in said, "unreadable" in said) == (0, True, True)
    assert json.loads((await run("dead", "list", "--json"))[1])[0]["readable"] is False
    assert "unreadable" in (await run("dead", "show", booking))[1]
    assert (await run("dead", "retry", booking))[0] == 0
    await till.drain()
    code, said = await run("dead", "fail", booking)
    assert (code, "recount" in said) == (0, True)
    assert await till.left("GA") == (10, 0, 0)


async def test_all_parked_bookings_are_tried_again(till: Till) -> None:
    """First a look, then the deed: exit code 1 tells that there is something to do, or that it did not end."""
    assert await run("dead", "retry", "--all") == (0, "No booking is parked.\n")
    booked = [await till.book(GA=1) for _ in range(3)]
    raws = [await till.office.redis.get(keys.booking(SHARD, booking)) for booking in booked]
    for booking in booked:
        await till.office.redis.set(keys.booking(SHARD, booking), b"nonsense")
    await till.drain()

    code, said = await run("dead", "retry", "--reason", "unreadable", "--dry-run")
    assert (code, said.count("unreadable"), "3 would be" in said) == (1, 3, True)
    assert (await run("dead", "retry", "--event", "elsewhere000", "--dry-run"))[0] == 0
    assert await till.office.redis.zcard(keys.dead(SHARD)) == 3
    assert (await run("dead", "retry"))[0] == 2
    assert (await run("dead", "retry", booked[0], "--all"))[0] == 2
    code, said = await run("dead", "retry", "--all", "--wait", "0.3")
    assert (code, said) == (1, "0 have ended, 3 are waiting, 0 are parked again.\n")
    for booking, raw in zip(booked, raws, strict=True):
        await till.office.redis.set(keys.booking(SHARD, booking), raw)
    await till.rest()
    assert [await till.state(booking) for booking in booked] == 3 * ["C confirmed"]


async def test_one_booking_side_by_side(till: Till) -> None:
    booking = await till.book(GA=2)
    await till.rest()
    code, said = await run("bookings", "show", booking)
    assert code == 0
    for name in ("redis:", "postgres:", "gateway:", "confirmed", "captured"):
        assert name in said
    dossier = json.loads((await run("bookings", "show", booking, "--json"))[1])
    assert dossier["redis"]["state"] == "confirmed"


async def test_the_audits_exit_code(till: Till, settings: Settings) -> None:
    """0 when the books agree, 1 when they differ, 2 when all of it was mended."""
    await till.book(GA=2)
    await till.rest()
    assert await run("payments", "audit", "--grace", "0") == (0, "The gateway's books and ours agree.\n")
    await till.gateway.authorize(
        AuthorizeRequest(ids.digest("stray"), ids.booking_id(SHARD, 1), 500, "USD", "card", "tok_ok_4242")
    )
    code, said = await run("payments", "audit", "--grace", "0")
    assert (code, "authorized_without_booking" in said) == (1, True)
    code, said = await run("payments", "audit", "--grace", "0", "--fix", "--json")
    assert (code, json.loads(said)[0]["mended"]) == (2, True)
    assert (await run("payments", "audit", "--grace", "0"))[0] == 0


async def test_what_is_owed(till: Till) -> None:
    """Listed, tried again, written off. The audit tells of it, and the books agree."""
    assert await run("payments", "owed") == (0, "Nothing is owed.\n")
    assert (await run("payments", "retry", "--all"))[:2] == (0, "Nothing is owed.\n")
    booking = await till.book("tok_refund_refused", GA=2)
    await till.rest()
    await till.cancel(booking)
    await till.pump()

    code, said = await run("payments", "owed")
    assert (code, booking in said, "2000 USD" in said or "20.00 USD" in said) == (0, True, True)
    (owed,) = json.loads((await run("payments", "owed", "--json"))[1])
    assert (owed["booking"], owed["amount_cents"], owed["failure_code"]) == (booking, 2_000, "refund_failed")
    code, said = await run("payments", "audit", "--grace", "0")
    assert (code, "refund_owed (1)" in said, "ours agree" in said) == (0, True, True)
    for which in (booking, owed["refund_key"]):
        code, said = await run("payments", "retry", which)
        assert (code, booking in said) == (0, True)
        with pytest.raises(NotFound):
            await run("payments", "write-off", booking, "--reason", "it is on its way")
        await till.pump()
    with pytest.raises(NotFound):
        await run("payments", "retry", "nothing")
    assert (await run("payments", "retry"))[0] == 2
    assert (await run("payments", "retry", booking, "--all"))[0] == 2
    assert (await run("payments", "write-off", booking))[0] == 2, "without a reason"
    with pytest.raises(CannotRun):
        await run("payments", "write-off", booking, "--reason", " ")

    code, said = await run("payments", "write-off", booking, "--reason", "bank transfer", "--by", "ada")

    assert (code, owed["refund_key"] in said) == (0, True)
    (row,) = await till.fetch("SELECT status, written_off_by, written_off_reason FROM refunds")
    assert tuple(row) == ("written_off", "ada", "bank transfer")
    assert await run("payments", "owed") == (0, "Nothing is owed.\n")


async def test_an_event_has_terms(till: Till) -> None:
    code, said = await run(
        "events", "create", "--name", "Opera", "--starts-at", "2040-01-01T20:00:00Z", "--tier", "GA:1000:5",
        "--cancel-until", "2039-12-24T00:00:00Z", "--refund-percent", "50", "--client", "shop00000000", "--json",
    )  # fmt: skip
    assert code == 0
    (row,) = await till.fetch("SELECT refund_percent, cancel_until FROM events WHERE id = $1", json.loads(said)["id"])
    assert (row["refund_percent"], row["cancel_until"].year) == (50, 2039)


@pytest.mark.parametrize(("currency", "price"), [("JPY", "1500 JPY"), ("KWD", "1.500 KWD"), ("USD", "15.00 USD")])
async def test_an_events_prices_are_told_in_its_currency(till: Till, currency: str, price: str) -> None:
    code, said = await run(
        "events", "create", "--name", "Opera", "--starts-at", "2040-01-01T20:00:00Z", "--tier", "GA:1500:5",
        "--currency", currency, "--client", "shop00000000",
    )  # fmt: skip
    assert (code, price in said) == (0, True)
