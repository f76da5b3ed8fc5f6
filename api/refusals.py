"""What the documentation says of refusals: for each route its problems by status, each with an example and its headers."""

from __future__ import annotations

from typing import Any, Final

from api.problem_schemas import BY_SLUG, of_slugs
from api.problems import Problem

__all__ = ["HEADERS", "problem_responses", "with_headers"]

HEADERS: Final[dict[str, dict[str, Any]]] = {
    "Allow": {"description": "Methods that there are.", "schema": {"type": "string"}},
    "Cache-Control": {
        "required": True,
        "description": "How long this may be kept, and by whom (RFC 9111).",
        "schema": {"type": "string"},
    },
    "Content-Location": {
        "description": "The booking that this is, when its idempotency key had been used before by another.",
        "schema": {"type": "string"},
    },
    "ETag": {
        "description": "Names this state, for `If-None-Match`. An event's begins with its version: it may be an `If-Match`.",
        "schema": {"type": "string"},
    },
    "Idempotency-Replayed": {
        "description": "`true`: the key was used before, and this is the answer to its first use.",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "Preference-Applied": {
        "description": "`wait=N`: it was waited for, up to so many seconds (`Prefer: wait=N`).",
        "schema": {"type": "string"},
    },
    "Location": {"description": "Where the booking can be read.", "schema": {"type": "string"}},
    "RateLimit": {
        "description": "What is left of a limit: `r` more until its window ends in `t` seconds.",
        "schema": {"type": "string"},
    },
    "RateLimit-Policy": {
        "description": "The limits: `q` in a window of `w` seconds, of the API key and of one customer.",
        "schema": {"type": "string"},
    },
    "Retry-After": {"description": "Seconds until it makes sense to ask again.", "schema": {"type": "integer"}},
    "X-Request-Id": {
        "required": True,
        "description": "The id that the request came with, the trace of its `traceparent`, or a new one.",
        "schema": {"type": "string"},
    },
    "WWW-Authenticate": {"description": "`Bearer`: an API key is needed.", "schema": {"type": "string"}},
}
"""Every header that an answer of ours may have, but for those that say no more than that it is HTTP."""

_DESCRIPTIONS: Final = {
    400: "Something is missing or malformed: `errors` says where.",
    401: "The API key is missing, unknown, revoked or expired.",
    403: "The API key lacks the route's `scope`, or is not for pages of this origin; or the access code does not let in.",
    404: "There is no such thing, or it is not yours.",
    409: "The sale says no, or the booking is not in a state for this.",
    408: "The request did not arrive in time; nothing was done.",
    410: "Nothing can be read behind the cursor any more.",
    412: "It is not of the version that `If-Match` names: read it again.",
    422: "The idempotency key was used with another request, or a card number stands where none may be.",
    429: "Too much is asked for, held and not paid for, or declined. Ask again after `Retry-After` seconds.",
    431: "The head of the request is too large.",
    500: "Our mistake.",
    503: "Nobody can say now. Ask again after `Retry-After` seconds, with the same key.",
}

_HEADED: Final = {
    401: ("WWW-Authenticate",), 405: ("Allow",), 429: ("Retry-After", "RateLimit", "RateLimit-Policy"), 503: ("Retry-After",),
}  # fmt: skip

_TIER: Final = "5mzr2k9c1b7d"

_MEMBERS: Final[dict[str, dict[str, Any]]] = {
    "malformed-request": {"errors": [{"pointer": "/items/0/quantity", "code": "out_of_range"}]},
    "card-data-not-accepted": {"errors": [{"pointer": "/reference", "code": "card_data"}]},
    "idempotency-key-reused": {"booking_id": "01a2289d-1441-7000-936f-ca3c86615eea"},
    "forbidden": {"scope": "refund"},
    "request-timeout": {"errors": [{"code": "timeout"}]},
    "head-too-large": {"errors": [{"code": "too_large"}]},
    "access-code-invalid": {"reason": "unknown"},
    "access-code-used-up": {"left": 1},
    "sold-out": {
        "shortfall": [{"tier_id": _TIER, "code": "VIP", "requested": 2, "available": 1, "may_return": True}],
        "may_return": True,
        "retry_after": 15,
    },
    "sale-closed": {"reason": "tier", "tier_id": _TIER},
    "sale-not-open": {"opens_at": "2030-05-01T10:00:00.000Z"},
    "cursor-gone": {"reason": "trimmed"},
    "event-changed": {"version": 7},
    "booking-limit": {"least": 2, "limit": 4, "tier_id": _TIER, "code": "VIP"},
    "customer-limit": {"held": 3, "limit": 4, "may_take": 1, "tier_id": _TIER, "code": "VIP"},
    "unpaid-limit": {"whose": "customer", "held": 38, "limit": 40, "retry_after": 15},
    "rate-limited": {"whose": "customer", "limit": 300, "window_s": 10, "retry_after": 7},
    "too-many-waits": {"limit": 128, "retry_after": 1},
    "declined-too-often": {"whose": "customer", "retry_after": 420},
    "price-changed": {"amount_cents": 9800, "currency": "USD"},
    "payment-in-progress": {"retry_after": 2},
    "hold-ended": {"booking_status": "expired"},
    "too-many-attempts": {"attempts": 5},
    "too-many-changes": {"limit": 50},
    "already-extended": {"expires_at": "2030-05-22T14:20:00.000Z"},
    "not-cancellable": {"booking_status": "expired"},
    "refund-owed": {"tier_id": _TIER, "owed_cents": 4900},
    "refund-too-large": {"tier_id": _TIER, "requested": 2, "refundable": 1},
    "gate-closed": {"retry_after": 1},
    "store-away": {"retry_after": 1},
    "busy": {"retry_after": 2},
    "streams-full": {"retry_after": 5},
    "too-many-streams": {"whose": "key", "limit": 2048, "retry_after": 5},
    "overloaded": {"retry_after": 1},
    "too-many-connections": {"retry_after": 1},
    "not-ready": {"retry_after": 1, "reasons": {"redis": "It does not answer (ConnectionError)."}},
}
"""What a problem has beside type, title, status and detail, as an example."""


_ANYWHERE: Final = (
    "malformed-request",
    "request-timeout",
    "head-too-large",
    "too-many-connections",
    "overloaded",
    "internal-error",
)


def with_headers(*names: str) -> dict[str, Any]:
    """Headers of an answer; each says how it may be cached."""
    return {
        name: {"$ref": f"#/components/headers/{name}"} for name in sorted({"Cache-Control", "X-Request-Id", *names})
    }


SALE_REFUSES: Final = (
    "sold-out", "sale-closed", "sale-not-open", "sale-paused", "access-code-invalid", "access-code-required",
    "access-code-used-up",
)  # fmt: skip
"""Why tickets are not to be had, whoever asks for them: to book them, or to have them in a hold."""

RULES_REFUSE: Final = ("booking-limit", "customer-limit", "unpaid-limit", "price-changed")
"""Why this customer or this shop does not get them: so many, or at such a price."""


def problem_responses(*slugs: str) -> dict[int | str, dict[str, Any]]:
    """What a route may refuse with, by status: wherever there is an API key, it may lack its scope, or ask too
    often; a parameter that there is not, what the connection refuses, and a mistake of ours are always possible."""
    documented: dict[int | str, dict[str, Any]] = {}
    if "unauthorized" in slugs:
        slugs = (*slugs, "forbidden", "rate-limited")
    for slug in dict.fromkeys((*slugs, *_ANYWHERE)):
        problem = BY_SLUG[slug]
        response = documented.setdefault(problem.status, _response(problem.status))
        response["description"] += f" `{problem.type}`: {problem.title}."
        response["content"]["application/problem+json"]["examples"][slug] = {"value": _example(problem)}
        if "retry_after" in _MEMBERS.get(slug, {}):
            response["headers"] |= with_headers("Retry-After")
    for response in documented.values():
        content = response["content"]["application/problem+json"]
        content["schema"] = of_slugs(content["examples"])
    return documented


def _response(status: int) -> dict[str, Any]:
    content: dict[str, Any] = {"examples": {}}
    return {
        "description": _DESCRIPTIONS[status],
        "headers": with_headers(*_HEADED.get(status, ())),
        "content": {"application/problem+json": content},
    }


def _example(problem: Problem) -> dict[str, Any]:
    members = _MEMBERS.get(problem.slug, {})
    return {"type": problem.type, "title": problem.title, "status": problem.status, "detail": problem.title} | members
