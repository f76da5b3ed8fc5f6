"""What a gateway's message does to the payment that it names: once, and to no other.

A test is one transaction, in which now() stands still: times are told in seconds from then.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from boxoffice.books import messages
from boxoffice.books.messages import Heard
from boxoffice.office import BoxOffice

Told = tuple[Any, Any, Any, Any]
"""Status, due, due at, due since."""


class Rows:
    def __init__(self, session: Any, now: datetime) -> None:
        self.session, self.now = session, now
        self.booking: UUID = uuid4()

    async def put(self, key: str, told: Told) -> None:
        """A payment."""
        status, due, *times = told
        await self.session.execute(
            "INSERT INTO payments (payment_key, booking_id, gateway, method, amount_cents, currency, status, due, due_at,"
            " due_since) VALUES ($1, $2, 'bank', 'card', 9, 'USD', $3, $4, $5, $6)",
            key, self.booking if key == "this" else uuid4(), status, due,
            *(None if at is None else self.now + timedelta(seconds=at) for at in times),
        )  # fmt: skip

    async def all(self) -> dict[str, Told]:
        rows = await self.session.fetch("SELECT payment_key, status, due, due_at, due_since FROM payments")
        return {
            row[0]: tuple((each - self.now).total_seconds() if isinstance(each, datetime) else each for each in row[1:])
            for row in map(tuple, rows)
        }  # type: ignore[return-value]


@pytest.fixture
async def rows(office: BoxOffice) -> AsyncIterator[Rows]:
    async with (await office.pool()).acquire() as session, session.transaction():
        yield Rows(session, await session.fetchval("SELECT now()"))


LOST: Told = ("failed", None, None, None)
AGAIN: Told = ("failed", "void", 0.0, 0.0)


@pytest.mark.parametrize(
    ("before", "kind", "after"),
    [
        (LOST, "authorized", AGAIN), (LOST, "captured", AGAIN), (LOST, "failed", LOST), (LOST, "refunded", LOST),
        (("declined", None, None, None), "captured", ("declined", None, None, None)),
        (("captured", None, None, None), "captured", ("captured", None, None, None)),
        (("failed", "void", 60.0, -9.0), "authorized", ("failed", "void", 0.0, -9.0)),
        (("unknown", "void", 60.0, -9.0), "failed", ("unknown", "void", 0.0, -9.0)),
        (("authorized", "capture", 60.0, None), "captured", ("authorized", "capture", 0.0, None)),
        (("authorized", "capture", -60.0, -90.0), "captured", ("authorized", "capture", -60.0, -90.0)),
        (("authorized", "capture", None, None), "captured", ("authorized", "capture", None, None)),
        (("failed", "void", None, None), "captured", ("failed", "void", None, None)),
    ],
)  # fmt: skip
async def test_what_is_due_is_due_now_and_what_was_given_up_is_let_go(
    rows: Rows, before: Told, kind: str, after: Told
) -> None:
    """A message that was here before, under this gateway's id, changes nothing."""
    for key in ("this", "other"):
        await rows.put(key, before)
    assert await messages.hear(rows.session, "bank", "evt_1", kind, "this") == Heard(True, str(rows.booking))
    assert await rows.all() == {"this": after, "other": before}
    await rows.session.execute("UPDATE payments SET status = 'failed', due = NULL, due_at = NULL, due_since = NULL")
    assert await messages.hear(rows.session, "bank", "evt_1", "captured", "this") == Heard(False, None)
    assert await rows.all() == {"this": LOST, "other": LOST}
    assert await messages.hear(rows.session, "another", "evt_1", "captured", "this") == Heard(True, str(rows.booking))
    assert await rows.all() == {"this": AGAIN, "other": LOST}
    events = await rows.session.fetch("SELECT gateway, id, kind, payment_key FROM webhook_events")
    assert {tuple(row) for row in events} == {("bank", "evt_1", kind, "this"), ("another", "evt_1", "captured", "this")}


async def test_a_message_about_nothing_of_ours_is_kept(rows: Rows) -> None:
    await rows.put("this", LOST)
    for at, key in enumerate((None, "nothing")):
        assert await messages.hear(rows.session, "bank", f"evt_{at}", "captured", key) == Heard(True, None)
    assert await rows.all() == {"this": LOST}
    assert await rows.session.fetchval("SELECT count(*) FROM looks") == 0


@pytest.mark.parametrize("kind", ["refunded", "refund_failed", "disputed", "captured", "authorized"])
async def test_a_payment_that_was_reversed_is_looked_at_at_once(rows: Rows, kind: str) -> None:
    """Anew, whoever is looking at it."""
    reversed_ = kind in messages.REVERSED
    for key in ("this", "other"):
        await rows.put(key, ("captured", None, None, None))
    await rows.session.execute(
        "INSERT INTO looks (payment_key, due_at, leased_until, tries) VALUES ('other', $1, $1, 4)",
        rows.now + timedelta(seconds=60),
    )
    for number, key in enumerate(("this", "other")):
        await messages.hear(rows.session, "bank", f"evt_{number}", kind, key)
    found = await rows.session.fetch("SELECT payment_key, due_at, leased_until, tries FROM looks")
    told = {
        row["payment_key"]: ((row["due_at"] - rows.now).total_seconds(), row["leased_until"], row["tries"])
        for row in found
    }
    stays = (60.0, rows.now + timedelta(seconds=60), 4)
    assert told == ({"this": (0.0, None, 0), "other": (0.0, None, 0)} if reversed_ else {"other": stays})
