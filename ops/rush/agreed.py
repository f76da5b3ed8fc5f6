"""What was agreed before a rush begins: selling rules, access codes of a presale with so many tickets each, and for whom
tickets may be set aside. Gives some of the customers a code, mistyped now and then, sends some to a partner shop, and lets a
few come again and again, so that all bounds are met all the time.
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

__all__ = [
    "ASIDE",
    "EVENT_RULES",
    "NO_CODE",
    "OWN",
    "PRESALE",
    "TIER_RULES",
    "Agreed",
    "Aside",
    "Code",
    "invite",
    "rules_of",
]

EVENT_RULES: Final = Rules(booking_max=5, customer_max=9)
TIER_RULES: Final = {"FRONT": Rules(booking_max=3), "FLOOR": Rules(customer_max=4)}
"""By the codes of tiers; the others have none."""

OWN: Final = 5
"""Tickets of a code of one customer: twice as many are more than a customer may have."""

PRESALE: Final = "FANS"
"""The tier for holders of a code."""

ASIDE: Final = "FLOOR"
"""The tier of which tickets are set aside: many want it, and it is sold out before the end."""

REGULARS: Final = 3
"""So few customers come again and again."""

REGULAR: Final = 0.06
CODED: Final = 0.14
LISTED: Final = 0.06
PARTNERED: Final = 0.08
"""Shares of visits: of regular customers, with a code of the presale, with the code of the guest list, at the partner shop."""

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


class Aside(NamedTuple):
    """For whom tickets of an event may be set aside, of which tier."""

    tier: str
    shop: str
    """The partner's client."""
    code: Code
    """Of the guest list: nobody uses it at the partner's, so that no ticket counts for both."""


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
    aside: Mapping[str, Aside] = field(default_factory=dict)
    """By event."""

    @property
    def codes(self) -> list[Code]:
        """All of them."""
        several = [code for kind in (self.shared, self.own) for codes in kind.values() for code in codes]
        return several + [aside.code for aside in self.aside.values()]


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
        elif luck < REGULAR + CODED + LISTED and (aside := agreed.aside.get(visit.event)):
            yield replace(_wants(visit, aside.tier), code=aside.code.text)
        elif luck < REGULAR + CODED + LISTED + PARTNERED and (aside := agreed.aside.get(visit.event)):
            yield replace(_wants(visit, aside.tier), at_partner=True)
        else:
            yield visit


def _alone(visit: Visit, agreed: Agreed, code: Code | None) -> Visit:
    if code is None:
        return replace(visit, manner="hold_cancel")
    items = ((agreed.presale[visit.event], code.tickets),)
    name = f"{visit.customer}-{visit.number}"
    return replace(visit, customer=name, code=code.text, items=items, card=GOOD_CARD, free=False)


def _wants(visit: Visit, tier: str) -> Visit:
    other = ((tier, 1 + (visit.number + 1) % 3),) if visit.other else ()
    return replace(visit, items=((tier, 1 + visit.number % 3),), other=other, free=False)


def _coded(visit: Visit, agreed: Agreed, code: str) -> Visit:
    """Every other one wants the tier of the presale; the others use it for what everybody may have."""
    if visit.number % 2:
        return replace(visit, code=code)
    tier = agreed.presale[visit.event]
    other = ((tier, 1 + visit.number % 3),) if visit.other else ()
    return replace(visit, code=code, items=((tier, 1 + visit.number // 2 % 3),), other=other, free=False)
