"""What a process asks before it calls itself ready, for how long it believes the answers, and what it says is missing."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from redis.exceptions import ConnectionError, ResponseError
from structlog.testing import capture_logs

from boxoffice.backoffice import readiness
from boxoffice.backoffice.readiness import Readiness
from boxoffice.errors import CannotRun, GateClosed
from boxoffice.settings import Settings
from boxoffice.stores import keys

SHARDS = 3


class Homes(list[Any]):
    """Shards that have nothing but a Redis each."""

    clients: tuple[Any, ...] = ()


class House:
    """An office whose stores answer as the test says, and a clock that only the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[Any] = []
        self.errors: dict[str, Exception] = {}
        self.words = dict.fromkeys(range(SHARDS), "open")
        self.writes, self.trouble_says, self.now = True, "", 0.0
        self.database = SimpleNamespace(fetchval=self._answer("fetchval", 1))
        redis = self.redis = SimpleNamespace(set=self._answer("set", True))
        Homes.clients = (redis,)
        self.office: Any = SimpleNamespace(
            settings=Settings(shards=SHARDS),
            shards=Homes(SimpleNamespace(number=shard, redis=redis) for shard in range(SHARDS)),
            database=self.database,
            gateway=SimpleNamespace(trouble=self._trouble),
            catalogue=SimpleNamespace(events=self._answer("events", [])),
        )
        monkeypatch.setattr(readiness.gate, "look", self._look)
        monkeypatch.setattr(readiness.redis_client, "takes_writes", self._takes_writes)
        for name in ("check_redis", "check_postgresql", "check_shards"):
            monkeypatch.setattr(readiness.durability, name, self._answer(name, None))
        monkeypatch.setattr(readiness, "check_schema", self._answer("check_schema", None))
        for name in ("redis_rights", "postgres_rights"):
            monkeypatch.setattr(getattr(readiness, name), "check_rights", self._answer(name, None))
        clock: Any = SimpleNamespace(now_s=lambda: self.now)
        parts = self.office
        self.readiness = Readiness(parts.shards, parts.database, parts.catalogue, parts.gateway, parts.settings, clock)

    def _answer(self, name: str, answer: Any) -> Any:
        async def ask(*arguments: Any, **named: Any) -> Any:
            self.asked.append((name, *arguments, *named.values()))
            if name in self.errors:
                raise self.errors[name]
            return answer

        return ask

    async def _look(self, shard: Any) -> Any:
        assert shard is self.office.shards[shard.number]
        return SimpleNamespace(word=self.words[shard.number])

    async def _takes_writes(self, _redis: Any) -> bool:
        return self.writes

    async def _trouble(self) -> str:
        self.asked.append(("trouble",))
        if "trouble" in self.errors:
            raise self.errors["trouble"]
        return self.trouble_says

    async def reasons(self) -> dict[str, str]:
        self.asked.clear()
        return await self.readiness.reasons()

    def names(self) -> list[str]:
        return sorted({call[0] for call in self.asked})


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> House:
    return House(monkeypatch)


EVERYTHING = [
    "check_postgresql", "check_redis", "check_schema", "check_shards", "events", "postgres_rights", "redis_rights", "set",
    "trouble",
]  # fmt: skip


async def test_what_is_asked_and_for_how_long_it_is_believed(house: House) -> None:
    """Durability for five seconds, a write for half a second, the gateway for fifteen; the rest is asked each time."""
    assert await house.reasons() == {}
    assert house.names() == EVERYTHING
    settings = house.office.settings
    assert ("check_redis", house.redis, settings) in house.asked
    assert [call[0] for call in house.asked if call[-1] is settings] == [
        "check_redis",
        "check_postgresql",
        "check_shards",
    ]
    assert [call[1:] for call in house.asked if call[0] == "set"] == [
        (keys.probe(shard), "1", 60) for shard in range(SHARDS)
    ]
    assert [call[1:] for call in house.asked if call[0] == "redis_rights"] == [(house.redis, "api")]
    assert [call[1:] for call in house.asked if call[0] == "postgres_rights"] == [(house.database, "api")]
    for name in ("check_schema", "check_postgresql", "check_shards"):
        assert [call[1] for call in house.asked if call[0] == name] == [house.database]
    for seconds, names in (
        (0.0, ["events", "fetchval"]), (0.49, ["events", "fetchval"]), (0.01, ["events", "fetchval", "set"]),
        (4.49, ["events", "fetchval", "set"]), (0.01, [name for name in EVERYTHING if name not in ("set", "trouble")]),
        (9.99, [name for name in EVERYTHING if name != "trouble"]), (0.01, ["events", "fetchval", "trouble"]),
    ):  # fmt: skip
        house.now += seconds
        assert await house.reasons() == {}
        assert house.names() == names, house.now


async def test_as_long_as_anything_is_missing_durability_is_asked_each_time(house: House) -> None:
    house.words[2] = "closed"
    for _ in range(2):
        assert await house.reasons() == {"redis": "The gate of shard 2 is closed."}
        assert "check_redis" in house.names()


async def test_each_gate_that_is_shut_is_named(house: House) -> None:
    house.words |= {0: "unchecked", 1: "closed"}
    assert await house.reasons() == {
        "redis": "The gate of shard 0 is closed until this run of Redis is checked. The gate of shard 1 is closed."
    }


async def test_a_replica_is_not_written_to(house: House) -> None:
    house.writes = False
    assert await house.reasons() == {"redis": "It is a replica, and takes no writes."}
    assert "set" not in house.names()
    assert "check_redis" not in house.names()


@pytest.mark.parametrize(
    ("name", "error", "missing"),
    [
        ("check_redis", CannotRun("Redis has appendonly no."), {"redis": "Redis has appendonly no."}),
        ("check_postgresql", CannotRun("fsync off"), {"postgresql": "fsync off"}),
        ("redis_rights", CannotRun("may not zadd"), {"redis": "may not zadd"}),
        ("postgres_rights", CannotRun("may not write"), {"postgresql": "may not write"}),
        ("check_schema", CannotRun("run migrate"), {"postgresql": "run migrate"}),
        ("check_shards", CannotRun("more shards"), {"postgresql": "more shards"}),
        ("set", ConnectionError("hunter2"), {"redis": "It does not answer (ConnectionError)."}),
        (
            "set",
            ResponseError("MISCONF hunter2"),
            {"redis": "It takes no writes (MISCONF): it cannot write to its disk."},
        ),
        (
            "set",
            ResponseError("NOREPLICAS x"),
            {"redis": "It takes no writes (NOREPLICAS): too few of its replicas are connected."},
        ),
        ("set", ResponseError("NOPERM hunter2"), {"redis": "It takes no writes (NOPERM)."}),
        ("check_schema", OSError("hunter2"), {"postgresql": "It does not answer (OSError)."}),
        ("check_schema", KeyError("hunter2"), {"postgresql": "It could not be asked (KeyError)."}),
        ("events", GateClosed(), {"catalogue": GateClosed().detail}),
        ("events", TimeoutError(), {"catalogue": "It does not answer (TimeoutError)."}),
    ],
)
async def test_what_is_missing_is_said_by_part(
    house: House, name: str, error: Exception, missing: dict[str, str]
) -> None:
    """The others are asked all the same; only a mistake of ours is a line in the log."""
    house.errors[name] = error
    with capture_logs() as said:
        assert await house.reasons() == missing
    assert [line["event"] for line in said] == (["readiness.failed"] if isinstance(error, KeyError) else [])


async def test_a_write_that_was_refused_is_tried_again_at_once(house: House) -> None:
    house.errors["set"] = ResponseError("OOM")
    assert await house.reasons() == {"redis": "It takes no writes (OOM): its memory is full, see its maxmemory."}
    house.errors.clear()
    assert await house.reasons() == {}
    assert "set" in house.names()


@pytest.mark.parametrize("kind", ["reasons", "of_worker"])
async def test_many_who_ask_at_once_share_a_look(house: House, kind: str) -> None:
    """Nobody needs a key to ask, and each look writes; also while something is wrong. One of them that hangs up takes the
    answer from nobody, and who comes later has a look of its own."""
    ask = getattr(house.readiness, kind)
    answers = await asyncio.gather(*(ask() for _ in range(50)))
    assert (answers, [call[0] for call in house.asked].count("set")) == ([{}] * 50, SHARDS)
    house.now += 60
    house.errors["set"] = ResponseError("OOM")
    for _ in range(2):
        house.asked.clear()
        first, *others = [asyncio.create_task(ask()) for _ in range(50)]
        await asyncio.sleep(0)
        first.cancel()
        full = {"redis": "It takes no writes (OOM): its memory is full, see its maxmemory."}
        assert await asyncio.gather(*others) == [full] * 49
        assert [call[0] for call in house.asked].count("set") == 1


async def test_who_lacks_a_right_is_told_which_and_not_what_came_of_it(house: House) -> None:
    """Each kind of process asks for its own, before it looks at anything."""
    house.words[1] = "closed"
    house.errors |= {"redis_rights": CannotRun("may not get"), "postgres_rights": CannotRun("may not read")}
    for look, role in ((house.readiness.reasons, "api"), (house.readiness.of_worker, "worker")):
        house.asked.clear()
        assert await look() == {"redis": "may not get", "postgresql": "may not read"}
        assert not {"check_redis", "check_schema", "check_postgresql", "set"} & {*house.names()}
        assert [call[1:] for call in house.asked if "rights" in call[0]] == [
            (house.redis, role),
            (house.database, role),
        ]


async def test_workers_and_apis_look_for_themselves(house: House) -> None:
    house.words[1] = "closed"
    found = await asyncio.gather(house.readiness.of_worker(), house.readiness.reasons())
    assert found == [{}, {"redis": "The gate of shard 1 is closed."}]


async def test_a_gateway_that_refuses_us_is_a_reason_and_one_that_is_away_is_none(house: House) -> None:
    """It is waited for by the workers. What it said is remembered; what it did not say is nothing."""
    refused = "It refuses us, whatever the card (invalid_api_key): look at BOXOFFICE_GATEWAY__API_KEY."
    house.trouble_says = "invalid_api_key"
    assert await house.reasons() == {"gateway": refused}
    house.trouble_says = ""
    assert await house.reasons() == {"gateway": refused}
    house.now += 15
    house.errors["trouble"] = TimeoutError()
    assert await house.reasons() == {}


async def test_a_store_has_two_seconds_and_the_gateway_one(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    assert readiness.TIMEOUT_S == 2
    monkeypatch.setattr(readiness, "TIMEOUT_S", 0.04)
    waited: dict[str, float] = {}
    timeout = asyncio.timeout

    def noted(seconds: float) -> Any:
        waited[str(seconds)] = seconds
        return timeout(seconds)

    async def never(*_: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(readiness.asyncio, "timeout", noted)
    house.office.catalogue.events = house.office.gateway.trouble = never
    async with timeout(5):
        assert await house.reasons() == {"catalogue": "It does not answer (TimeoutError)."}
    assert set(waited.values()) == {0.04, 0.02}


async def test_a_worker_is_ready_whatever_stands_at_the_gates(house: House) -> None:
    """It opens them. Of what is on sale it needs nothing; of stores and gateway as much as the API."""
    house.words = dict.fromkeys(range(SHARDS), "closed")
    house.errors["events"] = GateClosed()
    assert await house.readiness.of_worker() == {}
    assert house.names() == [name for name in EVERYTHING if name != "events"]
    assert set(await house.reasons()) == {"redis", "catalogue"}
    house.writes, house.trouble_says = False, "invalid_api_key"
    house.errors["fetchval"] = OSError()
    house.now += 15
    house.errors["check_schema"] = CannotRun("run migrate")
    found = await house.readiness.of_worker()
    assert (found["redis"], found["postgresql"]) == ("It is a replica, and takes no writes.", "run migrate")
    assert set(found) == {"redis", "postgresql", "gateway"}
