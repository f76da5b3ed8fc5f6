"""`boxoffice payments`: the gateway's books against ours, and money that is owed."""

from __future__ import annotations

import getpass
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ops.commands._office import JsonOption, in_office, print_json
from ops.options import DEFAULT_DATA_DIR, DataDirOption

if TYPE_CHECKING:
    from boxoffice.money.owed import OwedRefund
    from boxoffice.office import BoxOffice
    from boxoffice.repair.differences import Difference

__all__ = ["register"]

FOUND, MENDED = 1, 2


def register(app: typer.Typer) -> None:
    """Add the commands."""
    payments = typer.Typer(
        help="Payments: compare our books with the gateway's, pay what is owed.", no_args_is_help=True
    )
    payments.callback()(lambda: None)
    payments.command("audit")(audit)
    payments.command("owed")(owed)
    payments.command("retry")(retry)
    payments.command("write-off")(write_off)
    app.add_typer(payments, name="payments")


def audit(
    fix: Annotated[bool, typer.Option("--fix", help="Mend what can be mended: void, refund or capture.")] = False,
    grace: Annotated[int, typer.Option(min=0, help="Seconds for which money may be on its way.")] = 60,
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Find money set aside or taken for nothing, sales that were never paid, and amounts that differ.

    What is owed, pending or disputed is listed, too; on that the books agree. Exit code 0: the books agree; 1: they differ;
    2: they differed, and all of it is being mended; 3: it could not run.
    """

    async def work(office: BoxOffice) -> list[Difference]:
        found = [found async for found in office.payments_audit.run(fix=fix, grace_s=grace)]
        for books, count in sorted(office.payments_audit.others.items()):
            typer.echo(
                f"Not compared: {count} payments in the books of {books}. Here it is {office.gateway.books}.", err=True
            )
        if strangers := office.payments_audit.strangers:
            typer.echo(f"Not looked at: {strangers} payments of other installations that use this account.", err=True)
        return found

    found = in_office(data_dir, work, looks=not fix)
    if as_json:
        print_json([difference._asdict() for difference in found])
    else:
        _print(found)
    if wrong := [difference for difference in found if not difference.known]:
        sys.exit(MENDED if all(difference.mended for difference in wrong) else FOUND)


Which = Annotated[str, typer.Argument(metavar="ID", help="A booking, or one refund of it by its key.")]


def owed(as_json: JsonOption = False, data_dir: DataDirOption = DEFAULT_DATA_DIR) -> None:
    """List the refunds that the gateway refused, the oldest first."""

    async def work(office: BoxOffice) -> list[OwedRefund]:
        return await office.owed.find()

    _list(in_office(data_dir, work, looks=True), as_json, "Nothing is owed.")


def retry(
    which: Annotated[str, typer.Argument(metavar="[ID]", help="A booking, or one refund of it by its key.")] = "",
    all_: Annotated[bool, typer.Option("--all", help="Everything that is owed.")] = False,
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Let a worker ask the gateway once more for what is owed. However often it is typed, it is paid once."""
    if bool(which) == all_:
        raise typer.BadParameter("Name a booking or a refund, or say --all.")

    async def work(office: BoxOffice) -> list[OwedRefund]:
        return await office.owed.retry(which or None)

    _list(in_office(data_dir, work), as_json, "Nothing is owed.")


def write_off(
    which: Which,
    reason: Annotated[str, typer.Option("--reason", help="Why: paid by bank transfer, waived by the customer, …")],
    by: Annotated[str, typer.Option("--by", help="Who says so; by default the account that runs this.")] = "",
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """End what is owed without the gateway: it was paid by other means, or it never will be. Cannot be undone."""

    async def work(office: BoxOffice) -> list[OwedRefund]:
        return await office.owed.write_off(which, by or getpass.getuser(), reason)

    _list(in_office(data_dir, work), as_json, "Nothing is owed.")


def _list(refunds: list[OwedRefund], as_json: bool, nothing: str) -> None:
    if as_json:
        print_json([refund._asdict() for refund in refunds])
        return
    from boxoffice.currencies import shown

    for refund in refunds:
        amount = shown(refund.amount_cents, refund.currency)
        typer.echo(
            f"{refund.refund_key}  booking {refund.booking}: {amount} since {refund.since},"
            f" refused {refund.attempts} times ({refund.failure_code})"
        )
    if not refunds:
        typer.echo(nothing)


def _print(found: list[Difference]) -> None:
    from boxoffice.repair.differences import DIFFERENCES

    mended = {None: "", True: "  mended", False: "  NOT mended"}
    for what, meaning in DIFFERENCES.items():
        some = [difference for difference in found if difference.what == what]
        if some:
            typer.echo(f"{what} ({len(some)}): {meaning}")
        for difference in some:
            typer.echo(
                f"  {difference.payment_key}  booking {difference.booking or '-'}: gateway {difference.at_gateway};"
                f" ours {difference.ours}{mended[difference.mended]}"
            )
    if not any(not difference.known for difference in found):
        typer.echo("The gateway's books and ours agree.")
