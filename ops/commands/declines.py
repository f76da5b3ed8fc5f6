"""`boxoffice declines`: whose payments are declined just now, and who is refused for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from ops.commands._office import JsonOption, in_office, print_rows
from ops.options import DEFAULT_DATA_DIR, DataDirOption

if TYPE_CHECKING:
    from boxoffice.backoffice.declined import DeclinedOf
    from boxoffice.office import BoxOffice

__all__ = ["register"]

COLUMNS = ("whose", "name", "declined", "answered", "refused", "ends_in_s", "shard")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(declines)


def declines(
    top: Annotated[int, typer.Option("--top", min=1, help="At most so many, those with most first.")] = 20,
    client: Annotated[str, typer.Option("--client", metavar="ID", help="The shop of --customer.")] = "",
    customer: Annotated[str, typer.Option("--customer", metavar="ID", help="Only of this customer of the shop.")] = "",
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Payments that were declined in the present window, by customer, client, event and card, and who is refused for it.

    A customer is shown by a digest; --client and --customer find one. A card is called what the gateway calls it.
    """
    if bool(client) != bool(customer):
        raise typer.BadParameter("--client and --customer belong together.")

    async def work(office: BoxOffice) -> list[DeclinedOf]:
        from boxoffice import ids
        from boxoffice.backoffice.declined import declined

        found = await declined(office.shards, office.settings.declines)
        if customer:
            who = ids.owner_digest(client, customer)
            found = [each for each in found if (each.whose, each.name) == ("customer", who)]
        return found[:top]

    print_rows([msgspec.structs.asdict(each) for each in in_office(data_dir, work, looks=True)], COLUMNS, as_json)
