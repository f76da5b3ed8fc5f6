"""The events that a rush is about: made for it, sold by a shop of its own."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.sales.store import NewTier
from ops.rush.plan import Workload, capacities

__all__ = ["Sale", "open_sale"]

PRICES = {"FRONT": 12_000, "FLOOR": 6_500, "STAND": 2_500, "GUEST": 0}


@dataclass(frozen=True, slots=True)
class Sale:
    """What is sold, and the key to sell it with."""

    client: str
    api_key: str
    events: list[EventView]


async def open_sale(office: BoxOffice, workload: Workload) -> Sale:
    """Put events on sale: at least two, and one in every shard."""
    store = office.store
    client = await office.access.create_client("Rush shop", allow_same_name=True)
    api_key = await office.access.create_api_key(client)
    count = max(2, office.settings.shards)
    sizes = {code: max(10, capacity // count) for code, capacity in capacities(workload).items()}
    tiers = [NewTier(code, PRICES[code], capacity) for code, capacity in sizes.items()]
    starts = datetime.now(UTC) + timedelta(days=30)
    events = [
        await store.create_event(client, f"Rush {workload.seed}, stage {number}", starts, "USD", tiers)
        for number in range(1, count + 1)
    ]
    return Sale(client, api_key, events)
