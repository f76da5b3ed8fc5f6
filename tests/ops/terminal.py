"""Commands as an operator types them, in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import structlog
from typer.testing import CliRunner

from boxoffice.settings import Settings
from ops.cli import app, commands

__all__ = ["register_all", "run", "terminal_of"]

_runner = CliRunner()


def register_all() -> None:
    """Every command, once a process."""
    names = {group.name for group in app.registered_groups}
    names |= {(each.name or each.callback.__name__) for each in app.registered_commands if each.callback}
    for command in commands():
        if command.__name__.rpartition(".")[2] not in names:
            command.register(app)


@contextmanager
def terminal_of(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A terminal whose environment names the servers of these settings: what `run` runs works on those."""
    register_all()
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    monkeypatch.setenv("BOXOFFICE_DATA_DIR", str(settings.data_dir))
    before = structlog.get_config()
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    yield
    structlog.configure(**before)


async def run(*arguments: str) -> tuple[int, str]:
    """Its exit code and what it says, in a thread of its own, because it brings its own event loop."""
    result = await asyncio.to_thread(_runner.invoke, app, list(arguments))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output
