"""A box office as `make run` starts it, in processes of its own, for tests that look at it from outside."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import httpx2

from boxoffice.access.store import Grant
from boxoffice.office import BoxOffice, open_box_office
from boxoffice.sales.catalogue import EventView
from boxoffice.sales.store import NewTier
from boxoffice.settings import Settings
from ops.seed import DEMO_CLIENT
from ops.stack.running import find_stack
from ops.stack.servers import temporary_data_dir
from tests.support.environment import kept_environment
from tests.support.ports import free_port
from tests.support.waiting import until

__all__ = ["Demo", "a_demo"]

START_S: Final = 60.0

STOP_S: Final = 30.0


@dataclass
class Demo:
    """What runs, and how it is reached."""

    url: str
    """Of the API, and of the operators' page below it."""
    folder: Path
    """Its data directory."""
    office: BoxOffice
    """A box office on its stores, in this process: to put events on sale, make keys, and see what became of bookings."""
    told: Path
    """What it prints."""
    client: str = DEMO_CLIENT
    """The shop of the shop front."""
    _keys: dict[tuple[str, ...], str] = field(default_factory=dict)

    async def front_url(self) -> str:
        """Of the shop front: where the API sends whoever comes to its root. Empty where it sends nobody anywhere."""
        async with httpx2.AsyncClient() as client:
            answer = await client.get(self.url)
        return answer.headers.get("location", "") if answer.status_code == 302 else ""

    async def key(self, *scopes: str) -> str:
        """An API key of the shop with these scopes; the same one for the same scopes."""
        if scopes not in self._keys:
            self._keys[scopes] = await self.office.access.create_api_key(self.client, Grant(scopes))
        return self._keys[scopes]

    async def open_sale(self, name: str, **capacities: int) -> EventView:
        """Put an event of the shop on sale. Prices are 1000, 2000, … in the order given."""
        tiers = [NewTier(code, 1_000 * at, capacity, code) for at, (code, capacity) in enumerate(capacities.items(), 1)]
        starts_at = datetime.now(UTC) + timedelta(days=30)
        return await self.office.store.create_event(self.client, name, starts_at, "USD", tiers)


@contextlib.asynccontextmanager
async def a_demo(**environ: str) -> AsyncIterator[Demo]:
    """Start one, with these settings, and stop it."""
    with temporary_data_dir() as folder, _up(folder, environ) as (url, told):
        running = find_stack(folder / "data")
        assert running is not None
        with kept_environment():
            os.environ.update(running.settings)
            settings = Settings(
                redis_url=running.redis_url, database_url=running.database_url, data_dir=folder / "data"
            )
        async with open_box_office(settings, redis_retries=3) as office:
            yield Demo(url, folder / "data", office, told)


@contextlib.contextmanager
def _up(folder: Path, environ: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    port, told = free_port(), folder / "told"
    command = [sys.executable, "-m", "ops.cli", "up", "--port", str(port), "--data-dir", str(folder / "data")]
    names = {name: value for name, value in os.environ.items() if "_URL" not in name and "DATA_DIR" not in name}
    with told.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env={**names, **environ})
    try:
        until(lambda: process.poll() is not None or b"boxoffice ready" in told.read_bytes(), timeout_s=START_S)
        assert process.poll() is None, told.read_text()
        yield f"http://127.0.0.1:{port}", told
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
