"""The client for programs that wait for each answer."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx2

from boxoffice_client import bodies, calls, flows
from boxoffice_client.calls import Call
from boxoffice_client.driving import Operation, lost, received, request_of
from boxoffice_client.flows import Answer, Flow, Received, Send, Sleep
from boxoffice_client.retrying import Lost, Retries
from boxoffice_client.streams import Resumed, StreamEvent

__all__ = ["Client"]

T = TypeVar("T")


class Client:
    """Sells tickets: `Client("https://tickets.example", api_key)`. Safe to share between threads, as httpx2's client is.

    Every method may raise what `errors.py` and `problems.py` have. `http` replaces the connections, as for a proxy.
    """

    def __init__(
        self, base_url: str, api_key: str, *, retries: Retries | None = None, http: httpx2.Client | None = None
    ) -> None:
        """`base_url` has no path; `api_key` is sent nowhere else."""
        self._api_key = api_key
        self.retries = retries or Retries()
        self._http = http or httpx2.Client()
        self._base_url = base_url.rstrip("/")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def send(self, call: Call[T], *, retries: Retries | None = None) -> Answer[T]:
        """Send a call that `calls` made, and return the answer with its head. The methods below return `data` alone."""
        return self._run(flows.exchange(call, self._api_key, retries or self.retries))

    list_events = Operation(calls.list_events)
    read_event = Operation(calls.read_event)
    book = Operation(calls.book)
    list_bookings = Operation(calls.list_bookings)
    read_booking = Operation(calls.read_booking)
    pay = Operation(calls.pay)
    change_items = Operation(calls.change_items)
    extend = Operation(calls.extend)
    cancel = Operation(calls.cancel)
    refund = Operation(calls.refund)
    list_refunds = Operation(calls.list_refunds)
    read_refund = Operation(calls.read_refund)
    create_event = Operation(calls.create_event)
    change_event = Operation(calls.change_event)
    pause_event = Operation(calls.pause_event)
    resume_event = Operation(calls.resume_event)
    postpone_event = Operation(calls.postpone_event)
    call_off_event = Operation(calls.call_off_event)
    read_call_off = Operation(calls.read_call_off)
    add_tier = Operation(calls.add_tier)
    change_tier = Operation(calls.change_tier)
    list_changes = Operation(calls.list_changes)
    create_codes = Operation(calls.create_codes)
    list_codes = Operation(calls.list_codes)
    revoke_code = Operation(calls.revoke_code)
    create_allocation = Operation(calls.create_allocation)
    list_allocations = Operation(calls.list_allocations)
    read_allocation = Operation(calls.read_allocation)
    change_allocation = Operation(calls.change_allocation)
    release_allocation = Operation(calls.release_allocation)
    read_feed = Operation(calls.read_feed)
    create_webhook_endpoint = Operation(calls.create_webhook_endpoint)
    list_webhook_endpoints = Operation(calls.list_webhook_endpoints)
    read_webhook_endpoint = Operation(calls.read_webhook_endpoint)
    change_webhook_endpoint = Operation(calls.change_webhook_endpoint)
    delete_webhook_endpoint = Operation(calls.delete_webhook_endpoint)
    rotate_webhook_secret = Operation(calls.rotate_webhook_secret)
    list_webhook_deliveries = Operation(calls.list_webhook_deliveries)
    redeliver_webhooks = Operation(calls.redeliver_webhooks)
    healthz = Operation(calls.healthz)
    readyz = Operation(calls.readyz)

    def wait_until_final(
        self, booking_id: str, *, deadline_s: float = 60.0, past_action: bool = False
    ) -> bodies.Booking:
        """The booking, once it is final, held again (its payment was declined), or its customer has to go to the bank
        (`payment.next_action`; with `past_action` that is waited for, too). Raises `StillPending` after `deadline_s`."""
        flow = flows.until_final(booking_id, self._api_key, self.retries, deadline_s, past_action=past_action)
        return self._run(flow)

    def feed(
        self, after: str | None = None, *, types: Sequence[str] = (), wait_s: float = 20.0, patience_s: float = 3_600.0
    ) -> Iterator[bodies.Notice]:
        """Every notice behind the cursor `after` (None: from the oldest that is kept), in order, for ever: at the end it waits
        for the next. Keep a notice's `cursor` once you have done what it asks for, and start from it.

        boxoffice may be away for `patience_s` before an error is raised. Raises `CursorGone` when `after` is none any more.
        """
        for page in self.feed_pages(after, types=types, wait_s=wait_s, patience_s=patience_s):
            yield from page["data"]

    def feed_pages(
        self, after: str | None = None, *, types: Sequence[str] = (), wait_s: float = 20.0, patience_s: float = 3_600.0
    ) -> Iterator[bodies.FeedPage]:
        """The same by the page, empty ones too: their `cursor` moves on. Keep it where weeks may pass without a notice."""
        patient = flows.patient(self.retries, patience_s)
        while True:
            page = self.send(calls.read_feed(after=after, types=types, wait_s=wait_s), retries=patient).data
            yield page
            after = page["cursor"]

    def watch_booking(self, booking_id: str, *, last_event_id: str | None = None) -> Iterator[StreamEvent]:
        """The booking's states as they come, over any number of connections, until nothing can follow."""
        return self._watch(calls.stream_booking(booking_id), last_event_id)

    def watch_availability(self, event_id: str, *, last_event_id: str | None = None) -> Iterator[StreamEvent]:
        """What is left of an event's tiers as it changes, over any number of connections, for ever."""
        return self._watch(calls.stream_event(event_id), last_event_id)

    def _watch(self, call: Call[Any], last_event_id: str | None) -> Iterator[StreamEvent]:
        stream = Resumed(call, self._base_url, self._api_key, self.retries, last_event_id)
        while not stream.over:
            try:
                with self._http.stream(**stream.request()) as answer:
                    if answer.status_code == 200:
                        for event in httpx2.EventSource(answer):
                            if (heard := stream.heard(event)) is not None:
                                yield heard
                        pause_s = stream.ended()
                    else:
                        answer.read()
                        pause_s = stream.refused(received(answer))
            except httpx2.TransportError:
                pause_s = stream.ended()
            if not stream.over:
                time.sleep(pause_s)

    def _run(self, flow: Flow[T]) -> T:
        """Do what the flow asks for, one step after the other, and return what it comes to."""
        outcome: Received | Lost | None = None
        while True:
            try:
                step = flow.send(outcome)
            except StopIteration as end:
                result: T = end.value
                return result
            outcome = self._do(step)

    def _do(self, step: Send | Sleep) -> Received | Lost | None:
        if isinstance(step, Sleep):
            time.sleep(step.seconds)
            return None
        try:
            return received(self._http.request(**request_of(step, self._base_url)))
        except httpx2.TransportError as error:
            return lost(error)
