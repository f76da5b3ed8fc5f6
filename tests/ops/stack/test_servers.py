"""The private servers keep what they acknowledged, and belong to one owner at a time."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest
import redis

from boxoffice.errors import CannotRun
from ops.stack.data_dir import DataDir
from ops.stack.postgresql import PostgresServer, own
from ops.stack.servers import Servers, temporary_data_dir, temporary_servers
from tests.support.waiting import until


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with temporary_servers() as running:
        yield running


@pytest.fixture
def data_dir() -> Iterator[Path]:
    with temporary_data_dir() as folder:
        yield folder


def sql(servers: Servers, statement: str) -> list[Any]:
    return sql_of(servers.database_url, statement)


def sql_of(url: str, statement: str) -> list[Any]:
    async def ask() -> list[Any]:
        connection = await asyncpg.connect(url)
        try:
            return [tuple(row) for row in await connection.fetch(statement)]
        finally:
            await connection.close()

    return asyncio.run(ask())


def store(servers: Servers, timeout_s: float = 20) -> redis.Redis:
    return redis.Redis.from_url(servers.redis_url, decode_responses=True, socket_timeout=timeout_s)


def test_the_applications_role_is_no_superuser(servers: Servers) -> None:
    """Nor may it make roles or databases, read the server's files, or pass for a standby."""
    powers = "rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls"
    assert sql(servers, f"SELECT {powers} FROM pg_roles WHERE rolname = current_user") == [(False,) * 5]
    assert sql(servers, "SELECT count(*) FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member"
                        " WHERE r.rolname = current_user") == [(0,)]  # fmt: skip
    for statement in ("SELECT pg_read_file('PG_VERSION')", "COPY pg_roles TO PROGRAM 'true'", "CREATE DATABASE other"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            sql(servers, statement)


OF_ALL_KINDS = """
CREATE TYPE mood AS ENUM ('well');
CREATE DOMAIN text_of_ours AS text;
CREATE TYPE pair AS (a int, b int);
CREATE TABLE things (id int GENERATED ALWAYS AS IDENTITY, old serial, mood mood);
CREATE TABLE parts (id int) PARTITION BY RANGE (id);
CREATE SEQUENCE numbers;
CREATE VIEW seen AS SELECT * FROM things;
CREATE MATERIALIZED VIEW kept AS SELECT * FROM things;
CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE PROCEDURE nothing() LANGUAGE sql AS '';
"""


def test_a_data_directory_of_an_earlier_version_gets_the_two_roles(data_dir: Path) -> None:
    """The application may do to what it owns what it could before, and nothing else. Once it is done, nothing is done."""
    home = DataDir(data_dir)
    server = PostgresServer(home, os.environ, debug=True)
    data, binaries, account = server.place()
    data.mkdir()
    own(data, account)
    with tempfile.NamedTemporaryFile("w") as password:
        password.write(home.secret("postgres"))
        password.flush()
        os.chmod(password.name, 0o644)
        made = ["-U", "boxoffice", "--auth=scram-sha-256", f"--pwfile={password.name}", "--no-sync"]
        server.tool([binaries.bin_dir / "initdb", "-D", data, *made], account)
    single = [binaries.bin_dir / "postgres", "--single", "-D", data]
    server.tool([*single, "postgres"], account, "CREATE DATABASE boxoffice OWNER boxoffice\n")
    server.tool([*single, "boxoffice"], account, OF_ALL_KINDS.replace(";\n", "\n").strip() + "\n")

    for _ in range(2):
        with Servers(data_dir) as servers:
            assert sql(servers, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") == [(False,)]
            assert sql(servers, "SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY 1") == [
                ("boxoffice",), ("postgres",)
            ]  # fmt: skip
            for kind, owner, schema in (("class", "rel", "rel"), ("type", "typ", "typ"), ("proc", "pro", "pro")):
                found = sql(servers, f"SELECT DISTINCT {owner}owner::regrole::text FROM pg_{kind}"
                                     f" WHERE {schema}namespace = 'public'::regnamespace")  # fmt: skip
                assert found == [("boxoffice",)], kind
            sql(servers, "ALTER TABLE things ADD COLUMN IF NOT EXISTS more int")
            sql(servers, "CREATE TABLE IF NOT EXISTS others (id int)")
            sql(servers, "DROP VIEW IF EXISTS seen")
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                sql(servers, "CREATE DATABASE other")
            assert sql_of(servers.admin_url, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") == [(True,)]


def test_redis_loses_nothing_and_evicts_nothing(servers: Servers) -> None:
    settings: Any = store(servers).config_get("*")

    assert settings["appendonly"] == "yes"
    assert settings["appendfsync"] == "always"
    assert settings["no-appendfsync-on-rewrite"] == "no"
    assert settings["aof-load-truncated"] == "yes"
    assert settings["maxmemory-policy"] == "noeviction"
    assert int(settings["maxmemory"]) > 0
    assert settings["enable-debug-command"] == "local"
    assert settings.get("latency-tracking") == "no"


def test_redis_may_have_huge_pages_and_its_allocator_is_told_to_ask(servers: Servers) -> None:
    """Whether it does ask is up to glibc (decision 24)."""
    assert store(servers).config_get("disable-thp") == {"disable-thp": "no"}
    if sys.platform == "linux":
        environ = Path(f"/proc/{servers.redis_pid}/environ").read_bytes()
        assert b"glibc.malloc.hugetlb=1" in environ


def test_postgres_loses_nothing_and_checks_its_pages(servers: Servers) -> None:
    for setting in ("fsync", "synchronous_commit", "full_page_writes", "data_checksums"):
        assert sql(servers, f"SHOW {setting}") == [("on",)]


def test_the_database_and_its_user_are_called_boxoffice(servers: Servers) -> None:
    assert sql(servers, "SELECT current_database()::text, current_user::text") == [("boxoffice", "boxoffice")]


def test_redis_killed_and_restarted_keeps_url_and_data(servers: Servers) -> None:
    store(servers).set("kept", "yes")
    url, pid = servers.redis_url, servers.redis_pid

    servers.kill_redis()
    servers.restart_redis()

    assert (servers.redis_url, store(servers).get("kept")) == (url, "yes")
    assert servers.redis_pid != pid


def test_postgres_killed_and_restarted_keeps_url_and_data(servers: Servers) -> None:
    sql(servers, "CREATE TABLE kept AS SELECT 1 AS n")
    url, pid = servers.database_url, servers.postgres_pid

    servers.kill_postgres()
    servers.restart_postgres()

    assert (servers.database_url, sql(servers, "SELECT n FROM kept")) == (url, [(1,)])
    assert servers.postgres_pid != pid


def test_a_paused_server_is_silent_until_it_is_resumed(servers: Servers) -> None:
    servers.redis.pause()
    with pytest.raises(redis.TimeoutError):
        store(servers, timeout_s=0.2).ping()
    servers.redis.resume()

    assert store(servers).ping()


def test_a_paused_postgres_answers_no_open_connection_either(servers: Servers) -> None:
    async def ask_while_paused() -> None:
        connection = await asyncpg.connect(servers.database_url)
        try:
            servers.postgres.pause()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(connection.fetch("SELECT 1"), 0.2)
        finally:
            servers.postgres.resume()
            connection.terminate()

    asyncio.run(ask_while_paused())

    assert sql(servers, "SELECT 1") == [(1,)]


def test_a_second_instance_is_refused(servers: Servers) -> None:
    with pytest.raises(CannotRun, match=rf"in use by another boxoffice \(pid {os.getpid()}\)"):
        Servers(servers.home.path).start()

    assert store(servers).ping()


def test_nobody_else_can_hold_our_locks(servers: Servers, data_dir: Path) -> None:
    """A file that others may read is one that they may lock: nothing of ours would start any more."""
    locks = [path for path in servers.home.path.rglob("*lock") if path.is_file()]
    assert servers.home.path / "lock" in locks
    assert {path.stat().st_mode & 0o077 for path in locks} == {0}

    (data_dir / "lock").touch(mode=0o644)
    (data_dir / "lock").chmod(0o644)
    home = DataDir(data_dir)
    home.open()
    home.close()
    assert (data_dir / "lock").stat().st_mode & 0o077 == 0


def test_a_run_later_finds_the_same_urls_and_data(data_dir: Path) -> None:
    with Servers(data_dir, debug=True) as first:
        store(first).set("kept", "yes")
        sql(first, "CREATE TABLE kept AS SELECT 1 AS n")
        urls = first.redis_url, first.database_url

    with Servers(data_dir) as second:
        assert (second.redis_url, second.database_url) == urls
        assert store(second).get("kept") == "yes"
        assert sql(second, "SELECT n FROM kept") == [(1,)]
        assert store(second).config_get("enable-debug-command") == {"enable-debug-command": "no"}


def test_passwords_are_for_the_owner_only(servers: Servers) -> None:
    for name in ("secrets.json", "redis/redis.conf"):
        assert stat.S_IMODE((servers.home.path / name).stat().st_mode) == 0o600
    for pid in (servers.redis_pid, servers.postgres_pid):
        words = psutil.Process(pid).cmdline()
        assert not any(servers.home.secret(name) in word for word in words for name in ("redis", "postgres"))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a process that its parent died")
def test_servers_do_not_outlive_a_killed_owner(data_dir: Path) -> None:
    """And the next owner waits until they are gone, instead of sharing their files."""
    program = textwrap.dedent(f"""
        import pathlib, signal
        from ops.stack.servers import Servers
        with Servers(pathlib.Path({str(data_dir)!r}), debug=True) as servers:
            print(servers.redis_pid, servers.postgres_pid, flush=True)
            signal.pause()
    """)
    owner = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert owner.stdout
    pids = [int(pid) for pid in owner.stdout.readline().split()]
    assert len(pids) == 2
    owner.send_signal(signal.SIGKILL)
    owner.communicate()

    with Servers(data_dir, debug=True) as servers:
        assert store(servers).ping()
        assert sql(servers, "SELECT 1") == [(1,)]
        assert not {servers.redis_pid, servers.postgres_pid} & set(pids)
    until(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in pids))


def test_a_server_that_cannot_start_is_a_sentence_and_leaves_nothing(data_dir: Path) -> None:
    servers = Servers(data_dir, environ={**os.environ, "BOXOFFICE_REDIS_MAXMEMORY": "a lot"})

    with pytest.raises(CannotRun, match=r"redis stopped while starting \(exit 1\)"):
        servers.start()

    assert servers.home.owner() is None
