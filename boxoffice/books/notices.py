"""What the verbs of the books tell shops: the parts of their statements, and of a batch that is written together.

A verb's own statement writes the notice of what it changed, from the rows that it returned: each is locked by then, so the ids
of a booking's notices are in the order of its changes. A batch writes one row a shop, an event and a kind.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from itertools import accumulate, chain
from typing import Any, Final, NamedTuple

import msgspec

from boxoffice.books.decisions import OPEN, Decision, Known
from boxoffice.notices.types import OF_REFUND
from boxoffice.stores.database import Connection, Writer

__all__ = [
    "NOTICE_OF_REFUNDS",
    "PAID_TOO_LATE",
    "Group",
    "Groups",
    "group_changed",
    "group_of",
    "group_up",
    "list_and_notify",
    "notice_by_key",
    "notice_of",
    "notify",
]

_COLUMNS: Final = "client_id, event_id, type, size, bookings, keys, cents, details"


def notice_of(moved: str, type_: str, details: str = "'{}'") -> str:
    """SQL: a notice of these bookings, for a statement whose CTE `moved` has `booking`, `client_id` and `event_id` of each
    that it changed. `type_` and `details` are SQL, too; both may name columns of `moved`."""
    return f"""INSERT INTO notices ({_COLUMNS})
  SELECT client_id, event_id, type, count(*), array_agg(booking), NULL, NULL, details
  FROM (SELECT m.*, {type_} AS type, ({details})::jsonb AS details FROM {moved} m) AS told
  GROUP BY client_id, event_id, type, details"""


def notice_by_key(moved: str, type_: str, details: str = "'{}'", *, cents: str = "NULL") -> str:
    """SQL: the same of something that bookings have: `moved` has `booking` and `key`. Whose it is their rows tell."""
    return f"""INSERT INTO notices ({_COLUMNS})
  SELECT client_id, event_id, type, count(*), array_agg(booking), array_agg(key),
         CASE WHEN count(cents) = count(*) THEN array_agg(cents) END, details
  FROM (SELECT m.booking, m.key, b.client_id, b.event_id, {type_} AS type, ({details})::jsonb AS details,
               ({cents})::bigint AS cents
        FROM {moved} m JOIN bookings b ON b.id = m.booking) AS told
  GROUP BY client_id, event_id, type, details"""


PAID_TOO_LATE: Final = """'{"failure_code": "paid_too_late"}'"""
"""SQL: the details of money that came after its booking's end."""

_OTHERWISE: Final = " ".join(f"WHEN '{status}' THEN '{name}'" for status, name in OF_REFUND.items())

NOTICE_OF_REFUNDS: Final = notice_by_key(
    "moved",
    f"CASE m.status {_OTHERWISE} END",
    "jsonb_strip_nulls(jsonb_build_object('failure_code', m.failure_code))",
    cents="m.cents",
)
"""SQL: a notice of refunds, for a statement whose CTE `moved` has `booking`, `key`, `status`, `cents` and `failure_code`."""


# ------------------------------------------------------------------ a batch


class Group(NamedTuple):
    """What changes of one batch have in common, which are told together."""

    client: str
    event: str
    status: str
    failure: str | None
    payment: str | None
    """The payment's status, if it moved, too."""
    payment_failure: str | None
    duplicate_of: str | None = None


Groups = dict[tuple[Any, ...], tuple[list[str], list[str]]]
"""Fields of a `Group` to its bookings, and to their payments if those moved, too."""


def group_of(decision: Decision) -> tuple[Any, ...]:
    """Of a settled booking. A plain tuple: it is made for every one."""
    record, payment = decision.claim.record, decision.payment
    if payment is None:
        return (
            record.body.client, record.event, decision.status, decision.failure, None, None, decision.duplicate_of
        )  # fmt: skip
    return record.body.client, record.event, decision.status, decision.failure, payment.status, payment.failure_code


def group_up(groups: Groups, group: tuple[Any, ...], booking: str, payment_key: str) -> None:
    """One more booking of a group; its payment counts if the group has one."""
    there = groups.get(group)
    if there is None:
        groups[group] = [booking], [payment_key]
    else:
        there[0].append(booking)
        there[1].append(payment_key)


def group_changed(
    groups: Groups, decision: Decision, known: Mapping[str, Known], paid: Collection[str], rewritten: Collection[str]
) -> None:  # fmt: skip
    """One more booking that may have stood there, if it changed: its status, its payment (if that is one of those `paid` that
    were written), or its items (if it is one of those `rewritten`). A payment that waits is looked at again and again."""
    record, payment = decision.claim.record, decision.payment
    group = group_of(decision)
    if payment is not None and record.payment_key not in paid:
        group = (*group[:4], None, None)
    before = known.get(record.id) if decision.standing is OPEN else None
    if before is not None and before.status == decision.status:
        stood = (None, None) if before.payment is None else (before.payment.status, before.payment.failure_code)
        if group[4] is None or group[4:6] == stood:
            if record.id not in rewritten:
                return
            group = (*group[:2], "changed", None, None, None)
    group_up(groups, group, record.id, record.payment_key)


_BATCH: Final = """
INSERT INTO notices (client_id, event_id, type, size, bookings, keys, details)
SELECT client, event, type, size, ({bookings})[last - size + 1:last], CASE WHEN paid THEN ({keys})[last - size + 1:last] END,
       details::jsonb
FROM unnest({groups}) AS new (client, event, type, size, last, paid, details)
"""
"""The bookings and payments of all groups come in one array each, and a group says where its own end: an array of arrays of
unlike length would have to be written as text, and read again letter by letter."""

_BATCH_ALONE: Final = _BATCH.format(
    groups="$1::text[], $2::text[], $3::text[], $4::int[], $5::int[], $6::bool[], $7::text[]",
    bookings="$8::uuid[]", keys="$9::text[]",
)  # fmt: skip

_LISTED_BATCH: Final = _BATCH.format(
    groups="$5::text[], $6::text[], $7::text[], $8::int[], $9::int[], $10::bool[], $11::text[]",
    bookings="$12::uuid[]", keys="coalesce($13::text[], $1::text[])",
)  # fmt: skip

_LIST_AND_NOTIFY: Final = f"""
WITH listed AS (
  INSERT INTO captures (payment_keys, leased_until, client_id, event_id)
  SELECT $1::text[], now() + $2 * interval '1 millisecond', $3::text, $4::text WHERE cardinality($1::text[]) > 0 RETURNING id),
told AS ({_LISTED_BATCH})
SELECT id FROM listed
"""


async def list_and_notify(connection: Connection, groups: Groups, due: list[str], lease_ms: int) -> int | None:
    """Tell of a batch, and list the payments that are to be captured in a row of `captures`, in one statement. Returns that
    row's id; None when nothing is to be captured."""
    if not groups and not due:
        return None
    whose = {group[:2] for group in groups}
    client, event = next(iter(whose)) if len(whose) == 1 else (None, None)
    *columns, keys = _arrays(groups)
    # Nearly always the payments that it tells of are those that are to be captured.
    listed: int | None = await connection.fetchval(
        _LIST_AND_NOTIFY, due, lease_ms, client, event, *columns, None if keys == due else keys
    )
    return listed


async def notify(writer: Writer, groups: Groups) -> None:
    """Tell of a batch."""
    if groups:
        await writer.execute(_BATCH_ALONE, *_arrays(groups))


def _arrays(groups: Groups) -> list[list[Any]]:
    """Of each group: client, event, type, size, where it ends in the last two, whether they have payments, details. Then the
    bookings of all groups, and the payments."""
    named = [Group(*fields) for fields in groups]
    sizes = [len(bookings) for bookings, _ in groups.values()]
    return [
        [group.client for group in named],
        [group.event for group in named],
        [f"booking.{group.status}" for group in named],
        sizes,
        [*accumulate(sizes)],
        [group.payment is not None for group in named],
        [_details(*group[3:]) for group in named],
        [*chain.from_iterable(bookings for bookings, _ in groups.values())],
        [*chain.from_iterable(payments for _, payments in groups.values())],
    ]


@lru_cache(1_024)
def _details(failure: str | None, payment: str | None, payment_failure: str | None, duplicate_of: str | None) -> str:
    """What all of a group have in common, beside the status."""
    found: dict[str, Any] = {"failure_code": failure, "duplicate_of": duplicate_of}
    if payment is not None:
        paid = {"status": payment, "failure_code": payment_failure}
        found["payment"] = {name: value for name, value in paid.items() if value is not None}
    return msgspec.json.encode({name: value for name, value in found.items() if value is not None}).decode()
