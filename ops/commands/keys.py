"""`boxoffice keys`: API keys of clients, what they may be used for, and until when."""

from __future__ import annotations

import getpass
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ops.commands._office import JsonOption, in_office, print_json, print_rows
from ops.options import DEFAULT_DATA_DIR, DataDirOption

if TYPE_CHECKING:
    from boxoffice.office import BoxOffice

__all__ = ["expiry", "register"]

_HISTORY: Final = ("at", "by", "change", "prefix", "client", "scopes", "expires_at", "origins", "rate")
_LISTED: Final = ("prefix", "client", "scopes", "origins", "created_at", "expires_at", "revoked_at", "rate")

ByOption = Annotated[str, typer.Option("--by", help="Who does it; by default the account that runs this.")]
ShopOption = Annotated[str | None, typer.Option("--shop", "--client", help="Only of this shop.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    keys = typer.Typer(help="API keys of clients. A client may have several, to replace one.", no_args_is_help=True)
    keys.command("create")(create)
    keys.command("list")(list_keys)
    keys.command("revoke")(revoke)
    keys.command("rate")(rate)
    keys.command("history")(history)
    app.add_typer(keys, name="keys")


def create(
    client: Annotated[str | None, typer.Argument(help="Id of the shop.")] = None,
    shop: Annotated[str | None, typer.Option(help="Id of the shop, said by name.")] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCOPE",
            help="What it is for: browse, read, book, refund, manage, ops. Several by commas, or again. Default: all but ops.",
        ),
    ] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="TIME", help="Until when: 2030-05-22T14:00:00Z, or 90d, 12h, 30m from now.")
    ] = None,
    origin: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="A web page's that may use it (scope browse alone): https://shop.example."),
    ] = None,
    most: Annotated[
        int | None, typer.Option("--rate", metavar="N", help="Bookings that it may ask for in a window.")
    ] = None,
    by: ByOption = "",
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Create an API key and print it. Nobody can print it again."""
    from boxoffice.access.store import Grant

    if (client is None) == (shop is None):
        raise typer.BadParameter("Say whose key it is, once: `boxoffice clients list` has the ids.")
    given: dict[str, Any] = {}
    if scope:
        given["scopes"] = tuple(name for text in scope for name in text.split(","))
    until = None if expires is None else expiry(expires, datetime.now(UTC))
    grant = Grant(**given, expires_at=until, origins=tuple(origin or ()), rate_max=most)
    owner = client or shop or ""

    async def work(office: BoxOffice) -> dict[str, Any]:
        key = await office.access.create_api_key(owner, grant, actor=by or getpass.getuser())
        prefix = key.partition(".")[0]
        (made,) = [row for row in await office.access.api_keys(owner) if row["prefix"] == prefix]
        return {"key": key, **made}

    made = in_office(data_dir, work)
    print_json(made) if as_json else typer.echo(made["key"])


def list_keys(shop: ShopOption = None, as_json: JsonOption = False, data_dir: DataDirOption = DEFAULT_DATA_DIR) -> None:
    """List API keys, without their secrets."""

    async def work(office: BoxOffice) -> list[dict[str, Any]]:
        return await office.access.api_keys(shop)

    print_rows(in_office(data_dir, work, looks=True), _LISTED, as_json)


def revoke(
    prefix: Annotated[str, typer.Argument(help="The key, up to its dot.")],
    by: ByOption = "",
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Stop accepting an API key, everywhere within two seconds."""

    async def work(office: BoxOffice) -> dict[str, Any]:
        return await office.access.revoke_api_key(prefix, actor=by or getpass.getuser())

    revoked = in_office(data_dir, work)
    if as_json:
        print_json(revoked)


def rate(
    prefix: Annotated[str, typer.Argument(help="The key, up to its dot.")],
    most: Annotated[
        str, typer.Argument(metavar="N", help="Bookings in a window and shard, or `default`: as all keys.")
    ],
    by: ByOption = "",
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Set how many bookings an API key may ask for in a window (BOXOFFICE_RATES__WINDOW_S), everywhere within two seconds."""
    if most != "default" and not most.isdecimal():
        raise typer.BadParameter(f"{most!r} is neither a number nor `default`.")

    async def work(office: BoxOffice) -> dict[str, Any]:
        limit = None if most == "default" else int(most)
        return await office.access.set_rate(prefix, limit, actor=by or getpass.getuser())

    changed = in_office(data_dir, work)
    if as_json:
        print_json(changed)


def history(
    prefix: Annotated[str | None, typer.Argument(help="Only of this key, up to its dot.")] = None,
    shop: ShopOption = None,
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """List what was done to API keys, oldest first: when, by whom, and what they may do since."""

    async def work(office: BoxOffice) -> list[dict[str, Any]]:
        return await office.access.history(prefix, shop)

    print_rows(in_office(data_dir, work, looks=True), _HISTORY, as_json)


_UNITS: Final = {"d": "days", "h": "hours", "m": "minutes"}


def expiry(text: str, now: datetime) -> datetime:
    """The end of a key: a time with its zone, or so long from now. Raises `typer.BadParameter`."""
    try:
        if span := re.fullmatch(r"([0-9]+)([dhm])", text):
            return now + timedelta(**{_UNITS[span[2]]: int(span[1])})
        return datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"{text!r} is neither a time such as 2030-05-22T14:00:00Z nor a span: 90d.") from None
