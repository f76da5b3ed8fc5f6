"""Errors as shops read them (RFC 9457). The one table of statuses, types and titles; `docs/errors.md` explains each.

One file because an answer to an error and its line in the log are made from one table.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextvars import Context
from itertools import cycle
from typing import Any, Final, NamedTuple

import msgspec
from redis.exceptions import RedisError

from api import quiet
from api.rates import refusal_headers
from api.transport.head import Unreadable
from api.transport.reply import NO_STORE, Header, Reply
from boxoffice import errors
from boxoffice.gateway.webhooks import WebhookMalformed, WebhookRefused
from boxoffice.telemetry.request_id import now as request_in_hand
from boxoffice.telemetry.seldom import seldom

__all__ = [
    "HTTP_PROBLEMS",
    "PROBLEMS",
    "Problem",
    "body_too_large",
    "crowded",
    "not_ready",
    "of_error",
    "of_status",
    "overloaded",
    "unexpected",
    "unreadable",
]

OVERLOADED: Final = "More is asked for than can be answered in time; nothing was done."

OF_A_CLIENT: Final = 50
"""Lines about refusals of one kind, route and client in ten seconds; all further ones share one."""

NAMED_MAX: Final = 10
"""Ids of requests in a line that they share."""


class Problem(NamedTuple):
    """How one kind of error is rendered."""

    status: int
    slug: str
    title: str

    @property
    def type(self) -> str:
        """The stable URI (relative to the API) that names the kind."""
        return f"/problems/{self.slug}"


PROBLEMS: Final[dict[type[errors.BoxOfficeError], Problem]] = {
    errors.Malformed: Problem(400, "malformed-request", "The request is malformed"),
    errors.CardDataRefused: Problem(422, "card-data-not-accepted", "A card number stands where none may be"),
    WebhookRefused: Problem(400, "webhook-refused", "The webhook is not signed by the gateway"),
    WebhookMalformed: Problem(400, "webhook-malformed", "The webhook cannot be read"),
    errors.Unauthorized: Problem(401, "unauthorized", "No valid API key"),
    errors.Forbidden: Problem(403, "forbidden", "The API key may not be used for this"),
    errors.NotFound: Problem(404, "not-found", "There is no such thing"),
    errors.SoldOut: Problem(409, "sold-out", "Not enough tickets are left"),
    errors.SaleClosed: Problem(409, "sale-closed", "Not on sale"),
    errors.SaleNotOpen: Problem(409, "sale-not-open", "The sale has not begun"),
    errors.SalePaused: Problem(409, "sale-paused", "The sale is paused"),
    errors.AccessCodeInvalid: Problem(403, "access-code-invalid", "The access code does not let this booking in"),
    errors.AccessCodeRequired: Problem(403, "access-code-required", "These tickets need an access code"),
    errors.AccessCodeUsedUp: Problem(409, "access-code-used-up", "Too few tickets are left of the access code"),
    errors.BookingLimit: Problem(409, "booking-limit", "A booking may not have so many tickets, or so few"),
    errors.CustomerLimit: Problem(409, "customer-limit", "The customer may not have so many tickets, or so few"),
    errors.UnpaidLimit: Problem(429, "unpaid-limit", "Too many tickets are held and not paid for"),
    errors.RateLimited: Problem(429, "rate-limited", "Too many requests"),
    errors.TooManyStreams: Problem(429, "too-many-streams", "Too many streams are open"),
    errors.TooManyWaits: Problem(429, "too-many-waits", "Too many requests wait"),
    errors.DeclinedTooOften: Problem(429, "declined-too-often", "Too many payments were declined"),
    errors.PriceChanged: Problem(409, "price-changed", "The price has changed"),
    errors.PriceOutdated: Problem(409, "price-changed", "The price has changed"),
    errors.KeyReused: Problem(422, "idempotency-key-reused", "The idempotency key was used for another request"),
    errors.PaymentInProgress: Problem(409, "payment-in-progress", "A payment is under way"),
    errors.HoldEnded: Problem(409, "hold-ended", "The booking is no longer held"),
    errors.TooManyAttempts: Problem(409, "too-many-attempts", "No payment attempts are left"),
    errors.AlreadyExtended: Problem(409, "already-extended", "The hold was extended before"),
    errors.TooManyChanges: Problem(409, "too-many-changes", "No changes are left"),
    errors.NotCancellable: Problem(409, "not-cancellable", "The booking cannot be cancelled"),
    errors.NothingOwed: Problem(409, "nothing-owed", "No refund was refused"),
    errors.RefundOwed: Problem(409, "refund-owed", "An earlier refund of these tickets is owed"),
    errors.RefundTooLarge: Problem(409, "refund-too-large", "More than was captured"),
    errors.CursorGone: Problem(410, "cursor-gone", "Nothing can be read behind this cursor"),
    errors.EventChanged: Problem(412, "event-changed", "The event was changed meanwhile"),
    errors.EventCalledOff: Problem(409, "event-called-off", "The event is called off"),
    errors.NotDone: Problem(409, "not-done", "This cannot be done now"),
    errors.GateClosed: Problem(503, "gate-closed", "The sale's counters are being loaded"),
    errors.RunUnchecked: Problem(503, "gate-closed", "The sale's counters are being loaded"),
    errors.StoreAway: Problem(503, "store-away", "A store does not answer"),
    errors.Overloaded: Problem(503, "overloaded", "More is asked for than can be answered"),
    errors.StreamsFull: Problem(503, "streams-full", "No more streams here"),
    errors.Busy: Problem(503, "busy", "Too many bookings are waiting"),
}
"""What a request may raise. Whatever is not here is a bug, and told as one."""

HTTP_PROBLEMS: Final[dict[int | str, Problem]] = {
    404: Problem(404, "not-found", "There is no such thing"),
    405: Problem(405, "method-not-allowed", "The method is not allowed here"),
    400: PROBLEMS[errors.Malformed],
    408: Problem(408, "request-timeout", "The request did not arrive in time"),
    431: Problem(431, "head-too-large", "The head of the request is too large"),
    "crowded": Problem(503, "too-many-connections", "Too many connections are open"),
    500: Problem(500, "internal-error", "Something went wrong here"),
    503: Problem(503, "not-ready", "Not ready to serve"),
}
"""What the door itself says, by status, or by word where two have one status."""

_PROBLEM: Final[Header] = (b"content-type", b"application/problem+json")

_json = msgspec.json.Encoder().encode


def of_error(error: errors.BoxOfficeError, request_id: bytes = b"", **context: str) -> Reply:
    """The answer to an error, and its line in the log. `context` and `request_id`, or else this task's, say whose it was.

    Bookings of one admission call that are refused alike are handed the same error: they share answer and line.
    """
    name = request_id or request_in_hand()
    who = id(error), context.get("client")
    rendered = _rendered.get(who)
    if rendered is not None:
        rendered.requests.append(name)
        return rendered.reply
    problem = PROBLEMS.get(type(error))
    if problem is None:
        return unexpected(error, name)
    rendered = _Rendered(error, _reply_to(error, problem), problem, {**context, **_learnt(error)}, [name])
    # One that was raised is nobody else's.
    if error.__traceback__ is not None or not (_rendered or _soon(_say)):
        rendered.say()
    else:
        _rendered[who] = rendered
    return rendered.reply


class _Rendered:
    """An error, the answer to it, and which requests got it in this turn of the loop."""

    __slots__ = ("_fields", "_problem", "error", "reply", "requests")

    def __init__(
        self,
        error: errors.BoxOfficeError,
        reply: Reply,
        problem: Problem,
        fields: dict[str, Any],
        requests: list[bytes],
    ) -> None:
        self.error = error
        self.reply = reply
        self.requests = requests
        self._problem = problem
        self._fields = fields

    def say(self) -> None:
        """Its line in the log. A sold-out rush refuses ten thousand a second."""
        slug, client = self._problem.slug, str(self._fields.get("client") or "")
        # Nobody we know: whoever can reach us could fill a disk. A shop can too, but some of each kind it needs to see.
        kind = (slug, str(self._fields.get("route")), client)
        lines = OF_A_CLIENT if client or self._problem.status >= 500 else 1
        level = "warning" if self._problem.status == 503 else "info"
        quiet.say(
            "request.refused", kind, lines=lines, level=level, requests=len(self.requests), type=slug,
            status=self._problem.status, **self._fields, **_named(self.requests),
        )  # fmt: skip


_rendered: Final[dict[tuple[int, str | None], _Rendered]] = {}
"""By the error's identity and whose requests they were, until the end of this turn of the loop."""


def _named(requests: list[bytes]) -> dict[str, Any]:
    """Whose line it is, in it: one that many requests share names the first of them."""
    names = [name.decode() for name in requests[:NAMED_MAX] if name]
    if len(requests) == 1:
        return {"request_id": names[0]} if names else {}
    return {"request_ids": " ".join(names)} if names else {}


def _soon(say: Callable[[], None]) -> bool:
    """Whether it will be said what is told in this turn."""
    try:
        # In nobody's name: it is said of many requests.
        asyncio.get_running_loop().call_soon(say, context=Context())
    except RuntimeError:
        return False
    return True


def _say() -> None:
    rendered = list(_rendered.values())
    _rendered.clear()
    for each in rendered:
        each.say()


def _reply_to(error: errors.BoxOfficeError, problem: Problem) -> Reply:
    headers: list[Header] = []
    details = dict(error.details)
    retry_after = details.pop("retry_after_s", 1 if problem.status == 503 else 0)
    if retry_after:
        details["retry_after"] = retry_after
        headers.append((b"retry-after", b"%d" % retry_after))
    if isinstance(error, errors.RateLimited):
        headers += refusal_headers(error)
    if problem.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return _reply(problem, error.detail, details, headers)


def _learnt(error: errors.BoxOfficeError) -> dict[str, Any]:
    """What of an error goes into the log: where it was, never what was sent."""
    learnt: dict[str, Any] = {
        name: error.details[name] for name in ("errors", "reason", "booking_id", "whose") if name in error.details
    }
    if isinstance(error, errors.RateLimited) and error.key_prefix:
        learnt["key_prefix"] = error.key_prefix
    if isinstance(error, errors.StoreAway) and error.__cause__ is not None:
        # By its name and number only: the sentence of a store may hold data.
        learnt["cause"] = f"{type(error.__cause__).__name__} {getattr(error.__cause__, 'sqlstate', None) or ''}".strip()
    return learnt


def unreadable(why: Unreadable, request_id: bytes) -> Reply:
    """What arrived is no request that we read."""
    status, code, header = why.status, why.code, why.header
    problem = HTTP_PROBLEMS[status]
    quiet.say(
        "request.unreadable", (code, header), type=problem.slug, status=status, code=code, header=header,
        **_named([request_id]),
    )  # fmt: skip
    where = {"header": header, "code": code} if header else {"code": code}
    return _reply(
        problem, _UNREADABLE.get(code, "A header is missing, malformed or there twice."), {"errors": [where]}, []
    )


_UNREADABLE: Final = {
    "request_line": "The first line is not that of an HTTP/1.1 request for a path of ours.",
    "http_version": "We speak HTTP/1.1 and HTTP/1.0.",
    "header": "A line of the head is not a header.",
    "too_large": "The head has more bytes or more lines than we read.",
    "framing": "Where the body ends is not said, or said in two ways.",
    "body_too_large": "The body has more bytes than we read.",
    "incomplete": "The connection ended before the request was whole.",
    "timeout": "The rest of the request did not come in time.",
}


def body_too_large(most: int, request_id: bytes) -> Reply:
    """Refused while it is still arriving, whoever sends it."""
    error = errors.Malformed(f"The body has more than {most} bytes.", code="body_too_large")
    return of_error(error, request_id, route="")


def crowded(request_id: bytes) -> Reply:
    """No more connections."""
    quiet.say("connection.refused", (), type="too-many-connections", **_named([request_id]))
    detail = "As many connections are open as may be."
    return _reply(HTTP_PROBLEMS["crowded"], detail, {"retry_after": 1}, [(b"retry-after", b"1")])


def overloaded(request_id: bytes) -> Reply:
    """Of a request for which there is no time, in a flood. They are to come again after 1, 2 and 3 s in turn: together they
    would be the next flood. Those of one turn share a line."""
    global _to_overloaded
    if _to_overloaded is None:
        _to_overloaded = cycle([_overloaded(retry_after_s) for retry_after_s in (1, 2, 3)])
    if not _sent_away and not _soon(_say_sent_away):
        quiet.say("request.shed", (), type="overloaded", **_named([request_id]))
    else:
        _sent_away.append(request_id)
    return next(_to_overloaded)


def _overloaded(retry_after_s: int) -> Reply:
    again = [(b"retry-after", b"%d" % retry_after_s)]
    return _reply(PROBLEMS[errors.Overloaded], OVERLOADED, {"retry_after": retry_after_s}, again)


_to_overloaded: Iterator[Reply] | None = None

_sent_away: Final[list[bytes]] = []
"""Requests that were told so in this turn of the loop."""


def _say_sent_away() -> None:
    names = list(_sent_away)
    _sent_away.clear()
    quiet.say("request.shed", (), type="overloaded", requests=len(names), **_named(names))


def unexpected(error: BaseException, request_id: bytes = b"") -> Reply:
    """A bug. The log has it all, the answer nothing. A store that refused what nobody foresaw is asked again later."""
    name = request_id or request_in_hand()
    seldom.exception("request.failed", error, **_named([name]))
    if isinstance(error, RedisError):
        return of_error(errors.StoreAway("Redis refused the request."), name)
    return of_status(500, "This is our mistake, and it is in our log.")


def of_status(status: int, detail: str, headers: Iterable[Header] = ()) -> Reply:
    """What the door itself says: no such path, no such method."""
    problem = HTTP_PROBLEMS.get(status) or Problem(status, "malformed-request", "The request is malformed")
    return _reply(problem, detail, {}, list(headers))


def not_ready(reasons: dict[str, str]) -> Reply:
    """503 with what is missing."""
    return _reply(
        HTTP_PROBLEMS[503], "Not ready to serve.", {"reasons": reasons, "retry_after": 1}, [(b"retry-after", b"1")]
    )


def _reply(problem: Problem, detail: str, details: dict[str, Any], headers: list[Header]) -> Reply:
    body = _json({"type": problem.type, "title": problem.title, "status": problem.status, "detail": detail, **details})
    return Reply(problem.status, body, [_PROBLEM, NO_STORE, *headers], names_request=True)
