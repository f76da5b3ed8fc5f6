"""What our Redis connection does better than the one it extends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.exceptions import TimeoutError

from boxoffice.settings import Settings
from boxoffice.stores.redis import open_redis
from tests.support.waiting import true_soon


@pytest.mark.parametrize("turns", range(8))
async def test_a_cancelled_command_is_cancelled(settings: Settings, turns: int) -> None:
    """Whenever the cancellation comes: a task that was told to stop never goes on as if nothing had happened."""
    redis = open_redis(settings, retries=3)
    await redis.ping()

    async def work() -> None:
        while True:
            await redis.time()

    task = asyncio.create_task(work())
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()

    done, _ = await asyncio.wait([task], timeout=20)
    assert done and task.cancelled()
    assert await redis.ping(), "the connection is not left with an answer that nobody read"
    await redis.aclose()


def handshake(data: bytes) -> bytes:
    """What a server answers to a client that connects."""
    return b"".join(b"+PONG\r\n" if b"PING" in command else b"+OK\r\n" for command in data.split(b"*")[1:])


@asynccontextmanager
async def deaf_server() -> AsyncIterator[str]:
    """A server that reads no more after TIME."""
    writers = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        while (data := await reader.read(65_536)) and b"TIME" not in data:
            writer.write(handshake(data))
        writer.write(b"+OK\r\n")

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()


@pytest.mark.parametrize("cancelled", [False, True], ids=["timed out", "cancelled"])
async def test_a_command_that_was_written_in_part_ends_its_connection(settings: Settings, cancelled: bool) -> None:
    """The server would take the next command for the rest of this one."""
    async with deaf_server() as url:
        deaf = open_redis(settings.model_copy(update={"redis_url": url}), timeout_s=30 if cancelled else 0.3)
        connection = await deaf.connection_pool.get_connection()
        await connection.send_command("TIME")
        assert await connection.read_response() == b"OK"
        writing = asyncio.create_task(connection.send_command("ECHO", b"x" * 50_000_000))
        if cancelled:
            await true_soon(lambda: connection._writer.transport.get_write_buffer_size())
            writing.cancel()

        with pytest.raises(asyncio.CancelledError if cancelled else TimeoutError):
            await writing

        assert not connection.is_connected
        await deaf.connection_pool.release(connection)
        await deaf.aclose()


@pytest.mark.parametrize("refusal", [b"-LOADING in a moment", b"-READONLY not here"])
async def test_a_worker_asks_again_where_redis_cannot_say_yet(settings: Settings, refusal: bytes) -> None:
    """A server that loads its file, or a replica that is about to be promoted, does so after a moment."""
    told = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            if b"ECHO" in data:
                told.append(data)
                writer.write(refusal + b"\r\n" if len(told) < 3 else b"$4\r\nhere\r\n")
            else:
                writer.write(handshake(data))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
        redis = open_redis(settings.model_copy(update={"redis_url": url}), retries=5)
        assert await redis.echo("here") == b"here"
        await redis.aclose()
    assert len(told) == 3
