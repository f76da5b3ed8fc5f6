"""What operators do at their page beside the desk: parked bookings, the counters of one event, and who did what.

The same functions as at a terminal, by the name of an API key. Each deed is written down before it is done. A shard whose gate
is shut is left to its workers and to the terminal: an API may mend counters, and rebuild nothing.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, TypeVar

from redis.exceptions import OutOfMemoryError

from boxoffice.books import interventions
from boxoffice.books.dead_letters import DeadLetter
from boxoffice.clock import iso
from boxoffice.errors import BoxOfficeError, CannotRun, NotDone, StoreAway, Unavailable
from boxoffice.repair.failing import Ended
from boxoffice.repair.parked import Parked
from boxoffice.repair.reconcile import EventReport
from boxoffice.repair.tools import Repair
from boxoffice.stores.database import Database
from boxoffice.stores.postgres import TRANSIENT
from boxoffice.stores.redis import AWAY

__all__ = ["HISTORY_MAX", "Operating", "refused_as_not_done"]

HISTORY_MAX: Final = 200
"""Deeds that are shown at once."""

_HISTORY: Final = """
SELECT * FROM (
  (SELECT created_at AS at, operator AS by, verb, booking_id::text AS booking, NULL AS event, NULL AS tier, reason,
          coalesce(outcome, '') AS outcome, NULL AS changes FROM interventions ORDER BY id DESC LIMIT $1)
  UNION ALL
  (SELECT changed_at, changed_by, action, NULL, event_id, tier_id, NULL, 'done', changes::text FROM event_changes
   ORDER BY id DESC LIMIT $1)
) deeds ORDER BY at DESC LIMIT $1
"""

_AWAY: Final = (*TRANSIENT, *AWAY, OutOfMemoryError)
"""Neither store's answer: it is away, or takes nothing at the moment."""

Result = TypeVar("Result")


@contextlib.contextmanager
def refused_as_not_done() -> Iterator[None]:
    """What keeps a command from its work, as whoever calls the API is told it. A store that does not answer is `StoreAway`, as
    anywhere else: it may have been done, and may be asked for again."""
    try:
        yield
    except _AWAY as error:
        raise StoreAway from error
    except CannotRun as error:
        if isinstance(error.__cause__, Unavailable):
            raise error.__cause__ from error
        if isinstance(error.__cause__, _AWAY):
            raise StoreAway from error
        raise NotDone(error.detail) from error


class Operating:
    """By operators who are not at a terminal."""

    def __init__(self, database: Database, parked: Parked, repair: Repair) -> None:
        self._database = database
        self._parked = parked
        self._repair = repair

    async def parked(self) -> list[DeadLetter]:
        """All that are parked, the oldest first. Raises `NotDone`."""
        with refused_as_not_done():
            return await self._parked.all()

    async def retry(self, booking: str, by: str) -> None:
        """As `Parked.retry`. Raises `NotFound`, `NotDone`, `StoreAway`."""

        async def work() -> tuple[None, str]:
            with refused_as_not_done():
                await self._parked.retry(booking)
            return None, "given back to the workers"

        await self._written_down("retry", by, await self._id_of(booking), None, work)

    async def fail(self, booking: str, by: str) -> Ended:
        """As `Parked.fail`. Raises `NotFound`, `NotDone`, `StoreAway`."""

        async def work() -> tuple[Ended, str]:
            with refused_as_not_done():
                ended = await self._parked.fail(booking)
            return ended, f"failed, payment: {ended.payment}"

        return await self._written_down("fail", by, await self._id_of(booking), None, work)

    async def reconcile(self, event: str, by: str, *, fix: bool) -> EventReport:
        """Compare the counters of one event with PostgreSQL; with `fix`, mend them, and count its customers' tickets anew.

        Raises `NotFound`, `NotDone`, `GateClosed`, `StoreAway`.
        """

        async def work() -> tuple[EventReport, str]:
            with refused_as_not_done():
                async with self._database.answering():
                    report = await self._repair.one(event, fix=fix)
            return report, report.word

        if not fix:
            return (await work())[0]
        return await self._written_down("reconcile", by, None, f"event {event}", work)

    async def history(self, limit: int) -> list[dict[str, Any]]:
        """Who did what, the newest first: interventions, and changes of events. Raises `StoreAway`."""
        async with self._database.answering():
            rows = await self._database.fetch(_HISTORY, limit)
        return [
            {
                "at": iso(row["at"]), "by": row["by"], "verb": row["verb"], "booking_id": row["booking"],
                "event_id": row["event"], "tier_id": row["tier"], "reason": row["reason"], "outcome": row["outcome"] or None,
                "changes": {name: {"from": old, "to": new} for name, (old, new) in json.loads(row["changes"] or "{}").items()},
            }
            for row in rows
        ]  # fmt: skip

    async def _id_of(self, booking: str) -> str:
        """The booking's canonical id, if it is parked."""
        with refused_as_not_done():
            return (await self._parked.one(booking)).booking

    async def _written_down(
        self, verb: str, by: str, booking: str | None, reason: str | None, work: Callable[[], Awaitable[tuple[Result, str]]]
    ) -> Result:  # fmt: skip
        """Write the intervention before doing it. If PostgreSQL is away, nothing is done."""
        async with self._database.answering():
            number = await interventions.begin(self._database, verb, by, booking, reason)
        try:
            result, outcome = await work()
        except BoxOfficeError as error:
            if not isinstance(error, Unavailable):  # else it may have been done, and has no outcome
                with contextlib.suppress(*TRANSIENT):
                    await interventions.end(self._database, number, f"refused: {type(error).__name__}")
            raise
        with contextlib.suppress(*TRANSIENT):
            await interventions.end(self._database, number, outcome)
        return result
