"""The same client for programs on asyncio or trio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import anyio
import httpx2

from boxoffice_client import bodies, calls, flows
from boxoffice_client.calls import Call
from boxoffice_client.driving import AsyncOperation, lost, received, request_of
from boxoffice_client.flows import Answer, Flow, Received, Send, Sleep
from boxoffice_client.retrying import Lost, Retries
from boxoffice_client.streams import Resumed, StreamEvent

__all__ = ["AsyncClient"]

T = TypeVar("T")


class AsyncClient:
    """Sells tickets: `AsyncClient("https://tickets.example", api_key)`.

    Every method may raise what `errors.py` and `problems.py` have. `http` replaces the connections, as for a proxy.
    """

    def __init__(
        self, base_url: str, api_key: str, *, retries: Retries | None = None, http: httpx2.AsyncClient | None = None
    ) -> None:
        """`base_url` has no path; `api_key` is sent nowhere else."""
        self._api_key = api_key
        self.retries = retries or Retries()
        self._http = http or httpx2.AsyncClient()
        self._base_url = base_url.rstrip("/")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def send(self, call: Call[T], *, retries: Retries | None = None) -> Answer[T]:
        """Send a call that `calls` made, and return the answer with its head. The methods below return `data` alone."""
        return await self._run(flows.exchange(call, self._api_key, retries or self.retries))

    list_events = AsyncOperation(calls.list_events)
    read_event = AsyncOperation(calls.read_event)
    book = AsyncOperation(calls.book)
    list_bookings = AsyncOperation(calls.list_bookings)
    read_booking = AsyncOperation(calls.read_booking)
    pay = AsyncOperation(calls.pay)
    change_items = AsyncOperation(calls.change_items)
    extend = AsyncOperation(calls.extend)
    cancel = AsyncOperation(calls.cancel)
    refund = AsyncOperation(calls.refund)
    list_refunds = AsyncOperation(calls.list_refunds)
    read_refund = AsyncOperation(calls.read_refund)
    create_event = AsyncOperation(calls.create_event)
    change_event = AsyncOperation(calls.change_event)
    pause_event = AsyncOperation(calls.pause_event)
    resume_event = AsyncOperation(calls.resume_event)
    postpone_event = AsyncOperation(calls.postpone_event)
    call_off_event = AsyncOperation(calls.call_off_event)
    read_call_off = AsyncOperation(calls.read_call_off)
    add_tier = AsyncOperation(calls.add_tier)
    change_tier = AsyncOperation(calls.change_tier)
    list_changes = AsyncOperation(calls.list_changes)
    create_codes = AsyncOperation(calls.create_codes)
    list_codes = AsyncOperation(calls.list_codes)
    revoke_code = AsyncOperation(calls.revoke_code)
    create_allocation = AsyncOperation(calls.create_allocation)
    list_allocations = AsyncOperation(calls.list_allocations)
    read_allocation = AsyncOperation(calls.read_allocation)
    change_allocation = AsyncOperation(calls.change_allocation)
    release_allocation = AsyncOperation(calls.release_allocation)
    read_feed = AsyncOperation(calls.read_feed)
    create_webhook_endpoint = AsyncOperation(calls.create_webhook_endpoint)
    list_webhook_endpoints = AsyncOperation(calls.list_webhook_endpoints)
    read_webhook_endpoint = AsyncOperation(calls.read_webhook_endpoint)
    change_webhook_endpoint = AsyncOperation(calls.change_webhook_endpoint)
    delete_webhook_endpoint = AsyncOperation(calls.delete_webhook_endpoint)
    rotate_webhook_secret = AsyncOperation(calls.rotate_webhook_secret)
    list_webhook_deliveries = AsyncOperation(calls.list_webhook_deliveries)
    redeliver_webhooks = AsyncOperation(calls.redeliver_webhooks)
    healthz = AsyncOperation(calls.healthz)
    readyz = AsyncOperation(calls.readyz)

    async def wait_until_final(
        self, booking_id: str, *, deadline_s: float = 60.0, past_action: bool = False
    ) -> bodies.Booking:
        """The booking, once it is final, held again (its payment was declined), or its customer has to go to the bank
        (`payment.next_action`; with `past_action` that is waited for, too). Raises `StillPending` after `deadline_s`."""
        flow = flows.until_final(booking_id, self._api_key, self.retries, deadline_s, past_action=past_action)
        return await self._run(flow)

    async def feed(
        self, after: str | None = None, *, types: Sequence[str] = (), wait_s: float = 20.0, patience_s: float = 3_600.0
    ) -> AsyncIterator[bodies.Notice]:
        """Every notice behind the cursor `after` (None: from the oldest that is kept), in order, for ever: at the end it waits
        for the next. Keep a notice's `cursor` once you have done what it asks for, and start from it.

        boxoffice may be away for `patience_s` before an error is raised. Raises `CursorGone` when `after` is none any more.
        """
        async for page in self.feed_pages(after, types=types, wait_s=wait_s, patience_s=patience_s):
            for notice in page["data"]:
                yield notice

    async def feed_pages(
        self, after: str | None = None, *, types: Sequence[str] = (), wait_s: float = 20.0, patience_s: float = 3_600.0
    ) -> AsyncIterator[bodies.FeedPage]:
        """The same by the page, empty ones too: their `cursor` moves on. Keep it where weeks may pass without a notice."""
        patient = flows.patient(self.retries, patience_s)
        while True:
            page = (await self.send(calls.read_feed(after=after, types=types, wait_s=wait_s), retries=patient)).data
            yield page
            after = page["cursor"]

    def watch_booking(self, booking_id: str, *, last_event_id: str | None = None) -> AsyncIterator[StreamEvent]:
        """The booking's states as they come, over any number of connections, until nothing can follow."""
        return self._watch(calls.stream_booking(booking_id), last_event_id)

    def watch_availability(self, event_id: str, *, last_event_id: str | None = None) -> AsyncIterator[StreamEvent]:
        """What is left of an event's tiers as it changes, over any number of connections, for ever."""
        return self._watch(calls.stream_event(event_id), last_event_id)

    async def _watch(self, call: Call[Any], last_event_id: str | None) -> AsyncIterator[StreamEvent]:
        stream = Resumed(call, self._base_url, self._api_key, self.retries, last_event_id)
        while not stream.over:
            try:
                async with self._http.stream(**stream.request()) as answer:
                    if answer.status_code == 200:
                        async for event in httpx2.EventSource(answer):
                            if (heard := stream.heard(event)) is not None:
                                yield heard
                        pause_s = stream.ended()
                    else:
                        await answer.aread()
                        pause_s = stream.refused(received(answer))
            except httpx2.TransportError:
                pause_s = stream.ended()
            if not stream.over:
                await anyio.sleep(pause_s)

    async def _run(self, flow: Flow[T]) -> T:
        """Do what the flow asks for, one step after the other, and return what it comes to."""
        outcome: Received | Lost | None = None
        while True:
            try:
                step = flow.send(outcome)
            except StopIteration as end:
                result: T = end.value
                return result
            outcome = await self._do(step)

    async def _do(self, step: Send | Sleep) -> Received | Lost | None:
        if isinstance(step, Sleep):
            await anyio.sleep(step.seconds)
            return None
        try:
            return received(await self._http.request(**request_of(step, self._base_url)))
        except httpx2.TransportError as error:
            return lost(error)
