"""What is believed of a store and what is said when it is not, on servers that answer as the test says."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest
from redis.exceptions import BusyLoadingError, ConnectionError, ResponseError
from structlog.testing import capture_logs

from boxoffice.errors import CannotRun
from boxoffice.settings import Settings
from boxoffice.stores import durability
from boxoffice.stores.durability import check_postgresql, check_redis, check_shards, say_what_is_stated, stated
from boxoffice.stores.models import Base

GOOD = {
    "appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "no-appendfsync-on-rewrite": "no",
}  # fmt: skip
INFO = {
    "persistence": {"aof_enabled": 1, "aof_last_write_status": "ok", "loading": 0},
    "memory": {"maxmemory_policy": "noeviction"},
}  # fmt: skip


class Redis:
    """One that tells this configuration and this information, or refuses."""

    def __init__(self, told: Any = GOOD, info: Any = INFO, *, one_at_a_time: bool = False) -> None:
        self._told, self._info, self._one = told, info, one_at_a_time
        self.asked: list[tuple[str, ...]] = []

    async def config_get(self, *names: str) -> dict[str, str]:
        self.asked.append(names)
        if isinstance(self._told, Exception):
            raise self._told
        if self._one and len(names) > 1:
            raise ResponseError("wrong number of arguments")
        return {name: self._told[name] for name in names if name in self._told}

    async def info(self, section: str) -> dict[str, Any]:
        if isinstance(self._info, Exception):
            raise self._info
        return dict(self._info.get(section, {}))


def settings(**changes: Any) -> Settings:
    return Settings().model_copy(update=changes)


async def said_of(redis: Any, **changes: Any) -> str:
    try:
        await check_redis(redis, settings(**changes))
    except CannotRun as error:
        return error.detail
    return ""


@pytest.mark.parametrize(
    ("name", "value", "level", "needs"),
    [
        ("appendonly", "no", "always", "yes"),
        ("appendfsync", "everysec", "always", "always"),
        ("appendfsync", "no", "always", "always"),
        ("appendfsync", "everysec", "everysec", ""),
        ("appendfsync", "no", "everysec", "always"),
        ("maxmemory-policy", "allkeys-lru", "everysec", "noeviction"),
        ("no-appendfsync-on-rewrite", "yes", "always", "no"),
        ("appendonly", "no", "none", ""),
    ],
)
async def test_each_setting_that_is_weaker_is_named_with_what_it_should_be(
    name: str, value: str, level: str, needs: str
) -> None:
    said = await said_of(Redis(GOOD | {name: value}), durability=level)
    assert said == (f"Redis has {name} {value}; BOXOFFICE_DURABILITY={level} needs {needs}." if needs else "")


async def test_an_older_server_is_asked_for_one_name_at_a_time() -> None:
    """And a newer one once."""
    for one, asked in ((False, [tuple(GOOD)]), (True, [tuple(GOOD), *((name,) for name in GOOD)])):
        redis = Redis(one_at_a_time=one)
        assert await said_of(redis) == ""
        assert redis.asked == asked


@pytest.mark.parametrize(
    ("info", "stated_", "said"),
    [
        ({"persistence": {"aof_enabled": 0}}, "", "Redis has appendonly no;"),
        ({"persistence": {"aof_enabled": 0}}, "provider", ""),
        (
            {"persistence": {"aof_enabled": 1, "aof_last_write_status": "err"}},
            "",
            "Redis says aof_last_write_status err",
        ),
        (
            {"persistence": {"aof_enabled": 0, "aof_last_write_status": "err"}},
            "provider",
            "Redis says aof_last_write_status err",
        ),
        ({"memory": {"maxmemory_policy": "allkeys-lru"}}, "", "Redis has maxmemory-policy allkeys-lru;"),
        ({}, "", ""),
        (ResponseError("NOPERM"), "", ""),
    ],
)
async def test_what_info_shows_counts_beside_what_is_configured(info: Any, stated_: str, said: str) -> None:
    found = await said_of(Redis(GOOD, info), redis_durability_stated=stated_)
    assert found.startswith(said) and bool(found) == bool(said)


@pytest.mark.parametrize(
    ("level", "believed", "good"),
    [
        ("always", "", False), ("always", "everysec", False), ("always", "always", True), ("always", "provider", True),
        ("everysec", "", False), ("everysec", "everysec", True), ("everysec", "always", True), ("everysec", "provider", True),
    ],
)  # fmt: skip
async def test_what_is_hidden_is_stated_or_not_believed(level: str, believed: str, good: bool) -> None:
    """It says what is hidden, what was stated, and what to do."""
    hidden = Redis(ResponseError("NOPERM"))
    said = await said_of(hidden, durability=level, redis_durability_stated=believed)
    less = (
        f"BOXOFFICE_REDIS_DURABILITY_STATED={believed} is less than BOXOFFICE_DURABILITY={level}. " if believed else ""
    )
    assert said == (
        ""
        if good
        else "Redis does not tell appendfsync, no-appendfsync-on-rewrite, so nobody knows whether it keeps what it "
        f"acknowledges. {less}Allow our user CONFIG GET and INFO; or, if you know that it does, state it: "
        f"BOXOFFICE_REDIS_DURABILITY_STATED={level} (or provider)."
    )


@pytest.mark.parametrize("error", [ConnectionError(), BusyLoadingError()])
async def test_a_redis_that_is_away_is_not_weak(error: Exception) -> None:
    for redis in (Redis(error), Redis(GOOD, error)):
        with pytest.raises(type(error)):
            await check_redis(redis, settings())  # type: ignore[arg-type]


async def test_a_redis_that_reads_its_file_is_not_weak() -> None:
    with pytest.raises(BusyLoadingError):
        await check_redis(Redis(GOOD, {"persistence": {"aof_enabled": 0, "loading": 1}}), settings())  # type: ignore[arg-type]


class Postgres:
    def __init__(self, row: Any, unlogged: str | None = None, highest: int | None = None) -> None:
        self._row, self._unlogged, self._highest = row, unlogged, highest
        self.asked: list[Any] = []

    async def fetchrow(self, _query: str) -> Any:
        if isinstance(self._row, Exception):
            raise self._row
        return self._row

    async def fetchval(self, query: str, *arguments: Any) -> Any:
        self.asked.append(arguments)
        return self._highest if "max(shard)" in query else self._unlogged


ON = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}


@pytest.mark.parametrize(
    ("row", "unlogged", "believed", "said"),
    [
        (ON, None, "", ""),
        (ON, "bookings", "provider", "PostgreSQL has the table bookings UNLOGGED; a crash empties it."),
        (ON | {"fsync": "off"}, None, "always", "PostgreSQL has fsync off; a crash may undo what it committed."),
        (ON | {"fsync": "off"}, None, "provider", ""),
        (
            ON | {"synchronous_commit": "off"},
            None,
            "provider",
            "PostgreSQL has synchronous_commit off; a crash may undo what it committed.",
        ),
        (ON | {"synchronous_commit": "local"}, None, "", ""),
        (ON | {"fsync": None}, None, "always", ""),
        (None, None, "", ""),
    ],
    ids=range(8),
)
async def test_what_a_commit_survives(row: Any, unlogged: str | None, believed: str, said: str) -> None:
    postgres = Postgres(row, unlogged)
    try:
        await check_postgresql(postgres, settings(postgres_durability_stated=believed))  # type: ignore[arg-type]
    except CannotRun as error:
        assert error.detail == said
    else:
        assert said == ""
    assert postgres.asked == [(list(Base.metadata.tables),)]
    await check_postgresql(Postgres(OSError()), settings(durability="none"))  # type: ignore[arg-type]


async def test_what_postgresql_hides_is_named() -> None:
    with pytest.raises(CannotRun) as caught:
        await check_postgresql(Postgres(asyncpg.InsufficientPrivilegeError()), settings())  # type: ignore[arg-type]
    assert caught.value.detail == (
        "PostgreSQL does not tell fsync, full_page_writes, synchronous_commit, so nobody knows whether it keeps what it "
        "acknowledges. Allow our user to read its settings; or, if you know that it does, state it: "
        "BOXOFFICE_POSTGRES_DURABILITY_STATED=always (or provider)."
    )


@pytest.mark.parametrize(
    ("highest", "shards", "good"), [(None, 1, True), (0, 1, True), (1, 1, False), (1, 2, True), (7, 2, False)]
)
async def test_events_in_a_shard_that_nobody_serves(highest: int | None, shards: int, good: bool) -> None:
    pool: Any = Postgres(None, highest=highest)
    if good:
        await check_shards(pool, settings(shards=shards))
        return
    assert highest is not None
    with pytest.raises(CannotRun) as caught:
        await check_shards(pool, settings(shards=shards))
    assert (
        f"events in shard {highest}, and BOXOFFICE_SHARDS is {shards}. Set it to {highest + 1} or more"
        in caught.value.detail
    )


@pytest.mark.parametrize("level", ["always", "everysec", "none"])
@pytest.mark.parametrize("redis", ["", "provider"])
@pytest.mark.parametrize("postgres", ["", "always"])
def test_what_is_stated_is_told_at_start(level: str, redis: str, postgres: str) -> None:
    ours = settings(durability=level, redis_durability_stated=redis, postgres_durability_stated=postgres)
    both = {"redis": redis, "postgresql": postgres}
    told = {store: word for store, word in both.items() if word}
    assert stated(ours) == told
    with capture_logs() as said:
        say_what_is_stated(ours)
    assert said == [
        *([{"event": "durability.stated", "log_level": "warning", **told}] if told else []),
        *([{"event": "durability.lowered", "log_level": "warning", "level": level}] if level != "always" else []),
    ]
    assert durability.RANK == {"everysec": 1, "always": 2, "provider": 2}
