"""How one command finds the stack that another runs on the same data directory: `stack.json`, while it runs."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, MutableMapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from boxoffice.secret_files import SECRET_FILES, secret_of
from ops.stack.data_dir import DataDir, write_private

__all__ = [
    "ENV_OF_A_STACK",
    "RunningStack",
    "adopt_settings",
    "adopt_stack",
    "external_urls",
    "find_stack",
    "settings_in",
    "settings_left",
    "wished_urls",
    "without_secrets",
]

ENV_OF_A_STACK: Final = "BOXOFFICE_ENV"
"""Digests of the URLs that `boxoffice env` printed of a stack with servers of its own. Such a URL in an environment is what
a shell remembers of that stack, not somebody's wish for other servers."""

_OWN: Final = {"BOXOFFICE_REDIS_URL", "BOXOFFICE_DATABASE_URL", "BOXOFFICE_DATA_DIR", "BOXOFFICE_DEBUG", ENV_OF_A_STACK,
               "BOXOFFICE_REDIS_URL_FILE", "BOXOFFICE_DATABASE_URL_FILE", "BOXOFFICE_CRASHPOINT",
               "BOXOFFICE_LOG_LEVEL"}  # fmt: skip
"""Names that are a process's own, or found otherwise."""

_GATEWAY: Final = ("BOXOFFICE_GATEWAY__KIND", "BOXOFFICE_GATEWAY__URL", "BOXOFFICE_GATEWAY__API_KEY",
                   "BOXOFFICE_GATEWAY__API_KEY_FILE")  # fmt: skip
"""Which gateway, together: whoever names one of them means another gateway."""


KEPT: Final = "settings.json"
"""In the data directory: the settings of the stack that ran there last, secrets among them. Ours alone."""


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

    settings: dict[str, str] = field(default_factory=dict)
    """The settings it was started with, by their names in the environment: its gateway and its shards among them."""

    @property
    def url(self) -> str:
        """Where its API listens."""
        return f"http://127.0.0.1:{self.port}"

    def write(self, home: DataDir) -> None:
        """Let others find it. Its settings stay when it has ended: a restore goes on with them."""
        write_private(_path(home.path), json.dumps(asdict(self), indent=2) + "\n")
        write_private(home.path / KEPT, json.dumps(self.settings, indent=2) + "\n")

    @staticmethod
    def remove(home: DataDir) -> None:
        """Let nobody look for it any more."""
        _path(home.path).unlink(missing_ok=True)

    def mark(self) -> str:
        """The value of `ENV_OF_A_STACK` for the servers that are its own."""
        urls = {"redis": self.redis_url, "postgres": self.database_url}
        return " ".join(_digest(url) for name, url in urls.items() if name in self.pids)


def find_stack(data_dir: Path) -> RunningStack | None:
    """The stack that runs on this data directory. A file left by a crash is none: nobody holds its lock."""
    home = DataDir(data_dir)
    try:
        stack = RunningStack(**json.loads(_path(home.path).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return stack if home.owner() == stack.pid else None


def settings_in(environ: Mapping[str, str]) -> dict[str, str]:
    """The settings that an environment names, but for those that each process has its own of."""
    return {name: value for name, value in environ.items() if name.startswith("BOXOFFICE_") and name not in _OWN}


def external_urls(environ: Mapping[str, str]) -> tuple[str, str]:
    """Redis and PostgreSQL as the environment names them, or a file that it names; empty where it does not."""
    return (
        secret_of(environ, "BOXOFFICE_REDIS_URL", "REDIS_URL"),
        secret_of(environ, "BOXOFFICE_DATABASE_URL", "DATABASE_URL"),
    )


def wished_urls(environ: Mapping[str, str]) -> tuple[str, str]:
    """The same without what a shell remembers of `eval "$(boxoffice env)"`."""
    remembered = environ.get(ENV_OF_A_STACK, "").split()
    redis_url, database_url = external_urls(environ)
    return (
        "" if _digest(redis_url) in remembered else redis_url,
        "" if _digest(database_url) in remembered else database_url,
    )


def adopt_stack(data_dir: Path, environ: MutableMapping[str, str] = os.environ) -> RunningStack | None:
    """Name the running stack's servers and settings in the environment, where it does not name any itself.

    Its settings, the gateway above all, belong to its servers: whoever names other servers gets none of them.
    """
    stack = find_stack(data_dir)
    environ["BOXOFFICE_DATA_DIR"] = str(data_dir.absolute())
    if stack is None:
        return None
    redis_url, database_url = wished_urls(environ)
    if not redis_url:
        environ["BOXOFFICE_REDIS_URL"] = stack.redis_url
    if not database_url:
        environ["BOXOFFICE_DATABASE_URL"] = stack.database_url
    if external_urls(environ) == (stack.redis_url, stack.database_url):
        adopt_settings(stack.settings, environ)
    return stack


def adopt_settings(settings: Mapping[str, str], environ: MutableMapping[str, str] = os.environ) -> None:
    """Name these settings in the environment, where it does not name them itself, nor another gateway."""
    other_gateway = any(environ.get(name) for name in _GATEWAY)
    for name, value in settings.items():
        if not (other_gateway and name.startswith("BOXOFFICE_GATEWAY__")) and not _given_otherwise(environ, name):
            environ.setdefault(name, value)


def settings_left(data_dir: Path) -> dict[str, str]:
    """Those of the stack that ran there last; none where none did."""
    try:
        return {str(name): str(value) for name, value in json.loads((data_dir / KEPT).read_text()).items()}
    except (OSError, ValueError, AttributeError):
        return {}


def without_secrets(settings: Mapping[str, str]) -> dict[str, str]:
    """What a backup may say of them. The name of a file with a secret in it is none; a group in one piece may have one."""
    secrets = [name.removesuffix("_FILE") for name in SECRET_FILES]
    return {
        name: value
        for name, value in settings.items()
        if not any(secret == name.upper() or secret.startswith(f"{name.upper()}__") for secret in secrets)
    }


def _given_otherwise(environ: Mapping[str, str], name: str) -> bool:
    """Whether a secret is in the environment where the stack has it in a file, or the other way round."""
    other = name.removesuffix("_FILE") if name in SECRET_FILES else f"{name}_FILE"
    return other in environ


def _digest(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()[:16] if url else "-"


def _path(data_dir: Path) -> Path:
    return data_dir.absolute() / "stack.json"
