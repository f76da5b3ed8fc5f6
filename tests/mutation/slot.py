"""Where mutants run: a process that has imported what they need from others, and forks one pytest after another.

Run as a script, in a copy of the tree, so that nothing of the box office is imported before the fork. A job is a line of
JSON on stdin: `{"args": [...], "env": {...}, "timeout_s": 60}`; the answer is a line `{"code": 1}`, `null` after a timeout.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import sys
import time

_OTHERS = (
    "pytest", "_pytest.assertion.rewrite", "pytest_asyncio.plugin", "pytest_timeout", "hypothesis", "coverage", "redis.asyncio",
    "asyncpg", "sqlalchemy.ext.asyncio", "sqlalchemy.dialects.postgresql.asyncpg", "alembic.command", "alembic.config",
    "fastapi", "fastapi.openapi.utils", "pydantic_settings", "msgspec", "httpx2", "stripe", "structlog", "uvicorn", "uvloop",
    "typer", "rich.console", "fakeredis", "iso4217", "httptools", "psutil", "yaml",
)  # fmt: skip


def _child(job: dict) -> None:  # type: ignore[type-arg]
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update(job["env"])
    sys.dont_write_bytecode = not job.get("bytecode")
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for fd in (1, 2):
        os.dup2(log, fd)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    import pytest

    code = 70
    try:
        code = int(pytest.main(job["args"]))
    finally:
        sys.stdout.flush()
        os._exit(code)


def _wait(pid: int, seconds: float) -> int | None:
    ends = time.monotonic() + seconds
    pause = 0.005
    while time.monotonic() < ends:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(pause)
        pause = min(0.05, pause * 1.5)
    return None


def _run(job: dict) -> int | None:  # type: ignore[type-arg]
    pid = os.fork()
    if not pid:
        _child(job)
    code = _wait(pid, job["timeout_s"])
    if code is None:
        # Time to stop the servers that a test may have started.
        os.kill(pid, signal.SIGINT)
        if _wait(pid, 5) is None:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    return code


def main() -> None:
    sys.path[0] = os.getcwd()
    for name in _OTHERS:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.freeze()
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps({"code": _run(json.loads(line))}), flush=True)


if __name__ == "__main__":
    main()
