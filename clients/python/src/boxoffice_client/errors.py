"""What a call may raise.

BoxOfficeClientError
├── ProblemError        boxoffice refused; `problems.py` has a class for each type
├── Unanswered          nobody answered until the deadline: whether it was done is not known
├── UnexpectedAnswer    an answer that is none of boxoffice's, as of a proxy
├── StillPending        a booking was not final by the deadline: do not tell its customer that it failed
└── WebhookRefused      a webhook that boxoffice did not sign, or signed too long ago
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

__all__ = ["BoxOfficeClientError", "ProblemError", "StillPending", "Unanswered", "UnexpectedAnswer", "WebhookRefused"]


class BoxOfficeClientError(Exception):
    """Base of all errors of this package."""

    key: str | None = None
    """The idempotency key of the call. Another call with it and the same body goes on where this one ended; another key
    may buy twice."""

    request_id: str | None = None
    """Names the call in the log of boxoffice, all its attempts alike."""


class ProblemError(BoxOfficeClientError):
    """A refusal (RFC 9457). Of a type that this version does not know, it is this class itself."""

    type: ClassVar[str] = "about:blank"
    """As in `problem["type"]`, for each class its own."""

    def __init__(self, problem: Mapping[str, Any], status: int, retry_after_s: float | None = None) -> None:
        """`problem` is the body of the answer, `status` its HTTP status, `retry_after_s` seconds from its header."""
        super().__init__(str(problem.get("detail") or problem.get("title") or status))
        self.problem = problem
        self.status = status
        self.retry_after_s = retry_after_s

    @property
    def slug(self) -> str:
        """The last word of the type, as in `sold-out`."""
        return str(self.problem.get("type", "")).rpartition("/")[2]


class Unanswered(BoxOfficeClientError):
    """Nobody answered until the deadline. Whether it was done is not known: the same call with the same `key` finds out."""


class UnexpectedAnswer(BoxOfficeClientError):
    """The answer is neither what the API describes nor a problem."""

    def __init__(self, status: int, text: str) -> None:
        """`text` is its first 500 characters."""
        super().__init__(f"{status}: {text}")
        self.status = status
        self.text = text


class StillPending(BoxOfficeClientError):
    """The booking is not final yet. `pending` is an answer: it will be."""

    def __init__(self, booking: Mapping[str, Any]) -> None:
        """`booking` is the booking as it was read last."""
        super().__init__(f"booking {booking.get('id')} is still {booking.get('status')}")
        self.booking = booking


class WebhookRefused(BoxOfficeClientError):
    """The webhook is not signed with any of the secrets, or its time is too far from now. Answer it with 400."""
