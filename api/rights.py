"""Who may call a route: the scope that its API key needs, and whose the things are that it names.

One table, by the names of the operations. The lane, the fast path and the routes all look here, and the application does not
start with a route that stands nowhere in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Any, Final

from fastapi.routing import APIRoute
from msgspec import Struct

from boxoffice.access.scopes import BOOK, BROWSE, MANAGE, OPS, READ, REFUND, Caller

__all__ = ["RIGHTS", "Owner", "Right", "check_declared", "is_operators", "routes_of", "scope_of"]


class Owner(Enum):
    """Whose the things are that a route names. Of anybody else's it says 404, so that ids tell nothing."""

    NOBODY = "nobody's: it needs no API key"
    SELLER = "events that the client owns, or that are shared with it"
    OWNER = "events of the client alone, also those that are shared with others"
    BOOKER = "bookings of the client"
    SHOP = "endpoints of the client"
    EVERY = "every shop's: it is for operators"


class Right(Struct, frozen=True):
    """What a route asks of its caller."""

    scope: str | None
    """None: no API key is needed."""
    owner: Owner
    operators: bool = False
    """An operator's key, of scope `ops`, may call it, too, about every shop's events."""


_PUBLIC: Final = Right(None, Owner.NOBODY)

RIGHTS: Final[dict[str, Right]] = {
    "list_events": Right(BROWSE, Owner.SELLER),
    "read_event": Right(BROWSE, Owner.SELLER),
    "book": Right(BOOK, Owner.SELLER),
    "list_bookings": Right(READ, Owner.BOOKER),
    "read_booking": Right(READ, Owner.BOOKER),
    "read_feed": Right(READ, Owner.BOOKER),
    "pay": Right(BOOK, Owner.BOOKER),
    "change_items": Right(BOOK, Owner.BOOKER),
    "extend": Right(BOOK, Owner.BOOKER),
    "cancel": Right(BOOK, Owner.BOOKER),
    "refund": Right(REFUND, Owner.BOOKER),
    "list_refunds": Right(READ, Owner.BOOKER),
    "read_refund": Right(READ, Owner.BOOKER),
    "stream_booking": Right(READ, Owner.BOOKER),
    "stream_event": Right(BROWSE, Owner.SELLER),
    **dict.fromkeys(
        (
            "change_event",
            "pause_event",
            "resume_event",
            "call_off_event",
            "read_call_off",
            "change_tier",
            "list_changes",
        ),
        Right(MANAGE, Owner.OWNER, operators=True),
    ),
    **dict.fromkeys(
        (
            "create_event",
            "postpone_event",
            "add_tier",
            "create_codes",
            "list_codes",
            "revoke_code",
            "create_allocation",
            "list_allocations",
            "read_allocation",
            "change_allocation",
            "release_allocation",
        ),
        Right(MANAGE, Owner.OWNER),
    ),
    **dict.fromkeys(
        (
            "create_webhook_endpoint",
            "list_webhook_endpoints",
            "read_webhook_endpoint",
            "change_webhook_endpoint",
            "delete_webhook_endpoint",
            "rotate_webhook_secret",
            "list_webhook_deliveries",
            "redeliver_webhooks",
        ),
        Right(MANAGE, Owner.SHOP),
    ),
    **dict.fromkeys(
        (
            "read_session",
            "read_figures",
            "read_alerts",
            "find_bookings",
            "read_dossier",
            "cancel_at_desk",
            "refund_at_desk",
            "list_parked",
            "retry_parked",
            "fail_parked",
            "read_sale",
            "reconcile_event",
            "read_deeds",
            "start_rush",
            "read_rush",
        ),
        Right(OPS, Owner.EVERY),
    ),
    "sign_in": _PUBLIC,  # the key is in its body
    "sign_out": _PUBLIC,
    "hear": _PUBLIC,  # a gateway's signature is its key
    "healthz": _PUBLIC,
    "readyz": _PUBLIC,
    "openapi_json": _PUBLIC,
    "docs": _PUBLIC,
    "root": _PUBLIC,
    "docs_file": _PUBLIC,
    "ops_page": _PUBLIC,  # files alone: whoever opens it has to sign in
    "ops_asset": _PUBLIC,
    "ops_vendor": _PUBLIC,
    "action": _PUBLIC,  # a customer's, at the simulated bank
    "act": _PUBLIC,
}
"""By the name of the operation."""


def scope_of(route: str) -> str:
    """The scope that a route needs. Raises `LookupError` for one that is not declared, or that needs no API key."""
    scope = RIGHTS[route].scope
    if scope is None:
        raise LookupError(f"{route} needs no API key")
    return scope


def is_operators(route: str, caller: Caller) -> bool:
    """Whether the caller is an operator to this route: events of every shop are his."""
    return RIGHTS[route].operators and OPS in caller.scopes


def routes_of(routes: Iterable[Any]) -> Iterator[APIRoute]:
    """Every route of an application, those of its routers among them."""
    for included in routes:
        router = getattr(included, "original_router", None)
        for route in [included] if router is None else router.routes:
            if isinstance(route, APIRoute):
                yield route


def check_declared(routes: Iterable[Any]) -> None:
    """Raises `LookupError` for routes that declare nothing."""
    if missing := sorted({route.name for route in routes_of(routes)} - RIGHTS.keys()):
        raise LookupError(f"api/rights.py does not say who may call {', '.join(missing)}")
