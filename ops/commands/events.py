"""`boxoffice events`: what is on sale."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.commands import _events_control
from ops.commands._events_control import (
    AllowLateCancel,
    AllowPast,
    BookingMax,
    BookingMin,
    CustomerMax,
    CustomerMin,
    EventArgument,
    allowed,
    change,
)
from ops.commands._events_shown import count_of, described, maybe_time, print_event, rules_given, tier_of, time_of
from ops.commands._office import JsonOption, in_office, print_json
from ops.commands.sales import stats
from ops.options import DEFAULT_DATA_DIR, DataDirOption

if TYPE_CHECKING:
    from boxoffice.office import BoxOffice

__all__ = ["register"]

TIER_HELP = "Once for each tier, in order. Rules: booking_min, booking_max, customer_min, customer_max."


def register(app: typer.Typer) -> None:
    """Add the commands."""
    events = typer.Typer(help="Events: list, show and create them, and change their sale.", no_args_is_help=True)
    events.command("list")(list_events)
    events.command("show")(show)
    events.command("create")(create)
    events.command("open")(open_sale)
    events.command("close")(close_sale)
    events.command("stats")(stats)
    _events_control.register(events)
    app.add_typer(events, name="events")


def list_events(
    past: Annotated[bool, typer.Option("--past", help="Show what has started, too.")] = False,
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """List events by start, what is not on sale among them."""

    async def work(office: BoxOffice) -> list[dict[str, Any]]:
        now_ms = time.time() * 1_000
        found = [event for event in await office.store.events() if past or event.starts_ms > now_ms]
        return [await described(office, event) for event in found]

    _print(in_office(data_dir, work, looks=True), as_json)


def show(event_id: EventArgument, as_json: JsonOption = False, data_dir: DataDirOption = DEFAULT_DATA_DIR) -> None:
    """Show one event as the API answers it."""

    async def work(office: BoxOffice) -> dict[str, Any]:
        return await described(office, await office.store.event(event_id))

    print_event(in_office(data_dir, work, looks=True), as_json)


def create(
    name: Annotated[str, typer.Option(help="What people read on the poster.")],
    starts_at: Annotated[str, typer.Option(metavar="TIME", help="With its zone: 2030-05-22T14:00:00Z.")],
    tier: Annotated[list[str], typer.Option(metavar="CODE:PRICE_CENTS:CAPACITY[:RULE=TICKETS]", help=TIER_HELP)],
    currency: Annotated[
        str, typer.Option(help="ISO 4217 code: prices are in its minor unit, 1000 is 10.00 USD and 1000 JPY.")
    ] = "USD",
    booking_min: BookingMin = None,
    booking_max: BookingMax = None,
    customer_min: CustomerMin = None,
    customer_max: CustomerMax = None,
    cancel_until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Until when bookings may be cancelled. Default: its start.")
    ] = None,
    refund_percent: Annotated[int, typer.Option(min=0, max=100, help="Share that a cancellation gives back.")] = 100,
    on_sale_at: Annotated[
        str | None, typer.Option(metavar="TIME", help="From when it may be booked. Default: now.")
    ] = None,
    off_sale_at: Annotated[str | None, typer.Option(metavar="TIME", help="Until when. Default: its start.")] = None,
    closed: Annotated[bool, typer.Option("--closed", help="Not on sale until `events open`.")] = False,
    allow_past: AllowPast = False,
    allow_late_cancel: AllowLateCancel = False,
    client: Annotated[
        str | None, typer.Option(help="Id of the shop that owns it. Default: the only or demo shop.")
    ] = None,
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Create an event: on sale at once, from a time on, or closed."""
    from boxoffice.sales.control import Actor
    from boxoffice.sales.rules import Rules

    tiers, start = [tier_of(text) for text in tier], time_of(starts_at)
    rules = Rules(**rules_given(
        booking_min=booking_min, booking_max=booking_max, customer_min=customer_min, customer_max=customer_max
    ))  # fmt: skip

    async def work(office: BoxOffice) -> dict[str, Any]:
        owner = client or await _usual_client(office)
        event = await office.store.create_event(
            owner, name, start, currency, tiers, rules=rules, cancel_until=maybe_time(cancel_until),
            refund_percent=refund_percent, on_sale_at=maybe_time(on_sale_at), off_sale_at=maybe_time(off_sale_at),
            status="inactive" if closed else "active", by=Actor.operator().name,
            allow=allowed(allow_past, allow_late_cancel),
        )  # fmt: skip
        return await described(office, event)

    print_event(in_office(data_dir, work), as_json)


def open_sale(event_id: EventArgument, as_json: JsonOption = False, data_dir: DataDirOption = DEFAULT_DATA_DIR) -> None:
    """Put an event on sale that was not."""
    change(data_dir, event_id, as_json, status="active")


def close_sale(
    event_id: EventArgument, as_json: JsonOption = False, data_dir: DataDirOption = DEFAULT_DATA_DIR
) -> None:
    """Take an event off sale. What is booked stays booked."""
    change(data_dir, event_id, as_json, status="inactive")


async def _usual_client(office: BoxOffice) -> str:
    from boxoffice.errors import CannotRun
    from ops.seed import DEMO_CLIENT

    clients = [client["id"] for client in await office.access.clients()]
    if DEMO_CLIENT in clients:
        return DEMO_CLIENT
    if len(clients) == 1:
        return str(clients[0])
    raise CannotRun("Say whose event it is with --client; `boxoffice clients list` has the ids.")


def _print(events: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(events)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("id", "name", "starts", "status", "tiers, available")
    for event in events:
        tiers = ", ".join(f"{tier['code']} {count_of(tier)}" for tier in event["tiers"])
        table.add_row(event["id"], event["name"], event["starts_at"], event["status"], tiers)
    Console().print(table)
