"""Runs a command's work in a box office on the servers it is told, and tells its options."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar

import typer

from ops.options import settings_for

if TYPE_CHECKING:
    from rich.table import Table

    from boxoffice.office import BoxOffice

__all__ = ["REDIS_RETRIES", "JsonOption", "in_office", "print_json", "print_rows", "print_table", "progress_bar"]

REDIS_RETRIES = 5
"""An operator's every command may be sent twice; a Redis that stays away is told after two seconds."""

UNBOUND = 1_000
"""Columns of a file, or of whatever reads the output: more than any table has."""

JsonOption = Annotated[bool, typer.Option("--json", help="As JSON.")]

Result = TypeVar("Result")


def in_office(
    data_dir: Path, work: Callable[[BoxOffice], Awaitable[Result]], *, looks: bool = False, every_shard: bool = False
) -> Result:
    """Open the office, do the work, close it. Work that only looks needs no right to write.

    Before the work begins, raises `CannotRun` naming the rights of an operator that our user or role lacks; with `every_shard`
    also when PostgreSQL has events in shards that our settings do not: they would be left out.
    """
    settings = settings_for(data_dir)
    from boxoffice.office import open_box_office
    from boxoffice.stores.durability import check_shards

    async def run() -> Result:
        async with open_box_office(settings, redis_retries=REDIS_RETRIES) as office:
            if not looks:
                await _check_rights(office)
            if every_shard:
                await check_shards(office.database, settings)
            return await work(office)

    return asyncio.run(run())


async def _check_rights(office: BoxOffice) -> None:
    """A Redis that is away is met by the work itself, if it needs it at all."""
    from boxoffice.stores import postgres_rights, redis, redis_rights

    with suppress(*redis.AWAY):
        for client in office.shards.clients:
            await redis_rights.check_rights(client, "operator")
    await postgres_rights.check_rights(office.database, "operator")


class Advance(Protocol):
    """Tells a bar how many are done, and of how many when that is known later."""

    def __call__(self, done: int, total: int | None = None) -> None:
        """Move it."""
        ...


@contextmanager
def progress_bar(what: str, total: int | None) -> Iterator[Advance]:
    """A bar on a terminal, nothing elsewhere."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)

        def advance(done: int, total: int | None = None) -> None:
            bar.update(task, completed=done, total=total)

        yield advance


def print_json(value: Any) -> None:
    """For programs."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(table: Table) -> None:
    """For people: as wide as the terminal; where there is none, as wide as it needs to be, so that no cell is cut."""
    from rich.console import Console

    console = Console()
    console.print(table) if console.is_terminal else Console(width=UNBOUND).print(table)


def print_rows(rows: Sequence[dict[str, Any]], columns: tuple[str, ...], as_json: bool) -> None:
    """A table for people, JSON for programs when they ask for it."""
    if as_json:
        print_json(list(rows))
        return
    from rich.table import Table

    table = Table(*(column.replace("_", " ") for column in columns))
    for row in rows:
        table.add_row(*(_cell(row[column]) for column in columns))
    print_table(table)


def _cell(value: Any) -> str:
    return " ".join(value) if isinstance(value, list) else str(value or "")
