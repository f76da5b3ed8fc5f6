"""What is asked of the feed, in the query."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from boxoffice.errors import Malformed
from boxoffice.notices.cursors import Cursor
from boxoffice.notices.types import NOTICE_TYPES
from boxoffice.settings import LimitSettings
from boxoffice.wire.parameters import bad_parameter, check_parameter
from boxoffice.wire.strict import may_be_named

__all__ = ["NOW", "PARAMETERS", "FeedRequest", "parse_feed"]

NOW: Final = "now"
"""In place of a cursor: the end of the feed."""

LIMIT: Final = 100
"""Notices of a page, unless the shop says otherwise."""

PARAMETERS: Final = ("after", "limit", "types", "wait")

_TYPES: Final = frozenset(NOTICE_TYPES)


class FeedRequest(Struct, frozen=True):
    """Which notices, how many, and how long to wait for the first."""

    after: Cursor | None = None
    """None: from the oldest that is kept."""
    from_now: bool = False
    types: tuple[str, ...] = ()
    """Empty for any; sorted."""
    limit: int = LIMIT
    wait_s: int = 0


def parse_feed(pairs: Sequence[tuple[str, str]], limits: LimitSettings) -> FeedRequest:
    """From the names and values of the query, in their order. Raises `Malformed`: for a parameter that there is not, that
    is there twice, or that cannot be."""
    given: dict[str, str] = {}
    for name, value in pairs:
        if name not in PARAMETERS:
            known = f"This route has no such parameter. There are: {', '.join(PARAMETERS)}."
            raise bad_parameter(known, name if may_be_named(name) else None, "unknown_parameter")
        if name in given:
            raise bad_parameter("This parameter is there twice.", name, "duplicate")
        given[name] = value
    for name, value in given.items():
        check_parameter(value, name, most=2_000)
    after = given.get("after")
    return FeedRequest(
        None if after in (None, NOW) else _cursor(str(after)),
        after == NOW,
        _types_of(given.get("types")),
        _number(given, "limit", LIMIT, 1, limits.feed_page_max),
        _number(given, "wait", 0, 0, limits.wait_max_s),
    )


def _cursor(text: str) -> Cursor:
    try:
        return Cursor.read(text)
    except Malformed:
        raise bad_parameter("This is no cursor of the feed.", "after", "cursor") from None


def _types_of(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    wanted = {name.strip() for name in text.split(",")}
    if not wanted <= _TYPES:
        raise bad_parameter("There is no such type of notice: docs/notices.md lists them.", "types", "unknown")
    return tuple(sorted(wanted))


def _number(given: dict[str, str], name: str, usual: int, least: int, most: int) -> int:
    text = given.get(name)
    if text is None:
        return usual
    if not (text.isascii() and text.isdigit()):
        raise bad_parameter("This parameter is a whole number.", name, "int_parsing")
    if len(text) > 9 or not least <= int(text) <= most:
        raise bad_parameter(f"This parameter is {least} to {most}.", name, "out_of_range")
    return int(text)
