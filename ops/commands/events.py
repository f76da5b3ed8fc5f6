"""`boxoffice events`: what is on sale."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.commands._office import JsonOption, in_office, print_json
from ops.commands.sales import stats
from ops.options import DEFAULT_DATA_DIR, DataDirOption

if TYPE_CHECKING:
    from boxoffice.office import BoxOffice
    from boxoffice.sales.catalogue import EventView

__all__ = ["register"]

EventArgument = Annotated[str, typer.Argument(metavar="ID", help="The event's id.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    events = typer.Typer(help="Events: list, show, create, open and close them.", no_args_is_help=True)
    events.command("list")(list_events)
    events.command("show")(show)
    events.command("create")(create)
    events.command("open")(open_sale)
    events.command("close")(close_sale)
    events.command("stats")(stats)
    app.add_typer(events, name="events")


def list_events(as_json: JsonOption = False, data_dir: DataDirOption = DEFAULT_DATA_DIR) -> None:
    """List all events by start, what is not on sale among them."""

    async def work(office: BoxOffice) -> list[dict[str, Any]]:
        return [await _described(office, event) for event in await office.store.events()]

    _tell(in_office(data_dir, work), as_json)


def show(event_id: EventArgument, as_json: JsonOption = False, data_dir: DataDirOption = DEFAULT_DATA_DIR) -> None:
    """Show one event as the API answers it."""

    async def work(office: BoxOffice) -> dict[str, Any]:
        return await _described(office, await office.store.event(event_id))

    _tell_one(in_office(data_dir, work), as_json)


def create(
    name: Annotated[str, typer.Option(help="What people read on the poster.")],
    starts_at: Annotated[str, typer.Option(metavar="TIME", help="With its zone: 2030-05-22T14:00:00Z.")],
    tier: Annotated[list[str], typer.Option(metavar="CODE:PRICE_CENTS:CAPACITY", help="Once for each tier, in order.")],
    currency: Annotated[
        str, typer.Option(help="ISO 4217 code: prices are in its minor unit, 1000 is 10.00 USD and 1000 JPY.")
    ] = "USD",
    customer_max: Annotated[int | None, typer.Option(min=1, help="Tickets one customer may have.")] = None,
    cancel_until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Until when bookings may be cancelled. Default: its start.")
    ] = None,
    refund_percent: Annotated[int, typer.Option(min=0, max=100, help="Share that a cancellation gives back.")] = 100,
    client: Annotated[
        str | None, typer.Option(help="Id of the shop that owns it. Default: the only or demo shop.")
    ] = None,
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Create an event and open its sale at once."""
    from boxoffice.sales.store import NewTier

    tiers = [NewTier(*_tier(text)) for text in tier]
    start = _time(starts_at)
    until = None if cancel_until is None else _time(cancel_until)

    async def work(office: BoxOffice) -> dict[str, Any]:
        owner = client or await _usual_client(office)
        event = await office.store.create_event(
            owner, name, start, currency, tiers, customer_max=customer_max, cancel_until=until,
            refund_percent=refund_percent,
        )  # fmt: skip
        return await _described(office, event)

    _tell_one(in_office(data_dir, work), as_json)


def open_sale(event_id: EventArgument, as_json: JsonOption = False, data_dir: DataDirOption = DEFAULT_DATA_DIR) -> None:
    """Put an event on sale that was not."""
    _tell_one(_set_status(data_dir, event_id, "active"), as_json)


def close_sale(
    event_id: EventArgument, as_json: JsonOption = False, data_dir: DataDirOption = DEFAULT_DATA_DIR
) -> None:
    """Take an event off sale. What is booked stays booked."""
    _tell_one(_set_status(data_dir, event_id, "inactive"), as_json)


def _set_status(data_dir: Path, event_id: str, status: str) -> dict[str, Any]:
    async def work(office: BoxOffice) -> dict[str, Any]:
        return await _described(office, await office.store.change_event(event_id, status=status))

    return in_office(data_dir, work)


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no time such as 2030-05-22T14:00:00Z.") from None


def _tier(text: str) -> tuple[str, int, int]:
    code, *numbers = text.split(":")
    if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
        raise typer.BadParameter(f"{text!r} is not CODE:PRICE_CENTS:CAPACITY, such as GA:1000:500.")
    return code, int(numbers[0]), int(numbers[1])


async def _usual_client(office: BoxOffice) -> str:
    from boxoffice.errors import CannotRun
    from ops.seed import DEMO_CLIENT

    clients = [client["id"] for client in await office.store.clients()]
    if DEMO_CLIENT in clients:
        return DEMO_CLIENT
    if len(clients) == 1:
        return str(clients[0])
    raise CannotRun("Say whose event it is with --client; `boxoffice clients list` has the ids.")


async def _described(office: BoxOffice, event: EventView) -> dict[str, Any]:
    """As the API answers it; what is available is None while Redis does not know."""
    from boxoffice.errors import Unavailable

    try:
        return event.describe(await office.catalogue.availability(event))
    except Unavailable:
        return event.describe([None] * len(event.tiers))


def _tell(events: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(events)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("id", "name", "starts", "status", "tiers, available")
    for event in events:
        tiers = ", ".join(f"{tier['code']} {_count(tier)}" for tier in event["tiers"])
        table.add_row(event["id"], event["name"], event["starts_at"], event["status"], tiers)
    Console().print(table)


def _tell_one(event: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(event)
        return
    from rich.console import Console
    from rich.table import Table

    from boxoffice.currencies import shown

    typer.echo(f"{event['name']} ({event['id']}), {event['starts_at']}, {event['status']}")
    table = Table("tier id", "code", "name", "price", "available")
    for tier in event["tiers"]:
        price = shown(tier["price_cents"], event["currency"])
        table.add_row(tier["id"], tier["code"], tier["name"], price, _count(tier))
    Console().print(table)


def _count(tier: dict[str, Any]) -> str:
    return f"{'?' if tier['available'] is None else tier['available']} of {tier['capacity']}"
