"""Commands as an operator types them, in this process."""

from __future__ import annotations

import asyncio

from typer.testing import CliRunner

from ops.cli import app, commands

__all__ = ["register_all", "run"]

_runner = CliRunner()


def register_all() -> None:
    """Every command, once a process."""
    names = {group.name for group in app.registered_groups}
    names |= {(each.name or each.callback.__name__) for each in app.registered_commands if each.callback}
    for command in commands():
        if command.__name__.rpartition(".")[2] not in names:
            command.register(app)


async def run(*arguments: str) -> tuple[int, str]:
    """Its exit code and what it says, in a thread of its own, because it brings its own event loop."""
    result = await asyncio.to_thread(_runner.invoke, app, list(arguments))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output
