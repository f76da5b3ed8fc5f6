"""`boxoffice reconcile` and `boxoffice rebuild`: Redis against PostgreSQL."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from boxoffice.errors import CannotRun
from ops.commands._office import JsonOption, in_office, print_json
from ops.options import DEFAULT_DATA_DIR, DataDirOption

if TYPE_CHECKING:
    from boxoffice.office import BoxOffice
    from boxoffice.repair.rebuild import RebuildReport
    from boxoffice.repair.reconcile import EventReport
    from boxoffice.repair.tools import Findings

__all__ = ["register"]

EXIT_CODES = {"same": 0, "drift": 1, "fixed": 2}
"""3: it could not run."""

AcceptOption = Annotated[
    bool,
    typer.Option("--accept-postgres", help="PostgreSQL went back in time; what it has now is all there is."),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(reconcile)
    app.command()(rebuild)


def reconcile(
    event: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Only this event; with --fix its customers' tickets are counted anew, too."),
    ] = None,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what drifted, fill what is empty.")] = False,
    accept_postgres: AcceptOption = False,
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Compare Redis with PostgreSQL, tier by tier, while sales go on.

    Exit code 0: no drift; 1: drift found; 2: drift fixed; 3: could not run.
    """

    async def work(office: BoxOffice) -> Findings:
        return await office.repair.reconcile(event=event, fix=fix, accept_postgres=accept_postgres)

    findings = in_office(data_dir, work, looks=not fix, every_shard=True)
    print_json(_as_json(findings)) if as_json else _print(findings)
    sys.exit(EXIT_CODES[findings.word])


def rebuild(
    shard: Annotated[int | None, typer.Option(min=0, max=4_095, help="Only this shard.")] = None,
    accept_postgres: AcceptOption = False,
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Close a shard's gate, fill its Redis from PostgreSQL, open it again. What Redis still has stays.

    Workers do this by themselves when Redis is empty or went back in time.
    """
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TextColumn("{task.completed:,}"), TimeElapsedColumn())

    async def work(office: BoxOffice) -> list[RebuildReport]:
        reports = []
        if shard is not None and shard >= office.settings.shards:
            raise CannotRun(f"There is no such shard: BOXOFFICE_SHARDS says {office.settings.shards}, counted from 0.")
        with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
            for number in range(office.settings.shards) if shard is None else [shard]:
                task = bar.add_task(f"shard {number}: bookings", total=None)

                def progress(seen: int, task: Any = task) -> None:
                    bar.update(task, completed=seen)

                rebuilder = office.rebuilders[number]
                reports.append(await rebuilder.rebuild(accept_postgres=accept_postgres, progress=progress))
        return reports

    for report in in_office(data_dir, work, every_shard=True):
        counted = report._asdict() | {"reports": [_event(one) for one in report.reports]}
        if as_json:
            print_json(counted)
        else:
            typer.echo(
                f"Shard {report.shard} is open, generation {report.generation}: {report.undecided} undecided and "
                f"{report.final} recent bookings put back, {len(report.reports)} events reconciled."
            )


def _as_json(findings: Findings) -> dict[str, Any]:
    return {
        "result": findings.word,
        "closed_shards": list(findings.closed),
        "rebuilt_shards": list(findings.rebuilt),
        "unloaded_events": list(findings.unloaded),
        "events": [_event(report) for report in findings.reports],
    }


def _event(report: EventReport) -> dict[str, Any]:
    tiers = [
        {
            "id": tier.tier,
            "code": tier.code,
            "found": tier.found._asdict(),
            "expected": tier.expected._asdict(),
            "drift": tier.drift._asdict(),
        }
        for tier in report.tiers
    ]
    return {
        "id": report.event,
        "result": report.word,
        "settled": report.settled,
        "moved": report.moved,
        "oversold": report.oversold,
        "tiers": tiers,
    }


def _print(findings: Findings) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("event", "tier", "", "expected", "found", "drift")
    for report in findings.reports:
        for tier in report.tiers:
            for name, expected, found, drift in zip(
                tier.found._fields, tier.expected, tier.found, tier.drift, strict=True
            ):
                table.add_row(report.event, tier.code, name, str(expected), str(found), f"{drift:+d}" if drift else "0")
            table.add_section()
    Console().print(table)
    for shard in findings.closed:
        typer.echo(f"Shard {shard} is closed: Redis is empty or being filled. Run with --fix to fill it.")
    for shard in findings.rebuilt:
        typer.echo(f"Shard {shard} was empty or closed. It is filled again and open.")
    for event in findings.unloaded:
        typer.echo(f"Event {event} is not in Redis. Run with --fix to load it.")
    for report in findings.reports:
        if report.oversold:
            typer.echo(
                f"Event {report.event}: {report.oversold} tickets more than there are were let in. PostgreSQL refuses "
                "them, and nobody else is let in meanwhile."
            )
    typer.echo({"same": "No drift.", "drift": "Drift found.", "fixed": "Drift fixed."}[findings.word])
