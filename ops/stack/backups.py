"""A copy of both private servers, made while they run and sell.

PostgreSQL is copied first, Redis afterwards: of whatever PostgreSQL's copy lacks, Redis's copy remembers what its shops were
told. The folder has a note, `backup.json`, once all of it is on the disk; without one it is no backup.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from redis import Redis

from boxoffice.errors import CannotRun
from ops.roles import ADMIN
from ops.stack.archive import FOLDER
from ops.stack.data_dir import DataDir, write_private
from ops.stack.postgresql import PostgresServer
from ops.stack.processes import POLL_S
from ops.stack.running import find_stack, without_secrets
from ops.stack.valkey import RedisServer

__all__ = ["Backup", "back_up", "first_segment", "read_backup"]

NOTE: Final = "backup.json"


@dataclass(frozen=True)
class Backup:
    """What the note of a backup says."""

    boxoffice: str
    """The version that made it."""
    postgres_major: int
    begun_at: str
    """ISO 8601, UTC. What was committed before is in it."""
    ended_at: str
    """The earliest moment to which PostgreSQL can be restored from it, all but some seconds."""
    redis_bytes: int
    redis_sha256: str
    archive: str = ""
    """The folder where the log was archived meanwhile; empty when it was not, or by an older version."""
    settings: dict[str, str] = field(default_factory=dict)
    """The stack's, by their names in the environment, without secrets: its shards and its gateway among them."""


def back_up(data_dir: Path, folder: Path) -> Backup:
    """Copy the servers of the stack that runs on `data_dir` into this folder, which is made, or empty.

    Raises CannotRun when no such stack runs, when the folder is in use, and with what PostgreSQL's programs complain of.
    """
    home = DataDir(data_dir)
    stack = find_stack(data_dir)
    if stack is None or not {"redis", "postgres"} <= stack.pids.keys():
        raise CannotRun(
            f"No stack with a Redis and a PostgreSQL of its own runs on {data_dir}. How others are backed up says "
            "docs/operations.md."
        )
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise CannotRun(f"{folder} is not empty: a backup has a folder of its own.")
    except (FileExistsError, NotADirectoryError) as error:
        raise CannotRun(f"{folder} is no folder.") from error
    folder.chmod(0o700)
    begun_at = _now()
    postgres = PostgresServer(home, os.environ, debug=False)
    _copy_postgres(
        postgres, home.secret("postgres_admin"), urlsplit(stack.database_url).port or 5432, folder / "postgres"
    )
    ended_at = _now()
    copy = folder / "redis.rdb"
    _copy_redis(stack.redis_url, RedisServer(home, os.environ, debug=False).folder, copy)
    backup = Backup(
        version("boxoffice"), postgres.place()[1].major, begun_at, ended_at, copy.stat().st_size, _digest(copy),
        stack.settings.get(FOLDER, ""),
        without_secrets(stack.settings),
    )  # fmt: skip
    write_private(folder / NOTE, json.dumps(asdict(backup), indent=2) + "\n")
    return backup


def read_backup(folder: Path) -> Backup:
    """What its note says. Raises CannotRun when there is none, or Redis's copy is another than it says."""
    try:
        backup = Backup(**json.loads((folder / NOTE).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise CannotRun(f"{folder} is no backup, or only half of one: its {NOTE} cannot be read.") from error
    copy = folder / "redis.rdb"
    if not copy.exists() or _digest(copy) != backup.redis_sha256:
        raise CannotRun(f"{copy} is not what was written when the backup was made.")
    return backup


def first_segment(folder: Path) -> str:
    """The segment of the log with which recovery from this backup begins. Raises CannotRun when its copy does not say."""
    label = folder / "postgres" / "backup_label"
    found = (
        re.search(r"^START WAL LOCATION: .* \(file ([0-9A-F]{24})\)$", label.read_text(), re.M)
        if label.exists()
        else None
    )
    if found is None:
        raise CannotRun(f"{folder} is no backup: {label} does not say where its log begins.")
    return found[1]


def _copy_postgres(postgres: PostgresServer, password: str, port: int, copy: Path) -> None:
    """A base backup with the log that makes it whole, read once more against its manifest. Owned by whoever we are."""
    _, binaries, _ = postgres.place()
    with tempfile.NamedTemporaryFile("w", prefix="pgpass-") as secret:
        secret.write(f"127.0.0.1:{port}:*:{ADMIN}:{password}\n")
        secret.flush()
        server = f"host=127.0.0.1 port={port} user={ADMIN} passfile='{secret.name}'"
        postgres.tool(
            [binaries.bin_dir / "pg_basebackup", "-D", copy, "-X", "stream", "-c", "fast", "-d", server], None
        )
    if (binaries.bin_dir / "pg_verifybackup").exists():
        postgres.tool([binaries.bin_dir / "pg_verifybackup", "-q", copy], None)


def _copy_redis(url: str, folder: Path, copy: Path) -> None:
    """A snapshot of all of it, made by a fork of the server: see that there is memory for what changes meanwhile."""
    with Redis.from_url(url) as redis:
        while (state := redis.info("persistence"))["rdb_bgsave_in_progress"] or state["aof_rewrite_in_progress"]:
            time.sleep(POLL_S)
        redis.bgsave()
        while (state := redis.info("persistence"))["rdb_bgsave_in_progress"]:
            time.sleep(POLL_S)
    if state["rdb_last_bgsave_status"] != "ok":
        raise CannotRun("Redis could not write its snapshot: its log says why.")
    shutil.move(folder / "dump.rdb", copy)
    with copy.open("rb") as file:
        os.fchmod(file.fileno(), 0o600)
        os.fsync(file.fileno())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
