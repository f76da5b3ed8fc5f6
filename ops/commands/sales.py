"""`boxoffice sales`: how sales stand, in tickets and money."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer

from ops.commands._office import JsonOption, in_office, print_json, print_table
from ops.options import DEFAULT_DATA_DIR, DataDirOption, moment

if TYPE_CHECKING:
    from boxoffice.backoffice.figures import Sold, Stats
    from boxoffice.office import BoxOffice

__all__ = ["register", "stats"]


class By(StrEnum):
    """Periods of a sale."""

    day = "day"
    hour = "hour"


class Format(StrEnum):
    """How figures are printed."""

    table = "table"
    csv = "csv"
    json = "json"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(sales)


def sales(
    event: Annotated[list[str] | None, typer.Argument(metavar="[EVENT]...", help="Only these events.")] = None,
    by: Annotated[By | None, typer.Option("--by", help="Apart by when they were booked.")] = None,
    zone: Annotated[str, typer.Option("--zone", help="Time zone of days and hours: Europe/Berlin.")] = "UTC",
    since: Annotated[str | None, typer.Option(metavar="TIME", help="Booked then or later.")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Booked before.")] = None,
    past: Annotated[bool, typer.Option("--past", help="Also events that started more than a day ago.")] = False,
    form: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.table,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON: --format json.")] = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Tickets sold, held and pending, revenue and refunds, by event and tier.

    Exit code 0, also when nothing is sold; 3: no such event, or a store is away.
    """
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise typer.BadParameter(f"{zone!r} is no time zone such as Europe/Berlin.") from None
    bounds = {"since": moment(since) if since else None, "until": moment(until) if until else None}

    async def work(office: BoxOffice) -> list[Sold]:
        return await office.figures.sales(event or (), by=by, zone=zone, past=past, **bounds)

    _show(in_office(data_dir, work, looks=True), Format.json if as_json else form)


def stats(
    event_id: Annotated[str, typer.Argument(metavar="ID", help="The event's id.")],
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """One event in figures: its tiers, bookings by status, customers with tickets, its busiest minute."""

    async def work(office: BoxOffice) -> Stats:
        return await office.figures.stats(event_id)

    found = in_office(data_dir, work, looks=True)
    if as_json:
        print_json({**found._asdict(), "tiers": [_described(row) for row in found.tiers]})
        return
    _table(found.tiers)
    typer.echo(f"Bookings: {', '.join(f'{count} {status}' for status, count in found.bookings.items()) or 'none'}.")
    if found.first_at:
        typer.echo(f"{found.customers} customers have tickets; sold from {found.first_at} to {found.last_at}.")
        typer.echo(f"Busiest minute: {found.busiest_minute}, {found.busiest_bookings} bookings.")


def _show(found: list[Sold], form: Format) -> None:
    """Print it."""
    if form is Format.json:
        print_json([_described(row) for row in found])
    elif form is Format.csv:
        _csv(found)
    else:
        _table(found)


def _described(row: Sold) -> dict[str, Any]:
    return {**row._asdict(), "net_cents": row.revenue_cents - row.refunded_cents}


_COLUMNS = (
    "event", "name", "tier", "code", "period", "capacity", "sold", "held", "pending", "available", "returned", "currency",
    "revenue", "refunded", "net",
)  # fmt: skip
_FIRST_AMOUNT = _COLUMNS.index("revenue")


def _cells(row: Sold) -> list[Any]:
    """As the columns go, amounts in whole units of the currency."""
    from boxoffice.currencies import decimal

    described = _described(row)
    counted = [described[name] for name in _COLUMNS[:_FIRST_AMOUNT]]
    return counted + [decimal(described[f"{name}_cents"], row.currency) for name in _COLUMNS[_FIRST_AMOUNT:]]


def _csv(found: list[Sold]) -> None:
    from boxoffice.backoffice.spreadsheets import csv_lines

    amounts = frozenset(range(_FIRST_AMOUNT, len(_COLUMNS)))
    typer.echo(csv_lines([_COLUMNS, *map(_cells, found)], plain=amounts), nl=False)


def _table(found: list[Sold]) -> None:
    if not found:
        typer.echo("Nothing was sold.")
        return
    from rich.table import Table

    by_period = any(row.period for row in found)
    hidden = {"event", "tier", "name"} | ({"held", "pending", "available", "capacity"} if by_period else {"period"})
    shown = [(at, name) for at, name in enumerate(_COLUMNS) if name not in hidden]
    table = Table("event", *(name for _, name in shown))
    for row in found:
        cells = _cells(row)
        table.add_row(row.name, *("?" if cells[at] is None else str(cells[at]) for at, _ in shown))
    for currency in sorted({row.currency for row in found}):
        table.add_section()
        table.add_row(*_total([row for row in found if row.currency == currency], currency, shown))
    print_table(table)


def _total(rows: list[Sold], currency: str, shown: list[tuple[int, str]]) -> list[str]:
    """The last line: amounts of one currency can be added."""
    from boxoffice.currencies import decimal

    cells = {"code": "", "period": "", "currency": currency}
    for name in ("capacity", "sold", "held", "pending", "available", "returned"):
        counts = [getattr(row, name) for row in rows]
        cells[name] = "?" if None in counts else str(sum(counts))
    for name in _COLUMNS[_FIRST_AMOUNT:]:
        cells[name] = decimal(sum(_described(row)[f"{name}_cents"] for row in rows), currency)
    return ["in all", *(cells[name] for _, name in shown)]
