"""Least and most tickets: what may be a rule, how the scripts are told, and how it is kept while the sale goes on."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from boxoffice.errors import BookingLimit, CustomerLimit, Malformed
from boxoffice.office import BoxOffice
from boxoffice.sales.checks import NewTier
from boxoffice.sales.control import Actor
from boxoffice.sales.rules import COUNT_MAX, NONE, RULES, Rules, check_rules, rules_text
from tests.conftest import CLIENT, SaleMaker, load_all
from tests.support.shop.office import Till, status_of
from tests.support.shop.orders import tier_of

NOW = datetime.now(UTC)
SHOP = Actor("key:shop", CLIENT)
OURS = Rules(1, 4, 1, 6)


@pytest.fixture
async def till(office: BoxOffice, open_sale: SaleMaker) -> Till:
    await load_all(office)
    return Till(office, await open_sale(GA=10, VIP=4))


@pytest.mark.parametrize(
    ("event", "tiers", "text"),
    [
        (NONE, [("a", NONE), ("b", NONE)], ""),
        (Rules(customer_max=4), [("a", NONE)], ""),
        (Rules(booking_min=2), [("a", NONE)], "2:0:0|"),
        (Rules(booking_max=3), [], "0:3:0|"),
        (Rules(customer_min=5, customer_max=6), [], "0:0:5|"),
        (NONE, [("a", NONE), ("b", Rules(1, 2, 3, 4)), ("c", Rules(customer_max=9))], "0:0:0|b:1:2:3:4,c:0:0:0:9"),
    ],
)
def test_the_scripts_are_told_of_those_that_are_there(event: Rules, tiers: list[tuple[str, Rules]], text: str) -> None:
    """Nothing at all of an event without any: no booking of it pays for them."""
    assert rules_text(event, tiers) == text


def test_a_row_has_rules_by_their_columns() -> None:
    row = {"customer_max": 4, "booking_min": 1, "customer_min": 3, "booking_max": 2, "name": "x"}
    assert Rules.of(row) == Rules(1, 2, 3, 4)
    assert Rules(2, None, 3).given == {"booking_min": 2, "customer_min": 3}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("tickets", [0, -1, COUNT_MAX + 1])
def test_a_rule_counts_tickets(name: str, tickets: int) -> None:
    with pytest.raises(Malformed) as refused:
        check_rules(NONE._replace(**{name: tickets}), "/tiers/3", NONE, COUNT_MAX)
    assert refused.value.pointer == f"/tiers/3/{name}"
    for good in (1, COUNT_MAX):
        check_rules(NONE._replace(**{name: good}), "", NONE, COUNT_MAX)


@pytest.mark.parametrize("least", ["booking_min", "customer_min"])
@pytest.mark.parametrize(
    ("own", "event", "quantity_max"),
    [
        (Rules(booking_max=4), NONE, 9),
        (Rules(customer_max=4), NONE, 9),
        (Rules(booking_max=5, customer_max=4), NONE, 9),
        (NONE, Rules(booking_max=4), 9),
        (NONE, Rules(customer_max=4), 9),
        (Rules(booking_max=6), Rules(customer_max=4), 9),
        (NONE, Rules(booking_min=9), 4),
        (NONE, NONE, 4),
    ],
)
def test_no_least_is_above_a_most(least: str, own: Rules, event: Rules, quantity_max: int) -> None:
    """The first booking of a customer has to reach both, within whatever bounds it: four tickets here."""
    check_rules(own._replace(**{least: 4}), "", event, quantity_max)
    with pytest.raises(Malformed) as refused:
        check_rules(own._replace(**{least: 5}), "", event, quantity_max)
    assert (refused.value.pointer, refused.value.code) == (f"/{least}", "least_above_most")
    assert "no more than 4 tickets" in str(refused.value.detail)


# ------------------------------------------------------------------ while the sale goes on


async def test_rules_are_changed_and_told(till: Till) -> None:
    """Of an event and of a tier: each where it belongs, in the event as shops see it, in its history, and in force."""
    control, vip = till.office.control, tier_of(till.event, "VIP")
    await control.change_event(till.event.id, SHOP, **OURS._asdict())
    await control.change_tier(vip, SHOP, booking_min=2, booking_max=3, customer_min=1, customer_max=3)
    view = await till.office.store.event(till.event.id)
    assert view.rules == OURS
    assert [tier.rules for tier in view.tiers] == [NONE, Rules(2, 3, 1, 3)]
    shown = view.describe([0, 0])
    assert [shown[rule] for rule in RULES] == [1, 4, 1, 6]
    assert [[tier[rule] for rule in RULES] for tier in shown["tiers"]] == [4 * [None], [2, 3, 1, 3]]
    tier, event, _ = await control.history(till.event.id)
    assert event["changes"] == {rule: {"from": None, "to": count} for rule, count in OURS._asdict().items()}
    assert tier["changes"] == {
        "booking_min": {"from": None, "to": 2}, "booking_max": {"from": None, "to": 3},
        "customer_min": {"from": None, "to": 1}, "customer_max": {"from": None, "to": 3},
    }  # fmt: skip
    with pytest.raises(BookingLimit) as refused:
        await till.book(VIP=1)
    assert refused.value.details == {"least": 2, "limit": 3, "tier_id": vip, "code": "VIP"}
    await till.book(VIP=2)
    with pytest.raises(CustomerLimit) as beyond:
        await till.book(VIP=2)
    assert beyond.value.details == {
        "held": 2, "least": 1, "limit": 3, "may_take": 1, "tier_id": vip, "code": "VIP",
    }  # fmt: skip
    await control.change_tier(vip, **NONE._asdict())
    await control.change_event(till.event.id, **NONE._asdict())
    assert (await till.office.store.event(till.event.id)).rules == NONE
    await till.book(VIP=1)
    await till.book(GA=5)


async def test_a_new_event_and_a_new_tier_have_their_rules(till: Till) -> None:
    tiers = [NewTier("A", 1, 9), NewTier("B", 1, 9, rules=Rules(2, 3, 2, 4))]
    made = await till.office.store.create_event(CLIENT, "E", NOW + timedelta(days=9), "USD", tiers, rules=OURS)
    view = await till.office.control.add_tier(made.id, NewTier("C", 1, 9, rules=Rules(customer_max=3)))
    assert view == await till.office.store.event(made.id)
    assert (view.rules, view.customer_max) == (OURS, 6)
    assert [tier.rules for tier in view.tiers] == [NONE, Rules(2, 3, 2, 4), Rules(customer_max=3)]
    added, created = await till.office.control.history(made.id)
    assert added["changes"]["customer_max"] == {"from": None, "to": 3}
    assert {rule: created["changes"][rule]["to"] for rule in RULES} == OURS._asdict()
    shop = Till(till.office, view, till.numbers)
    await shop.book(C=3)
    with pytest.raises(CustomerLimit):
        await shop.book(C=1)


async def test_rules_that_let_nobody_in_are_refused(till: Till) -> None:
    """Whichever of the two is changed. What was so before is not held against another change."""
    control, vip = till.office.control, tier_of(till.event, "VIP")
    await control.change_tier(vip, booking_min=3)
    for pointer, call in (
        ("/tiers/1/booking_min", control.change_event(till.event.id, customer_max=2)),
        ("/booking_min", control.change_event(till.event.id, booking_min=3, booking_max=2)),
        ("/customer_min", control.change_tier(vip, customer_min=11)),
        ("/booking_min", control.change_tier(vip, customer_max=2)),
        ("/customer_max", control.change_tier(vip, customer_max=0)),
        ("/booking_max", control.add_tier(till.event.id, NewTier("C", 1, 1, rules=Rules(booking_max=-1)))),
        ("/customer_max", control.change_event(till.event.id, customer_max=0)),
    ):
        with pytest.raises(Malformed) as refused:
            await call
        assert refused.value.pointer == pointer
    await control.change_event(till.event.id, customer_max=3)
    with pytest.raises(Malformed) as refused:
        await control.change_tier(vip, booking_min=4)
    assert (refused.value.pointer, refused.value.code) == ("/booking_min", "least_above_most")
    await (await till.office.pool()).execute("UPDATE tiers SET booking_min = 7 WHERE id = $1", vip)
    await (await till.office.pool()).execute("UPDATE events SET booking_min = 7")
    await control.change_event(till.event.id, name="New name")
    await control.change_tier(vip, price_cents=1)


async def test_tickets_of_a_tier_count_as_long_as_they_live(till: Till) -> None:
    """Held, bought before there was a rule, and given back: on cancelling, refunding, expiring and failing."""
    control, vip, pool = till.office.control, tier_of(till.event, "VIP"), await till.office.pool()
    bought, held = await till.book(VIP=2, GA=1), await till.hold(VIP=1)
    await till.rest()
    await control.change_tier(vip, customer_max=3)
    with pytest.raises(CustomerLimit):
        await till.book(VIP=1)
    await till.book(GA=1)
    assert await till.cancel(held) == "cancelled"
    held = await till.hold(VIP=1)
    await till.refund(bought, VIP=1)
    await till.rest()
    with pytest.raises(CustomerLimit) as refused:
        await till.book(VIP=2)
    assert (refused.value.details["held"], refused.value.details["may_take"]) == (2, 1)
    declined = await till.book("tok_card_declined", VIP=1)
    await till.rest()
    assert await status_of(till.office, declined) == "failed payment_declined"
    await till.book(VIP=1)
    assert await till.cancel(bought) == "cancelled"
    await till.book(VIP=1)
    await till.at_rest()
    assert await pool.fetchval("SELECT count(*) FROM stock_moves WHERE applied_at IS NULL") == 0


async def test_however_many_ask_at_once_a_customer_has_no_more(till: Till) -> None:
    """Counted in the call that admits: nobody reads a count that another booking is about to change."""
    await till.office.control.change_tier(tier_of(till.event, "GA"), customer_max=3)
    answers = await asyncio.gather(*(till.book(GA=1) for _ in range(8)), return_exceptions=True)
    assert [type(answer) for answer in answers if not isinstance(answer, str)] == 5 * [CustomerLimit]
    await till.book(GA=3, customer="bob")
    await till.at_rest()


async def test_an_event_wants_no_more_of_a_booking_than_one_may_have(office: BoxOffice) -> None:
    """So many items, each of so many tickets."""
    limits, tiers = office.settings.limits, [NewTier("GA", 1_000, 10)]
    most = limits.items_max * limits.quantity_max

    async def wanting(tickets: int) -> Any:
        rules = Rules(booking_min=tickets)
        return await office.store.create_event(CLIENT, "Concert", NOW + timedelta(days=30), "USD", tiers, rules=rules)

    assert (await wanting(most)).rules.booking_min == most
    with pytest.raises(Malformed):
        await wanting(most + 1)
