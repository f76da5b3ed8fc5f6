"""A standby of a private PostgreSQL: it streams, falls behind, and takes the primary's place at the same address.

For tests and rushes: what it had not received when it fell behind is lost, as when a standby that lags is promoted.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg

from boxoffice.errors import CannotRun
from ops.stack.data_dir import DataDir
from ops.stack.postgresql import SETTINGS, START_TIMEOUT_S, PostgresServer, is_ready, own
from ops.stack.processes import POLL_S, Child, nothing

__all__ = ["Standby"]

COUNT = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"

TIMEOUT_S = 2.0
"""Longest wait for the primary's word."""


class Standby(Child):
    """A standby of one server; its data directory stands beside that server's."""

    def __init__(self, primary: PostgresServer, home: DataDir, *, check: Callable[[], None] = nothing) -> None:
        super().__init__("standby", home.logs / "standby.log", stop_signal=signal.SIGINT, check=check)
        self.hurry_signal = signal.SIGQUIT
        self._primary = primary
        self._home = home
        self._data = Path()
        self._gone = Path()
        """The data of a primary whose place was taken, until the next start."""
        self._copying: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._give_up = 0.0
        self._transactions: int | None = None
        """That the primary had begun when it fell behind."""
        self._log_read_to = 0
        """Bytes of its log when it was started."""

    def start(self) -> None:
        """Copy the primary, which runs, and follow it from there: when this returns, it streams."""
        self.prepare()
        while not self.streams():
            self.check()
            time.sleep(POLL_S)

    def prepare(self) -> None:
        """Begin to copy the primary, in a thread: it takes seconds, and the caller has other components to watch meanwhile."""
        if self.alive or self._copying is not None:
            raise CannotRun("The standby is already there, or being made.")
        self._failure, self._give_up = None, time.monotonic() + START_TIMEOUT_S
        self._copying = threading.Thread(target=self._copy, name="standby", daemon=True)
        self._copying.start()

    def streams(self) -> bool:
        """Go on with what `prepare` began, and say whether it follows the primary by now. Raises `CannotRun`."""
        if time.monotonic() > self._give_up:
            raise CannotRun(f"{self.name} was not ready after {START_TIMEOUT_S:g} seconds. See {self.log}.")
        if self._copying is not None:
            if self._copying.is_alive():
                return False
            self._copying = None
            if self._failure is not None:
                raise CannotRun(f"The primary could not be copied: {self._failure}") from self._failure
            self._follow()
        if not self.alive:
            raise CannotRun(f"{self.name} stopped while starting ({self.ending}): {self.last_line()} See {self.log}.")
        return is_ready(self._data, self.pid) and self._answers()

    def stop(self, timeout_s: float = 10.0, hurry: Callable[[], bool] = bool) -> None:
        """End it, and the copying that may still go on."""
        if self._copying is not None:
            self._copying.join(timeout_s)
            self._copying = None
        super().stop(timeout_s, hurry)

    def _copy(self) -> None:
        try:
            self._copy_primary()
        except BaseException as error:
            self._failure = error

    def _copy_primary(self) -> None:
        primary, binaries, account = self._primary.place()
        self._data = primary.with_name("standby")
        self._gone = primary.with_name("gone")
        for left in (self._data, self._gone):
            shutil.rmtree(left, ignore_errors=True)
        self._data.mkdir(mode=0o700)
        own(self._data, account)
        self._primary.tool(
            [binaries.bin_dir / "pg_basebackup", "-D", self._data, "-R", "-X", "stream", "-c", "fast", "--no-sync",
             "-d", self._primary.admin_url],
            account,
        )  # fmt: skip

    def _follow(self) -> None:
        _, binaries, account = self._primary.place()
        settings = {**SETTINGS, "port": str(self._home.new_port(self.name)), "shared_buffers": "32MB"}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        self._log_read_to = self.log.stat().st_size if self.log.exists() else 0
        self.spawn(
            [binaries.bin_dir / "postgres", "-D", self._data, *options],
            env=self._primary.environment(), account=account, cwd="/",
        )  # fmt: skip

    def _answers(self) -> bool:
        """Whether it streams, as its log tells since it was started."""
        with self.log.open("rb") as log:
            log.seek(self._log_read_to)
            return b"started streaming WAL from primary" in log.read()

    def fall_behind(self) -> None:
        """Receive nothing from now on."""
        self.kill(signal.SIGKILL)
        self._transactions = self._count()

    def lacks(self) -> bool:
        """Whether the primary has begun to write something since. True where it does not say."""
        count = self._count()
        return self._transactions is None or count is None or count > self._transactions

    def _count(self) -> int | None:
        """How many transactions have written on the primary so far."""
        try:
            # In a thread, for whoever calls us from a loop.
            with ThreadPoolExecutor(1) as apart:
                return apart.submit(asyncio.run, self._ask(COUNT)).result()
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return None

    async def _ask(self, query: str) -> int:
        connection = await asyncpg.connect(self._primary.admin_url, timeout=TIMEOUT_S, command_timeout=TIMEOUT_S)
        try:
            return int(await connection.fetchval(query))
        finally:
            connection.terminate()

    def take_over(self) -> int | None:
        """Kill the primary and start this standby in its place. Commits that it had not received are lost.

        Returns how many; None where PostgreSQL came without the program that reads its log.
        """
        data, binaries, _ = self._primary.place()
        self._primary.kill(signal.SIGKILL)
        lost = self._lost(data, binaries.bin_dir)
        data.rename(self._gone)
        (self._data / "standby.signal").unlink()
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        self._data.rename(data)
        self._primary.start()
        return lost

    def _lost(self, data: Path, programs: Path) -> int | None:
        """Commits in the primary's write-ahead log since the standby's last checkpoint, without those in its own."""
        if not (programs / "pg_waldump").exists():
            return None
        state = self._read(programs / "pg_controldata", self._data)
        start = next(line.split()[-1] for line in state if line.startswith("Latest checkpoint's REDO location:"))
        commits = [
            # pg_waldump exits with an error where the log ends: only what it printed before counts.
            sum("desc: COMMIT" in line for line in self._read(
                programs / "pg_waldump", "--rmgr=Transaction", f"--path={folder / 'pg_wal'}", f"--start={start}"
            ))
            for folder in (data, self._data)
        ]  # fmt: skip
        return commits[0] - commits[1]

    def _read(self, *argv: str | Path) -> list[str]:
        """The output of a program."""
        environment = self._primary.environment()
        ran = subprocess.run(argv, env=environment, cwd="/", capture_output=True, text=True, check=False)
        return ran.stdout.splitlines()
