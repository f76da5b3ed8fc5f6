"""`boxoffice payments`: the gateway's books against ours."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ops.commands._office import JsonOption, in_office, print_json
from ops.options import DEFAULT_DATA_DIR, DataDirOption

if TYPE_CHECKING:
    from boxoffice.office import BoxOffice
    from boxoffice.payments_audit import Difference

__all__ = ["register"]

FOUND, MENDED = 1, 2


def register(app: typer.Typer) -> None:
    """Add the command."""
    payments = typer.Typer(help="Payments: compare our books with the gateway's.", no_args_is_help=True)
    payments.callback()(lambda: None)
    payments.command("audit")(audit)
    app.add_typer(payments, name="payments")


def audit(
    fix: Annotated[bool, typer.Option("--fix", help="Mend what can be mended: void, refund or capture.")] = False,
    grace: Annotated[int, typer.Option(min=0, help="Seconds for which money may be on its way.")] = 60,
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Find money set aside or taken for nothing, sales that were never paid, and amounts that differ.

    Exit code 0: the books agree; 1: they differ; 2: they differed, and all of it is being mended; 3: it could not run.
    """

    async def work(office: BoxOffice) -> list[Difference]:
        found = [found async for found in office.payments_audit.run(fix=fix, grace_s=grace)]
        for books, count in sorted(office.payments_audit.others.items()):
            typer.echo(
                f"Not compared: {count} payments in the books of {books}. Here it is {office.gateway.books}.", err=True
            )
        return found

    found = in_office(data_dir, work)
    if as_json:
        print_json([difference._asdict() for difference in found])
    else:
        _tell(found)
    if found:
        sys.exit(MENDED if all(difference.mended for difference in found) else FOUND)


def _tell(found: list[Difference]) -> None:
    from boxoffice.payments_audit import DIFFERENCES

    said = {None: "", True: "  mended", False: "  NOT mended"}
    for what, meaning in DIFFERENCES.items():
        some = [difference for difference in found if difference.what == what]
        if some:
            typer.echo(f"{what} ({len(some)}): {meaning}")
        for difference in some:
            typer.echo(
                f"  {difference.payment_key}  booking {difference.booking or '-'}: gateway {difference.at_gateway};"
                f" ours {difference.ours}{said[difference.mended]}"
            )
    if not found:
        typer.echo("The gateway's books and ours agree.")
