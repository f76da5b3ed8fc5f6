"""Private servers are put back from a backup: all that was committed, or all up to a moment; or nothing is changed."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import NamedTuple

import asyncpg
import pytest
from redis import Redis

from boxoffice.errors import CannotRun
from ops.stack.backups import NOTE, back_up, first_segment, read_backup
from ops.stack.restoring import Point, PutBack, put_back
from ops.stack.servers import Servers, temporary_data_dir
from ops.stack.stack import Stack

ARCHIVE = "BOXOFFICE_POSTGRES_ARCHIVE"


def write(url: str, mark: int) -> datetime:
    """One commit. Returns PostgreSQL's clock a moment after it."""

    async def commit() -> datetime:
        connection = await asyncpg.connect(url)
        try:
            await connection.execute("CREATE TABLE IF NOT EXISTS marks (mark int)")
            await connection.execute("INSERT INTO marks VALUES ($1)", mark)
            found: datetime = await connection.fetchval("SELECT clock_timestamp()")
            return found
        finally:
            await connection.close()

    return asyncio.run(commit())


def marks(url: str) -> list[int]:
    async def ask() -> list[int]:
        connection = await asyncpg.connect(url)
        try:
            return [row["mark"] for row in await connection.fetch("SELECT mark FROM marks ORDER BY mark")]
        finally:
            await connection.close()

    return asyncio.run(ask())


class Past(NamedTuple):
    """A data directory whose stack has ended, and a backup of it."""

    data_dir: Path
    backup: Path
    environ: dict[str, str]
    began: datetime
    """After the first commit, and before the backup."""
    moment: datetime
    """After the second commit, which the backup lacks, and before the third."""


@pytest.fixture(scope="module")
def past() -> Iterator[Past]:
    """One commit, a backup, two more commits. Redis heard of a value before the backup, and of another since."""
    with temporary_data_dir() as folder:
        data_dir, backup = folder / "data", folder / "backup"
        environ = {**os.environ, ARCHIVE: str(folder / "the log's % archive")}
        with Stack(data_dir, environ=environ, debug=True) as stack:
            began = write(stack.database_url, 1)
            with Redis.from_url(stack.redis_url) as redis:
                redis.set("known", "before")
                backup.mkdir()
                backup.chmod(0o755)
                back_up(data_dir, backup)
                redis.set("known", "since")
            moment = write(stack.database_url, 2)
            write(stack.database_url, 3)
        yield Past(data_dir, backup, environ, began, moment)


@pytest.fixture
def copied(past: Past) -> Iterator[Past]:
    """The data directory as its stack has left it, for one test to change."""
    with temporary_data_dir() as folder:
        data_dir, archive = folder / "data", folder / "log"
        shutil.copytree(past.data_dir, data_dir, symlinks=True)
        data_dir.chmod(0o711)
        shutil.copytree(past.environ[ARCHIVE], archive)
        own_like(past.data_dir, data_dir)
        own_like(Path(past.environ[ARCHIVE]), archive)
        yield past._replace(data_dir=data_dir, environ={**past.environ, ARCHIVE: str(archive)})


def own_like(source: Path, copy: Path) -> None:
    for path in (source, *source.rglob("*")):
        to, of = copy / path.relative_to(source), path.stat(follow_symlinks=False)
        os.chown(to, of.st_uid, of.st_gid, follow_symlinks=False)


def restore(
    past: Past, point: Point, *, with_redis: bool = False, without_archive: bool = False
) -> tuple[PutBack, list[int], str]:
    """Put back, look, stop: what was done, the marks of PostgreSQL, and Redis's value."""
    servers = Servers(past.data_dir, debug=True, environ=past.environ)
    done = put_back(
        servers, past.backup, point, past.environ, with_redis=with_redis, without_archive=without_archive
    )  # fmt: skip
    try:
        with Redis.from_url(servers.redis_url, decode_responses=True) as redis:
            return done, marks(servers.database_url), str(redis.get("known"))
    finally:
        servers.stop()


def test_a_backup_says_what_it_is_and_is_whole(past: Past) -> None:
    note = read_backup(past.backup)

    assert note.redis_bytes == (past.backup / "redis.rdb").stat().st_size
    assert note.archive == past.environ[ARCHIVE]
    assert past.began < datetime.fromisoformat(note.begun_at) <= datetime.fromisoformat(note.ended_at) < past.moment
    assert [path.stat().st_mode & 0o077 for path in (past.backup, past.backup / "redis.rdb", past.backup / NOTE)] == [
        0,
        0,
        0,
    ]
    assert not (past.data_dir / "redis" / "dump.rdb").exists()
    manifest, copy = (past.backup / name for name in ("postgres/backup_manifest", "redis.rdb"))
    assert manifest.stat().st_mtime_ns < copy.stat().st_mtime_ns, "Redis has to remember what PostgreSQL's copy lacks"


def test_without_a_moment_all_that_was_committed_is_there_and_redis_as_it_is(copied: Past) -> None:
    """The last segment was archived by nobody: it comes from the data that were put aside."""
    done, found, known = restore(copied, Point())

    assert (found, known) == ([1, 2, 3], "since")
    (aside,) = done.aside
    assert (aside / "PG_VERSION").exists() and aside.name.startswith("postgres")
    assert done.last_commit.startswith(f"{datetime.now(UTC):%Y-}")


def test_to_a_moment_and_then_further_along_the_first_line_of_history(copied: Past) -> None:
    """The moment has the zone that it was given. Redis goes back where that is asked for, and only there."""
    elsewhere = copied.moment.astimezone(timezone(timedelta(hours=9)))
    done, found, known = restore(copied, Point(elsewhere), with_redis=True)
    assert (found, known) == ([1, 2], "before")
    assert [path.name.partition(".before-")[0] for path in done.aside] == ["postgres18", "appendonlydir"]
    assert all(path.exists() for path in done.aside)

    assert restore(copied, Point(timeline="1"))[1:] == ([1, 2, 3], "before")


def test_both_on_a_machine_that_has_nothing(past: Past) -> None:
    """Its passwords are others: the roles get them. Redis goes on from the copy, and keeps what it is told then. The archive is
    not read where somebody says so."""
    with temporary_data_dir() as folder:
        elsewhere = past._replace(data_dir=folder / "data", environ=dict(os.environ))
        done, found, known = restore(elsewhere, Point(), with_redis=True, without_archive=True)
        assert (done, found, known) == (PutBack("", (), None), [1], "before")

        with Servers(elsewhere.data_dir, with_postgres=False, debug=True) as servers:
            with Redis.from_url(servers.redis_url) as redis:
                redis.set("known", "anew")
            servers.kill_redis()
            servers.restart_redis()
            with Redis.from_url(servers.redis_url, decode_responses=True) as redis:
                assert redis.get("known") == "anew"


@pytest.mark.parametrize("with_redis", [False, True])
def test_the_archive_of_the_backup_is_read_where_the_shell_names_none(past: Past, with_redis: bool) -> None:
    """What was committed since the backup is nowhere else."""
    with temporary_data_dir() as folder:
        elsewhere = past._replace(data_dir=folder / "data", environ=dict(os.environ))
        done, found, known = restore(elsewhere, Point(), with_redis=with_redis)
    assert (done.archive, found) == (Path(past.environ[ARCHIVE]), [1, 2, 3])
    assert known == ("before" if with_redis else "None")


@pytest.mark.parametrize("with_redis", [False, True])
@pytest.mark.parametrize("named", [False, True])
def test_without_the_archive_nothing_is_forgotten_in_silence(
    past: Past, tmp_path: Path, named: bool, with_redis: bool
) -> None:
    """The folder is gone, or another: recovery would end at the backup."""
    backup = tmp_path / "backup"
    (backup / "postgres").mkdir(parents=True)
    for name in (NOTE, "redis.rdb", "postgres/backup_label"):
        shutil.copy(past.backup / name, backup / name)
    note = (backup / NOTE).read_text()
    (backup / NOTE).write_text(note.replace(past.environ[ARCHIVE], str(tmp_path / "gone")))
    environ = {**os.environ, **({ARCHIVE: str(tmp_path)} if named else {})}
    with temporary_data_dir() as folder:
        servers = Servers(folder / "data", debug=True, environ=environ)
        with pytest.raises(CannotRun, match=rf"^{tmp_path}{'' if named else '/gone'}, .* Nothing was changed\.$"):
            put_back(servers, backup, Point(), environ, with_redis=with_redis)
        assert not (folder / "data" / "redis").exists() and not list((folder / "data").glob("postgres*/PG_VERSION"))


def test_a_backup_says_where_its_log_begins(past: Past, tmp_path: Path) -> None:
    assert first_segment(past.backup) in {path.name for path in Path(past.environ[ARCHIVE]).iterdir()}
    with pytest.raises(CannotRun, match="does not say where its log begins"):
        first_segment(tmp_path)


def test_what_cannot_be_reached_changes_nothing(copied: Past) -> None:
    before = sorted(path.name for path in copied.data_dir.iterdir())
    for point, why in (
        (Point(copied.began), "the backup was made after that moment"),
        (Point(copied.moment + timedelta(days=1)), "the log that was found ends before that moment"),
    ):
        servers = Servers(copied.data_dir, debug=True, environ=copied.environ)
        with pytest.raises(CannotRun, match=f"^PostgreSQL cannot be restored: {why}. Nothing was changed.$"):
            put_back(servers, copied.backup, point, copied.environ, with_redis=True)
        assert sorted(path.name for path in copied.data_dir.iterdir()) == before

    with Servers(copied.data_dir, debug=True, environ=copied.environ) as servers:
        assert marks(servers.database_url) == [1, 2, 3]
        with Redis.from_url(servers.redis_url, decode_responses=True) as redis:
            assert redis.get("known") == "since"


def test_a_stack_that_runs_is_left_alone_and_so_is_a_folder_in_use(copied: Past) -> None:
    with Stack(copied.data_dir, environ=copied.environ, debug=True):
        with pytest.raises(CannotRun, match="is in use by another boxoffice"):
            put_back(Servers(copied.data_dir), copied.backup, Point(), copied.environ, with_redis=False)
        with pytest.raises(CannotRun, match="is not empty"):
            back_up(copied.data_dir, copied.backup)
        with pytest.raises(CannotRun, match="is no folder"):
            back_up(copied.data_dir, copied.backup / NOTE)


def test_without_a_copy_of_redis_there_is_no_backup(copied: Past) -> None:
    """It could not write one: a folder is in its way."""
    with Stack(copied.data_dir, environ=copied.environ, debug=True) as stack:
        (stack.servers.redis.folder / "dump.rdb" / "in the way").mkdir(parents=True)
        with pytest.raises(CannotRun, match="Redis could not write its snapshot"):
            back_up(copied.data_dir, copied.data_dir / "backup")
    with pytest.raises(CannotRun, match="is no backup"):
        read_backup(copied.data_dir / "backup")


def test_only_a_stack_with_servers_of_its_own_is_copied(tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match="No stack with a Redis and a PostgreSQL of its own"):
        back_up(tmp_path, tmp_path / "backup")
    elsewhere = Stack(tmp_path / "data", redis_url="redis://r/0", database_url="postgresql://d/b")
    with elsewhere, pytest.raises(CannotRun, match="No stack with a Redis and a PostgreSQL of its own"):
        back_up(tmp_path / "data", tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


def test_half_a_backup_or_a_changed_one_is_none(past: Past, tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match="is no backup, or only half of one"):
        read_backup(tmp_path)
    (tmp_path / NOTE).write_text((past.backup / NOTE).read_text())
    (tmp_path / "redis.rdb").write_bytes((past.backup / "redis.rdb").read_bytes() + b"\0")
    with pytest.raises(CannotRun, match="is not what was written"):
        read_backup(tmp_path)


def test_of_another_major_version_nothing_is_restored(past: Past, tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    for name in (NOTE, "redis.rdb", "postgres/backup_label"):
        shutil.copy(past.backup / name, tmp_path / name)
    note = (tmp_path / NOTE).read_text()
    (tmp_path / NOTE).write_text(note.replace('"postgres_major": 18', '"postgres_major": 17'))
    with temporary_data_dir() as folder, pytest.raises(CannotRun, match="of PostgreSQL 17, and this one is 18"):
        put_back(Servers(folder / "data", debug=True), tmp_path, Point(), os.environ, with_redis=False)
