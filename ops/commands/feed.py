"""`boxoffice feed`: what a shop is told, in its order."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.commands._office import JsonOption, in_office
from ops.options import DEFAULT_DATA_DIR, DataDirOption

if TYPE_CHECKING:
    from boxoffice.notices.cursors import Cursor
    from boxoffice.notices.reading import Notice
    from boxoffice.office import BoxOffice

__all__ = ["register"]

AGAIN_S = 0.5
"""Between two looks while it follows."""

PAGE = 500


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(feed)


def feed(
    client: Annotated[str, typer.Option("--client", metavar="ID", help="The shop.")],
    after: Annotated[
        str,
        typer.Option("--after", metavar="CURSOR", help="Only what was told behind this cursor; `now`: from now on."),
    ] = "",
    types: Annotated[str, typer.Option("--types", metavar="TYPE,…", help="Only notices of these types.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many, the oldest first.")] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on, until Ctrl-C.")] = False,
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """What the shop is told of its bookings, money and events: a line each, with --json a JSON object each.

    The last line, on standard error, is the cursor to go on from. With --follow there is no end, and --limit means nothing.
    """
    shown = _as_json if as_json else _as_text

    async def work(office: BoxOffice) -> Cursor:
        return await _read_on(office, client, after, types, None if follow else limit, shown)

    typer.echo(f"cursor: {in_office(Path(data_dir), work)}", err=True)


async def _read_on(
    office: BoxOffice, client: str, after: str, types: str, most: int | None, shown: Callable[[Notice], str]
) -> Cursor:
    from boxoffice.errors import NotFound
    from boxoffice.wire.feed_requests import parse_feed

    if client not in {each["id"] for each in await office.access.clients()}:
        raise NotFound("There is no such client.")
    given = [(name, text) for name, text in (("after", after), ("types", types)) if text]
    wanted = parse_feed(given, office.settings.limits)
    notices = office.notices
    await notices.number()
    cursor = wanted.after
    if cursor is None:
        cursor = await (notices.head() if wanted.from_now else notices.start())
    left = most
    while True:
        page = await notices.after(client, cursor, types=wanted.types, most=min(PAGE, left or PAGE))
        for notice in page.notices:
            typer.echo(shown(notice))
        cursor = page.cursor
        left = None if left is None else left - len(page.notices)
        if left == 0 or (left is not None and not page.more):
            return cursor
        if not page.more:
            await office.clock.sleep(AGAIN_S)
            await notices.number()


def _as_json(notice: Notice) -> str:
    from boxoffice.wire.notices import notice_body

    body = notice_body(notice).decode()
    return f'{body[:-1]},"cursor":{json.dumps(str(notice.cursor))}}}'


def _as_text(notice: Notice) -> str:
    from boxoffice.clock import timestamp

    about = notice.booking_id or notice.event_id or "-"
    more = " ".join(f"{name}={value}" for name, value in notice.data.items())
    return f"{timestamp(int(notice.at.timestamp() * 1_000))}  {notice.type}  {about}  {more}".rstrip()
