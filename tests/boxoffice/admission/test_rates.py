"""Limits of API keys and customers, over several processes and shards; and how a limit is told."""

from __future__ import annotations

import asyncio
from itertools import zip_longest
from typing import Any

import pytest

from boxoffice.access.rates import Allowance, Spent
from boxoffice.admission.forms import Admitted, answers_of, views_of
from boxoffice.admission.protocol import decode
from boxoffice.errors import BoxOfficeError, RateLimited, SoldOut
from boxoffice.office import BoxOffice, open_box_office
from boxoffice.settings import Settings
from tests.boxoffice.admission.test_forms import EVENT, NOW_MS, form
from tests.conftest import CLIENT, SaleMaker, counters
from tests.support.checks import check_at_rest
from tests.support.shop.office import Till
from tests.support.shop.orders import order

WINDOW_S = 3_600


def may(key: str = "one", key_max: int | None = None, customer_max: int | None = None) -> Allowance:
    return Allowance(key, key_max, customer_max, WINDOW_S)


async def test_a_limit_holds_over_processes(office: BoxOffice, settings: Settings, open_sale: SaleMaker) -> None:
    """Two at once let in as many as one would; another key has a limit of its own; each shard counts for itself. Nothing is
    taken of whoever is refused."""
    here, there = await open_sale(GA=50), await open_sale(shard=0, GA=50)
    async with open_box_office(settings) as second:
        for each in (office, second):
            await each.catalogue.refresh()

        async def book(n: int, key: str, event: Any) -> Admitted | BoxOfficeError:
            admission = (office, second)[n % 2].admission
            wanted = order(event, customer=f"c{n}", GA=1)
            return await admission.ask(CLIENT, wanted, f"{key}{n:030x}{event.shard:02x}", may(key, key_max=7))

        asked = [(n, key, event) for event in (here, there) for key in ("aa", "bb") for n in range(12)]
        answers = await asyncio.gather(*(book(*each) for each in asked))
        let_in = [each for each, answer in zip(asked, answers, strict=True) if isinstance(answer, Admitted)]
        assert all(isinstance(answer, Admitted | RateLimited) for answer in answers)
        for event in (here, there):
            for key in ("aa", "bb"):
                assert len([1 for _, by, of in let_in if (by, of) == (key, event)]) == 7
            assert (await counters(office, event, "GA")).available == 50 - 14
        again = await asyncio.gather(*(book(*each) for each in let_in))
        assert all(isinstance(answer, Admitted) and answer.replayed for answer in again)


async def test_a_refused_booking_may_come_again(till: Till) -> None:
    """Its idempotency key was not used: under another window, or by another key of the shop, it is let in."""
    admission = till.office.admission
    await till.office.catalogue.refresh()

    async def ask(key_digest: str, allowance: Allowance) -> Any:
        return await admission.ask(CLIENT, order(till.event, GA=1), key_digest, allowance)

    assert isinstance(await ask("a" * 32, may(key_max=1)), Admitted)
    assert isinstance(await ask("b" * 32, may(key_max=1)), RateLimited)
    later = await ask("b" * 32, may("two", key_max=1))
    assert isinstance(later, Admitted) and not later.replayed
    await till.rest()
    await check_at_rest(till.office, [later.booking_id])


async def test_who_asks_for_what_is_sold_out_is_counted_as_who_books(till: Till) -> None:
    """Once a tier is short the script is only asked a question; its customer is counted for it."""
    await till.office.catalogue.refresh()
    asked = [
        await till.office.admission.ask(CLIENT, order(till.event, GA=10_000), f"{n:032x}", may(customer_max=3))
        for n in range(5)
    ]
    assert [type(answer) for answer in asked] == [SoldOut] * 3 + [RateLimited] * 2
    other = order(till.event, customer="bob", GA=10_000)
    assert isinstance(await till.office.admission.ask(CLIENT, other, "c" * 32, may(customer_max=3)), SoldOut)


async def test_a_limit_that_was_changed_counts_at_once(till: Till) -> None:
    """Not only in the templates of orders to come."""
    admission = till.office.admission
    await till.office.catalogue.refresh()
    for n, (most, let_in) in enumerate(((1, True), (1, False), (2, True), (2, False))):
        answer = await admission.ask(CLIENT, order(till.event, GA=1), f"{n:032x}", may(key_max=most))
        assert isinstance(answer, Admitted) is let_in


# ------------------------------------------------------------------ how it is told


def tell(allowance: Allowance, *results: Any, asked: Any = (), allowances: Any = ()) -> list[Any]:
    forms = [form() for _ in results]
    for each, own in zip_longest(forms, allowances, fillvalue=allowance):
        each.template.allowance = own
    views = views_of(forms)
    reply = decode([b"open", b"%d" % NOW_MS, list(results), [[b"5", b"0", b"7"]], 0, 0, list(asked)])
    return answers_of(forms, views, reply, {}, lambda: None, lambda: 100.0)


@pytest.mark.parametrize(
    ("allowance", "asked", "left"),
    [
        (may(key_max=9), [b"one", 2], 7),
        (may(key_max=9), [b"two", 4, b"one", 9], 0),
        (may(key_max=9), [b"one", 12], 0),
        (may(key_max=9), [b"two", 4], None),
        (may(key_max=9), [], None),
        (may(customer_max=9), [b"one", 2], None),
    ],
)
def test_who_is_let_in_is_told_what_is_left(allowance: Allowance, asked: list[Any], left: int | None) -> None:
    """Until the window ends by Redis's clock, in seconds; a repeat is not counted, and not told."""
    told, again = tell(allowance, b"created", [b"replayed", b"first", b"nonsense"], asked=asked)
    ends_s = WINDOW_S - NOW_MS // 1_000 % WINDOW_S
    assert shown(told.spent) == (None if left is None else (allowance, left, ends_s))
    assert again.spent is None


def shown(spent: Spent | None) -> Any:
    return None if spent is None else (spent.allowance, spent.left, spent.ends_s)


def test_keys_of_one_call_are_told_their_own_limits() -> None:
    """One after another, and again: those of one key share what they are told."""
    one, two, free = may(key_max=9), Allowance("two", 5, None, WINDOW_S), Allowance("three")
    keys = [one, one, two, one, free, two]
    answers = tell(one, *[b"created"] * len(keys), asked=[b"one", 2, b"two", 4], allowances=keys)
    assert [answer.spent and answer.spent.left for answer in answers] == [7, 7, 1, 7, None, 1]
    assert answers[0].spent is answers[1].spent is answers[3].spent


@pytest.mark.parametrize(("left_ms", "retry_s"), [(1, 1), (1_000, 1), (1_001, 2), (0, 1), (-5, 1)])
@pytest.mark.parametrize("whose", ["key", "customer"])
def test_who_asked_too_often_is_told_when_the_window_ends(whose: str, left_ms: int, retry_s: int) -> None:
    (refused,) = tell(may(key_max=9), [b"rate_limited", whose.encode(), 9, b"%d" % (NOW_MS + left_ms)])
    assert isinstance(refused, RateLimited)
    assert refused.details == {"whose": whose, "limit": 9, "window_s": WINDOW_S, "retry_after_s": retry_s}
    assert refused.key_prefix == (may().api_key if whose == "key" else "") and "key_prefix" not in refused.details
    assert refused.detail.startswith("The API key has asked" if whose == "key" else "The customer has asked")


def test_keys_with_limits_of_their_own_are_told_their_own() -> None:
    """Though they ask for the same and are refused alike."""
    same = form()
    forms = [same, replace_template(same, may("two", key_max=9))]
    views = views_of(forms)
    result = [b"rate_limited", b"key", 9, b"%d" % (NOW_MS + 1)]
    reply = decode([b"open", b"%d" % NOW_MS, [result, result], [[]], 0, 0, []])
    first, second = answers_of(forms, views, reply, {}, lambda: None, lambda: 100.0)
    assert first is not second


def replace_template(of: Any, allowance: Allowance) -> Any:
    another = form()
    another.template.allowance = allowance
    assert another.template.event is EVENT
    return another
