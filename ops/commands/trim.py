"""`boxoffice trim`: what retention lets go of, now instead of at a worker's next round."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from ops.commands._office import JsonOption, in_office, print_json
from ops.options import DEFAULT_DATA_DIR, DataDirOption

if TYPE_CHECKING:
    from boxoffice.office import BoxOffice

__all__ = ["register"]

LEFT = 1


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(trim)


def trim(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell how many rows would go.")] = False,
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Delete webhooks, stock moves, failures, places of traces and notices that are kept no longer. Bookings and money stay.

    Workers do it by themselves every minute. Exit code 0: nothing is left to go; 1: some would go (--dry-run).
    """

    async def work(office: BoxOffice) -> dict[str, int]:
        from boxoffice.books.trim import count_old
        from boxoffice.books.trim import trim as delete

        days = office.settings.worker.retention
        if dry_run:
            return await count_old(office.database, days)
        gone: Counter[str] = Counter(dict.fromkeys(days, 0))
        while some := await delete(office.database, days):
            gone.update(some)
        return dict(gone)

    rows = in_office(data_dir, work, looks=dry_run)
    if as_json:
        print_json(dict(sorted(rows.items())))
    else:
        for table, count in sorted(rows.items()):
            typer.echo(f"{table}: {count} {'would go' if dry_run else 'deleted'}")
    if dry_run and any(rows.values()):
        sys.exit(LEFT)
