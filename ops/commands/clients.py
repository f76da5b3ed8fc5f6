"""`boxoffice clients` and `boxoffice keys`: who may sell, and by which secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.commands._office import JsonOption, in_office, print_json
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
    keys = typer.Typer(help="API keys of clients. A client may have several, to replace one.", no_args_is_help=True)
    keys.command("create")(create_key)
    keys.command("list")(list_keys)
    keys.command("revoke")(revoke)
    app.add_typer(keys, name="keys")


def create_client(
    name: Annotated[str, typer.Argument(help="The shop's name.")],
    same_name: Annotated[bool, typer.Option("--same-name", help="Another shop of this name is meant.")] = False,
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Create a shop. Give it a key with `boxoffice keys create`."""

    async def work(office: BoxOffice) -> str:
        return await office.store.create_client(name, allow_same_name=same_name)

    client = in_office(data_dir, work)
    print_json({"id": client, "name": name}) if as_json else typer.echo(client)


def list_clients(as_json: JsonOption = False, data_dir: DataDirOption = DEFAULT_DATA_DIR) -> None:
    """List the shops."""

    async def work(office: BoxOffice) -> list[dict[str, Any]]:
        return await office.store.clients()

    _print(in_office(data_dir, work), ("id", "name", "created_at"), as_json)


def create_key(
    client: Annotated[str, typer.Argument(help="Id of the shop.")],
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Create an API key and print it. Nobody can print it again."""

    async def work(office: BoxOffice) -> str:
        return await office.store.create_api_key(client)

    key = in_office(data_dir, work)
    print_json({"key": key, "prefix": key.partition(".")[0], "client": client}) if as_json else typer.echo(key)


def list_keys(
    client: Annotated[str | None, typer.Option(help="Only of this shop.")] = None,
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """List API keys, without their secrets."""

    async def work(office: BoxOffice) -> list[dict[str, Any]]:
        return await office.store.api_keys(client)

    _print(in_office(data_dir, work), ("prefix", "client", "created_at", "revoked_at"), as_json)


def revoke(
    prefix: Annotated[str, typer.Argument(help="The key, up to its dot.")], data_dir: DataDirOption = DEFAULT_DATA_DIR
) -> None:
    """Stop accepting an API key. Processes that have just seen it may accept it for some seconds more."""

    async def work(office: BoxOffice) -> None:
        await office.store.revoke_api_key(prefix)

    in_office(data_dir, work)


def _print(rows: list[dict[str, Any]], columns: tuple[str, ...], as_json: bool) -> None:
    if as_json:
        print_json(rows)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(*(column.replace("_", " ") for column in columns))
    for row in rows:
        table.add_row(*(row[column] or "" for column in columns))
    Console().print(table)
