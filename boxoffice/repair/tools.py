"""Reconciling as operators ask for it: one event or every shard, looked at or mended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from boxoffice.errors import DriftUnexplained, GateClosed, NotFound
from boxoffice.repair.rebuild import Rebuilder
from boxoffice.repair.reconcile import EventReport, Reconciler
from boxoffice.sales.loading import Loader
from boxoffice.stores import fence
from boxoffice.stores.database import Database
from boxoffice.stores.gate import look
from boxoffice.stores.shard import Shards

__all__ = ["Findings", "Repair"]


class Findings(NamedTuple):
    """What reconciling found. `closed` and `rebuilt` are shards, `unloaded` are events without counters in Redis."""

    reports: tuple[EventReport, ...]
    closed: tuple[int, ...] = ()
    rebuilt: tuple[int, ...] = ()
    unloaded: tuple[str, ...] = ()

    def and_also(self, other: Findings) -> Findings:
        """These and those of another shard."""
        return Findings(
            self.reports + other.reports,
            self.closed + other.closed,
            self.rebuilt + other.rebuilt,
            self.unloaded + other.unloaded,
        )

    @property
    def word(self) -> str:
        """`same`, `drift` or `fixed`: the worst of all events."""
        words = {report.word for report in self.reports}
        if self.closed or self.unloaded or "drift" in words:
            return "drift"
        return "fixed" if self.rebuilt or "fixed" in words else "same"


class Repair:
    """Reconciles, with the tools of each shard."""

    def __init__(
        self,
        shards: Shards,
        database: Database,
        loader: Loader,
        reconcilers: Sequence[Reconciler],
        rebuilders: Sequence[Rebuilder],
    ) -> None:
        self._shards = shards
        self._database = database
        self._loader = loader
        self._reconcilers = reconcilers
        self._rebuilders = rebuilders

    async def reconcile(
        self, *, event: str | None = None, fix: bool = False, accept_postgres: bool = False
    ) -> Findings:
        """Compare one event, or every shard; with `fix`, mend what drifted, load what is missing, rebuild what is empty,
        and write again what PostgreSQL forgot.

        Raises `NotFound`, `CannotRun`, and `DriftUnexplained` when PostgreSQL went back in time and an operator has to
        decide: with `accept_postgres`, what it forgot is withdrawn.
        """
        found = Findings(())
        for shard in await self._shards_of(event):
            found = found.and_also(await self._shard(shard, event, fix, accept_postgres))
        return found

    async def one(self, event: str, *, fix: bool) -> EventReport:
        """One event of a shard that is open; with `fix`, its customers' tickets are counted anew, too. Nothing is rebuilt: for
        whoever may not.

        Raises `NotFound`, `CannotRun`, `DriftUnexplained`, and `GateClosed` for a shard, or an event, without its counters.
        """
        (shard,) = await self._shards_of(event)
        await self._lost(shard, fix=False)
        if (await look(self._shards[shard])).word != "open":
            raise GateClosed
        found = await self._events(shard, event, fix)
        if not found.reports:
            raise GateClosed
        return found.reports[0]

    async def _shards_of(self, event: str | None) -> list[int]:
        if event is None:
            return list(range(len(self._shards)))
        shard = await self._database.fetchval("SELECT shard FROM events WHERE id = $1", event)
        if shard is None:
            raise NotFound("There is no such event.")
        return [shard]

    async def _shard(self, shard: int, event: str | None, fix: bool, accept_postgres: bool) -> Findings:
        rebuilder = self._rebuilders[shard]
        if fix and accept_postgres:
            return Findings((await rebuilder.rebuild(accept_postgres=True)).reports, rebuilt=(shard,))
        if await self._lost(shard, fix=fix) or (await look(self._shards[shard])).word != "open":
            if not fix:
                return Findings((), closed=(shard,))
            return Findings((await rebuilder.rebuild()).reports, rebuilt=(shard,))
        return await self._events(shard, event, fix)

    async def _lost(self, shard: int, *, fix: bool) -> bool:
        """Whether PostgreSQL lacks commits that Redis was told of. Raises `DriftUnexplained` unless that is to be mended."""
        lost = await fence.lost(self._database, shard, await fence.told(self._shards[shard]))
        if lost and not fix:
            raise DriftUnexplained(
                f"PostgreSQL went back in time: it lacks {len(lost)} commits that shard {shard} of Redis was told of. "
                "A worker writes them again, or `boxoffice reconcile --fix`."
            )
        return bool(lost)

    async def _events(self, shard: int, event: str | None, fix: bool) -> Findings:
        reconciler = self._reconcilers[shard]
        if fix:
            await self._loader.load(shard)
            await reconciler.strays.gather()
        rows = await self._database.fetch("SELECT id FROM events WHERE shard = $1 ORDER BY starts_at, id", shard)
        reports, unloaded = [], []
        for id_ in [event] if event else [row["id"] for row in rows]:
            try:
                owned = fix and event is not None  # who names one event has its customers counted anew, too
                reports.append(await reconciler.event(id_, fix=fix, deep=True, owned=owned, strays=False))
            except GateClosed:
                unloaded.append(id_)
        return Findings(tuple(reports), unloaded=tuple(unloaded))
