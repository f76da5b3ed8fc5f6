"""`boxoffice backup` and `boxoffice restore`: both private servers, while they run, and to any moment."""

from __future__ import annotations

import os
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from boxoffice.errors import CannotRun
from ops.commands._office import JsonOption, in_office, print_json
from ops.options import DEFAULT_DATA_DIR, DataDirOption, moment, settings_for

if TYPE_CHECKING:
    from boxoffice.office import BoxOffice
    from boxoffice.repair.rebuild import RebuildReport
    from ops.stack.restoring import PutBack

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(backup)
    app.command()(restore)


def backup(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Made, or empty.")],
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Copy the private PostgreSQL and Redis while they sell, and check the copy.

    With BOXOFFICE_POSTGRES_ARCHIVE set for `boxoffice up`, any moment after it can be restored.
    """
    from ops.stack.backups import back_up

    made = back_up(data_dir, folder)
    if as_json:
        print_json(asdict(made))
    else:
        typer.echo(f"{folder} has PostgreSQL {made.postgres_major} as of {made.ended_at}, and Redis a moment later.")


def restore(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="What `boxoffice backup` made.")],
    to: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Forget commits after this moment, in UTC unless it has a zone."),
    ] = None,
    timeline: Annotated[
        str, typer.Option(metavar="N", help="Follow this line of history, after an earlier restore began another.")
    ] = "latest",
    accept_postgres: Annotated[
        bool, typer.Option("--accept-postgres", help="Withdraw from Redis what PostgreSQL has forgotten.")
    ] = False,
    with_redis: Annotated[bool, typer.Option("--with-redis", help="Put the copy of Redis back, too.")] = False,
    no_archive: Annotated[
        bool, typer.Option("--no-archive", help="Do without the archived log, and forget what only it has.")
    ] = False,
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Put the private PostgreSQL back, to the end of its log or to a moment, and bring Redis in line with it.

    What PostgreSQL lacks then and Redis remembers is written again, or withdrawn. The stack must be stopped. Nothing is
    deleted.
    """
    from ops.stack.backups import read_backup
    from ops.stack.restoring import Point, put_back
    from ops.stack.running import adopt_settings, settings_left, wished_urls
    from ops.stack.servers import Servers

    if not re.fullmatch(r"latest|current|[1-9]\d{0,8}", timeline):
        raise typer.BadParameter(f"{timeline!r} is no number of a line of history.")
    point = Point(moment(to) if to else None, timeline)
    if any(wished_urls(os.environ)):
        raise CannotRun(
            "REDIS_URL or DATABASE_URL names a server of yours, and these are restored by their own tools: "
            "docs/operations.md says how."
        )
    adopt_settings(read_backup(folder).settings | settings_left(data_dir))
    servers = Servers(data_dir)
    done = put_back(servers, folder, point, os.environ, with_redis=with_redis, without_archive=no_archive)
    try:
        if not as_json:
            _print_restored(done, no_archive)
        os.environ.update(BOXOFFICE_REDIS_URL=servers.redis_url, BOXOFFICE_DATABASE_URL=servers.database_url)
        from boxoffice.stores.postgres import migrate

        migrate(settings_for(data_dir))
        reports = in_office(data_dir, lambda office: _rebuild(office, accept_postgres), every_shard=True)
    finally:
        servers.stop()
    if as_json:
        aside = [str(path) for path in done.aside]
        shards = [{"shard": each.shard, **each.recovered._asdict()} for each in reports]
        archive = str(done.archive) if done.archive else None
        print_json({"last_commit": done.last_commit or None, "archive": archive, "aside": aside, "shards": shards})
    else:
        _print_reports(reports)


async def _rebuild(office: BoxOffice, accept_postgres: bool) -> list[RebuildReport]:
    return [await each.rebuild(accept_postgres=accept_postgres) for each in office.rebuilders]


def _print_restored(done: PutBack, no_archive: bool) -> None:
    """At once: what comes next may find that a person has to decide."""
    typer.echo(f"PostgreSQL is restored. Its last commit is of {done.last_commit or 'the time of the backup'}.")
    if no_archive:
        typer.echo("The archived log was left out, as --no-archive says: commits that only it has are forgotten.")
    for path in done.aside:
        typer.echo(f"What was there before is in {path}: delete it when all is well and a new backup is made.")


def _print_reports(reports: list[RebuildReport]) -> None:
    for each in reports:
        done = each.recovered
        typer.echo(
            f"Shard {each.shard} is open: {done.confirmed} bookings confirmed again, {done.ended} ended, {done.refunds} "
            f"refunds made again, {done.withdrawn} withdrawn."
        )
