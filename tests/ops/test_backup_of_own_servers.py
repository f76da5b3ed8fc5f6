"""The lines of docs/operations.md for servers of one's own, typed as they stand there."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from redis import Redis

from ops.stack.archive import archiving
from ops.stack.processes import Account
from ops.stack.servers import Servers, temporary_data_dir
from tests.support.ports import free_port
from tests.support.tree import ROOT

SECTION = (
    (ROOT / "docs" / "operations.md")
    .read_text()
    .partition("### Of servers of your own\n")[2]
    .partition("\nTo restore ")[0]
)

BACKUP, RESTORE, REDIS = re.findall(r"```sh\n(.*?)```", SECTION, re.S)

ARCHIVE_COMMAND = re.findall(r"^archive_command = '(.*)'$", SECTION, re.M)

NAME = "000000010000000000000001"


def types(lines: str, environ: dict[str, str], account: Account | None = None) -> None:
    """In a shell that stops at what fails. What stays behind in the background keeps no pipe of ours."""
    ran = subprocess.run(
        ["bash", "-euc", lines], env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False, cwd="/",
        user=account.uid if account else None, group=account.gid if account else None,
        extra_groups=[] if account else None,
    )  # fmt: skip
    log = Path(environ["PGDATA"], "restore.log")
    assert ran.returncode == 0, f"{lines} {log.read_text() if log.exists() else ''}"


async def commit(url: str, mark: int) -> str:
    """One, and PostgreSQL's clock after it."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("CREATE TABLE IF NOT EXISTS marks (mark int)")
        await connection.execute("INSERT INTO marks VALUES ($1)", mark)
        return str(await connection.fetchval("SELECT clock_timestamp()::text"))
    finally:
        await connection.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    with temporary_data_dir() as folder:
        yield folder


@pytest.mark.skipif(not shutil.which("psql"), reason="psql is not here, so the page was not tried.")
async def test_both_are_copied_and_put_back_to_a_moment(folder: Path) -> None:
    archive = folder / "log"
    environ = {**os.environ, "BOXOFFICE_POSTGRES_ARCHIVE": str(archive)}
    with Servers(folder / "own", environ=environ, debug=True) as own:
        _, binaries, account = own.postgres.place()
        port = free_port()
        shell = {
            "PATH": f"{binaries.bin_dir}{os.pathsep}{os.environ['PATH']}", "BACKUP": str(folder / "backup"),
            "REPLICATION_URL": own.admin_url, "REDIS_ADMIN_URL": own.redis_url, "PGDATA": str(folder / "restored"),
            "ARCHIVE": str(archive), "PGPORT": str(port), "REDIS_DIR": str(folder / "other" / "redis"), "LC_ALL": "C",
            "REDIS_USER": str(os.getuid()),
        }  # fmt: skip
        (folder / "backup").mkdir()
        await commit(own.database_url, 1)
        with Redis.from_url(own.redis_url) as redis:
            redis.set("known", "then")
            lines = BACKUP.splitlines()
            assert [line.split()[0] for line in lines] == ["umask", "pg_basebackup", "pg_verifybackup", "redis-cli"]
            if not shutil.which("redis-cli"):
                redis.save()
                shutil.copy(own.redis.folder / "dump.rdb", folder / "backup" / "redis.rdb")
                lines.pop()
            await asyncio.to_thread(types, "\n".join(lines), shell)
            assert (folder / "backup" / "postgres" / "PG_VERSION").stat().st_mode & 0o077 == 0
        shell["TO"] = await commit(own.database_url, 2)
        await commit(own.database_url, 3)
        password = own.admin_url
    with (folder / "backup" / "postgres" / "postgresql.conf").open("a") as configuration:
        # Ours is told this when it is started; the page's has it in its configuration.
        configuration.write("max_connections = 200\n")
    # What its end has archived is all that there is.
    for path in (folder / "backup", *(folder / "backup").rglob("*")):
        os.chown(path, account.uid, account.gid) if account else None
    (folder / "restored").mkdir()
    os.chown(folder / "restored", account.uid, account.gid) if account else None

    url = shell["RESTORED_URL"] = re.sub(r"@127\.0\.0\.1:\d+/", f"@127.0.0.1:{port}/", password)
    try:
        await asyncio.to_thread(types, RESTORE, shell, account)
        connection = await asyncpg.connect(url)
        assert not await connection.fetchval("SELECT pg_is_in_recovery()")
        assert [row["mark"] for row in await connection.fetch("SELECT mark FROM marks ORDER BY 1")] == [1, 2]
        await connection.close()
    finally:
        await asyncio.to_thread(types, 'pg_ctl -D "$PGDATA" -m immediate -w stop', shell, account)

    (folder / "other" / "redis").mkdir(parents=True, mode=0o711)
    (folder / "other").chmod(0o711)
    await asyncio.to_thread(types, REDIS, shell)
    assert REDIS.splitlines()[-1] == 'chown -R "$REDIS_USER" "$REDIS_DIR/appendonlydir"'
    other = Servers(folder / "other", with_postgres=False, debug=True)
    with other, Redis.from_url(other.redis_url, decode_responses=True) as redis:
        assert redis.get("known") == "then"


@pytest.mark.parametrize("answers", [["t", "f"], ["t", "gone"]])
def test_the_wait_ends_with_the_promotion_or_the_server(tmp_path: Path, answers: list[str]) -> None:
    """Servers can be read before they can be written to."""
    (loop,) = re.findall(r"^until .*?^done$", RESTORE, re.M | re.S)
    (tmp_path / "answers").write_text("\n".join(answers) + "\n")
    stubs = (
        'psql() { answer=$(head -1 answers); echo "$answer"; };'
        'pg_ctl() { test "$(head -1 answers)" != gone; }; sleep() { sed -i 1d answers; };'
    )
    ran = subprocess.run(
        ["bash", "-uc", f"{stubs}\n{loop}"], cwd=tmp_path, check=False, timeout=20,
        env={"PATH": os.environ["PATH"], "RESTORED_URL": "postgresql://r/b", "PGDATA": "data"},
    )  # fmt: skip
    assert ran.returncode == (0 if answers[-1] == "f" else 1)
    assert (tmp_path / "answers").read_text().split() == answers[-1:]


def test_the_page_archives_as_we_do(tmp_path: Path) -> None:
    """A segment is there under its name when it is whole, and is never written over."""
    (command,) = ARCHIVE_COMMAND
    segment = tmp_path / "segment"
    segment.write_bytes(b"log" * 1_000)
    filled = command.replace("/srv/log", str(tmp_path)).replace("%f", NAME).replace("%p", str(segment))
    # The server may die before it notes that a segment is archived, and asks again.
    assert [subprocess.run(["sh", "-c", filled], check=False).returncode for _ in range(2)] == [0, 0]
    assert (tmp_path / NAME).read_bytes() == segment.read_bytes()
    segment.write_bytes(b"other")
    assert subprocess.run(["sh", "-c", filled], check=False).returncode != 0
    assert (tmp_path / NAME).read_bytes() != b"other" and not (tmp_path / f"{NAME}.part").exists()
    assert "archive_mode" in archiving({"BOXOFFICE_POSTGRES_ARCHIVE": str(tmp_path)}, None)
