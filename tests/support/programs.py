"""Programs of a shop that run beside us: started, waited for, and a worker that settles meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from boxoffice.office import BoxOffice
from tests.conftest import settle_all
from tests.support.waiting import pace

__all__ = ["a_worker", "again_and_again", "run"]


async def run(*command: str | Path, cwd: Path, path: Path | None = None, timeout_s: float = 120) -> str:
    """Run it to its end, while this process's loop goes on. Returns what it printed."""
    environment = os.environ | ({"PATH": f"{path}:{os.environ['PATH']}"} if path else {})
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        said, wrong = await asyncio.wait_for(process.communicate(), timeout_s)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, (said + wrong).decode()[-3_000:]
    return said.decode()


@contextlib.asynccontextmanager
async def again_and_again(work: Callable[[], Awaitable[object]], pause_s: float) -> AsyncIterator[None]:
    """Meanwhile this is done, with so many seconds in between."""

    async def go_on() -> None:
        while True:
            await work()
            await pace(pause_s)

    task = asyncio.create_task(go_on())
    try:
        yield
        assert not task.done(), "it ends only with us"
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.asynccontextmanager
async def a_worker(office: BoxOffice) -> AsyncIterator[None]:
    """Settles until the shop has done."""
    async with again_and_again(lambda: settle_all(office), 0.02):
        yield
