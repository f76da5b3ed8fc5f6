"""A private stack to measure: production settings, durable, on loopback, gone afterwards."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import asyncpg
from sqlalchemy.engine import make_url

from bench.cpu import Meter
from bench.generators import LoadClient
from bench.load import NUMBER
from boxoffice.errors import CannotRun
from boxoffice.office import BoxOffice, open_box_office
from boxoffice.sales.catalogue import EventView
from boxoffice.sales.store import NewTier
from boxoffice.settings import Settings
from boxoffice.stores import keys
from ops.rush.audit import Witness, audit
from ops.rush.findings import Findings
from ops.rush.rest import wait_for_rest
from ops.stack.processes import Child
from ops.stack.servers import temporary_data_dir
from ops.stack.stack import Stack

__all__ = ["Sale", "Stage", "open_stage"]

DATABASES: Final = ("bench_commit", "bench_baseline")
"""Copies of the empty schema on the same server, for what is measured without the rest."""

CARD: Final = {"method": "card", "card_name": "Ada Lovelace", "card_number": "4242424242424242"}

_DUE: Final = "SELECT EXISTS (SELECT FROM captures) OR EXISTS (SELECT FROM payments WHERE due_at IS NOT NULL)"

SETTLED_S: Final = 120.0
"""Longest wait for a backlog to be settled."""


@dataclass(frozen=True, slots=True)
class Sale:
    """An event and the key to sell it with."""

    client: str
    api_key: str
    event: EventView
    codes: tuple[str, ...] = ()
    """Access codes that bookings are made with, in turn. Without any, they have none."""

    def bookings(self, run: str) -> list[bytes]:
        """One request for each tier, and each code, in turn: a ticket for a customer who comes once. `run` keeps runs apart."""
        return [self._booking(tier.id, run, code) for tier in self.event.tiers for code in self.codes or [""]]

    def _booking(self, tier_id: str, run: str, code: str) -> bytes:
        number = NUMBER.decode()
        items = [{"tier_id": tier_id, "quantity": 1}]
        order = {"customer_id": f"{run}-{number}", "items": items, "payment": CARD}
        body = json.dumps(order | ({"access_code": code} if code else {}), separators=(",", ":"))
        head = self._head("POST", "/v1/bookings")
        head += f"Idempotency-Key: {run}-{number}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        return f"{head}\r\n{body}".encode()

    def reads(self, paths: Iterable[str]) -> list[bytes]:
        """A GET for each path."""
        return [f"{self._head('GET', path)}\r\n".encode() for path in paths]

    def _head(self, method: str, path: str) -> str:
        return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self.api_key}\r\n"


class Helper(Child):
    """A server of ours that is not part of the product."""

    def __init__(self, module: str, port: int, log: Path, environ: Mapping[str, str]) -> None:
        super().__init__(module.rpartition(".")[2], log)
        self._module = module
        self._environ = environ
        self.port = port

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.spawn([sys.executable, "-m", self._module, str(self.port)], env=self._environ)
        self.wait_until(self._answers, 30)

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status < 300
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


class Stage:
    """A stack, its office, and whoever makes the load."""

    def __init__(self, stack: Stack, office: BoxOffice, load: LoadClient, folder: Path) -> None:
        self.stack = stack
        self.office = office
        self.load = load
        self.folder = folder
        self.secrets: list[str] = []
        self._helpers: dict[str, Helper] = {}
        self._runs = 0

    @property
    def port(self) -> int:
        """Of the API."""
        return self.stack.port

    def run_name(self) -> str:
        """A name for one run, so that its keys and customers are its own."""
        self._runs += 1
        return f"run{chr(ord('a') + self._runs // 26)}{chr(ord('a') + self._runs % 26)}"

    async def open_sale(self, tiers: int, capacity: int = 50_000_000) -> Sale:
        """Put an event on sale."""
        store = self.office.store
        client = await self.office.access.create_client("Bench shop", allow_same_name=True)
        api_key = await self.office.access.create_api_key(client)
        self.secrets.append(api_key.partition(".")[2])
        starts = datetime.now(UTC) + timedelta(days=30)
        new = [NewTier(f"T{n:02d}", 2_500, capacity) for n in range(tiers)]
        event = await store.create_event(client, f"Bench, {tiers} tiers", starts, "USD", new)
        sale = Sale(client, api_key, event)
        # The API looks at the catalogue once a second: let it learn of the event, and warm up.
        await asyncio.sleep(1.2)
        if capacity > 1_000:
            await self.warm_up(sale)
        return sale

    def helper(self, module: str, database: str = "") -> Helper:
        """A server of the benchmark's own; started at its first use."""
        if module not in self._helpers:
            environ = self.stack.environment()
            if database:
                environ["BOXOFFICE_DATABASE_URL"] = database_url(self.stack, database)
            helper = Helper(module, self.stack.spare_port(), self.folder / "logs" / f"{module}.log", environ)
            helper.start()
            self._helpers[module] = helper
        return self._helpers[module]

    def stop_helper(self, module: str) -> None:
        """Stop it."""
        if module in self._helpers:
            self._helpers.pop(module).stop()

    def stop_helpers(self) -> None:
        """Stop all."""
        for module in list(self._helpers):
            self.stop_helper(module)

    def meter(self) -> Meter:
        """CPU of the components that run, from now on."""
        return Meter({component.name: component.pid for component in self.stack if component.alive})

    async def connect(self, database: str = "boxoffice") -> asyncpg.Connection[Any]:
        """A connection of our own, with a planner that nobody has talked to."""
        return await asyncpg.connect(admin_url(self.stack, database))

    async def admitted(self) -> int:
        """Admissions so far."""
        return int(await self.office.redis.get(keys.sequence(0)) or 0)

    async def pending(self) -> int:
        """Bookings that wait for the worker."""
        return int(await self.office.redis.zcard(keys.pending(0)))

    async def settled(self) -> None:
        """Wait until every booking is settled in Redis, and captured."""
        pool = await self.office.pool()
        async with asyncio.timeout(SETTLED_S):
            while await self.pending():
                await asyncio.sleep(0.02)
            while await pool.fetchval(_DUE):
                await asyncio.sleep(0.02)

    def stop_worker(self) -> None:
        """From here on bookings wait."""
        self.stack["worker"].stop()

    def start_worker(self) -> None:
        """Settle again, and wait until it has started: its imports are no booking's cost."""
        worker = self.stack["worker"]
        before = worker.log.stat().st_size
        worker.start()
        worker.wait_until(lambda: b"worker.ready" in worker.log.read_bytes()[before:], 30)

    async def warm_up(self, sale: Sale) -> None:
        """Some bookings through everything: the worker reads the gateway's ledger at its first."""
        load = await self.load.count(self.port, sale.bookings(self.run_name()), 300)
        if load.good != load.issued:
            raise CannotRun(f"The stack does not take bookings: {load.answers}.")
        await self.settled()

    async def audit(self) -> Findings:
        """Hold the three books against each other."""
        unrest = await wait_for_rest(self.office, 30, holds_too=True)
        return await audit(self.office, Witness(secrets=self.secrets, unrest=unrest, parked_is_broken=True))


@asynccontextmanager
async def open_stage(load_wrk: str | None) -> AsyncIterator[Stage]:
    """Start a stack; stop it at the end, whatever happens."""
    environ = {
        name: value for name, value in os.environ.items() if name not in ("BOXOFFICE_DATA_DIR", "DATA_DIR", "PORT")
    }
    with temporary_data_dir() as folder, Stack(folder, environ=environ) as stack:
        connection = await asyncpg.connect(admin_url(stack, "postgres"))
        # When a transaction was committed is not in its rows; the server notes it if it is asked to, 12 bytes each.
        await connection.execute("ALTER SYSTEM SET track_commit_timestamp = on")
        await connection.close()
        stack.servers.restart_postgres()
        stack.run("migrate")
        connection = await asyncpg.connect(admin_url(stack, "postgres"))
        for database in DATABASES:
            await connection.execute(f"CREATE DATABASE {database} TEMPLATE boxoffice OWNER boxoffice")
        await connection.close()
        stack.spawn_api(stack.spare_port())
        stack.spawn_worker()
        stack.wait_ready()
        settings = Settings(redis_url=stack.redis_url, database_url=stack.database_url, data_dir=folder)
        async with open_box_office(settings, redis_retries=3) as office:
            # An operator plans rewrites of the append-only file; none falls into a run.
            await office.redis.config_set("auto-aof-rewrite-percentage", 0)
            stage = Stage(stack, office, LoadClient(folder, wrk=load_wrk), folder)
            try:
                yield stage
            finally:
                stage.stop_helpers()


def database_url(stack: Stack, database: str) -> str:
    """Another database of the stack's server."""
    return make_url(stack.database_url).set(database=database).render_as_string(hide_password=False)


def admin_url(stack: Stack, database: str) -> str:
    """The same for the server's superuser."""
    return make_url(stack.servers.admin_url).set(database=database).render_as_string(hide_password=False)
