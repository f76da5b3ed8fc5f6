"""What an API key may be used for: its scopes, and the shop that it speaks for."""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

from boxoffice.access.rates import FREE, Allowance
from boxoffice.errors import Forbidden, Malformed

__all__ = [
    "BOOK",
    "BROWSE",
    "MANAGE",
    "OPS",
    "READ",
    "REFUND",
    "SCOPES",
    "USUAL",
    "Caller",
    "check_origin",
    "scopes_of",
]

BROWSE: Final = "browse"
READ: Final = "read"
BOOK: Final = "book"
REFUND: Final = "refund"
MANAGE: Final = "manage"
OPS: Final = "ops"

SCOPES: Final = {
    BROWSE: "see events and what is left of them; safe in a web page, with the page's origin",
    READ: "see the shop's bookings, and list them",
    BOOK: "book, hold, pay, extend and cancel",
    REFUND: "refund bookings",
    MANAGE: "change the shop's own events",
    OPS: "what operators do; no shop needs it",
}
"""In the order in which they are written. None includes another."""

USUAL: Final = (BROWSE, READ, BOOK, REFUND, MANAGE)
"""What a key may do when nobody says: all that a shop does."""


class Caller(Struct, frozen=True, gc=False):
    """Whose an API key is, and what it may be used for."""

    client: str
    scopes: frozenset[str]
    origins: frozenset[bytes] = frozenset()
    """Pages that may use it, as browsers name them in Origin; `*` is any. Empty: the key knows no pages."""
    return_url: str | None = None
    return_urls: tuple[str, ...] = ()
    """Of the shop: where its customers come back to from the bank, and what a booking may say instead."""
    allowance: Allowance = FREE
    """How often it may ask for bookings."""

    def check(self, scope: str, origin: bytes | None) -> None:
        """Raises `Forbidden` when the key lacks the scope, or is used by a page that it is not for."""
        if scope not in self.scopes:
            raise Forbidden(f"The API key has no scope {scope}.", scope=scope)
        if origin is not None and self.origins and not self.origins & {origin, b"*"}:
            raise Forbidden("The API key is not for pages of this origin.", reason="origin")


def scopes_of(names: tuple[str, ...]) -> tuple[str, ...]:
    """These scopes, each once, in their usual order. Raises `Malformed` for none, or one that there is not."""
    if not names or not SCOPES.keys() >= set(names):
        raise Malformed(f"A key has one scope or more of {', '.join(SCOPES)}.", pointer="/scopes", code="unknown")
    return tuple(scope for scope in SCOPES if scope in names)


_ORIGIN: Final = re.compile(
    r"(?P<scheme>https?)://([a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*|\[[0-9a-f:]+\])"
    r"(:(?P<port>[1-9][0-9]{0,4}))?"
)
_USUAL_PORTS: Final = {"http": "80", "https": "443"}
_PORT_MAX: Final = 65_535


def check_origin(origin: str, pointer: str = "/origins") -> None:
    """An origin as browsers write it, `https://shop.example:8443`, or `*`. Raises `Malformed`."""
    if origin != "*" and not _is_origin(origin):
        raise Malformed(
            "An origin is a scheme and a host in small letters, such as https://shop.example, with a port unless it is the "
            "usual one, and no path.",
            pointer=pointer,
        )


def _is_origin(origin: str) -> bool:
    found = _ORIGIN.fullmatch(origin)
    if found is None:
        return False
    port = found["port"]
    return port is None or (port != _USUAL_PORTS[found["scheme"]] and int(port) <= _PORT_MAX)
