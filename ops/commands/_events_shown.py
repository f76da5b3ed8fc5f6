"""What the commands of `boxoffice events` read from their options, and how they show an event."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import typer

from ops.commands._office import print_json

if TYPE_CHECKING:
    from boxoffice.office import BoxOffice
    from boxoffice.sales.catalogue import EventView
    from boxoffice.sales.checks import NewTier

__all__ = [
    "NONE",
    "count_of",
    "described",
    "maybe_time",
    "print_event",
    "rules_given",
    "rules_shown",
    "tier_of",
    "time_of",
    "times",
]

NONE = "none"
"""For a time or a limit that is to be taken away."""


def maybe_time(text: str | None) -> datetime | None:
    """A time that may be left out."""
    return None if text in (None, NONE) else time_of(str(text))


def times(**given: str | None) -> dict[str, datetime | None]:
    """Those that were given, by field."""
    return {field: maybe_time(text) for field, text in given.items() if text is not None}


def time_of(text: str) -> datetime:
    """A time, with its zone. Raises `typer.BadParameter`."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no time such as 2030-05-22T14:00:00Z.") from None


def tier_of(text: str) -> NewTier:
    """Code, price, capacity, and then rules such as `booking_max=4`. Raises `typer.BadParameter`."""
    from boxoffice.sales.checks import NewTier
    from boxoffice.sales.rules import RULES, Rules

    code, *numbers = text.split(":")
    numbers, rules = numbers[:2], dict(each.partition("=")[::2] for each in numbers[2:])
    if len(numbers) != 2 or not all(each.isascii() and each.isdecimal() for each in (*numbers, *rules.values())):
        raise typer.BadParameter(f"{text!r} is not CODE:PRICE_CENTS:CAPACITY, such as GA:1000:500.")
    if unknown := rules.keys() - set(RULES):
        raise typer.BadParameter(f"{min(unknown)!r} is none of {', '.join(RULES)}.")
    return NewTier(code, int(numbers[0]), int(numbers[1]), rules=Rules(**{rule: int(n) for rule, n in rules.items()}))


def rules_given(**given: str | None) -> dict[str, int | None]:
    """Rules that were given, by name; `none` takes one away. Raises `typer.BadParameter` for what is no number from 1."""
    for rule, text in given.items():
        if text not in (None, NONE) and not (text.isascii() and text.isdecimal() and int(text)):
            option = f"'--{rule.replace('_', '-')}'"
            raise typer.BadParameter(f"{text!r} is no number of tickets from 1, and not `none`.", param_hint=option)
    return {rule: None if text == NONE else int(text) for rule, text in given.items() if text is not None}


def rules_shown(of: Mapping[str, Any]) -> str:
    """The rules of an event or a tier, for people; empty when there are none."""
    from boxoffice.sales.rules import RULES

    return ", ".join(f"{rule} {of[rule]}" for rule in RULES if of[rule] is not None)


async def described(office: BoxOffice, event: EventView) -> dict[str, Any]:
    """As the API answers it; what is available is None while Redis does not know."""
    from boxoffice.errors import Unavailable

    try:
        return event.describe(await office.catalogue.availability(event))
    except Unavailable:
        return event.describe([None] * len(event.tiers))


def print_event(event: dict[str, Any], as_json: bool) -> None:
    """An event, for people or programs."""
    if as_json:
        print_json(event)
        return
    from rich.console import Console
    from rich.table import Table

    from boxoffice.currencies import shown

    typer.echo(f"{event['name']} ({event['id']}), {event['starts_at']}, {event['status']}, version {event['version']}")
    if event["on_sale_at"] or event["off_sale_at"]:
        typer.echo(f"on sale from {event['on_sale_at'] or 'now'} until {event['off_sale_at'] or 'it starts'}")
    if rules := rules_shown(event):
        typer.echo(f"tickets let in: {rules}")
    table = Table("tier id", "code", "name", "price", "available", "rules")
    for tier in event["tiers"]:
        price = shown(tier["price_cents"], event["currency"])
        rules = " ".join(filter(None, (rules_shown(tier), "code-only" if tier["access_code_required"] else "")))
        table.add_row(tier["id"], tier["code"], tier["name"], price, count_of(tier), rules)
    Console().print(table)


def count_of(tier: dict[str, Any]) -> str:
    """What is left of how many."""
    return f"{'?' if tier['available'] is None else tier['available']} of {tier['capacity']}"
