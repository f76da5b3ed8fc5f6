"""Redis connections that stay with one caller, for the call that everything waits for.

redis-py's pool takes a lock, looks whether the connection is alive and sets up timeouts for each command: two thirds of
what a call costs here. The caller that sends one script all the time pins connections to itself instead; its next call
finds out that one is dead.
"""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

__all__ = ["Pinned"]


class Pinned:
    """As many connections of a client's pool as there are calls at once, each pinned while it works. Closed with its pool."""

    def __init__(self, redis: Redis) -> None:
        self._pool = redis.connection_pool
        self.free: list[Any] = []
        self._most = self._pool.max_connections // 2
        """The other half is for everybody else."""

    async def execute_command(self, *args: Any) -> Any:
        """One command, sent once. Raises what redis-py raises, `ConnectionError` also for a connection that has died
        since it was used last: whether the server did the work is unknown then, as ever."""
        connection = self.free.pop() if self.free else await self._pool.get_connection()
        try:
            await connection.send_packed_command(connection.pack_command(*args), check_health=False)
            answer = await connection.read_response(disconnect_on_error=False)
        except ResponseError:
            await self._keep(connection)
            raise
        except BaseException:
            # There may be an answer on its way that nobody waits for.
            await connection.disconnect(nowait=True)
            await self._pool.release(connection)
            raise
        await self._keep(connection)
        return answer

    async def _keep(self, connection: Any) -> None:
        if len(self.free) < self._most:
            self.free.append(connection)
        else:
            await self._pool.release(connection)
