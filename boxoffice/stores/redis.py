"""The Redis client: how long it waits, what it tries again, and what its settings must be. No keys."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Mapping
from typing import Any, Final

import hiredis
from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import AbstractConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import (
    BusyLoadingError,
    ConnectionError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
)

from boxoffice.errors import CannotRun
from boxoffice.settings import Settings
from boxoffice.stores.refusals import note_refusal
from boxoffice.telemetry.outages import outages

__all__ = [
    "AWAY",
    "FastConnection",
    "open_redis",
    "pool_use",
    "run_id",
    "run_of",
    "takes_writes",
    "user_of",
]

AWAY = (ConnectionError, TimeoutError, BusyLoadingError, ReadOnlyError, OSError)
"""Redis did not answer, or not as one that may be written to. Whether it did the work is unknown: scripts may be
sent again. `OSError` is among them because redis-py does not count a refused connection as its own error."""


GONE: Final = (ConnectionError, TimeoutError, OSError)
"""Of these, those of a server that did not answer, or that reads its file (a `ConnectionError` of redis-py's)."""


class _Fast(AbstractConnection):
    """redis-py 5.3 packs commands in Python even when hiredis is installed; a batch of admissions is many strings.

    Whether the server answers is noted here, for all who speak to it."""

    greeting = False
    """What is answered while a connection begins says nothing yet: a server that reads its file answers that, too."""

    async def connect(self) -> None:
        """Begin to speak to the server. Raises one of `AWAY`."""
        try:
            await super().connect()  # type: ignore[no-untyped-call]
        except GONE as error:
            if self.greeting:
                outages.missed("redis", type(error).__name__)
            raise
        finally:
            self.greeting = False

    async def _connect(self) -> None:
        """One try of it, of which redis-py makes as many as it is told: the first that fails is noted."""
        try:
            await super()._connect()  # type: ignore[no-untyped-call, safe-super]
        except GONE as error:
            outages.missed("redis", type(error).__name__)
            raise
        self.greeting = True

    async def read_response(self, *args: Any, **kwargs: Any) -> Any:
        """As redis-py's."""
        try:
            answer = await super().read_response(*args, **kwargs)
        except GONE as error:
            if not self.greeting:
                outages.missed("redis", type(error).__name__)
            raise
        except ResponseError as error:
            self.met()  # whatever it refuses, it answers
            note_refusal(error)
            raise
        self.met()
        return answer

    def met(self) -> None:
        """The server has answered a command."""
        if outages.lasting and not self.greeting:
            outages.met("redis")

    def pack_command(self, *args: Any) -> list[bytes]:
        """Bytes of one command. Two-word commands such as `SCRIPT LOAD` arrive as one argument and are split."""
        if isinstance(args[0], str) and " " in args[0]:
            args = (*args[0].split(), *args[1:])
        try:
            return [hiredis.pack_command(args)]
        except TypeError:
            return super().pack_command(*args)

    def pack_commands(self, commands: Any) -> list[bytes]:
        """Bytes of a pipeline."""
        return [b"".join(piece for command in commands for piece in self.pack_command(*command))]

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Write within the timeout. redis-py waits with `asyncio.wait_for`, which on Python 3.11 may swallow a
        cancellation: whoever was told to stop would go on."""
        if not self.is_connected:
            await self.connect()
        elif check_health:
            await self.check_health()  # type: ignore[no-untyped-call]
        writer = self._writer
        assert writer is not None, "connected"
        try:
            async with asyncio.timeout(self.socket_timeout):
                writer.writelines([command] if isinstance(command, bytes) else command)
                await writer.drain()
        except builtins.TimeoutError:
            await self.disconnect(nowait=True)
            raise TimeoutError("Timeout writing to socket") from None
        except OSError as error:
            await self.disconnect(nowait=True)
            raise ConnectionError(f"Error while writing to socket: {error}") from error
        except BaseException:
            await self.disconnect(nowait=True)
            raise


class FastConnection(_Fast, Connection):
    """Over TCP."""


class FastTLSConnection(_Fast, SSLConnection):
    """Over TLS: `rediss://`."""


class FastSocketConnection(_Fast, UnixDomainSocketConnection):
    """Over a socket of this machine: `unix://`."""


_FAST: Final = {SSLConnection: FastTLSConnection, UnixDomainSocketConnection: FastSocketConnection}


def open_redis(settings: Settings, *, retries: int = 0, timeout_s: float | None = None) -> Redis:
    """A client with a bounded pool: a caller waits for a connection rather than opening one more.

    `retries` re-sends a command up to so many times, for workers, whose scripts may all be sent twice. The API retries
    by itself, with a deadline.
    """
    arguments: dict[str, Any] = {
        "max_connections": settings.redis_pool_max,
        "timeout": timeout_s or settings.redis_timeout_s,
        "socket_timeout": timeout_s or settings.redis_timeout_s,
        "socket_connect_timeout": timeout_s or settings.redis_timeout_s,
        "health_check_interval": 30,
        # It would say its name on each connection, with a command that Redis 7.0 does not know and a user has to be given.
        "lib_name": None,
        "lib_version": None,
        "retry": Retry(ExponentialBackoff(cap=0.5, base=0.05), retries),
        "retry_on_error": list(AWAY) if retries else [],
        **parse_url(settings.redis_url),
    }
    # Of what the URL says, which kind of connection it is; ours are as fast and as safe for each.
    kind = _FAST.get(arguments.pop("connection_class", Connection), FastConnection)
    if kind is FastTLSConnection and arguments.get("ssl_cert_reqs") != "none":
        # redis-py 5.3 would believe a certificate of any host that the same authority vouches for.
        arguments.setdefault("ssl_check_hostname", True)
    return Redis(connection_pool=BlockingConnectionPool(connection_class=kind, **arguments))


def pool_use(client: Redis) -> tuple[int, int, int]:
    """Connections of a client's pool: in use (those that somebody keeps are), idle, and how many there may be."""
    pool: Any = client.connection_pool
    # redis-py tells nobody.
    return len(pool._in_use_connections), len(pool._available_connections), pool.max_connections


def user_of(redis: Redis) -> str:
    """As whom we speak to the server."""
    return str(redis.connection_pool.connection_kwargs.get("username") or "default")


async def run_id(redis: Redis) -> str:
    """Which run of the server this is: another one after every restart and failover.

    Raises `CannotRun` when the server does not tell.
    """
    return run_of(await _info(redis, "server"))


def run_of(info: Mapping[str, Any]) -> str:
    """The run in an answer to INFO. Raises `CannotRun` without one: a Redis that went back could not be told from one that
    did not, so nothing may be decided on it."""
    found = info.get("run_id")
    if not found:
        raise CannotRun("Redis does not tell its run_id. Allow our user INFO.")
    return str(found)


async def takes_writes(redis: Redis) -> bool:
    """False on a replica, which answers every read. Raises `CannotRun` when the server does not tell its role."""
    role = (await _info(redis, "replication")).get("role")
    if role is None:
        try:
            role = (await redis.execute_command("ROLE"))[0]  # type: ignore[no-untyped-call]
        except AWAY:
            raise
        except RedisError:
            raise CannotRun("Redis does not tell whether it is a replica. Allow our user INFO or ROLE.") from None
    return (role.decode() if isinstance(role, bytes) else str(role)) == "master"


async def _info(redis: Redis, section: str) -> dict[str, Any]:
    """Nothing when it is refused."""
    try:
        return dict(await redis.info(section))
    except AWAY:
        raise
    except RedisError:
        return {}
