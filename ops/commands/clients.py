"""`boxoffice clients`: who may sell. Their keys: `ops/commands/keys.py`."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.commands._office import JsonOption, in_office, print_json, print_rows
from ops.options import DEFAULT_DATA_DIR, DataDirOption

if TYPE_CHECKING:
    from boxoffice.office import BoxOffice

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    clients = typer.Typer(help="Clients: the shops that sell through us.", no_args_is_help=True)
    clients.command("create")(create_client)
    clients.command("list")(list_clients)
    clients.command("return-urls")(set_return_urls)
    app.add_typer(clients, name="clients")


def create_client(
    name: Annotated[str, typer.Argument(help="The shop's name.")],
    same_name: Annotated[bool, typer.Option("--same-name", help="Another shop of this name is meant.")] = False,
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Create a shop. Give it a key with `boxoffice keys create`."""

    async def work(office: BoxOffice) -> str:
        return await office.access.create_client(name, allow_same_name=same_name)

    client = in_office(data_dir, work)
    print_json({"id": client, "name": name}) if as_json else typer.echo(client)


def list_clients(as_json: JsonOption = False, data_dir: DataDirOption = DEFAULT_DATA_DIR) -> None:
    """List the shops."""

    async def work(office: BoxOffice) -> list[dict[str, Any]]:
        return await office.access.clients()

    print_rows(
        in_office(data_dir, work, looks=True), ("id", "name", "created_at", "return_urls", "return_url"), as_json
    )


def set_return_urls(
    client: Annotated[str, typer.Argument(help="The shop's id.")],
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow", help="An origin, or the beginning of a path there; as often as you like."),
    ] = None,
    usual: Annotated[str | None, typer.Option("--usual", help="Of bookings that do not say; an allowed one.")] = None,
    nowhere: Annotated[bool, typer.Option("--none", help="Allow nothing any more.")] = False,
    by: Annotated[str, typer.Option("--by", help="Who does it; by default who is logged in.")] = "",
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Say where the shop's customers may come back to from the bank, in place of what was said before."""
    if bool(allow) == nowhere:
        raise typer.BadParameter("Name with --allow all that is allowed from now on, or say --none.")

    async def work(office: BoxOffice) -> None:
        await office.access.set_return_urls(client, allow or [], usual, actor=by or getpass.getuser())

    in_office(data_dir, work)
    typer.echo(f"{len(allow or [])} allowed; within two seconds.")
