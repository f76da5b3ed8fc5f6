"""A standby of a private PostgreSQL: it streams, falls behind, and takes the primary's place at the same address.

For tests and rushes: what it had not received when it fell behind is lost, as when a standby that lags is promoted.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path

from ops.data_dir import DataDir
from ops.postgresql import SETTINGS, START_TIMEOUT_S, PostgresServer, own, says_ready
from ops.processes import Child, nothing

__all__ = ["Standby"]


class Standby(Child):
    """Of one server, beside which it keeps its data."""

    def __init__(self, primary: PostgresServer, home: DataDir, *, check: Callable[[], None] = nothing) -> None:
        super().__init__("standby", home.logs / "standby.log", stop_signal=signal.SIGINT, check=check)
        self.hurry_signal = signal.SIGQUIT
        self._primary = primary
        self._home = home
        self._data = Path()

    def start(self) -> None:
        """Copy the primary, which runs, and follow it from there."""
        primary, binaries, account = self._primary.place()
        self._data = primary.with_name("standby")
        shutil.rmtree(self._data, ignore_errors=True)
        self._data.mkdir(mode=0o700)
        own(self._data, account)
        self._primary.tool(
            [binaries.bin_dir / "pg_basebackup", "-D", self._data, "-R", "-X", "stream", "-c", "fast", "--no-sync",
             "-d", self._primary.admin_url],
            account,
        )  # fmt: skip
        settings = {**SETTINGS, "port": str(self._home.new_port(self.name)), "shared_buffers": "32MB"}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        self.spawn(
            [binaries.bin_dir / "postgres", "-D", self._data, *options],
            env=self._primary.environment(), account=account, cwd="/",
        )  # fmt: skip
        self.wait_until(lambda: says_ready(self._data, self.pid), START_TIMEOUT_S)

    def fall_behind(self) -> None:
        """Receive nothing from now on."""
        self.kill(signal.SIGKILL)

    def take_over(self) -> None:
        """Be the primary, whose machine dies now. Commits that were not received are lost."""
        data, _, _ = self._primary.place()
        self._primary.kill(signal.SIGKILL)
        shutil.rmtree(data)
        (self._data / "standby.signal").unlink()
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        self._data.rename(data)
        self._primary.start()
