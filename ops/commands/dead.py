"""`boxoffice dead`: bookings that could not be settled, and what an operator makes of them."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.commands._office import JsonOption, in_office, print_json, progress_bar
from ops.options import DEFAULT_DATA_DIR, DataDirOption, finite

if TYPE_CHECKING:
    from boxoffice.books.dead_letters import DeadLetter
    from boxoffice.office import BoxOffice
    from boxoffice.repair.failing import Ended
    from boxoffice.repair.parked import Parked, Retried

__all__ = ["register"]

FOUND = 1

EventOption = Annotated[str, typer.Option("--event", metavar="ID", help="Those of this event.")]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Those whose error has this in it.")]
BookingArgument = Annotated[str, typer.Argument(metavar="ID", help="The booking's id.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    dead = typer.Typer(
        help="Parked bookings: they failed alone too often, keep their tickets, and wait for a word.",
        no_args_is_help=True,
    )
    dead.command("list")(list_dead)
    dead.command("show")(show)
    dead.command("retry")(retry)
    dead.command("fail")(fail)
    app.add_typer(dead, name="dead")


def list_dead(
    event: EventOption = "",
    reason: ReasonOption = "",
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """List them, the oldest first."""

    async def work(office: BoxOffice) -> list[DeadLetter]:
        return await office.parked.all(event=event, reason=reason)

    letters = in_office(data_dir, work, looks=True)
    if as_json:
        print_json([_described(letter) for letter in letters])
        return
    for letter in letters:
        typer.echo(f"{letter.booking}  {letter.parked_at}  {letter.error}")
    if not letters:
        typer.echo("No booking is parked.")


def show(booking_id: BookingArgument, as_json: JsonOption = False, data_dir: DataDirOption = DEFAULT_DATA_DIR) -> None:
    """Show one, and why it is parked."""

    async def work(office: BoxOffice) -> DeadLetter:
        return await office.parked.one(booking_id)

    described = _described(in_office(data_dir, work, looks=True))
    if as_json:
        print_json(described)
        return
    for name, value in described.items():
        typer.echo(f"{name + ':':14} {value}")


def retry(
    booking_id: Annotated[str, typer.Argument(metavar="[ID]", help="The booking's id.")] = "",
    every: Annotated[
        bool, typer.Option("--all", help="All that are parked, or those of --event and --reason.")
    ] = False,
    event: EventOption = "",
    reason: ReasonOption = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell which.")] = False,
    wait_s: Annotated[
        float, typer.Option("--wait", min=0, callback=finite, help="Seconds to wait for what becomes of them.")
    ] = 0,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Let workers try one again now, or all of them, as often as at first.

    Exit code 0: done, or none is parked; 1: some would be tried (--dry-run), or have not ended in the time of --wait.
    """
    if bool(booking_id) == (every or bool(event or reason)):
        raise typer.BadParameter("Name one booking, or --all, --event or --reason.")

    async def work(office: BoxOffice) -> tuple[list[DeadLetter], Retried | None]:
        parked = office.parked
        letters = [await parked.one(booking_id)] if booking_id else await parked.all(event=event, reason=reason)
        if dry_run:
            return letters, None
        with progress_bar("given back to the workers", len(letters)) as advance:
            await parked.retry_all(letters, advance)
        return letters, await _wait(parked, letters, wait_s) if wait_s else None

    letters, became = in_office(data_dir, work, looks=dry_run)
    if dry_run:
        for letter in letters:
            typer.echo(f"{letter.booking}  {letter.parked_at}  {letter.error}")
        typer.echo(f"{len(letters)} would be tried again.")
        sys.exit(FOUND if letters else 0)
    if not letters:
        typer.echo("No booking is parked." if every and not (event or reason) else "No such booking is parked.")
    elif not became:
        typer.echo("A worker tries it again." if booking_id else f"Workers try {len(letters)} again.")
    else:
        typer.echo(f"{became.ended} have ended, {became.waiting} are waiting, {became.parked} are parked again.")
        sys.exit(FOUND if became.waiting or became.parked else 0)


async def _wait(parked: Parked, letters: list[DeadLetter], wait_s: float) -> Retried:
    """Until all have ended or are parked again, or the time is over."""
    end = time.monotonic() + wait_s
    while (became := await parked.retried(letters)).waiting and time.monotonic() < end:  # noqa: ASYNC110 - workers are other processes
        await asyncio.sleep(0.2)
    return became


def fail(booking_id: BookingArgument, as_json: JsonOption = False, data_dir: DataDirOption = DEFAULT_DATA_DIR) -> None:
    """End it: its payment is let go, it fails with the code poison, and its tickets go on sale again."""

    async def work(office: BoxOffice) -> Ended:
        return await office.parked.fail(booking_id)

    ended = in_office(data_dir, work)
    if as_json:
        print_json(ended._asdict())
        return
    typer.echo(f"Payment: {ended.payment}.")
    typer.echo("Written: failed (poison)." if ended.written else "Not written: not even its event could be read.")
    typer.echo(f"Tickets: back on sale, by {'its record' if ended.stock == 'record' else 'a recount'}.")


def _described(letter: DeadLetter) -> dict[str, Any]:
    described = {
        "booking": letter.booking,
        "parked_at": letter.parked_at,
        "error": letter.error,
        "attempts": letter.attempts,
    }
    record = letter.record
    if record is None:
        return described | {"readable": False, "bytes": len(letter.raw)}
    return described | {
        "readable": True,
        "event": record.event,
        "client": record.body.client,
        "items": record.items,
        "amount_cents": record.body.amount_cents,
    }
