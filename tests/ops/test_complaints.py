"""What goes wrong with PostgreSQL is one sentence that says what to do: no statement, no value, no traceback."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest

from boxoffice.errors import CannotRun
from boxoffice.office import BoxOffice, open_box_office
from boxoffice.sales.store import NewTier
from boxoffice.settings import Settings
from boxoffice.stores.postgres import alembic_config, check_schema, migrate, revisions
from boxoffice.stores.refusals import refusal
from boxoffice.stores.sessions import SHARED
from ops.complaints import sentence_of
from ops.stack.servers import Servers
from tests.api.transport.test_server import ROOT
from tests.conftest import CLIENT
from tests.support import commands
from tests.support.pgbouncer import pgbouncer


def boxoffice(settings: Settings, *arguments: str, **environ: str) -> subprocess.CompletedProcess[bytes]:
    env = os.environ | {
        "REDIS_URL": settings.redis_url, "DATABASE_URL": settings.database_url, "DATA_DIR": str(settings.data_dir),
    } | environ  # fmt: skip
    if environ.keys() & {"LC_ALL", "LANG", "PYTHONIOENCODING", "PYTHONUTF8"}:
        command = [sys.executable, "-m", "ops.cli", *arguments]
        return subprocess.run(command, capture_output=True, timeout=60, check=False, cwd=ROOT, env=env)
    return commands.run(*arguments, env=env)


def sentence(ran: subprocess.CompletedProcess[bytes], code: int = 3) -> str:
    said = ran.stderr.decode()
    assert ran.returncode == code, said
    assert said.startswith("boxoffice: ") and said.count("\n") == 1, said
    assert not {"SELECT", "INSERT", "ALTER", "[SQL", "Traceback", "sqlalche.me"} & set(said.split("`")[0].split()), said
    return said


@pytest.fixture
async def bare(servers: Servers, settings: Settings) -> Settings:
    """A database in which nothing is."""
    connection = await asyncpg.connect(servers.admin_url)
    await connection.execute("DROP DATABASE IF EXISTS bare")
    await connection.execute("CREATE DATABASE bare OWNER boxoffice")
    await connection.close()
    return settings.model_copy(update={"database_url": servers.database_url.rpartition("/")[0] + "/bare"})


async def test_an_unmigrated_database_is_called_so(bare: Settings) -> None:
    """By commands, by the worker, by `/readyz`; and an old one too, but not one that is newer than the program."""
    from boxoffice.backoffice.readiness import Readiness

    def ready() -> Readiness:
        return Readiness(office.shards, office.database, office.catalogue, office.gateway, office.settings)

    assert "boxoffice migrate" in sentence(await asyncio.to_thread(boxoffice, bare, "clients", "list"))
    assert "boxoffice migrate" in sentence(await asyncio.to_thread(last_line, bare))
    async with open_box_office(bare, redis_retries=1) as office:
        assert "no tables yet: run `boxoffice migrate`" in (await ready().reasons())["postgresql"]
        await asyncio.to_thread(migrate, bare, "0005")
        assert "earlier version (0005): run `boxoffice migrate`" in (await ready().reasons())["postgresql"]
        await asyncio.to_thread(migrate, bare)
        assert "postgresql" not in await ready().reasons()
        pool = await office.pool()
        await pool.execute("UPDATE alembic_version SET version_num = '9999'")
        await check_schema(pool)


def last_line(settings: Settings) -> subprocess.CompletedProcess[bytes]:
    """A worker's, without its log."""
    ran = boxoffice(settings, "worker")
    ran.stderr = ran.stderr.splitlines(keepends=True)[-1]
    return ran


def test_the_order_of_migrations_is_read_as_alembic_reads_it(settings: Settings) -> None:
    """`check_schema` goes by what the files say, without alembic; their numbers are names."""
    from alembic.script import ScriptDirectory

    chain = {
        one.revision: one.down_revision
        for one in ScriptDirectory.from_config(alembic_config(settings)).walk_revisions()
    }
    assert revisions() == chain
    assert sorted(path.name[:4] for path in (ROOT / "migrations/versions").glob("[0-9]*.py")) == sorted(chain)


async def test_migrating_a_table_in_use_says_so(bare: Settings) -> None:
    """After five seconds of waiting, without a word of SQL that is not for the operator to type."""
    await asyncio.to_thread(migrate, bare, "0005")
    connection = await asyncpg.connect(bare.database_url)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE events IN ACCESS SHARE MODE")
            said = sentence(await asyncio.to_thread(boxoffice, bare, "migrate"))
        there = await connection.fetchval("SELECT version_num FROM alembic_version")
    finally:
        await connection.close()
    assert "Somebody uses a table" in said and "the migration that needs it changed nothing" in said
    assert there != "0005", "those before it are done, and hold no table while this one waits"
    assert b"up to date" in (await asyncio.to_thread(boxoffice, bare, "migrate")).stdout


@pytest.mark.parametrize(
    "time", ["9999-12-31T23:59:59-12:00", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00Z"]
)
async def test_a_time_that_is_too_late_or_too_early_is_called_so(
    office: BoxOffice, settings: Settings, time: str
) -> None:
    for starts_at, cancel in ((time, "2030-01-01T00:00:00Z"), ("2030-01-01T00:00:00Z", time)):
        ran = await asyncio.to_thread(
            boxoffice, settings, "events", "create", "--client", "shop00000000", "--name", "A", "--starts-at", starts_at,
            "--cancel-until", cancel, "--tier", "GA:1:1",
        )  # fmt: skip
        assert "years 1971 to 8999" in sentence(ran)


async def test_a_terminal_that_knows_ascii_only_is_no_trouble(office: BoxOffice, settings: Settings) -> None:
    """Tables, sentences and JSON: what it lacks comes as an escape, or in UTF-8."""
    start = datetime(2030, 1, 1, tzinfo=UTC)
    event = await office.store.create_event(CLIENT, "Soirée: l’été", start, "USD", [NewTier("GÄ", 1, 1)])
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii:strict"}
    for command in (
        ("events", "list"),
        ("events", "show", event.id),
        ("events", "list", "--json"),
        ("clients", "list"),
    ):
        ran = await asyncio.to_thread(boxoffice, settings, *command, **ascii_only)
        assert ran.returncode == 0, ran.stderr
        assert b"Soir" in ran.stdout or command[0] == "clients"
        assert b"Traceback" not in ran.stderr


@pytest.mark.parametrize("language", ["C", "de_DE.ISO-8859-1"])
async def test_what_is_typed_is_text_whatever_the_locale(
    office: BoxOffice, settings: Settings, tmp_path: Path, language: str
) -> None:
    """Terminals write UTF-8; what is no UTF-8 is named by its place."""
    locale = {"LC_ALL": language, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    name = "Café „Zur Krone“"
    folder = tmp_path / "é"
    folder.mkdir()
    made = await asyncio.to_thread(
        boxoffice, settings, "clients", "create", name, "--json", f"--data-dir={folder}", **locale
    )
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["name"] == name
    wrong = await asyncio.to_thread(boxoffice, settings, "clients", "create", os.fsdecode(b"Caf\xe9"), **locale)
    assert sentence(wrong, 2) == "boxoffice: Argument 3 is not text in UTF-8: set the terminal to it.\n"


async def test_a_refusal_of_redis_is_told_by_its_code(office: BoxOffice, settings: Settings) -> None:
    """The client takes the words that it knows off the text."""
    from redis.exceptions import RedisError

    redis = office.redis
    await redis.set("x", "1")
    await redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(RedisError) as full:
            await redis.set("x", "2")
        with pytest.raises(RedisError) as wrong:
            await redis.hget("x", "y")
    finally:
        await redis.config_set("maxmemory", 0)
        await redis.delete("x")
    assert (refusal(full.value), refusal(wrong.value)) == ("OOM", "WRONGTYPE")


async def test_a_worker_stopped_while_it_waits_was_never_ready(
    office: BoxOffice, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from boxoffice.stores import durability
    from worker.app import WorkerApp

    worker = WorkerApp(office)

    async def away(*_: object) -> None:
        worker.stop()
        raise ConnectionRefusedError

    monkeypatch.setattr(durability, "check_redis", away)
    await asyncio.wait_for(worker.run(), 30)

    said = "".join(capfd.readouterr())
    assert "worker.waiting" in said and "worker.stopped" in said
    assert "worker.ready" not in said


@pytest.mark.parametrize(
    ("command", "environ", "said"),
    [
        (["reconcile"], {"DATABASE_URL": "postgresql://x@127.0.0.1:1/x"}, "PostgreSQL does not answer"),
        (["clients", "list"], {"DATABASE_URL": "postgresql://x@nobody.invalid/x"}, "PostgreSQL does not answer"),
        (["dead", "list"], {"DATABASE_URL": "postgresql://x@127.0.0.1:1/x"}, "PostgreSQL does not answer"),
        (["payments", "audit"], {"DATABASE_URL": "postgresql://x@127.0.0.1:1/x"}, "PostgreSQL does not answer"),
        (["rebuild"], {"REDIS_URL": "redis://127.0.0.1:1/0"}, "Redis does not answer"),
        (["rebuild"], {"REDIS_URL": "redis://nobody.invalid/0"}, "Redis does not answer"),
    ],
)
async def test_a_store_that_does_not_answer_is_named(
    office: BoxOffice, command: list[str], environ: dict[str, str], said: str
) -> None:
    """With the setting that says where it is."""
    told = sentence(boxoffice(office.settings, *command, **environ))
    assert said in told
    assert ("REDIS_URL" if "REDIS_URL" in environ else "DATABASE_URL") in told


async def test_a_store_that_refuses_us_is_named(office: BoxOffice) -> None:
    settings = office.settings
    secret = settings.redis_url.split("@")[0].rpartition(":")[2]
    wrong = settings.redis_url.replace(secret, "hunter2")
    told = sentence(boxoffice(settings, "rebuild", REDIS_URL=wrong))
    assert "Redis refuses the user or the password: look at REDIS_URL." in told
    secret = settings.database_url.split("@")[0].rpartition(":")[2]
    for command in (["reconcile"], ["dead", "list"], ["payments", "audit"]):
        told = sentence(boxoffice(settings, *command, DATABASE_URL=settings.database_url.replace(secret, "hunter2")))
        assert "PostgreSQL refuses the user or the password: look at DATABASE_URL." in told
        assert "hunter2" not in told


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (asyncpg.ProtocolViolationError("unsupported startup parameter: options"),
         "A pooler between us and PostgreSQL (PgBouncer) takes no options"),
        (asyncpg.ProtocolViolationError("no more connections allowed (max_client_conn)"),
         "A pooler between us and PostgreSQL (PgBouncer) refuses us: its log says why."),
        (asyncpg.InvalidSQLStatementNameError(), SHARED), (asyncpg.DuplicatePreparedStatementError(), SHARED),
        (ConnectionError("PostgreSQL server at h:1 rejected SSL upgrade"), "PostgreSQL speaks no TLS, and sslmode"),
        (ConnectionRefusedError(), "PostgreSQL does not answer: does it run"),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_lies_between_us_and_postgresql_is_named(error: Exception, said: str) -> None:
    """Also when a command has a sentence of its own that only says where to look."""
    assert sentence_of(error).startswith(said)
    wrapped = CannotRun("PostgreSQL does not answer; is DATABASE_URL right?")
    wrapped.__cause__ = error
    assert sentence_of(wrapped).startswith(said)


def test_a_sentence_that_says_it_all_stays() -> None:
    error = CannotRun(SHARED)
    assert sentence_of(error) == SHARED
    error.__cause__ = ValueError("x")
    assert sentence_of(error) == SHARED


@pytest.mark.parametrize("command", ["api", "worker", "migrate"])
def test_nothing_starts_behind_a_pooler_of_transactions(servers: Servers, settings: Settings, command: str) -> None:
    with pgbouncer(servers.database_url, "transaction") as url:
        ran = boxoffice(settings.model_copy(update={"database_url": url}), command)
    assert sentence(ran) == f"boxoffice: {SHARED}\n"
