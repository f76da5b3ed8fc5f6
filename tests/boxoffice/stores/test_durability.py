"""What a store keeps is read from it, or stated by a setting; what nobody says is not believed."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest
import redis as sync_redis
from redis.asyncio import Redis
from structlog.testing import capture_logs

from boxoffice.errors import CannotRun
from boxoffice.office import BoxOffice, open_box_office
from boxoffice.settings import Settings
from boxoffice.stores import durability, postgres
from boxoffice.stores import redis as redis_client
from boxoffice.stores.durability import check_postgresql, check_redis
from ops.stack import postgresql
from ops.stack.binaries import find_redis
from ops.stack.servers import temporary_servers
from tests.conftest import load_all
from tests.support.ports import free_port
from tests.support.waiting import until

MEMORY_ONLY = ["appendonly no", "appendfsync everysec"]
DURABLE = ["appendonly yes", "appendfsync always", "maxmemory-policy noeviction"]
RENAMED = 'rename-command CONFIG ""'


@contextlib.contextmanager
def valkey(folder: Path, *lines: str) -> Iterator[str]:
    """A server with this configuration; its URL."""
    port = free_port()
    configuration = folder / "server.conf"
    configuration.write_text("\n".join(["bind 127.0.0.1", f"port {port}", f'dir "{folder}"', 'save ""', *lines]) + "\n")
    server = subprocess.Popen([find_redis(os.environ), configuration], stdout=subprocess.DEVNULL)
    url = f"redis://127.0.0.1:{port}/0"
    try:
        with sync_redis.Redis.from_url(url) as client:

            def answers() -> bool:
                with contextlib.suppress(sync_redis.ConnectionError):
                    return bool(client.ping())
                return False

            until(answers)
        yield url
    finally:
        server.terminate()
        server.wait(10)


def user(url: str, *rules: str) -> str:
    """The URL for a user with these rules."""
    with sync_redis.Redis.from_url(url) as client:
        client.execute_command("ACL", "SETUSER", "app", "on", ">app", "~*", "&*", "+@all", *rules)
    return url.replace("redis://", "redis://app:app@")


async def complaint(url: str, settings: Settings, **changes: Any) -> str:
    """What keeps this server from being ready; empty when nothing does."""
    redis = Redis.from_url(url)
    try:
        await check_redis(redis, settings.model_copy(update=changes))
    except CannotRun as error:
        return error.detail
    finally:
        await redis.aclose()
    return ""


HIDDEN = [
    pytest.param(("-config",), (), id="ACL"),
    pytest.param(("-config", "-info"), (), id="ACL, INFO too"),
    pytest.param(("-@dangerous", "-@admin"), (), id="categories"),
    pytest.param(("+config", "-config|get"), (), id="subcommand"),
    pytest.param((), (RENAMED,), id="renamed"),
]


@pytest.mark.parametrize(("rules", "lines"), HIDDEN)
async def test_a_hidden_configuration_is_not_believed(
    settings: Settings, tmp_path: Path, rules: tuple[str, ...], lines: tuple[str, ...]
) -> None:
    """Durable as it is: until somebody states it, nobody knows."""
    with valkey(tmp_path, *DURABLE, *lines) as url:
        url = user(url, *rules) if rules else url
        said = await complaint(url, settings)
        assert "does not tell" in said
        assert "appendfsync" in said
        assert "BOXOFFICE_REDIS_DURABILITY_STATED=always" in said, "it says what to do"
        weaker = await complaint(url, settings, redis_durability_stated="everysec")
        assert "less than BOXOFFICE_DURABILITY=always" in weaker
        assert await complaint(url, settings, redis_durability_stated="always") == ""
        assert await complaint(url, settings, redis_durability_stated="provider") == ""
        everysec = {"redis_durability_stated": "everysec", "durability": "everysec"}
        assert await complaint(url, settings, **everysec) == ""
        assert await complaint(url, settings, durability="none") == ""


@pytest.mark.parametrize("hide", ["ACL", "renamed"])
async def test_a_memory_only_server_that_hides_it(settings: Settings, tmp_path: Path, hide: str) -> None:
    """`INFO` gives it away, whatever is stated of files. A provider that keeps writes by other means shows the same."""
    with valkey(tmp_path, *MEMORY_ONLY, *([RENAMED] if hide == "renamed" else [])) as url:
        url = user(url, "-config") if hide == "ACL" else url
        assert "appendonly no" in await complaint(url, settings)
        assert "appendonly no" in await complaint(url, settings, redis_durability_stated="always")
        assert await complaint(url, settings, redis_durability_stated="provider") == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("appendonly", "no"),
        ("appendfsync", "everysec"),
        ("appendfsync", "no"),
        ("maxmemory-policy", "allkeys-lru"),
        ("maxmemory-policy", "volatile-ttl"),
        ("no-appendfsync-on-rewrite", "yes"),
    ],
)
async def test_a_setting_that_changes_while_it_runs(settings: Settings, tmp_path: Path, name: str, value: str) -> None:
    """What is read counts, whatever is stated."""
    with valkey(tmp_path, *DURABLE) as url, sync_redis.Redis.from_url(url) as client:
        assert await complaint(url, settings) == ""
        client.config_set(name, value)
        for level in ("", "always", "provider"):
            assert f"{name} {value}" in await complaint(url, settings, redis_durability_stated=level)


async def test_a_hidden_policy_shows_in_info(settings: Settings, tmp_path: Path) -> None:
    with valkey(tmp_path, *DURABLE, "maxmemory-policy allkeys-lru") as url:
        assert "maxmemory-policy allkeys-lru" in await complaint(
            user(url, "-config"), settings, redis_durability_stated="provider"
        )


@pytest.mark.parametrize("rules", [("-info", "-role"), ("-info",)], ids=["both", "INFO"])
async def test_a_hidden_role_and_run_id_are_not_guessed(tmp_path: Path, rules: tuple[str, ...]) -> None:
    with valkey(tmp_path, *DURABLE) as url:
        redis = Redis.from_url(user(url, *rules))
        with pytest.raises(CannotRun, match="run_id"):
            await redis_client.run_id(redis)
        if "-role" in rules:
            with pytest.raises(CannotRun, match="replica"):
                await redis_client.takes_writes(redis)
        else:
            assert await redis_client.takes_writes(redis)
        await redis.aclose()


# ---------------------------------------------------------------- PostgreSQL


class Answers:
    """A server, or a pooler before it, that tells this much."""

    def __init__(self, row: dict[str, Any] | Exception) -> None:
        self._row = row

    async def fetchrow(self, _query: str) -> dict[str, Any]:
        if isinstance(self._row, Exception):
            raise self._row
        return self._row

    async def fetchval(self, *_: Any) -> None:
        return None


GOOD = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}


async def refused(answers: dict[str, Any] | Exception, settings: Settings, **changes: Any) -> str:
    pool: Any = Answers(answers)
    try:
        await check_postgresql(pool, settings.model_copy(update=changes))
    except CannotRun as error:
        return error.detail
    return ""


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param(GOOD | {"fsync": None}, id="one of them"),
        pytest.param(dict.fromkeys(GOOD), id="all of them"),
        pytest.param(asyncpg.InsufficientPrivilegeError("permission denied"), id="refused"),
        pytest.param(asyncpg.FeatureNotSupportedError("not here"), id="unknown to a pooler"),
    ],
)
async def test_what_postgresql_does_not_tell_is_not_believed(settings: Settings, answers: Any) -> None:
    said = await refused(answers, settings)
    assert "does not tell" in said
    assert "BOXOFFICE_POSTGRES_DURABILITY_STATED=always" in said
    assert await refused(answers, settings, postgres_durability_stated="always") == ""


@pytest.mark.parametrize("name", GOOD)
async def test_a_commit_that_a_crash_may_undo(settings: Settings, name: str) -> None:
    weak = GOOD | {name: "off"}
    assert f"{name} off" in await refused(weak, settings)
    assert f"{name} off" in await refused(weak, settings, postgres_durability_stated="always")
    by_provider = await refused(weak, settings, postgres_durability_stated="provider")
    assert bool(by_provider) == (name == "synchronous_commit"), (
        "no storage makes up for a commit that is not waited for"
    )


async def test_a_real_server_without_full_page_writes(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(postgresql.SETTINGS, "full_page_writes", "off")
    with temporary_servers() as servers:
        pool = await postgres.open_pool(settings.model_copy(update={"database_url": servers.database_url}), size=1)
        with pytest.raises(CannotRun, match="full_page_writes off"):
            await check_postgresql(pool, settings)
        pool.terminate()


async def test_an_unlogged_table_and_a_session_that_does_not_wait(office: BoxOffice, settings: Settings) -> None:
    pool = await office.pool()
    await check_postgresql(pool, settings)
    await pool.execute("ALTER TABLE webhook_events SET UNLOGGED")
    try:
        with pytest.raises(CannotRun, match="webhook_events UNLOGGED"):
            await check_postgresql(pool, settings)
    finally:
        await pool.execute("ALTER TABLE webhook_events SET LOGGED")
    hasty = await asyncpg.create_pool(
        settings.database_url, min_size=1, max_size=1, server_settings={"synchronous_commit": "off"}
    )
    with pytest.raises(CannotRun, match="synchronous_commit off"):
        await check_postgresql(hasty, settings)
    hasty.terminate()


# ---------------------------------------------------------------- where it is told


@pytest.fixture
async def stated_office(clean: None, settings: Settings) -> AsyncIterator[BoxOffice]:
    async with open_box_office(settings.model_copy(update={"redis_durability_stated": "always"})) as office:
        yield office


async def test_what_is_stated_is_shown_when_ready(stated_office: BoxOffice, settings: Settings) -> None:
    from api.app import create_app

    app = create_app(stated_office.settings, office=stated_office)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://boxoffice.test") as client:
        await load_all(stated_office)
        answer = await client.get("/readyz")
        assert answer.json() == {"status": "ready", "stated": {"redis": "always"}}
    with capture_logs() as said:
        durability.say_what_is_stated(stated_office.settings)
        durability.say_what_is_stated(settings.model_copy(update={"durability": "everysec"}))
        durability.say_what_is_stated(settings)
    assert [line["event"] for line in said] == ["durability.stated", "durability.lowered"]
    assert said[0]["redis"] == "always"


async def test_a_worker_tells_when_its_store_becomes_weak(office: BoxOffice) -> None:
    """It looks now and then, settles on, and says so each time."""
    from worker.rounds import Rounds
    from worker.stop import Stop

    worker = Rounds(office, office.shards, Stop())
    with capture_logs() as said:
        await worker.watch()
        assert not said
        await office.redis.config_set("maxmemory-policy", "allkeys-lru")
        try:
            await worker.watch()
        finally:
            await office.redis.config_set("maxmemory-policy", "noeviction")
    assert [line["event"] for line in said] == ["durability.weak"]
    assert "maxmemory-policy allkeys-lru" in said[0]["reason"]
