"""What each booking of a call is told, from the script's reply."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from boxoffice.admission import forms as module
from boxoffice.admission.forms import Admitted, Form, answers_of, views_of
from boxoffice.admission.protocol import decode
from boxoffice.admission.templates import BookingTemplate, Gaps
from boxoffice.errors import (
    AccessCodeInvalid,
    AccessCodeRequired,
    AccessCodeUsedUp,
    BookingLimit,
    BoxOfficeError,
    Busy,
    CustomerLimit,
    DeclinedTooOften,
    GateClosed,
    KeyReused,
    NotFound,
    PriceChanged,
    PriceOutdated,
    RateLimited,
    SaleClosed,
    SaleNotOpen,
    SalePaused,
    SoldOut,
    StoreAway,
    UnpaidLimit,
)
from boxoffice.sales.catalogue import EventView, TierView
from boxoffice.stores.record import Body, Line, Payload, Record

TIERS = tuple(TierView(f"tier{n}", f"T{n}", "Tier", 1_000 * n, 50, True) for n in (1, 2, 3))
EVENT = EventView("event", "Concert", "", 1, "active", "USD", 0, 0, TIERS)
SHORTER = EventView("event", "Concert", "", 1, "active", "USD", 0, 0, TIERS[:2])
OTHER = EventView("other", "Other", "", 1, "active", "USD", 0, 0, TIERS[2:])
LINES = (Line("tier1", 2, 1_000), Line("tier2", 1, 2_000))
NOW_MS = 1_763_840_000_007


def form(
    event: EventView = EVENT, *, lines: tuple[Line, ...] = LINES, hold_ms: int = 60_000, booking: str = "id"
) -> Form:
    template = BookingTemplate("shop", event, lines, charge=None, referred=False, hold_ms=hold_ms)
    gaps = Gaps(booking, "", "", "", '"ada"', "", "", "", "")
    return Form(booking, template, template.kind, "", "", "", lambda _: None, 0.0, gaps)


def tell(*results: Any, forms: list[Form] | None = None, left: Any = None, short: Any = None) -> Any:
    """What a call of these forms is told; whether its event lacks its counters."""
    forms = forms or [form() for _ in results]
    lacking: list[bool] = []
    views = views_of(forms)
    reply = decode([b"open", b"%d" % NOW_MS, list(results), left or [[b"5", b"0", b"7"] for _ in views], 0, 0, []])
    found = answers_of(forms, views, reply, {} if short is None else short, lambda: lacking.append(True), lambda: 100.0)
    return found, lacking


def told(result: Any, **changes: Any) -> BoxOfficeError:
    (answer,), _ = tell(result, forms=[form(**changes)] if changes else None)
    assert isinstance(answer, BoxOfficeError)
    return answer


def test_who_is_refused_alike_shares_an_answer() -> None:
    """Whatever is said to others in between; of another template it is another, and who is barred is told that."""
    same, barred = form(), NotFound()
    forms = [msgspec.structs.replace(same) for _ in range(6)] + [form(event=SHORTER)]
    forms[5].barred = lambda: barred
    sold_out = [b"sold_out", b"0", b"tier1", b"0", b"0"]
    answers, _ = tell(sold_out, 1, [b"replayed", b"first", b"nonsense"], [b"busy"], 1, 1, 1, forms=forms)
    assert [type(answer) for answer in answers] == [SoldOut, SoldOut, Admitted, Busy, SoldOut, NotFound, SoldOut]
    assert answers[0] is answers[1] is answers[4] and answers[6] is not answers[0] and answers[5] is barred


OUTCOMES: dict[bytes, tuple[Any, list[bytes]]] = {
    b"created": (Admitted, [b"%d" % NOW_MS]),
    b"replayed": (Admitted, [b"first", b"nonsense"]),
    b"left": (type(None), []),
    b"mismatch": (KeyReused, [b"first"]),
    b"rate_limited": (RateLimited, [b"key", b"3", b"%d" % (NOW_MS + 1)]),
    b"declined_too_often": (DeclinedTooOften, [b"event", b"7001"]),
    b"unloaded": (GateClosed, []),
    b"sale_closed": (SaleClosed, [b"event"]),
    b"paused": (SalePaused, []),
    b"ended": (SaleClosed, [b"tier1"]),
    b"not_open": (SaleNotOpen, [b"7"]),
    b"unknown_tier": (GateClosed, [b"tier1"]),
    b"code_refused": (AccessCodeInvalid, [b"unknown"]),
    b"code_used_up": (AccessCodeUsedUp, [b"1"]),
    b"sold_out": (SoldOut, [b"0", b"tier1", b"1", b"0"]),
    b"booking_limit": (BookingLimit, [b"", b"2", b"4"]),
    b"customer_limit": (CustomerLimit, [b"", b"3", b"0", b"4", b"1"]),
    b"unpaid_limit": (UnpaidLimit, [b"client", b"3", b"4"]),
    b"price_changed": (PriceOutdated, [b"1", 1]),
    b"busy": (Busy, []),
    # A request with a bad quantity never comes this far; it is told as a fault of ours, with an error in the log.
    b"malformed": (StoreAway, []),
}
"""Every outcome of the script, see its header, with what a shop is told. That none is missing: tests/test_lua_headers.py."""


def test_an_outcome_that_nobody_knows_is_told_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a script that is newer than this process, as a fault of ours."""
    said: list[Any] = []
    monkeypatch.setattr(module.seldom, "error", lambda event, **fields: said.append((event, fields["outcome"])))
    for result in ([b"something_new", b"7"], [b"malformed"]):
        assert type(told(result)) is StoreAway
    assert said == [("admission.unexpected", "something_new"), ("admission.unexpected", "malformed")]


@pytest.mark.parametrize("word", OUTCOMES)
def test_every_outcome_has_an_answer_of_its_own(word: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only one is a fault of ours."""
    said: list[str] = []
    for level in ("error", "exception"):
        monkeypatch.setattr(module.seldom, level, lambda event, *_, **__: said.append(event))
    kind, details = OUTCOMES[word]
    ((answer,), _) = tell([word, *details])
    assert type(answer) is kind
    assert said == (["admission.unexpected"] if word == b"malformed" else [])


@pytest.mark.parametrize(
    ("result", "error", "details"),
    [
        ([b"mismatch", b"first"], KeyReused, {"booking_id": "first"}),
        ([b"booking_limit", b"tier1", b"2", b"4"], BookingLimit, {"least": 2, "limit": 4, "tier_id": "tier1", "code": "T1"}),
        ([b"customer_limit", b"gone", b"0", b"2", b"0", b""], CustomerLimit, {"held": 0, "least": 2, "tier_id": "gone"}),
        ([b"customer_limit", b"tier2", b"4", b"0", b"4", b"0"], CustomerLimit,
         {"held": 4, "limit": 4, "may_take": 0, "tier_id": "tier2", "code": "T2"}),
        ([b"customer_limit", b"", b"3", b"0", b"4", b"1"], CustomerLimit,
         {"held": 3, "limit": 4, "may_take": 1}),
        ([b"unpaid_limit", b"client", b"3", b"4"], UnpaidLimit,
         {"whose": "client", "held": 3, "limit": 4, "retry_after_s": 15}),
        ([b"declined_too_often", b"client", b"7001"], DeclinedTooOften, {"whose": "client", "retry_after_s": 8}),
        ([b"declined_too_often", b"event", b"7000"], DeclinedTooOften, {"whose": "event", "retry_after_s": 7}),
        ([b"declined_too_often", b"customer", b"0"], DeclinedTooOften, {"whose": "customer", "retry_after_s": 1}),
        ([b"not_open", b"9999999999999"], AccessCodeRequired, {}),
        ([b"not_open", b"9999999999998"], SaleNotOpen, {"opens_at": "2286-11-20T17:46:39.998Z"}),
        ([b"code_refused", b"unknown"], AccessCodeInvalid, {"reason": "unknown"}),
        ([b"code_refused", b"revoked"], AccessCodeInvalid, {"reason": "revoked"}),
        ([b"code_refused", b"expired"], AccessCodeInvalid, {"reason": "expired"}),
        ([b"code_refused", b"other_tier"], AccessCodeInvalid, {"reason": "other_tier"}),
        ([b"code_used_up", b"1"], AccessCodeUsedUp, {"left": 1}),
        ([b"price_changed", b"4000", 0], PriceChanged, {"amount_cents": 4_000, "currency": "USD"}),
        ([b"price_changed", b"4001", 0], PriceChanged, {"amount_cents": 4_001, "currency": "USD"}),
        ([b"price_changed", b"4000", 1], PriceOutdated, {"amount_cents": 4_000, "currency": "USD"}),
        ([b"busy"], Busy, {"retry_after_s": 2}),
        ([b"unloaded"], GateClosed, {}),
        ([b"unknown_tier", b"tier1"], GateClosed, {}),
        ([b"sale_closed", b"event"], SaleClosed, {"reason": "event"}),
        ([b"sale_closed", b"started"], SaleClosed, {"reason": "started"}),
        ([b"sale_closed", b"tier2"], SaleClosed, {"reason": "tier", "tier_id": "tier2"}),
        ([b"paused"], SalePaused, {}),
        ([b"ended", b"tier2"], SaleClosed, {"reason": "ended", "tier_id": "tier2"}),
        ([b"not_open", b"86400000"], SaleNotOpen, {"opens_at": "1970-01-02T00:00:00.000Z"}),
        ([b"malformed"], StoreAway, {}),
        ([b"something else"], StoreAway, {}),
    ],
)  # fmt: skip
def test_why_a_booking_is_refused(result: list[bytes], error: type[BoxOfficeError], details: dict[str, Any]) -> None:
    refused = told(result)
    assert (type(refused), refused.details) == (error, details)


@pytest.mark.parametrize(
    ("why", "detail"),
    [("event", "The event is not on sale."), ("started", "The event has started."), ("tier2", "Tier T2 is not on sale."),
     ("tier9", "Tier tier9 is not on sale.")],
)  # fmt: skip
def test_what_is_not_on_sale_is_named(why: str, detail: str) -> None:
    assert told([b"sale_closed", why.encode()]).detail == detail


def test_what_is_short_is_told_line_by_line() -> None:
    """In the order of the lines, whatever the script's; never less than nothing."""
    refused = told([b"sold_out", b"%d" % (NOW_MS + 3_001), b"tier2", b"-3", b"0", b"tier1", b"1", b"4"])
    assert isinstance(refused, SoldOut)
    assert refused.details == {"may_return": False, "shortfall": [
        {"tier_id": "tier1", "code": "T1", "requested": 2, "available": 1, "may_return": True},
        {"tier_id": "tier2", "code": "T2", "requested": 1, "available": 0, "may_return": False},
    ]}  # fmt: skip
    (one,) = told([b"sold_out", b"0", b"tier1", b"1", b"0"]).details["shortfall"]
    assert one["tier_id"] == "tier1"


def test_when_the_next_hold_ends_is_told_from_the_time_of_the_call() -> None:
    refused = told([b"sold_out", b"%d" % (NOW_MS + 3_001), b"tier1", b"1", b"4"])
    assert (refused.details["may_return"], refused.details["retry_after_s"]) == (True, 4)


def test_who_is_refused_alike_is_told_alike() -> None:
    """One answer for all who asked for the same of the same event; others have theirs."""
    other = form(lines=LINES[:1])
    result = [b"sold_out", b"0", b"tier1", b"1", b"0"]
    answers, _ = tell(result, result, result, [b"busy"], forms=[form(), form(), other, form()])
    assert answers[0] is not answers[2] and isinstance(answers[3], Busy)
    same = form()
    twins = [same, Form("id2", same.template, same.kind, "", "", "", lambda _: None, 0.0)]
    answers, _ = tell(result, result, forms=twins)
    assert answers[0] is answers[1]


@pytest.mark.parametrize("hold_ms", [0, 60_000])
def test_a_new_booking_is_told_with_what_is_left(hold_ms: int) -> None:
    """Made now, or a moment ago under the same id: then its own time counts."""
    free = (Line("tier1", 2, 0),)
    forms = [form(hold_ms=hold_ms, lines=free, booking=name) for name in ("a", "b")]
    (now, before), lacking = tell(b"created", [b"created", b"%d" % (NOW_MS - 5_000)], forms=forms)
    assert not lacking
    for answer, booking, created in ((now, "a", "2025-11-22T19:33:20.007Z"), (before, "b", "2025-11-22T19:33:15.007Z")):
        assert (answer.booking_id, answer.event, answer.availability) == (booking, EVENT, [5, 0, 7])
        assert (answer.replayed, answer.status) == (False, "held" if hold_ms else "pending")
        shown = msgspec.json.decode(answer.shown)
        assert (shown["id"], shown["created_at"], shown["customer_id"]) == (booking, created, "ada")
        assert shown["expires_at"] == (created.replace("33:20", "34:20").replace("33:15", "34:15") if hold_ms else None)


@pytest.mark.parametrize(
    ("state", "deadline_ms", "status"),
    [("H", NOW_MS + 1, "held"), ("H", NOW_MS, "expired"), ("H", 1, "expired"), ("P", NOW_MS, "pending"),
     ("P", 0, "pending"), ("C", 0, "confirmed"), ("C", NOW_MS, "confirmed"), ("F", 0, "failed"), ("E", 1, "expired"),
     ("X", NOW_MS + 1, "cancelled")],
)  # fmt: skip
def test_a_repeated_booking_is_told_by_its_record(state: str, deadline_ms: int, status: str) -> None:
    """A hold whose time is up has ended, whether a sweep has seen it or not."""
    record = Record(
        "first", state, 1, NOW_MS, deadline_ms, "", "scope", "print", "event", "owner", "tier1:2", "0",
        Body("shop", "bob", 2_000, "USD", (Line("tier1", 2, 1_000),)), Payload(),
    )  # fmt: skip
    (answer,), _ = tell([b"replayed", b"first", record.pack()])
    assert (answer.booking_id, answer.replayed, answer.status, answer.availability, answer.event) == (
        "first", True, status, [5, 0, 7], EVENT,
    )  # fmt: skip
    assert msgspec.json.decode(answer.shown)["customer_id"] == "bob"
    (unread,), _ = tell([b"replayed", b"first", b"nonsense"])
    assert unread == Admitted(None, "first", EVENT, [5, 0, 7], True, "")
    again = msgspec.structs.replace(record, state="F", payload=Payload(failure="duplicate_of:zeroth"))
    (duplicate,), _ = tell([b"replayed", b"first", again.pack()])
    assert duplicate == unread, "PostgreSQL knows who came first"


def test_a_question_whose_tickets_are_there_is_to_be_sent() -> None:
    assert tell([b"left"], [b"busy"])[0][0] is None


@pytest.mark.parametrize(
    ("result", "times"),
    [
        ([b"unloaded"], 1),
        ([b"unknown_tier", b"tier1"], 1),
        ([b"busy"], 0),
        ([b"sold_out", b"0", b"tier1", b"0", b"0"], 0),
    ],
)
def test_lost_counters_are_asked_for(result: list[bytes], times: int) -> None:
    """Once for all that are refused alike."""
    assert len(tell(result, result)[1]) == times


def test_tiers_that_are_short_are_noted_for_a_second() -> None:
    """Each with what it has; those of other refusals are not."""
    short: dict[str, Any] = {"tier1": (9, 9.0), "tier3": (4, 4.0)}
    gone = [b"sold_out", b"0", b"tier1", b"1", b"0", b"tier2", b"0", b"9"]
    tell(gone, [b"sale_closed", b"tier3"], b"created", short=short)
    assert short == {"tier1": (1, 101.0), "tier2": (0, 101.0), "tier3": (4, 4.0)}


def test_each_event_is_told_what_is_left_of_it() -> None:
    """Never less than nothing; and a view of a moment ago is told of its own tiers."""
    forms = [form(SHORTER), form(OTHER, lines=(Line("tier3", 1, 3_000),)), form(EVENT)]
    views = views_of(forms)
    assert list(views) == ["event", "other"] and views["event"] is EVENT and views["other"] is OTHER
    answers, _ = tell(*3 * [b"created"], forms=forms, left=[[b"5", b"-2", b"7"], [None]])
    assert [answer.availability for answer in answers] == [[5, 0], [0], [5, 0, 7]]
    longest_first = [form(EVENT), form(SHORTER)]
    assert views_of(longest_first)["event"] is EVENT
    answers, _ = tell(*2 * [b"created"], forms=longest_first, left=[[b"1", b"2", b"3"]])
    assert [answer.availability for answer in answers] == [[1, 2, 3], [1, 2]]


def test_one_whose_answer_cannot_be_made_fails_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Any] = []
    monkeypatch.setattr(module.seldom, "exception", lambda *args: said.append(args))
    answers, _ = tell(b"created", [b"customer_limit", b"", b"no number", b"0", b"4", b"1"], b"created")
    assert [type(answer) for answer in answers] == [Admitted, StoreAway, Admitted]
    assert [name for name, _ in said] == ["admission.failed"]
