"""`boxoffice keys`: made with scopes, an end and pages; listed, revoked, remembered."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
import typer

from boxoffice.errors import Malformed, NotFound
from boxoffice.office import BoxOffice
from ops.commands.keys import expiry
from tests.conftest import CLIENT
from tests.ops.terminal import run
from tests.support.shop.orders import OTHER

pytestmark = pytest.mark.usefixtures("terminal")


async def told(*arguments: str) -> Any:
    code, said = await run("keys", *arguments, "--json")
    assert code == 0, said
    return json.loads(said)


async def test_a_key_is_made_for_what_it_is_for(office: BoxOffice) -> None:
    """Its secret is in what `create` prints, and nowhere else."""
    made = await told("create", "--shop", OTHER, "--scope", "browse", "--origin", "https://a.example", "--origin",
                      "https://b.example", "--expires", "90d", "--by", "ada")  # fmt: skip
    prefix, _, secret = made.pop("key").partition(".")
    left = datetime.fromisoformat(made["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=89) < left <= timedelta(days=90)
    assert (made["prefix"], made["client"], made["scopes"], made["origins"]) == (
        prefix, OTHER, ["browse"], ["https://a.example", "https://b.example"],
    )  # fmt: skip
    caller = await office.catalogue.api_keys.caller_of(f"{prefix}.{secret}")
    assert (caller.client, caller.scopes) == (OTHER, {"browse"})
    assert made in await told("list", "--shop", OTHER)
    assert made["prefix"] not in [row["prefix"] for row in await told("list", "--client", CLIENT)]
    assert {row["prefix"] for row in await told("list")} == {"shop", "other", prefix}
    for shown in ("list", "history"):
        assert secret not in (await run("keys", shown))[1]


async def test_a_key_may_have_a_limit_of_its_own(office: BoxOffice) -> None:
    """Given when it is made, or later; taken away again."""
    made = await told("create", CLIENT, "--rate", "50")
    prefix = made["prefix"]
    assert made["rate"] == 50
    for most, there in (("60", 60), ("default", None)):
        assert (await told("rate", prefix, most, "--by", "ada"))["rate"] == there
    assert (await run("keys", "rate", prefix, "70")) == (0, "")
    assert [row["rate"] for row in await told("list", "--shop", CLIENT) if row["prefix"] == prefix] == [70]
    assert [row["rate"] for row in await told("history", prefix)] == [50, 60, None, 70]
    for wrong in ("some", "-1", "1.5"):
        assert (await run("keys", "rate", "--", prefix, wrong))[0] == 2
    with pytest.raises(Malformed):
        await run("keys", "rate", prefix, "0")


async def test_scopes_may_be_said_together_or_apart() -> None:
    for arguments in (["--scope", "refund,read"], ["--scope", "read", "--scope", "refund"]):
        assert (await told("create", CLIENT, *arguments))["scopes"] == ["read", "refund"]
    usual = await told("create", CLIENT)
    assert (usual["scopes"], usual["expires_at"], usual["origins"]) == (
        ["browse", "read", "book", "refund", "manage"], None, [],
    )  # fmt: skip


async def test_what_was_done_is_remembered_with_who_did_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "carol")
    prefix = (await told("create", CLIENT, "--by", "ada"))["prefix"]
    revoked = await told("revoke", prefix)
    assert revoked["prefix"] == prefix and revoked["revoked_at"]
    assert (await run("keys", "revoke", prefix)) == (0, "")
    assert [(row["change"], row["by"]) for row in await told("history", prefix)] == [
        ("created", "ada"), ("revoked", "carol"), ("revoked", "carol"),
    ]  # fmt: skip
    await told("create", OTHER)
    assert {row["client"] for row in await told("history", "--shop", OTHER)} == {OTHER}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((), 2), ((CLIENT, "--shop", CLIENT), 2), ((CLIENT, "--expires", "soon"), 2),
        ((CLIENT, "--expires", "9" * 20 + "d"), 2),
    ],
)  # fmt: skip
async def test_what_is_wrong_with_a_key_is_said(arguments: tuple[str, ...], code: int) -> None:
    assert (await run("keys", "create", *arguments))[0] == code


NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("90d", NOW + timedelta(days=90)), ("12h", NOW + timedelta(hours=12)), ("30m", NOW + timedelta(minutes=30)),
        ("2030-05-22T14:00:00Z", datetime(2030, 5, 22, 14, tzinfo=UTC)),
        ("2030-05-22T14:00:00+02:00", datetime(2030, 5, 22, 14, tzinfo=timezone(timedelta(hours=2)))),
        ("d", None), ("1w", None), ("-1d", None), ("", None), ("tomorrow", None),
    ],
)  # fmt: skip
def test_an_end_is_a_time_or_a_span(text: str, end: datetime | None) -> None:
    if end is not None:
        assert expiry(text, NOW) == end
        return
    with pytest.raises(typer.BadParameter):
        expiry(text, NOW)


async def test_a_shop_is_told_where_its_customers_may_come_back_to(
    office: BoxOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In place of what was said before; what cannot be is refused, and changes nothing."""
    said = ["clients", "return-urls", CLIENT, "--allow", "https://a.example", "--allow", "https://b.example/x"]
    assert (await run(*said, "--usual", "https://b.example/x/y", "--by", "ada"))[0] == 0

    async def urls() -> tuple[Any, Any]:
        (shop,) = [row for row in json.loads((await run("clients", "list", "--json"))[1]) if row["id"] == CLIENT]
        return shop["return_url"], shop["return_urls"]

    for refused in (["--none", "--usual", "https://c.example"], ["--allow", "http://a.example"]):
        with pytest.raises(Malformed):
            await run(*said[:3], *refused)
        assert await urls() == ("https://b.example/x/y", ["https://a.example", "https://b.example/x"])
    for neither_or_both in ([], ["--usual", "https://a.example"], ["--none", "--allow", "https://a.example"]):
        assert (await run(*said[:3], *neither_or_both))[0] == 2
        assert await urls() == ("https://b.example/x/y", ["https://a.example", "https://b.example/x"])
    monkeypatch.setenv("COLUMNS", "250")
    table = (await run("clients", "list"))[1]
    assert "https://a.example https://b.example/x" in table and "https://b.example/x/y" in table
    with pytest.raises(NotFound):
        await run("clients", "return-urls", "nobody", "--none")
    (told,) = [each for each in await office.access.history(client_id=CLIENT) if each["change"] == "return_urls"]
    assert told["by"] == "ada"
    code, told = await run(*said[:3], "--none")
    assert (code, told.split()[0]) == (0, "0")
    assert await urls() == (None, [])
