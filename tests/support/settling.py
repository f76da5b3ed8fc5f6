"""One shard's settlement as a test arranges it: with other settings, on another database, ended at a crash point, or whole on
stores that answer as the test says."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from boxoffice import ids
from boxoffice.books.decisions import Claimed, Decision, Terms, Verdict
from boxoffice.clock import Clock
from boxoffice.office import BoxOffice
from boxoffice.settings import Settings
from boxoffice.settlement.batch import Batch
from boxoffice.settlement.declines import Sifted
from boxoffice.settlement.draining import Settlement
from boxoffice.stores.fence import Pair
from boxoffice.stores.record import Body, Charge, Line, Payload, Record, pack_items
from boxoffice.stores.shard import Shard
from tests.conftest import SHARD
from tests.support.databases import DatabaseOf

__all__ = [
    "NOW",
    "TERMS",
    "Room",
    "at_crash_points",
    "batch_of",
    "claimed",
    "over",
    "released",
    "tune",
    "with_worker",
    "work_money",
]

NOW = 1_700_000_000_000
TERMS = Terms(NOW, 600_000)


def with_worker(settings: Settings, **changes: object) -> Settings:
    """The settings, with other numbers for the worker."""
    return settings.model_copy(update={"worker": settings.worker.model_copy(update=changes)})


def tune(settlement: Settlement, **changes: object) -> None:
    """From here on these settings of its worker are others."""
    for part in (settlement, settlement.claims, settlement.committing):
        part.settings = with_worker(part.settings, **changes)


def over(patch: pytest.MonkeyPatch, settlement: Settlement, pool: Callable[[], Awaitable[Any]]) -> None:
    """Bookings are looked up and written by another pool. Whether PostgreSQL takes writes is asked of its own."""
    for part in (settlement.claims, settlement.authorising, settlement.committing):
        patch.setattr(part, "database", DatabaseOf(pool))


async def work_money(office: BoxOffice) -> None:
    """Do whatever is due at the gateway, as if every lease had ended."""
    pool = await office.pool()
    for _ in range(20):
        await office.pump.work_given()
        await pool.execute("UPDATE captures SET leased_until = now()")
        await pool.execute("UPDATE payments SET leased_until = NULL, due_at = now() WHERE due_at IS NOT NULL")
        if not await office.pump.work_outbox():
            return


def at_crash_points(patch: pytest.MonkeyPatch, crashpoint: Callable[[str], None]) -> None:
    """What happens at each crash point of a settlement."""
    parts = [module for name, module in sys.modules.items() if name.startswith("boxoffice.settlement.")]
    for module in parts:
        if hasattr(module, "crashpoint"):
            patch.setattr(module, "crashpoint", crashpoint)


def claimed(sequence: int = 1, *, lapses: int = 0, tries: str = "1", key: str = "", scope: str = "") -> Claimed:
    """A claimed booking of two tickets at 100."""
    lines = (Line("floor", 2, 100),)
    scope = scope or ids.digest(str(sequence))
    record = Record(
        ids.booking_id(SHARD, NOW + sequence), "P", sequence, NOW, 0, key or scope, scope, "f", "e", "0" * 16,
        pack_items(lines), tries, Body("c", "u", 200, "USD", lines), Payload(Charge("card", "tok", None, "4242"), key="k"),
    )  # fmt: skip
    return Claimed(record, record.pack(), lapses)


def batch_of(*claims: Claimed) -> Batch:
    return Batch(list(claims), TERMS, [Pair(7, 8)])


def released(claim: Claimed, delay_ms: int) -> Decision:
    """What Redis is told of a booking that is let go of undecided, of which nothing is to be remembered."""
    return Decision(claim, Verdict.RELEASE, Payload(), delay_ms)


async def _ask_for_all(claims: list[Claimed], *_: Any) -> Sifted:
    return Sifted(claims, [], [])


async def _count_nothing(_: Any) -> None:
    pass


class Room:
    """A settlement without stores: what it asks for is noted, and answered as the test says."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.now = 100.0
        self.slept: list[float] = []
        self.gateway: Any = SimpleNamespace(books="books")
        settings = Settings(shards=2)
        pool = SimpleNamespace(acquire=self._acquire)

        async def get_pool() -> Any:
            return pool

        self.pump = SimpleNamespace(give=lambda *given: self.calls.append(("give", *given)))
        nothing: Any = SimpleNamespace()
        self.settlement = Settlement(
            Shard(nothing, nothing, SHARD), DatabaseOf(get_pool), self.gateway, self.pump, nothing, settings,
            Clock(lambda: self.now, sleep=self._sleep, chance=lambda: 0.5),
        )  # fmt: skip
        self.mirror: Any = SimpleNamespace(tell=self.noting("tell"), park=self.noting("park"))
        self.outage: Any = SimpleNamespace(
            begin=self._begin, over=self.noting("over", 0.0), settled=lambda: self.calls.append(("settled",)),
            answered=lambda: self.calls.append(("answered",)), answered_after=lambda since: False,
            within=lambda seconds: False, blames_the_row=self.noting("blames", True),
        )  # fmt: skip
        whole = self.settlement
        for part in (whole, whole.claims, whole.committing):
            part.mirror = self.mirror
        for other in (whole, whole.claims, whole.authorising, whole.committing):
            other.outage = self.outage
        declines: Any = SimpleNamespace(sift=_ask_for_all, count=_count_nothing)
        whole.authorising.declines = whole.committing.declines = declines

    def noting(self, name: str, answer: Any = None, error: BaseException | None = None) -> Any:
        async def note(*arguments: Any, **named: Any) -> Any:
            self.calls.append((name, *arguments, *named.values()))
            if error is not None:
                raise error
            return answer

        return note

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 6))

    def _begin(self, error: BaseException) -> float:
        self.calls.append(("begin", error))
        return 0.4

    @asynccontextmanager
    async def _acquire(self) -> Any:
        yield SimpleNamespace(transaction=self._transaction)

    @asynccontextmanager
    async def _transaction(self) -> Any:
        yield None

    def names(self) -> list[str]:
        return [call[0] for call in self.calls]
