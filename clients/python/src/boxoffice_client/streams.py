"""Server-sent events that outlive their connection: where to go on, and how long to wait before. No I/O."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any, Final, NamedTuple

import httpx2

from boxoffice_client.calls import Call
from boxoffice_client.flows import Received, headers_of, refused
from boxoffice_client.retrying import Lost, Retries, pause_before_repeat

__all__ = ["SILENCE_S", "Resumed", "StreamEvent"]

SILENCE_S: Final = 60.0
"""Seconds without a byte after which a stream is taken for dead: the server sends a comment more often."""

NO_MORE: Final = 204
"""The answer to whoever comes back to a stream that has ended, and knows how."""


class StreamEvent(NamedTuple):
    """One message of a stream."""

    name: str
    id: str
    """`last_event_id` goes on behind it, in another process, too."""
    data: Any


class Resumed:
    """One stream over all its connections."""

    def __init__(
        self, call: Call[Any], base_url: str, api_key: str, retries: Retries, last_event_id: str | None
    ) -> None:
        self.over = False
        """Nothing can follow any more."""
        self._url = base_url + call.path
        self._headers = headers_of(call, api_key, uuid.uuid4().hex) | {
            "accept": "text/event-stream, application/problem+json"
        }
        self._retries = retries
        self._last_event_id = last_event_id
        self._failures = 0
        self._retry_s: float | None = None

    def request(self) -> dict[str, Any]:
        """The arguments of httpx2's `stream`, for the next connection."""
        headers = dict(self._headers)
        if self._last_event_id is not None:
            headers["last-event-id"] = self._last_event_id
        timeout = httpx2.Timeout(self._retries.attempt_s, read=SILENCE_S)
        return {"method": "GET", "url": self._url, "headers": headers, "timeout": timeout}

    def heard(self, event: httpx2.ServerSentEvent) -> StreamEvent | None:
        """The message, for whoever reads; None for one that only says when to come back."""
        self._failures = 0
        if event.retry is not None:
            self._retry_s = event.retry / 1_000
        if event.id:
            self._last_event_id = event.id
        return StreamEvent(event.event, event.id, json.loads(event.data)) if event.data else None

    def ended(self) -> float:
        """Seconds to wait before the next connection, after one that broke or was closed."""
        self._failures += 1
        if self._failures == 1 and self._retry_s is not None:
            return self._retry_s
        return pause_before_repeat(Lost(sent=True), True, self._failures, self._retries) or 0.0

    def refused(self, answer: Received) -> float:
        """The same, after an answer that is no stream. Raises what a call would, when asking again is no use."""
        if answer.status == NO_MORE:
            self.over = True
            return 0.0
        self._failures += 1
        outcome, error = refused(answer, time.time())
        pause_s = pause_before_repeat(outcome, True, self._failures, self._retries)
        if pause_s is None:
            raise error
        return pause_s
