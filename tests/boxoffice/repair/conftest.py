"""A PostgreSQL that can be sent back in time."""

from __future__ import annotations

import pytest

from boxoffice.repair.tools import Repair
from boxoffice.stores import fence
from tests.conftest import SHARD
from tests.support.past import Past
from tests.support.shop.office import Till


@pytest.fixture
def past(till: Till) -> Past:
    return Past(till.office)


def repair_of(till: Till) -> Repair:
    return till.office.repair


async def told(till: Till) -> list[fence.Pair]:
    return sorted(await fence.told(till.office.shards[SHARD]))
