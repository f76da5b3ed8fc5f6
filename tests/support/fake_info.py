"""INFO for fakeredis, which has none: the scripts ask the server they run on who it is. `fake_redis()` knows it."""

from __future__ import annotations

import hashlib
from typing import Any

import fakeredis
from fakeredis._commands import command
from fakeredis._socket import AsyncFakeSocket
from redis.asyncio import Redis

__all__ = ["fake_redis"]


@command((), (bytes,), name="info")
def _info(self: Any, *sections: bytes) -> bytes:
    """As much of it as anybody here reads. Each server object is a run of its own."""
    run = hashlib.sha1(str(id(self._server)).encode(), usedforsecurity=False).hexdigest()
    return f"# Server\r\nredis_version:7.2.4\r\nrun_id:{run}\r\ntcp_port:6379\r\n".encode()


AsyncFakeSocket._info = _info


def fake_redis(server: fakeredis.FakeServer | None = None) -> Redis:
    """A client of a fake server, its own unless one is given."""
    return fakeredis.FakeAsyncRedis(server=server or fakeredis.FakeServer())
