"""Who has a code, and who comes again and again: drawn from the seed, on top of what everybody does."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

from boxoffice.sales.catalogue import EventView, TierView
from boxoffice.sales.rules import NONE
from ops.rush.agreed import (
    EVENT_RULES,
    LISTED,
    MISTYPED,
    NO_CODE,
    OWN,
    PARTNERED,
    PRESALE,
    REGULARS,
    TIER_RULES,
    Agreed,
    Aside,
    Code,
    invite,
    rules_of,
)
from ops.rush.plan import CHANGING, GOOD_CARD, Visit, Workload, draw

TIERS = tuple(TierView(code.lower(), code, code, 1_000, 100, True) for code in ("FRONT", "FLOOR", "STAND", "GUEST"))
EVENTS = [EventView(f"e{n}", "Rush", "2030-01-01T00:00:00Z", 0, "active", "USD", 0, 0, TIERS) for n in range(2)]
WORKLOAD = Workload(seconds=60, rate=200, holds=True)


def codes(kind: str, tickets: int, count: int) -> dict[str, list[Code]]:
    return {
        event.id: [Code(f"{kind}{n}", f"{kind}-{event.id}-{n:04d}", event.id, tickets) for n in range(count)]
        for event in EVENTS
    }


AGREED = Agreed(rules_of(EVENTS), codes("SHARED", 7, 3), codes("OWN", OWN, 100), {"e0": "fans0", "e1": "fans1"})
OF_EVENT = {code.text: code.event for code in AGREED.codes}


def invited(agreed: Agreed = AGREED, seed: int = 1) -> list[tuple[Visit, Visit]]:
    """Each visit as it was drawn, and as it comes."""
    drawn = list(draw(WORKLOAD, EVENTS))
    return list(zip(drawn, invite(drawn, agreed, seed), strict=True))


def test_the_seed_decides_who_has_a_code() -> None:
    assert invited() == invited() != invited(seed=2)


def test_events_and_tiers_have_their_rules() -> None:
    rules = rules_of(EVENTS)
    assert (rules["e0"], rules["e1"], rules["front"], rules["floor"], rules["stand"]) == (
        EVENT_RULES, EVENT_RULES, TIER_RULES["FRONT"], TIER_RULES["FLOOR"], NONE,
    )  # fmt: skip
    assert PRESALE not in TIER_RULES
    assert EVENT_RULES.booking_max is not None
    assert EVENT_RULES.customer_max is not None
    assert EVENT_RULES.booking_max >= OWN
    assert EVENT_RULES.customer_max < 2 * OWN, "what did not come back to a customer is missed by the second booking"


def test_codes_are_used_for_the_presale_and_for_what_everybody_may_have() -> None:
    coded = [(was, now) for was, now in invited() if now.code and now.manner != "hold_again"]
    share = len(coded) / len(invited())
    assert 0.08 < share < 0.14
    for was, now in coded:
        assert now.code == NO_CODE or OF_EVENT[now.code] == now.event
        assert now.code.startswith("SHARED") or now.code == NO_CODE
        assert json.loads(now.body)["access_code"] == now.code
        assert json.loads(now.hold(6))["access_code"] == now.code
        if now.number % 2:
            assert now == replace(was, code=now.code)
        else:
            assert {tier for tier, _ in (*now.items, *now.other)} == {AGREED.presale[now.event]}
            assert not now.free
            assert bool(now.other) == bool(was.other) == (now.manner in CHANGING)
    assert MISTYPED / 2 < sum(now.code == NO_CODE for _, now in coded) / len(coded) < 2 * MISTYPED
    wanted = {quantity for _, now in coded if now.number % 2 == 0 for _, quantity in now.items}
    assert wanted == {1, 2, 3}
    assert any(dict(now.items) != dict(now.other) for _, now in coded if now.other)


def test_whoever_has_all_again_has_a_name_and_a_code_of_its_own() -> None:
    alone = [now for _, now in invited() if now.manner == "hold_again"]
    assert len(alone) > 100
    assert len({now.customer for now in alone}) == len({now.code for now in alone}) == len(alone)
    for now in alone:
        assert OF_EVENT[now.code] == now.event
        assert now.code.startswith("OWN")
        assert (now.items, now.card, now.free) == (((AGREED.presale[now.event], OWN),), GOOD_CARD, False)
    others = {now.customer for _, now in invited() if now.manner != "hold_again"}
    assert not others & {now.customer for now in alone}


def test_without_a_code_of_its_own_it_only_cancels() -> None:
    few = replace(AGREED, own={"e0": [], "e1": AGREED.own["e1"]})
    manners = Counter((now.event, now.manner) for was, now in invited(few) if was.manner == "hold_again")
    assert set(manners) == {("e0", "hold_cancel"), ("e1", "hold_again")}


def test_a_few_come_again_and_again() -> None:
    often = Counter(now.customer for _, now in invited() if now.customer.startswith("regular"))
    assert len(often) == REGULARS
    assert min(often.values()) > 50


def test_whoever_only_looks_or_blunders_has_no_code() -> None:
    assert all(was == now for was, now in invited() if was.manner in ("browse", "bad"))


ASIDES = {event.id: Aside("floor", "partner", Code("list", f"LIST-{event.id}", event.id, 50)) for event in EVENTS}


def test_some_come_with_the_code_of_the_guest_list_and_some_to_the_partner() -> None:
    """Nobody with both: a ticket that counts for two is tried elsewhere. They want the tier that is set aside."""
    visits = invited(replace(AGREED, aside=ASIDES))
    listed = [visit for _, visit in visits if visit.code == ASIDES[visit.event].code.text]
    partnered = [visit for _, visit in visits if visit.at_partner]
    for some, share in ((listed, LISTED), (partnered, PARTNERED)):
        assert 0.7 * share < len(some) / len(visits) < share
        assert {visit.items for visit in some} == {(("floor", tickets),) for tickets in (1, 2, 3)}
        assert all(visit.other[0][0] == "floor" if visit.manner in CHANGING else not visit.other for visit in some)
        assert not any(visit.free for visit in some)
        assert {visit.other[0][1] - visit.items[0][1] for visit in some if visit.other} == {1, -2}
    assert not any(visit.code for visit in partnered)
    assert [aside.code for aside in ASIDES.values()] == replace(AGREED, aside=ASIDES).codes[-2:]
    assert not any(visit.at_partner for _, visit in invited())
