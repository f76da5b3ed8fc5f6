"""The command `boxoffice`: parse, one call, print.

Exit codes: 0 done; 1 a difference was found; 2 wrong usage, or a difference was found and mended; 3 the command could
not do its work, with one sentence on standard error (and the traceback with `BOXOFFICE_DEBUG=1`); 141 nobody reads what
it prints.

Everything heavy is imported inside a command, so that the others start at once. More commands live in `ops/commands/`,
one module each with a `register(app)`.

One file because what starts and seeds a stack is typed together, and `main` is what all commands run in.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from ops.options import DEFAULT_DATA_DIR, DataDirOption, settings_for
from ops.stack.running import ENV_OF_A_STACK, find_stack

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["app", "commands", "main"]

COULD_NOT_RUN = 3
WRONG_USAGE = 2
INTERRUPTED = 130
NOBODY_READS = 141
"""As a shell tells it of a program that SIGINT, or SIGPIPE, has ended."""

PortOption = Annotated[
    int, typer.Option("--port", envvar=["PORT", "BOXOFFICE_PORT"], min=1, max=65535, help="Port of the API.")
]

app = typer.Typer(
    name="boxoffice",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)


def _say_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"boxoffice {version('boxoffice')}")
        raise typer.Exit


@app.callback()
def boxoffice(
    _version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """A booking engine for the minute tickets go on sale."""


@app.command()
def up(
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    port: PortOption = 8000,
    shop_port: Annotated[
        int,
        typer.Option(
            envvar="SHOP_PORT", min=0, max=65535, help="Port of the demo shop. 0: 80 above the API's, if it is free."
        ),
    ] = 0,
) -> None:
    """Start everything on this machine, and keep it running until Ctrl-C.

    Starts a private Redis and PostgreSQL, and a demo shop, unless REDIS_URL and DATABASE_URL name others.
    """
    from ops.stack import supervisor

    supervisor.up(data_dir, port, shop_port=shop_port)


@app.command()
def api(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: PortOption = 8000,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Serve the HTTP API."""
    settings = settings_for(data_dir)
    from api.server import serve

    serve(settings, host, port)


@app.command()
def worker(data_dir: DataDirOption = DEFAULT_DATA_DIR) -> None:
    """Settle bookings: take the money, write them to PostgreSQL."""
    settings = settings_for(data_dir)
    from worker.app import run_worker

    run_worker(settings)


@app.command()
def migrate(data_dir: DataDirOption = DEFAULT_DATA_DIR) -> None:
    """Bring PostgreSQL's schema up to date."""
    settings = settings_for(data_dir)
    from boxoffice.stores.postgres import migrate as bring_up_to_date

    bring_up_to_date(settings)
    typer.echo("The schema is up to date.")


@app.command()
def seed(
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    demo_key: Annotated[
        bool, typer.Option("--demo-key", help="Also make the API key demo.boxoffice, which everybody knows.")
    ] = False,
    demo_shop: Annotated[
        str, typer.Option(metavar="URL", help="Also what the demo shop there sells, and its two keys, in DATA_DIR.")
    ] = "",
) -> None:
    """Make example events to play with, once."""
    settings = settings_for(data_dir)
    import asyncio

    from ops.seed import seed as make_examples

    report = asyncio.run(make_examples(settings, demo_key=demo_key, shop_url=demo_shop))
    typer.echo(f"{report.event.name} {'is now' if report.created else 'was already'} on sale: event {report.event.id}")
    if report.api_key:
        typer.echo(f"API key: {report.api_key}")


@app.command()
def env(
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON object.")] = False,
) -> None:
    """Print where Redis and PostgreSQL are: `eval "$(boxoffice env)"`."""
    settings = settings_for(data_dir)
    stack = find_stack(data_dir)
    urls = {"REDIS_URL": settings.redis_url, "DATABASE_URL": settings.database_url}
    levels = {"REDIS": settings.redis_durability_stated, "POSTGRES": settings.postgres_durability_stated}
    urls |= {f"BOXOFFICE_{store}_DURABILITY_STATED": level for store, level in levels.items() if level}
    if as_json:
        import json

        typer.echo(json.dumps(urls))
        return
    import shlex

    if stack and (mark := stack.mark()) and settings.redis_url == stack.redis_url:
        urls[ENV_OF_A_STACK] = mark
    for name, value in urls.items():
        typer.echo(f"export {name}={shlex.quote(value)}")


def commands() -> Iterator[ModuleType]:
    """The modules of `ops/commands/`, by name."""
    folder = Path(__file__).with_name("commands")
    for path in sorted(folder.glob("[!_]*.py")):
        yield import_module(f"ops.commands.{path.stem}")


def main() -> None:
    """Run a command; whatever goes wrong is one sentence."""
    _keep_standard_streams()
    _log_to_standard_error()
    _quiet_libraries()
    _read_arguments()
    try:
        for command in commands():
            command.register(app)
        app(prog_name="boxoffice")
    except SystemExit as end:
        # Click and rich say 1, which means a difference here.
        raise SystemExit(NOBODY_READS if end.code == 1 and _Output.unread else end.code) from None
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:
        from ops.complaints import sentence_of

        _fail(sentence_of(error))


def _quiet_libraries() -> None:
    """Keep their lines and tracebacks off a terminal: what matters comes back as an error. Who serves has a log of its own."""
    if os.environ.get("BOXOFFICE_DEBUG") != "1":
        logging.getLogger().addHandler(logging.NullHandler())


def _read_arguments() -> None:
    """As UTF-8, which terminals write, whatever the locale says that they do. Python keeps what its character set lacks
    as bytes. A path stays what the system knows it by."""
    for at, argument in enumerate(sys.argv):
        if argument.isascii() or argument.startswith("--data-dir=") or sys.argv[at - 1] == "--data-dir":
            continue
        try:
            sys.argv[at] = os.fsencode(argument).decode()
        except UnicodeError:
            typer.echo(f"boxoffice: Argument {at} is not text in UTF-8: set the terminal to it.", err=True)
            sys.exit(WRONG_USAGE)


def _log_to_standard_error() -> None:
    """What a command logs on its way must not stand among the data that it prints."""
    import structlog

    if not structlog.is_configured():
        structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))


def _keep_standard_streams() -> None:
    """Whoever closed one of them must not see a connection to a store opened in its place, and be written to. And what
    the terminal's character set lacks is written as an escape."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stdout is sys.__stdout__ and isinstance(sys.stdout, io.TextIOWrapper):
        encoding, at_once = sys.stdout.encoding, sys.stdout.write_through
        output = io.BufferedWriter(_Output(sys.stdout.fileno(), "w", closefd=False))
        sys.stdout = io.TextIOWrapper(output, encoding, line_buffering=at_once or sys.stdout.line_buffering)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class _Output(io.FileIO):
    """Standard output that remembers when whoever read it is gone: `boxoffice reconcile | head`."""

    unread: ClassVar[bool] = False

    def write(self, data: Buffer, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            _Output.unread = True
            raise


def _fail(sentence: str) -> None:
    if os.environ.get("BOXOFFICE_DEBUG") == "1":
        raise
    # The code has to reach whoever waits for it, also when there is nobody who could read the sentence.
    with contextlib.suppress(OSError, ValueError):
        typer.echo(f"boxoffice: {sentence}", err=True)
    sys.exit(COULD_NOT_RUN)


if __name__ == "__main__":
    main()
