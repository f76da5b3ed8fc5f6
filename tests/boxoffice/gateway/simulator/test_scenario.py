"""What the simulated gateway answers in each state of a payment, and which word it writes. Pure."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from boxoffice.gateway.base import (
    AlreadyCaptured,
    Authorized,
    Declined,
    Found,
    NotFound,
    Refused,
    RequiresAction,
    Unknown,
)
from boxoffice.gateway.simulator import scenario
from boxoffice.gateway.simulator.cards import DECLINES
from boxoffice.gateway.simulator.scenario import State

KEY = "0123456789abcdefghijKLMNOP"
REFERENCE = "sim_0123456789abcdefghij"


def word(status: str, behaviour: str = "ok", *, captured: int = 0, refunded: int = 0, refunds: str = "") -> str:
    """A payment of 10.50 USD."""
    return State(status, 1_050, "USD", captured, refunded, refunds, f"tok_{behaviour}_4242").word


def test_a_word_is_read_as_it_is_written() -> None:
    state = State("C", 1_050, "EUR", 900, 50, "r1=50", "tok_ok_4242")
    assert scenario.read(state.word) == state
    assert state.word == "C:1050:EUR:900:50:r1=50:tok_ok_4242"
    assert (state.behaviour, scenario.read(word("A", "late")).behaviour) == ("ok", "late")
    assert scenario.reference_of(KEY) == REFERENCE


FIRST = {
    "ok": ("A", 1_050, True), "late": ("A", 1_050, False), "timeout": ("A", 1_050, False),
    "wrong_amount": ("A", 1_051, True), "3ds": ("R", 1_050, False), "3ds_fail": ("R", 1_050, False),
    "error": ("T", 1_050, False), "capture_refused": ("A", 1_050, True), "disputed": ("A", 1_050, True),
    **{decline: ("D", 1_050, False) for decline in sorted(DECLINES)},
}  # fmt: skip


@pytest.mark.parametrize("behaviour", FIRST)
def test_what_a_first_request_does(behaviour: str) -> None:
    status, amount, plain = FIRST[behaviour]
    step = scenario.authorize(None, f"tok_{behaviour}_4242", 1_050, "USD")
    assert step is not None
    assert scenario.read(step.word) == State(status, amount, "USD", 0, 0, "", f"tok_{behaviour}_4242")
    assert (step.amount_cents, step.plain) == (amount, plain)


def test_a_request_that_met_an_error_may_come_again_and_others_have_their_outcome() -> None:
    step = scenario.authorize(word("T", "error"), "tok_error_4242", 1_050, "USD")
    assert step is not None
    assert (step.word, step.plain) == (word("A", "error"), True)
    for status in "RACDV":
        assert scenario.authorize(word(status), "tok_ok_4242", 1_050, "USD") is None


def test_what_nobody_checked_breaks_no_line() -> None:
    """A token of no shape declines and is not written; a currency of no shape is an error of ours."""
    step = scenario.authorize(None, "hunter2: x", 1_050, "USD")
    assert step is not None
    assert scenario.read(step.word) == State("D", 1_050, "USD", 0, 0, "", "tok_card_declined")
    for currency in ("usd", "US", "USDD", "", "US:"):
        with pytest.raises(ValueError):
            scenario.authorize(None, "tok_ok_4242", 1_050, currency)


@pytest.mark.parametrize(
    ("known", "means"),
    [
        (word("A"), Authorized(REFERENCE, 1_050, "USD")),
        (word("C", captured=900), Authorized(REFERENCE, 1_050, "USD")),
        (word("R"), RequiresAction(f"https://bank/{KEY}", REFERENCE)),
        (word("T"), Unknown("server_error")),
        (word("D", "lost_card"), Declined("lost_card", REFERENCE)),
        (word("D", "3ds_fail"), Declined("authentication_failed", REFERENCE)),
        (word("V"), Declined("voided", REFERENCE)),
        (word("V", "3ds_fail"), Declined("voided", REFERENCE)),
    ],
)
def test_what_is_said_of_an_authorisation(known: str, means: Any) -> None:
    assert scenario.answer(known, KEY, "https://bank") == means


@pytest.mark.parametrize(
    ("known", "after"),
    [
        (None, None), (word("R"), word("A")), (word("R", "3ds"), word("A", "3ds")),
        (word("R", "3ds_fail"), word("D", "3ds_fail")),
        *((word(status, "3ds"), None) for status in "TACDV"),
    ],
)  # fmt: skip
def test_what_a_customer_completes(known: str | None, after: str | None) -> None:
    assert scenario.complete(known) == after


DONE = None
SOME = word("C", captured=900)


@pytest.mark.parametrize(
    ("known", "amount", "number", "after"),
    [
        (None, 900, 0, (None, Refused("not_found"), False)),
        (word("T"), 900, 0, (None, Refused("not_found"), False)),
        (word("A"), 900, 0, (SOME, DONE, False)),
        (word("A"), 0, 0, (word("C"), DONE, False)),
        (word("A"), 1_050, 0, (word("C", captured=1_050), DONE, False)),
        (word("A"), 1_051, 0, (None, Refused("amount"), False)),
        (word("A"), -1, 0, (None, Refused("amount"), False)),
        (SOME, 900, 0, (None, DONE, False)),
        (SOME, 901, 0, (None, Refused("already_captured"), False)),
        (word("V"), 900, 0, (None, Refused("voided"), False)),
        (word("D"), 900, 0, (None, Refused("not_authorized"), False)),
        (word("R"), 900, 0, (None, Refused("not_authorized"), False)),
        (word("A", "capture_refused"), 900, 0, (word("V", "capture_refused"), Refused("authorization_expired"), False)),
        (word("A", "capture_error"), 900, 0, (word("A", "capture_error", refunds="capture"), scenario.ERROR, False)),
        (word("A", "capture_error", refunds="capture"), 900, 0, (None, scenario.REPLAYED, False)),
        (
            word("A", "capture_error", refunds="capture"), 900, 1,
            (word("C", "capture_error", captured=900, refunds="capture"), DONE, False),
        ),
        (word("A", "capture_timeout"), 900, 0, (word("C", "capture_timeout", captured=900), scenario.TIMEOUT, False)),
        (word("A", "disputed"), 900, 0, (word("C", "disputed", captured=900), DONE, True)),
        (word("A", "dashboard_refund"), 900, 0, (word("C", "dashboard_refund", captured=900), DONE, True)),
        (word("A", "late"), 900, 0, (word("C", "late", captured=900), DONE, False)),
    ],
)  # fmt: skip
def test_what_a_capture_does(known: str | None, amount: int, number: int, after: Any) -> None:
    """The word to write, the answer (None: done), and whether something follows by itself."""
    assert scenario.capture(known, amount, number) == after


@pytest.mark.parametrize(
    ("known", "after"),
    [
        (None, (None, NotFound())), (word("T"), (None, NotFound())), (word("A"), (word("V"), DONE)),
        (word("R"), (word("V"), DONE)), (word("D"), (None, DONE)), (word("V"), (None, DONE)),
        (SOME, (None, AlreadyCaptured(900))),
    ],
)  # fmt: skip
def test_what_a_void_does(known: str | None, after: Any) -> None:
    assert scenario.void(known) == after


STATUSES = {
    "T": "processing", "R": "requires_action", "A": "authorized", "C": "captured", "D": "declined", "V": "voided",
}  # fmt: skip


@pytest.mark.parametrize(("letter", "behaviour"), list(product(STATUSES, ["lost_card", "3ds_fail"])))
def test_how_a_payment_is_found(letter: str, behaviour: str) -> None:
    """Each number its own; a reason only where no money comes, and an address only where a customer is waited for."""
    failure: str | None = None
    if letter in "DV":
        failure = "voided" if letter == "V" else {"3ds_fail": "authentication_failed"}.get(behaviour, behaviour)
    address = f"https://bank/{KEY}" if letter == "R" else None
    known = word(letter, behaviour, captured=900, refunded=50, refunds="r=50")
    assert scenario.found(known, KEY, "https://bank") == Found(
        STATUSES[letter],
        REFERENCE,
        1_050,
        "USD",
        900,
        50,
        failure,
        address,  # type: ignore[arg-type]
    )
