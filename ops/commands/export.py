"""`boxoffice export`: every booking, payment or refund as CSV or JSON lines."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from boxoffice.errors import CannotRun
from ops.commands._office import in_office, progress_bar
from ops.options import DEFAULT_DATA_DIR, DataDirOption, moment

if TYPE_CHECKING:
    from boxoffice.backoffice.exporting import Chosen
    from boxoffice.office import BoxOffice

__all__ = ["register"]


class What(StrEnum):
    """What can be exported."""

    bookings = "bookings"
    payments = "payments"
    refunds = "refunds"


class Format(StrEnum):
    """How rows are written."""

    csv = "csv"
    jsonl = "jsonl"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(export)


def export(
    what: Annotated[What, typer.Argument(metavar="WHAT", help="bookings, payments or refunds.")],
    event: Annotated[list[str] | None, typer.Option("--event", metavar="ID", help="Only of these events.")] = None,
    client: Annotated[str | None, typer.Option("--client", metavar="ID", help="Only of this shop.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Begun then or later; UTC unless it has a zone.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Begun before.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A file, which is there when it is whole. Default: standard output."),
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="How to write rows.")] = Format.csv,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON lines: --format jsonl.")] = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Write all rows of one snapshot, in bounded memory, with a progress bar on a terminal.

    Exit code 0: all of it is written; 3: it is not, and a file of that name is as it was; 141: whoever read it has gone.
    """
    from boxoffice.backoffice.exporting import Chosen

    chosen = Chosen(event or None, client, moment(since) if since else None, moment(until) if until else None)
    wanted = Format.jsonl if as_json else form

    with _written(output) as write:

        async def work(office: BoxOffice) -> int:
            return await _export(office, what, wanted, chosen, write)

        rows = in_office(data_dir, work, looks=True)
    if output is not None:
        typer.echo(f"{rows} {what} written to {output}.", err=True)


async def _export(office: BoxOffice, what: What, form: Format, chosen: Chosen, write: Callable[[str], object]) -> int:
    from boxoffice.backoffice.exporting import export as rows_of

    done = 0
    with progress_bar(what, None) as advance:
        counted = (lambda total: advance(0, total)) if sys.stderr.isatty() else None
        parts = rows_of(office.settings, what, form, chosen, counted)
        async with contextlib.aclosing(parts):
            async for part in parts:
                write(part.text)
                done += part.rows
                advance(done)
    return done


@contextlib.contextmanager
def _written(output: Path | None) -> Iterator[Callable[[str], object]]:
    """Where the text goes. A file gets its name when it is whole and on the disk; until then it is ours alone (0600), since
    customers stand in it."""
    if output is None:
        yield sys.stdout.write
        sys.stdout.flush()
        return
    with _complaining(output):
        fd, name = tempfile.mkstemp(prefix=f".{output.name}.", dir=output.parent)
    unfinished = Path(name)
    try:
        with os.fdopen(fd, "w", encoding="utf-8", newline="") as file:

            def write(text: str) -> None:
                with _complaining(output):
                    file.write(text)

            yield write
            with _complaining(output):
                file.flush()
                os.fsync(fd)
        with _complaining(output):
            unfinished.replace(output)
    finally:
        unfinished.unlink(missing_ok=True)


@contextlib.contextmanager
def _complaining(output: Path) -> Iterator[None]:
    """A disk that is full, a folder that is not there: a sentence with the file's name."""
    try:
        yield
    except OSError as error:
        raise CannotRun(f"{output} cannot be written: {error.strerror}.") from None
