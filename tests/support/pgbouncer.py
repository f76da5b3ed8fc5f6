"""A PgBouncer of Debian's in front of the servers of the tests, configured with nothing that a new user would not write."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from ops.stack.servers import temporary_data_dir
from tests.support.ports import free_port
from tests.support.waiting import until

__all__ = ["pgbouncer"]

START_S = 20.0


@contextlib.contextmanager
def pgbouncer(database_url: str, pool_mode: str = "session", *more: str) -> Iterator[str]:
    """The URL at which it answers. `more` are lines of its configuration."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        pytest.skip("PgBouncer is not installed (Debian and Ubuntu: apt install pgbouncer).")
    there = urlsplit(database_url)
    name, port = there.path.lstrip("/"), free_port()
    with temporary_data_dir() as folder:
        users, configuration = folder / "users", folder / "pgbouncer.ini"
        users.write_text(f'"{there.username}" "{there.password}"\n')
        lines = [
            "[databases]", f"{name} = host={there.hostname} port={there.port} dbname={name}",
            "[pgbouncer]", "listen_addr = 127.0.0.1", f"listen_port = {port}", "unix_socket_dir =",
            "auth_type = scram-sha-256", f"auth_file = {users}", f"pool_mode = {pool_mode}", *more,
        ]  # fmt: skip
        configuration.write_text("\n".join(lines) + "\n")
        # It does not run as root.
        account = ["-u", "nobody"] if os.geteuid() == 0 else []
        process = subprocess.Popen([program, "-q", *account, configuration], stderr=(folder / "log").open("wb"))
        try:
            _wait_for(port, process)
            yield f"postgresql://{there.username}:{there.password}@127.0.0.1:{port}/{name}"
        finally:
            process.terminate()
            process.wait(10)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    def listens() -> bool:
        assert process.poll() is None, "PgBouncer has ended"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False

    until(listens, timeout_s=START_S)
