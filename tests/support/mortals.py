"""Processes that die on purpose, or freeze: real ones, at the crashpoint they are given, and cheap.

A nursery process imports everything once. Each mortal is forked from it in some milliseconds, finds its settings in an
environment of its own, and does one deed: it works as a worker does, or it is the API that a request has reached.

    mortal = mortals.fork("work", env, tmp_path / "worker.log", crash_at="committed")
    assert await ends(mortal) == "killed by SIGKILL"
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from boxoffice.crashpoint import arm
from ops.stack.processes import die_with_parent
from tests.support.patience import give_time

__all__ = ["Mortal", "Nursery"]

ROOT = Path(__file__).resolve().parents[2]

NOWHERE = "nowhere"
"""The crashpoint of the nursery itself: it arms them all, and names none."""


class Mortal:
    """One of them. Looks like an `ops.stack.processes.Child` to whoever waits for its end."""

    def __init__(self, nursery: Nursery, pid: int, name: str, log: Path) -> None:
        self.pid = pid
        self.name = name
        self.log = log
        self._nursery = nursery

    @property
    def alive(self) -> bool:
        """Whether it runs, be it frozen."""
        return self._nursery.status_of(self.pid) is None

    @property
    def frozen(self) -> bool:
        """Whether it stopped at its crashpoint."""
        return self.alive and Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    @property
    def ending(self) -> str:
        """How it ended."""
        status = self._nursery.status_of(self.pid)
        if status is None:
            return "still running"
        code = os.waitstatus_to_exitcode(status)
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit {code}"

    def send(self, signum: int) -> None:
        """A signal, if it still lives."""
        if self.alive:
            os.kill(self.pid, signum)

    def said(self, text: str) -> bool:
        """Whether its log has this."""
        return text in self.log.read_text()

    def last_line(self) -> str:
        """Of its log."""
        return self.log.read_text().rstrip().rpartition("\n")[2]


class Nursery:
    """Where they come from. Ends with the process that made it, and they with it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.mortals"],
            cwd=ROOT,
            env=os.environ | {"BOXOFFICE_CRASHPOINT": NOWHERE},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=die_with_parent(signal.SIGKILL, os.getpid()),
        )
        self._statuses: dict[int, int] = {}
        self._told = b""

    def fork(self, deed: str, env: Mapping[str, str], log: Path, *args: Any, crash_at: str) -> Mortal:
        """A new process that does this deed. `crash_at` is as BOXOFFICE_CRASHPOINT."""
        wanted = {"deed": deed, "env": dict(env), "log": str(log), "args": args, "crash_at": crash_at}
        assert self._process.stdin is not None
        log.touch()
        self._process.stdin.write(json.dumps(wanted).encode() + b"\n")
        self._process.stdin.flush()
        while (pid := self._read()) is None:
            pass
        return Mortal(self, pid, f"{deed} at {crash_at}", log)

    def status_of(self, pid: int) -> int | None:
        """What waitpid() said of it; None while it lives."""
        assert self._process.stdout is not None
        while select.select([self._process.stdout], [], [], 0)[0]:
            self._read()
        return self._statuses.get(pid)

    def close(self) -> None:
        """No more of them."""
        self._process.kill()
        self._process.communicate()

    def _read(self) -> int | None:
        """Take in one message: the pid of a new one, or the end of another (None)."""
        assert self._process.stdout is not None
        while b"\n" not in self._told:
            piece = os.read(self._process.stdout.fileno(), 65_536)
            assert piece, "the nursery died"
            self._told += piece
        line, _, self._told = self._told.partition(b"\n")
        what, pid, status = line.split()
        if what == b"born":
            self._statuses.pop(int(pid), None)
            return int(pid)
        self._statuses[int(pid)] = int(status)
        return None


# ------------------------------------------------------------------ inside the nursery


def serve() -> None:
    """Fork whatever is asked for on stdin, and tell of births and deaths on stdout."""
    import httpx2  # noqa: F401 - imported once, for all of them
    import uvloop  # noqa: F401

    import worker.app  # noqa: F401

    give_time()
    asked = b""
    while True:
        if select.select([0], [], [], 0.01)[0]:
            piece = os.read(0, 65_536)
            if not piece:
                return
            *lines, asked = (asked + piece).split(b"\n")
            for line in lines:
                _bear(json.loads(line))
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                print("died", *ended, flush=True)


def _bear(wanted: dict[str, Any]) -> None:
    nursery = os.getpid()
    pid = os.fork()
    if pid:
        print("born", pid, 0, flush=True)
        return
    code = 1
    try:
        die_with_parent(signal.SIGKILL, nursery)()
        log = os.open(wanted["log"], os.O_WRONLY | os.O_APPEND)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.update(wanted["env"])
        arm(wanted["crash_at"])
        DEEDS[wanted["deed"]](*wanted["args"])
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def _work() -> None:
    from boxoffice.settings import load_settings
    from worker.app import run_worker

    run_worker(load_settings())


def _ask(method: str, path: str, headers: dict[str, str], body: str) -> None:
    """Be the API that this request reaches."""
    import uvloop

    async def ask() -> None:
        import httpx2

        from api.app import create_app
        from boxoffice.office import open_box_office
        from boxoffice.settings import load_settings

        settings = load_settings()
        async with open_box_office(settings, redis_retries=3) as office:
            transport = httpx2.ASGITransport(app=create_app(settings, office=office))
            async with httpx2.AsyncClient(transport=transport, base_url="http://boxoffice.test") as client:
                answer = await client.request(method, path, headers=headers, content=body.encode())
                print(answer.status_code, answer.text)

    uvloop.run(ask())


DEEDS = {"work": _work, "ask": _ask}

if __name__ == "__main__":
    serve()
