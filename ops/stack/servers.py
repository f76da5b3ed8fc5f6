"""A private Redis and PostgreSQL for a laptop, the tests and the benchmarks. Both keep what they acknowledged."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from ops.stack.data_dir import DataDir
from ops.stack.postgresql import PostgresServer
from ops.stack.processes import nothing
from ops.stack.valkey import RedisServer

__all__ = ["Servers", "temporary_data_dir", "temporary_servers"]


class Servers:
    """Both servers, or one, with everything they own below `data_dir`, which nobody else may use meanwhile.

    `debug` allows `DEBUG` on Redis and takes short cuts that only throw-away data may take. `check` is called while
    waiting, and may raise to give up.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        debug: bool = False,
        with_redis: bool = True,
        with_postgres: bool = True,
        environ: Mapping[str, str] = os.environ,
        check: Callable[[], None] = nothing,
    ) -> None:
        self.home = DataDir(data_dir)
        self.redis = RedisServer(self.home, environ, debug=debug, check=check)
        self.postgres = PostgresServer(self.home, environ, debug=debug, check=check)
        self._with_redis = with_redis
        self._with_postgres = with_postgres

    def start(self) -> None:
        """Lock the data directory and start what was asked for. When one does not start, nothing is left running."""
        self.home.open()
        try:
            if self._with_redis:
                self.redis.start()
            if self._with_postgres:
                self.postgres.start()
        except BaseException:
            self.stop()
            raise

    def stop(self, timeout_s: float = 20.0, hurry: Callable[[], bool] = bool) -> None:
        """PostgreSQL first, then Redis, then let others have the directory."""
        self.postgres.stop(timeout_s, hurry)
        self.redis.stop(timeout_s, hurry)
        self.home.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def redis_url(self) -> str:
        """Redis for clients, password included."""
        return self.redis.url

    @property
    def database_url(self) -> str:
        """PostgreSQL for clients, password included, without the name of a driver."""
        return self.postgres.url

    @property
    def admin_url(self) -> str:
        """PostgreSQL for its superuser."""
        return self.postgres.admin_url

    @property
    def redis_pid(self) -> int:
        """The server's process."""
        return self.redis.pid

    @property
    def postgres_pid(self) -> int:
        """The postmaster's process."""
        return self.postgres.pid

    def kill_redis(self, signum: int = signal.SIGKILL) -> None:
        """Send a signal that ends it, and wait for the end."""
        self.redis.kill(signum)

    def kill_postgres(self, signum: int = signal.SIGKILL) -> None:
        """Send the postmaster a signal that ends it, and wait for the end. Its children follow."""
        self.postgres.kill(signum)

    def restart_redis(self) -> None:
        """Same port, same data, whether it died or still runs."""
        self.redis.restart()

    def restart_postgres(self) -> None:
        """Same port, same data, whether it died or still runs."""
        self.postgres.restart()


@contextlib.contextmanager
def temporary_data_dir() -> Iterator[Path]:
    """A folder that the account of PostgreSQL can enter, unlike most temporary folders of root; gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="boxoffice-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def temporary_servers(*, debug: bool = True, environ: Mapping[str, str] = os.environ) -> Iterator[Servers]:
    """Servers for a test or a benchmark."""
    with temporary_data_dir() as folder, Servers(folder, debug=debug, environ=environ) as servers:
        yield servers
