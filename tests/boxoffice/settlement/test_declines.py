"""Card testing: of one customer the gateway is asked for no more payments than may be declined, however they come in; and
whoever pays is served as ever."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from redis.exceptions import ConnectionError

from boxoffice.access.rates import Allowance, decline_terms
from boxoffice.admission.forms import Admitted
from boxoffice.books.decisions import DECIDED, Claimed, Decision, Known, PaymentChange, PaymentRow, Standing, Verdict
from boxoffice.clock import Clock
from boxoffice.errors import DeclinedTooOften, TooManyAttempts
from boxoffice.settings import Settings
from boxoffice.settlement import declines as module
from boxoffice.settlement.declines import FORGET_S, Declines
from boxoffice.states import TOO_MANY_DECLINED
from boxoffice.stores import keys
from boxoffice.stores.record import Outcome, Payload
from boxoffice.stores.shard import Shard
from tests.conftest import CLIENT, SHARD, SaleMaker, settle_all
from tests.support.checks import check_at_rest
from tests.support.settling import claimed
from tests.support.shop.office import Till, status_of
from tests.support.shop.orders import order

MOST = 4
WINDOW_S = 3_600
"""No test outlasts it; one in thousands that is run as the hour strikes sees two."""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    declines = settings.declines.model_copy(update={"window_s": WINDOW_S, "customer_max": MOST, "least": 8})
    return settings.model_copy(update={"declines": declines})


@pytest.fixture
async def hall(till: Till, open_sale: SaleMaker) -> Till:
    hall = Till(till.office, await open_sale(GA=500), till.numbers)
    await till.office.catalogue.refresh()
    return hall


async def post(hall: Till, n: int, token: str = "tok_card_declined", *, customer: str = "thief") -> Any:
    """As a key of the shop's does it."""
    terms = Allowance(declines=decline_terms(hall.office.settings.declines))
    wanted = order(hall.event, token, customer=customer, GA=1)
    return await hall.office.admission.ask(CLIENT, wanted, f"{n:032x}", terms)


async def asked(hall: Till, bookings: list[str]) -> int:
    """Payments of these that the gateway knows."""
    return len([1 async for record in hall.gateway.records() if record.booking_id in bookings])


async def declined(hall: Till) -> dict[str, int]:
    found = await hall.office.redis.hgetall(keys.declines(SHARD))
    return {name.decode()[:2]: int(count) for name, count in found.items() if name not in (b"at", b"most")}


async def test_who_tests_cards_all_at_once(hall: Till) -> None:
    """They come in before the first is declined: the gateway is asked for the first few, and the rest fail unasked. From then
    on nothing of that customer is let in; others are, and a hold of the customer's is not paid by card."""
    hold = await hall.book(None, customer="thief", GA=1)
    answers = await asyncio.gather(*(post(hall, n) for n in range(30)), post(hall, 99, "tok_ok", customer="ada"))
    bookings = [answer.booking_id for answer in answers if isinstance(answer, Admitted)]
    assert len(bookings) == 31
    await settle_all(hall.office)
    assert await status_of(hall.office, bookings.pop()) == "confirmed"
    assert {await status_of(hall.office, booking) for booking in bookings} == {"failed payment_declined"}
    assert await asked(hall, bookings) == MOST
    codes = await hall.fetch("SELECT failure_code, count(*) FROM payments WHERE status = 'declined' GROUP BY 1")
    assert dict(codes)[TOO_MANY_DECLINED] == 30 - MOST
    assert await hall.fetch("SELECT FROM payments WHERE due = 'void'") == [], "nobody else had them: nothing to let go"
    assert await declined(hall) == {"o:": MOST, "c:": MOST, "e:": MOST, "C:": MOST + 1, "E:": MOST + 1}
    refused = await post(hall, 100)
    assert isinstance(refused, DeclinedTooOften) and refused.details["whose"] == "customer"
    assert 0 < refused.details["retry_after_s"] <= WINDOW_S
    with pytest.raises(DeclinedTooOften):
        await hall.pay(hold)
    assert (await hall.state(hold))[0] == "H"
    assert isinstance(await post(hall, 101, "tok_ok", customer="ada"), Admitted)
    await hall.at_rest()


async def test_who_tests_cards_one_by_one(hall: Till) -> None:
    """Each is settled before the next comes; with declined payments of a hold, too."""
    hold = await hall.book(None, customer="thief", GA=1)
    await hall.pay(hold, "tok_card_declined")
    await settle_all(hall.office)
    answers = []
    for n in range(MOST + 1):
        answers.append(await post(hall, n))
        await settle_all(hall.office)
    assert [type(answer) for answer in answers] == [Admitted] * (MOST - 1) + [DeclinedTooOften] * 2
    again = await post(hall, 0)
    assert isinstance(again, Admitted) and again.replayed


async def test_a_hold_keeps_the_attempts_that_no_gateway_heard_of(hall: Till) -> None:
    """Holds of one customer are paid all at once, with bad cards: those that were not asked for have all of theirs left."""
    once = hall.office.settings.holds.model_copy(update={"attempts_max": 1})
    hall.office.holds.settings = hall.office.settings.model_copy(update={"holds": once})
    held = [await hall.book(None, customer="thief", GA=1) for _ in range(MOST + 2)]
    await asyncio.gather(*(hall.pay(hold, "tok_card_declined") for hold in held))
    await settle_all(hall.office)
    await hall.office.redis.unlink(keys.declines(SHARD))
    again = await asyncio.gather(*(hall.pay(hold) for hold in held), return_exceptions=True)
    assert sum(isinstance(each, TooManyAttempts) for each in again) == MOST
    await settle_all(hall.office)
    assert [(await hall.state(hold))[0] for hold in held].count("C") == 2


async def test_one_customer_id_for_everybody_who_pays(hall: Till) -> None:
    """As some shops have it: one in ten is declined, more than one customer may have, and nobody is refused for it."""
    good: list[str] = []
    for start in range(0, 40, 10):
        answers = [
            await post(hall, start + n, "tok_card_declined" if n == 0 else "tok_ok", customer="guest")
            for n in range(10)
        ]
        good += [answer.booking_id for answer in answers[1:]]
        await settle_all(hall.office)
    assert {await status_of(hall.office, booking) for booking in good} == {"confirmed"}
    assert isinstance(await post(hall, 99, "tok_ok", customer="guest"), Admitted)


async def test_many_customers_of_one_shop(hall: Till) -> None:
    """Half of all its payments, and as many as there must be at least: then none of the shop's is tried."""
    for n in range(8):
        await post(hall, n, customer=f"c{n}")
        await post(hall, 100 + n, "tok_ok", customer=f"d{n}")
    await settle_all(hall.office)
    refused = await post(hall, 200, "tok_ok", customer="ada")
    assert isinstance(refused, DeclinedTooOften) and refused.details["whose"] == "client"


async def test_whoever_pays_may_pay_for_many_at_once(hall: Till) -> None:
    """One customer's id for all, as some shops have it: all are sold, a few at a time."""
    answers = [await post(hall, n, "tok_ok", customer="guest") for n in range(40)]
    await settle_all(hall.office)
    assert {await status_of(hall.office, answer.booking_id) for answer in answers} == {"confirmed"}
    await hall.pump()
    await check_at_rest(hall.office, [answer.booking_id for answer in answers])


# ------------------------------------------------------------------ one step at a time


class Store:
    """What Redis has counted, and what it is told."""

    def __init__(self, *answers: Any, error: Exception | None = None) -> None:
        self.answers, self.error = answers, error
        self.most = 0
        self.calls: list[Any] = []

    async def hmget(self, name: str, fields: list[str]) -> Any:
        self.calls.append((name, *fields))
        if self.error:
            raise self.error
        return list(self.answers)

    async def execute_command(self, *command: Any) -> Any:
        self.calls.append(command)
        if self.error:
            raise self.error
        return self.most


NOW_MS = 1_000 * WINDOW_S * 7 + 5
BEGAN = b"%d" % (1_000 * WINDOW_S * 7)


class Steps:
    def __init__(self, settings: Settings, *answers: Any, error: Exception | None = None) -> None:
        self.now = 100.0
        self.store: Any = Store(*answers, error=error)
        scripts: Any = SimpleNamespace(decline=DECLINE)
        self.declines = Declines(Shard(self.store, scripts, SHARD), settings, Clock(lambda: self.now))

    async def sift(
        self, *claims: Claimed, known: dict[str, Known] | None = None, asked: tuple[Claimed, ...] = ()
    ) -> list[list[int]]:
        """Sequences of those to ask for, refused, and to wait."""
        before = {claim.record.id for claim in asked}
        sifted = await self.declines.sift(list(claims), known or {}, NOW_MS, before)
        return [[claim.record.sequence for claim in some] for some in sifted]


def _decline() -> Any:
    from boxoffice.stores.scripts import load_scripts

    return load_scripts().decline


DECLINE = _decline()


def of(owner: str, sequence: int, **how: Any) -> Claimed:
    found = claimed(sequence, **how)
    found.record.owner = owner
    return found


async def test_customers_of_one_payment_each_cost_nothing(settings: Settings) -> None:
    steps = Steps(settings)
    assert await steps.sift(of("a", 1), of("b", 2)) == [[1, 2], [], []]
    assert steps.store.calls == []


async def test_payments_of_one_customer_that_come_one_by_one_are_counted_together(settings: Settings) -> None:
    """In claims that overlap, each has one of them; of the first nobody is asked. What is over leaves nothing behind."""
    steps = Steps(settings, None, None)
    one = [of("a", n) for n in range(1, MOST + 2)]
    assert await steps.sift(one[0]) == [[1], [], []]
    assert steps.store.calls == []
    assert [await steps.sift(claim) for claim in one[1:]] == [[[n], [], []] for n in (2, 3, 4)] + [[[], [], [5]]]
    assert len(steps.store.calls) == MOST
    await steps.declines.count([decision(claim, "authorized") for claim in one[:MOST]])
    steps.store.calls.clear()
    assert await steps.sift(one[MOST]) == [[5], [], []]
    assert steps.store.calls == []


async def test_a_payment_is_under_way_until_it_is_counted(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is sifted before Redis was told finds it there."""
    steps = Steps(settings, None, None)
    claims, seen = [of("a", n) for n in range(1, MOST + 2)], []
    await steps.sift(*claims[:MOST])

    async def told(*command: Any) -> None:
        seen.append(await steps.sift(claims[MOST]))

    monkeypatch.setattr(steps.store, "execute_command", told)
    await steps.declines.count([decision(claim, "declined") for claim in claims[:MOST]])
    assert seen == [[[], [], [5]]]


async def test_of_too_many_customers_the_oldest_are_forgotten(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REMEMBERED_MAX", 2)
    steps = Steps(settings, None, None)
    for owner, sequence in (("a", 1), ("b", 2), ("c", 3), ("b", 4), ("a", 5)):
        assert await steps.sift(of(owner, sequence)) == [[sequence], [], []]
    assert steps.store.calls == [(keys.declines(SHARD), "at", "o:b")]


async def test_a_customer_of_several_is_remembered(settings: Settings) -> None:
    """Of those that wait one may come alone: it is not asked for before the others have turned out good."""
    steps = Steps(settings, None, None)
    await steps.sift(*(of("a", n) for n in range(1, 7)))
    assert await steps.sift(of("a", 5), of("b", 9)) == [[9], [], [5]]
    assert await steps.sift(of("b", 9)) == [[9], [], []]
    steps.store.answers = BEGAN, b"4"
    assert await steps.sift(of("a", 6)) == [[], [6], []]


async def test_what_waited_and_comes_alone_is_looked_at(settings: Settings) -> None:
    """Nothing of its customer is under way any more, for all of it was declined."""
    steps = Steps(settings, None, None)
    claims = [of("a", n) for n in range(1, MOST + 3)]
    assert await steps.sift(*claims) == [[1, 2, 3, 4], [], [5, 6]]
    await steps.declines.count([decision(claim, "declined") for claim in claims[:4]])
    steps.store.answers = BEGAN, b"4"
    assert [await steps.sift(claim) for claim in claims[4:]] == [[[], [5], []], [[], [6], []]]
    steps.now += FORGET_S + 1
    assert await steps.sift(of("a", 9)) == [[9], [], []], "after so long, whoever comes was let in by the API"


@pytest.mark.parametrize(
    ("answers", "ask", "refused", "later"),
    [
        ([None, None], [1, 2, 3, 4, 9], [], [5, 6]),
        ([BEGAN, None], [1, 2, 3, 4, 9], [], [5, 6]),
        ([BEGAN, b"3"], [1, 9], [], [2, 3, 4, 5, 6]),
        ([BEGAN, b"4"], [9], [1, 2, 3, 4, 5, 6], []),
        ([BEGAN, b"7"], [9], [1, 2, 3, 4, 5, 6], []),
        ([b"%d" % (int(BEGAN) - 1_000 * WINDOW_S), b"7"], [1, 2, 3, 4, 9], [], [5, 6]),
    ],
)
async def test_of_one_customer_only_so_many_are_asked_for_at_once(
    settings: Settings, answers: list[Any], ask: list[int], refused: list[int], later: list[int]
) -> None:
    """As many as may still be declined; of whom Redis counted too many in this window, none."""
    steps = Steps(settings, *answers)
    assert await steps.sift(*(of("a", n) for n in range(1, 7)), of("b", 9)) == [ask, refused, later]
    assert steps.store.calls == [(keys.declines(SHARD), "at", "o:a")]


async def test_without_redis_only_so_many_are_asked_for(settings: Settings) -> None:
    steps = Steps(settings, error=ConnectionError())
    assert await steps.sift(*(of("a", n) for n in range(1, 7))) == [[1, 2, 3, 4], [], [5, 6]]


async def test_nobody_is_held_up_where_any_number_may_be_declined(settings: Settings) -> None:
    declines = settings.declines.model_copy(update={"customer_max": 0})
    steps = Steps(settings.model_copy(update={"declines": declines}))
    assert await steps.sift(*(of("a", n) for n in range(1, 7))) == [[1, 2, 3, 4, 5, 6], [], []]


async def test_what_may_have_been_asked_for_is_asked_for_again(settings: Settings) -> None:
    """Somebody's money may be set aside."""
    steps = Steps(settings, BEGAN, b"9")
    lapsed, fresh, met, more = of("a", 1, lapses=1), of("a", 2), of("a", 3), of("a", 4)
    row = PaymentRow("unknown", None, None, None, 5)
    known = {met.record.id: Known(met.record.id, "pending", None, payment=row)}
    assert await steps.sift(lapsed, fresh, met, more, known=known) == [[1, 3], [2, 4], []]


@pytest.mark.parametrize("why", ["lapsed", "known", "noted", "tried"])
async def test_what_may_have_been_asked_for_is_no_payment_under_way(settings: Settings, why: str) -> None:
    """It is asked for in any case, and holds up no other of its customer."""
    steps = Steps(settings)
    before, other = of("a", 1, lapses=int(why == "lapsed")), of("a", 2)
    if why == "noted":
        before.record.payload = Payload(outcome=Outcome("unknown"))
    row = PaymentRow("unknown", None, None, None, 5)
    known = {before.record.id: Known(before.record.id, "pending", None, payment=row)} if why == "known" else {}
    asked = (before,) if why == "tried" else ()
    assert await steps.sift(before, known=known, asked=asked) == [[1], [], []]
    assert await steps.sift(other) == [[2], [], []]
    assert steps.store.calls == []


def decision(
    claim: Claimed, status: str | None, code: str | None = None, standing: Standing = Standing.NEW, card: str = ""
) -> Decision:
    payment = PaymentChange(status, None, code, card=card) if status else None
    return Decision(claim, Verdict.FAIL, Payload(), standing=standing, payment=payment)


async def test_more_are_asked_for_as_those_before_turn_out_good(settings: Settings) -> None:
    steps = Steps(settings, BEGAN, None)
    claims = [of("a", n) for n in range(1, 13)]
    assert await steps.sift(*claims) == [[1, 2, 3, 4], [], [5, 6, 7, 8, 9, 10, 11, 12]]
    assert await steps.sift(*claims[:5]) == [[1, 2, 3, 4], [], [5]], "the same, tried apart"
    await steps.declines.count([decision(claims[0], "authorized"), decision(claims[1], "authorized")])
    assert await steps.sift(*claims[4:]) == [[5, 6, 7, 8], [], [9, 10, 11, 12]], "2 good, 2 open: 4 of 6"
    await steps.declines.count([decision(claims[2], "unknown"), decision(claims[3], None)])
    assert await steps.sift(*claims[8:]) == [[9], [], [10, 11, 12]], "what is not answered yet counts as no more"
    steps.store.answers = BEGAN, b"1"
    assert await steps.sift(*claims[9:]) == [[], [], [10, 11, 12]], "what is declined still is more than what was good"
    steps.store.answers = BEGAN, None
    steps.now += FORGET_S + 1
    assert await steps.sift(*claims[9:]) == [[10, 11, 12], [], []]


async def test_what_was_asked_for_in_this_claim_is_not_failed_unasked(settings: Settings) -> None:
    """The gateway was asked for all of them, and the batch is tried apart: meanwhile too many were declined."""
    steps = Steps(settings, None, None)
    claims = [of("a", n) for n in range(1, 6)]
    await steps.sift(*claims)
    steps.store.answers = BEGAN, b"4"
    assert await steps.sift(*claims, asked=tuple(claims[:4])) == [[1, 2, 3, 4], [5], []]


@pytest.mark.parametrize("most", [0, 3, -1])
async def test_what_is_counted(settings: Settings, most: int) -> None:
    """What the gateway answered, yes or no: by client and event; a no by customer, too, which a yes takes back, if any customer
    has one or nobody knows. Nothing twice."""
    steps = Steps(settings)
    steps.store.most = most
    await steps.declines.count([
        decision(of("a", 1), "declined", "lost_card"), decision(of("a", 2), "declined"), decision(of("b", 3), "authorized"),
        decision(of("d", 9), "declined"), decision(of("d", 10), "authorized"), decision(of("f", 11), "authorized"),
        decision(of("f", 12), "authorized"), decision(of("f", 13), "declined"), decision(of("b", 14), "authorized"),
        decision(of("a", 4), "declined", TOO_MANY_DECLINED), decision(of("a", 5), "declined", standing=DECIDED),
        decision(of("a", 6), None), decision(of("a", 7), "unknown"), decision(of("a", 8), "failed"),
    ])  # fmt: skip
    (_, _, _, name, window_ms, card_max, good, *counts), *more = steps.store.calls
    assert (name, window_ms, card_max) == (keys.declines(SHARD), 1_000 * WINDOW_S, 10)
    assert dict(zip(counts[::2], counts[1::2], strict=True)) == {
        "o:a": 2, "c:c": 4, "e:e": 4, "C:c": 9, "E:e": 9
    }  # fmt: skip
    assert good == ""
    assert [call[3:] for call in more] == ([(name, window_ms, card_max, "b:2,f:1")] if most else [])


@pytest.mark.parametrize(
    ("status", "counts", "good"),
    [
        ("authorized", {"C:c": 1, "E:e": 1}, ["a:1"]),
        ("declined", {"o:a": 1, "c:c": 1, "e:e": 1, "C:c": 1, "E:e": 1}, []),
    ],
)
async def test_who_is_told_of_a_batch_of_one(
    settings: Settings, status: str, counts: dict[str, int], good: list[str]
) -> None:
    steps = Steps(settings)
    steps.store.most = 1
    await steps.declines.count([decision(of("a", 1), status)])
    (_, *told), *rest = [call[6:] for call in steps.store.calls]
    assert dict(zip(told[::2], told[1::2], strict=True)) == counts
    assert rest == [(each,) for each in good]


@pytest.mark.parametrize(("card_max", "named"), [(10, {"f:x": 2, "f:y": 1}), (0, {})])
async def test_cards_that_the_gateway_names_are_counted(
    settings: Settings, card_max: int, named: dict[str, int]
) -> None:
    """When it declined them, and where anybody wants to know. What no gateway was asked for was no card's."""
    declines = settings.declines.model_copy(update={"card_max": card_max, "customer_max": 0})
    steps = Steps(settings.model_copy(update={"declines": declines}))
    await steps.declines.count([
        decision(of("a", 1), "declined", card="x"), decision(of("b", 2), "declined", card="x"),
        decision(of("c", 3), "declined", card="y"), decision(of("c", 4), "declined"),
        decision(of("c", 5), "authorized", card="x"), decision(of("c", 6), "declined", TOO_MANY_DECLINED, card="x"),
        decision(of("c", 7), "declined", standing=DECIDED, card="x"),
    ])  # fmt: skip
    ((_, _, _, _, _, told_max, _, *counts),) = steps.store.calls
    told = dict(zip(counts[::2], counts[1::2], strict=True))
    assert told_max == card_max and {name: count for name, count in told.items() if name.startswith("f:")} == named


LAST = b"%d" % (int(BEGAN) - 1_000 * WINDOW_S)


@pytest.mark.parametrize(
    ("answers", "card_max", "looks"),
    [
        ((BEGAN, b"1"), 10, True), ((BEGAN, b"0"), 10, False), ((BEGAN, None), 10, False), ((LAST, b"1"), 10, False),
        ((None, b"1"), 10, False), ((BEGAN, b"1"), 0, False),
    ],
)  # fmt: skip
async def test_when_cards_are_looked_at(
    settings: Settings, answers: tuple[Any, Any], card_max: int, looks: bool
) -> None:
    """While one was declined too often in this window."""
    declines = settings.declines.model_copy(update={"card_max": card_max})
    steps = Steps(settings.model_copy(update={"declines": declines}), *answers)
    assert await steps.declines.looks_at_cards(NOW_MS) is looks
    assert steps.store.calls == ([(keys.declines(SHARD), "at", "F")] if card_max else [])
    steps.store.error = ConnectionError()
    assert await steps.declines.looks_at_cards(NOW_MS) is False


@pytest.mark.parametrize(
    ("card", "answers", "spent"),
    [
        ("x", (BEGAN, b"10"), True), ("x", (BEGAN, b"9"), False), ("x", (BEGAN, None), False), ("x", (LAST, b"99"), False),
        ("", (BEGAN, b"99"), False),
    ],
)  # fmt: skip
async def test_which_card_is_spent(settings: Settings, card: str, answers: tuple[Any, Any], spent: bool) -> None:
    steps = Steps(settings, *answers)
    assert await steps.declines.is_spent(card, NOW_MS) is spent
    assert steps.store.calls == ([(keys.declines(SHARD), "at", "f:x")] if card else [])


@pytest.mark.parametrize("changes", [{}, {"customer_max": 0, "least": 0, "card_max": 0}])
async def test_when_nothing_is_counted(settings: Settings, changes: dict[str, int]) -> None:
    """Nothing was answered, or nobody wants to know."""
    declines = settings.declines.model_copy(update=changes)
    steps = Steps(settings.model_copy(update={"declines": declines}))
    await steps.declines.count([decision(of("a", 1), "declined" if changes else "unknown")])
    assert steps.store.calls == []


async def test_a_redis_that_counts_nothing_stops_nobody(settings: Settings) -> None:
    steps = Steps(settings, error=ConnectionError())
    await steps.declines.count([decision(of("a", 1), "declined"), decision(of("b", 2), "authorized")])
    assert len(steps.store.calls) == 1
