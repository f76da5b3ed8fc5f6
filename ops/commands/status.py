"""`boxoffice status`: how it is going, and whether anything is wrong."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ops.commands._office import JsonOption, in_office, print_json, print_table
from ops.options import DEFAULT_DATA_DIR, DataDirOption

if TYPE_CHECKING:
    from rich.table import Table

    from boxoffice.backoffice.overview import Glance
    from boxoffice.office import BoxOffice

__all__ = ["register"]

TROUBLE: Final = 1
"""Exit code when somebody has to look at something."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(status)


def status(
    watch: Annotated[
        bool, typer.Option("--watch", help="Again and again, until Ctrl-C; with --json one line each.")
    ] = False,
    every: Annotated[float, typer.Option("--every", min=0.2, max=3_600, help="Seconds between two looks.")] = 1.0,
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Shards, gates, backlog and its age, drift, workers, rates, and the sales on now.

    It looks twice, `--every` seconds apart, for the rates. Exit code 0: all is well; 1: somebody has to look at something, and
    it says at what; 3: it could not look.
    """

    async def once(office: BoxOffice) -> Glance:
        await office.overview.glance()
        await asyncio.sleep(every)
        return await office.overview.glance()

    async def forever(office: BoxOffice) -> None:
        await (_lines(office, every) if as_json else _live(office, every))

    if watch:
        in_office(data_dir, forever, looks=True)
        return
    glance = in_office(data_dir, once, looks=True)
    if as_json:
        print_json(_described(glance))
    else:
        _print(glance)
    if glance.troubles:
        sys.exit(TROUBLE)


async def _lines(office: BoxOffice, every: float) -> None:
    while True:
        typer.echo(json.dumps(_described(await office.overview.glance()), ensure_ascii=False))
        sys.stdout.flush()
        await asyncio.sleep(every)


async def _live(office: BoxOffice, every: float) -> None:
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    with Live(auto_refresh=False, screen=sys.stdout.isatty()) as live:
        while True:
            glance = await office.overview.glance()
            below = [Text(line) for line in _troubles(glance)]
            live.update(Group(Text(_headline(glance)), *_tables(glance), *below), refresh=True)
            await asyncio.sleep(every)


def _print(glance: Glance) -> None:
    typer.echo(_headline(glance))
    for table in _tables(glance):
        print_table(table)
    for line in _troubles(glance):
        typer.echo(line)


def _described(glance: Glance) -> dict[str, Any]:
    workers = glance.workers
    return {
        "healthy": not glance.troubles,
        **glance._asdict(),
        "shards": [shard._asdict() for shard in glance.shards],
        "workers": workers
        and [{"host": each.host, "pid": each.pid, "started_ms": each.started_ms} for each in workers],
        "sales": glance.sales and [sale._asdict() for sale in glance.sales],
        "money": glance.money and glance.money._asdict(),
    }


def _headline(glance: Glance) -> str:
    workers = "?" if glance.workers is None else len(glance.workers)
    admitted, sold = _known(glance.admitted_rate), _known(glance.sold_rate)
    line = f"Workers: {workers}. Admitted: {admitted} bookings/s; sold: {sold} tickets/s."
    if money := glance.money:
        line += f" Refunds owed: {money.owed}; due at the gateway for long: {money.overdue}; stock moves open: {money.moves}."
    return line


def _tables(glance: Glance) -> list[Table]:
    from rich.table import Table
    from rich.text import Text

    shards = Table("shard", "gate", "backlog", "due for", "holds", "parked", "drifted events")
    for shard in glance.shards:
        numbers = (shard.backlog, f"{shard.due_for_s:.1f} s", shard.holds, shard.parked, _known(shard.drifted))
        cells = map(str, numbers if shard.gate != "away" else "?" * len(numbers))
        shards.add_row(str(shard.shard), shard.gate, *cells)
    sales = Table("on sale now", "status", "tickets", "sold", "%", "held", "available")
    for sale in glance.sales or ():
        share = 100 * sale.sold // max(sale.total, 1)
        counts = (sale.total, sale.sold, share, _known(sale.held), _known(sale.available))
        # Nobody's name is markup.
        sales.add_row(Text(sale.name), sale.status, *map(str, counts))
    return [shards, sales] if glance.sales else [shards]


def _troubles(glance: Glance) -> list[str]:
    if glance.troubles:
        return [f"! {trouble}" for trouble in glance.troubles]
    return ["All is well."] if glance.sales else ["All is well; nothing is on sale."]


def _known(value: float | None) -> str:
    return "?" if value is None else str(value)
