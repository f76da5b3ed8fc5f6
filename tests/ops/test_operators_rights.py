"""Every command at the terminal of an operator, who has the least rights in both stores: none of them is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from boxoffice import ids
from boxoffice.gateway.base import AuthorizeRequest
from boxoffice.office import BoxOffice
from boxoffice.settings import Settings
from boxoffice.stores import keys
from ops.cli import app
from tests.conftest import SHARD, SaleMaker
from tests.ops.terminal import run, terminal_of
from tests.support.least import LeastRights
from tests.support.shop.office import Till
from tests.support.shop.orders import CLIENT, OTHER, tier_of

ELSEWHERE = {
    "up", "api", "worker", "gateway", "rush", "env", "acl", "roles", "migrate", "seed", "backup", "restore", "shop",
}  # fmt: skip
"""Processes, what needs no store, what the owner of the tables does, and what is done to private servers."""


def names_of(command: Any, *before: str) -> Iterator[str]:
    """Every command of a group, with its group's name."""
    for name, each in command.commands.items():
        if hasattr(each, "commands"):
            yield from names_of(each, *before, name)
        else:
            yield " ".join((*before, name))


class Operator:
    """Runs commands, and remembers which."""

    def __init__(self) -> None:
        self.tried: set[str] = set()
        self.known = {*names_of(typer.main.get_command(app))}

    async def __call__(self, *arguments: str, code: int = 0) -> str:
        """What it said. Fails unless it ended with this exit code."""
        self.tried |= {" ".join(arguments[:words]) for words in (1, 2)} & self.known
        ended, said = await run(*arguments)
        assert (arguments, ended) == (arguments, code), said
        return said

    async def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(await self(*arguments, "--json", code=code))


@pytest.fixture
def operator(settings: Settings, least_rights: LeastRights, monkeypatch: pytest.MonkeyPatch) -> Iterator[Operator]:
    """One whom Redis has refused nothing at the end; PostgreSQL's refusals end a command with code 3."""
    with terminal_of(settings, monkeypatch):
        for name, value in least_rights.urls("operator", settings).items():
            monkeypatch.setenv(name.upper() if "url" in name else f"BOXOFFICE_{name.upper()}", value)
        least_rights.refusals()
        yield Operator()
        assert least_rights.refusals() == []


async def test_no_command_is_refused(office: BoxOffice, open_sale: SaleMaker, operator: Operator) -> None:
    till = Till(office, await open_sale(GA=30, VIP=5))
    await of_shops(operator, office)
    await of_webhooks(operator)
    await of_events(operator)
    await of_sales(operator, till)
    await of_bookings(operator, till)
    await of_money(operator, till)
    await of_parked(operator, till)
    await of_repairs(operator, till)
    assert operator.known - operator.tried == ELSEWHERE


async def of_shops(operator: Operator, office: BoxOffice) -> None:
    client = (await operator("clients", "create", "Corner shop")).strip()
    await operator("clients", "list")
    await operator("clients", "return-urls", client, "--allow", "https://shop.example")
    prefix = (await operator("keys", "create", client)).strip().partition(".")[0]
    await operator("keys", "rate", prefix, "500")
    await operator("keys", "revoke", prefix)
    await operator("keys", "list")
    await operator("keys", "history", prefix)
    await operator("feed", "--client", CLIENT)


async def of_webhooks(operator: Operator) -> None:
    made = await operator.json("webhooks", "create", CLIENT, "https://shop.example/hooks")
    for command in ("show", "disable", "enable", "rotate", "deliveries"):
        assert await operator.json("webhooks", command, made["id"]) is not None
    assert await operator.json("webhooks", "redeliver", made["id"], "--since", "1h") == {"redelivered": 0}
    await operator("webhooks", "delete", made["id"])
    assert await operator.json("webhooks", "list") == []


async def of_events(operator: Operator) -> None:
    options = (
        "--client",
        CLIENT,
        "--name",
        "First night",
        "--starts-at",
        "2035-05-22T14:00:00Z",
        "--tier",
        "GA:1000:9",
    )
    event = (await operator.json("events", "create", *options))["id"]
    shown = await operator.json("events", "add-tier", event, "VIP:5000:20")
    tier = shown["tiers"][0]["id"]
    await operator("events", "edit", event, "--name", "Late night")
    await operator("events", "edit-tier", tier, "--capacity", "5")
    await operator("events", "edit-tier", tier, "--capacity", "8")
    await operator("events", "schedule", event, "--off-sale-at", "2035-05-21T14:00:00Z")
    await operator("events", "postpone", event, "--starts-at", "2035-06-22T14:00:00Z", "--cancel-until", "none")
    for change in ("close", "open", "pause", "resume"):
        await operator("events", change, event)
    await operator("events", "share", event, OTHER)
    await operator("events", "unshare", event, OTHER)
    await operator("events", "call-off", event, "--reason", "flood", "--yes")
    for look in ("show", "stats", "history"):
        await operator("events", look, event)
    await operator("events", "list")


async def of_sales(operator: Operator, till: Till) -> None:
    """What is set aside, and codes, of an event that sells."""
    event, tier = till.event.id, tier_of(till.event, "GA")
    code = (await operator.json("codes", "create", event, "--tickets", "8"))[0]["id"]
    for whose in (("--shop", OTHER), ("--code", code)):
        made = (await operator.json("allocations", "create", event, tier, "--tickets", "4", *whose))["id"]
        await operator("allocations", "resize", event, made, "--tickets", "6")
        await operator("allocations", "resize", event, made, "--tickets", "3")
        await operator("allocations", "list", event)
        await operator("allocations", "release", event, made)
    await operator("codes", "list", event)
    await operator("codes", "revoke", event, "--all")


async def of_bookings(operator: Operator, till: Till) -> None:
    sold, gone, owned = [await till.book(GA=2), await till.book(GA=1), await till.book(GA=1, customer="eve")]
    hold = await till.hold(GA=1)
    await till.rest_bookings()
    for booking in (sold, hold):
        await operator("bookings", "find", booking)
        await operator("bookings", "show", booking)
    await operator("bookings", "list", "--event", till.event.id)
    await operator("bookings", "refund", sold, "--item", "GA:1", "--reason", "row 7 is broken")
    await operator("bookings", "cancel", hold)
    await operator("bookings", "cancel", gone)
    await till.rest()
    await operator("bookings", "show", owned)
    await operator("customers", "forget", "eve", "--client", CLIENT)
    await operator("sales")
    await operator("declines")
    await operator("status", code=1)
    for what in ("bookings", "payments", "refunds"):
        await operator("export", what)


async def of_money(operator: Operator, till: Till) -> None:
    owed = [await till.book("tok_refund_refused", GA=1) for _ in range(2)]
    await till.rest()
    for booking in owed:
        await till.cancel(booking)
    await till.pump()
    await operator("payments", "owed")
    await operator("payments", "write-off", owed[0], "--reason", "bank transfer")
    await operator("payments", "retry", owed[1])
    await till.pump()
    await till.gateway.authorize(
        AuthorizeRequest(ids.digest("stray"), ids.booking_id(SHARD, 1), 500, "USD", "card", "tok_ok_4242")
    )
    await operator("payments", "audit", "--grace", "0", code=1)
    await operator("payments", "audit", "--grace", "0", "--fix", code=2)


async def of_parked(operator: Operator, till: Till) -> None:
    unread, read = await till.book(GA=1), await till.book(GA=1)
    raw = await till.office.redis.get(keys.booking(SHARD, read))
    for booking in (unread, read):
        await till.office.redis.set(keys.booking(SHARD, booking), b"nonsense")
    await till.drain()
    await till.office.redis.set(keys.booking(SHARD, read), raw)
    await operator("dead", "list")
    await operator("dead", "show", unread)
    await operator("dead", "retry", unread)
    await till.drain()
    for booking in (unread, read):
        await operator("dead", "fail", booking)
    await till.rest_bookings()


async def of_repairs(operator: Operator, till: Till) -> None:
    redis, event = till.office.redis, keys.event(SHARD, till.event.id)
    await redis.hincrby(event, f"a:{tier_of(till.event, 'GA')}", -3)
    await redis.hincrby(event, f"h:{tier_of(till.event, 'GA')}", 3)
    await operator("reconcile", code=1)
    await operator("reconcile", "--event", till.event.id, "--fix", code=2)
    await redis.delete(event)
    await operator("reconcile", "--fix", code=2)
    await till.hold(GA=1)
    await operator("rebuild")
    await redis.flushdb()
    await operator("rebuild")
    await operator("trim", "--dry-run")
    await operator("trim")
    assert "BROKEN: I9." in await operator("audit", "--wait", "0", code=1), "all but what is due still"
