"""`boxoffice rush` and `boxoffice audit`: a simulated sale, and whether all promises were kept."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ops.options import DEFAULT_DATA_DIR, DataDirOption, finite

__all__ = ["register"]

BROKEN = 1


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(rush)
    app.command()(audit)


def rush(
    seconds: Annotated[
        float, typer.Option(min=1, max=86_400, callback=finite, help="How long customers arrive.")
    ] = 20.0,
    rate: Annotated[
        float | None,
        typer.Option(min=1, max=100_000, callback=finite, help="Arrivals a second: 300, with --chaos 150."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Repeats a rush: who comes when, who is killed when.")] = None,
    chaos: Annotated[bool, typer.Option("--chaos", help="Hurt API, workers, stores and logs meanwhile.")] = False,
    burst: Annotated[bool, typer.Option("--burst", help="Most customers come at the beginning.")] = False,
    customers: Annotated[int, typer.Option(min=1, help="Different customers.")] = 5_000,
    trouble: Annotated[float, typer.Option(min=0, max=0.8, callback=finite, help="Share of troublesome cards.")] = 0.05,
    port: Annotated[list[int] | None, typer.Option(help="Ports of the APIs; once for each.")] = None,
    private: Annotated[bool, typer.Option("--private", help="Start a stack of its own even if one runs.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the private stack's data in ./rush-<pid>.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON object.")] = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Simulate a sale, then audit it.

    Uses the stack that runs on the data directory; if none runs, and always with --chaos, a private one.
    Exit code 0: every invariant held; 1: one was broken; 3: it could not run.
    """
    import random

    from ops.rush.plan import Workload
    from ops.rush.report import lines_of, lines_of_findings
    from ops.rush.run import Options
    from ops.rush.run import rush as run

    chosen = random.randrange(1_000_000) if seed is None else seed
    rate = rate or (150.0 if chaos else 300.0)
    workload = Workload(seconds=seconds, rate=rate, burst=burst, customers=customers, seed=chosen, trouble=trouble)
    report, performance = run(Options(workload, chaos, private, tuple(port or ()), data_dir, keep=keep))
    assert performance.findings is not None
    if as_json:
        _print_json(report)
    else:
        typer.echo("\n".join([*lines_of(report), "", *lines_of_findings(performance.findings)]))
    if not report.held:
        sys.exit(BROKEN)


def audit(
    wait: Annotated[float, typer.Option(min=0, callback=finite, help="Seconds to wait for rest.")] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON object.")] = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Hold Redis, PostgreSQL and the gateway's books against each other: the invariants, one by one.

    The box office must be at rest. Nothing is changed. Exit code 0: every invariant held; 1: one was broken; 3: it
    could not run.
    """
    import asyncio

    from ops.options import settings_for
    from ops.rush.alone import audit_alone
    from ops.rush.report import lines_of_findings

    findings = asyncio.run(audit_alone(settings_for(data_dir), wait))
    if as_json:
        _print_json({"findings": list(findings), "parked": findings.parked,
                     "undecided": sorted(findings.undecided), "held": findings.held})  # fmt: skip
    else:
        typer.echo("\n".join(lines_of_findings(findings)))
    if not findings.held:
        sys.exit(BROKEN)


def _print_json(thing: object) -> None:
    import msgspec

    typer.echo(msgspec.json.format(msgspec.json.encode(thing), indent=2).decode())
