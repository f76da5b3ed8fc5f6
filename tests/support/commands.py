"""`boxoffice …` without the second that a new interpreter takes to import it all.

A process imports the commands and everything they use once. Each command is forked from it, with arguments, environment,
folder and standard streams of its own, and ends as an interpreter does. What an interpreter takes from its environment
when it starts (encodings, `-X`, a terminal) is tried with `subprocess` instead.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import select
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

__all__ = ["run"]

ROOT = Path(__file__).resolve().parents[2]

USED = ("boxoffice.office", "boxoffice.stores.postgres", "ops.complaints", "ops.seed", "ops.stack.supervisor", "rich.table",
        "sqlalchemy.dialects.postgresql.asyncpg", "alembic.command", "api.server", "worker.app")  # fmt: skip


def run(*arguments: str, env: Mapping[str, str], timeout_s: float = 60) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end, in the repository's folder. Raises `subprocess.TimeoutExpired`."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        wanted = {"args": ["boxoffice", *arguments], "env": dict(env), "out": str(out), "err": str(err)}
        server = _server()
        assert server.stdin is not None and server.stdout is not None
        server.stdin.write(json.dumps(wanted).encode() + b"\n")
        server.stdin.flush()
        if not select.select([server.stdout], [], [], timeout_s)[0]:
            server.kill()
            raise subprocess.TimeoutExpired(wanted["args"], timeout_s)
        code = json.loads(server.stdout.readline())
        return subprocess.CompletedProcess(wanted["args"], code, out.read_bytes(), err.read_bytes())


_started: list[subprocess.Popen[bytes]] = []


def _server() -> subprocess.Popen[bytes]:
    """It ends when we do, for nobody writes to it then."""
    if not _started or _started[-1].poll() is not None:
        _started.append(
            subprocess.Popen(
                [sys.executable, "-m", "tests.support.commands"],
                cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
            )
        )  # fmt: skip
    return _started[-1]


def serve() -> Iterator[dict[str, Any]]:
    """In each forked process: what it is to run."""
    for line in sys.stdin:
        wanted: dict[str, Any] = json.loads(line)
        pid = os.fork()
        if not pid:
            yield wanted
            return
        print(json.dumps(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])), flush=True)


def become(wanted: dict[str, Any]) -> None:
    """Take everything over that tells one process from another."""
    os.environ.clear()
    os.environ.update(wanted["env"])
    sys.argv = wanted["args"]
    for fd, path in ((1, wanted["out"]), (2, wanted["err"])):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), fd)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)


def end(code: object) -> NoReturn:
    """As an interpreter does, but for what it would tidy up of all that was imported."""
    if isinstance(code, str):
        print(code, file=sys.stderr)
        code = 1
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    from ops import cli

    for name in USED:
        importlib.import_module(name)
    cli.commands()
    gc.freeze()
    for each in serve():
        become(each)
        try:
            cli.main()
        except SystemExit as exiting:
            end(exiting.code)
        except BaseException:
            traceback.print_exc()
            end(1)
        end(0)
