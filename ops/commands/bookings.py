"""`boxoffice bookings`: one booking, wherever something of it is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.commands._office import JsonOption, in_office
from ops.options import DEFAULT_DATA_DIR, DataDirOption

if TYPE_CHECKING:
    from boxoffice.office import BoxOffice

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    bookings = typer.Typer(help="Bookings: look into one.", no_args_is_help=True)
    # A group of one command would become that command.
    bookings.callback()(lambda: None)
    bookings.command("show")(show)
    app.add_typer(bookings, name="bookings")


def show(
    booking_id: Annotated[str, typer.Argument(metavar="ID", help="The booking's id.")],
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """What Redis, PostgreSQL and the gateway know of one booking, side by side."""

    async def work(office: BoxOffice) -> dict[str, Any]:
        return await office.dossiers.of(booking_id)

    dossier = in_office(data_dir, work)
    if as_json:
        typer.echo(json.dumps(dossier, indent=2, default=str))
        return
    for name in ("redis", "postgres", "gateway"):
        typer.echo(f"{name}:")
        typer.echo("\n".join(_lines(dossier[name] or "nothing", 1)))


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
