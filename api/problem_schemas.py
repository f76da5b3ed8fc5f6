"""The body of each kind of problem, for the documentation: which members come with a type, always or sometimes.

A generated client gets a type for each, told apart by `type`, so that what a refusal says need not be looked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from api.problems import HTTP_PROBLEMS, PROBLEMS, Problem

__all__ = ["BY_SLUG", "MEMBERS", "name_of", "of_slugs", "problem_schemas"]

BY_SLUG: Final[dict[str, Problem]] = {
    problem.slug: problem for problem in (*HTTP_PROBLEMS.values(), *PROBLEMS.values())
}

_COMMON: Final = ("type", "title", "status", "detail")

MEMBERS: Final[dict[str, tuple[str, str]]] = {
    "malformed-request": ("errors", ""),
    "card-data-not-accepted": ("errors", ""),
    "request-timeout": ("errors", ""),
    "head-too-large": ("errors", ""),
    "forbidden": ("", "scope reason"),
    "not-found": ("", "pointer"),
    "idempotency-key-reused": ("booking_id", ""),
    "access-code-invalid": ("reason", ""),
    "access-code-used-up": ("left", ""),
    "sold-out": ("shortfall may_return", "retry_after"),
    "sale-closed": ("reason", "tier_id"),
    "sale-not-open": ("opens_at", ""),
    "cursor-gone": ("reason", ""),
    "event-changed": ("version", ""),
    "booking-limit": ("", "least limit tier_id code"),
    "customer-limit": ("held", "least limit may_take tier_id code"),
    "unpaid-limit": ("whose held limit retry_after", ""),
    "rate-limited": ("whose limit window_s retry_after", ""),
    "declined-too-often": ("whose retry_after", ""),
    "too-many-waits": ("limit retry_after", ""),
    "price-changed": ("currency", "amount_cents tier_id unit_price_cents"),
    "payment-in-progress": ("retry_after", ""),
    "hold-ended": ("booking_status", ""),
    "too-many-attempts": ("attempts", ""),
    "too-many-changes": ("limit", ""),
    "already-extended": ("expires_at", ""),
    "not-cancellable": ("booking_status", ""),
    "refund-owed": ("tier_id owed_cents", ""),
    "refund-too-large": ("tier_id requested refundable", ""),
    "gate-closed": ("retry_after", ""),
    "store-away": ("retry_after", ""),
    "busy": ("retry_after", ""),
    "overloaded": ("retry_after", ""),
    "too-many-connections": ("retry_after", ""),
    "not-ready": ("reasons retry_after", ""),
}
"""What a problem has beside type, title, status, detail and `request_id`: always, and sometimes. Others have nothing more."""


def name_of(slug: str) -> str:
    """What the schema of a kind of problem is called."""
    return re.sub(r"(?:^|-)(\w)", lambda found: found[1].upper(), slug) + "Problem"


def of_slugs(slugs: Iterable[str]) -> dict[str, Any]:
    """The schema of a body that is one of these."""
    names = {BY_SLUG[slug].type: f"#/components/schemas/{name_of(slug)}" for slug in slugs}
    if len(names) == 1:
        return {"$ref": next(iter(names.values()))}
    return {
        "oneOf": [{"$ref": reference} for reference in names.values()],
        "discriminator": {"propertyName": "type", "mapping": names},
    }


def problem_schemas(any_problem: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """A schema for each kind, with the members that it has of `any_problem`, the schema of them all."""
    return {name_of(problem.slug): _schema(problem, any_problem["properties"]) for problem in BY_SLUG.values()}


def _schema(problem: Problem, properties: dict[str, Any]) -> dict[str, Any]:
    always, sometimes = (words.split() for words in MEMBERS.get(problem.slug, ("", "")))
    names = [*_COMMON, *always, *sometimes, "request_id"]
    fixed = {"type": problem.type, "status": problem.status}
    return {
        "title": name_of(problem.slug),
        "description": f"{problem.title}.",
        "type": "object",
        "additionalProperties": False,
        "required": [*_COMMON, *always],
        "properties": {name: properties[name] | ({"const": fixed[name]} if name in fixed else {}) for name in names},
    }
