"""Payments that the gateway cannot answer at once: waited for beside everything else, and settled in groups."""

from __future__ import annotations

import asyncio
import contextlib
from asyncio import FIRST_COMPLETED
from collections.abc import Mapping
from typing import Any, Final

from redis.exceptions import RedisError

from boxoffice.books.decisions import Claimed, Known
from boxoffice.clock import Clock
from boxoffice.crashpoint import crashpoint
from boxoffice.errors import GateClosed
from boxoffice.settlement.batch import Batch, Ready
from boxoffice.settlement.claims import Claims
from boxoffice.settlement.committing import Committing
from boxoffice.settlement.deciding import GatewayOutcome
from boxoffice.settlement.outage import REFUSED
from boxoffice.telemetry.seldom import seldom

__all__ = ["SlowAnswers"]

GATHER_S: Final = 0.05
"""After a slow answer, how long its neighbours' are waited for, to be settled in the same transaction."""

SLOW_MAX: Final = 2_000
"""Bookings that may wait for slow answers in one worker; beyond it nothing more is claimed."""


class SlowAnswers:
    """Of one shard, in one worker."""

    def __init__(self, shard: int, claims: Claims, committing: Committing, lease_ms: int, clock: Clock) -> None:
        self.count = 0
        """Bookings that wait."""
        self.tasks: set[asyncio.Task[None]] = set()
        self.claims = claims
        self.committing = committing
        self._shard = shard
        self._lease_ms = lease_ms
        self._clock = clock

    @property
    def too_many(self) -> bool:
        """Whether nothing more may be claimed before one of them has answered."""
        return self.count >= SLOW_MAX and bool(self.tasks)

    async def until_one_ends(self) -> None:
        """Wait for one of the tasks, but not for long."""
        await asyncio.wait(self.tasks, timeout=GATHER_S, return_when=FIRST_COMPLETED)

    async def stop(self) -> None:
        """Give back whatever waits."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def wait_for(self, batch: Batch, slow: dict[asyncio.Future[Any], Claimed], known: Mapping[str, Known]) -> None:
        """Let slow answers come in their own time, in a task that keeps their leases and settles them in groups."""
        batch.done.update(claim.record.id for claim in slow.values())
        self.count += len(slow)
        task = asyncio.create_task(self._settle_slow(batch, slow, known))
        self.tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            # Nothing is lost: their leases lapse.
            seldom.exception("batch.failed", error, shard=self._shard)

    async def _settle_slow(
        self, batch: Batch, slow: dict[asyncio.Future[Any], Claimed], known: Mapping[str, Known]
    ) -> None:
        half_lease_s = self._lease_ms / 2_000
        renew_at = self._clock.now_s() + half_lease_s
        try:
            while slow:
                await asyncio.wait(slow, timeout=max(0.0, renew_at - self._clock.now_s()), return_when=FIRST_COMPLETED)
                if any(answer.done() for answer in slow):
                    await asyncio.wait(slow, timeout=GATHER_S)
                    ready = [answer for answer in slow if answer.done()]
                    claims = [slow.pop(answer) for answer in ready]
                    self.count -= len(claims)
                    crashpoint("answered")
                    await self.settle_answered(batch, claims, ready, known)
                if self._clock.now_s() >= renew_at and slow:
                    renew_at = self._clock.now_s() + half_lease_s
                    with contextlib.suppress(RedisError, OSError):
                        await self.claims.extend(slow.values())
        except asyncio.CancelledError:
            # Before Python 3.11.3 every timeout within a task that is being cancelled ends as another cancellation.
            current = asyncio.current_task()
            assert current is not None
            current.uncancel()
            for answer in slow:
                answer.cancel()
            await self.claims.release(batch, slow.values(), 0)
            raise
        finally:
            self.count -= len(slow)

    async def settle_answered(
        self, batch: Batch, claims: list[Claimed], answers: list[asyncio.Future[Any]], known: Mapping[str, Known]
    ) -> None:
        """Settle those that have answered together; each error is its own booking's."""
        batch.done.difference_update(claim.record.id for claim in claims)
        try:
            ready: list[Claimed] = []
            outcomes: dict[str, GatewayOutcome] = {}
            for claim, answer in zip(claims, answers, strict=True):
                if error := answer.exception():
                    if not isinstance(error, Exception):
                        raise error
                    await self.committing.fail_alone(batch, claim, error, asking=True, since=self._clock.now_s())
                else:
                    outcomes[claim.record.id] = answer.result()
                    ready.append(claim)
            await self.committing.settle(batch, Ready(ready, known, outcomes))
        except (GateClosed, *REFUSED) as error:
            await self.claims.give_back(batch, claims, error)
        except RedisError as error:
            # Their leases lapse. Those who still wait for an answer keep theirs.
            seldom.exception("batch.failed", error, shard=self._shard)
