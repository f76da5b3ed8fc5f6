"""`boxoffice webhooks`: where shops are told what happens, how each endpoint does, and what was delivered."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ops.commands._office import JsonOption, in_office, print_json, print_rows
from ops.options import DEFAULT_DATA_DIR, DataDirOption

if TYPE_CHECKING:
    from boxoffice.office import BoxOffice

__all__ = ["register"]

_LISTED: Final = ("id", "shop", "url", "types", "status", "disabled_reason", "failing_since", "delivered_at", "waiting")
_DELIVERIES: Final = (
    "number",
    "notice_id",
    "type",
    "status",
    "tries",
    "failure",
    "answer",
    "took_ms",
    "tried_at",
    "next_at",
)

EndpointArgument = Annotated[str, typer.Argument(metavar="ENDPOINT", help="Its id, as `webhooks list` has it.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    webhooks = typer.Typer(help="Endpoints of shops, which are told what happens.", no_args_is_help=True)
    webhooks.command("create")(create)
    webhooks.command("list")(list_endpoints)
    webhooks.command("show")(show)
    webhooks.command("enable")(enable)
    webhooks.command("disable")(disable)
    webhooks.command("delete")(delete)
    webhooks.command("rotate")(rotate)
    webhooks.command("deliveries")(deliveries)
    webhooks.command("redeliver")(redeliver)
    app.add_typer(webhooks, name="webhooks")


def create(
    shop: Annotated[str, typer.Argument(help="Id of the shop.")],
    url: Annotated[str, typer.Argument(help="Where its notices are sent: https://shop.example/hooks.")],
    types: Annotated[
        list[str] | None,
        typer.Option("--type", metavar="TYPE", help="Only of this type. Several by commas, or again. Default: all."),
    ] = None,
    label: Annotated[str | None, typer.Option(help="What the shop calls it.")] = None,
    from_start: Annotated[
        bool, typer.Option("--from-start", help="Send all that is kept, too, and not only what happens from now on.")
    ] = False,
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Create an endpoint and print its secret. Nobody can print that again."""
    named = [name for text in types or () for name in text.split(",")]

    async def work(office: BoxOffice) -> dict[str, Any]:
        return await office.endpoints.create(shop, url, named, label, from_start=from_start)

    made = in_office(data_dir, work)
    print_json(made) if as_json else typer.echo(f"{made['id']} {made['secret']}")


def list_endpoints(
    shop: Annotated[str | None, typer.Option("--shop", "--client", help="Only of this shop.")] = None,
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """List endpoints: whether each takes what it is sent, and how many deliveries wait."""

    async def work(office: BoxOffice) -> list[dict[str, Any]]:
        return await office.endpoints.every(shop)

    print_rows([_shown(each, as_json) for each in in_office(data_dir, work, looks=True)], _LISTED, as_json)


def show(endpoint: EndpointArgument, as_json: JsonOption = False, data_dir: DataDirOption = DEFAULT_DATA_DIR) -> None:
    """Show one endpoint."""

    async def work(office: BoxOffice) -> dict[str, Any]:
        return await office.endpoints.one(None, endpoint)

    _print(in_office(data_dir, work, looks=True), as_json)


def enable(endpoint: EndpointArgument, as_json: JsonOption = False, data_dir: DataDirOption = DEFAULT_DATA_DIR) -> None:
    """Send to an endpoint again, at once: all that happened meanwhile, as far as notices are kept."""
    _set(endpoint, "enabled", as_json, data_dir)


def disable(
    endpoint: EndpointArgument, as_json: JsonOption = False, data_dir: DataDirOption = DEFAULT_DATA_DIR
) -> None:
    """Send nothing to an endpoint until it is enabled."""
    _set(endpoint, "disabled", as_json, data_dir)


def delete(endpoint: EndpointArgument, data_dir: DataDirOption = DEFAULT_DATA_DIR) -> None:
    """Delete an endpoint. It hears of nothing more."""

    async def work(office: BoxOffice) -> None:
        await office.endpoints.delete(None, endpoint)

    in_office(data_dir, work)


def rotate(
    endpoint: EndpointArgument,
    overlap: Annotated[
        int, typer.Option(metavar="SECONDS", min=0, help="For so long the secret before signs as well.")
    ] = 86_400,
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Give an endpoint a new secret and print it. Nobody can print it again."""

    async def work(office: BoxOffice) -> dict[str, Any]:
        return await office.endpoints.rotate(None, endpoint, overlap)

    made = in_office(data_dir, work)
    print_json(made) if as_json else typer.echo(made["secret"])


def deliveries(
    endpoint: EndpointArgument,
    status: Annotated[str | None, typer.Option(help="Only those that are waiting, delivered or given_up.")] = None,
    most: Annotated[int, typer.Option("--most", metavar="N", min=1, max=10_000, help="So many, the latest.")] = 50,
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """List what was sent to an endpoint and what came of it, the latest first."""
    _check_status(status)

    async def work(office: BoxOffice) -> list[dict[str, Any]]:
        return await office.endpoints.deliveries(None, endpoint, status, None, most)

    found = in_office(data_dir, work, looks=True)
    print_rows([_shown(each, as_json) for each in found], _DELIVERIES, as_json)


def redeliver(
    endpoint: EndpointArgument,
    notice: Annotated[str | None, typer.Argument(metavar="[NOTICE]", help="Its id; or say --since.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="First tried since: 2030-05-22T14:00:00Z, or 90m, 12h, 3d ago.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="And before. Default: now.")] = None,
    status: Annotated[str | None, typer.Option(help="Only those that are waiting, delivered or given_up.")] = None,
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Send deliveries anew under the same ids: one, or of a range of time the oldest 10,000."""
    if (notice is None) == (since is None):
        raise typer.BadParameter("Say which: a notice, or --since.")
    _check_status(status)
    begin = None if since is None else _moment(since)
    end = None if until is None else _moment(until)

    async def work(office: BoxOffice) -> int:
        return await office.endpoints.redeliver(None, endpoint, notice=notice, since=begin, until=end, status=status)

    count = in_office(data_dir, work)
    print_json({"redelivered": count}) if as_json else typer.echo(f"{count} to be sent anew")


def _set(endpoint: str, status: str, as_json: bool, data_dir: Path) -> None:
    async def work(office: BoxOffice) -> dict[str, Any]:
        return await office.endpoints.change(None, endpoint, status=status)

    _print(in_office(data_dir, work), as_json)


def _check_status(status: str | None) -> None:
    from boxoffice.states import DELIVERY_STATUSES

    if status is not None and status not in DELIVERY_STATUSES:
        raise typer.BadParameter(f"{status!r} is none of {', '.join(DELIVERY_STATUSES)}.")


def _moment(text: str) -> datetime:
    """A time, or so long ago."""
    units = {"d": "days", "h": "hours", "m": "minutes"}
    try:
        if text[:-1].isdecimal() and text[-1:] in units:
            return datetime.now(UTC) - timedelta(**{units[text[-1]]: int(text[:-1])})
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        moment = datetime.min
    if moment.tzinfo is None:
        raise typer.BadParameter(f"{text!r} is neither a time such as 2030-05-22T14:00:00Z nor a span: 12h.")
    return moment


def _print(endpoint: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(endpoint)
        return
    for name, value in endpoint.items():
        typer.echo(f"{name}: {' '.join(value) if isinstance(value, list) else '' if value is None else value}")


def _shown(row: dict[str, Any], as_json: bool) -> dict[str, Any]:
    """A zero is told as one: an empty cell is what nobody can say."""
    return row if as_json else {name: str(each) if isinstance(each, int) else each for name, each in row.items()}
