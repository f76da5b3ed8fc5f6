"""`boxoffice dead`: bookings that could not be settled, and what an operator makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.commands._office import JsonOption, in_office, print_json
from ops.options import DEFAULT_DATA_DIR, DataDirOption

if TYPE_CHECKING:
    from boxoffice.office import BoxOffice
    from boxoffice.parked import DeadLetter, Ended

__all__ = ["register"]

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


def list_dead(as_json: JsonOption = False, data_dir: DataDirOption = DEFAULT_DATA_DIR) -> None:
    """List them, the oldest first."""

    async def work(office: BoxOffice) -> list[DeadLetter]:
        return await office.parked.all()

    letters = in_office(data_dir, work)
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

    described = _described(in_office(data_dir, work))
    if as_json:
        print_json(described)
        return
    for name, value in described.items():
        typer.echo(f"{name + ':':14} {value}")


def retry(booking_id: BookingArgument, data_dir: DataDirOption = DEFAULT_DATA_DIR) -> None:
    """Let a worker try it again now, as often as at first."""

    async def work(office: BoxOffice) -> None:
        await office.parked.retry(booking_id)

    in_office(data_dir, work)
    typer.echo("A worker tries it again.")


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
