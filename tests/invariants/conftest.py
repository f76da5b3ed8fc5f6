"""Workers that die, in processes of their own, and one in this process that finishes their work."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakSet

import pytest

from boxoffice.office import BoxOffice, open_box_office
from boxoffice.settings import Settings
from boxoffice.stores import keys
from ops.stack.servers import Servers
from ops.stack.stack import Program, Stack
from tests.conftest import eventually
from tests.support.mortals import Mortal, Nursery
from worker.app import WorkerApp

AnyProgram = TypeVar("AnyProgram", Program, Mortal)

LEASE_MS = 1_000
SWEEP_MS = 100


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With short leases: a crash costs a second, not fifteen."""
    return settings.model_copy(
        update={"worker": settings.worker.model_copy(update={"lease_ms": LEASE_MS, "sweep_ms": SWEEP_MS})}
    )


@pytest.fixture
def stack(servers: Servers, tmp_path: Path) -> Iterator[Stack]:
    """Processes on the test servers and on the same gateway's ledger as the test's own office."""
    with Stack(tmp_path, redis_url=servers.redis_url, database_url=servers.database_url) as stack:
        yield stack


class Deaths:
    """Where the processes of a test were told to die or freeze, and which of them came there: each writes so into its log."""

    def __init__(self) -> None:
        self._told: list[tuple[str, Path]] = []

    def tell(self, program: AnyProgram, crash_at: str) -> AnyProgram:
        """One more."""
        if crash_at:
            self._told.append((crash_at.partition(":")[0], program.log))
        return program

    @property
    def missed(self) -> list[str]:
        """Places that a process should have died at, and did not reach."""
        wanted = Counter(self._told)
        return [
            point
            for (point, log), times in wanted.items()
            if log.read_text().count(f"crashpoint reached: {point}\n") < times
        ]

    @property
    def reached(self) -> set[str]:
        """Places that were."""
        return {point for point, _ in self._told} - set(self.missed)


@pytest.fixture
def deaths(request: pytest.FixtureRequest) -> Iterator[Deaths]:
    """Once the test is over, a process has been at each point that it gave to one, and at each that it says it dies at."""
    deaths = Deaths()
    yield deaths
    assert deaths.missed == [], "told to die there, and never came there"
    assert points_of(request.node) <= deaths.reached, "nobody was told to die there"


def points_of(item: pytest.Item) -> set[str]:
    """The crash points of a test: its parameter `point`, or those of its mark, `@pytest.mark.dies_at("committed")`."""
    points = {point for mark in item.iter_markers("dies_at") for point in mark.args}
    callspec = getattr(item, "callspec", None)
    return points | ({callspec.params["point"]} if callspec and "point" in callspec.params else set())


@pytest.fixture
def spawn(stack: Stack, shards: int, deaths: Deaths) -> Callable[..., Program]:
    """Starts a worker process: `spawn(crash_at="committed")`."""

    def spawn(*, crash_at: str = "") -> Program:
        program = stack.spawn_worker(
            env={
                "BOXOFFICE_CRASHPOINT": crash_at,
                "BOXOFFICE_SHARDS": str(shards),
                "BOXOFFICE_WORKER__LEASE_MS": str(LEASE_MS),
                "BOXOFFICE_WORKER__SWEEP_MS": str(SWEEP_MS),
            }
        )
        return deaths.tell(program, crash_at)

    return spawn


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Where processes come from that cost next to nothing."""
    nursery = Nursery()
    yield nursery
    nursery.close()


Fork = Callable[..., Mortal]


@pytest.fixture
def fork(nursery: Nursery, settings: Settings, deaths: Deaths) -> Iterator[Fork]:
    """Starts a process that dies: `fork("work", crash_at="committed")`; see `tests/support/mortals.py`. What lives on is
    killed with the test: it would work on the stores of the next one."""
    forked: list[Mortal] = []
    env = {
        "BOXOFFICE_REDIS_URL": settings.redis_url,
        "BOXOFFICE_DATABASE_URL": settings.database_url,
        "BOXOFFICE_DATA_DIR": str(settings.data_dir),
        "BOXOFFICE_SHARDS": str(settings.shards),
        "BOXOFFICE_WORKER__LEASE_MS": str(settings.worker.lease_ms),
        "BOXOFFICE_WORKER__SWEEP_MS": str(settings.worker.sweep_ms),
        "BOXOFFICE_GATEWAY__WEBHOOK_SECRET": settings.gateway.webhook_secret,
        "BOXOFFICE_WEBHOOKS": settings.webhooks.model_dump_json(),
    }

    def fork(deed: str, *args: Any, crash_at: str) -> Mortal:
        mortal = nursery.fork(deed, env, settings.data_dir / f"{deed}.log", *args, crash_at=crash_at)
        forked.append(mortal)
        return deaths.tell(mortal, crash_at)

    yield fork
    for mortal in forked:
        mortal.send(signal.SIGKILL)


_STOPPED: WeakSet[BoxOffice] = WeakSet()
"""Offices whose worker has ended: their settlements and their pump have stopped for good."""


@asynccontextmanager
async def working(office: BoxOffice) -> AsyncIterator[WorkerApp]:
    """A worker in this process: of this office, or once its worker has ended of another one on the same stores."""
    async with AsyncExitStack() as stack:
        if office in _STOPPED:
            office = await stack.enter_async_context(open_box_office(office.settings, redis_retries=3))
        app = WorkerApp(office)
        running = asyncio.create_task(app.run())
        try:
            yield app
        finally:
            _STOPPED.add(office)
            app.stop()
            async with asyncio.timeout(15):
                await running


async def ends(program: Program | Mortal, *, timeout_s: float = 20) -> str:
    """Wait for a process to end, without stopping the loop. How it ended."""

    async def ended() -> bool:
        return not program.alive

    async def worked() -> int:
        return program.log.stat().st_size

    try:
        await eventually(ended, timeout_s=timeout_s, progress=worked)
    except TimeoutError:
        raise AssertionError(f"{program.name} is still running: {program.last_line()}") from None
    return program.ending


_OPEN = """
SELECT (SELECT count(*) FROM payments WHERE due IS NOT NULL) + (SELECT count(*) FROM refunds WHERE status = 'due')
       + (SELECT count(*) FROM looks) + (SELECT count(*) FROM stock_moves WHERE applied_at IS NULL)
"""


async def at_rest(office: BoxOffice, *, heard: bool = False, timeout_s: float = 25) -> None:
    """Wait until nothing is pending and no money is due. `heard`: nobody rings either. (A worker that died in the middle
    of an arq job leaves it to others when arq's own mark expires, over a minute later. Nothing waits for that.)"""
    pool = await office.pool()

    async def to_do() -> list[int]:
        pending = [await office.redis.zcard(keys.pending(shard)) for shard in range(office.settings.shards)]
        rings = [
            await office.redis.zcard(keys.arq_queue(shard)) for shard in range(office.settings.shards if heard else 0)
        ]
        return [*pending, *rings, await pool.fetchval(_OPEN)]

    async def idle() -> bool:
        return not any(await to_do())

    try:
        await eventually(idle, timeout_s=timeout_s, progress=to_do)
    except TimeoutError:
        pending = [
            await office.redis.zrange(keys.pending(s), 0, 5, withscores=True) for s in range(office.settings.shards)
        ]
        due = await pool.fetch(
            "SELECT status, due, due_at, leased_until, tries FROM payments WHERE due IS NOT NULL LIMIT 5"
        )
        busy = await pool.fetch("SELECT pid, state, wait_event, query FROM pg_stat_activity WHERE state <> 'idle'")
        raise AssertionError(f"never at rest: {pending=} {due=} {busy=}") from None
