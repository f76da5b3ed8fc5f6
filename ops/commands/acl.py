"""`boxoffice acl`, `boxoffice roles`: the users that a Redis and a PostgreSQL of yours need, with the least rights."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

__all__ = ["register"]


class RedisRole(StrEnum):
    """Whose user."""

    api = "api"
    worker = "worker"
    operator = "operator"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(acl)
    app.command()(roles)


def acl(
    role: Annotated[RedisRole | None, typer.Option(help="Of one user; else of all three.")] = None,
    config: Annotated[
        bool, typer.Option("--config", help="With CONFIG GET: only where no setting of the server holds a password.")
    ] = False,
    msetex: Annotated[bool, typer.Option("--msetex", help="With MSETEX: Valkey 9.1, Redis 8.4 or newer.")] = False,
    rule: Annotated[
        bool, typer.Option("--rule", help="Only what follows the user's name, as consoles want it.")
    ] = False,
) -> None:
    """Print the Redis users of the API, of workers and of operators, for `redis-cli`. Passwords stay as they are."""
    from boxoffice.stores.redis_rights import ROLES, acl_rule

    more = [command for command, wanted in (("config|get", config), ("msetex", msetex)) if wanted]
    for name in ROLES:
        if role is None or role == name:
            typer.echo(f"{'' if rule else f'ACL SETUSER boxoffice-{name} '}on {acl_rule(name, more)}")


def roles() -> None:
    """Print the PostgreSQL roles of the API, of workers, operators and readers, for `psql`. Passwords stay as they are.

    What each may do to which table is granted by `boxoffice migrate`, which is run by the database's owner.
    """
    from boxoffice.stores.postgres_rights import role_statements

    for statement in role_statements():
        typer.echo(f"{statement};")
