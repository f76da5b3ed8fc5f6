"""`boxoffice codes`: made and printed once, listed, revoked."""

from __future__ import annotations

import csv
import json
from typing import Any

import pytest

from boxoffice import ids
from boxoffice.errors import AccessCodeInvalid
from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from ops.commands import codes as module
from tests.conftest import SaleMaker, load_all
from tests.ops.terminal import run
from tests.support.shop.office import book
from tests.support.shop.orders import tier_of

pytestmark = pytest.mark.usefixtures("terminal")


@pytest.fixture
async def event(office: BoxOffice, open_sale: SaleMaker) -> EventView:
    await load_all(office)
    return await open_sale(GA=10)


async def told(*arguments: str) -> Any:
    code, said = await run("codes", *arguments, "--json")
    assert code == 0, said
    return json.loads(said)


async def test_codes_are_made_in_bulk_and_printed_once(
    office: BoxOffice, event: EventView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", 2)
    tier = tier_of(event, "GA")
    code, said = await run(
        "codes", "create", event.id, "--count", "3", "--tickets", "2", "--tier", tier, "--from", "2030-01-01T00:00:00Z",
        "--until", "2039-01-01T00:00:00Z", "--label", "fans",
    )  # fmt: skip
    assert code == 0
    head, *rows = csv.reader(said.splitlines())
    assert (head, len(rows)) == (["id", "code"], 3)
    (given,) = await told("create", event.id, "--tickets", "1", "--code", "FANS-OF-ADA-2030")
    assert given["code"] == "FANS-OF-ADA-2030"
    listed = await told("list", event.id)
    assert {each["id"] for each in listed} == {given["id"], *(row[0] for row in rows)}
    fans = await told("list", event.id, "--label", "fans")
    assert len(fans) == 3 and {
        (each["tickets"], each["tier_id"], each["valid_from"], each["valid_until"], each["revoked_at"]) for each in fans
    } == {(2, tier, "2030-01-01T00:00:00Z", "2039-01-01T00:00:00Z", None)}
    shown = (await run("codes", "list", event.id))[1]
    for _, text in rows:
        assert text not in shown and ids.code_digest(text) not in shown
    assert (await run("codes", "create", event.id, "--tickets", "1", "--count", "1", "--code", "A" * 12))[0] == 2
    (one,) = await told("create", event.id, "--tickets", "1")
    assert len(one["code"]) == 19


async def test_codes_are_revoked_by_id_by_label_and_all(office: BoxOffice, event: EventView) -> None:
    made = await told("create", event.id, "--tickets", "5", "--count", "2", "--label", "a")
    made += await told("create", event.id, "--tickets", "5", "--label", "b")
    made += await told("create", event.id, "--tickets", "5")
    await book(office, event, GA=1, access_code=made[0]["code"])
    assert await run("codes", "revoke", event.id, made[0]["id"]) == (0, "1 codes revoked.\n")
    with pytest.raises(AccessCodeInvalid, match="revoked"):
        await book(office, event, GA=1, access_code=made[0]["code"])
    assert await told("revoke", event.id, "--label", "a") == {"revoked": 1}
    assert await told("revoke", event.id, "--all") == {"revoked": 2}
    for wrong in ((), ("--all", "--label", "a"), (made[0]["id"], "--all")):
        assert (await run("codes", "revoke", event.id, *wrong))[0] == 2


async def test_a_tier_is_sold_by_code_alone(office: BoxOffice, event: EventView) -> None:
    code, said = await run("events", "edit-tier", tier_of(event, "GA"), "--code-only", "--json")
    assert (code, json.loads(said)["tiers"][0]["access_code_required"]) == (0, True)
    assert "code-only" in (await run("events", "show", event.id))[1]
    code, said = await run("events", "edit-tier", tier_of(event, "GA"), "--for-all", "--json")
    assert json.loads(said)["tiers"][0]["access_code_required"] is False
    code, said = await run("events", "add-tier", event.id, "BOX:1:1", "--code-only", "--json")
    assert json.loads(said)["tiers"][1]["access_code_required"] is True
