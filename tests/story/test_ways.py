"""The story holds whatever lies between us and the stores. A part of it over each way; `STORY_WAY=… pytest tests/story` tells
all of it over one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from tests.story import test_booking, test_holds
from tests.support.shop.web import Shop
from tests.support.ways import STRAIGHT, WAYS

Told = Callable[[Shop], Awaitable[None]]

PARTS: tuple[Told, ...] = (
    test_booking.test_a_customer_buys_tickets,
    test_holds.test_a_customer_cancels_and_is_paid_back,
)


@pytest.mark.parametrize("way", [name for name in WAYS if name != STRAIGHT], indirect=True)
@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
async def test_the_story_is_the_same_over_every_way(shop: Shop, part: Told) -> None:
    await part(shop)
