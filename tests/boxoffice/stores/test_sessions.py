"""Sessions of PostgreSQL are ours alone, have their limits whatever is in between, and say whose they are."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text

from boxoffice.errors import CannotRun
from boxoffice.settings import Settings
from boxoffice.stores import postgres, sessions
from boxoffice.stores.postgres import look_ahead, migrate, open_engine, open_pool, open_readers
from boxoffice.stores.sessions import SHARED, Sessions, call_us, our_name
from ops.stack.servers import Servers
from tests.support.pgbouncer import pgbouncer
from tests.support.ways import Way


@pytest.fixture
def through(settings: Settings) -> Callable[[str], Settings]:
    return lambda url: settings.model_copy(update={"database_url": url})


async def ask_pool(settings: Settings, query: str) -> Any:
    pool = await open_pool(settings, size=1)
    try:
        await pool.fetchval("SELECT 1")
        return await pool.fetchval(query)
    finally:
        pool.terminate()


async def ask_readers(settings: Settings, query: str) -> Any:
    pool = await open_readers(settings, size=1)
    try:
        await pool.fetchval("SELECT 1")
        return await pool.fetchval(query)
    finally:
        pool.terminate()


async def ask_engine(settings: Settings, query: str) -> Any:
    engine = open_engine(settings, pool_size=1)
    try:
        async with engine.connect() as connection:
            await connection.scalar(text("SELECT 1"))
            await connection.rollback()
        async with engine.connect() as connection:
            return await connection.scalar(text(query))
    finally:
        await engine.dispose()


ASKS = {"pool": ask_pool, "readers": ask_readers, "engine": ask_engine}

TOLD = {
    "pool": {
        "lock_timeout": "1234ms", "statement_timeout": "4s", "idle_in_transaction_session_timeout": "15s",
        "transaction_timeout": "15s", "enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off",
        "enable_bitmapscan": "off", "enable_material": "off", "jit": "off", "default_transaction_read_only": "off",
    },
    "readers": {"default_transaction_read_only": "on", "jit": "off", "statement_timeout": "0", "enable_seqscan": "on"},
    "engine": {"idle_in_transaction_session_timeout": "15s", "transaction_timeout": "15s", "enable_seqscan": "on"},
}  # fmt: skip


@pytest.mark.usefixtures("products_limits")
@pytest.mark.parametrize("who", TOLD)
@pytest.mark.parametrize("between", ["nothing", "pgbouncer"])
async def test_a_session_has_its_settings_when_it_is_used_again(
    settings: Settings, open_way: Callable[[str], Way], who: str, between: str
) -> None:
    """PgBouncer takes none of them in a startup message, and a pool takes back what was set when it lends a session anew."""
    url = settings.database_url if between == "nothing" else open_way("pgbouncer").database_url
    worker = settings.worker.model_copy(
        update={"lock_timeout_ms": 1_234, "statement_timeout_ms": 4_000, "lease_ms": 15_000}
    )
    settings = settings.model_copy(update={"database_url": url, "worker": worker})
    shown = [f"'{name}', current_setting('{name}')" for name in TOLD[who]]
    found = await ASKS[who](settings, f"SELECT json_build_object({', '.join(shown)})::text")
    assert json.loads(found) == TOLD[who]


async def test_nobody_keeps_the_locks_of_whoever_had_the_session_before(settings: Settings) -> None:
    pool = await open_pool(settings, size=1)
    held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
    async with pool.acquire() as connection:
        await connection.fetchval("SELECT pg_advisory_lock(4711)")
        assert await connection.fetchval(held) == 1
    assert await pool.fetchval(held) == 0
    pool.terminate()


@pytest.fixture
def called() -> Iterator[None]:
    """What a test calls this process it is called no more."""
    before = our_name().removeprefix("boxoffice-")
    yield
    call_us(before)


@pytest.mark.usefixtures("called")
@pytest.mark.parametrize("program", ["api", "worker", "cli"])
async def test_a_session_says_whose_it_is(settings: Settings, program: str) -> None:
    """Unless the URL has a name for it."""
    call_us(program)
    query = "SELECT current_setting('application_name')"
    assert [await ask(settings, query) for ask in ASKS.values()] == [
        f"boxoffice-{program}", f"boxoffice-{program} audit", f"boxoffice-{program}",
    ]  # fmt: skip
    named = settings.model_copy(update={"database_url": f"{settings.database_url}?application_name=shop"})
    assert {await ask(named, query) for ask in ASKS.values()} == {"shop"}


def test_a_command_is_called_one() -> None:
    code = "from boxoffice.stores.sessions import our_name; print(our_name())"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "boxoffice-cli\n"


@pytest.mark.parametrize(
    ("major", "told"), [(16, ["SET a = '1'"]), (17, ["SET a = '1'; SET transaction_timeout = '2'"])]
)
async def test_an_older_server_is_not_told_what_it_does_not_know(major: int, told: list[str]) -> None:
    """It would refuse the session."""
    said: list[str] = []

    async def execute(query: str) -> str:
        said.append(query)
        return "SELECT 1"

    session = SimpleNamespace(
        execute=execute, get_server_pid=lambda: 4, get_server_version=lambda: SimpleNamespace(major=major)
    )
    await Sessions({}, {"a": "1", "transaction_timeout": "2"}).begin(session)
    assert said == ["SELECT 1 WHERE pg_backend_pid() = 4", *told]
    await Sessions({}, {}).begin(session)
    assert said[len(told) + 1 :] == ["SELECT 1 WHERE pg_backend_pid() = 4"], "nothing to tell"


# ---------------------------------------------------------------- poolers


@pytest.fixture(params=["transaction", "statement", "transaction, one server", "transaction, round robin"])
def shared(request: pytest.FixtureRequest, servers: Servers) -> Iterator[str]:
    """A pooler that lends a session for less than as long as we are connected."""
    more = {"one server": ["default_pool_size = 1"], "round robin": ["server_round_robin = 1"]}
    mode, _, how = request.param.partition(", ")
    with pgbouncer(servers.database_url, mode, *more.get(how, [])) as url:
        yield url


async def test_a_pooler_of_transactions_is_refused_by_everybody(
    shared: str, through: Callable[[str], Settings]
) -> None:
    """In one sentence, that says what to do. Locks would be let go of by others, and limits be others' limits."""
    settings = through(shared)
    for ask in ASKS.values():
        with pytest.raises(CannotRun, match="set pool_mode=session") as refused:
            await ask(settings, "SELECT 1")
        assert refused.value.detail == SHARED
    with pytest.raises(CannotRun, match="set pool_mode=session"):
        await look_ahead(settings)
    with pytest.raises(CannotRun, match="set pool_mode=session"):
        await asyncio.to_thread(migrate, settings)


async def test_a_pooler_is_refused_whoever_else_is_busy_there(
    servers: Servers, through: Callable[[str], Settings]
) -> None:
    """Others take the session that we let go of now and then: we look more than once."""
    with pgbouncer(servers.database_url, "transaction") as url:
        others = [await asyncpg.connect(url, statement_cache_size=0) for _ in range(4)]
        for _ in range(3):

            async def busy(connection: Any) -> None:
                for _ in range(40):
                    await connection.execute("SELECT pg_sleep(0.001)")

            at_work = [asyncio.create_task(busy(connection)) for connection in others]
            with pytest.raises(CannotRun, match="set pool_mode=session"):
                await ask_pool(through(url), "SELECT 1")
            await asyncio.gather(*at_work)
        for connection in others:
            await connection.close()


async def test_a_pooler_of_sessions_is_fine_and_is_looked_at_once_a_pool(
    open_way: Callable[[str], Way], through: Callable[[str], Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[object] = []
    refuse = sessions.refuse_shared

    async def counting(session: Any, arguments: Any) -> None:
        looks.append(session)
        await refuse(session, arguments)

    monkeypatch.setattr(sessions, "refuse_shared", counting)
    settings = through(open_way("pgbouncer").database_url)
    await look_ahead(settings)
    pool = await open_pool(settings, size=3, min_size=3)
    assert len(looks) == 2
    pool.terminate()
    await asyncio.to_thread(migrate, settings)
    assert len(looks) == 3


class Between:
    """Something in between that answers as it is told: whether the second connection, and the first, find the mark."""

    def __init__(self, second: list[bool], first: list[bool], error: Exception | None = None) -> None:
        self.second, self.first, self.error = second, first, error
        self.looks = 0
        self.ended = False
        self.asked: dict[str, Any] = {}

    async def connect(self, **asked: Any) -> Any:
        self.asked = asked
        return SimpleNamespace(transaction=self.transaction, execute=self.look, terminate=self.end)

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        if self.error is not None:
            raise self.error
        yield

    async def look(self, query: str) -> str:
        self.looks += 1
        return f"SELECT {int(self.second.pop(0))}"

    async def execute(self, query: str) -> str:
        return "SET" if query.startswith("SET") else f"SELECT {int(self.first.pop(0))}"

    def end(self) -> None:
        self.ended = True


@pytest.mark.parametrize(
    ("second", "first", "refused", "looks"),
    [
        ([False] * 9, [True] * 9, False, 8), ([True], [], True, 1), ([False] * 7 + [True], [True] * 7, True, 8),
        ([False], [False], True, 1), ([False] * 8, [True] * 7 + [False], True, 8),
    ],
)  # fmt: skip
async def test_either_connection_may_give_a_pooler_away(
    monkeypatch: pytest.MonkeyPatch, second: list[bool], first: list[bool], refused: bool, looks: int
) -> None:
    between = Between(second, first)
    monkeypatch.setattr(sessions.asyncpg, "connect", between.connect)
    try:
        await sessions.refuse_shared(between, {"dsn": "x", "command_timeout": 60})
    except CannotRun:
        assert refused
    else:
        assert not refused
    assert (between.looks, between.ended) == (looks, True)
    assert between.asked == {"dsn": "x", "statement_cache_size": 0, "command_timeout": 5}


@pytest.mark.parametrize(
    ("said", "raised"),
    [("transaction blocks not allowed in statement pooling mode", CannotRun),
     ("connection was closed: transaction blocks not allowed in statement pooling mode", CannotRun),
     ("query_wait_timeout", asyncpg.ProtocolViolationError)],
)  # fmt: skip
async def test_a_pooler_that_has_no_session_left_is_away_and_no_more(
    monkeypatch: pytest.MonkeyPatch, said: str, raised: type[Exception]
) -> None:
    between = Between([], [], asyncpg.ProtocolViolationError(said))
    monkeypatch.setattr(sessions.asyncpg, "connect", between.connect)
    with pytest.raises(raised):
        await sessions.refuse_shared(between, {})
    assert between.ended


async def test_a_server_that_is_away_is_no_reason_not_to_start(through: Callable[[str], Settings]) -> None:
    await look_ahead(through("postgresql://u@127.0.0.1:1/d"))


async def test_a_start_waits_two_seconds_for_a_server_that_hangs(
    through: Callable[[str], Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert postgres.LOOK_S == 2
    monkeypatch.setattr(postgres, "LOOK_S", 0.05)
    ended = asyncio.Event()
    server = await asyncio.start_server(lambda *_: ended.wait(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with asyncio.timeout(20):
        await look_ahead(through(f"postgresql://u@127.0.0.1:{port}/d?sslmode=disable"))
    ended.set()
    server.close()
