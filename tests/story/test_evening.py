"""An operator's evening, from the announcement to the books, at the terminal and through the API."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from boxoffice.office import BoxOffice
from tests.conftest import CLIENT, eventually, load_all
from tests.invariants.conftest import at_rest, working
from tests.ops.terminal import run
from tests.support.calling_off import work_off
from tests.support.checks import check_at_rest
from tests.support.shop.office import Till
from tests.support.shop.web import body_of, payment

pytestmark = pytest.mark.usefixtures("terminal")


def in_time(**how: float) -> str:
    """So far from now, as an operator types it."""
    return (datetime.now(UTC) + timedelta(**how)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Evening:
    """Who types commands, who books, and the worker in between."""

    def __init__(self, api: httpx2.AsyncClient, office: BoxOffice, operators: BoxOffice) -> None:
        self.api = api
        self.office = office
        self.operators = operators
        self.customers = 0

    async def types(self, *command: str) -> Any:
        """What `boxoffice … --json` answers."""
        code, said = await run(*command, "--json")
        assert code == 0, said
        return json.loads(said)

    async def announces(self, name: str, *more: str) -> dict[str, Any]:
        """A new event of the shop."""
        starts_at = in_time(days=30)
        event: dict[str, Any] = await self.types(
            "events", "create", "--name", name, "--starts-at", starts_at, "--client", CLIENT, *more
        )
        return event

    async def asks(
        self,
        event: dict[str, Any],
        card: str | None = "4242424242424242",
        *,
        who: str = "",
        code: str = "",
        **tickets: int,
    ) -> httpx2.Response:
        """A customer's booking, by the codes of tiers; without a card a hold. Somebody new, unless it says who."""
        self.customers += 1
        number = self.customers
        ids = {tier["code"]: tier["id"] for tier in event["tiers"]}
        body = body_of(
            {ids[code]: quantity for code, quantity in tickets.items()}, card,
            customer_id=who or f"customer-{number}", reference=f"order-{number}", access_code=code or ...,
        )  # fmt: skip
        return await self.api.post("/v1/bookings", json=body, headers={"Idempotency-Key": f"key-{number}"})

    async def books(
        self,
        event: dict[str, Any],
        card: str | None = "4242424242424242",
        *,
        who: str = "",
        code: str = "",
        **tickets: int,
    ) -> dict[str, Any]:
        """One that is let in."""
        answer = await self.asks(event, card, who=who, code=code, **tickets)
        assert answer.status_code in (201, 202), answer.text
        booking: dict[str, Any] = answer.json()
        return booking

    async def refused(
        self, event: dict[str, Any], *, status: int = 409, who: str = "", code: str = "", **tickets: int
    ) -> dict[str, Any]:
        """One that is not: the problem."""
        answer = await self.asks(event, who=who, code=code, **tickets)
        assert answer.status_code == status, answer.text
        problem: dict[str, Any] = answer.json()
        return problem | {"type": problem["type"].rpartition("/")[2]}

    async def read(self, booking: dict[str, Any]) -> dict[str, Any]:
        """The booking as its shop reads it."""
        found: dict[str, Any] = (await self.api.get(f"/v1/bookings/{booking['id']}")).json()
        return found

    async def till(self, event: dict[str, Any]) -> Till:
        """The worker's side of an event."""
        return Till(self.office, await self.office.store.event(event["id"]))


@pytest.fixture
async def evening(api: httpx2.AsyncClient, office: BoxOffice, operators_office: BoxOffice) -> Evening:
    await load_all(office)
    return Evening(api, office, operators_office)


def tier(event: dict[str, Any], code: str) -> str:
    return next(str(tier["id"]) for tier in event["tiers"] if tier["code"] == code)


async def test_an_operators_evening(evening: Evening) -> None:
    types, books, refused = evening.types, evening.books, evening.refused

    # Weeks before: two nights are announced. Everybody sees the first, and nobody can book it yet.
    opening = in_time(hours=1)
    first = await evening.announces(
        "First night", "--tier", "FLOOR:4900:6", "--tier", "FANS:3900:6", "--on-sale-at", opening
    )
    second = await evening.announces("Second night", "--tier", "FLOOR:4900:50")
    listed = (await evening.api.get("/v1/events")).json()["data"]
    assert [event["name"] for event in listed] == ["First night", "Second night"]
    early = await refused(first, FLOOR=1)
    assert (early["type"], early["opens_at"]) == ("sale-not-open", opening)

    # Selling rules: up to three tickets in a booking, up to four of a customer.
    await types("events", "edit", first["id"], "--booking-max", "3", "--customer-max", "4")

    # The presale: codes for two tickets each, made in bulk and exported once. What is kept tells nobody what they read.
    exported = await types("codes", "create", first["id"], "--count", "3", "--tickets", "2", "--label", "fan club")
    one, two, lost = (code["code"] for code in exported)
    listed = json.dumps(await types("codes", "list", first["id"]))
    assert not [code for code in (one, two, lost) if code in listed]

    # A code opens the sale for so many tickets, and not for one more; a hold that ends gives its tickets back to the code.
    fan = await books(first, FANS=2, code=one)
    used_up = await refused(first, FANS=1, code=one)
    assert (used_up["type"], used_up["left"]) == ("access-code-used-up", 0)
    given_up = await books(first, None, FANS=2, code=two)
    assert (await refused(first, FANS=1, code=two))["type"] == "access-code-used-up"
    await evening.api.post(f"/v1/bookings/{given_up['id']}/cancel", headers={"Idempotency-Key": "no"})
    await books(first, FANS=1, code=two.lower().replace("-", ""))
    assert (await refused(first, FLOOR=1))["type"] == "sale-not-open"

    # Most of the hall is set aside for a sponsor's code; a fan hears that it may come back. The sponsor takes none of it: it is
    # released in one step before the sale opens, and sold like all the rest.
    (sponsor,) = await types("codes", "create", first["id"], "--count", "1", "--tickets", "5", "--label", "sponsor")
    hall = tier(first, "FLOOR")
    aside = await types("allocations", "create", first["id"], hall, "--tickets", "5", "--code", sponsor["id"])
    assert (aside["tickets"], aside["used"], aside["reserved"]) == (5, 0, 5)
    (short,) = (await refused(first, FLOOR=2, code=lost))["shortfall"]
    assert (short["available"], short["may_return"]) == (1, True)
    await types("allocations", "release", first["id"], aside["id"])
    assert await types("allocations", "list", first["id"]) == []

    (misplaced,) = [code["id"] for code in exported if code["code"] == lost]
    await types("codes", "revoke", first["id"], misplaced)
    assert (await refused(first, status=403, FANS=1, code=lost))["reason"] == "revoked"

    # On sale at the second: by Redis's clock, for everybody at once. The fans' tier ends then.
    opening = in_time(seconds=0.3)
    await types("events", "edit-tier", tier(first, "FANS"), "--on-sale-at", in_time(hours=-1), "--off-sale-at", opening)
    await types("events", "schedule", first["id"], "--on-sale-at", opening)

    async def let_in() -> dict[str, Any] | None:
        answer = await evening.asks(first, FLOOR=2)
        return answer.json() if answer.status_code == 202 else None

    on_time = await eventually(let_in)
    assert on_time["created_at"] >= opening
    assert (await refused(first, FANS=1))["type"] == "sale-closed"
    held = await books(first, None, FLOOR=1)
    assert (await refused(first, FLOOR=4))["type"] == "booking-limit"
    greedy = await refused(first, FLOOR=3, who=on_time["customer_id"])
    assert (greedy["type"], greedy["limit"]) == ("customer-limit", 4)

    # A pause: nobody comes in, and who holds tickets may pay.
    assert (await types("events", "pause", first["id"]))["status"] == "paused"
    assert (await refused(first, FLOOR=1))["type"] == "sale-paused"
    await types("events", "resume", first["id"])
    await books(first, FLOOR=2)

    # Sold out: the hall is enlarged, and those who come late pay more. A hold keeps its price.
    assert (await refused(first, FLOOR=2))["type"] == "sold-out"
    larger = await types("events", "edit-tier", tier(first, "FLOOR"), "--capacity", "9", "--price-cents", "5900")
    assert larger["capacity_change"] == {"before": 6, "asked": 9, "after": 9}
    late = await books(first, FLOOR=2)
    assert late["amount_cents"] == 11_800
    path = f"/v1/bookings/{held['id']}/payment"
    paid = await evening.api.post(path, json=payment(), headers={"Idempotency-Key": "pay"})
    assert (paid.status_code, paid.json()["amount_cents"]) == (202, 4_900)
    worker = await evening.till(first)
    await worker.rest()
    for booking in (fan, on_time, held, late):
        assert (await evening.read(booking))["status"] == "confirmed"

    # Too large: it shrinks as far as tickets are neither held nor sold, and says so.
    smaller = await types("events", "edit-tier", tier(first, "FLOOR"), "--capacity", "5")
    assert smaller["capacity_change"] == {"before": 9, "asked": 5, "after": 7}

    # At the desk: somebody is found by the shop's order number, and has one of two tickets refunded; another comes no more.
    (found,) = (await types("bookings", "find", late["reference"]))["bookings"]
    assert found["id"] == late["id"]
    await types("bookings", "refund", late["id"], "--item", "FLOOR:1", "--reason", "row 7 is broken", "--by", "ada")
    await types("bookings", "cancel", on_time["id"], "--by", "ada", "--reason", "fell ill")
    await worker.rest()
    assert (await evening.read(late))["refunded_cents"] == 5_900
    assert (await evening.read(on_time))["status"] == "cancelled"

    # The second night is called off: everybody has everything back.
    guests = [await books(second, FLOOR=2) for _ in range(3)]
    await (await evening.till(second)).rest()
    guests.append(await books(second, None, FLOOR=1))
    await types("events", "call-off", second["id"], "--reason", "The singer is ill.", "--yes")
    assert (await refused(second, FLOOR=1))["type"] == "sale-closed"
    await work_off(await evening.till(second))
    report = await types("events", "call-off", second["id"], "--show")
    assert (report["status"], report["bookings"]["cancelled"]) == ("finished", 3)
    assert report["refunds"] == {"succeeded": {"refunds": 3, "cents": 29_400}}
    assert [(await evening.read(guest))["status"] for guest in guests[:3]] == ["cancelled"] * 3
    assert (await evening.read(guests[3]))["status"] in ("expired", "failed", "cancelled")

    # For accounting: what was sold, taken and given back, to the cent; and who did what.
    sold = {(row["event"], row["code"]): row for row in await types("sales", first["id"], second["id"])}
    floor, fans = sold[first["id"], "FLOOR"], sold[first["id"], "FANS"]
    assert (floor["sold"], floor["returned"], fans["sold"]) == (4, 3, 3)
    assert (floor["revenue_cents"], floor["refunded_cents"]) == (5 * 4_900 + 11_800, 9_800 + 5_900)
    night = sold[second["id"], "FLOOR"]
    assert (night["sold"], night["revenue_cents"] - night["refunded_cents"]) == (0, 0)
    code, lines = await run("export", "payments", "--json")
    payments = [json.loads(line) for line in lines.splitlines()]
    net = sum(row["amount_cents"] - row["refunded_cents"] for row in payments if row["status"] == "captured")
    at_gateway = [record.payment async for record in evening.office.gateway.records()]
    assert code == 0
    assert net == sum(row["revenue_cents"] - row["refunded_cents"] for row in sold.values())
    assert net == sum(payment.captured_cents - payment.refunded_cents for payment in at_gateway)
    done = [change["action"] for change in await types("events", "history", first["id"])]
    assert done[::-1] == [
        "create", "edit", "create_codes", "create_codes", "create_allocation", "release_allocation", "revoke_codes",
        "edit_tier", "schedule", "pause", "resume", "edit_tier", "edit_tier",
    ]  # fmt: skip

    # And at the end, with a worker running, all is well and everything agrees.
    await worker.rest()
    await check_at_rest(evening.operators, (fan["id"], on_time["id"], held["id"], late["id"]))
    async with working(evening.office):
        await at_rest(evening.operators, heard=True)
        for command in (["status", "--every", "0.2"], ["reconcile"], ["payments", "audit"], ["audit"]):
            code, said = await run(*command)
            assert code == 0, said
