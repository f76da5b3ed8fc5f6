"""`boxoffice customers`: what a customer may ask of whoever runs this."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Annotated

import typer

from ops.commands._office import JsonOption, in_office, print_json
from ops.options import DEFAULT_DATA_DIR, DataDirOption

if TYPE_CHECKING:
    from boxoffice.backoffice.forgetting import Forgotten
    from boxoffice.office import BoxOffice

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    customers = typer.Typer(help="Customers: forget one.", no_args_is_help=True)
    # A group of one command would become that command.
    customers.callback()(lambda: None)
    customers.command("forget")(forget)
    app.add_typer(customers, name="customers")


def forget(
    customer: Annotated[str, typer.Argument(metavar="CUSTOMER", help="The shop's id of the customer.")],
    client: Annotated[str, typer.Option("--client", metavar="ID", help="The shop.")],
    by: Annotated[str, typer.Option("--by", help="Who does it; by default the account that runs this.")] = "",
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Erase a customer's personal data from PostgreSQL and Redis. Amounts, references, counts and limits stay.

    However often it is typed, it ends the same. Exit code 0: it is erased, or there was nothing; 3: something of the customer
    is undecided, and nothing was erased.
    """

    async def work(office: BoxOffice) -> Forgotten:
        return await office.forgetting.forget(client, customer, by or getpass.getuser())

    found = in_office(data_dir, work)
    if as_json:
        print_json(found._asdict())
        return
    rows = ", ".join(f"{count} {table}" for table, count in found.erased.items() if count) or "nothing"
    typer.echo(f"Erased in PostgreSQL: {rows}; in Redis: {found.records} records.")
    if found.pseudonym:
        typer.echo(f"The bookings are {found.pseudonym}'s now. Their tickets still count against the customer's limit.")
    if found.unread:
        typer.echo(
            f"{found.unread} records cannot be read, and may be this customer's: see `boxoffice dead list`;"
            " those that are not parked go with `boxoffice trim`, when they are old enough."
        )
    typer.echo("Ask the payment gateway, and the shop, to erase what they keep.")
