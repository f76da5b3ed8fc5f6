"""The events that a rush is about: sold by a shop of its own and by a partner, with selling rules and a presale."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.sales.codes import CodeTerms
from boxoffice.sales.rules import NONE
from boxoffice.sales.store import NewTier
from ops.rush.agreed import ASIDE, EVENT_RULES, OWN, PRESALE, TIER_RULES, Agreed, Aside, Code, rules_of
from ops.rush.plan import Workload, capacities

__all__ = ["Sale", "open_sale"]

PRICES = {"FRONT": 12_000, "FLOOR": 6_500, "STAND": 2_500, "GUEST": 0, PRESALE: 3_000}

SHARED = 4
"""Codes of an event that many use."""


@dataclass(frozen=True, slots=True)
class Sale:
    """What is sold, and the key to sell it with."""

    client: str
    api_key: str
    events: list[EventView]
    agreed: Agreed = field(default_factory=Agreed)
    partner: str = ""
    """Another shop that sells the events."""
    partner_api_key: str = ""

    @property
    def api_keys(self) -> dict[str, str]:
        """Of both shops, by client."""
        return {self.client: self.api_key, self.partner: self.partner_api_key}


async def open_sale(office: BoxOffice, workload: Workload) -> Sale:
    """Put events on sale: at least two, and one in every shard."""
    store = office.store
    client = await office.access.create_client("Rush shop", allow_same_name=True)
    api_key = await office.access.create_api_key(client)
    count = max(2, office.settings.shards)
    sizes = {code: max(10, capacity // count) for code, capacity in capacities(workload).items()}
    tiers = [
        NewTier(code, PRICES[code], capacity, rules=TIER_RULES.get(code, NONE), code_only=code == PRESALE)
        for code, capacity in sizes.items()
    ]
    starts = datetime.now(UTC) + timedelta(days=30)
    events = [
        await store.create_event(
            client, f"Rush {workload.seed}, stage {number}", starts, "USD", tiers, rules=EVENT_RULES
        )
        for number in range(1, count + 1)
    ]
    partner = await office.access.create_client("Rush partner", allow_same_name=True)
    partner_api_key = await office.access.create_api_key(partner)
    for event in events:
        await office.sharing.share(event.id, partner)
    agreed = await _agree(office, workload, events, partner)
    return Sale(client, api_key, events, agreed, partner, partner_api_key)


async def _agree(office: BoxOffice, workload: Workload, events: list[EventView], partner: str) -> Agreed:
    """Some codes for many customers, used up long before the rush ends, and many for one each; one of a guest list."""
    each = workload.seconds * workload.rate / len(events)

    async def codes(event: EventView, tickets: int, count: int, tier: str | None = None) -> list[Code]:
        made = await office.codes.create(event.id, CodeTerms(tickets, tier, label="presale"), count=count)
        return [Code(one["id"], one["code"], event.id, tickets) for one in made]

    async def aside(event: EventView) -> Aside:
        (tier,) = [tier for tier in event.tiers if tier.code == ASIDE]
        (code,) = await codes(event, tier.capacity, 1, tier.id)
        return Aside(tier.id, partner, code)

    return Agreed(
        rules_of(events),
        {event.id: await codes(event, max(4, int(each / 50)), SHARED) for event in events},
        {event.id: await codes(event, OWN, max(5, int(each / 40))) for event in events},
        {event.id: tier.id for event in events for tier in event.tiers if tier.code == PRESALE},
        {event.id: await aside(event) for event in events},
    )
