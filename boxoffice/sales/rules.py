"""Least and most tickets: of one booking, and of one customer in all bookings that are held or bought. Of an event, and of each
tier. lib/rules.lua counts them, inside the call that admits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from boxoffice.errors import Malformed
from boxoffice.stores.database import Row

__all__ = ["COUNT_MAX", "NONE", "RULES", "Rules", "check_rules", "rules_text"]

COUNT_MAX: Final = 2_147_483_647
"""PostgreSQL's integer: capacities, prices in minor units, and tickets."""


class Rules(NamedTuple):
    """Tickets; None for no bound. By the names of their columns."""

    booking_min: int | None = None
    booking_max: int | None = None
    customer_min: int | None = None
    """What a customer has with this booking is at least that many. Giving back is never refused."""
    customer_max: int | None = None

    @classmethod
    def of(cls, row: Mapping[str, Any] | Row) -> Rules:
        """Those of an event or a tier, as PostgreSQL has it."""
        return cls(*(row[name] for name in RULES))

    @property
    def given(self) -> dict[str, int]:
        """Those that bound something."""
        return {name: value for name, value in self._asdict().items() if value is not None}


RULES: Final = Rules._fields

NONE: Final = Rules()
"""Any number of tickets."""


def rules_text(event: Rules, tiers: Iterable[tuple[str, Rules]]) -> str:
    """As lib/rules.lua reads them; the event's `customer_max` is told apart. Empty when nothing else has any."""
    own = [":".join((tier, *_counts(rules))) for tier, rules in tiers if rules.given]
    if not (own or event._replace(customer_max=None).given):
        return ""
    return f"{':'.join(_counts(event)[:3])}|{','.join(own)}"


def _counts(rules: Rules) -> list[str]:
    return [str(count or 0) for count in rules]


def check_rules(rules: Rules, pointer: str, event: Rules, quantity_max: int) -> None:
    """`event` has the rules of a tier's event, which bound it, too (`NONE` for the event itself); `quantity_max` are the
    tickets that one booking may have, whatever the rules say. Raises `Malformed`."""
    for name, value in rules.given.items():
        if not 1 <= value <= COUNT_MAX:
            raise Malformed(f"Rules count tickets: 1 to {COUNT_MAX}.", pointer=f"{pointer}/{name}")
    bounds = (rules.booking_max, rules.customer_max, event.booking_max, event.customer_max, quantity_max)
    most = min(bound for bound in bounds if bound is not None)
    # The first booking of a customer has to reach both.
    for name in ("booking_min", "customer_min"):
        if rules.given.get(name, 0) > most:
            detail = f"Nobody could book: no more than {most} tickets are let in at once."
            raise Malformed(detail, pointer=f"{pointer}/{name}", code="least_above_most")
