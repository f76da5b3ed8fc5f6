"""The courier of one endpoint, for as long as a worker holds its lease: reads on from its place, sends, writes down.

What an endpoint has is written after it has it, in one transaction with the place: whoever dies in between leaves the place
where it was, and the next courier sends those notices again. So each is delivered at least once, under the same id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import takewhile
from typing import Final, NamedTuple

import structlog

from boxoffice.clock import Clock
from boxoffice.crashpoint import crashpoint
from boxoffice.errors import CursorGone
from boxoffice.notices.reading import Notices, Page
from boxoffice.stores.database import Database
from boxoffice.telemetry import series
from boxoffice.webhook_settings import WebhookSettings
from boxoffice.webhooks import leases
from boxoffice.webhooks.endings import end
from boxoffice.webhooks.leases import Claimed, Marked, Tried, Waiting
from boxoffice.webhooks.patience import health_after, next_try_s
from boxoffice.webhooks.sending import Outcome, Sender
from boxoffice.wire.notices import notice_body

__all__ = ["Courier"]

log = structlog.get_logger()

RUN_S: Final = 10.0
"""After so long a courier gives its place to whoever waits for one."""

ROUND: Final = 4
"""Times `in_flight_max`: notices of one round, after which what came of them is written down."""

LEAVE_S: Final = 2.0
"""For so long a courier that has to stop writes down what it knows."""


class Place(NamedTuple):
    """Where an endpoint goes on in the record."""

    position: int
    step: int


class Round(NamedTuple):
    """What is sent before anything is written down again."""

    again: list[Waiting]
    first: list[Waiting]
    places: list[Place]
    """Of each of `first`: where the endpoint stands once it was tried."""
    end: Place
    """Where it stands once all were."""
    more: bool


class Courier:
    """Of one endpoint, once."""

    def __init__(
        self,
        endpoint: Claimed,
        database: Database,
        notices: Notices,
        sender: Sender,
        settings: WebhookSettings,
        clock: Clock,
    ) -> None:
        self._endpoint = endpoint
        self._database = database
        self._notices = notices
        self._sender = sender
        self._settings = settings
        self._clock = clock
        self._place = Place(endpoint.position, endpoint.step)
        self._failures = endpoint.failures
        self._under_way: tuple[Round, list[Outcome | None]] | None = None

    async def run(self) -> None:
        """Send what there is, until there is no more, the endpoint is to be left alone, or others wait for a place.
        Whoever is cut off writes down what it knows, and gives the lease back. Raises what the stores do, and `LeaseLost`."""
        try:
            behind = await self._work()
        except asyncio.CancelledError:
            async with asyncio.timeout(LEAVE_S):
                if self._under_way:
                    await self._write(*self._under_way)
                await self._release(behind=True)
            raise
        await self._release(behind=behind)

    async def _work(self) -> bool:
        """Returns whether there may be more to send."""
        end_s = self._clock.now_s() + RUN_S
        while self._clock.now_s() < end_s:
            round_ = await self._next()
            if not round_.first and not round_.again:
                self._place = round_.end
                if not round_.more:
                    return False
            elif not await self._go(round_):
                break
        return True

    async def _release(self, *, behind: bool) -> None:
        position, step = self._place
        await leases.release(self._database, self._endpoint, behind=behind, position=position, step=step)

    async def _next(self) -> Round:
        """Of an endpoint that took nothing last time, no more than shows whether it does now."""
        most = ROUND * self._settings.in_flight_max if not self._failures else 1
        again = await leases.due(self._database, self._endpoint.id, max(1, most // 2))
        found = await self._read(most)
        first = [Waiting(notice.id, notice.type, notice_body(notice).decode(), 0) for notice in found.notices]
        places = [Place(notice.cursor.position, notice.cursor.within) for notice in found.notices]
        return Round(again, first, places, Place(found.cursor.position, found.cursor.within), found.more)

    async def _read(self, most: int) -> Page:
        client, types = self._endpoint.client_id, self._endpoint.types
        try:
            return await self._notices.after(client, await self._notices.at(*self._place), types=types, most=most)
        except CursorGone as error:
            # It was disabled for longer than notices are kept, or nothing was told of its shop for so long.
            log.warning("webhook_endpoint.place_gone", endpoint=self._endpoint.id, reason=error.details.get("reason"))
        try:
            return await self._notices.after(client, await self._notices.start(), types=types, most=most)
        except CursorGone:
            # The oldest was trimmed between the two; the next is not before a minute.
            return await self._notices.after(client, await self._notices.start(), types=types, most=most)

    async def _go(self, round_: Round) -> bool:
        """Send, write down. Returns whether to go on at once."""
        every = [*round_.again, *round_.first]
        outcomes: list[Outcome | None] = [None] * len(every)
        self._under_way = round_, outcomes
        await self._send(every, outcomes)
        crashpoint("notice_delivered")
        goes_on = await self._write(round_, outcomes)
        self._under_way = None
        crashpoint("delivery_marked")
        return goes_on

    async def _send(self, every: Sequence[Waiting], outcomes: list[Outcome | None]) -> None:
        """Some at a time, in order. None is begun any more once one has failed and none has succeeded, or when it has lasted as
        long as one may take: so the lease outlasts it."""
        began_s = self._clock.now_s()
        waiting = iter(enumerate(every))

        async def carry() -> None:
            while await self._sender.turn(self._settings.timeout_s - (self._clock.now_s() - began_s)):
                at, delivery = next(waiting, (-1, None))
                if delivery is None:
                    return
                outcome = await self._sender.send(
                    self._endpoint.url,
                    self._endpoint.secrets,
                    delivery.notice_id,
                    delivery.body,
                    self._endpoint.client_id,
                )
                outcomes[at] = outcome
                count(outcome)
                known = [each for each in outcomes if each is not None]
                if outcome.failure == "gone" or not any(each.delivered for each in known):
                    return

        await at_once([carry for _ in range(min(len(every), self._settings.in_flight_max))])

    async def _write(self, round_: Round, outcomes: Sequence[Outcome | None]) -> bool:
        """Of what was sent for the first time, all up to the first of which nobody knows."""
        split = len(round_.again)
        again = [(each, out) for each, out in zip(round_.again, outcomes[:split], strict=True) if out is not None]
        known = list(takewhile(lambda pair: pair[1] is not None, zip(round_.first, outcomes[split:], strict=True)))
        first = [(each, out) for each, out in known if out is not None]
        if not first and not again:
            return False
        place = round_.end
        if len(first) < len(round_.first):
            place = round_.places[len(first) - 1] if first else self._place
        health = health_after(
            self._failures, [out for _, out in first], [out for _, out in again], self._settings, self._clock.chance
        )
        marked = Marked(*place, health.well, health.failures, health.pause_s, health.slow)
        tried = [self._tried(each, out) for each, out in (*again, *first)]
        async with self._database.begin() as connection:
            enabled, changed, failing_s = await leases.mark(
                connection, self._endpoint._replace(failures=self._failures), marked, tried,
                lease_s=self._settings.lease_s, give_up_s=self._settings.give_up_s,
            )  # fmt: skip
            reason = "gone" if health.gone else "failing" if failing_s > self._settings.disable_after_s else ""
            if enabled and reason:
                await end(connection, self._endpoint.id, reason)
            elif not health.well:
                await leases.calm(connection, self._endpoint.id)
        if enabled and reason:
            log.warning("webhook_endpoint.disabled", endpoint=self._endpoint.id, reason=reason)
        self._place, self._failures = place, health.failures
        return enabled and not changed and not reason and health.pause_s is None

    def _tried(self, delivery: Waiting, outcome: Outcome) -> Tried:
        tries = delivery.tries + 1
        return Tried(
            delivery.notice_id, delivery.type, delivery.body, tries, outcome.delivered,
            next_try_s(tries, outcome, self._settings, self._clock.chance), outcome.failure or None, outcome.status,
            round(outcome.took_s * 1_000),
        )  # fmt: skip


async def at_once(works: Sequence[Callable[[], Awaitable[None]]]) -> None:
    """All of them at once, and none of them afterwards: whoever is cut off cuts them off, and waits until they are."""
    tasks = [asyncio.ensure_future(work()) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def count(outcome: Outcome) -> None:
    """For `/metrics`."""
    series.DELIVERIES.cell(outcome.failure or "delivered").add()
    series.DELIVERY_SECONDS.cell().add(outcome.took_s)
