"""Test cards of the simulated gateway: the number chooses what happens, the token says no more than that.

Numbers of the first two groups behave as Stripe's test cards of the same number do (docs.stripe.com/testing); the rest
are ours. All pass the Luhn check. Any other number that passes declines with `card_declined`.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from boxoffice.errors import Malformed
from boxoffice.gateway.base import Token
from boxoffice.telemetry.redaction import passes_luhn

__all__ = ["BEHAVIOURS", "CARDS", "DECLINES", "Card", "behaviour_of", "check_token", "tokenize"]


class Card(NamedTuple):
    """A number, the behaviour it stands for, and what that is."""

    number: str
    behaviour: str
    meaning: str


CARDS: Final = (
    Card("4242424242424242", "ok", "succeeds"),
    Card("4000000000000002", "card_declined", "declines, for no given reason"),
    Card("4000000000009995", "insufficient_funds", "declines"),
    Card("4000000000009987", "lost_card", "declines"),
    Card("4000000000009979", "stolen_card", "declines"),
    Card("4000000000000069", "expired_card", "declines"),
    Card("4000000000000127", "incorrect_cvc", "declines"),
    Card("4000000000000119", "processing_error", "declines"),
    Card("4000000000006975", "card_velocity_exceeded", "declines"),
    Card("4000000000003220", "3ds", "requires 3-D Secure, then succeeds"),
    Card("4000008400001629", "3ds_fail", "requires 3-D Secure, then declines with authentication_failed"),
    Card("4000000000007726", "refund_pending", "succeeds; a refund is pending first, and succeeds later"),
    Card("4000000000005126", "refund_fails_late", "succeeds; a refund succeeds at first, and fails later"),
    Card("4000000000000259", "disputed", "succeeds; the customer disputes it a moment later"),
    Card("4000000000010001", "late", "authorised at once, the answer comes after the cut-off"),
    Card("4000000000010019", "timeout", "authorised, the answer is lost; asked again it is told"),
    Card("4000000000010027", "error", "a server error that did nothing; asked again it succeeds"),
    Card("4000000000010035", "twice", "succeeds; every webhook is sent twice"),
    Card("4000000000010043", "reordered", "succeeds; the webhook of the authorisation comes last"),
    Card("4000000000010050", "wrong_amount", "authorises one cent too much"),
    Card("4000000000010068", "capture_refused", "authorises; the capture is refused for good and the money let go"),
    Card("4000000000010076", "capture_timeout", "authorises; captured, but the answer is lost; asked again it is told"),
    Card(
        "4000000000010084",
        "refund_error",
        "succeeds; the first refund meets a server error, which is repeated under its key; under another it succeeds",
    ),
    Card("4000000000010092", "refund_refused", "succeeds; every refund is refused for good"),
    Card(
        "4000000000010100",
        "refund_refused_once",
        "succeeds; the first attempt of a refund is refused, the next succeeds",
    ),
    Card("4000000000010118", "refund_pending_fails", "succeeds; a refund is pending first, and fails later"),
    Card(
        "4000000000010126", "dashboard_refund", "succeeds; half of it is refunded at the gateway itself a moment later"
    ),
    Card(
        "4000000000010134",
        "capture_error",
        "authorises; the capture meets a server error, which is repeated under its key; under another it succeeds",
    ),
)

DECLINES: Final = frozenset(card.behaviour for card in CARDS if card.meaning.startswith("declines"))
BEHAVIOURS: Final = frozenset(card.behaviour for card in CARDS)

_LAST4: Final = {card.behaviour: card.number[-4:] for card in CARDS}
_TOKEN: Final = re.compile(r"tok_([a-z0-9_]+?)(?:_([0-9]{4}))?")
_NUMBER: Final = re.compile(r"[0-9]{13,19}")


def _token(behaviour: str, last4: str) -> Token:
    return Token(f"tok_{behaviour}_{last4}", last4)


_TOKENS: Final = {card.number: _token(card.behaviour, card.number[-4:]) for card in CARDS}


def tokenize(card_number: str) -> Token:
    """The token for a card number.

    Raises `Malformed` unless it is 13 to 19 digits that pass the Luhn check.
    """
    if card_number in _TOKENS:
        return _TOKENS[card_number]
    if not _NUMBER.fullmatch(card_number) or not passes_luhn(card_number):
        raise Malformed("This is not a card number.", pointer="/payment/card_number", code="card_number")
    return _token("card_declined", card_number[-4:])


def check_token(token: str) -> Token:
    """The token with its last four digits, which may be left out: `tok_ok` is `tok_ok_4242`.

    Raises `Malformed` when no card behaves so.
    """
    match = _TOKEN.fullmatch(token)
    if match is None or match[1] not in BEHAVIOURS:
        raise Malformed("The gateway knows no such token.", pointer="/payment/token", code="token")
    return _token(match[1], match[2] or _LAST4[match[1]])


def behaviour_of(token: str) -> str | None:
    """What a token makes happen; None when it is no token of ours."""
    match = _TOKEN.fullmatch(token)
    return match[1] if match and match[1] in BEHAVIOURS else None
