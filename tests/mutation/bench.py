"""A copy of the tree with a slot and servers of its own, in which one mutant after another is tried."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis

from boxoffice.settings import Settings
from boxoffice.stores.postgres import migrate
from ops.stack.servers import Servers, temporary_data_dir
from tests.support.tree import copy_tree
from tests.support.warm import WarmServers

__all__ = ["Bench", "Ran"]

_PYTEST = ("-q", "-p", "no:cacheprovider", "-p", "tests.mutation.plugin", "--tb=line", "-W", "ignore")


TEST_S, MAP_S = 60, 300
"""Seconds of one test; drawing the map makes each up to four times as slow."""

_ONE_AT_A_TIME = threading.Lock()
"""Alembic keeps what it works on in a global."""


@dataclass
class Ran:
    """How a run of pytest ended. `code` is pytest's, None after a timeout; `failed` in the order of failing."""

    code: int | None
    failed: list[str] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        # 5: nothing was collected, which notices nothing either.
        return self.code in (0, 5)


class Bench:
    """Start it with `async with`. One mutant at a time."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self.folder = Path()

    async def __aenter__(self) -> Self:
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="boxoffice-mutant-")))
        copy_tree(self.folder / "tree")
        self.tree = self.folder / "tree"
        await asyncio.to_thread(self._start_servers)
        self._slot = await asyncio.create_subprocess_exec(
            sys.executable, str(self.tree / "tests/mutation/slot.py"),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=self.tree, env=self._env(),
        )  # fmt: skip
        assert await self._slot.stdout.readline() == b"ready\n"  # type: ignore[union-attr]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._slot.stdin:
            self._slot.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(20):
                await self._slot.wait()
        if self._slot.returncode is None:
            self._slot.kill()
        await asyncio.to_thread(self._stack.close)

    def _env(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("BOXOFFICE_")}
        return kept | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(self.tree)}

    def _start_servers(self) -> None:
        folder = self._stack.enter_context(temporary_data_dir())
        self.servers = self._stack.enter_context(Servers(folder, debug=True))
        with _ONE_AT_A_TIME:
            migrate(Settings(redis_url=self.servers.redis_url, database_url=self.servers.database_url))

    def _servers_are_well(self) -> bool:
        try:
            with redis.Redis.from_url(self.servers.redis_url, socket_timeout=2) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    async def run(
        self, tests: list[str], *, timeout_s: float, draw_map: bool = False, first: bool = True, but: Sequence[str] = ()
    ) -> Ran:
        """Run these tests, by their ids or files, in this order, without some of theirs."""
        out, job = self.folder / "out.json", self.folder / "job.json"
        out.unlink(missing_ok=True)
        job.write_text(json.dumps({"chosen": tests, "never": list(but), "out": str(out), "map": draw_map}))
        files = list(dict.fromkeys(test.partition("::")[0] for test in tests))
        env = WarmServers.of(self.servers).env() | {"MUTATION_JOB": str(job)}
        order = {
            "args": [*_PYTEST, f"--timeout={MAP_S if draw_map else TEST_S}", *(["-x"] if first else []), *files],
            "env": env, "timeout_s": timeout_s, "log": str(self.folder / "log"), "bytecode": draw_map,
        }  # fmt: skip
        self._slot.stdin.write(json.dumps(order).encode() + b"\n")  # type: ignore[union-attr]
        code = json.loads(await self._slot.stdout.readline())["code"]  # type: ignore[union-attr]
        report = json.loads(out.read_text()) if out.exists() else {}
        if not await asyncio.to_thread(self._servers_are_well) or code is None:
            await asyncio.to_thread(self.servers.restart_redis)
        return Ran(code, report.get("failed", []), report)

    @property
    def log(self) -> str:
        """What pytest printed last."""
        return (self.folder / "log").read_text(errors="replace")

    @contextlib.contextmanager
    def mutated(self, path: str, text: str) -> Any:
        """The copy with another text of one file."""
        file = self.tree / path
        sound = file.read_text()
        self._forget(file)
        file.write_text(text)
        try:
            yield
        finally:
            file.write_text(sound)
            self._forget(file)

    @staticmethod
    def _forget(file: Path) -> None:
        # Python takes a file of the same second and size for the one that it has compiled.
        for compiled in (file.parent / "__pycache__").glob(f"{file.stem}.*.pyc"):
            compiled.unlink()
