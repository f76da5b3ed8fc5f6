"""`boxoffice clients`: who may sell. Their keys: `ops/commands/keys.py`."""

from __future__ import annotations

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

    print_rows(in_office(data_dir, work), ("id", "name", "created_at"), as_json)
