"""What PostgreSQL is asked for a page of a list: a bounded part of one index, whatever the filter. Statements, no I/O."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from boxoffice.bookings.rows import SELECT
from boxoffice.wire.parameters import bad_parameter

__all__ = [
    "CREATED",
    "IN_ORDER",
    "LOOKED_AT",
    "OVER",
    "UPDATED",
    "Query",
    "by_change",
    "by_key",
    "by_lead",
    "cursor_of",
    "place_after",
    "place_of",
]

CREATED: Final = "created"
UPDATED: Final = "updated"
"""The orders of a list: by when a booking was made, the newest first; by when it changed last, the oldest change first."""


class Query(NamedTuple):
    """What PostgreSQL is asked for one page of a list."""

    page: str
    values: list[Any]
    last: str
    """Asks for the place of the last booking among which the page is looked for, when there are so many. Empty: few."""
    bounds: list[Any]
    """Its values."""
    order: str = CREATED
    as_of: datetime | None = None
    """Of a list by change: every change before it is in the list, up to its last page."""


_PAGE = f"""
{SELECT.replace("FROM bookings b", "FROM ({}) b")}
ORDER BY {{}}
"""
"""The page first, and only of what is on it items and payments."""

LOOKED_AT: Final = 5_000
"""Bookings among which one page is looked for. They take some milliseconds."""

_LEADS: Final = (
    (("client_id", "reference"), "reference IS NOT NULL"),
    (("customer_id", "client_id"), "true"),
    (("event_id", "client_id"), "true"),
    (("client_id", "status"), "status <> 'confirmed'"),
    (("client_id",), "true"),
)
"""What the indexes begin with that have bookings by id behind it, and the condition of those that have only some. What is
confirmed has none of its own, for which every sale would have to pay."""

IN_ORDER: Final = "".join(
    f"SET LOCAL {what} = off; " for what in ("enable_seqscan", "enable_bitmapscan", "enable_sort", "enable_incremental_sort")
)  # fmt: skip
"""PostgreSQL takes bookings by id for scattered over the table, and would rather read all of it."""


def by_lead(chosen: Mapping[str, str], after: str | None, limit: int, since: datetime | None = None) -> Query:
    """A page is looked for among the next `LOOKED_AT` bookings that one index has in order. So it reads no more, whatever
    the filter, and may be a short one.

    Where in the index to begin and to end is told by comparing rows. Were PostgreSQL told that the first columns are the
    same in all of them, it would take the primary key instead, and read everybody's.
    """
    lead, some = next(
        (lead, some) for lead, some in _LEADS
        if chosen.keys() >= set(lead) and ("status" not in lead or chosen["status"] != "confirmed")
    )  # fmt: skip
    bounds: list[Any] = [chosen[column] for column in lead]
    names, marks = ", ".join(lead), ", ".join(f"${at}" for at in range(1, len(lead) + 1))
    # One bound each way: of two, PostgreSQL may begin at the farther one.
    within = f"{some} AND ROW({names}) >= ROW({marks}) AND "
    if after is None:
        within += f"ROW({names}) <= ROW({marks})"
    else:
        bounds.append(after)
        within += f"ROW({names}, id) < ROW({marks}, ${len(bounds)}::uuid)"
    order = "ORDER BY " + ", ".join(f"{column} DESC" for column in (*lead, "id"))
    others, values = _others(chosen, lead, bounds, since)
    page = f"SELECT * FROM bookings WHERE {within} {order} LIMIT {LOOKED_AT}"
    page = f"SELECT * FROM ({page}) latest WHERE {others} {order} LIMIT {limit + 1}"
    last = f"SELECT id::text AS last FROM bookings WHERE {within} {order} OFFSET {LOOKED_AT - 1} LIMIT 1"
    return Query(_PAGE.format(page, "b.id DESC"), values, last, bounds)


OVER: Final = """
SELECT least(now() - interval '100 milliseconds', min(xact_start)) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
  AND (backend_xid IS NOT NULL OR xact_start > now() - interval '1 minute')
"""
"""No transaction that began before writes anything any more. A booking changes at the time at which its transaction began, and
shows when that commits: a page that went further would be passed by changes behind it. What has read for longer than a minute
and written nothing (a dump) is nobody to wait for. That a transaction has begun is seen by others a moment after: they have a
tenth of a second for that."""


def by_change(
    chosen: Mapping[str, str], after: str | None, limit: int, since: datetime | None, over: datetime
) -> Query:
    """A client's bookings in the order of their last change, from `since` on and before `over` (see `OVER`). It reads as much
    as `by_lead`. A booking that changes meanwhile moves behind all of them: it is never passed over, and comes once more."""
    at, booking = (since or _EPOCH, str(UUID(int=0))) if after is None else _parts(after)
    bounds: list[Any] = [chosen["client_id"], at, booking, over]
    within = "ROW(client_id, updated_at, id) > ROW($1, $2::timestamptz, $3::uuid) AND "
    within += "ROW(client_id, updated_at) < ROW($1, $4::timestamptz)"
    order = "ORDER BY client_id, updated_at, id"
    others, values = _others(chosen, ("client_id",), bounds)
    page = f"SELECT * FROM bookings WHERE {within} {order} LIMIT {LOOKED_AT}"
    page = f"SELECT * FROM ({page}) changed WHERE {others} {order} LIMIT {limit + 1}"
    last = f"SELECT {_MICROS} || '.' || id FROM bookings WHERE {within} {order} OFFSET {LOOKED_AT - 1} LIMIT 1"
    return Query(_PAGE.format(page, "b.updated_at, b.id"), values, last, bounds, UPDATED, over)


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_MICROS: Final = "(extract(epoch FROM updated_at) * 1000000)::bigint"


def by_key(chosen: Mapping[str, str], after: str | None, limit: int) -> Query:
    """A client's bookings under one idempotency key: at most one of each event. `OFFSET 0` has them looked up first."""
    bounds = [chosen["idempotency_key"], chosen["client_id"]]
    within = "idempotency_key = $1 AND client_id || '' = $2 AND duplicate_of IS NULL"
    if after is not None:
        bounds.append(after)
        within += f" AND id < ${len(bounds)}::uuid"
    others, values = _others(chosen, ("idempotency_key", "client_id"), bounds)
    page = f"SELECT * FROM (SELECT * FROM bookings WHERE {within} OFFSET 0) few WHERE {others}"
    page += f" ORDER BY id DESC LIMIT {limit + 1}"
    return Query(_PAGE.format(page, "b.id DESC"), values, "", [])


def _others(
    chosen: Mapping[str, str], lead: Sequence[str], bounds: Sequence[Any], since: datetime | None = None
) -> tuple[str, list[Any]]:
    """The conditions of the other columns, and the values of all."""
    rest: dict[str, Any] = {f"{column} =": value for column, value in chosen.items() if column not in lead}
    if since is not None:
        rest["updated_at >="] = since
    conditions = [f"{column} ${at}" for at, column in enumerate(rest, len(bounds) + 1)]
    return " AND ".join(["duplicate_of IS NULL", *conditions]), [*bounds, *rest.values()]


def place_of(order: str, booking: str, updated_us: int) -> str:
    """Where a booking stands in a list of this order: its id, behind the microsecond of its change where that decides."""
    return booking if order == CREATED else f"{updated_us}.{booking}"


def _parts(place: str) -> tuple[datetime, str]:
    micros, _, booking = place.partition(".")
    return _EPOCH + timedelta(microseconds=int(micros)), booking


def cursor_of(place: str) -> str:
    """Says behind which place a page begins; 22 characters, or 32 of a list by change."""
    micros, _, booking = place.rpartition(".")
    packed = (int(micros).to_bytes(_MICROS_BYTES, "big") if micros else b"") + UUID(booking).bytes
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


_MICROS_BYTES: Final = 8
_ID_BYTES: Final = 16


def place_after(cursor: str, order: str) -> str:
    """The place of a cursor. Raises `Malformed` for one that is none of ours, or of a list of another order."""
    try:
        packed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        booking = str(UUID(bytes=packed[-_ID_BYTES:]))
        micros = packed[:-_ID_BYTES]
        if len(micros) != (0 if order == CREATED else _MICROS_BYTES):
            raise ValueError
        place = place_of(order, booking, int.from_bytes(micros, "big"))
        if order == UPDATED:
            _parts(place)
    except (ValueError, OverflowError, binascii.Error):
        raise bad_parameter("This is no cursor of ours.", "cursor", "cursor") from None
    return place
