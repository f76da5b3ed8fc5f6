"""`boxoffice bookings`: find them, look into one, cancel and refund at the desk.

One file because the five commands share how a booking is shown and how a refusal is told.
"""

from __future__ import annotations

import getpass
import json
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.commands._office import JsonOption, in_office, print_json, print_table
from ops.options import DEFAULT_DATA_DIR, DataDirOption, moment

if TYPE_CHECKING:
    from boxoffice.backoffice.finding import Finding, Match
    from boxoffice.office import BoxOffice

__all__ = ["register"]

FOUND_NONE = 1

BookingArgument = Annotated[str, typer.Argument(metavar="ID", help="The booking's id.")]
LimitOption = Annotated[int, typer.Option("--limit", min=1, max=1_000, help="At most so many.")]
ByOption = Annotated[str, typer.Option("--by", help="Who does it; by default the account that runs this.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    bookings = typer.Typer(help="Bookings: find, list, look into, cancel and refund them.", no_args_is_help=True)
    for command in (find, list_bookings, show, cancel, refund):
        bookings.command(command.__name__.partition("_")[0])(command)
    app.add_typer(bookings, name="bookings")


def find(
    text: Annotated[
        str,
        typer.Argument(metavar="[TEXT]", help="Id, reference, customer, or a payment's or refund's key or gateway id."),
    ] = "",
    last4: Annotated[
        str, typer.Option("--last4", metavar="DIGITS", help="Last four digits of the card, with --on.")
    ] = "",
    on: Annotated[str, typer.Option("--on", metavar="DATE", help="Day of the payment in UTC: 2030-05-22.")] = "",
    ended: Annotated[
        bool,
        typer.Option("--ended", help="Also holds that ended unpaid and that Redis remembers: reads all its records."),
    ] = False,
    limit: LimitOption = 20,
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Find bookings of any shop, in whatever state, newest first.

    Exit code 0: found; 1: nothing was found.
    """
    if bool(text) == bool(last4) or bool(last4) != bool(on):
        raise typer.BadParameter("Say what to look for: a text, or --last4 with --on.")
    if last4 and not (last4.isascii() and last4.isdecimal() and len(last4) == 4):
        raise typer.BadParameter("--last4 takes the four last digits of the card, and never more.")
    day = moment(on).date() if on else None

    async def work(office: BoxOffice) -> Finding:
        if day is not None:
            return await office.finder.by_card(last4, day, limit, ended=ended)
        return await office.finder.find(text, limit, ended=ended)

    finding = in_office(data_dir, work, looks=True)
    _print(finding, as_json)
    if not finding.matches:
        sys.exit(FOUND_NONE)


def list_bookings(
    event: Annotated[str | None, typer.Option(metavar="ID", help="Only of this event.")] = None,
    client: Annotated[str | None, typer.Option(metavar="ID", help="Only of this shop.")] = None,
    status: Annotated[str | None, typer.Option(help="Only in this state, held ones from Redis too.")] = None,
    customer: Annotated[str | None, typer.Option(help="Only of this customer.")] = None,
    reference: Annotated[str | None, typer.Option(help="Only with this order number of the shop.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Admitted then or later; UTC unless it has a zone.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Admitted before.")] = None,
    after: Annotated[
        str | None, typer.Option(metavar="ID", help="Only what stands behind this booking: the next page.")
    ] = None,
    limit: LimitOption = 50,
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """List bookings of all shops, newest first. Exit code 0, also when there is none."""
    from boxoffice import ids
    from boxoffice.backoffice.finding import Wanted
    from boxoffice.states import BOOKING_STATES

    if status is not None and status not in BOOKING_STATES:
        raise typer.BadParameter(f"A status is one of {', '.join(BOOKING_STATES)}.")
    if after is not None and ids.canonical_booking_id(after) is None:
        raise typer.BadParameter("--after takes the id of a booking.")
    first, last = _time(since), _time(until)
    wanted = Wanted(client, event, status, customer, reference, first, last, after and ids.canonical_booking_id(after))

    async def work(office: BoxOffice) -> Finding:
        return await office.finder.list(wanted, limit)

    _print(in_office(data_dir, work, looks=True), as_json, pages=True)


def cancel(
    booking_id: BookingArgument,
    by: ByOption = "",
    reason: Annotated[str, typer.Option("--reason", help="Why; kept with the operator's name.")] = "",
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Cancel a booking after its event's terms, as its shop could: a hold ends, a confirmed one is refunded.

    However often it is typed, it is done once. Exit code 0: it is cancelled; 3: it is not, and a sentence says what to do.
    """

    async def work(office: BoxOffice) -> dict[str, Any]:
        from boxoffice.wire import render

        return _dict(render.booking(await office.desk.cancel(booking_id, by or getpass.getuser(), reason)))

    view = in_office(data_dir, work)
    if as_json:
        print_json(view)
        return
    back = f" {_shown(view['refunded_cents'], view)} of {_shown(view['amount_cents'], view)} goes back."
    typer.echo(f"Booking {view['id']} is {view['status']}.{back if view['refund'] else ''}")


def refund(
    booking_id: BookingArgument,
    item: Annotated[
        list[str] | None, typer.Option("--item", metavar="TIER:QUANTITY", help="Tickets to refund, once for each tier.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All that is left: the booking is cancelled.")] = False,
    reason: Annotated[str, typer.Option("--reason", help="Why; the shop sees it.")] = "requested at the desk",
    key: Annotated[
        str, typer.Option("--key", help="Names the refund: the same key refunds once. By default a new one.")
    ] = "",
    by: ByOption = "",
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Refund a confirmed booking at full price whatever its event's terms; the tickets go on sale again.

    Exit code 0: the money is on its way; 3: it is not, and a sentence says what to do.
    """
    from boxoffice import ids

    if bool(item) == every:
        raise typer.BadParameter("Say what to refund: --all, or --item TIER:QUANTITY.")
    items = None if every else _items(item or [])

    async def work(office: BoxOffice) -> dict[str, Any]:
        from boxoffice.wire import render

        done = await office.desk.refund(booking_id, by or getpass.getuser(), items, reason, key or ids.short_id())
        return _dict(render.refund(done)) | {"repeated": done.repeated}

    done = in_office(data_dir, work)
    if as_json:
        print_json(done)
        return
    typer.echo(
        f"Refund {done['id']} of {_shown(done['amount_cents'], done)}: {done['status']}"
        f"{', as before' if done['repeated'] else ''}. The booking is {done['booking_status']}."
    )


def show(booking_id: BookingArgument, as_json: JsonOption = False, data_dir: DataDirOption = DEFAULT_DATA_DIR) -> None:
    """What Redis, PostgreSQL and the gateway know of one booking, side by side."""

    async def work(office: BoxOffice) -> dict[str, Any]:
        return await office.dossiers.of(booking_id)

    dossier = in_office(data_dir, work, looks=True)
    if as_json:
        typer.echo(json.dumps(dossier, indent=2, default=str))
        return
    for name in ("redis", "postgres", "gateway"):
        typer.echo(f"{name}:")
        typer.echo("\n".join(_lines(dossier[name] or "nothing", 1)))


def _time(text: str | None) -> datetime | None:
    return None if text is None else moment(text)


def _items(texts: list[str]) -> dict[str, int]:
    items: dict[str, int] = {}
    for text in texts:
        tier, _, quantity = text.rpartition(":")
        if not tier or not (quantity.isascii() and quantity.isdecimal()) or not 0 < int(quantity) < 1_000_000:
            raise typer.BadParameter(f"{text!r} is not TIER:QUANTITY, such as GA:2.")
        if tier in items:
            raise typer.BadParameter(f"The tier {tier} is named twice.")
        items[tier] = int(quantity)
    return items


def _dict(body: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(body)
    return found


def _shown(amount: int, of: dict[str, Any]) -> str:
    from boxoffice.currencies import shown

    return shown(amount, of["currency"])


def _described(match: Match) -> dict[str, Any]:
    """As the API answers it, with whose it is."""
    from boxoffice.wire import render

    return {"client_id": match.client, "found_by": match.by, **_dict(render.booking(match.view))}


def _print(finding: Finding, as_json: bool, *, pages: bool = False) -> None:
    if finding.redis_away:
        typer.echo("Redis does not answer: holds that were never tried to be paid are not among these.", err=True)
    bookings = [_described(match) for match in finding.matches]
    if as_json:
        print_json({"bookings": bookings, "next": finding.more})
        return
    if not bookings:
        typer.echo("No booking was found.")
        return
    from rich.table import Table

    table = Table("id", "admitted", "status", "event", "customer", "reference", "tickets", "amount")
    for each in bookings:
        tickets = ", ".join(f"{item['code']} {item['quantity']}" for item in each["items"])
        table.add_row(
            each["id"], each["created_at"], each["status"], each["event_id"], each["customer_id"],
            each["reference"] or "", tickets, _shown(each["amount_cents"], each),
        )  # fmt: skip
    print_table(table)
    if finding.more:
        typer.echo(f"There may be more: take a larger --limit{f', or --after {finding.more}' if pages else ''}.")


def _lines(value: Any, depth: int) -> list[str]:
    """Names and values, one a line; what belongs together is indented."""
    pad = "  " * depth
    if isinstance(value, list):
        return [line for entry in value for line in _entry(entry, depth)]
    if not isinstance(value, dict):
        return [f"{pad}{value}"]
    lines = []
    for name, inner in value.items():
        if isinstance(inner, (dict, list)) and inner:
            lines += [f"{pad}{name}:", *_lines(inner, depth + 1)]
        elif inner not in (None, False, [], {}):
            lines.append(f"{pad}{name + ':':18} {inner}")
    return lines


def _entry(entry: Any, depth: int) -> list[str]:
    first, *rest = _lines(entry, depth + 1)
    return ["  " * depth + "- " + first.lstrip(), *rest]
