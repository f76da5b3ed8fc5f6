"""What the simulated gateway answers, as functions of what its ledger says about a payment. No I/O, no clock.

A payment's whole state is one word, the fields of `State` joined by colons: the ledger keeps words and knows nothing
of money. Most payments of a sale share a handful of words, so every function here is remembered by
its arguments, and a batch costs little more than dictionary look-ups.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

from boxoffice.gateway.base import (
    AlreadyCaptured,
    Authorization,
    Authorized,
    Capture,
    Declined,
    Found,
    NotFound,
    PaymentStatus,
    Refused,
    RequiresAction,
    Unknown,
    Void,
)
from boxoffice.gateway.simulator.cards import DECLINES, behaviour_of

__all__ = [
    "ERROR",
    "REPLAYED",
    "TIMEOUT",
    "State",
    "answer",
    "authorize",
    "capture",
    "complete",
    "found",
    "read",
    "reference_of",
    "void",
]

TIMEOUT: Final = Unknown("timeout")
ERROR: Final = Unknown("server_error")
REPLAYED: Final = Unknown("server_error_replayed")
"""The same error again, because the same key came again: it says nothing about how the payment is now."""

_SOON: Final = {"dashboard_refund", "disputed"}
"""Cards to whose payments something happens by itself, some time after the capture."""

_STATUS: Final[dict[str, PaymentStatus]] = {
    "T": "processing",
    "R": "requires_action",
    "A": "authorized",
    "C": "captured",
    "D": "declined",
    "V": "voided",
}
"""`T`: asked for once, met a server error, nothing happened."""

_CURRENCY: Final = re.compile(r"[A-Z]{3}")

_MEMORY: Final = 16_384
"""Remembered answers of one function. Words with refunds are each their own, and push each other out."""


class State(NamedTuple):
    """A payment at the simulator."""

    status: str
    amount_cents: int
    currency: str
    captured_cents: int
    refunded_cents: int
    refunds: str
    """What went back, and errors met: see `givings.py`."""
    token: str

    @property
    def word(self) -> str:
        """The state as the ledger keeps it."""
        return ":".join(map(str, self))

    @property
    def behaviour(self) -> str:
        """What the card makes happen."""
        return behaviour_of(self.token) or "card_declined"


class Authorizing(NamedTuple):
    """What a first request for a payment does: its new word, and what may be special about the answer."""

    word: str
    amount_cents: int
    plain: bool
    """Authorised, and told at once."""


@lru_cache(_MEMORY)
def reference_of(payment_key: str) -> str:
    """The simulator's own id of a payment: as long as those of real gateways, and told from the payment key."""
    return "sim_" + payment_key[:20]


def read(word: str) -> State:
    """The state that a word spells."""
    status, amount, currency, captured, refunded, refunds, token = word.split(":")
    return State(status, int(amount), currency, int(captured), int(refunded), refunds, token)


@lru_cache(_MEMORY)
def authorize(word: str | None, token: str, amount_cents: int, currency: str) -> Authorizing | None:
    """What a request to authorise does, or None when the payment has its outcome already."""
    if word is not None and word[0] != "T":
        return None
    if not _CURRENCY.fullmatch(currency):
        raise ValueError("not a currency")
    behaviour = behaviour_of(token)
    if behaviour is None:
        # Nobody checked this token: it declines, and is kept out of the ledger, whose lines it could break.
        behaviour, token = "card_declined", "tok_card_declined"
    status = "A"
    if behaviour in DECLINES:
        status = "D"
    elif behaviour in ("3ds", "3ds_fail"):
        status = "R"
    elif behaviour == "error" and word is None:
        status = "T"
    amount = amount_cents + (behaviour == "wrong_amount")
    plain = status == "A" and behaviour not in ("late", "timeout")
    return Authorizing(State(status, amount, currency, 0, 0, "", token).word, amount, plain)


def answer(word: str, payment_key: str, actions: str) -> Authorization:
    """What the gateway says about an authorisation, at once or asked again. `actions`: where 3-D Secure is done."""
    state = read(word)
    match state.status:
        case "A" | "C":
            return Authorized(reference_of(payment_key), state.amount_cents, state.currency)
        case "R":
            return RequiresAction(f"{actions}/{payment_key}", reference_of(payment_key))
        case "T":
            return ERROR
        case _:
            return Declined(failure_of(state), reference_of(payment_key))


def failure_of(state: State) -> str:
    """Why a payment brings no money."""
    if state.status == "V":
        return "voided"
    return "authentication_failed" if state.behaviour == "3ds_fail" else state.behaviour


@lru_cache(_MEMORY)
def complete(word: str | None) -> str | None:
    """The word after the customer went through 3-D Secure, or None when there was nothing to go through."""
    if word is None or word[0] != "R":
        return None
    state = read(word)
    return state._replace(status="D" if state.behaviour == "3ds_fail" else "A").word


@lru_cache(_MEMORY)
def capture(word: str | None, amount_cents: int, number: int = 0) -> tuple[str | None, Capture | None, bool]:
    """The word to write if any, the answer (None stands for Done), and whether something is to happen by itself later.

    `number`: how many idempotency keys this capture had before.
    """
    if word is None or word[0] == "T":
        return None, Refused("not_found"), False
    state = read(word)
    if state.status == "C":
        return None, None if state.captured_cents == amount_cents else Refused("already_captured"), False
    if state.status != "A":
        return None, Refused("voided" if state.status == "V" else "not_authorized"), False
    if not 0 <= amount_cents <= state.amount_cents:
        return None, Refused("amount"), False
    if state.behaviour == "capture_refused":
        return state._replace(status="V").word, Refused("authorization_expired"), False
    if state.behaviour == "capture_error" and number == 0:
        return (None, REPLAYED, False) if state.refunds else (state._replace(refunds="capture").word, ERROR, False)
    lost = TIMEOUT if state.behaviour == "capture_timeout" else None
    return state._replace(status="C", captured_cents=amount_cents).word, lost, state.behaviour in _SOON


@lru_cache(_MEMORY)
def void(word: str | None) -> tuple[str | None, Void | None]:
    """The word to write if any, and the answer; None stands for Done."""
    if word is None or word[0] == "T":
        return None, NotFound()
    state = read(word)
    if state.status == "C":
        return None, AlreadyCaptured(state.captured_cents)
    return (state._replace(status="V").word if state.status in "AR" else None), None


def found(word: str, payment_key: str, actions: str) -> Found:
    """A payment as look-ups and audits see it."""
    state = read(word)
    return Found(
        status=_STATUS[state.status],
        reference=reference_of(payment_key),
        amount_cents=state.amount_cents,
        currency=state.currency,
        captured_cents=state.captured_cents,
        refunded_cents=state.refunded_cents,
        failure_code=failure_of(state) if state.status in "DV" else None,
        next_action=f"{actions}/{payment_key}" if state.status == "R" else None,
    )
