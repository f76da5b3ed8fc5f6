"""What a call goes through: attempts, pauses, waiting for the end of a booking. Generators that yield what is to be done and
are told what came of it, so that both clients run the same ones."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, NamedTuple, TypeVar

from boxoffice_client import bodies, calls
from boxoffice_client.calls import Call
from boxoffice_client.errors import BoxOfficeClientError, StillPending, Unanswered, UnexpectedAnswer
from boxoffice_client.problems import problem_error
from boxoffice_client.retrying import Answered, Lost, Retries, pause_before_repeat, retry_after_of

__all__ = ["Answer", "Flow", "Received", "Send", "Sleep", "exchange", "headers_of", "patient", "refused", "until_final"]

T = TypeVar("T")

AGENT: Final = "boxoffice-client-python/0.1.0"

WAIT_MOST_S: Final = 10.0
"""Longest that the server is asked to wait in one request."""


@dataclass(frozen=True, slots=True)
class Send:
    """To do: one attempt. It comes to `Received` or `Lost`."""

    method: str
    path: str
    query: Mapping[str, str | int]
    headers: Mapping[str, str]
    content: bytes | None
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Sleep:
    """To do: nothing, for so long."""

    seconds: float


class Received(NamedTuple):
    """The answer to one attempt; names of headers in small letters."""

    status: int
    headers: Mapping[str, str]
    text: str


Flow = Generator[Send | Sleep, Any, T]


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """A good answer, with what its head says."""

    data: T
    status: int
    headers: Mapping[str, str]
    key: str | None
    """The idempotency key of the call."""

    @property
    def replayed(self) -> bool:
        """Whether the key had been used before: this is what became of its first use."""
        return self.headers.get("idempotency-replayed") == "true"

    @property
    def request_id(self) -> str:
        """Names the call in the log of boxoffice."""
        return self.headers.get("x-request-id", "")

    @property
    def retry_after_s(self) -> float | None:
        """When it makes sense to look again."""
        return retry_after_of(self.headers, time.time())


def headers_of(call: Call[Any], api_key: str, request_id: str) -> dict[str, str]:
    """The head of each of its attempts."""
    headers = {
        "accept": "application/json, application/problem+json",
        "authorization": f"Bearer {api_key}",
        "user-agent": AGENT,
        "x-request-id": request_id,
    }
    if call.body is not None:
        headers["content-type"] = "application/json"
    if call.key is not None:
        headers["idempotency-key"] = call.key
    if call.if_match is not None:
        headers["if-match"] = call.if_match if isinstance(call.if_match, str) else f'"{call.if_match}"'
    if call.prefer_wait:
        headers["prefer"] = f"wait={min(call.wait_s, WAIT_MOST_S):.0f}"
    return headers


def exchange(call: Call[T], api_key: str, retries: Retries) -> Flow[Answer[T]]:
    """Attempts until one is answered for good, each the same request with the same key. Raises `ProblemError`, `Unanswered` or
    `UnexpectedAnswer`, once the deadline would pass before another attempt."""
    request_id = uuid.uuid4().hex
    try:
        return (yield from _attempts(call, api_key, retries, request_id))
    except BoxOfficeClientError as error:
        error.key, error.request_id = call.key, request_id
        raise


def _attempts(call: Call[T], api_key: str, retries: Retries, request_id: str) -> Flow[Answer[T]]:
    headers = headers_of(call, api_key, request_id)
    content = None if call.body is None else json.dumps(call.body, ensure_ascii=False).encode()
    end = time.monotonic() + retries.deadline_s + call.wait_s
    attempt = 0
    while True:
        attempt += 1
        timeout_s = max(0.1, min(retries.attempt_s + call.wait_s, end - time.monotonic()))
        received: Received | Lost = yield Send(call.method, call.path, call.query, headers, content, timeout_s)
        outcome: Answered | Lost
        error: BoxOfficeClientError
        if isinstance(received, Lost):
            outcome, error = received, Unanswered(f"no answer to {call.method} {call.path} in {attempt} attempts")
        elif received.status < 300:
            return Answer(_json(received), received.status, received.headers, call.key)
        else:
            outcome, error = refused(received, time.time())
        pause_s = pause_before_repeat(outcome, call.repeatable, attempt, retries)
        if pause_s is None or time.monotonic() + pause_s >= end:
            raise error
        yield Sleep(pause_s)


def refused(received: Received, now_s: float) -> tuple[Answered, BoxOfficeClientError]:
    """What an answer that is not good means, for the table and for whoever called. `now_s` is the Unix time."""
    retry_after_s = retry_after_of(received.headers, now_s)
    if received.headers.get("content-type", "").startswith("application/problem+json"):
        problem = _json(received)
        error = problem_error(problem, received.status, retry_after_s)
        return Answered(received.status, error.slug, retry_after_s), error
    return Answered(received.status, "", retry_after_s), UnexpectedAnswer(received.status, received.text[:500])


def _json(received: Received) -> Any:
    try:
        return json.loads(received.text)
    except ValueError:
        raise UnexpectedAnswer(received.status, received.text[:500]) from None


def until_final(
    booking_id: str, api_key: str, retries: Retries, deadline_s: float, *, past_action: bool
) -> Flow[bodies.Booking]:
    """The booking, once nothing of it is under way: it is final, or held (again). The server is asked to wait; one that answers
    at once is asked again at the pace that it names. Raises `StillPending`.

    With `past_action` also while its customer is at the bank (`payment.next_action`).
    """
    end = time.monotonic() + deadline_s
    while True:
        began = time.monotonic()
        wait_s = max(0.0, min(WAIT_MOST_S, float(int(end - began))))
        answer = yield from exchange(calls.read_booking(booking_id, wait_s=wait_s), api_key, retries)
        booking = answer.data
        if booking["status"] != "pending" or (not past_action and _wants_customer(booking)):
            return booking
        now = time.monotonic()
        if now >= end:
            raise StillPending(booking)
        if now - began < wait_s / 2 or wait_s < 1:
            pace_s = answer.retry_after_s if answer.retry_after_s is not None else retries.first_s
            yield Sleep(min(pace_s * (1 + retries.chance() / 4), max(0.0, end - now)))


def _wants_customer(booking: bodies.Booking) -> bool:
    payment = booking["payment"]
    return payment is not None and payment["next_action"] is not None


def patient(retries: Retries, patience_s: float) -> Retries:
    """The same, for so long."""
    return replace(retries, deadline_s=patience_s)
