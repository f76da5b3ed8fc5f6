"""What a glance makes of two looks, and from when on something is a trouble."""

from __future__ import annotations

from typing import Any

import pytest

from boxoffice.backoffice.overview import (
    DUE_FOR_S,
    OVERDUE_S,
    Glance,
    Money,
    Sale,
    ShardGlance,
    troubles_of,
    with_rates,
)
from boxoffice.office import BoxOffice
from boxoffice.stores import keys
from boxoffice.stores.heartbeats import Beat, beat
from tests.conftest import SHARD, SaleMaker


def glance(
    at_ms: int, admitted: tuple[int, int], sold: dict[str, int] | None, gates: tuple[str, str] = ("open", "open")
) -> Glance:
    """Of two shards; the clock of the second one is an hour ahead."""
    times = (at_ms, at_ms + 3_600_000)
    shards = [ShardGlance(number, gates[number], admitted=admitted[number], at_ms=times[number]) for number in range(2)]
    sales = None if sold is None else [Sale(event, event, "active", 100, count, 0, 0) for event, count in sold.items()]
    return Glance([], shards, [], sales, Money(0, 0, 0))


BEFORE = glance(1_000, (10, 5), {"a": 4, "gone": 9})


@pytest.mark.parametrize(
    ("before", "now", "rates"),
    [
        (BEFORE, glance(3_500, (20, 10), {"a": 9}), (6.0, 2.0)),
        (BEFORE, glance(3_500, (20, 10), {"a": 9, "new": 70}), (6.0, 2.0)),
        (BEFORE, glance(4_000, (11, 5), {"a": 3}), (0.3, -0.3)),
        (BEFORE, glance(1_001, (11, 5), {"a": 4}), (1_000.0, 0.0)),
        (BEFORE, glance(1_000, (20, 10), {"a": 9}), (None, None)),
        (BEFORE, glance(999, (20, 10), {"a": 9}), (None, None)),
        (BEFORE, glance(3_500, (20, 10), None), (6.0, None)),
        (glance(1_000, (10, 5), None), glance(3_500, (20, 10), {"a": 9}), (6.0, None)),
        (BEFORE, glance(3_500, (20, 10), {"a": 9}, ("open", "away")), (None, None)),
        (glance(1_000, (10, 5), {"a": 4}, ("away", "open")), glance(3_500, (20, 10), {"a": 9}), (None, None)),
        (BEFORE, glance(3_500, (20, 10), {"a": 9}, ("closed", "unchecked")), (6.0, 2.0)),
        (None, glance(3_500, (20, 10), {"a": 9}), (None, None)),
    ],
)
def test_rates_are_a_second_by_the_clock_of_the_first_shard(
    before: Glance | None, now: Glance, rates: tuple[float | None, float | None]
) -> None:
    """An event that is new brings no jump, one that has gone no fall; nothing is said of what was not seen twice."""
    found = with_rates(now, before)
    assert (found.admitted_rate, found.sold_rate) == rates
    assert found == now._replace(admitted_rate=rates[0], sold_rate=rates[1])


@pytest.mark.parametrize(
    ("shard", "words"),
    [
        ({}, []),
        ({"backlog": 9, "holds": 9, "admitted": 9, "due_for_s": DUE_FOR_S, "drifted": 0}, []),
        ({"due_for_s": DUE_FOR_S + 0.1}, ["has been due"]),
        ({"parked": 1}, ["are parked"]),
        ({"drifted": 1}, ["drifted"]),
        ({"gate": "closed"}, ["its gate is closed"]),
        ({"gate": "unchecked"}, ["its gate is unchecked"]),
        ({"gate": "away", "due_for_s": 99, "parked": 1, "drifted": 1}, ["does not answer"]),
        ({"gate": "closed", "due_for_s": 99, "parked": 1, "drifted": 1}, ["gate", "due", "parked", "drifted"]),
    ],
)
def test_what_of_a_shard_somebody_has_to_look_at(shard: dict[str, Any], words: list[str]) -> None:
    """Of each shard, in their order; what is away says nothing else."""
    fine = ShardGlance(0, "open")
    found = troubles_of(Glance([], [fine, ShardGlance(7, **{"gate": "open"} | shard)], None, [], None))
    assert len(found) == len(words)
    assert all(said.startswith("Shard 7") and word in said for said, word in zip(found, words, strict=True))


@pytest.mark.parametrize(
    ("workers", "money", "words"),
    [
        (None, None, []), ([], None, ["No worker lives"]), ([Beat("host", 1, 1)], Money(0, 0, 9), []),
        (None, Money(2, 0, 0), ["2 refunds are owed"]), (None, Money(0, 3, 0), ["3 captures, voids or refunds"]),
        ([], Money(1, 1, 1), ["No worker", "1 refunds", "1 captures"]),
    ],
)  # fmt: skip
def test_what_somebody_has_to_look_at_besides(
    workers: list[Beat] | None, money: Money | None, words: list[str]
) -> None:
    found = troubles_of(Glance([], [], workers, [], money))
    assert [said.startswith(word) for said, word in zip(found, words, strict=True)] == [True] * len(words)
    assert all(f"{OVERDUE_S // 60} minutes" in said for said in found if "captures" in said)


async def test_a_shard_is_told_as_its_redis_has_it(office: BoxOffice, open_sale: SaleMaker) -> None:
    """What is due, by Redis's clock; of several workers the one that counted last knows what drifted."""
    await open_sale(GA=1)
    seconds, _ = await office.redis.time()
    now_ms = 1_000 * seconds
    await office.redis.zadd(keys.pending(SHARD), {"c": now_ms - 20_000, "b": now_ms - 40_000})
    await office.redis.zadd(keys.deadlines(SHARD), {"h": now_ms})
    await office.redis.zadd(keys.dead(SHARD), {"x": 1, "y": 2, "z": 3})
    await office.redis.set(keys.sequence(SHARD), 41)
    for pid, counted_ms, drifted in ((1, 5, 7), (2, 9, 4), (3, 0, 8), (4, 6, 6)):
        await beat(office.shards[SHARD], Beat("host", pid, 1, counted_ms, drifted))
    await beat(office.shards[0], Beat("host", 1, 1))
    glance = await office.overview.glance()
    first, found = glance.shards
    assert first == ShardGlance(0, "open", admitted=first.admitted, at_ms=first.at_ms)
    assert (found.shard, found.gate, found.backlog, found.holds, found.parked) == (SHARD, "open", 2, 1, 3)
    assert (found.admitted, found.drifted) == (41, 4)
    assert glance.workers is not None
    assert sorted(worker.pid for worker in glance.workers) == [1, 2, 3, 4], "each once, in however many shards it works"
    assert 40 <= found.due_for_s < 60
    assert 0 <= found.at_ms - now_ms < 20_000
