"""A whole box office on one machine: servers, API processes and workers, each with a name.

    with Stack(data_dir) as stack:
        stack.run("migrate")
        stack.spawn_api(8000)
        stack.spawn_worker()
        stack.wait_ready(8000)
        stack["worker"].kill()

`boxoffice up` tends such a stack; tests and the rush simulator start private ones and hurt them by name.

One file because components are started in an order and stopped in the reverse: both are read together.
"""

from __future__ import annotations

import http.client
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from boxoffice.errors import CannotRun
from ops.stack.archive import FOLDER, archive_folder
from ops.stack.ports import port_is_free
from ops.stack.processes import POLL_S, Child, nothing
from ops.stack.running import ENV_OF_A_STACK, RunningStack, settings_in
from ops.stack.servers import Servers

__all__ = ["Program", "Stack"]

STOP_TIMEOUT_S = 8.0
"""Time to finish requests or a batch. Whatever is cut off then is safe: it is in Redis."""

PRIVATE = {
    "REDIS_URL",
    "DATABASE_URL",
    "REDIS_URL_FILE",
    "DATABASE_URL_FILE",
    "BOXOFFICE_REDIS_URL_FILE",
    "BOXOFFICE_DATABASE_URL_FILE",
    "MAKEFLAGS",
    "MAKELEVEL",
    "MFLAGS",
    "MAKEOVERRIDES",
    ENV_OF_A_STACK,
}
"""Names that the processes of a stack do not inherit: they have their own, or they are make's."""


WITHIN: Final = {
    "BOXOFFICE_WEBHOOKS__ALLOW_HTTP": "true",
    "BOXOFFICE_WEBHOOKS__ALLOWED_NETWORKS": '["127.0.0.0/8", "::1/128"]',
}
"""Of a stack whose servers are ours: whoever tries it out has an endpoint on this machine, and no certificate."""


class Program(Child):
    """One of our own commands, running beside us."""

    def __init__(
        self,
        name: str,
        log: Path,
        arguments: tuple[str, ...],
        environ: Mapping[str, str],
        check: Callable[[], None] = nothing,
    ) -> None:
        super().__init__(name, log, check=check)
        self._arguments = arguments
        self._environ = environ

    def start(self) -> None:
        """Start it; whether it serves is for the caller to ask."""
        self.spawn([sys.executable, "-m", "ops.cli", *self._arguments], env=self._environ)


class Stack:
    """Servers (ours, or those whose URL is given), and the API processes and workers that use them.

    `check` is called while waiting and may raise to give up; `hurry` makes stopping short.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        redis_url: str = "",
        database_url: str = "",
        debug: bool = False,
        environ: Mapping[str, str] = os.environ,
        check: Callable[[], None] = nothing,
        hurry: Callable[[], bool] = bool,
    ) -> None:
        self.servers = Servers(
            data_dir,
            debug=debug,
            with_redis=not redis_url,
            with_postgres=not database_url,
            environ=environ,
            check=check,
        )
        self.port = 0
        self._redis_url = redis_url
        self._database_url = database_url
        self._inherited = environ
        self._check = check
        self._hurry = hurry
        self._gateways: dict[str, Program] = {}
        self._apis: dict[str, Program] = {}
        self._workers: dict[str, Program] = {}
        self._shops: dict[str, Program] = {}

    def __enter__(self) -> Self:
        self.servers.start()
        try:
            self.record()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def __getitem__(self, name: str) -> Child:
        """A component by its name: `redis`, `postgres`, `api`, `api-2`, `worker`, `worker-2`, …"""
        return {component.name: component for component in self}[name]

    def __iter__(self) -> Iterator[Child]:
        """Every component that is ours, in the order in which they are started."""
        if not self._redis_url:
            yield self.servers.redis
        if not self._database_url:
            yield self.servers.postgres
        yield from self._gateways.values()
        yield from self._apis.values()
        yield from self._workers.values()
        yield from self._shops.values()

    @property
    def redis_url(self) -> str:
        """Ours, or the one we were given."""
        return self._redis_url or self.servers.redis_url

    @property
    def database_url(self) -> str:
        """Ours, or the one we were given."""
        return self._database_url or self.servers.database_url

    @property
    def embedded(self) -> bool:
        """Whether both stores are ours."""
        return not self._redis_url and not self._database_url

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """What the processes of this stack find in their environment."""
        return {
            **(WITHIN if self.embedded else {}),
            **{name: value for name, value in self._inherited.items() if name not in PRIVATE},
            "BOXOFFICE_REDIS_URL": self.redis_url,
            "BOXOFFICE_DATABASE_URL": self.database_url,
            "BOXOFFICE_DATA_DIR": str(self.servers.home.path),
            "PYTHONUNBUFFERED": "1",
            **(extra or {}),
        }

    def run(self, *arguments: str, timeout_s: float = 120.0) -> None:
        """Run one of our commands to its end, its output in `logs/<command>.log`."""
        name = arguments[0]
        command = Program(name, self._log(name), arguments, self.environment(), self._check)
        command.start()
        try:
            end = time.monotonic() + timeout_s
            while command.alive and time.monotonic() < end:
                self._check()
                time.sleep(POLL_S)
        finally:
            command.stop()
        if command.ending != "exit 0":
            raise CannotRun(f"{name} failed ({command.ending}): {command.last_line()} See {command.log}.")

    def spare_port(self) -> int:
        """One for an API, a gateway or a helper. No other boxoffice of this machine is given it before this stack has
        stopped, whoever listens there meanwhile."""
        return self.servers.home.spare_port()

    def spawn_api(self, port: int, *, env: Mapping[str, str] | None = None) -> Program:
        """Start one more API process on 127.0.0.1:`port`. Raises CannotRun when the port is taken."""
        self._claim(port)
        self.port = self.port or port
        arguments = ("api", "--host", "127.0.0.1", "--port", str(port))
        return self._spawn(self._apis, "api", arguments, {"PORT": str(port), **(env or {})})

    def spawn_worker(self, *, env: Mapping[str, str] | None = None) -> Program:
        """Start one more worker."""
        return self._spawn(self._workers, "worker", ("worker",), env or {})

    def spawn_gateway(self, port: int, webhooks: str) -> Program:
        """Start the simulated gateway on 127.0.0.1:`port`; its webhooks go to this URL."""
        self._claim(port)
        return self._spawn(self._gateways, "gateway", ("gateway", "--port", str(port), "--webhooks", webhooks), {})

    def spawn_shop(self, port: int, api_url: str) -> Program:
        """Start the demo shop on 127.0.0.1:`port`, which sells through the API there. Its keys are made by `boxoffice seed
        --demo-shop`."""
        self._claim(port)
        return self._spawn(self._shops, "shop", ("shop", "--port", str(port), "--api", api_url), {})

    def port_near(self, wished: int) -> int:
        """The wished one, or another if somebody has that."""
        return wished if wished <= 65_535 and self.servers.home.take_port(wished) else self.spare_port()

    def _claim(self, port: int) -> None:
        """Refuse a busy port; of one that somebody named, see to it that no other boxoffice draws it."""
        refuse_busy_port(port)
        self.servers.home.take_port(port)

    def _spawn(
        self, group: dict[str, Program], kind: str, arguments: tuple[str, ...], env: Mapping[str, str]
    ) -> Program:
        name = kind if not group else f"{kind}-{len(group) + 1}"
        program = Program(name, self._log(name), arguments, self.environment(env), self._check)
        program.start()
        group[name] = program
        self.record()
        return program

    def wait_ready(self, port: int = 0, timeout_s: float = 60.0, path: str = "/readyz") -> None:
        """Wait until the API on this port (the first one's by default) says it can serve; a shop says so at `/healthz`."""
        port = port or self.port
        end = time.monotonic() + timeout_s
        while (answer := _unready(port, path)) != "":
            self._check()
            for program in self._programs():
                if not program.alive:
                    raise CannotRun(
                        f"{program.name} stopped while starting ({program.ending}): {program.last_line()} "
                        f"See {program.log}."
                    )
            if time.monotonic() > end:
                raise CannotRun(
                    f"{'The API' if path == '/readyz' else 'The shop'} was not ready after {timeout_s:g} seconds: {answer}"
                )
            time.sleep(5 * POLL_S)

    def _programs(self) -> Iterator[Program]:
        """Our own, in the order in which they are stopped."""
        for group in (self._shops, self._apis, self._workers, self._gateways):
            yield from group.values()

    def stop(self) -> None:
        """Shop and API first, so that no booking comes in; then workers, gateway, PostgreSQL, Redis. Leaves no process and no
        file."""
        for group in (self._shops, self._apis, self._workers, self._gateways):
            for program in group.values():
                program.ask_to_stop()
            for program in group.values():
                program.see_it_stop(STOP_TIMEOUT_S, self._hurry)
        RunningStack.remove(self.servers.home)
        self.servers.stop(STOP_TIMEOUT_S, self._hurry)

    def record(self) -> None:
        """Write down what runs, for other commands to find."""
        pids = {component.name: component.pid for component in self if component.alive}
        settings = settings_in(self.environment())
        if archive := archive_folder(self._inherited):
            # Others read it in other folders.
            settings[FOLDER] = str(archive)
        RunningStack(os.getpid(), self.port, self.redis_url, self.database_url, pids, settings).write(self.servers.home)

    def _log(self, name: str) -> Path:
        return self.servers.home.logs / f"{name}.log"


def refuse_busy_port(port: int, name: str = "PORT") -> None:
    """Raise CannotRun when somebody listens there."""
    if not port_is_free(port):
        raise CannotRun(
            f"Port {port} is in use: stop what listens there, or choose another one, say {name}={port + 1}."
        )


def _unready(port: int, path: str) -> str:
    """Empty when ready, otherwise why not."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read(500).decode(errors="replace")
        return "" if answer.status == 200 else f"{path} answered {answer.status} {body}"
    except (OSError, http.client.HTTPException) as error:
        return f"{path} did not answer ({error})"
    finally:
        connection.close()
