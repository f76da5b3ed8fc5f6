"""Users of Redis and roles of PostgreSQL with the least rights, on the servers of the tests, made as an operator makes them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import redis as sync_redis

from boxoffice.office import BoxOffice
from boxoffice.settings import Settings
from boxoffice.stores.postgres import migrate
from boxoffice.stores.postgres_rights import ROLES as POSTGRES_ROLES
from boxoffice.stores.postgres_rights import role_statements
from boxoffice.stores.redis_rights import ROLES, acl_rule
from boxoffice.stores.refusals import OPTIONAL
from ops.stack.servers import Servers

__all__ = ["LeastRights", "Offices", "as_user", "set_user"]

PASSWORD = "least"


def as_user(url: str, name: str, password: str = PASSWORD) -> str:
    """The same server for somebody else."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{name}:{password}@{parts.netloc.rpartition('@')[2]}"))


def set_user(servers: Servers, name: str, *rules: str) -> None:
    """A user of Redis that has these rules and no other."""
    with sync_redis.Redis.from_url(servers.redis_url) as client:
        client.execute_command("ACL", "SETUSER", name, "reset", "on", f">{PASSWORD}", *rules)


@dataclass(frozen=True)
class LeastRights:
    """Who connects as whom."""

    servers: Servers

    @classmethod
    async def made(cls, servers: Servers) -> Self:
        """Make them: users as `boxoffice acl` prints them, roles as `boxoffice roles` does, and a migration, which grants."""
        for role in ROLES:
            set_user(servers, f"boxoffice-{role}", *acl_rule(role).split())
        connection = await asyncpg.connect(servers.admin_url)
        try:
            for statement in role_statements():
                await connection.execute(statement)
            for login in POSTGRES_ROLES.values():
                await connection.execute(f"ALTER ROLE {login} PASSWORD '{PASSWORD}'")
            # Other tests make roles of their own here.
            await connection.execute("GRANT CONNECT, TEMPORARY ON DATABASE boxoffice TO PUBLIC")
        finally:
            await connection.close()
        settings = Settings(redis_url=servers.redis_url, database_url=servers.database_url)
        await asyncio.to_thread(migrate, settings)
        return cls(servers)

    def urls(self, role: str, settings: Settings | None = None) -> dict[str, str]:
        """Settings of a process of this role, by the same way as these. `CONFIG GET` is not among its rights, so it is told how
        durable Redis is."""
        way = settings or self.servers
        return {
            "redis_durability_stated": "always",
            "redis_url": as_user(way.redis_url, f"boxoffice-{role}"),
            "database_url": as_user(way.database_url, POSTGRES_ROLES[role]),
        }

    def refusals(self) -> list[Any]:
        """What Redis refused its users since it was asked last, but for what they do without."""
        with sync_redis.Redis.from_url(self.servers.redis_url) as client:
            found = client.acl_log()
            client.acl_log_reset()
        refused = [(entry["username"], entry["reason"], entry["object"]) for entry in found]
        return [each for each in refused if each[0].startswith("boxoffice-") and each[2] not in OPTIONAL]


@dataclass(frozen=True)
class Offices:
    """The office of each door: one and the same, or one for each, of which none may do what the others do."""

    api: BoxOffice
    worker: BoxOffice
    operator: BoxOffice
