"""Whether what the stores acknowledge is on disk (decision 2), and who says so: the server, or a setting (decision 31).

What cannot be read is not believed. A server may hide its configuration (an ACL, a renamed command, a managed offering);
then the operator states its level, which is logged at start and shown in `/readyz` and by `boxoffice env`. A statement
stands only for what nobody can read: a value that was read and is weaker is refused whatever is stated.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import asyncpg
import structlog
from redis.asyncio import Redis
from redis.exceptions import BusyLoadingError, RedisError

from boxoffice.errors import CannotRun
from boxoffice.settings import Settings
from boxoffice.stores.database import Reader
from boxoffice.stores.models import Base
from boxoffice.stores.redis import AWAY

__all__ = ["check_postgresql", "check_redis", "check_shards", "say_what_is_stated", "stated"]

log = structlog.get_logger()

RANK: Final = {"everysec": 1, "always": 2, "provider": 2}

_SETTINGS: Final = "SELECT " + ", ".join(
    f"current_setting('{name}', true) AS {name}" for name in ("fsync", "full_page_writes", "synchronous_commit")
)
"""NULL for what the server does not know, or does not tell this role."""

_UNLOGGED: Final = "SELECT relname FROM pg_class WHERE relname = ANY($1::text[]) AND relpersistence <> 'p' LIMIT 1"


async def check_redis(redis: Redis, settings: Settings) -> None:
    """Look whether a 202 from this server means what we promise.

    Raises `CannotRun` naming the server's setting that is weaker than `durability`, or what cannot be read and is not
    stated; one of `redis.AWAY` when nobody answers.
    """
    level = settings.durability
    if level == "none":
        return
    wanted = {
        "appendonly": ("yes",),
        "appendfsync": ("always",) if level == "always" else ("always", "everysec"),
        "maxmemory-policy": ("noeviction",),
        "no-appendfsync-on-rewrite": ("no",),
    }
    configured, info = await _configuration(redis, list(wanted)), await _information(redis)
    believed = settings.redis_durability_stated
    if believed == "provider":
        info.pop("appendonly", None)
    if info.pop("aof_last_write_status", "ok") != "ok":
        raise CannotRun("Redis says aof_last_write_status err: it could not write its file.")
    # Each source is looked at: what a server shows under one name and hides under the other still counts.
    for source in (configured, info):
        for name, good in wanted.items():
            if name in source and source[name] not in good:
                raise CannotRun(f"Redis has {name} {source[name]}; BOXOFFICE_DURABILITY={level} needs {good[0]}.")
    unread = [name for name in wanted if name not in configured and name not in info]
    if unread and RANK.get(believed, 0) < RANK[level]:
        raise CannotRun(_unread("Redis", unread, "redis", believed, level))


async def check_postgresql(database: Reader, settings: Settings) -> None:
    """Look whether a commit on this server survives a crash.

    Raises `CannotRun` naming the setting that is weaker, or what cannot be read and is not stated; one of
    `postgres.AWAY` when nobody answers.
    """
    if settings.durability == "none":
        return
    try:
        row: dict[str, Any] = dict(await database.fetchrow(_SETTINGS) or {})
        unlogged = await database.fetchval(_UNLOGGED, list(Base.metadata.tables))
    except (asyncpg.SyntaxOrAccessError, asyncpg.FeatureNotSupportedError):
        row, unlogged = dict.fromkeys(("fsync", "full_page_writes", "synchronous_commit")), None
    believed = settings.postgres_durability_stated
    for name, value in row.items():
        if value == "off" and (believed != "provider" or name == "synchronous_commit"):
            raise CannotRun(f"PostgreSQL has {name} off; a crash may undo what it committed.")
    if unlogged:
        raise CannotRun(f"PostgreSQL has the table {unlogged} UNLOGGED; a crash empties it.")
    unread = [name for name, value in row.items() if value is None]
    if unread and not believed:
        raise CannotRun(_unread("PostgreSQL", unread, "postgres", believed, "always"))


async def check_shards(database: Reader, settings: Settings) -> None:
    """Raises `CannotRun` when there are events in shards that this process would not serve: nobody would settle their
    bookings, nor find them."""
    highest = await database.fetchval("SELECT max(shard) FROM events")
    if highest is not None and highest >= settings.shards:
        raise CannotRun(
            f"PostgreSQL has events in shard {highest}, and BOXOFFICE_SHARDS is {settings.shards}. Set it to {highest + 1} or "
            "more, in every process: an event stays in its shard, so the number may only grow."
        )


def stated(settings: Settings) -> dict[str, str]:
    """What is believed because a setting says so, by store."""
    levels = {"redis": settings.redis_durability_stated, "postgresql": settings.postgres_durability_stated}
    return {store: level for store, level in levels.items() if level}


def say_what_is_stated(settings: Settings) -> None:
    """One line at start, when anything is believed rather than read, or nothing is asked for."""
    if levels := stated(settings):
        log.warning("durability.stated", **levels)
    if settings.durability != "always":
        log.warning("durability.lowered", level=settings.durability)


def _unread(store: str, names: Iterable[str], setting: str, believed: str, level: str) -> str:
    variable = f"BOXOFFICE_{setting.upper()}_DURABILITY_STATED"
    lowered = f"{variable}={believed} is less than BOXOFFICE_DURABILITY={level}. " if believed else ""
    how = "CONFIG GET and INFO" if store == "Redis" else "to read its settings"
    return (
        f"{store} does not tell {', '.join(names)}, so nobody knows whether it keeps what it acknowledges. {lowered}"
        f"Allow our user {how}; or, if you know that it does, state it: {variable}={level} (or provider)."
    )


async def _configuration(redis: Redis, names: list[str]) -> dict[str, str]:
    """What `CONFIG GET` tells of these; nothing when it is refused. Older servers take one name at a time."""
    found: dict[str, str] = {}
    for some in (names, *([name] for name in names)):
        try:
            found |= {str(name): str(value) for name, value in (await redis.config_get(*some)).items()}  # type: ignore[arg-type]
        except AWAY:
            raise
        except (RedisError, ValueError, AttributeError):
            continue
        if len(found) == len(names):
            break
    return found


async def _information(redis: Redis) -> dict[str, str]:
    """The same facts as far as `INFO` has them, under the names of the configuration."""
    found: dict[str, str] = {}
    for section, field, name in (
        ("persistence", "aof_enabled", "appendonly"),
        ("persistence", "aof_last_write_status", "aof_last_write_status"),
        ("memory", "maxmemory_policy", "maxmemory-policy"),
    ):
        try:
            info = await redis.info(section)
        except AWAY:
            raise
        except (RedisError, ValueError, AttributeError):
            continue
        if str(info.get("loading", 0)) != "0":
            raise BusyLoadingError("Its append-only file is off while Redis reads it.")
        if field in info:
            found[name] = {"0": "no", "1": "yes"}.get(str(info[field]), str(info[field]))
    return found
