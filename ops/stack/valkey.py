"""A private Redis-compatible server that keeps every acknowledged write."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

from boxoffice.errors import CannotRun
from ops.stack.aof import damage, mend_tail
from ops.stack.binaries import find_redis
from ops.stack.data_dir import DataDir, ServerLock, write_private
from ops.stack.ports import port_is_free
from ops.stack.processes import Child, complain, nothing

__all__ = ["RedisServer"]

START_TIMEOUT_S = 300.0
"""It answers once its append-only file is read: some 20 seconds for 2 GB."""

DEFAULT_MAXMEMORY = "2gb"
"""A million bookings take about 0.7 GB. Beyond it writes are refused, never evicted; `BOXOFFICE_REDIS_MAXMEMORY`."""

MALLOC = "glibc.malloc.tcache_count=4096:glibc.malloc.mxfast=0:glibc.malloc.hugetlb=1"
"""The server of the wheel has glibc's allocator. A call of the scripts makes and drops some thousand small strings; glibc
keeps seven of each size at hand and merges the rest, only to cut them again: a fifth of the CPU. 4096 of each size cost
12 MB that the system does not get back. `used_memory` does not count them. And it may ask for huge pages (decision 24).
Other allocators and macOS ignore all this."""


class RedisServer(Child):
    """Valkey (or Redis) on 127.0.0.1 with its data in `<data dir>/redis`."""

    def __init__(
        self,
        home: DataDir,
        environ: Mapping[str, str],
        *,
        debug: bool,
        check: Callable[[], None] = nothing,
    ) -> None:
        super().__init__("redis", home.logs / "redis.log", stop_signal=signal.SIGTERM, check=check)
        self._home = home
        self.folder = home.path / "redis"
        self._maxmemory = environ.get("BOXOFFICE_REDIS_MAXMEMORY") or DEFAULT_MAXMEMORY
        self._environ = environ
        self._debug = debug
        self.port = 0

    @property
    def url(self) -> str:
        """Where clients connect, password included. `redis-cli` takes no password without a user."""
        return f"redis://default:{self._password}@127.0.0.1:{self.port}/0"

    @property
    def files(self) -> Path:
        """The folder with its append-only file, in pieces, and the list of them."""
        return self.folder / "appendonlydir"

    @property
    def _password(self) -> str:
        return self._home.secret("redis")

    def start(self) -> None:
        """Start it and wait until it answers. A port, once chosen, stays."""
        program = find_redis(self._environ)
        self.folder.mkdir(mode=0o700, exist_ok=True)
        lock = ServerLock(self._home.path / "redis.lock")
        fd = lock.acquire(self._end_leftover, self.check)
        first = self.port == 0
        try:
            self.port = self.port or self._home.port(self.name)
            if mended := mend_tail(self.folder):
                complain(mended)
            self._run(program, fd)
            while True:
                try:
                    return self.wait_until(self._answers, START_TIMEOUT_S)
                except CannotRun as error:
                    if damaged := damage(self.last_line(), self.folder):
                        raise CannotRun(damaged) from error
                    if not first or self.alive or port_is_free(self.port):
                        raise
                    # Somebody took the port between our look and the server's.
                    self.port = self._home.new_port(self.name)
                    self._run(program, fd)
        finally:
            lock.release()

    def end_leftover(self) -> None:
        """See to it that no server that was started earlier uses the files."""
        lock = ServerLock(self._home.path / "redis.lock")
        lock.acquire(self._end_leftover, self.check)
        lock.release()

    def _run(self, program: Path, lock_fd: int) -> None:
        env = {**os.environ, "GLIBC_TUNABLES": self._environ.get("GLIBC_TUNABLES") or MALLOC}
        self.spawn([program, self._write_configuration()], env=env, cwd="/", pass_fds=[lock_fd])

    def _write_configuration(self) -> Path:
        """A file, not arguments: the password stays out of the process list."""
        lines = [
            "bind 127.0.0.1",
            f"port {self.port}",
            f"requirepass {self._password}",
            f"dir {_quoted(self.folder)}",
            f"pidfile {_quoted(self.folder / 'server.pid')}",
            "daemonize no",
            'save ""',
            # A 202 means durable: no answer leaves before its write is on disk, not even during a rewrite.
            "appendonly yes",
            "appendfsync always",
            "no-appendfsync-on-rewrite no",
            # A script's writes are one MULTI..EXEC in the file; half of one at the end is dropped, never half applied.
            "aof-load-truncated yes",
            # A rewrite forks and copies; it happens when an operator plans it, not in the minute of a sale.
            "auto-aof-rewrite-min-size 1gb",
            # A sale of forty tiers has 200 fields, a presale as many codes: beyond a few a list is searched, a table is not.
            "hash-max-listpack-entries 32",
            # A histogram for each command, of each of the scripts' calls: nobody reads it, SLOWLOG and INFO remain.
            "latency-tracking no",
            # With many bookings every look goes to memory that no table of the processor knows: huge pages need fewer entries.
            "disable-thp no",
            f"maxmemory {self._maxmemory}",
            "maxmemory-policy noeviction",
        ]
        if self._debug:
            lines.append("enable-debug-command local")
        path = self.folder / "redis.conf"
        # In one step: a server with half of this would lack its password, or what makes a 202 durable.
        write_private(path, "\n".join(lines) + "\n")
        return path

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.sendall(f"AUTH {self._password}\r\nPING\r\n".encode())
                answer = b""
                while answer.count(b"\n") < 2 and (more := connection.recv(256)):
                    answer += more
        except OSError:
            return False
        return b"+PONG" in answer

    def _end_leftover(self) -> None:
        """Its lock is held, so its process lives, and the file that it wrote names it."""
        with contextlib.suppress(OSError, ValueError):
            os.kill(int((self.folder / "server.pid").read_text()), signal.SIGTERM)


def _quoted(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
