"""`boxoffice events edit`, `schedule`, `pause` and whatever else changes a sale: the functions that the API has, too.

One file because each command is one function of a few lines, and all of them have the same options.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.commands._events_shown import NONE, described, maybe_time, print_event, rules_given, tier_of, time_of, times
from ops.commands._office import JsonOption, in_office, print_json
from ops.options import DEFAULT_DATA_DIR, DataDirOption

if TYPE_CHECKING:
    from boxoffice.office import BoxOffice
    from boxoffice.sales.catalogue import EventView

__all__ = [
    "AllowLateCancel",
    "AllowPast",
    "BookingMax",
    "BookingMin",
    "CustomerMax",
    "CustomerMin",
    "EventArgument",
    "allowed",
    "change",
    "register",
]

EventArgument = Annotated[str, typer.Argument(metavar="ID", help="The event's id.")]
TierArgument = Annotated[str, typer.Argument(metavar="TIER", help="The tier's id.")]
AllowPast = Annotated[bool, typer.Option("--allow-past", help="A start in the past is meant.")]
AllowLateCancel = Annotated[bool, typer.Option("--allow-late-cancel", help="Cancelling after the start is meant.")]
IfVersion = Annotated[int | None, typer.Option(help="Only if the event is of this version still.")]

BookingMin = Annotated[str | None, typer.Option(metavar="TICKETS", help="Least of one booking; `none`: any number.")]
BookingMax = Annotated[str | None, typer.Option(metavar="TICKETS", help="Most of one booking; `none`: any number.")]
CustomerMin = Annotated[
    str | None, typer.Option(metavar="TICKETS", help="Least one customer has in all; `none`: any number.")
]
CustomerMax = Annotated[
    str | None, typer.Option(metavar="TICKETS", help="Most one customer may have in all; `none`: any number.")
]

OnSaleAt = Annotated[str | None, typer.Option(metavar="TIME", help="From when it may be booked; `none`: at once.")]
OffSaleAt = Annotated[str | None, typer.Option(metavar="TIME", help="Until when; `none`: until it starts.")]


def register(events: typer.Typer) -> None:
    """Add the commands."""
    events.command("edit")(edit)
    events.command("schedule")(schedule)
    events.command("pause")(pause)
    events.command("resume")(resume)
    events.command("postpone")(postpone)
    events.command("call-off")(call_off)
    events.command("add-tier")(add_tier)
    events.command("edit-tier")(edit_tier)
    events.command("share")(share)
    events.command("unshare")(unshare)
    events.command("history")(history)


def edit(
    event_id: EventArgument,
    name: Annotated[str | None, typer.Option(help="What people read on the poster.")] = None,
    starts_at: Annotated[str | None, typer.Option(metavar="TIME", help="With its zone.")] = None,
    booking_min: BookingMin = None,
    booking_max: BookingMax = None,
    customer_min: CustomerMin = None,
    customer_max: CustomerMax = None,
    cancel_until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Until when bookings may be cancelled; `none`: its start.")
    ] = None,
    refund_percent: Annotated[
        int | None, typer.Option(min=0, max=100, help="Share that a cancellation gives back.")
    ] = None,
    if_version: IfVersion = None,
    allow_past: AllowPast = False,
    allow_late_cancel: AllowLateCancel = False,
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Change what is named of an event, in force from the next booking on."""
    changes: dict[str, Any] = {
        "name": name,
        "starts_at": None if starts_at is None else time_of(starts_at),
        "refund_percent": refund_percent,
    }
    changes = {field: value for field, value in changes.items() if value is not None}
    changes |= rules_given(
        booking_min=booking_min, booking_max=booking_max, customer_min=customer_min, customer_max=customer_max
    )  # fmt: skip
    changes |= times(cancel_until=cancel_until)
    allow = allowed(allow_past, allow_late_cancel)
    change(data_dir, event_id, as_json, if_version=if_version, allow=allow, **changes)


def schedule(
    event_id: EventArgument,
    on_sale_at: OnSaleAt = None,
    off_sale_at: OffSaleAt = None,
    if_version: IfVersion = None,
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Say from when and until when an event is on sale, by Redis's clock."""
    changes = times(on_sale_at=on_sale_at, off_sale_at=off_sale_at)
    change(data_dir, event_id, as_json, if_version=if_version, action="schedule", **changes)


ShopArgument = Annotated[str, typer.Argument(metavar="SHOP", help="Id of the other shop.")]


def share(
    event_id: EventArgument, shop: ShopArgument, as_json: JsonOption = False, data_dir: DataDirOption = DEFAULT_DATA_DIR
) -> None:
    """Let another shop see and sell an event, from now on. It manages nothing of it."""

    changed(data_dir, as_json, lambda office: office.sharing.share(event_id, shop))


def unshare(
    event_id: EventArgument, shop: ShopArgument, as_json: JsonOption = False, data_dir: DataDirOption = DEFAULT_DATA_DIR
) -> None:
    """Let another shop sell an event no longer. What it has booked stays its own."""

    changed(data_dir, as_json, lambda office: office.sharing.unshare(event_id, shop))


def pause(event_id: EventArgument, as_json: JsonOption = False, data_dir: DataDirOption = DEFAULT_DATA_DIR) -> None:
    """Let no booking of an event in until it is resumed. What is held may be paid meanwhile."""

    changed(data_dir, as_json, lambda office: office.control.pause(event_id))


def resume(event_id: EventArgument, as_json: JsonOption = False, data_dir: DataDirOption = DEFAULT_DATA_DIR) -> None:
    """End a pause."""

    changed(data_dir, as_json, lambda office: office.control.resume(event_id))


def postpone(
    event_id: EventArgument,
    starts_at: Annotated[str, typer.Option(metavar="TIME", help="The new start, with its zone.")],
    cancel_until: Annotated[
        str, typer.Option(metavar="TIME", help="Until when bookings may be cancelled; `none`: until it starts.")
    ],
    allow_past: AllowPast = False,
    allow_late_cancel: AllowLateCancel = False,
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Give an event another start, and its customers a time to cancel in."""
    start, until = time_of(starts_at), None if cancel_until == NONE else time_of(cancel_until)

    allow = allowed(allow_past, allow_late_cancel)
    changed(data_dir, as_json, lambda office: office.control.postpone(event_id, start, until, allow=allow))


def call_off(
    event_id: EventArgument,
    reason: Annotated[str | None, typer.Option(help="What is told in its history.")] = None,
    show: Annotated[bool, typer.Option("--show", help="Only tell how far it is.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Call an event off, for good: nothing more is sold, and workers refund everybody in full."""
    if not show and reason is None:
        raise typer.BadParameter("Say why with --reason, or --show how far it is.")
    if not (show or yes):
        typer.confirm("Call it off? Everybody is refunded, and that cannot be undone.", abort=True)

    async def work(office: BoxOffice) -> dict[str, Any]:
        if reason is None or show:
            return await office.calling_off.report(event_id)
        return await office.calling_off.call_off(event_id, reason)

    report = in_office(data_dir, work, looks=show)
    if as_json:
        print_json(report)
        return
    typer.echo(
        f"{report['event_id']}: called off, {report['status']}, since {report['started_at']}: {report['reason']}"
    )
    for status, count in sorted(report["bookings"].items()):
        typer.echo(f"  bookings {status}: {count}")
    for status, found in sorted(report["refunds"].items()):
        typer.echo(f"  refunds {status}: {found['refunds']}, {found['cents']} minor units")
    for each in report["refused"]:
        typer.echo(f"  refused: {each['booking_id']} {each['amount_cents']} {each['currency']} {each['code']}")


def add_tier(
    event_id: EventArgument,
    tier: Annotated[str, typer.Argument(metavar="CODE:PRICE_CENTS:CAPACITY")],
    name: Annotated[str, typer.Option(help="Default: its code.")] = "",
    booking_min: BookingMin = None,
    booking_max: BookingMax = None,
    customer_min: CustomerMin = None,
    customer_max: CustomerMax = None,
    on_sale_at: OnSaleAt = None,
    off_sale_at: OffSaleAt = None,
    code_only: Annotated[bool, typer.Option("--code-only", help="Sell it to holders of an access code alone.")] = False,
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Add a tier to an event, behind its others. Its own times stand in place of the event's."""
    given = rules_given(
        booking_min=booking_min, booking_max=booking_max, customer_min=customer_min, customer_max=customer_max
    )  # fmt: skip
    new = tier_of(tier)
    new = replace(
        new, name=name, on_sale_at=maybe_time(on_sale_at), off_sale_at=maybe_time(off_sale_at),
        rules=new.rules._replace(**given), code_only=code_only,
    )  # fmt: skip

    changed(data_dir, as_json, lambda office: office.control.add_tier(event_id, new))


def edit_tier(
    tier_id: TierArgument,
    name: Annotated[str | None, typer.Option(help="What people read.")] = None,
    price_cents: Annotated[int | None, typer.Option(min=0, help="For bookings from now on.")] = None,
    capacity: Annotated[int | None, typer.Option(min=0, help="As far as tickets are neither held nor sold.")] = None,
    display_order: Annotated[int | None, typer.Option(min=0, help="Its place among the tiers.")] = None,
    code_only: Annotated[
        bool | None,
        typer.Option("--code-only/--for-all", help="Sell it to holders of an access code alone, or to all."),
    ] = None,
    active: Annotated[bool | None, typer.Option("--on-sale/--off-sale", help="Put it on sale, or take it off.")] = None,
    booking_min: BookingMin = None,
    booking_max: BookingMax = None,
    customer_min: CustomerMin = None,
    customer_max: CustomerMax = None,
    on_sale_at: OnSaleAt = None,
    off_sale_at: OffSaleAt = None,
    if_version: IfVersion = None,
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Change what is named of a tier, in force from the next booking on. A hold keeps its price."""
    changes: dict[str, Any] = {
        "name": name, "price_cents": price_cents, "capacity": capacity, "display_order": display_order, "is_active": active,
        "code_only": code_only,
    }  # fmt: skip
    changes = {field: value for field, value in changes.items() if value is not None}
    changes |= times(on_sale_at=on_sale_at, off_sale_at=off_sale_at)
    changes |= rules_given(
        booking_min=booking_min, booking_max=booking_max, customer_min=customer_min, customer_max=customer_max
    )  # fmt: skip

    async def work(office: BoxOffice) -> dict[str, Any]:
        found = await office.control.change_tier(tier_id, if_version=if_version, **changes)
        shown = await described(office, found.event)
        if (moved := found.capacity) is not None:
            shown["capacity_change"] = {"before": moved.before, "asked": moved.asked, "after": moved.after}
        return shown

    event = in_office(data_dir, work)
    print_event(event, as_json)
    moved = event.get("capacity_change")
    if moved and moved["after"] != moved["asked"] and not as_json:
        typer.echo(f"Of {moved['before']} tickets {moved['after']} remain: so many are held or sold.")


def history(
    event_id: EventArgument,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="So many, the newest first.")] = 100,
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Who changed what of an event, and when."""

    async def work(office: BoxOffice) -> list[dict[str, Any]]:
        await office.store.event(event_id)
        return await office.control.history(event_id, limit=limit)

    found = in_office(data_dir, work, looks=True)
    if as_json:
        print_json(found)
        return
    for each in found:
        what = ", ".join(f"{field} {change['from']} -> {change['to']}" for field, change in each["changes"].items())
        tier = f" {each['tier_id']}" if each["tier_id"] else ""
        typer.echo(f"{each['changed_at']} v{each['version']} {each['changed_by']} {each['action']}{tier}: {what}")


def change(data_dir: Path, event_id: str, as_json: bool, **changes: Any) -> None:
    """Change an event and show it."""
    changed(data_dir, as_json, lambda office: office.control.change_event(event_id, **changes))


def changed(data_dir: Path, as_json: bool, act: Callable[[BoxOffice], Awaitable[EventView]]) -> None:
    """Do something to an event, and show it as it is then."""

    async def work(office: BoxOffice) -> dict[str, Any]:
        return await described(office, await act(office))

    print_event(in_office(data_dir, work), as_json)


def allowed(past: bool, late_cancel: bool) -> list[str]:
    """What is meant on purpose."""
    return [word for word, meant in (("past", past), ("late_cancel", late_cancel)) if meant]
