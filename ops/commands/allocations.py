"""`boxoffice allocations`: tickets of a tier that only one shop, or only one access code, may take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ops.commands._events_control import EventArgument, IfVersion, TierArgument
from ops.commands._office import JsonOption, in_office, print_json, print_rows
from ops.options import DEFAULT_DATA_DIR, DataDirOption

if TYPE_CHECKING:
    from boxoffice.office import BoxOffice

__all__ = ["register"]

_LISTED: Final = (
    "id", "tier_id", "shop", "code_id", "tickets", "used", "reserved", "lacking", "in_force", "created_at", "released_at",
)  # fmt: skip

AllocationArgument = Annotated[str, typer.Argument(metavar="ALLOCATION", help="Its id, as `allocations list` has it.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    allocations = typer.Typer(help="Tickets that are set aside for one shop or one code.", no_args_is_help=True)
    allocations.command("create")(create)
    allocations.command("list")(list_allocations)
    allocations.command("resize")(resize)
    allocations.command("release")(release)
    app.add_typer(allocations, name="allocations")


def create(
    event_id: EventArgument,
    tier_id: TierArgument,
    tickets: Annotated[int, typer.Option(min=1, help="On top of what the holder holds or has bought of the tier.")],
    shop: Annotated[str | None, typer.Option(metavar="SHOP", help="Id of the shop that they are for.")] = None,
    code: Annotated[
        str | None, typer.Option(metavar="CODE_ID", help="Id of the code that they are for, as `codes list` has it.")
    ] = None,
    if_version: IfVersion = None,
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Set tickets aside for one shop or one access code. Exit code 1: fewer could be, since fewer are available."""
    if (shop is None) == (code is None):
        raise typer.BadParameter("Say for whom: --shop or --code.")
    from boxoffice.sales.allocations import Holder

    async def work(office: BoxOffice) -> dict[str, Any]:
        return await office.allocations.create(event_id, tier_id, Holder(shop, code), tickets, if_version=if_version)

    made = in_office(data_dir, work)
    _print(made, as_json)
    if made["reserved"] is not None and made["reserved"] < tickets:
        raise typer.Exit(1)


def list_allocations(
    event_id: EventArgument,
    every: Annotated[bool, typer.Option("--all", help="Show those that were released, too.")] = False,
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """List what is set aside of an event, how many of each are taken, and how many are reserved."""

    async def work(office: BoxOffice) -> list[dict[str, Any]]:
        return await office.allocations.page(event_id, every=every)

    print_rows([_shown(each, as_json) for each in in_office(data_dir, work, looks=True)], _LISTED, as_json)


def resize(
    event_id: EventArgument,
    allocation: AllocationArgument,
    tickets: Annotated[int, typer.Option(min=0, help="So many in all, taken ones among them.")],
    if_version: IfVersion = None,
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Let an allocation be of so many tickets. Exit code 1: it could not, since they are taken, or not available."""

    async def work(office: BoxOffice) -> dict[str, Any]:
        return await office.allocations.resize(event_id, allocation, tickets, if_version=if_version)

    changed = in_office(data_dir, work)
    _print(changed, as_json)
    if changed["tickets"] != tickets:
        raise typer.Exit(1)


def release(
    event_id: EventArgument,
    allocation: AllocationArgument,
    tickets: Annotated[
        int | None, typer.Option(min=1, help="So many of what nobody has taken. Default: all, with which it ends.")
    ] = None,
    if_version: IfVersion = None,
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Let everybody book what nobody has taken of an allocation, in one step. What its holder has stays its own."""

    async def work(office: BoxOffice) -> dict[str, Any]:
        return await office.allocations.release(event_id, allocation, tickets, if_version=if_version)

    _print(in_office(data_dir, work), as_json)


def _print(allocation: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(allocation)
        return
    state = "released" if allocation["released_at"] else f"{allocation['tickets']} tickets"
    counts = "" if allocation["used"] is None else f", {allocation['used']} taken, {allocation['reserved']} reserved"
    typer.echo(f"{allocation['id']}: {state}{counts}")


def _shown(allocation: dict[str, Any], as_json: bool) -> dict[str, Any]:
    """A zero is told as one: an empty cell is what nobody can say."""
    if as_json:
        return allocation
    return {
        name: ("no", "yes")[value] if isinstance(value, bool) else str(value) if isinstance(value, int) else value
        for name, value in allocation.items()
    }
