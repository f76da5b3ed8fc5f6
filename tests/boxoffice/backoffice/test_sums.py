"""What processes have counted, added up: each adds what is new, once, and none loses what another has added."""

from __future__ import annotations

import contextlib

import pytest
from redis.exceptions import ConnectionError as RedisAway

from boxoffice.backoffice import sums as module
from boxoffice.backoffice.sums import Sums, counted, spread_of, summing
from boxoffice.clock import CLOCK
from boxoffice.office import BoxOffice
from boxoffice.telemetry import series
from tests.support.waiting import eventually


async def test_each_process_adds_what_is_new_once(office: BoxOffice) -> None:
    """What it had counted before it began is not among it: an office that opens later adds nothing twice."""
    series.ADMISSIONS.cell("sold_out").add(5)
    one, other = Sums(office.shards), Sums(office.shards)
    assert await one.read() == {}
    series.ADMISSIONS.cell("sold_out").add(2)
    series.SETTLED.cell("confirmed", "").add(3)
    series.ACCEPT_TO_COMMIT.cell().add(0.02, 4)
    for _ in range(3):
        await one.add()
    await other.add()  # in the same process of the tests: each of the two stands for one
    found = await one.read()
    assert (found["admissions:sold_out"], found["settled:confirmed"]) == (4, 6)
    assert sum(spread_of(found, "accept_to_commit")) == 8 and spread_of(found, "accept_to_commit")[1] == 8


async def test_what_redis_gave_no_answer_to_is_not_added_again(
    office: BoxOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be there: figures would rather miss a second than tell it twice."""
    here = Sums(office.shards)
    series.LAPSES.cell().add(1)
    with monkeypatch.context() as patch, contextlib.suppress(RedisAway):

        def away(*_: object, **__: object) -> None:
            raise RedisAway

        patch.setattr(office.redis, "pipeline", away)
        await here.add()
    assert "lapses" not in await here.read()
    series.LAPSES.cell().add(1)
    assert (await here.read())["lapses"] == 1


async def test_a_process_adds_every_second_and_at_its_end(office: BoxOffice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVERY_S", 0.01)
    here, looks = Sums(office.shards), Sums(office.shards)
    async with summing(here, CLOCK):
        series.LAPSES.cell().add(1)

        async def added() -> bool:
            found = await office.redis.hget("{s00}:sums", "lapses")
            return found is not None

        await eventually(added)
        monkeypatch.setattr(module, "EVERY_S", 60)
    assert (await looks.read())["lapses"] >= 1


def test_strangers_are_no_measure_of_our_answers() -> None:
    before = counted()
    for status in ("401", "404", "405", "503", "500", "200"):
        series.REQUESTS.cell("GET", "/v1/x", status).add()
    series.REQUESTS.cell("GET", "/readyz", "503").add()
    after = counted()
    more = {name: after[name] - before.get(name, 0) for name in ("http", "http:5xx", "http:500")}
    assert more == {"http": 4, "http:5xx": 2, "http:500": 1}


async def test_a_redis_that_takes_no_writes_is_read_all_the_same(office: BoxOffice) -> None:
    """Full: what was counted before is there."""
    here = Sums(office.shards)
    series.LAPSES.cell().add(1)
    before = (await here.read())["lapses"]
    series.LAPSES.cell().add(1)
    await office.redis.config_set("maxmemory", 1)
    try:
        assert (await here.read())["lapses"] == before
    finally:
        await office.redis.config_set("maxmemory", 0)
