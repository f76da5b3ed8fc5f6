"""What was agreed before a rush begins: selling rules, and access codes of a presale with so many tickets each. Gives some of
the customers a code, mistyped now and then, and lets a few come again and again, so that both bounds are met all the time.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from boxoffice import ids
from boxoffice.sales.catalogue import EventView
from boxoffice.sales.rules import NONE, Rules
from ops.rush.plan import GOOD_CARD, Visit

__all__ = ["EVENT_RULES", "NO_CODE", "OWN", "PRESALE", "TIER_RULES", "Agreed", "Code", "invite", "rules_of"]

EVENT_RULES: Final = Rules(booking_max=5, customer_max=9)
TIER_RULES: Final = {"FRONT": Rules(booking_max=3), "FLOOR": Rules(customer_max=4)}
"""By the codes of tiers; the others have none."""

OWN: Final = 5
"""Tickets of a code of one customer: twice as many are more than a customer may have."""

PRESALE: Final = "FANS"
"""The tier for holders of a code."""

REGULARS: Final = 3
"""So few customers come again and again."""

REGULAR: Final = 0.06
CODED: Final = 0.14
"""Shares of visits."""

MISTYPED: Final = 0.04
"""Share of the codes that are used."""

NO_CODE: Final = "ZZZZ-ZZZZ-ZZZZ-ZZZZ"
"""What is typed then."""


class Code(NamedTuple):
    """An access code, as the shop was told it once."""

    id: str
    text: str
    event: str
    tickets: int
    """Held and bought with it, at a time."""

    @property
    def digest(self) -> str:
        """By which it is kept."""
        return ids.code_digest(self.text)


@dataclass(frozen=True, slots=True)
class Agreed:
    """Of the events of a rush. The audit counts by it, whatever the stores say that the rules are."""

    rules: Mapping[str, Rules] = field(default_factory=dict)
    """By the ids of events, and of tiers."""
    shared: Mapping[str, list[Code]] = field(default_factory=dict)
    """By event: codes that many customers use."""
    own: Mapping[str, list[Code]] = field(default_factory=dict)
    """By event: codes of one customer each."""
    presale: Mapping[str, str] = field(default_factory=dict)
    """By event, the tier that is sold to holders of a code alone."""

    @property
    def codes(self) -> list[Code]:
        """All of them."""
        return [code for kind in (self.shared, self.own) for codes in kind.values() for code in codes]


def rules_of(events: list[EventView]) -> dict[str, Rules]:
    """By the ids of events and tiers."""
    of_tiers = {tier.id: TIER_RULES.get(tier.code, NONE) for event in events for tier in event.tiers}
    return {event.id: EVENT_RULES for event in events} | of_tiers


def invite(visits: Iterable[Visit], agreed: Agreed, seed: int) -> Iterator[Visit]:
    """The visits, some of them with a code or of a regular customer. The same seed draws the same ones. Whoever wants to give
    all back and have it again has a code and a name of its own, so that nobody else can be the reason for a refusal."""
    chance = random.Random(f"agreed-{seed}")
    unused = {event: iter(codes) for event, codes in agreed.own.items()}
    for visit in visits:
        luck = chance.random()
        if visit.manner in ("browse", "bad"):
            yield visit
        elif visit.manner == "hold_again":
            yield _alone(visit, agreed, next(unused[visit.event], None))
        elif luck < REGULAR:
            yield replace(visit, customer=f"regular-{chance.randrange(REGULARS)}")
        elif luck < REGULAR + CODED:
            code = chance.choice(agreed.shared[visit.event]).text
            yield _coded(visit, agreed, NO_CODE if chance.random() < MISTYPED else code)
        else:
            yield visit


def _alone(visit: Visit, agreed: Agreed, code: Code | None) -> Visit:
    if code is None:
        return replace(visit, manner="hold_cancel")
    items = ((agreed.presale[visit.event], code.tickets),)
    name = f"{visit.customer}-{visit.number}"
    return replace(visit, customer=name, code=code.text, items=items, card=GOOD_CARD, free=False)


def _coded(visit: Visit, agreed: Agreed, code: str) -> Visit:
    """Every other one wants the tier of the presale; the others use it for what everybody may have."""
    if visit.number % 2:
        return replace(visit, code=code)
    tier = agreed.presale[visit.event]
    other = ((tier, 1 + visit.number % 3),) if visit.other else ()
    return replace(visit, code=code, items=((tier, 1 + visit.number // 2 % 3),), other=other, free=False)
