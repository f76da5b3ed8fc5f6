"""Rules and codes as they were agreed, held against what was booked: whoever has more is found, and nobody else."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from boxoffice.sales.codes import CodeTerms
from boxoffice.sales.rules import NONE, Rules
from ops.rush.agreed import Agreed, Code
from ops.rush.audit import Witness
from ops.rush.findings import Finding
from ops.rush.operating import Changes
from tests.ops.rush.conftest import Sold
from tests.support.shop.office import Till

TEXT, OTHER = "AAAA-BBBB-CCCC-DDDD", "EEEE-FFFF-GGGG-HHHH"


def agreed(sold: Sold, *, event: Rules = NONE, tier: Rules = NONE, tickets: int = 2) -> Agreed:
    """Three customers have booked two tickets of GA each; the third's card was declined. VIP is for holders of a code."""
    ga, vip = (one.id for one in sold.event.tiers)
    codes = [Code("one", TEXT, sold.event.id, tickets)]
    return Agreed({sold.event.id: event, ga: tier, vip: NONE}, {sold.event.id: codes}, {}, {sold.event.id: vip})


async def judged(sold: Sold, terms: Agreed, *, lost: int | None = 0, old: bool = False, **how: Any) -> Finding:
    sold.history.redis_went_back = old
    return (await sold.audit(Witness(sold.history, agreed=terms, commits_lost=lost, **how)))["I13"]


async def with_code(sold: Sold, booking: str, text: str = TEXT) -> str:
    """It was made with the code. Returns the code's digest."""
    digest = Code("", text, "", 0).digest
    await sold.sql("UPDATE bookings SET access_code = $2 WHERE id = $1::uuid", booking, digest)
    sold.history.accepted()[booking].code = text
    return digest


async def test_nothing_is_counted_when_nothing_was_agreed(sold: Sold) -> None:
    finding = (await sold.audit())["I13"]
    assert (finding.held, finding.looked_at) == (True, [])


async def test_who_has_all_that_is_allowed_has_not_too_many(sold: Sold) -> None:
    await with_code(sold, sold.confirmed)
    two = Rules(booking_max=2, customer_max=2)
    finding = await judged(sold, agreed(sold, event=two, tier=two))
    assert finding.evidence == []
    assert (
        "1 bookings with 1 access codes, 0 of them revoked, 5 customers and codes that have all" in finding.looked_at[0]
    )


@pytest.mark.parametrize(
    ("terms", "broken"),
    [
        ({"event": Rules(customer_max=1)}, 2), ({"tier": Rules(customer_max=1)}, 2), ({"tickets": 1}, 1),
        ({"event": Rules(booking_max=1)}, 3), ({"tier": Rules(booking_max=1)}, 3),
    ],
    ids=["customer", "customer of a tier", "code", "booking", "booking of a tier"],
)  # fmt: skip
async def test_who_has_more_is_found(sold: Sold, terms: dict[str, Any], broken: int) -> None:
    """Of bookings that were let in, whatever became of them, too; of customers and codes what they still have."""
    await with_code(sold, sold.confirmed)
    assert (await judged(sold, agreed(sold, **terms))).broken == broken
    assert (await judged(sold, agreed(sold, **terms), lost=3)).broken == broken, "PostgreSQL's loss is no excuse"
    of_bookings = broken if "booking_max=1" in str(terms) else 0
    assert (await judged(sold, agreed(sold, **terms), old=True)).broken == of_bookings, (
        "holds of an older Redis are one"
    )


async def test_what_was_given_back_counts_no_more(sold: Sold) -> None:
    await with_code(sold, sold.confirmed)
    terms = agreed(sold, event=Rules(customer_max=1), tickets=1)
    await sold.sql("UPDATE booking_items SET refunded = 1")
    assert (await judged(sold, terms)).held
    await sold.sql("UPDATE booking_items SET refunded = 0")
    await sold.sql("UPDATE bookings SET status = 'cancelled' WHERE status = 'confirmed'")
    assert (await judged(sold, terms)).held


async def test_what_is_still_open_counts(sold: Sold) -> None:
    """With what is bought: for its customer and its code, in all and by tier."""
    await with_code(sold, sold.confirmed)
    till = Till(sold.office, sold.event, count(100))
    await till.book(None, customer="c-key-0", GA=1)
    assert (await judged(sold, agreed(sold, tickets=2))).held
    for rules in ({"event": Rules(customer_max=2)}, {"tier": Rules(customer_max=2)}):
        assert (await judged(sold, agreed(sold, **rules))).broken == 1  # type: ignore[arg-type]
        assert (await judged(sold, agreed(sold, **{name: Rules(customer_max=3) for name in rules}))).held  # type: ignore[arg-type]
    code = (await sold.office.codes.create(sold.event.id, CodeTerms(10), given=[TEXT]))[0]["code"]
    await till.book(None, customer="c-key-9", access_code=code, GA=1)
    assert (await judged(sold, agreed(sold, tickets=2))).broken == 1
    assert (await judged(sold, agreed(sold, tickets=3))).held


async def test_a_booking_is_its_customers_and_counts_for_its_code(sold: Sold) -> None:
    terms, entry = agreed(sold), sold.history.accepted()[sold.confirmed]
    await with_code(sold, sold.confirmed)
    for change in ({"code": ""}, {"code": OTHER}, {"customer": "somebody else"}):
        was = replace(entry)
        for name, value in change.items():
            setattr(entry, name, value)
        assert (await judged(sold, terms, old=True)).broken == 1, "that nothing excuses"
        for name in change:
            setattr(entry, name, getattr(was, name))
    assert (await judged(sold, terms)).held


async def test_nobody_is_let_in_with_a_code_that_is_none(sold: Sold) -> None:
    terms = agreed(sold)
    await with_code(sold, sold.confirmed, OTHER)
    assert (await judged(sold, terms, old=True)).evidence == [
        f"booking {sold.confirmed}: was let in without an access code of its event"
    ]
    await with_code(sold, sold.confirmed)
    elsewhere = replace(terms, shared={}, own={"another": [Code("one", TEXT, "another", 2)]})
    assert (await judged(sold, elsewhere)).broken == 1


async def test_the_presale_is_for_holders_of_a_code(sold: Sold) -> None:
    ga = sold.event.tiers[0].id
    terms = replace(agreed(sold), presale={sold.event.id: ga})
    assert (await judged(sold, terms)).broken == 3
    for booking in sold.history.accepted():
        await with_code(sold, booking)
    assert (await judged(sold, replace(terms, shared={sold.event.id: [Code("one", TEXT, sold.event.id, 4)]}))).held


async def test_a_code_that_was_revoked_lets_nobody_in(sold: Sold) -> None:
    digest = await with_code(sold, sold.confirmed)
    pool = await sold.office.pool()
    admitted = await pool.fetchval(
        "SELECT extract(epoch FROM created_at)::float8 FROM bookings WHERE id = $1::uuid", sold.confirmed
    )
    before, after = (Changes(revoked={digest: admitted + s}) for s in (-1, 1))
    assert (await judged(sold, agreed(sold), changes=before)).broken == 1
    assert (await judged(sold, agreed(sold), changes=after)).held
    for excuse in ({"lost": 3}, {"lost": None}, {"old": True}):
        assert (await judged(sold, agreed(sold), changes=before, **excuse)).held, "the revocation may be forgotten"  # type: ignore[arg-type]


async def test_what_did_not_come_back_is_found(sold: Sold) -> None:
    sold.history.not_given_back.append("ada: access-code-used-up")
    assert (await judged(sold, agreed(sold), lost=3)).broken == 1
    assert (await judged(sold, agreed(sold), old=True)).held
