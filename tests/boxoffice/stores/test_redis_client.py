"""How long our Redis client waits, what it sends again, and what an answer of the server means."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
)
from structlog.testing import capture_logs

from boxoffice.errors import CannotRun
from boxoffice.settings import Settings
from boxoffice.stores import redis as ours
from boxoffice.stores.redis import FastConnection, open_redis, run_id, run_of, takes_writes
from boxoffice.stores.refusals import refusal
from boxoffice.telemetry.outages import outages
from tests.support.waiting import true_soon

SETTINGS = Settings(redis_url="redis://127.0.0.1:1/5", redis_pool_max=7, redis_timeout_s=3.5)


@pytest.mark.parametrize(
    ("options", "seconds", "retries", "again"),
    [({}, 3.5, 0, []), ({"retries": 4}, 3.5, 4, list(ours.AWAY)), ({"timeout_s": 9.0}, 9.0, 0, [])],
)
def test_a_client_is_bounded(options: dict[str, Any], seconds: float, retries: int, again: list[type]) -> None:
    """In connections, in time, and in what it sends again: only workers do, whose scripts may all be sent twice."""
    pool: Any = open_redis(SETTINGS, **options).connection_pool
    connection = pool.make_connection()
    assert isinstance(connection, FastConnection)
    assert (pool.max_connections, pool.timeout) == (7, seconds)
    assert (connection.socket_timeout, connection.socket_connect_timeout) == (seconds, seconds)
    assert (connection.host, connection.port, connection.db) == ("127.0.0.1", 1, 5)
    assert connection.health_check_interval == 30
    assert connection.retry._retries == retries
    assert (connection.retry._backoff._cap, connection.retry._backoff._base) == (0.5, 0.05)
    assert set(again) <= set(connection.retry_on_error)
    assert again or not {ConnectionError, ReadOnlyError, OSError} & set(connection.retry_on_error)


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("connected", [True, False])
async def test_an_idle_connection_is_looked_at_before_it_is_used(
    monkeypatch: pytest.MonkeyPatch, asked: bool, connected: bool
) -> None:
    """One that was cut while nobody used it would take a command and never answer. A new one was just looked at."""
    connection: Any = open_redis(SETTINGS).connection_pool.make_connection()
    did: list[str] = []

    class Writer:
        def writelines(self, pieces: list[bytes]) -> None:
            did.extend(piece.decode() for piece in pieces)

        async def drain(self) -> None:
            pass

    def noted(word: str) -> Any:
        async def note() -> None:
            did.append(word)

        return note

    monkeypatch.setattr(type(connection), "is_connected", connected)
    monkeypatch.setattr(connection, "_writer", Writer())
    for word in ("connect", "check_health"):
        monkeypatch.setattr(connection, word, noted(word))
    await connection.send_packed_command(b"PING", check_health=asked)
    assert did == [*(["check_health"] * asked if connected else ["connect"]), "PING"]


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (ConnectionError(), True), (TimeoutError(), True), (BusyLoadingError(), True), (ReadOnlyError(), True),
        (OSError(), True), (ResponseError(), False), (OutOfMemoryError(), False), (ValueError(), False),
    ],
)  # fmt: skip
def test_who_is_away(error: Exception, away: bool) -> None:
    assert isinstance(error, ours.AWAY) is away


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), "OOM"),
        (ResponseError("MISCONF Errors writing to the AOF file: hunter2"), "MISCONF"),
        (ResponseError("NOREPLICAS Not enough good replicas to write."), "NOREPLICAS"),
        (ResponseError(""), ""),
    ],
)
def test_a_refusal_is_one_word(error: ResponseError, word: str) -> None:
    assert refusal(error) == word


@pytest.mark.parametrize("found", [{}, {"run_id": ""}, {"run_id": None}])
def test_a_run_that_is_not_told_is_not_guessed(found: dict[str, Any]) -> None:
    with pytest.raises(CannotRun, match="run_id"):
        run_of(found)
    assert run_of({"run_id": b"abc"}) == "b'abc'"
    assert run_of({"run_id": "abc"}) == "abc"


class Server:
    """One that answers INFO and ROLE so, or raises."""

    def __init__(self, info: Any, role: Any = None) -> None:
        self._info, self._role = info, role
        self.asked: list[str] = []

    async def info(self, section: str) -> Any:
        self.asked.append(section)
        if isinstance(self._info, Exception):
            raise self._info
        return self._info

    async def execute_command(self, word: str) -> Any:
        self.asked.append(word)
        if isinstance(self._role, Exception):
            raise self._role
        return self._role


@pytest.mark.parametrize(
    ("info", "role", "writes", "asked"),
    [
        ({"role": "master"}, None, True, ["replication"]),
        ({"role": "slave"}, None, False, ["replication"]),
        ({"role": b"master"}, None, True, ["replication"]),
        ({}, [b"master", 0, []], True, ["replication", "ROLE"]),
        ({}, [b"slave", b"master", 1], False, ["replication", "ROLE"]),
        (ResponseError("NOPERM"), ["master"], True, ["replication", "ROLE"]),
        (ResponseError("NOPERM"), [b"slave"], False, ["replication", "ROLE"]),
    ],
)
async def test_only_a_primary_takes_writes(info: Any, role: Any, writes: bool, asked: list[str]) -> None:
    server: Any = Server(info, role)
    assert await takes_writes(server) is writes
    assert server.asked == asked


async def test_who_does_not_tell_and_who_is_away() -> None:
    """Each is its own error: one is for the operator, the other passes."""
    hidden, silent = ResponseError("NOPERM"), TimeoutError()
    for error in (hidden, AuthenticationError("no")):
        mute: Any = Server(hidden, error)
        with pytest.raises(CannotRun if error is hidden else AuthenticationError):
            await takes_writes(mute)
    for server in (Server(silent), Server({}, silent)):
        with pytest.raises(TimeoutError):
            await takes_writes(server)  # type: ignore[arg-type]
    away, refused, good = Server(silent), Server(hidden), Server({"run_id": "r1"})
    with pytest.raises(TimeoutError):
        await run_id(away)  # type: ignore[arg-type]
    with pytest.raises(CannotRun):
        await run_id(refused)  # type: ignore[arg-type]
    assert await run_id(good) == "r1"  # type: ignore[arg-type]
    assert good.asked == ["server"]


def test_how_commands_are_packed() -> None:
    """Two words in one are two; numbers and bytes as they are; a pipeline is one piece."""
    connection = FastConnection()
    load = b"*3\r\n$6\r\nSCRIPT\r\n$4\r\nLOAD\r\n$1\r\nx\r\n"
    assert connection.pack_command("SCRIPT LOAD", "x") == [load]
    assert connection.pack_command("SET", b"k", 1, 1.5) == [b"*4\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\n1\r\n$3\r\n1.5\r\n"]
    assert (
        b"".join(connection.pack_command("SET", "a b", memoryview(b"v")))
        == b"*3\r\n$3\r\nSET\r\n$3\r\na b\r\n$1\r\nv\r\n"
    )
    assert connection.pack_commands([("SCRIPT LOAD", "x"), ("PING",)]) == [load + b"*1\r\n$4\r\nPING\r\n"]


async def test_the_first_try_that_fails_is_said() -> None:
    """A worker tries for ten seconds before its command fails: by then everybody asks why nothing happens."""
    client = open_redis(SETTINGS, retries=3)
    with capture_logs() as said:
        trying = asyncio.create_task(client.ping())
        await true_soon(lambda: outages.lasting)
        assert not trying.done()
        with pytest.raises(ConnectionError):
            await trying
    assert [(line["event"], line["error"]) for line in said] == [("redis.away", "ConnectionRefusedError")]
    assert next(iter(outages.lasting.values())).failures == 4
    await client.aclose()


@pytest.mark.parametrize(
    ("greets", "says", "missed"),
    [
        (b"-NOAUTH who are you\r\n", b"", 1), (b"+OK\r\n", b"+PONG\r\n", 0), (b"+OK\r\n", b"-LOADING its file\r\n", 1),
        (b"+OK\r\n", b"-OOM full\r\n", 0), (b"", b"", 1),
    ],
)  # fmt: skip
async def test_a_server_that_answers_a_command_is_there(greets: bytes, says: bytes, missed: int) -> None:
    """Whatever it answers, but that it reads its file. What it answers while a connection begins ends no outage."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while asked := await reader.read(4_096):
                for _ in range(
                    asked.count(b"\r\nCLIENT\r\n") + asked.count(b"\r\nSELECT\r\n") + asked.count(b"\r\nAUTH\r\n")
                ):
                    writer.write(greets)
                if b"PING" in asked:
                    writer.write(says)
                if not greets:
                    break
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = open_redis(SETTINGS.model_copy(update={"redis_url": f"redis://:secret@127.0.0.1:{port}/1"}), timeout_s=2)
    outages.missed("redis", "before")
    with contextlib.suppress(RedisError):
        await client.ping()
    assert [lasting.failures for lasting in outages.lasting.values()] == ([1 + missed] if missed else [])
    await client.aclose()
    server.close()
