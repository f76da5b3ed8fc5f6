"""Private servers put back from a backup: PostgreSQL to the end of its log or to a moment, Redis as it is or as it was.

Nothing is deleted: what was there stands beside what was put back, under a name that says since when. When PostgreSQL
cannot be brought to the moment that was asked for, what was there is put back.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from boxoffice.errors import CannotRun
from ops.stack.archive import archive_of, fetching
from ops.stack.backups import Backup, first_segment, read_backup
from ops.stack.postgresql import PostgresServer, is_ready, own
from ops.stack.servers import Servers
from ops.stack.valkey import RedisServer

__all__ = ["Point", "PutBack", "put_back"]

RECOVERY_TIMEOUT_S: Final = 24 * 3_600.0
"""The log of a week is replayed in hours."""

TOO_EARLY: Final = "the backup was made after that moment"

_WHY: Final = {
    "recovery ended before configured recovery target was reached": "the log that was found ends before that moment",
    "requested recovery stop point is before consistent recovery point": TOO_EARLY,
}
"""What PostgreSQL says, and what it means to whoever typed a time."""

MANIFEST: Final = "file appendonly.aof.1.base.rdb seq 1 type b\n"
"""A snapshot is the base of an append-only file: so the server reads it, and goes on writing behind it."""


class Point(NamedTuple):
    """How far PostgreSQL's log is followed."""

    to: datetime | None = None
    """Commits after this moment are forgotten; None: follow it to its end."""
    timeline: str = "latest"
    """Which line of history, where an earlier restore began another: a number, `current` (the backup's) or `latest`."""


class PutBack(NamedTuple):
    """What was done. Both servers run."""

    last_commit: str
    """As PostgreSQL tells it; empty when it found nothing behind the backup."""
    aside: tuple[Path, ...]
    """What was there before, to be deleted when all is well."""
    archive: Path | None
    """Where the log was read."""


def put_back(
    servers: Servers, folder: Path, point: Point, environ: Mapping[str, str], *, with_redis: bool,
    without_archive: bool = False,
) -> PutBack:  # fmt: skip
    """Restore, and start both servers. Raises CannotRun while a stack runs there, when the moment cannot be reached, and when
    the archive is not where it is said to be, unless it shall be done without."""
    backup = read_backup(folder)
    servers.home.open()
    try:
        stamp = f"before-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        servers.postgres.end_leftover()
        servers.redis.end_leftover()
        there = servers.postgres.place()[0] / "pg_wal"
        archive = None if without_archive else archive_of(environ, backup.archive, first_segment(folder), there)
        last_commit, aside = _recover(servers.postgres, folder, backup, point, archive, stamp)
        if with_redis:
            aside += _replace_redis(servers.redis, folder, stamp)
        servers.redis.start()
        servers.postgres.start()
    except BaseException:
        servers.stop()
        raise
    return PutBack(last_commit, tuple(aside), archive)


def _recover(
    postgres: PostgresServer, folder: Path, backup: Backup, point: Point, archive: Path | None, stamp: str
) -> tuple[str, list[Path]]:
    """Copy the base backup to where the data are, and replay the log: of the archive, and what the data that were there have
    of it and was not archived yet. Returns the last commit, and what was put aside."""
    data, binaries, account = postgres.place()
    if binaries.major != backup.postgres_major:
        raise CannotRun(
            f"The backup is of PostgreSQL {backup.postgres_major}, and this one is {binaries.major}: "
            "BOXOFFICE_POSTGRES_BIN names another."
        )
    if point.to is not None and point.to < datetime.fromisoformat(backup.begun_at):
        # What was committed before is in the copy, and PostgreSQL does not look when.
        raise CannotRun(f"PostgreSQL cannot be restored: {TOO_EARLY}. Nothing was changed.")
    gone, draft = data.with_name(f"{data.name}.{stamp}"), data.with_name(f"{data.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(folder / "postgres", draft, symlinks=True)
    draft.chmod(0o700)
    (draft / "recovery.signal").touch()
    own(draft, account)
    if there := data.exists():
        data.rename(gone)
    draft.rename(data)
    log_end = postgres.log.stat().st_size if postgres.log.exists() else 0
    try:
        postgres.start(_settings(point, *([archive] if archive else []), gone / "pg_wal"), RECOVERY_TIMEOUT_S)
        postgres.wait_until(lambda: is_ready(data, postgres.pid, "ready"), RECOVERY_TIMEOUT_S)
        postgres.stop(timeout_s=60)
        postgres.take_passwords()
    except BaseException as error:
        postgres.stop()
        shutil.rmtree(data)
        if there:
            gone.rename(data)
        if isinstance(error, CannotRun):
            raise CannotRun(f"{_reason(postgres.log, log_end) or error} Nothing was changed.") from error
        raise
    commits = re.findall(r"last completed transaction was at log time (.+)", _since(postgres.log, log_end))
    return commits[-1] if commits else "", [gone] if there else []


def _settings(point: Point, *folders: Path) -> dict[str, str]:
    """For the start that replays. It answers nobody before it is done."""
    settings = {
        "restore_command": fetching(*folders), "hot_standby": "off", "recovery_target_timeline": point.timeline,
        "recovery_target_action": "promote",
    }  # fmt: skip
    if point.to is not None:
        settings["recovery_target_time"] = point.to.astimezone(UTC).isoformat()
    return settings


def _replace_redis(redis: RedisServer, folder: Path, stamp: str) -> list[Path]:
    """Redis's snapshot in place of its file."""
    files = redis.files
    gone, draft = files.with_name(f"{files.name}.{stamp}"), files.with_name(f"{files.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700, parents=True)
    redis.folder.chmod(0o700)
    shutil.copyfile(folder / "redis.rdb", draft / "appendonly.aof.1.base.rdb")
    (draft / "appendonly.aof.manifest").write_text(MANIFEST)
    if there := files.exists():
        files.rename(gone)
    draft.rename(files)
    return [gone] if there else []


def _reason(log: Path, start: int) -> str:
    """Why PostgreSQL gave up, in a sentence; empty when its log does not say."""
    fatal = re.findall(r"FATAL:\s+(.+)", _since(log, start))
    return f"PostgreSQL cannot be restored: {_WHY.get(fatal[-1], fatal[-1])}." if fatal else ""


def _since(log: Path, start: int) -> str:
    with log.open("rb") as file:
        file.seek(start)
        return file.read().decode(errors="replace")
