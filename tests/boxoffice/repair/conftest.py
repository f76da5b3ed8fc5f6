"""A guard, and a PostgreSQL that can be sent back in time."""

from __future__ import annotations

import pytest

from boxoffice.office import BoxOffice
from boxoffice.repair.guard import Guard
from boxoffice.repair.tools import Repair
from boxoffice.stores import fence
from tests.conftest import SHARD
from tests.support.guards import guard_of
from tests.support.past import Past
from tests.support.shop.office import Till


@pytest.fixture
async def guard(office: BoxOffice) -> Guard:
    """One that has seen this run of the server."""
    guard = guard_of(office)
    assert await guard.tick() == "fine"
    return guard


@pytest.fixture
def past(till: Till) -> Past:
    return Past(till.office)


def repair_of(till: Till) -> Repair:
    return till.office.repair


async def told(till: Till) -> list[fence.Pair]:
    return sorted(await fence.told(till.office.shards[SHARD]))
