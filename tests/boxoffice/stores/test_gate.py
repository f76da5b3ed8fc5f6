"""Asking for a look at a server that has just started, and waiting for it: each shard by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisAway
from redis.exceptions import ResponseError

from boxoffice.errors import RunUnchecked
from boxoffice.office import BoxOffice
from boxoffice.stores import gate, keys
from boxoffice.stores.gate import Gate, ask, ask_to_load, look, once_checked, open_gate, wait_until_called
from boxoffice.stores.redis import run_id
from boxoffice.stores.shard import Shard
from tests.support.clocks import Passing
from tests.support.houses import SHARDS

SHARD = 1


@pytest.fixture
def shards() -> int:
    return SHARDS


@pytest.fixture
async def watcher(office: BoxOffice) -> AsyncIterator[Redis]:
    """A client of its own, as a guard has."""
    client = Redis.from_url(office.settings.redis_url)
    yield client
    await client.aclose()


async def test_a_gate_is_opened_and_looked_at_in_its_own_shard(office: BoxOffice) -> None:
    """For the run that was looked at, and with a bell that nobody has heard taken away."""
    redis, run = office.redis, await run_id(office.redis)
    for shard in range(SHARDS):
        await redis.delete(keys.gate(shard))
        await redis.set(keys.bell(shard), 1)

    await open_gate(office.shards[SHARD], Gate("mine", run))

    assert ((await look(office.shards[SHARD])).gate, (await look(office.shards[SHARD])).word) == (
        Gate("mine", run),
        "open",
    )
    assert (await look(office.shards[0])).word == "closed"
    assert [await redis.exists(keys.bell(shard)) for shard in range(SHARDS)] == [1, 0]
    await redis.set(keys.gate(SHARD), Gate("mine", "before").pack())
    assert (await look(office.shards[SHARD])).word == "unchecked"


def test_guards_of_the_version_before_hear_the_same_call() -> None:
    """Both versions run during an upgrade: Redis keeps the name by which the older one calls and waits."""
    assert keys.unchecked(SHARD) == keys.gate(SHARD).removesuffix(":gate") + ":asked"


async def test_a_question_is_heard_by_whoever_guards_the_shard(office: BoxOffice, watcher: Redis) -> None:
    """Once, however often it is asked; and it is not kept for long."""
    for _ in range(3):
        await ask(office.redis, SHARD)
    assert await office.redis.llen(keys.unchecked(SHARD)) == 1  # type: ignore[misc]
    assert 0 < await office.redis.ttl(keys.unchecked(SHARD)) <= gate.CALL_TTL_S

    assert await wait_until_called(watcher, keys.unchecked(SHARD), 30)
    assert await office.redis.exists(keys.unchecked(SHARD)) == 0
    await ask(office.redis, 0)
    assert not await wait_until_called(watcher, keys.unchecked(SHARD), 0.05)
    assert await office.redis.llen(keys.unchecked(0)) == 1, "that is for another guard"  # type: ignore[misc]


async def test_who_lacks_an_event_asks_another_than_who_meets_a_new_server(office: BoxOffice) -> None:
    await ask_to_load(office.redis, SHARD)
    lengths = [
        await office.redis.llen(name(shard)) for name in (keys.lacking, keys.unchecked) for shard in range(SHARDS)
    ]  # type: ignore[misc]
    assert lengths == [0, 1, 0, 0]


async def test_a_server_that_refuses_the_question_is_looked_at_as_often_as_ever(
    monkeypatch: pytest.MonkeyPatch, office: BoxOffice
) -> None:
    """Whoever asks is not told; whoever waits for questions waits his time, and does not spin."""
    await office.redis.set(keys.unchecked(SHARD), "no list")
    await ask(office.redis, SHARD)
    time = Passing()
    assert not await wait_until_called(office.redis, keys.unchecked(SHARD), 3, time.clock)
    assert time.slept == [3]


class Server:
    """One that is unchecked for so many calls."""

    def __init__(self, unchecked: int) -> None:
        self.calls, self.unchecked, self.time = 0, unchecked, Passing(0.0)

    async def call(self) -> str:
        self.calls += 1
        if self.calls <= self.unchecked:
            raise RunUnchecked
        return "answer"


class Asked:
    """Whoever is asked."""

    def __init__(self) -> None:
        self.commands: list[tuple[Any, ...]] = []

    async def execute_command(self, *args: Any) -> Any:
        self.commands.append(args)


def shard_of(asked: Asked) -> Shard:
    return Shard(asked, None, SHARD)  # type: ignore[arg-type]


async def test_whoever_meets_an_unchecked_server_asks_and_tries_again() -> None:
    """Each time, with pauses that grow to a quarter of a second."""
    server, asked = Server(7), Asked()
    assert await once_checked(shard_of(asked), server.call, 10, server.time.clock) == "answer"
    assert server.time.slept == [0.02, 0.04, 0.08, 0.16, 0.25, 0.25, 0.25]
    assert [command[:2] for command in asked.commands if command[0] == "LPUSH"] == [
        ("LPUSH", keys.unchecked(SHARD))
    ] * 7


async def test_nobody_asks_who_is_answered() -> None:
    server, asked = Server(0), Asked()
    assert await once_checked(shard_of(asked), server.call, 0, server.time.clock) == "answer"
    assert (server.time.slept, asked.commands) == ([], [])


async def test_patience_ends() -> None:
    """And what else the call raises is raised at once."""
    server = Server(1_000)
    with pytest.raises(RunUnchecked):
        await once_checked(shard_of(Asked()), server.call, 1, server.time.clock)
    assert 0.75 <= server.time.now <= 1

    async def breaks() -> None:
        raise ValueError

    with pytest.raises(ValueError):
        await once_checked(shard_of(Asked()), breaks, 1)


@pytest.mark.parametrize(
    ("raw", "gate_", "word"),
    [
        (None, None, "closed"), (b"g:r", Gate("g", "r"), "open"), (b"g:other", Gate("g", "other"), "unchecked"),
        (b"a:b:r", Gate("a:b", "r"), "open"), (b"old", Gate("old", ""), "unchecked"), (b"\xff:r", Gate("\ufffd", "r"), "open"),
    ],
)  # fmt: skip
def test_what_a_gate_says(raw: bytes | None, gate_: Gate | None, word: str) -> None:
    """A generation may have colons; one of an earlier version names no run, and is not believed for this one."""
    found = Gate.parse(raw)
    assert found == gate_
    assert gate.GateSight(found, "r").word == word
    assert Gate("g", "r").pack() == "g:r"


async def test_a_process_asks_for_a_load_once_a_second_whoever_misses_something() -> None:
    """Each shard by itself."""
    time, asked = Passing(), Asked()
    lacking = gate.Lacking(lambda _: asked, time.clock)
    for at, shard in ((0, 1), (0, 1), (0, 0), (0.9, 1), (1.0, 1), (1.9, 1), (2.0, 1)):
        time.now = 100 + at
        lacking.met(shard)
    while lacking.asks:
        await asyncio.sleep(0)
    pushed = [command for command in asked.commands if command[0] == "LPUSH"]
    assert sorted(command[1] for command in pushed) == [keys.lacking(0), *[keys.lacking(1)] * 3]
    assert ("LTRIM", keys.lacking(1), 0, 0) in asked.commands
    assert ("EXPIRE", keys.lacking(1), 10) in asked.commands


class Waiting:
    """A server that answers BLPOP, and then PING, so; each answer once."""

    def __init__(self, popped: Any, *pings: Any) -> None:
        self.popped, self.pings, self.asked = popped, list(pings), list[Any]()

    async def execute_command(self, *args: Any) -> Any:
        self.asked.append(args)
        if isinstance(self.popped, Exception):
            raise self.popped
        return self.popped

    async def ping(self) -> bool:
        answer = self.pings.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return bool(answer)


@pytest.mark.parametrize(
    ("server", "asked", "slept"),
    [
        (Waiting([b"k", b"1"]), True, []),
        (Waiting(None), False, []),
        (Waiting(ResponseError("OOM")), False, [7]),
        (Waiting(RedisAway(), True), True, [0.02]),
        (Waiting(OSError(), RedisAway(), OSError(), True), True, [0.02] * 3),
        (Waiting(RedisAway(), RedisAway(), ResponseError("NOAUTH")), True, [0.02] * 2),
    ],
    ids=["asked", "in vain", "refused", "came back", "came back later", "came back and refuses"],
)
async def test_who_waits_to_be_asked_hears_a_question_and_a_server_that_came_back(
    server: Any, asked: bool, slept: list[float]
) -> None:
    time = Passing()
    assert await wait_until_called(server, "key", 7, time.clock) is asked
    assert (time.slept, server.asked) == (slept, [("BLPOP", "key", 7)])
