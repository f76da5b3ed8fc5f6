"""What workers do for an event that is called off."""

from __future__ import annotations

import asyncio

from boxoffice.books.moves import apply_moves
from tests.conftest import settle_all
from tests.support.shop.office import Till

__all__ = ["work_off"]


async def work_off(till: Till) -> None:
    """What workers do, until it is finished and all money has moved."""
    office, shard = till.office, till.event.shard
    async with asyncio.timeout(20):
        while (await office.calling_off.report(till.event.id))["status"] == "running":
            await office.calling_off.work(shard)
            await settle_all(office)
            await office.loader.publish_unmirrored(shard)
            while await apply_moves(office.shards[shard], office.database):
                pass
    await till.rest()
