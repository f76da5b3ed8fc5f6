"""Where a customer may be sent after 3-D Secure: pages of the shop, by the list that an operator keeps for it.

A URL is read strictly and compared part by part. What a browser might read otherwise (a user before the host, a backslash, dots
in a path, a fragment) is refused, so that what is compared here is where the customer goes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple

from boxoffice.errors import CardDataRefused, Malformed
from boxoffice.telemetry.redaction import has_card_number

__all__ = ["ALLOWED_MAX", "check_allowed", "check_return_url"]

URL_MAX: Final = 500
"""Characters."""

ALLOWED_MAX: Final = 20
"""Of one shop: every process keeps them all."""

_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_WRITTEN_URL: Final = re.compile(
    rf"(?P<scheme>https?)://(?P<host>{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:]+\])(?::(?P<port>[1-9][0-9]{{0,4}}))?"
    r"(?P<path>/[A-Za-z0-9/._~%!$&'()*+,;=:@-]*)?(?P<query>\?[A-Za-z0-9/._~%!$&'()*+,;=:@?-]*)?"
)
_PORTS: Final = {"http": "80", "https": "443"}
_PORT_MAX: Final = 65_535
_LOOPBACK: Final = re.compile(r"localhost|127(?:\.[0-9]{1,3}){3}|\[::1\]")
_ODD_PATH: Final = re.compile(r"(?:^|/)(?:\.|%2e){1,2}(?:[/;]|%3b|$)|//|%2f|%5c", re.IGNORECASE)
"""Dots for a part, also before its parameters, which some servers cut off before they walk the path."""

_ODD_ESCAPE: Final = re.compile(r"%[01][0-9a-f]|%7f|%(?![0-9a-f]{2})", re.IGNORECASE)
"""A control character, such as the end of a line in a header, or none at all."""

_PLACES_MAX: Final = 4_096
"""Allowed URLs that a process keeps as they were read: those of some hundred shops."""


class _Place(NamedTuple):
    """What of a URL is compared."""

    scheme: str
    host: str
    port: str
    path: str
    query: bool


def check_return_url(url: str, allowed: Iterable[str], pointer: str = "/return_url") -> None:
    """Raises `Malformed` for what is no such URL, or begins with none of the allowed, and `CardDataRefused`."""
    place = _place_of(url, pointer)
    if not any(_begins(place, known) for each in allowed if (known := _allowed_place(each))):
        raise Malformed("This URL is none that the shop is allowed.", pointer=pointer, code="not_allowed")


def check_allowed(urls: list[str], pointer: str = "/allow") -> None:
    """What a shop may be allowed: each an origin, or one with the beginning of a path, which ends where one of its parts does.

    Raises `Malformed`.
    """
    if len(urls) > ALLOWED_MAX:
        raise Malformed(f"A shop is allowed up to {ALLOWED_MAX} URLs.", pointer=pointer, code="too_many")
    for at, url in enumerate(urls):
        if _place_of(url, f"{pointer}/{at}").query:
            raise Malformed("What is allowed has no query.", pointer=f"{pointer}/{at}", code="url")


@lru_cache(_PLACES_MAX)
def _allowed_place(url: str) -> _Place | None:
    """Read once: it is compared with the URL of each booking. None for one that an earlier version allowed and this one cannot
    read: it allows nothing, and the shop's others go on."""
    try:
        return _place_of(url, "/allow")
    except (Malformed, CardDataRefused):
        return None


def _place_of(url: str, pointer: str) -> _Place:
    if has_card_number(url):
        raise CardDataRefused(pointer=pointer)
    found = _WRITTEN_URL.fullmatch(url) if len(url) <= URL_MAX else None
    odd = _ODD_ESCAPE.search(url) or (found and _ODD_PATH.search(found["path"] or ""))
    if found is None or odd or int(found["port"] or 0) > _PORT_MAX:
        raise Malformed(
            f"A URL has up to {URL_MAX} characters: https://, a host in small letters, a port unless it is the usual one, "
            "a path without dots for its parts, and a query. It has no user, no fragment and no control character.",
            pointer=pointer, code="url",
        )  # fmt: skip
    scheme, host = found["scheme"], found["host"]
    if scheme == "http" and not _LOOPBACK.fullmatch(host):
        raise Malformed("A URL is https, unless its host is this very machine.", pointer=pointer, code="url")
    return _Place(scheme, host, found["port"] or _PORTS[scheme], found["path"] or "/", found["query"] is not None)


def _begins(place: _Place, allowed: _Place) -> bool:
    """The same scheme, host and port, and a path at or below."""
    if place[:3] != allowed[:3]:
        return False
    return place.path == allowed.path or place.path.startswith(f"{allowed.path.rstrip('/')}/")
