"""All couriers of one worker: it looks which endpoints have something to be sent, claims them, and lets each have its courier.

An endpoint that does not answer holds its own courier, and no other. Those that failed or were slow last share half of the
places: were they given more, enough of them would keep everybody else from being told.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import cached_property
from typing import Final

from boxoffice.clock import CLOCK, Clock
from boxoffice.crashpoint import crashpoint
from boxoffice.notices.reading import Notices
from boxoffice.stores.database import Database
from boxoffice.stores.postgres import TRANSIENT
from boxoffice.stores.waits import waits_for
from boxoffice.telemetry.seldom import seldom
from boxoffice.webhook_settings import WebhookSettings
from boxoffice.webhooks import leases
from boxoffice.webhooks.courier import Courier
from boxoffice.webhooks.leases import Claimed, LeaseLost
from boxoffice.webhooks.sending import Sender

__all__ = ["Couriers"]


STOP_S: Final = 3.0
"""For so long couriers that are to stop are waited for: each writes down what it knows, and gives its lease back."""


class Couriers:
    """Of one worker."""

    def __init__(
        self,
        database: Database,
        notices: Notices,
        settings: WebhookSettings,
        clock: Clock = CLOCK,
        sender: Sender | None = None,
    ) -> None:
        self._database = database
        self._notices = notices
        self._settings = settings
        self._clock = clock
        self._made = sender
        self._running: dict[asyncio.Task[None], Claimed] = {}
        self._stopping = False

    @cached_property
    def _sender(self) -> Sender:
        """Not before somebody is to be told: it reads the machine's certificates."""
        return self._made or Sender(self._settings, self._clock)

    async def look(self) -> int:
        """Claim what there is to be sent, as far as there are places for couriers, and let them go. Returns how many went.
        Raises what PostgreSQL does."""
        if "_sender" in self.__dict__:
            await self._sender.tidy()
        if self._stopping or not await leases.any_enabled(self._database):
            return 0
        await self._notices.number()
        free = self._settings.at_once - len(self._running)
        slow_free = self._settings.at_once // 2 - sum(endpoint.slow for endpoint in self._running.values())
        claimed: list[Claimed] = []
        for slow in (False, True):
            most = min(free - len(claimed), slow_free) if slow else free
            if most > 0:
                claimed += await leases.claim(self._database, slow=slow, most=most, lease_s=self._settings.lease_s)
        if claimed:
            crashpoint("endpoint_claimed")
        for endpoint in claimed:
            task = asyncio.create_task(self._run(endpoint), name=f"courier of {endpoint.id}")
            self._running[task] = endpoint
            task.add_done_callback(self._running.pop)
        return len(claimed)

    async def _run(self, endpoint: Claimed) -> None:
        courier = Courier(endpoint, self._database, self._notices, self._sender, self._settings, self._clock)
        try:
            await courier.run()
        except LeaseLost:
            seldom.warning("webhooks.lease_lost", endpoint=endpoint.id)
        except TRANSIENT as error:
            seldom.warning("webhooks.failed", waits_for=waits_for(error), error=type(error).__name__)
            await self._database.renew(error)
        except Exception as error:
            # Whatever it is: the lease ends, and the others go on.
            seldom.exception("webhooks.failed", error)

    async def at_rest(self) -> None:
        """Until every courier that is under way has come back."""
        while self._running:
            await asyncio.wait([*self._running])

    async def stop(self) -> None:
        """Let couriers come back, in bounded time. What was on its way is sent again by whoever has the endpoint next."""
        self._stopping = True
        tasks = [*self._running]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_S)

    async def close(self) -> None:
        """Close the connections to endpoints."""
        if "_sender" in self.__dict__:
            with suppress(Exception):
                await self._sender.close()
