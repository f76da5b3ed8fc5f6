"""Whose payments were declined, as people are told: what decline.lua has counted, by who is refused for it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from boxoffice.backoffice.declined import DeclinedOf, declined
from boxoffice.office import BoxOffice
from boxoffice.rate_settings import DeclineSettings
from boxoffice.settings import Settings
from boxoffice.stores import keys
from boxoffice.stores.shard import Shard
from tests.conftest import SHARD

WINDOW_S = 3_600
"""No test outlasts it; one in thousands that is run as the hour strikes sees two."""

TERMS = DeclineSettings(window_s=WINDOW_S, customer_max=3, card_max=2, least=4, share=50)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"declines": TERMS})


async def count(office: BoxOffice, **counts: int) -> None:
    said = [part for field, payments in counts.items() for part in (field, payments)]
    window_ms = 1_000 * WINDOW_S
    here = office.shards[SHARD]
    await here.run("decline", declines=keys.declines(SHARD), window_ms=window_ms, card_max=2, good="", counts=said)


@pytest.mark.parametrize(
    ("counts", "whose", "of_all", "refused"),
    [
        ({"o:x": 2}, "customer", None, False), ({"o:x": 3}, "customer", None, True), ({"f:x": 1}, "card", None, False),
        ({"f:x": 2}, "card", None, True), ({"c:x": 4, "C:x": 8}, "client", 8, True), ({"c:x": 4, "C:x": 9}, "client", 9, False),
        ({"c:x": 3, "C:x": 3}, "client", 3, False), ({"e:x": 4, "E:x": 8}, "event", 8, True), ({"e:x": 4}, "event", 0, True),
        ({"e:x": 3, "E:x": 3}, "event", 3, False),
    ],
)  # fmt: skip
async def test_who_is_refused(
    office: BoxOffice, counts: dict[str, int], whose: str, of_all: int | None, refused: bool
) -> None:
    """By the rules of the scripts and of the workers."""
    await count(office, **counts)
    (found,) = await declined(office.shards, TERMS)
    assert 0 < found.ends_in_s <= WINDOW_S
    assert found == DeclinedOf(SHARD, whose, "x", next(iter(counts.values())), of_all, refused, found.ends_in_s)


@pytest.mark.parametrize("counts", [{"o:x": 99, "f:x": 99}, {"c:x": 99, "C:x": 99, "e:x": 99, "E:x": 99}])
async def test_nobody_is_refused_where_any_number_may_be_declined(office: BoxOffice, counts: dict[str, int]) -> None:
    await count(office, **counts)
    any_number = DeclineSettings(window_s=WINDOW_S, customer_max=0, card_max=0, least=0)
    assert {each.refused for each in await declined(office.shards, any_number)} == {False}


async def test_who_is_shown_first(office: BoxOffice) -> None:
    """Who is refused, and who has most. Nothing of another window, and nobody who has none left."""
    await count(office, **{"o:a": 9, "o:b": 1, "o:c": 2, "o:d": 5, "c:e": 3, "C:e": 9, "f:g": 2, "o:none": 1})
    await count(office, **{"o:none": -1})
    found = await declined(office.shards, TERMS)
    assert [each.name for each in found] == ["a", "d", "g", "e", "c", "b"]
    name = keys.declines(SHARD)
    began = int(await office.redis.hget(name, "at") or 0)  # type: ignore[misc]
    for other in (began - 1_000 * WINDOW_S, began + 1_000 * WINDOW_S):
        await office.redis.hset(name, "at", other)  # type: ignore[misc]
        assert await declined(office.shards, TERMS) == []


class Store:
    """One shard's counts."""

    def __init__(self, number: int) -> None:
        self.counts = {b"at": b"0", b"o:x": b"%d" % number}
        self.name = keys.declines(number)

    async def time(self) -> tuple[int, int]:
        return WINDOW_S - 1, 999_999

    async def hscan_iter(self, name: str, count: int) -> Any:
        assert name == self.name
        for each in self.counts.items():
            yield each


async def test_each_shard_counts_its_own() -> None:
    stores: list[Any] = [Store(number) for number in (1, 2, 3)]
    shards: Any = [Shard(store, SimpleNamespace(), number) for number, store in enumerate(stores, 1)]
    found = await declined(shards, TERMS)
    assert [(each.shard, each.declined, each.refused, each.ends_in_s) for each in found] == [
        (3, 3, True, 1), (2, 2, False, 1), (1, 1, False, 1)
    ]  # fmt: skip
