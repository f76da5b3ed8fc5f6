"""A record whose body can be damaged."""

from __future__ import annotations

from msgspec.structs import replace

from boxoffice import ids
from boxoffice.stores.record import Body, Line, Payload, Record
from tests.conftest import CLIENT, SHARD
from tests.support.shop.orders import card

LINE = Line("ga0000000000", 1, 5)
RECORD = Record(
    ids.booking_id(SHARD, 1), "P", 7, 1_000, 2_000, "pay", "scope", "ab" * 16, "", "owner", "", "1",
    Body(CLIENT, "ada", 5, "USD", (LINE,), "order 1"), Payload(card(), key="cd" * 16),
)  # fmt: skip


def body(**changes: object) -> dict[str, object]:
    """Of the record, with something else in it."""
    return {"body": replace(RECORD.body, **changes)}
