"""What PostgreSQL is asked for a page of a list: a bounded part of one index, whatever the filter. Statements, no I/O."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from uuid import UUID

from boxoffice.bookings.rows import SELECT
from boxoffice.wire.parameters import bad_parameter

__all__ = ["IN_ORDER", "LOOKED_AT", "Query", "by_key", "by_lead", "cursor_of", "id_after"]


class Query(NamedTuple):
    """What PostgreSQL is asked for one page of a list."""

    page: str
    values: list[str]
    last: str
    """Asks for the last booking among which the page is looked for, when there are so many. Empty: there are few."""
    bounds: list[str]
    """Its values."""


_PAGE = f"""
{SELECT.replace("FROM bookings b", "FROM ({}) b")}
ORDER BY b.id DESC
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


def by_lead(chosen: Mapping[str, str], after: str | None, limit: int) -> Query:
    """A page is looked for among the next `LOOKED_AT` bookings that one index has in order. So it reads no more, whatever
    the filter, and may be a short one.

    Where in the index to begin and to end is told by comparing rows. Were PostgreSQL told that the first columns are the
    same in all of them, it would take the primary key instead, and read everybody's.
    """
    lead, some = next(
        (lead, some) for lead, some in _LEADS
        if chosen.keys() >= set(lead) and ("status" not in lead or chosen["status"] != "confirmed")
    )  # fmt: skip
    bounds = [chosen[column] for column in lead]
    names, marks = ", ".join(lead), ", ".join(f"${at}" for at in range(1, len(lead) + 1))
    # One bound each way: of two, PostgreSQL may begin at the farther one.
    within = f"{some} AND ROW({names}) >= ROW({marks}) AND "
    if after is None:
        within += f"ROW({names}) <= ROW({marks})"
    else:
        bounds.append(after)
        within += f"ROW({names}, id) < ROW({marks}, ${len(bounds)}::uuid)"
    order = "ORDER BY " + ", ".join(f"{column} DESC" for column in (*lead, "id"))
    others, values = _others(chosen, lead, bounds)
    page = f"SELECT * FROM bookings WHERE {within} {order} LIMIT {LOOKED_AT}"
    page = f"SELECT * FROM ({page}) latest WHERE {others} {order} LIMIT {limit + 1}"
    last = f"SELECT id::text AS last FROM bookings WHERE {within} {order} OFFSET {LOOKED_AT - 1} LIMIT 1"
    return Query(_PAGE.format(page), values, last, bounds)


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
    return Query(_PAGE.format(page), values, "", [])


def _others(chosen: Mapping[str, str], lead: Sequence[str], bounds: Sequence[str]) -> tuple[str, list[str]]:
    """The conditions of the other columns, and the values of all."""
    rest = {column: value for column, value in chosen.items() if column not in lead}
    conditions = [f"{column} = ${at}" for at, column in enumerate(rest, len(bounds) + 1)]
    return " AND ".join(["duplicate_of IS NULL", *conditions]), [*bounds, *rest.values()]


def cursor_of(booking: str) -> str:
    """Says behind which booking a page begins; 22 characters."""
    return base64.urlsafe_b64encode(UUID(booking).bytes).decode().rstrip("=")


def id_after(cursor: str) -> str:
    """The booking of a cursor. Raises `Malformed` for one that is none of ours."""
    try:
        return str(UUID(bytes=base64.urlsafe_b64decode(cursor + "==")))
    except (ValueError, binascii.Error):
        raise bad_parameter("This is no cursor of ours.", "cursor", "cursor") from None
