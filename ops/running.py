"""How one command finds the stack that another runs on the same data directory: `stack.json`, while it runs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, MutableMapping
from dataclasses import asdict, dataclass
from pathlib import Path

from ops.data_dir import DataDir, write_private

__all__ = ["RunningStack", "adopt_stack", "external_urls", "find_stack"]


@dataclass(frozen=True)
class RunningStack:
    """What is known about a stack that runs now. Holds passwords: the file is ours alone."""

    pid: int
    """The supervisor."""

    port: int
    """Of the first API process; 0 when there is none."""

    redis_url: str
    database_url: str

    pids: dict[str, int]
    """Component (`redis`, `postgres`, `api`, `worker`, `api-2`, …) to process."""

    @property
    def url(self) -> str:
        """Where its API listens."""
        return f"http://127.0.0.1:{self.port}"

    def write(self, home: DataDir) -> None:
        """Let others find it."""
        write_private(_path(home.path), json.dumps(asdict(self), indent=2) + "\n")

    @staticmethod
    def remove(home: DataDir) -> None:
        """Let nobody look for it any more."""
        _path(home.path).unlink(missing_ok=True)


def find_stack(data_dir: Path) -> RunningStack | None:
    """The stack that runs on this data directory. A file left by a crash is none: nobody holds its lock."""
    home = DataDir(data_dir)
    try:
        stack = RunningStack(**json.loads(_path(home.path).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return stack if home.owner() == stack.pid else None


def external_urls(environ: Mapping[str, str]) -> tuple[str, str]:
    """Redis and PostgreSQL as the environment names them; empty where it does not."""
    return (
        environ.get("BOXOFFICE_REDIS_URL") or environ.get("REDIS_URL") or "",
        environ.get("BOXOFFICE_DATABASE_URL") or environ.get("DATABASE_URL") or "",
    )


def adopt_stack(data_dir: Path, environ: MutableMapping[str, str] = os.environ) -> RunningStack | None:
    """Name the running stack's servers in the environment, where it does not name any itself."""
    stack = find_stack(data_dir)
    redis_url, database_url = external_urls(environ)
    environ["BOXOFFICE_DATA_DIR"] = str(data_dir.absolute())
    if stack and not redis_url:
        environ["BOXOFFICE_REDIS_URL"] = stack.redis_url
    if stack and not database_url:
        environ["BOXOFFICE_DATABASE_URL"] = stack.database_url
    return stack


def _path(data_dir: Path) -> Path:
    return data_dir.absolute() / "stack.json"
