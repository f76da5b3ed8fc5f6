"""`boxoffice codes`: access codes, with which some book before the others, or what the others cannot."""

from __future__ import annotations

import csv
import sys
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ops.commands._events_control import EventArgument
from ops.commands._events_shown import maybe_time
from ops.commands._office import JsonOption, in_office, print_json, print_rows
from ops.options import DEFAULT_DATA_DIR, DataDirOption

if TYPE_CHECKING:
    from boxoffice.office import BoxOffice

__all__ = ["register"]

PAGE: Final = 10_000
"""Codes read at once."""

_LISTED: Final = (
    "id", "label", "tier_id", "tickets", "used", "valid_from", "valid_until", "created_at", "revoked_at",
)  # fmt: skip

LabelOption = Annotated[str | None, typer.Option(help="What you call them.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    codes = typer.Typer(help="Access codes of an event: presale, and tiers that need one.", no_args_is_help=True)
    codes.command("create")(create)
    codes.command("list")(list_codes)
    codes.command("revoke")(revoke)
    app.add_typer(codes, name="codes")


def create(
    event_id: EventArgument,
    tickets: Annotated[int, typer.Option(min=1, help="Held and bought with each code at a time, at most.")],
    count: Annotated[int | None, typer.Option(min=1, help="So many new codes. Default: one.")] = None,
    code: Annotated[
        list[str] | None, typer.Option(help="This code, of 12 letters and digits or more. May be given again.")
    ] = None,
    tier: Annotated[str | None, typer.Option(metavar="TIER", help="Id of the only tier it is for.")] = None,
    valid_from: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="From when it lets in. Default: now.")
    ] = None,
    valid_until: Annotated[
        str | None, typer.Option("--until", metavar="TIME", help="Until when. Default: the end of the sale.")
    ] = None,
    label: LabelOption = None,
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Make access codes and print them, as CSV or JSON. Nobody can print them again: only their digests are kept."""
    if count is not None and code:
        raise typer.BadParameter("Say how many new codes, or which: --count or --code.")
    from boxoffice.sales.codes import CodeTerms

    terms = CodeTerms(tickets, tier, maybe_time(valid_from), maybe_time(valid_until), label)

    async def work(office: BoxOffice) -> list[dict[str, Any]]:
        return await office.codes.create(event_id, terms, count=count or 1, given=code or ())

    made = in_office(data_dir, work)
    if as_json:
        print_json(made)
        return
    rows = csv.writer(sys.stdout, lineterminator="\n")
    rows.writerow(("id", "code"))
    rows.writerows((each["id"], each["code"]) for each in made)


def list_codes(
    event_id: EventArgument,
    label: LabelOption = None,
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """List an event's codes, without what they read: what each is good for, and how many tickets it has got."""

    async def work(office: BoxOffice) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while page := await office.codes.page(
            event_id, label=label, after=found[-1]["id"] if found else None, limit=PAGE
        ):
            found += page
        return found

    print_rows(in_office(data_dir, work, looks=True), _LISTED, as_json)


def revoke(
    event_id: EventArgument,
    code_id: Annotated[
        list[str] | None, typer.Argument(metavar="CODE_ID", help="Ids, as `codes list` has them.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="All codes of this label.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All codes of the event.")] = False,
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Let nothing more in with these codes, from the next booking on. What is booked stays booked."""
    if bool(code_id) + (label is not None) + every != 1:
        raise typer.BadParameter("Say which: ids, --label, or --all.")

    async def work(office: BoxOffice) -> int:
        return await office.codes.revoke(event_id, code_id or None, label=label)

    revoked = in_office(data_dir, work)
    print_json({"revoked": revoked}) if as_json else typer.echo(f"{revoked} codes revoked.")
